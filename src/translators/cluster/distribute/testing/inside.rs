//! What the brick in memory keeps, and its rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::poll_fn;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use rgfs_protocol::types::{Dirent, LockOwner, set_attr};
use rgfs_protocol::{Dict, Errno, Gfid, Iatt, Value};

use super::super::{keys, linkto};
use super::MemoryBrick;
use crate::reply::{EntryPlus, EntryReply, PrePostReply, ReaddirpReply};
use crate::{Context, Fd, FopError, FopResult, Loc};

#[derive(Clone, Default)]
pub(super) struct Object {
    pub(super) stat: Iatt,
    pub(super) xattrs: BTreeMap<String, Bytes>,
    pub(super) names: BTreeMap<Bytes, Gfid>,
    pub(super) data: Vec<u8>,
    /// Tells it from an earlier one with that gfid; 0 until somebody opens it.
    pub(super) instance: usize,
}

#[derive(Debug, PartialEq)]
pub(super) struct Lock {
    pub(super) domain: String,
    pub(super) gfid: Gfid,
    pub(super) name: Option<Bytes>,
    pub(super) exclusive: bool,
    pub(super) owner: LockOwner,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) objects: HashMap<Gfid, Object>,
    pub(super) locks: Vec<Lock>,
    pub(super) trace: Vec<String>,
    pub(super) clock: i64,
    pub(super) full: bool,
    pub(super) down: bool,
    pub(super) refused: Option<&'static str>,
    /// What fix-layout writes before it gives its lock of a directory back.
    pub(super) to_be_written: Option<(Gfid, Bytes)>,
    /// Inodes and instances by their fds: an unlinked one lives on as long as it is open.
    pub(super) open: Vec<(Arc<Fd>, Gfid, usize)>,
    /// Unlinked, but open.
    pub(super) orphans: HashMap<(Gfid, usize), Object>,
    /// Names that were looked up: LINK refuses those at once (`server-resolve.c:resolve_entry_simple`).
    pub(super) seen: HashSet<(Gfid, Bytes)>,
    /// Inodes whose posix locks went to another brick.
    pub(super) locks_moved: Vec<Gfid>,
}

impl MemoryBrick {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn error(&self, errno: Errno, step: &'static str) -> FopError {
        FopError::new(errno, &self.name, step)
    }

    pub(super) fn new_stat(&self, gfid: Gfid, mode: u32, uid: u32, gid: u32) -> Iatt {
        let nlink = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        Iatt { gfid, flags: Iatt::FLAGS_BRICK, ino: gfid.ino(), nlink, mode, uid, gid, ..Iatt::default() }
    }

