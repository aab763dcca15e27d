//! A volume in memory for tests: a small POSIX-like leaf that logs what it is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{Dirent, Flock, LkCmd, LockOwner, LockType, SeekWhat, Statfs, set_attr};
use rgfs_protocol::{Dict, Errno, Gfid, Iatt, Time, Value};
use smallvec::smallvec;
use tokio::sync::oneshot;

use crate::event::EventSource;
use crate::reply::*;
use crate::{Context, Fd, FopError, FopResult, Loc, Translator};

#[derive(Clone, Debug, Default)]
struct Object {
    stat: Iatt,
    children: BTreeMap<Bytes, Gfid>,
    data: Vec<u8>,
    target: Bytes,
    xattrs: BTreeMap<String, Bytes>,
}

struct Held {
    gfid: Gfid,
    owner: LockOwner,
    pid: i32,
    flock: Flock,
    /// Set while the lock waits.
    waiter: Option<oneshot::Sender<FopResult<LkReply>>>,
}

#[derive(Default)]
struct State {
    objects: HashMap<Gfid, Object>,
    locks: Vec<Held>,
    seconds: i64,
    calls: Vec<&'static str>,
    failures: Vec<(&'static str, Errno)>,
}

/// The volume.
pub struct MemoryVolume {
    name: Arc<str>,
    events: EventSource,
    state: Mutex<State>,
    /// Entries per READDIRP answer.
    pub page: usize,
}

impl MemoryVolume {
    /// An empty volume.
    pub fn new() -> Arc<Self> {
        let mut state = State { seconds: 1000, ..State::default() };
        state.make(Gfid::ROOT, 0o040_755, &Context::internal());
        Arc::new(MemoryVolume {
            name: "memory".into(),
            events: EventSource::default(),
            state: Mutex::new(state),
            page: 7,
        })
    }

