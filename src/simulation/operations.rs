//! The fops of a brick: the rules of `protocol/server`, `features/locks`, `features/index`, `features/arbiter` and
//! `storage/posix` that clients rely on.

use bytes::Bytes;
use rgfs_protocol::open_flags::host;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, LkCmd, LockType, Statfs, XattropFlags};
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::brick::{ANONYMOUS, Brick, Caller, Done, Failure, Target};
use super::locks::{Granted, Lock, Scope, domain_of_range};
use super::storage::Change;
use crate::reply::*;

/// A name in a directory.
pub(super) type At<'a> = (Gfid, &'a Bytes);

/// What MKNOD, MKDIR, SYMLINK and CREATE make.
pub(super) struct New<'a> {
    pub(super) mode: u32,
    pub(super) rdev: u64,
    pub(super) target: Bytes,
    pub(super) xdata: &'a Dict,
    /// A known gfid gets a further name instead (MKNOD of heal and distribute).
    pub(super) links: bool,
}

fn text(dict: &Dict, key: &str) -> Option<String> {
    dict.bytes(key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn is_xattr(key: &str) -> bool {
    ["trusted.", "user.", "security.", "system."].iter().any(|space| key.starts_with(space))
}

fn key_text(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}

impl Brick {
    fn note_time(&mut self, caller: &Caller) {
        let now = rgfs_protocol::Time { sec: 1_000_000 + self.now.as_secs() as i64, nsec: self.now.subsec_nanos() };
        self.storage.now = if caller.time == rgfs_protocol::Time::default() { now } else { caller.time };
    }

    /// What `request` asks about an object, or a name, besides.
    fn answers(&self, gfid: Option<Gfid>, at: Option<At<'_>>, request: &Dict) -> Dict {
        if request.is_empty() {
            return Dict::NULL;
        }
        let mut reply = Dict::empty();
        let object = gfid.and_then(|gfid| self.storage.open(gfid));
        if let Some(object) = object
            && request.contains("list-xattr")
        {
            for (key, value) in &object.xattrs {
                reply.set(key.clone(), Value::Ptr(value.clone()));
            }
        }
        for (key, value) in request.iter() {
            let key = String::from_utf8_lossy(key);
            match &*key {
                "link-count" => {
                    reply = reply.with("link-count", Value::Int(i64::from(!self.index.pending.is_empty())));
                }
                "glusterfs.parent-entrylk" => {
                    let Some((parent, name)) = at else { continue };
                    let count = self.entrylks.count(parent, |_, lock| match &lock.scope {
                        Scope::Name(locked) => locked.as_ref().is_none_or(|locked| locked == name),
                        Scope::Range { .. } => false,
                    });
                    reply = reply.with("glusterfs.parent-entrylk", Value::Int(count));
                }
                "glusterfs.content" => {
                    let Some(object) = object.filter(|_| !self.arbiter) else { continue };
                    let fits = value.as_int().is_some_and(|most| object.data.len() as i64 <= most);
                    if object.stat.file_type() == FileType::Regular && fits && !object.data.is_empty() {
                        reply = reply.with("glusterfs.content", Value::Ptr(object.data.clone().into()));
                    }
                }
                "glusterfs.open-fd-count" => {
                    let count = gfid.map_or(0, |gfid| self.open_count(gfid));
                    reply = reply.with("glusterfs.open-fd-count", Value::Uint(count as u64));
                }
                "glusterfs.inodelk-dom-count" => {
                    let (Some(gfid), Some(wanted)) = (gfid, text(request, &key)) else { continue };
                    let count = self.inodelks.count(gfid, |domain, _| domain == wanted);
                    reply = reply.with("glusterfs.inodelk-count", Value::Int(count));
                }
                "glusterfs.inodelk-count" => {
                    let Some(gfid) = gfid else { continue };
                    let count = self.inodelks.count(gfid, |_, _| true);
                    reply = reply.with("glusterfs.inodelk-count", Value::Int(count));
                }
                "glusterfs.entrylk-count" => {
                    let Some(gfid) = gfid else { continue };
                    let count = self.entrylks.count(gfid, |_, _| true);
                    reply = reply.with("glusterfs.entrylk-count", Value::Int(count));
                }
                other => {
                    let (Some(gfid), Some(object)) = (gfid, object) else { continue };
                    if let Some(wanted) = other.strip_prefix("glusterfs.inodelk-dom-prefix:") {
                        let count = self.inodelks.count(gfid, |domain, _| domain == wanted);
                        reply.set(other.to_owned(), Value::Int(count));
                    } else if let Some(value) = object.xattrs.get(other) {
                        reply.set(other.to_owned(), Value::Ptr(value.clone()));
                    }
                }
            }
        }
        reply
    }

    fn failed(&self, errno: Errno, at: Option<At<'_>>, request: &Dict) -> Failure {
        Failure { errno, xdata: self.answers(None, at, request) }
    }

    pub(super) fn lookup(&mut self, gfid: Gfid, at: Option<At<'_>>, xdata: &Dict) -> Done<LookupReply> {
        let found = match at {
            Some((parent, name)) => self.storage.entry(parent, name),
            None => self.storage.get(gfid).map(|_| gfid).ok_or(match self.missing {
                // Which of the two it is depends on what the brick still remembers.
                Errno::ESTALE => Errno::ENOENT,
                _ => Errno::ESTALE,
            }),
        };
        let gfid = found.map_err(|errno| self.failed(errno, at, xdata))?;
        let postparent = at.map(|(parent, _)| self.storage.stat(parent)).unwrap_or_default();
        Ok(LookupReply { stat: self.storage.stat(gfid), postparent, xdata: self.answers(Some(gfid), at, xdata) })
    }

    pub(super) fn stat(&mut self, caller: &Caller, target: Target, xdata: &Dict) -> Done<StatReply> {
        let gfid = self.find(caller, target)?;
        Ok(StatReply { stat: self.storage.stat(gfid), xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(super) fn access(&mut self, caller: &Caller, gfid: Gfid, mask: u32) -> Done<Dict> {
        let stat = self.storage.stat(self.find(caller, Target::Inode(gfid))?);
        let shift = if caller.uid == stat.uid {
            6
        } else if caller.gid == stat.gid {
            3
        } else {
            0
        };
        match caller.uid == 0 || (stat.mode >> shift) & mask & 7 == mask & 7 {
            true => Ok(Dict::NULL),
            false => Err(Errno::EACCES.into()),
        }
    }

    pub(super) fn readlink(&mut self, caller: &Caller, gfid: Gfid, size: u32) -> Done<ReadlinkReply> {
        let gfid = self.find(caller, Target::Inode(gfid))?;
        let object = self.storage.open(gfid).ok_or(Errno::ESTALE)?;
        if object.stat.file_type() != FileType::Symlink {
            return Err(Errno::EINVAL.into());
        }
        let target = object.target.slice(..object.target.len().min(size as usize));
        Ok(ReadlinkReply { stat: object.stat, target, xdata: Dict::NULL })
    }

    /// MKNOD, MKDIR, SYMLINK, and the making half of CREATE.
    pub(super) fn make(&mut self, caller: &Caller, at: At<'_>, new: New<'_>) -> Done<EntryReply> {
        self.note_time(caller);
        let preparent = self.storage.stat(at.0);
        let gfid = match new.xdata.get("gfid-req") {
            Some(Value::Gfuuid(gfid)) if !gfid.is_null() => *gfid,
            Some(Value::Ptr(bytes)) if bytes.len() == 16 => Gfid(bytes[..].try_into().unwrap_or_default()),
            _ => return Err(Errno::EPERM.into()),
        };
        if self.storage.get(at.0).is_none() {
            return Err(self.missing.into());
        }
        if new.links && new.xdata.contains("glusterfs-internal-fop") && self.storage.get(gfid).is_some() {
            self.storage.link(gfid, at)?;
        } else {
            let object = self.storage.make(at, gfid, new.mode, (caller.uid, caller.gid))?;
            object.stat.rdev = new.rdev;
            object.stat.size = new.target.len() as u64;
            object.target = new.target;
            for (key, value) in new.xdata.iter() {
                let key = key_text(key);
                if let Some(value) = value.as_bytes().filter(|_| is_xattr(&key)) {
                    object.xattrs.insert(key, value);
                }
            }
        }
        let (stat, postparent) = (self.storage.stat(gfid), self.storage.stat(at.0));
        Ok(EntryReply { stat, preparent, postparent, xdata: self.answers(Some(gfid), None, new.xdata) })
    }

    /// CREATE; also the number of the opened file.
    pub(super) fn create(
        &mut self,
        caller: &Caller,
        at: At<'_>,
        flags: i32,
        mode: u32,
        xdata: &Dict,
    ) -> Done<(EntryReply, i64)> {
        let reply = match self.storage.entry(at.0, at.1) {
            Ok(_) if flags & host::O_EXCL != 0 => return Err(Errno::EEXIST.into()),
            Ok(gfid) => {
                self.note_time(caller);
                self.open(caller, gfid, flags, xdata)?;
                let parent = self.storage.stat(at.0);
                let stat = self.storage.stat(gfid);
                EntryReply { stat, preparent: parent, postparent: parent, xdata: Dict::NULL }
            }
            Err(_) => {
                let mode = mode & 0o7777 | 0o100_000;
                self.make(caller, at, New { mode, rdev: 0, target: Bytes::new(), xdata, links: false })?
            }
        };
        let number = self.open_file(caller.session, reply.stat.gfid, flags);
        Ok((reply, number))
    }

    /// The check and truncation of OPEN; the caller takes a number.
    pub(super) fn open(&mut self, caller: &Caller, gfid: Gfid, flags: i32, xdata: &Dict) -> Done<Dict> {
        self.note_time(caller);
        let gfid = self.find(caller, Target::Inode(gfid))?;
        if self.storage.stat(gfid).is_dir() && flags & host::O_DIRECTORY == 0 {
            return Err(Errno::EISDIR.into());
        }
        if flags & host::O_TRUNC != 0 && !self.arbiter {
            self.storage.change(gfid, Change::Size(0))?;
        }
        Ok(self.answers(Some(gfid), None, xdata))
    }

    pub(super) fn opendir(&mut self, caller: &Caller, gfid: Gfid) -> Done<(Dict, i64)> {
        let gfid = self.find(caller, Target::Inode(gfid))?;
        if !self.storage.stat(gfid).is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        Ok((Dict::NULL, self.open_file(caller.session, gfid, host::O_DIRECTORY)))
    }

    pub(super) fn remove(
        &mut self,
        caller: &Caller,
        at: At<'_>,
        directory: bool,
        xflags: u32,
        xdata: &Dict,
    ) -> Done<RemoveReply> {
        self.note_time(caller);
        let preparent = self.storage.stat(at.0);
        let gone = self.storage.entry(at.0, at.1).ok();
        if directory {
            self.storage.rmdir(at.0, at.1, xflags & 1 != 0)?;
        } else {
            self.storage.unlink(at.0, at.1)?;
        }
        let xdata = self.answers(gone, Some(at), xdata);
        self.sweep();
        Ok(RemoveReply { preparent, postparent: self.storage.stat(at.0), xdata })
    }

    pub(super) fn rename(&mut self, caller: &Caller, old: At<'_>, new: At<'_>, xdata: &Dict) -> Done<RenameReply> {
        self.note_time(caller);
        let (pre_old_parent, pre_new_parent) = (self.storage.stat(old.0), self.storage.stat(new.0));
        let gfid = self.storage.rename(old, new)?;
        self.sweep();
        Ok(RenameReply {
            stat: self.storage.stat(gfid),
            pre_old_parent,
            post_old_parent: self.storage.stat(old.0),
            pre_new_parent,
            post_new_parent: self.storage.stat(new.0),
            xdata: self.answers(Some(gfid), None, xdata),
        })
    }

    pub(super) fn link(&mut self, caller: &Caller, gfid: Gfid, at: At<'_>, xdata: &Dict) -> Done<EntryReply> {
        self.note_time(caller);
        let gfid = self.find(caller, Target::Inode(gfid))?;
        let preparent = self.storage.stat(at.0);
        self.storage.link(gfid, at)?;
        let (stat, postparent) = (self.storage.stat(gfid), self.storage.stat(at.0));
        Ok(EntryReply { stat, preparent, postparent, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(super) fn read(&mut self, caller: &Caller, target: Target, offset: u64, size: u32) -> Done<ReadReply> {
        if self.arbiter {
            return Err(Errno::ENOSYS.into());
        }
        let gfid = self.find(caller, target)?;
        let object = self.storage.open(gfid).ok_or(Errno::ESTALE)?;
        let start = object.data.len().min(offset as usize);
        let end = object.data.len().min(start + size as usize);
        let data = Bytes::copy_from_slice(&object.data[start..end]);
        let end_of_file = end == object.data.len();
        Ok(ReadReply { data: Payload::from_iter([data]), stat: object.stat, end_of_file, xdata: Dict::NULL })
    }

    pub(super) fn write(
        &mut self,
        caller: &Caller,
        target: Target,
        data: &[u8],
        offset: u64,
        flags: u32,
        xdata: &Dict,
    ) -> Done<WriteReply> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let mut reply = self.answers(Some(gfid), None, xdata);
        reply.remove("glusterfs.open-active-fd-count");
        let mut tell = |key: &'static str, value: u64| {
            if xdata.contains(key) {
                reply.set(key, Value::Uint(value));
            }
        };
        if self.arbiter {
            tell("glusterfs.write-is-append", 1);
            let stat = self.storage.stat(gfid);
            return Ok(WriteReply { written: data.len(), pre: stat, post: stat, xdata: reply });
        }
        let of_fd = match target {
            Target::File(_, number) => self.file(caller, number).map_or(0, |file| file.flags),
            Target::Inode(_) => 0,
        };
        // The anonymous fd takes the flags that come with the write.
        let flags = of_fd | flags as i32;
        let data = &data[..data.len().min(self.room)];
        let written = self.storage.write(gfid, data, offset, flags & host::O_APPEND != 0, flags & host::O_SYNC != 0)?;
        tell("glusterfs.write-is-append", u64::from(written.append));
        tell("glusterfs.open-active-fd-count", self.open_count(gfid) as u64);
        Ok(WriteReply { written: written.written, pre: written.pre, post: written.post, xdata: reply })
    }

    /// TRUNCATE, FTRUNCATE, FALLOCATE, DISCARD, ZEROFILL. An arbiter says yes and does nothing.
    pub(super) fn change(
        &mut self,
        caller: &Caller,
        target: Target,
        change: Change,
        xdata: &Dict,
    ) -> Done<PrePostReply> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let (pre, post) = match self.arbiter {
            true => (self.storage.stat(gfid), self.storage.stat(gfid)),
            false => self.storage.change(gfid, change)?,
        };
        Ok(PrePostReply { pre, post, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(super) fn fsync(&mut self, caller: &Caller, target: Target, xdata: &Dict) -> Done<PrePostReply> {
        let gfid = self.find(caller, target)?;
        self.storage.object_mut(gfid)?.durable = None;
        let stat = self.storage.stat(gfid);
        Ok(PrePostReply { pre: stat, post: stat, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(super) fn flush(&mut self, caller: &Caller, target: Target) -> Done<Dict> {
        let gfid = self.find(caller, target)?;
        let mut ready = Vec::new();
        self.posix_locks.flush(gfid, &caller.holder(), &mut ready);
        self.grant(ready);
        Ok(Dict::NULL)
    }

    pub(super) fn set_attributes(
        &mut self,
        caller: &Caller,
        target: Target,
        stat: &Iatt,
        valid: u32,
        xdata: &Dict,
    ) -> Done<PrePostReply> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let (pre, post) = self.storage.set_attributes(gfid, stat, valid)?;
        Ok(PrePostReply { pre, post, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(super) fn set_xattrs(&mut self, caller: &Caller, target: Target, dict: &Dict, flags: u32) -> Done<Dict> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let now = self.storage.now;
        let object = self.storage.object_mut(gfid)?;
        for (key, value) in dict.iter() {
            let key = key_text(key);
            match (flags, object.xattrs.contains_key(&key)) {
                (1, true) => return Err(Errno::EEXIST.into()),
                (2, false) => return Err(Errno::ENODATA.into()),
                _ => {}
            }
            object.xattrs.insert(key, value.as_bytes().ok_or(Errno::EINVAL)?);
        }
        object.stat.ctime = now;
        Ok(Dict::NULL)
    }

    pub(super) fn get_xattrs(&mut self, caller: &Caller, target: Target, name: Option<&str>) -> Done<XattrReply> {
        let gfid = self.find(caller, target)?;
        if let Some(range) = name.and_then(|name| name.strip_prefix("glusterfs.intrlk.tposix.kblocked.")) {
            let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or_default();
            let mut parts = range.split([',', '-']).skip(1);
            let (start, len) = (number(parts.next()), number(parts.next()));
            self.posix_locks.interrupt(gfid, &caller.holder(), start, len);
            return Ok(XattrReply::default());
        }
        let object = self.storage.open(gfid).ok_or(Errno::ESTALE)?;
        let mut dict = Dict::empty();
        for (key, value) in object.xattrs.iter().filter(|(key, _)| name.is_none_or(|name| name == *key)) {
            dict.set(key.clone(), Value::Ptr(value.clone()));
        }
        if name == Some("glusterfs.xattrop_index_count") {
            dict.set("glusterfs.xattrop_index_count", Value::Uint(self.index.pending.len() as u64));
        }
        if name == Some("trusted.glusterfs.pathinfo") {
            let text = format!("<POSIX(/brick{0}):host{0}:/brick{0}/{gfid}>", self.index_number);
            dict.set("trusted.glusterfs.pathinfo", Value::str(&text));
        }
        match name.is_some() && dict.is_empty() {
            true => Err(Errno::ENODATA.into()),
            false => Ok(XattrReply { dict, xdata: Dict::NULL }),
        }
    }

    /// REMOVEXATTR; with an empty name all keys of `xdata` that are there (`posix_removexattr`, bulk).
    pub(super) fn remove_xattr(&mut self, caller: &Caller, target: Target, name: &str, xdata: &Dict) -> Done<Dict> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let now = self.storage.now;
        let object = self.storage.object_mut(gfid)?;
        object.stat.ctime = now;
        if name.is_empty() {
            for (key, _) in xdata.iter() {
                object.xattrs.remove(&key_text(key));
            }
        } else {
            object.xattrs.remove(name).ok_or(Errno::ENODATA)?;
        }
        Ok(Dict::NULL)
    }

    pub(super) fn xattrop(
        &mut self,
        caller: &Caller,
        target: Target,
        flags: XattropFlags,
        dict: &Dict,
        xdata: &Dict,
    ) -> Done<XattrReply> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        if self.thin {
            self.check_witness(gfid, dict)?;
        }
        self.index.before(gfid, flags, dict, xdata);
        let object = self.storage.object_mut(gfid)?;
        let mut outcome = Dict::empty();
        for (key, value) in dict.iter() {
            let asked = value.as_bytes().ok_or(Errno::EINVAL)?;
            let stored = object.xattrs.get(&key_text(key)).cloned();
            let old = stored.clone().unwrap_or_default();
            let new = match flags {
                XattropFlags::AddArray => add::<4>(&old, &asked, |a, b| {
                    i32::from_be_bytes(a).wrapping_add(i32::from_be_bytes(b)).to_be_bytes()
                }),
                XattropFlags::AddArray64 => add::<8>(&old, &asked, |a, b| {
                    i64::from_be_bytes(a).wrapping_add(i64::from_be_bytes(b)).to_be_bytes()
                }),
                XattropFlags::GetAndSet => asked.clone(),
                _ => return Err(Errno::EOPNOTSUPP.into()),
            };
            let unchanged = flags != XattropFlags::GetAndSet && asked.iter().all(|byte| *byte == 0);
            if !unchanged {
                object.xattrs.insert(key_text(key), new.clone());
            }
            let told = if flags == XattropFlags::GetAndSet { old } else { new };
            outcome.set(key.clone(), Value::Ptr(told));
        }
        self.index.after(gfid, flags, &outcome, xdata);
        Ok(XattrReply { dict: outcome, xdata: self.answers(Some(gfid), None, xdata) })
    }

    /// A thin arbiter never says of two copies that they are bad (`thin-arbiter.c:ta_verify_on_disk_source`).
    fn check_witness(&self, gfid: Gfid, asked: &Dict) -> Done<()> {
        let object = self.storage.open(gfid).ok_or(Errno::ESTALE)?;
        let is_bad = |bytes: &Bytes| bytes.iter().any(|byte| *byte != 0);
        let bad = asked.iter().filter(|(key, value)| {
            let stored = object.xattrs.get(&key_text(key));
            stored.is_some_and(is_bad) || value.as_bytes().is_some_and(|bytes| is_bad(&bytes))
        });
        if bad.count() > 1 { Err(Errno::EINVAL.into()) } else { Ok(()) }
    }

    pub(super) fn readdirp(
        &mut self,
        caller: &Caller,
        target: Target,
        size: u32,
        offset: u64,
        xdata: &Dict,
    ) -> Done<ReaddirpReply> {
        let gfid = self.find(caller, target)?;
        let (page, end) = self.storage.list(gfid, size, offset)?;
        let entries = page.into_iter().map(|(entry, gfid)| EntryPlus {
            entry,
            stat: self.storage.stat(gfid),
            xdata: self.answers(Some(gfid), None, xdata),
            inode: None,
        });
        Ok(ReaddirpReply { entries: entries.collect(), end, next: None, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(super) fn statfs(&mut self) -> Done<StatfsReply> {
        let free = 500 - self.index_number as u64;
        let statfs = Statfs {
            bsize: 4096,
            frsize: 4096,
            blocks: 1000,
            bfree: free,
            bavail: free,
            files: 100,
            ffree: 50,
            favail: 50,
            namemax: 255,
            ..Statfs::default()
        };
        Ok(StatfsReply { statfs, xdata: Dict::NULL })
    }

    pub(super) fn seek(&mut self, caller: &Caller, target: Target, offset: u64, data: bool) -> Done<SeekReply> {
        if self.arbiter {
            return Err(Errno::ENOSYS.into());
        }
        let size = self.storage.stat(self.find(caller, target)?).size;
        if offset >= size {
            return Err(Errno::ENXIO.into());
        }
        Ok(SeekReply { offset: if data { offset } else { size }, xdata: Dict::NULL })
    }

    /// Sums that are equal where the data is; both sides of a comparison are simulated bricks.
    pub(super) fn checksum(&mut self, caller: &Caller, target: Target, offset: u64, len: u32) -> Done<RchecksumReply> {
        let data: Vec<u8> = self.read(caller, target, offset, len)?.data.iter().flatten().copied().collect();
        let sum =
            |seed: u64| data.iter().fold(seed, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        let strong: Vec<u8> = (1..5).flat_map(|seed| sum(seed * 0x9e37_79b9).to_be_bytes()).collect();
        let xdata = Dict::empty().with("fips-mode-rchecksum", Value::Int(1));
        let zeros = !data.is_empty() && data.iter().all(|byte| *byte == 0);
        let xdata = if zeros { xdata.with("buf-has-zeroes", Value::Int(1)) } else { xdata };
        Ok(RchecksumReply { weak: sum(1) as u32, strong: strong.into(), xdata })
    }

    /// The object of an unlock: a lock keeps its inode known, even when the last name is gone.
    fn locked(&self, caller: &Caller, target: Target) -> Gfid {
        match target {
            Target::Inode(gfid) => gfid,
            Target::File(gfid, number) => self.file(caller, number).map_or(gfid, |file| file.gfid),
        }
    }

    pub(super) fn inodelk(
        &mut self,
        caller: &Caller,
        (target, domain): (Target, &str),
        cmd: InodelkCmd,
        flock: &Flock,
        granted: Granted,
    ) {
        let domain = domain_of_range(domain, flock);
        let scope = Scope::range(flock);
        if flock.kind == LockType::Unlock {
            let (gfid, mut ready) = (self.locked(caller, target), Vec::new());
            granted(self.inodelks.unlock((gfid, &domain), &caller.holder(), &scope, &mut ready));
            return self.grant(ready);
        }
        let gfid = match self.find(caller, target) {
            Ok(gfid) => gfid,
            Err(failure) => return granted(Err(failure.errno)),
        };
        let lock = Lock { holder: caller.holder(), scope, exclusive: flock.kind == LockType::Write };
        let wait = cmd == InodelkCmd::SetLkW;
        self.inodelks.lock((gfid, &domain), lock, wait, self.now, granted, &mut self.contentions);
    }

    pub(super) fn entrylk(
        &mut self,
        caller: &Caller,
        (target, domain): (Target, &str),
        name: Option<Bytes>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        granted: Granted,
    ) {
        let scope = Scope::Name(name);
        if cmd == EntrylkCmd::Unlock {
            let (gfid, mut ready) = (self.locked(caller, target), Vec::new());
            granted(self.entrylks.unlock((gfid, domain), &caller.holder(), &scope, &mut ready));
            return self.grant(ready);
        }
        let gfid = match self.find(caller, target) {
            Ok(gfid) => gfid,
            Err(failure) => return granted(Err(failure.errno)),
        };
        let lock = Lock { holder: caller.holder(), scope, exclusive: kind == EntrylkType::Write };
        // Nobody is told of waiters for names: clients do nothing about it.
        self.entrylks.lock((gfid, domain), lock, cmd == EntrylkCmd::Lock, self.now, granted, &mut Vec::new());
    }

    /// LK, apart from GETLK.
    pub(super) fn lk(&mut self, caller: &Caller, target: Target, cmd: LkCmd, flock: &Flock, granted: Granted) {
        let gfid = match self.find(caller, target) {
            Ok(gfid) => gfid,
            Err(failure) => return granted(Err(failure.errno)),
        };
        let number = match target {
            Target::File(_, number) => number,
            Target::Inode(_) => ANONYMOUS,
        };
        let mut ready = Vec::new();
        self.posix_locks.set(gfid, caller.holder(), flock, number, cmd == LkCmd::SetLkW, granted, &mut ready);
        self.grant(ready);
    }

    pub(super) fn test_lock(&mut self, caller: &Caller, target: Target, flock: &Flock) -> Done<LkReply> {
        let gfid = self.find(caller, target)?;
        Ok(LkReply { flock: self.posix_locks.test(gfid, caller.holder(), flock), xdata: Dict::NULL })
    }
}

/// Element-wise sum of big-endian numbers of `N` bytes; missing ones count as 0.
fn add<const N: usize>(old: &[u8], asked: &[u8], sum: impl Fn([u8; N], [u8; N]) -> [u8; N]) -> Bytes {
    let number = |bytes: &[u8], at: usize| {
        let mut number = [0; N];
        let found = bytes.get(at..).unwrap_or_default();
        let len = found.len().min(N);
        number[..len].copy_from_slice(&found[..len]);
        number
    };
    let starts = (0..old.len().max(asked.len())).step_by(N);
    starts.flat_map(|at| sum(number(old, at), number(asked, at))).collect()
}