    /// Notes a call and counts its round. Calls made together are on the wire together.
    pub(super) async fn enter(
        &self,
        context: &Context,
        fop: &'static str,
        what: &[u8],
    ) -> FopResult<MutexGuard<'_, State>> {
        let depth = context.rounds.sent();
        on_the_wire().await;
        context.rounds.answered(depth);
        self.happen(fop);
        let mut state = self.state();
        let call = format!("{fop} {}", String::from_utf8_lossy(what));
        state.trace.push(call.trim_end().to_owned());
        if state.down {
            return Err(self.error(Errno::ENOTCONN, fop));
        }
        if state.refused == Some(fop) {
            return Err(self.error(Errno::EIO, fop));
        }
        state.clock += 1;
        Ok(state)
    }

    /// What a test has planned for this moment.
    pub(super) fn happen(&self, moment: &str) {
        let planned = self.before.lock().unwrap().take_if(|(of, _)| *of == moment);
        if let Some((_, happening)) = planned {
            happening();
        }
    }

    pub(super) fn find(&self, state: &State, loc: &Loc) -> FopResult<Gfid> {
        let gfid = match &loc.parent {
            None => Some(loc.gfid()),
            Some(_) => match state.objects.get(&loc.parent_gfid()) {
                None => return Err(self.error(Errno::ESTALE, "find the parent")),
                Some(parent) => parent.names.get(&loc.name).copied(),
            },
        };
        gfid.filter(|gfid| state.objects.contains_key(gfid)).ok_or_else(|| self.error(Errno::ENOENT, "find"))
    }

    /// By gfid when it is known, as the brick's resolver does for all but lookups and entry fops.
    pub(super) fn find_inode(&self, state: &State, loc: &Loc) -> FopResult<Gfid> {
        if loc.gfid().is_null() {
            return self.find(state, loc);
        }
        Some(loc.gfid())
            .filter(|gfid| state.objects.contains_key(gfid))
            .ok_or_else(|| self.error(Errno::ESTALE, "find"))
    }

    /// An fd that is open stays what it is, as with `protocol/client`.
    pub(super) fn note_open(state: &mut State, fd: &Arc<Fd>, gfid: Gfid) {
        if state.open.iter().any(|(of, inode, _)| Arc::ptr_eq(of, fd) && *inode == gfid) {
            return;
        }
        let next = state.open.len() + 1;
        let object = state.objects.get_mut(&gfid).unwrap();
        if object.instance == 0 {
            object.instance = next;
        }
        let instance = object.instance;
        state.open.push((fd.clone(), gfid, instance));
    }

    /// What an fd leads to. One that was not opened here goes by its gfid, as the anonymous fd of `protocol/client` does.
    pub(super) fn opened<'a>(&self, state: &'a mut State, fd: &Arc<Fd>) -> FopResult<&'a mut Object> {
        let gfid = fd.gfid();
        let open = state.open.iter().find(|(of, inode, _)| Arc::ptr_eq(of, fd) && *inode == gfid);
        let object = match open.map(|(_, _, instance)| *instance) {
            None => state.objects.get_mut(&gfid),
            Some(instance) => match state.objects.get_mut(&gfid).filter(|object| object.instance == instance) {
                None => state.orphans.get_mut(&(gfid, instance)),
                object => object,
            },
        };
        object.ok_or_else(|| self.error(Errno::ESTALE, "find the file"))
    }

    pub(super) fn change<T>(state: &mut Object, change: impl FnOnce(&mut Object) -> T) -> PrePostReply {
        let pre = state.stat;
        change(state);
        state.stat.size = state.data.len() as u64;
        PrePostReply { pre, post: state.stat, xdata: Dict::NULL }
    }

    /// Data of the file at a path.
    pub(crate) fn data(&self, path: &str) -> Vec<u8> {
        let state = self.state();
        state.objects[&resolve(&state, path).unwrap()].data.clone()
    }

    /// Writes the data of a file behind everybody's back.
    pub(crate) fn put_data(&self, path: &str, data: &[u8]) {
        let mut state = self.state();
        let gfid = resolve(&state, path).unwrap();
        let object = state.objects.get_mut(&gfid).unwrap();
        (object.data, object.stat.size) = (data.to_vec(), data.len() as u64);
    }

    /// Rebalance gives up, and somebody removes the linkto that it leaves at the destination.
    pub(crate) fn give_up_move(&self, to: &MemoryBrick, path: &str) {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut here = self.state();
        let gfid = resolve(&here, path).unwrap();
        let object = here.objects.get_mut(&gfid).unwrap();
        object.xattrs.remove(keys::LINKTO);
        object.stat.mode &= !0o3000;
        let mut there = to.state();
        let parent = resolve(&there, parent).unwrap();
        to.drop_name(&mut there, parent, &Bytes::copy_from_slice(name.as_bytes()));
    }

    /// Rebalance, steps 2 and 3: a linkto at the destination (it may be there), as large as the file; marks on the file.
    pub(crate) fn begin_move(&self, to: &MemoryBrick, path: &str) {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut here = self.state();
        let gfid = resolve(&here, path).unwrap();
        let size = here.objects[&gfid].data.len();
        {
            let mut there = to.state();
            let stat = to.new_stat(gfid, linkto::LINKTO_MODE, 0, 0);
            let object = there.objects.entry(gfid).or_insert_with(|| Object { stat, ..Object::default() });
            object.data.resize(size, 0);
            object.stat.size = size as u64;
            object.xattrs.insert(keys::LINKTO.into(), Bytes::from(format!("{}\0", self.name)));
            let parent = resolve(&there, parent).unwrap();
            there.objects.get_mut(&parent).unwrap().names.insert(Bytes::copy_from_slice(name.as_bytes()), gfid);
        }
        let object = here.objects.get_mut(&gfid).unwrap();
        object.xattrs.insert(keys::LINKTO.into(), Bytes::from(format!("{}\0", to.name)));
        object.stat.mode |= 0o3000;
    }

    /// Step 4: copies the data, but what clients wrote at the destination stays.
    pub(crate) fn copy_to(&self, to: &MemoryBrick, path: &str) {
        let here = self.state();
        let gfid = resolve(&here, path).unwrap();
        let data = here.objects[&gfid].data.clone();
        to.state().objects.get_mut(&gfid).unwrap().data = data;
    }

    /// Steps 6 and 7: the destination gets the attributes, the file becomes a linkto.
    pub(crate) fn flip(&self, to: &MemoryBrick, path: &str) {
        let mut here = self.state();
        let gfid = resolve(&here, path).unwrap();
        let object = here.objects.get_mut(&gfid).unwrap();
        let mut there = to.state();
        let moved = there.objects.get_mut(&gfid).unwrap();
        moved.stat = Iatt { mode: object.stat.mode & !0o3000, size: moved.data.len() as u64, ..object.stat };
        for (name, value) in &object.xattrs {
            if name != keys::LINKTO {
                moved.xattrs.insert(name.clone(), value.clone());
            }
        }
        object.stat.mode = linkto::LINKTO_MODE;
    }

    /// Step 8: what is left goes.
    pub(crate) fn finish_move(&self, to: &MemoryBrick, path: &str) {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut here = self.state();
        let gfid = resolve(&here, path).unwrap();
        let object = here.objects.get_mut(&gfid).unwrap();
        object.data.clear();
        object.stat.size = 0;
        let parent = resolve(&here, parent).unwrap();
        self.drop_name(&mut here, parent, &Bytes::copy_from_slice(name.as_bytes()));
        here.locks_moved.push(gfid);
        let mut there = to.state();
        there.objects.get_mut(&gfid).unwrap().xattrs.remove(keys::LINKTO);
    }

    pub(super) fn answers(&self, object: &Object, request: &Dict) -> Dict {
        let mut reply = Dict::empty();
        for (key, _) in request.iter() {
            let key = std::str::from_utf8(key).unwrap();
            if let Some(value) = object.xattrs.get(key) {
                reply.set(key.to_owned().into_bytes(), Value::Ptr(value.clone()));
            }
        }
        if request.contains(keys::OPEN_FD_COUNT) {
            reply = reply.with(keys::OPEN_FD_COUNT, Value::Uint(0));
        }
        reply
    }

    pub(super) fn make(
        &self,
        state: &mut State,
        context: &Context,
        loc: &Loc,
        mode: u32,
        xdata: &Dict,
    ) -> FopResult<EntryReply> {
        let parent_gfid = loc.parent_gfid();
        let Some(parent) = state.objects.get(&parent_gfid) else { return Err(self.error(Errno::ENOENT, "parent")) };
        let before = parent.stat;
        if let Some(there) = parent.names.get(&loc.name).copied() {
            let stat = state.objects[&there].stat;
            if !(xdata.contains(keys::FORCE_REPLACE) && linkto::has_linkto_mode(&stat)) {
                return Err(self.error(Errno::EEXIST, "make"));
            }
            self.drop_name(state, parent_gfid, &loc.name);
        }
        if let Some(key) = xdata.bytes(keys::PREOP_PARENT) {
            let key = std::str::from_utf8(&key).unwrap();
            if state.objects[&parent_gfid].xattrs.get(key).cloned() != xdata.bytes(key) {
                return Err(self.error(Errno::EIO, "check the parent's layout"));
            }
        }
        let gfid = match xdata.get(keys::GFID_REQ) {
            Some(Value::Gfuuid(gfid)) => *gfid,
            _ => return Err(self.error(Errno::EPERM, "make without gfid-req")),
        };
        let internal = xdata.contains(keys::INTERNAL_FOP);
        match state.objects.get_mut(&gfid) {
            Some(there) if internal && !there.stat.is_dir() => there.stat.nlink += 1,
            Some(_) => return Err(self.error(Errno::EEXIST, "gfid exists")),
            None => {
                const IGNORED: [&str; 5] = [
                    keys::GFID_REQ,
                    keys::INTERNAL_FOP,
                    keys::PREOP_PARENT,
                    keys::FORCE_REPLACE,
                    keys::INTERNAL_CONTEXT,
                ];
                let mut object =
                    Object { stat: self.new_stat(gfid, mode, context.uid, context.gid), ..Object::default() };
                let checked = xdata.contains(keys::PREOP_PARENT);
                for (key, value) in xdata.iter() {
                    let key = String::from_utf8(key.to_vec()).unwrap();
                    if IGNORED.contains(&key.as_str()) || (checked && key == keys::LAYOUT) {
                        continue;
                    }
                    // A string is stored as it came, with its NUL.
                    let stored = match value {
                        Value::Str(bytes) | Value::Ptr(bytes) => bytes.clone(),
                        other => Bytes::from(format!("{other:?}")),
                    };
                    object.xattrs.insert(key, stored);
                }
                state.objects.insert(gfid, object);
            }
        }
        let clock = state.clock;
        let parent = state.objects.get_mut(&parent_gfid).unwrap();
        parent.names.insert(loc.name.clone(), gfid);
        parent.stat.mtime.sec = clock;
        let postparent = parent.stat;
        Ok(EntryReply { stat: state.objects[&gfid].stat, preparent: before, postparent, xdata: Dict::NULL })
    }

    pub(super) fn drop_name(&self, state: &mut State, parent: Gfid, name: &Bytes) {
        let Some(gfid) = state.objects.get_mut(&parent).and_then(|parent| parent.names.remove(name)) else { return };
        state.seen.remove(&(parent, name.clone()));
        if let Some(object) = state.objects.get_mut(&gfid) {
            object.stat.nlink -= 1;
            if (object.stat.nlink == 0 || object.stat.is_dir())
                && let Some(object) = state.objects.remove(&gfid)
                && object.instance != 0
            {
                state.orphans.insert((gfid, object.instance), object);
            }
        }
    }

    pub(super) fn listing(
        &self,
        state: &State,
        gfid: Gfid,
        size: u32,
        offset: u64,
        xdata: &Dict,
    ) -> FopResult<ReaddirpReply> {
        let Some(directory) = state.objects.get(&gfid) else { return Err(self.error(Errno::ENOENT, "readdir")) };
        let dots = [(Bytes::from_static(b"."), gfid), (Bytes::from_static(b".."), gfid)];
        let all: Vec<(Bytes, Gfid)> =
            dots.into_iter().chain(directory.names.iter().map(|(name, gfid)| (name.clone(), *gfid))).collect();
        // Cookies like those of ext4: the last one is the largest off_t.
        let cookie = |at: usize| if at + 1 == all.len() { i64::MAX as u64 } else { (at as u64 + 1) << 32 };
        let room = (size / 256).max(1) as usize;
        let first = (0..all.len()).position(|at| offset == 0 || cookie(at) > offset | 7);
        let first = first.map_or(all.len(), |at| if offset == 0 { 0 } else { at });
        let entries = (first..all.len()).take(room).map(|at| {
            let (name, gfid) = &all[at];
            let object = &state.objects[gfid];
            let entry =
                Dirent { ino: 7, offset: cookie(at), kind: object.stat.file_type().to_dirent(), name: name.clone() };
            EntryPlus { entry, stat: object.stat, xdata: self.answers(object, xdata), inode: None }
        });
        let entries: Vec<EntryPlus> = entries.collect();
        Ok(ReaddirpReply { end: first + entries.len() >= all.len(), entries, ..ReaddirpReply::default() })
    }

    pub(super) fn lock(&self, state: &mut State, lock: Lock) {
        if let Some((gfid, layout)) = state.to_be_written.take_if(|(gfid, _)| *gfid == lock.gfid) {
            state.objects.get_mut(&gfid).unwrap().xattrs.insert(keys::LAYOUT.to_owned(), layout);
        }
        let same = |held: &Lock| held.domain == lock.domain && held.gfid == lock.gfid && held.name == lock.name;
        let conflict = state.locks.iter().any(|held| same(held) && (held.exclusive || lock.exclusive));
        // Tests run one operation at a time: nobody could give the lock back.
        assert!(!conflict, "{}: would wait for ever for {lock:?}, held: {:?}", self.name, state.locks);
        state.locks.push(lock);
    }

    pub(super) fn unlock(&self, state: &mut State, domain: &str, gfid: Gfid, name: Option<&[u8]>, owner: &LockOwner) {
        let held = state.locks.iter().position(|lock| {
            lock.domain == domain && lock.gfid == gfid && lock.name.as_deref() == name && lock.owner == *owner
        });
        state.locks.remove(held.expect("unlocks what it locked"));
    }
}