    /// What was asked since the last call of this.
    pub fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lock().calls)
    }

    /// The next fop of that name fails.
    pub fn fail(&self, fop: &'static str, errno: Errno) {
        self.lock().failures.push((fop, errno));
    }

    /// Locks that are held, and that wait.
    pub fn locks(&self) -> (usize, usize) {
        let state = self.lock();
        let waiting = state.locks.iter().filter(|held| held.waiter.is_some()).count();
        (state.locks.len() - waiting, waiting)
    }

    /// Changes an object behind the file system's back, as another client would.
    pub fn meddle(&self, gfid: Gfid, change: impl FnOnce(&mut Iatt, &mut Vec<u8>)) {
        let mut state = self.lock();
        let now = state.now();
        let object = state.objects.get_mut(&gfid).unwrap();
        change(&mut object.stat, &mut object.data);
        object.stat.size = object.data.len() as u64;
        object.stat.ctime = now;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn begin(&self, fop: &'static str) -> FopResult<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.calls.push(fop);
        if let Some(at) = state.failures.iter().position(|(name, _)| *name == fop) {
            let (_, errno) = state.failures.remove(at);
            return Err(self.error(errno));
        }
        Ok(state)
    }

    fn error(&self, errno: Errno) -> FopError {
        FopError::new(errno, &self.name, "memory")
    }

    fn object<'a>(&self, state: &'a mut State, gfid: Gfid) -> FopResult<&'a mut Object> {
        state.objects.get_mut(&gfid).ok_or_else(|| self.error(Errno::ENOENT))
    }

    /// An object that still has a name.
    fn living<'a>(&self, state: &'a mut State, gfid: Gfid) -> FopResult<&'a mut Object> {
        let object = self.object(state, gfid)?;
        if object.stat.nlink == 0 { Err(self.error(Errno::ENOENT)) } else { Ok(object) }
    }

    /// The content of a directory changed.
    fn touch(&self, state: &mut State, gfid: Gfid) -> FopResult<Iatt> {
        let now = state.now();
        let stat = &mut self.object(state, gfid)?.stat;
        (stat.mtime, stat.ctime) = (now, now);
        Ok(*stat)
    }

    fn named(&self, state: &mut State, loc: &Loc) -> FopResult<Gfid> {
        let parent = state.objects.get(&loc.parent_gfid()).ok_or_else(|| self.error(Errno::ESTALE))?;
        parent.children.get(&loc.name).copied().ok_or_else(|| self.error(Errno::ENOENT))
    }

    fn insert(&self, context: &Context, loc: &Loc, mode: u32, xdata: &Dict) -> FopResult<(Gfid, EntryReply)> {
        let mut state = self.lock();
        let gfid = match xdata.get("gfid-req") {
            Some(Value::Gfuuid(gfid)) if !gfid.is_null() => *gfid,
            _ => return Err(self.error(Errno::EINVAL)),
        };
        if self.named(&mut state, loc).is_ok() {
            return Err(self.error(Errno::EEXIST));
        }
        self.object(&mut state, loc.parent_gfid())?.children.insert(loc.name.clone(), gfid);
        state.make(gfid, mode, context);
        let postparent = self.touch(&mut state, loc.parent_gfid())?;
        Ok((gfid, EntryReply { stat: state.objects[&gfid].stat, postparent, ..EntryReply::default() }))
    }

    fn change(&self, fop: &'static str, gfid: Gfid, edit: impl FnOnce(&mut Object, Time)) -> FopResult<PrePostReply> {
        let mut state = self.begin(fop)?;
        let now = state.now();
        let by_name = matches!(fop, "truncate" | "setattr" | "setxattr");
        let object = if by_name { self.living(&mut state, gfid)? } else { self.object(&mut state, gfid)? };
        let pre = object.stat;
        edit(object, now);
        object.stat.size = object.data.len() as u64;
        object.stat.ctime = now;
        Ok(PrePostReply { pre, post: object.stat, ..PrePostReply::default() })
    }

    fn apply(&self, fop: &'static str, gfid: Gfid, wanted: &Iatt, valid: u32) -> FopResult<PrePostReply> {
        self.change(fop, gfid, |object, _| {
            if valid & set_attr::MODE != 0 {
                object.stat.mode = object.stat.mode & libc::S_IFMT | wanted.mode & 0o7777;
            }
            if valid & set_attr::UID != 0 {
                object.stat.uid = wanted.uid;
            }
            if valid & set_attr::MTIME != 0 {
                object.stat.mtime = wanted.mtime;
            }
        })
    }

    fn drop_name(&self, fop: &'static str, loc: &Loc, is_dir: bool) -> FopResult<RemoveReply> {
        let mut state = self.begin(fop)?;
        let gfid = self.named(&mut state, loc)?;
        let object = self.object(&mut state, gfid)?;
        if object.stat.is_dir() != is_dir {
            return Err(self.error(if is_dir { Errno::ENOTDIR } else { Errno::EISDIR }));
        }
        if !object.children.is_empty() {
            return Err(self.error(Errno::ENOTEMPTY));
        }
        object.stat.nlink -= 1;
        if is_dir {
            state.objects.remove(&gfid);
        }
        self.object(&mut state, loc.parent_gfid())?.children.remove(&loc.name);
        let postparent = self.touch(&mut state, loc.parent_gfid())?;
        Ok(RemoveReply { postparent, ..RemoveReply::default() })
    }
}

impl State {
    fn now(&mut self) -> Time {
        self.seconds += 1;
        Time { sec: self.seconds, nsec: 0 }
    }

    fn make(&mut self, gfid: Gfid, mode: u32, context: &Context) {
        let now = self.now();
        let stat = Iatt {
            gfid,
            flags: Iatt::FLAGS_BRICK,
            ino: gfid.ino(),
            mode,
            nlink: 1,
            uid: context.uid,
            gid: context.gid,
            atime: now,
            mtime: now,
            ctime: now,
            ..Iatt::default()
        };
        self.objects.insert(gfid, Object { stat, ..Object::default() });
    }

    fn conflict(&self, gfid: Gfid, owner: &LockOwner, flock: &Flock) -> Option<&Held> {
        let end = |flock: &Flock| if flock.len == 0 { u64::MAX } else { flock.start + flock.len - 1 };
        self.locks.iter().find(|held| {
            held.waiter.is_none()
                && held.gfid == gfid
                && held.owner != *owner
                && (held.flock.kind == LockType::Write || flock.kind == LockType::Write)
                && held.flock.start <= end(flock)
                && flock.start <= end(&held.flock)
        })
    }

