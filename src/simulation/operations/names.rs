//! Fops on names: they make, find, move, remove and list them.

use bytes::Bytes;
use rgfs_protocol::open_flags::host;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::super::brick::{Brick, Caller, Done, Failure, Target};
use super::{At, has_linkto_mode, is_xattr, key_text};
use crate::reply::*;

/// What MKNOD, MKDIR, SYMLINK and CREATE make.
pub(in super::super) struct New<'a> {
    pub(in super::super) mode: u32,
    pub(in super::super) rdev: u64,
    pub(in super::super) target: Bytes,
    pub(in super::super) xdata: &'a Dict,
    /// A known gfid gets a further name instead (MKNOD of heal and distribute).
    pub(in super::super) links: bool,
}

impl Brick {
    pub(in super::super) fn lookup(&mut self, gfid: Gfid, at: Option<At<'_>>, xdata: &Dict) -> Done<LookupReply> {
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

    /// MKNOD, MKDIR, SYMLINK, and the making half of CREATE.
    pub(in super::super) fn make(&mut self, caller: &Caller, at: At<'_>, new: New<'_>) -> Done<EntryReply> {
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
        self.replace_linkto(at, new.xdata)?;
        let checked = new.xdata.bytes("glusterfs.preop.parent.key").map(|key| key_text(&key));
        if let Some(key) = &checked
            && self.storage.entry(at.0, at.1).is_err()
        {
            self.check_parent(at.0, key, new.xdata)?;
        }
        if FileType::from_mode(new.mode) == FileType::Directory && self.storage.get(gfid).is_some() {
            self.shared_gfids += 1;
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
                // A text is stored with the NUL that it came with.
                let value = match value {
                    Value::Str(text) => Some(text.clone()),
                    other => other.as_bytes(),
                };
                if let Some(value) = value.filter(|_| is_xattr(&key) && checked.as_ref() != Some(&key)) {
                    object.xattrs.insert(key, value);
                }
            }
        }
        let (stat, postparent) = (self.storage.stat(gfid), self.storage.stat(at.0));
        Ok(EntryReply { stat, preparent, postparent, xdata: self.answers(Some(gfid), None, new.xdata) })
    }

    /// With `force-replace` a linkto makes room for what is to get its name (`posix_unlink_stale_linkto`).
    fn replace_linkto(&mut self, at: At<'_>, xdata: &Dict) -> Done<()> {
        let there = self.storage.entry(at.0, at.1).ok().filter(|_| xdata.contains("force-replace"));
        if there.is_some_and(|there| has_linkto_mode(&self.storage.stat(there))) {
            self.storage.unlink(at.0, at.1)?;
            self.sweep();
        }
        Ok(())
    }

    /// A new name is refused when its maker has old news of an xattr of the parent.
    fn check_parent(&self, parent: Gfid, key: &str, xdata: &Dict) -> Done<()> {
        let found = self.storage.get(parent).and_then(|parent| parent.xattrs.get(key).cloned());
        if found == xdata.bytes(key) {
            return Ok(());
        }
        Err(Failure { errno: Errno::EIO, xdata: Dict::empty().with("glusterfs.preop.check.failed", Value::Int(1)) })
    }

    /// CREATE; also the number of the opened file.
    pub(in super::super) fn create(
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

    pub(in super::super) fn remove(
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
        if let Some(gone) = gone.filter(|_| !directory) {
            let is_linkto = self.storage.open(gone).is_some_and(|object| {
                has_linkto_mode(&object.stat) && object.xattrs.contains_key("trusted.glusterfs.dht.linkto")
            });
            let kept = xdata.contains("unlink-only-if-dht-linkto-file") && !is_linkto
                || xdata.contains("dont-unlink-for-open-fd") && self.open_count(gone) > 0;
            if kept {
                return Err(Errno::EBUSY.into());
            }
        }
        if directory {
            self.storage.rmdir(at.0, at.1, xflags & 1 != 0)?;
        } else {
            self.storage.unlink(at.0, at.1)?;
        }
        let xdata = self.answers(gone, Some(at), xdata);
        self.sweep();
        Ok(RemoveReply { preparent, postparent: self.storage.stat(at.0), xdata })
    }

    pub(in super::super) fn rename(
        &mut self,
        caller: &Caller,
        old: At<'_>,
        new: At<'_>,
        xdata: &Dict,
    ) -> Done<RenameReply> {
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

    pub(in super::super) fn link(&mut self, caller: &Caller, gfid: Gfid, at: At<'_>, xdata: &Dict) -> Done<EntryReply> {
        self.note_time(caller);
        let gfid = self.find(caller, Target::Inode(gfid))?;
        let preparent = self.storage.stat(at.0);
        self.replace_linkto(at, xdata)?;
        self.storage.link(gfid, at)?;
        let (stat, postparent) = (self.storage.stat(gfid), self.storage.stat(at.0));
        Ok(EntryReply { stat, preparent, postparent, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(in super::super) fn readdirp(
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
}