/// Lets others run once, as waiting for an answer does.
pub(super) async fn on_the_wire() {
    let mut sent = false;
    poll_fn(|context| {
        if std::mem::replace(&mut sent, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// xdata of the answer to a change of xattrs.
pub(super) fn iatt(object: &Object, request: &Dict) -> Dict {
    match request.contains(keys::IATT_IN_XATTR) {
        true => Dict::empty().with(keys::IATT_IN_XATTR, Value::Iatt(Box::new(object.stat))),
        false => Dict::NULL,
    }
}

/// Sets xattrs, with the flags of setxattr(2); answers the xdata.
pub(super) fn set_xattrs(object: &mut Object, dict: &Dict, flags: u32, request: &Dict) -> Result<Dict, Errno> {
    let flags = flags.cast_signed();
    for (key, value) in dict.iter() {
        let key = String::from_utf8(key.to_vec()).unwrap();
        match object.xattrs.contains_key(&key) {
            true if flags & libc::XATTR_CREATE != 0 => return Err(Errno::EEXIST),
            false if flags & libc::XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
            _ => object.xattrs.insert(key, value.as_bytes().unwrap()),
        };
    }
    Ok(iatt(object, request))
}

/// Adds to xattrs; answers the xdata.
pub(super) fn add_to_xattrs(object: &mut Object, dict: &Dict, request: &Dict) -> Dict {
    for (key, value) in dict.iter() {
        let number = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().unwrap());
        let key = String::from_utf8(key.to_vec()).unwrap();
        let slot = object.xattrs.entry(key).or_insert(Bytes::from_static(&[0; 4]));
        let sum = number(slot) + number(&value.as_bytes().unwrap());
        *slot = Bytes::copy_from_slice(&sum.to_be_bytes());
    }
    iatt(object, request)
}

pub(super) fn set_attributes(object: &mut Object, stat: &Iatt, valid: u32) -> PrePostReply {
    let pre = object.stat;
    if valid & set_attr::MODE != 0 {
        object.stat.mode = object.stat.file_type().to_mode() | stat.mode & 0o7777;
    }
    if valid & set_attr::UID != 0 {
        object.stat.uid = stat.uid;
    }
    if valid & set_attr::GID != 0 {
        object.stat.gid = stat.gid;
    }
    PrePostReply { pre, post: object.stat, xdata: Dict::NULL }
}

pub(super) fn zero(object: &mut Object, range: std::ops::Range<usize>) {
    for byte in object.data.iter_mut().take(range.end).skip(range.start) {
        *byte = 0;
    }
}

pub(super) fn resolve(state: &State, path: &str) -> Option<Gfid> {
    let mut gfid = Gfid::ROOT;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        gfid = *state.objects.get(&gfid)?.names.get(name.as_bytes())?;
    }
    Some(gfid)
}

pub(super) fn path_of(state: &State, gfid: Gfid) -> Option<String> {
    if gfid.is_root() {
        return Some(String::new());
    }
    let (parent, name) = state.objects.iter().find_map(|(parent, object)| {
        object.names.iter().find(|(_, child)| **child == gfid).map(|(name, _)| (*parent, name))
    })?;
    Some(format!("{}/{}", path_of(state, parent)?, String::from_utf8_lossy(name)))
}