    /// Grants waiting locks that nothing is in the way of any more.
    fn grant(&mut self) -> Vec<(oneshot::Sender<FopResult<LkReply>>, Flock)> {
        let mut granted = Vec::new();
        for at in 0..self.locks.len() {
            let held = &self.locks[at];
            if held.waiter.is_some() && self.conflict(held.gfid, &held.owner, &held.flock).is_none() {
                let flock = held.flock.clone();
                granted.extend(self.locks[at].waiter.take().map(|waiter| (waiter, flock)));
            }
        }
        granted
    }
}

#[async_trait]
impl Translator for MemoryVolume {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "testing/memory"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &[]
    }

    fn events(&self) -> &EventSource {
        &self.events
    }

    async fn lookup(&self, _: &Context, loc: &Loc, _: Dict) -> FopResult<LookupReply> {
        let mut state = self.begin("lookup")?;
        let gfid = if loc.parent.is_some() { self.named(&mut state, loc)? } else { loc.gfid() };
        let stat = self.living(&mut state, gfid)?.stat;
        let postparent = state.objects.get(&loc.parent_gfid()).map(|parent| parent.stat).unwrap_or_default();
        Ok(LookupReply { stat, postparent, ..LookupReply::default() })
    }

    async fn stat(&self, _: &Context, loc: &Loc, _: Dict) -> FopResult<StatReply> {
        let mut state = self.begin("stat")?;
        Ok(StatReply { stat: self.living(&mut state, loc.gfid())?.stat, ..StatReply::default() })
    }

    async fn fstat(&self, _: &Context, fd: &Arc<Fd>, _: Dict) -> FopResult<StatReply> {
        let mut state = self.begin("fstat")?;
        Ok(StatReply { stat: self.object(&mut state, fd.gfid())?.stat, ..StatReply::default() })
    }

    async fn truncate(&self, _: &Context, loc: &Loc, size: u64, _: Dict) -> FopResult<PrePostReply> {
        self.change("truncate", loc.gfid(), |object, now| {
            object.data.resize(size as usize, 0);
            object.stat.mtime = now;
        })
    }

    async fn ftruncate(&self, _: &Context, fd: &Arc<Fd>, size: u64, _: Dict) -> FopResult<PrePostReply> {
        self.change("ftruncate", fd.gfid(), |object, now| {
            object.data.resize(size as usize, 0);
            object.stat.mtime = now;
        })
    }

    async fn readlink(&self, _: &Context, loc: &Loc, _: u32, _: Dict) -> FopResult<ReadlinkReply> {
        let mut state = self.begin("readlink")?;
        let target = self.living(&mut state, loc.gfid())?.target.clone();
        Ok(ReadlinkReply { target, ..ReadlinkReply::default() })
    }

    async fn mknod(
        &self,
        context: &Context,
        loc: &Loc,
        mode: u32,
        rdev: u64,
        _: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        drop(self.begin("mknod")?);
        let (gfid, mut reply) = self.insert(context, loc, mode, &xdata)?;
        reply.stat.rdev = (rdev >> 8) << 32 | rdev & 0xff;
        self.object(&mut self.lock(), gfid)?.stat.rdev = reply.stat.rdev;
        Ok(reply)
    }

    async fn mkdir(&self, context: &Context, loc: &Loc, mode: u32, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        drop(self.begin("mkdir")?);
        Ok(self.insert(context, loc, 0o040_000 | mode & 0o7777, &xdata)?.1)
    }

    async fn unlink(&self, _: &Context, loc: &Loc, _: u32, _: Dict) -> FopResult<RemoveReply> {
        self.drop_name("unlink", loc, false)
    }

    async fn rmdir(&self, _: &Context, loc: &Loc, _: u32, _: Dict) -> FopResult<RemoveReply> {
        self.drop_name("rmdir", loc, true)
    }

    async fn symlink(&self, context: &Context, loc: &Loc, target: Bytes, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        drop(self.begin("symlink")?);
        let (gfid, reply) = self.insert(context, loc, 0o120_777, &xdata)?;
        self.object(&mut self.lock(), gfid)?.target = target;
        Ok(reply)
    }

    async fn rename(&self, _: &Context, old: &Loc, new: &Loc, _: Dict) -> FopResult<RenameReply> {
        let mut state = self.begin("rename")?;
        let gfid = self.named(&mut state, old)?;
        self.object(&mut state, old.parent_gfid())?.children.remove(&old.name);
        let replaced = self.object(&mut state, new.parent_gfid())?.children.insert(new.name.clone(), gfid);
        if let Some(replaced) = replaced {
            self.object(&mut state, replaced)?.stat.nlink -= 1;
        }
        let post_old_parent = self.touch(&mut state, old.parent_gfid())?;
        let post_new_parent = self.touch(&mut state, new.parent_gfid())?;
        Ok(RenameReply { stat: state.objects[&gfid].stat, post_old_parent, post_new_parent, ..RenameReply::default() })
    }

    async fn link(&self, _: &Context, old: &Loc, new: &Loc, _: Dict) -> FopResult<EntryReply> {
        let mut state = self.begin("link")?;
        if self.named(&mut state, new).is_ok() {
            return Err(self.error(Errno::EEXIST));
        }
        let gfid = old.gfid();
        self.object(&mut state, gfid)?.stat.nlink += 1;
        self.object(&mut state, new.parent_gfid())?.children.insert(new.name.clone(), gfid);
        Ok(EntryReply { stat: state.objects[&gfid].stat, ..EntryReply::default() })
    }

    async fn create(
        &self,
        context: &Context,
        loc: &Loc,
        flags: i32,
        mode: u32,
        _: u32,
        _: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let found = {
            let mut state = self.begin("create")?;
            let found = self.named(&mut state, loc).ok();
            found.map(|gfid| state.objects[&gfid].stat)
        };
        match found {
            Some(_) if flags & libc::O_EXCL != 0 => Err(self.error(Errno::EEXIST)),
            Some(stat) => Ok(EntryReply { stat, ..EntryReply::default() }),
            None => Ok(self.insert(context, loc, 0o100_000 | mode & 0o7777, &xdata)?.1),
        }
    }

    async fn open(&self, _: &Context, loc: &Loc, flags: i32, _: &Arc<Fd>, _: Dict) -> FopResult<Dict> {
        let mut state = self.begin("open")?;
        let object = self.living(&mut state, loc.gfid())?;
        if flags & libc::O_TRUNC != 0 {
            object.data.clear();
            object.stat.size = 0;
        }
        Ok(Dict::NULL)
    }

    async fn readv(&self, _: &Context, fd: &Arc<Fd>, size: u32, offset: u64, _: u32, _: Dict) -> FopResult<ReadReply> {
        let mut state = self.begin("readv")?;
        let object = self.object(&mut state, fd.gfid())?;
        let start = (offset as usize).min(object.data.len());
        let end = (start + size as usize).min(object.data.len());
        let data = Bytes::copy_from_slice(&object.data[start..end]);
        Ok(ReadReply { data: smallvec![data], stat: object.stat, ..ReadReply::default() })
    }

    async fn writev(
        &self,
        _: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        _: u32,
        _: Dict,
    ) -> FopResult<WriteReply> {
        let data = data.concat();
        let reply = self.change("writev", fd.gfid(), |object, now| {
            let (start, end) = (offset as usize, offset as usize + data.len());
            object.data.resize(object.data.len().max(end), 0);
            object.data[start..end].copy_from_slice(&data);
            object.stat.mtime = now;
        })?;
        Ok(WriteReply { written: data.len(), pre: reply.pre, post: reply.post, xdata: Dict::NULL })
    }

    async fn flush(&self, context: &Context, fd: &Arc<Fd>, _: Dict) -> FopResult<Dict> {
        let granted = {
            let mut state = self.begin("flush")?;
            state.locks.retain(|held| held.gfid != fd.gfid() || held.owner != context.lock_owner);
            state.grant()
        };
        for (waiter, flock) in granted {
            let _ = waiter.send(Ok(LkReply { flock, xdata: Dict::NULL }));
        }
        Ok(Dict::NULL)
    }

    async fn fsync(&self, _: &Context, fd: &Arc<Fd>, _: bool, _: Dict) -> FopResult<PrePostReply> {
        let mut state = self.begin("fsync")?;
        let stat = self.object(&mut state, fd.gfid())?.stat;
        Ok(PrePostReply { pre: stat, post: stat, xdata: Dict::NULL })
    }

    async fn opendir(&self, _: &Context, loc: &Loc, _: &Arc<Fd>, _: Dict) -> FopResult<Dict> {
        let mut state = self.begin("opendir")?;
        self.living(&mut state, loc.gfid()).map(|_| Dict::NULL)
    }

    async fn fsyncdir(&self, _: &Context, _: &Arc<Fd>, _: bool, _: Dict) -> FopResult<Dict> {
        self.begin("fsyncdir").map(|_| Dict::NULL)
    }

    async fn readdirp(&self, _: &Context, fd: &Arc<Fd>, _: u32, offset: u64, _: Dict) -> FopResult<ReaddirpReply> {
        let mut state = self.begin("readdirp")?;
        let object = self.object(&mut state, fd.gfid())?;
        let mut names: Vec<(Bytes, Option<Gfid>)> = vec![(".".into(), None), ("..".into(), None)];
        names.extend(object.children.iter().map(|(name, gfid)| (name.clone(), Some(*gfid))));
        let total = names.len() as u64;
        let plus = |(at, (name, gfid)): (usize, (Bytes, Option<Gfid>))| {
            let mut stat = gfid.map(|gfid| state.objects[&gfid].stat).unwrap_or_default();
            if name.starts_with(b"bare") {
                stat = Iatt::default();
            }
            // Cookies say nothing of positions.
            let entry = Dirent { ino: stat.ino.max(77), offset: (at as u64 + 1) * 1000, kind: 4, name };
            EntryPlus { entry, stat, xdata: Dict::NULL, inode: None }
        };
        let start = offset / 1000;
        let entries: Vec<EntryPlus> =
            names.into_iter().enumerate().skip(start as usize).take(self.page).map(plus).collect();
        let end = start + entries.len() as u64 >= total;
        Ok(ReaddirpReply { entries, end, ..ReaddirpReply::default() })
    }

    async fn statfs(&self, _: &Context, _: &Loc, _: Dict) -> FopResult<StatfsReply> {
        drop(self.begin("statfs")?);
        Ok(StatfsReply {
            statfs: Statfs { bsize: 4096, frsize: 4096, blocks: 9, ..Statfs::default() },
            xdata: Dict::NULL,
        })
    }

    async fn access(&self, _: &Context, loc: &Loc, _: u32, _: Dict) -> FopResult<Dict> {
        let mut state = self.begin("access")?;
        self.living(&mut state, loc.gfid()).map(|_| Dict::NULL)
    }

    async fn setxattr(&self, _: &Context, loc: &Loc, dict: Dict, _: u32, _: Dict) -> FopResult<Dict> {
        self.change("setxattr", loc.gfid(), |object, _| {
            for (name, value) in dict.iter() {
                let name = String::from_utf8(name.to_vec()).unwrap();
                object.xattrs.insert(name, value.as_bytes().unwrap());
            }
        })?;
        Ok(Dict::NULL)
    }

    async fn getxattr(&self, _: &Context, loc: &Loc, name: Option<&str>, _: Dict) -> FopResult<XattrReply> {
        let mut state = self.begin("getxattr")?;
        let mut dict = Dict::empty();
        for (key, value) in &self.living(&mut state, loc.gfid())?.xattrs {
            if name.is_none_or(|name| name == key) {
                dict.set(key.clone(), Value::Ptr(value.clone()));
            }
        }
        if dict.is_empty() { Err(self.error(Errno::ENODATA)) } else { Ok(XattrReply { dict, xdata: Dict::NULL }) }
    }

    async fn removexattr(&self, _: &Context, loc: &Loc, name: &str, _: Dict) -> FopResult<Dict> {
        let mut state = self.begin("removexattr")?;
        let removed = self.living(&mut state, loc.gfid())?.xattrs.remove(name);
        removed.map(|_| Dict::NULL).ok_or_else(|| self.error(Errno::ENODATA))
    }

    async fn fgetxattr(&self, context: &Context, fd: &Arc<Fd>, name: Option<&str>, _: Dict) -> FopResult<XattrReply> {
        let cancelled: Vec<Held> = {
            let mut state = self.begin("fgetxattr")?;
            let wanted = name.unwrap_or_default();
            let is_meant = |held: &Held| {
                held.waiter.is_some()
                    && held.gfid == fd.gfid()
                    && held.pid == context.pid
                    && super::locks::cancel_name(&held.flock) == wanted
            };
            let (cancelled, kept) = std::mem::take(&mut state.locks).into_iter().partition(is_meant);
            state.locks = kept;
            cancelled
        };
        let count = cancelled.len();
        for waiter in cancelled.into_iter().filter_map(|held| held.waiter) {
            let _ = waiter.send(Err(self.error(Errno::EINTR)));
        }
        let mut dict = Dict::empty();
        let report = format!("posix blocked locks={count} granted locks=0");
        dict.set(name.unwrap_or_default().to_owned(), Value::str(&report));
        Ok(XattrReply { dict, xdata: Dict::NULL })
    }

    async fn lk(&self, context: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, _: Dict) -> FopResult<LkReply> {
        let (gfid, owner, pid) = (fd.gfid(), context.lock_owner.clone(), context.pid);
        let answer = |flock: Flock| Ok(LkReply { flock, xdata: Dict::NULL });
        let (granted, receiver) = {
            let mut state = self.begin("lk")?;
            if flock.kind == LockType::Unlock {
                state.locks.retain(|held| held.gfid != gfid || held.owner != owner || held.waiter.is_some());
                (state.grant(), None)
            } else {
                let conflict = state.conflict(gfid, &owner, &flock).map(|held| held.flock.clone());
                let mut held = Held { gfid, owner, pid, flock: flock.clone(), waiter: None };
                match (cmd, conflict) {
                    (LkCmd::GetLk, Some(holder)) => return answer(holder),
                    (LkCmd::GetLk, None) => return answer(Flock { kind: LockType::Unlock, ..flock }),
                    (LkCmd::SetLkW, Some(_)) => {
                        let (sender, receiver) = oneshot::channel();
                        held.waiter = Some(sender);
                        state.locks.push(held);
                        (Vec::new(), Some(receiver))
                    }
                    (_, Some(_)) => return Err(self.error(Errno::EAGAIN)),
                    (_, None) => {
                        state.locks.push(held);
                        (Vec::new(), None)
                    }
                }
            }
        };
        for (waiter, flock) in granted {
            let _ = waiter.send(answer(flock));
        }
        match receiver {
            Some(receiver) => receiver.await.unwrap(),
            None => answer(flock),
        }
    }

    async fn setattr(&self, _: &Context, loc: &Loc, wanted: &Iatt, valid: u32, _: Dict) -> FopResult<PrePostReply> {
        self.apply("setattr", loc.gfid(), wanted, valid)
    }

    async fn fsetattr(&self, _: &Context, fd: &Arc<Fd>, wanted: &Iatt, valid: u32, _: Dict) -> FopResult<PrePostReply> {
        self.apply("fsetattr", fd.gfid(), wanted, valid)
    }

    async fn fallocate(
        &self,
        _: &Context,
        fd: &Arc<Fd>,
        keep_size: bool,
        offset: u64,
        len: u64,
        _: Dict,
    ) -> FopResult<PrePostReply> {
        self.change("fallocate", fd.gfid(), |object, _| {
            let end = if keep_size { 0 } else { (offset + len) as usize };
            object.data.resize(object.data.len().max(end), 0);
        })
    }

    async fn discard(&self, _: &Context, fd: &Arc<Fd>, offset: u64, len: u64, _: Dict) -> FopResult<PrePostReply> {
        self.change("discard", fd.gfid(), |object, _| {
            let end = ((offset + len) as usize).min(object.data.len());
            object.data[offset as usize..end].fill(0);
        })
    }

    async fn zerofill(&self, _: &Context, fd: &Arc<Fd>, offset: u64, len: u64, _: Dict) -> FopResult<PrePostReply> {
        self.change("zerofill", fd.gfid(), |object, _| {
            let end = (offset + len) as usize;
            object.data.resize(object.data.len().max(end), 0);
            object.data[offset as usize..end].fill(0);
        })
    }

    async fn seek(&self, _: &Context, fd: &Arc<Fd>, offset: u64, what: SeekWhat, _: Dict) -> FopResult<SeekReply> {
        let mut state = self.begin("seek")?;
        let size = self.object(&mut state, fd.gfid())?.stat.size;
        if offset >= size {
            return Err(self.error(Errno::ENXIO));
        }
        Ok(SeekReply { offset: if what == SeekWhat::Data { offset } else { size }, xdata: Dict::NULL })
    }
}
