//! The fops of the brick in memory.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{
    EntrylkCmd, EntrylkType, Flock, InodelkCmd, LkCmd, LockType, SeekWhat, Statfs, XattropFlags,
};
use rgfs_protocol::{Dict, Errno, Gfid, Iatt, Value};

use super::super::{keys, linkto};
use super::inside::{Lock, add_to_xattrs, iatt, path_of, set_attributes, set_xattrs, zero};
use super::{MemoryBrick, UNNAMED};
use crate::event::EventSource;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc, Translator};

#[async_trait]
impl Translator for MemoryBrick {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "testing/memory-brick"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &[]
    }

    fn events(&self) -> &EventSource {
        &self.events
    }

    fn abandon(&self, fd: &Fd) {
        self.state().open.retain(|(of, ..)| !std::ptr::eq(&raw const **of, fd));
    }

    async fn lookup(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        let mut state = self.enter(context, "LOOKUP", &loc.name).await?;
        let mut gfid = if loc.gfid().is_root() { Gfid::ROOT } else { self.find(&state, loc)? };
        if gfid == UNNAMED {
            let Some(Value::Gfuuid(given)) = xdata.get(keys::GFID_REQ) else {
                return Err(self.error(Errno::ENODATA, "lookup"));
            };
            gfid = *given;
            let mut object = state.objects.remove(&UNNAMED).unwrap();
            object.stat.gfid = gfid;
            state.objects.insert(gfid, object);
            state.objects.get_mut(&loc.parent_gfid()).unwrap().names.insert(loc.name.clone(), gfid);
        }
        if loc.parent.is_some() {
            state.seen.insert((loc.parent_gfid(), loc.name.clone()));
        }
        let object = &state.objects[&gfid];
        let postparent = state.objects.get(&loc.parent_gfid()).map(|parent| parent.stat).unwrap_or_default();
        Ok(LookupReply { stat: object.stat, postparent, xdata: self.answers(object, &xdata) })
    }

    async fn stat(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        let state = self.enter(context, "STAT", &loc.name).await?;
        let object = &state.objects[&self.find_inode(&state, loc)?];
        Ok(StatReply { stat: object.stat, xdata: self.answers(object, &xdata) })
    }

    async fn mknod(&self, c: &Context, loc: &Loc, mode: u32, _: u64, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        let mut state = self.enter(c, "MKNOD", &loc.name).await?;
        self.make(&mut state, c, loc, mode, &xdata)
    }

    async fn mkdir(&self, c: &Context, loc: &Loc, mode: u32, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        let mut state = self.enter(c, "MKDIR", &loc.name).await?;
        self.make(&mut state, c, loc, mode & 0o7777 | 0o040_000, &xdata)
    }

    async fn symlink(&self, c: &Context, loc: &Loc, target: Bytes, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        let mut state = self.enter(c, "SYMLINK", &loc.name).await?;
        let reply = self.make(&mut state, c, loc, 0o120_777, &xdata)?;
        state.objects.get_mut(&reply.stat.gfid).unwrap().data = target.to_vec();
        Ok(reply)
    }

    async fn create(
        &self,
        c: &Context,
        loc: &Loc,
        flags: i32,
        mode: u32,
        _: u32,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let mut state = self.enter(c, "CREATE", &loc.name).await?;
        let reply = match self.find(&state, loc) {
            Ok(gfid) if flags & libc::O_EXCL == 0 => {
                EntryReply { stat: state.objects[&gfid].stat, ..EntryReply::default() }
            }
            _ => self.make(&mut state, c, loc, mode & 0o7777 | 0o100_000, &xdata)?,
        };
        Self::note_open(&mut state, fd, reply.stat.gfid);
        Ok(reply)
    }

    async fn unlink(&self, c: &Context, loc: &Loc, _: u32, xdata: Dict) -> FopResult<RemoveReply> {
        let mut state = self.enter(c, "UNLINK", &loc.name).await?;
        let gfid = self.find(&state, loc)?;
        let object = &state.objects[&gfid];
        if object.stat.is_dir() {
            return Err(self.error(Errno::EISDIR, "unlink"));
        }
        let link = linkto::has_linkto_mode(&object.stat) && object.xattrs.contains_key(keys::LINKTO);
        if xdata.contains(keys::UNLINK_ONLY_LINKTO) && !link {
            return Err(self.error(Errno::EBUSY, "unlink"));
        }
        self.drop_name(&mut state, loc.parent_gfid(), &loc.name);
        Ok(RemoveReply::default())
    }

    async fn rmdir(&self, c: &Context, loc: &Loc, _: u32, _: Dict) -> FopResult<RemoveReply> {
        let mut state = self.enter(c, "RMDIR", &loc.name).await?;
        let gfid = self.find(&state, loc)?;
        if !state.objects[&gfid].names.is_empty() {
            return Err(self.error(Errno::ENOTEMPTY, "rmdir"));
        }
        self.drop_name(&mut state, loc.parent_gfid(), &loc.name);
        Ok(RemoveReply::default())
    }

    async fn rename(&self, c: &Context, old: &Loc, new: &Loc, _: Dict) -> FopResult<RenameReply> {
        let mut state = self.enter(c, "RENAME", &[&old.name[..], b" ", &new.name[..]].concat()).await?;
        let gfid = self.find(&state, old)?;
        match self.find(&state, new) {
            // Two names of one inode: rename(2) does nothing, and storage/posix unlinks the old one.
            Ok(there) if there == gfid => self.drop_name(&mut state, old.parent_gfid(), &old.name),
            found => {
                if let Ok(there) = found {
                    if !state.objects[&there].names.is_empty() {
                        return Err(self.error(Errno::ENOTEMPTY, "rename"));
                    }
                    self.drop_name(&mut state, new.parent_gfid(), &new.name);
                }
                if !state.objects.contains_key(&new.parent_gfid()) {
                    return Err(self.error(Errno::ESTALE, "rename"));
                }
                state.objects.get_mut(&old.parent_gfid()).unwrap().names.remove(&old.name);
                state.seen.remove(&(old.parent_gfid(), old.name.clone()));
                state.objects.get_mut(&new.parent_gfid()).unwrap().names.insert(new.name.clone(), gfid);
            }
        }
        Ok(RenameReply { stat: state.objects[&gfid].stat, ..RenameReply::default() })
    }

    async fn link(&self, c: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        let mut state = self.enter(c, "LINK", &new.name).await?;
        let gfid = self.find_inode(&state, old)?;
        if let Ok(there) = self.find(&state, new) {
            let seen = state.seen.contains(&(new.parent_gfid(), new.name.clone()));
            let stale = linkto::has_linkto_mode(&state.objects[&there].stat);
            if seen || !(xdata.contains(keys::FORCE_REPLACE) && stale) {
                return Err(self.error(Errno::EEXIST, "link"));
            }
            self.drop_name(&mut state, new.parent_gfid(), &new.name);
        }
        let object = state.objects.get_mut(&gfid).unwrap();
        object.stat.nlink += 1;
        let stat = object.stat;
        state.objects.get_mut(&new.parent_gfid()).unwrap().names.insert(new.name.clone(), gfid);
        Ok(EntryReply { stat, ..EntryReply::default() })
    }

    async fn open(&self, c: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, _: Dict) -> FopResult<Dict> {
        let mut state = self.enter(c, "OPEN", &loc.name).await?;
        let gfid = self.find_inode(&state, loc)?;
        if flags & libc::O_TRUNC != 0 {
            state.objects.get_mut(&gfid).unwrap().data.clear();
        }
        Self::note_open(&mut state, fd, gfid);
        Ok(Dict::NULL)
    }

    async fn readv(&self, c: &Context, fd: &Arc<Fd>, size: u32, at: u64, _: u32, _: Dict) -> FopResult<ReadReply> {
        let mut state = self.enter(c, "READ", b"").await?;
        let object = self.opened(&mut state, fd)?;
        let data = object.data.iter().skip(at as usize).take(size as usize).copied().collect::<Vec<u8>>();
        let mut reply = ReadReply { stat: object.stat, end_of_file: true, ..ReadReply::default() };
        reply.data.push(data.into());
        Ok(reply)
    }

    async fn writev(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        _: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        let what: &[u8] = if data.is_empty() { b"nothing" } else { b"" };
        let mut state = self.enter(c, "WRITE", what).await?;
        let object = self.opened(&mut state, fd)?;
        if xdata.contains(keys::PROTECT_WRITES) {
            object.xattrs.insert(keys::PROTECT_WRITES.into(), Bytes::new());
        }
        let bytes: Vec<u8> = data.iter().flatten().copied().collect();
        let offset = if fd.flags & libc::O_APPEND != 0 { object.data.len() } else { offset as usize };
        let reply = Self::change(object, |object| {
            object.data.resize(object.data.len().max(offset + bytes.len()), 0);
            object.data[offset..offset + bytes.len()].copy_from_slice(&bytes);
        });
        drop(state);
        self.happen("written");
        let post = self.opened(&mut self.state(), fd)?.stat;
        Ok(WriteReply { written: bytes.len(), pre: reply.pre, post, xdata: Dict::NULL })
    }

    async fn fstat(&self, c: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        let mut state = self.enter(c, "FSTAT", b"").await?;
        let object = self.opened(&mut state, fd)?;
        Ok(StatReply { stat: object.stat, xdata: self.answers(object, &xdata) })
    }

    async fn truncate(&self, c: &Context, loc: &Loc, offset: u64, _: Dict) -> FopResult<PrePostReply> {
        let mut state = self.enter(c, "TRUNCATE", b"").await?;
        let gfid = self.find_inode(&state, loc)?;
        let object = state.objects.get_mut(&gfid).unwrap();
        Ok(Self::change(object, |object| object.data.resize(offset as usize, 0)))
    }

    async fn ftruncate(&self, c: &Context, fd: &Arc<Fd>, offset: u64, _: Dict) -> FopResult<PrePostReply> {
        let mut state = self.enter(c, "FTRUNCATE", b"").await?;
        Ok(Self::change(self.opened(&mut state, fd)?, |object| object.data.resize(offset as usize, 0)))
    }

    async fn fallocate(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        _: bool,
        offset: u64,
        len: u64,
        _: Dict,
    ) -> FopResult<PrePostReply> {
        let mut state = self.enter(c, "FALLOCATE", b"").await?;
        let end = (offset + len) as usize;
        Ok(Self::change(self.opened(&mut state, fd)?, |object| object.data.resize(object.data.len().max(end), 0)))
    }

    async fn discard(&self, c: &Context, fd: &Arc<Fd>, offset: u64, len: u64, _: Dict) -> FopResult<PrePostReply> {
        let mut state = self.enter(c, "DISCARD", b"").await?;
        let range = offset as usize..(offset + len) as usize;
        Ok(Self::change(self.opened(&mut state, fd)?, |object| zero(object, range)))
    }

    async fn zerofill(&self, c: &Context, fd: &Arc<Fd>, offset: u64, len: u64, _: Dict) -> FopResult<PrePostReply> {
        let mut state = self.enter(c, "ZEROFILL", b"").await?;
        let range = offset as usize..(offset + len) as usize;
        Ok(Self::change(self.opened(&mut state, fd)?, |object| zero(object, range)))
    }

    async fn fsync(&self, c: &Context, fd: &Arc<Fd>, _: bool, _: Dict) -> FopResult<PrePostReply> {
        let mut state = self.enter(c, "FSYNC", b"").await?;
        Ok(Self::change(self.opened(&mut state, fd)?, |_| ()))
    }

    async fn flush(&self, c: &Context, fd: &Arc<Fd>, _: Dict) -> FopResult<Dict> {
        let mut state = self.enter(c, "FLUSH", b"").await?;
        self.opened(&mut state, fd)?;
        match state.locks_moved.contains(&fd.gfid()) {
            true => Err(self.error(Errno::EREMOTE, "flush")),
            false => Ok(Dict::NULL),
        }
    }

    async fn lk(&self, c: &Context, fd: &Arc<Fd>, _: LkCmd, flock: Flock, _: Dict) -> FopResult<LkReply> {
        let mut state = self.enter(c, "LK", b"").await?;
        self.opened(&mut state, fd)?;
        match state.locks_moved.contains(&fd.gfid()) {
            true => Err(self.error(Errno::EREMOTE, "lk")),
            false => Ok(LkReply { flock, xdata: Dict::NULL }),
        }
    }

    async fn access(&self, c: &Context, loc: &Loc, _: u32, _: Dict) -> FopResult<Dict> {
        let state = self.enter(c, "ACCESS", b"").await?;
        self.find_inode(&state, loc).map(|_| Dict::NULL)
    }

    async fn fgetxattr(&self, c: &Context, fd: &Arc<Fd>, name: Option<&str>, _: Dict) -> FopResult<XattrReply> {
        let mut state = self.enter(c, "FGETXATTR", name.unwrap_or("").as_bytes()).await?;
        let object = self.opened(&mut state, fd)?;
        let value = name.and_then(|name| Some((name.to_owned(), object.xattrs.get(name)?.clone())));
        let (name, value) = value.ok_or_else(|| self.error(Errno::ENODATA, "fgetxattr"))?;
        let mut dict = Dict::empty();
        dict.set(name.into_bytes(), Value::Ptr(value));
        Ok(XattrReply { dict, xdata: Dict::NULL })
    }

    async fn removexattr(&self, c: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        let mut state = self.enter(c, "REMOVEXATTR", name.as_bytes()).await?;
        let gfid = self.find_inode(&state, loc)?;
        let object = state.objects.get_mut(&gfid).unwrap();
        let removed = object.xattrs.remove(name);
        removed.map(|_| iatt(object, &xdata)).ok_or_else(|| self.error(Errno::ENODATA, "removexattr"))
    }

    async fn fsetxattr(&self, c: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        let mut state = self.enter(c, "FSETXATTR", b"").await?;
        let object = self.opened(&mut state, fd)?;
        set_xattrs(object, &dict, flags, &xdata).map_err(|errno| self.error(errno, "fsetxattr"))
    }

    async fn fremovexattr(&self, c: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        let mut state = self.enter(c, "FREMOVEXATTR", name.as_bytes()).await?;
        let object = self.opened(&mut state, fd)?;
        let removed = object.xattrs.remove(name);
        removed.map(|_| iatt(object, &xdata)).ok_or_else(|| self.error(Errno::ENODATA, "fremovexattr"))
    }

    async fn opendir(&self, c: &Context, loc: &Loc, _: &Arc<Fd>, _: Dict) -> FopResult<Dict> {
        let state = self.enter(c, "OPENDIR", &loc.name).await?;
        self.find_inode(&state, loc).map(|_| Dict::NULL)
    }

    async fn readdir(&self, c: &Context, fd: &Arc<Fd>, size: u32, at: u64, xdata: Dict) -> FopResult<ReaddirReply> {
        let state = self.enter(c, "READDIR", b"").await?;
        let plus = self.listing(&state, fd.gfid(), size, at, &xdata)?;
        let entries = plus.entries.into_iter().map(|entry| entry.entry).collect();
        Ok(ReaddirReply { entries, end: plus.end, xdata: plus.xdata })
    }

    async fn readdirp(&self, c: &Context, fd: &Arc<Fd>, size: u32, at: u64, xdata: Dict) -> FopResult<ReaddirpReply> {
        let state = self.enter(c, "READDIRP", b"").await?;
        self.listing(&state, fd.gfid(), size, at, &xdata)
    }

    async fn statfs(&self, c: &Context, _: &Loc, _: Dict) -> FopResult<StatfsReply> {
        let state = self.enter(c, "STATFS", b"").await?;
        let free = if state.full { 1 } else { 500 };
        let statfs = Statfs {
            bsize: 4096,
            frsize: 4096,
            blocks: 1000,
            bfree: free,
            bavail: free,
            files: 100,
            ffree: 50,
            favail: 50,
            ..Statfs::default()
        };
        Ok(StatfsReply { statfs, xdata: Dict::NULL })
    }

    async fn setxattr(&self, c: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        let mut state = self.enter(c, "SETXATTR", &loc.name).await?;
        let gfid = self.find_inode(&state, loc)?;
        if xdata.contains(keys::SYNC_XATTRS) {
            state.objects.get_mut(&gfid).unwrap().xattrs.retain(|name, _| !name.starts_with("user."));
        }
        let object = state.objects.get_mut(&gfid).unwrap();
        set_xattrs(object, &dict, flags, &xdata).map_err(|errno| self.error(errno, "setxattr"))
    }

    async fn getxattr(&self, c: &Context, loc: &Loc, name: Option<&str>, _: Dict) -> FopResult<XattrReply> {
        let state = self.enter(c, "GETXATTR", name.unwrap_or("").as_bytes()).await?;
        let gfid = self.find_inode(&state, loc)?;
        let mut dict = Dict::empty();
        if name == Some(keys::ANCESTRY_PATH) {
            let path = path_of(&state, gfid).ok_or_else(|| self.error(Errno::ENOENT, "getxattr"))?;
            let dict = dict.with(keys::ANCESTRY_PATH, Value::str(&path));
            return Ok(XattrReply { dict, xdata: Dict::NULL });
        }
        for (key, value) in &state.objects[&gfid].xattrs {
            if name.is_none_or(|name| name == key) {
                dict.set(key.clone().into_bytes(), Value::Ptr(value.clone()));
            }
        }
        match dict.is_empty() && name.is_some() {
            true => Err(self.error(Errno::ENODATA, "getxattr")),
            false => Ok(XattrReply { dict, xdata: Dict::NULL }),
        }
    }

    async fn xattrop(&self, c: &Context, loc: &Loc, _: XattropFlags, dict: Dict, xdata: Dict) -> FopResult<XattrReply> {
        let mut state = self.enter(c, "XATTROP", &loc.name).await?;
        let gfid = self.find_inode(&state, loc)?;
        let xdata = add_to_xattrs(state.objects.get_mut(&gfid).unwrap(), &dict, &xdata);
        Ok(XattrReply { dict: Dict::NULL, xdata })
    }

    async fn fxattrop(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        _: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let mut state = self.enter(c, "FXATTROP", b"").await?;
        let xdata = add_to_xattrs(self.opened(&mut state, fd)?, &dict, &xdata);
        Ok(XattrReply { dict: Dict::NULL, xdata })
    }

    async fn seek(&self, c: &Context, fd: &Arc<Fd>, offset: u64, what: SeekWhat, _: Dict) -> FopResult<SeekReply> {
        let mut state = self.enter(c, "SEEK", b"").await?;
        let size = self.opened(&mut state, fd)?.stat.size;
        match what {
            _ if offset >= size => Err(self.error(Errno::ENXIO, "seek")),
            SeekWhat::Data => Ok(SeekReply { offset, xdata: Dict::NULL }),
            SeekWhat::Hole => Ok(SeekReply { offset: size, xdata: Dict::NULL }),
        }
    }

    async fn rchecksum(&self, c: &Context, fd: &Arc<Fd>, _: u64, _: u32, _: Dict) -> FopResult<RchecksumReply> {
        let mut state = self.enter(c, "RCHECKSUM", b"").await?;
        self.opened(&mut state, fd).map(|_| RchecksumReply::default())
    }

    /// Answers for any file.
    async fn readlink(&self, c: &Context, loc: &Loc, _: u32, _: Dict) -> FopResult<ReadlinkReply> {
        let state = self.enter(c, "READLINK", b"").await?;
        self.find_inode(&state, loc).map(|_| ReadlinkReply::default())
    }

    async fn copy_file_range(
        &self,
        c: &Context,
        source: &Arc<Fd>,
        from: u64,
        destination: &Arc<Fd>,
        to: u64,
        len: u32,
        _: u32,
        _: Dict,
    ) -> FopResult<CopyFileRangeReply> {
        let mut state = self.enter(c, "COPY_FILE_RANGE", b"").await?;
        let object = self.opened(&mut state, source)?;
        let stat = object.stat;
        let bytes: Vec<u8> = object.data.iter().skip(from as usize).take(len as usize).copied().collect();
        let (to, end) = (to as usize, to as usize + bytes.len());
        let reply = Self::change(self.opened(&mut state, destination)?, |object| {
            object.data.resize(object.data.len().max(end), 0);
            object.data[to..end].copy_from_slice(&bytes);
        });
        let (copied, xdata) = (bytes.len(), Dict::NULL);
        Ok(CopyFileRangeReply { copied, source: stat, pre: reply.pre, post: reply.post, xdata })
    }

    async fn setattr(&self, c: &Context, loc: &Loc, stat: &Iatt, valid: u32, _: Dict) -> FopResult<PrePostReply> {
        let mut state = self.enter(c, "SETATTR", &loc.name).await?;
        let gfid = self.find_inode(&state, loc)?;
        Ok(set_attributes(state.objects.get_mut(&gfid).unwrap(), stat, valid))
    }

    async fn fsetattr(&self, c: &Context, fd: &Arc<Fd>, stat: &Iatt, valid: u32, _: Dict) -> FopResult<PrePostReply> {
        let mut state = self.enter(c, "FSETATTR", b"").await?;
        Ok(set_attributes(self.opened(&mut state, fd)?, stat, valid))
    }

    async fn inodelk(
        &self,
        c: &Context,
        domain: &str,
        loc: &Loc,
        _: InodelkCmd,
        flock: Flock,
        _: Dict,
    ) -> FopResult<Dict> {
        let fop = if flock.kind == LockType::Unlock { "INODEUNLK" } else { "INODELK" };
        let mut state = self.enter(c, fop, domain.as_bytes()).await?;
        assert!(loc.parent.is_none() && !loc.gfid().is_null(), "internal locks go by gfid");
        let owner = c.lock_owner.clone();
        if flock.kind != LockType::Unlock {
            self.find_inode(&state, loc)?;
        }
        match flock.kind {
            LockType::Unlock => self.unlock(&mut state, domain, loc.gfid(), None, &owner),
            kind => {
                let exclusive = kind == LockType::Write;
                let lock = Lock { domain: domain.into(), gfid: loc.gfid(), name: None, exclusive, owner };
                self.lock(&mut state, lock);
            }
        }
        Ok(Dict::NULL)
    }

    async fn entrylk(
        &self,
        c: &Context,
        domain: &str,
        loc: &Loc,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        _: Dict,
    ) -> FopResult<Dict> {
        let fop = if cmd == EntrylkCmd::Unlock { "ENTRYUNLK" } else { "ENTRYLK" };
        let mut state = self.enter(c, fop, name.unwrap_or_default()).await?;
        let owner = c.lock_owner.clone();
        if cmd == EntrylkCmd::Unlock {
            self.unlock(&mut state, domain, loc.gfid(), name, &owner);
        } else {
            let (name, exclusive) = (name.map(Bytes::copy_from_slice), kind == EntrylkType::Write);
            self.lock(&mut state, Lock { domain: domain.into(), gfid: loc.gfid(), name, exclusive, owner });
        }
        Ok(Dict::NULL)
    }
}
