//! For tests: a brick in memory, as far as distribute can tell it from a real one.
//!
//! It has gfids, xattrs, hard links, directory cookies, internal locks, and the checks of `storage/posix` that distribute
//! relies on: the parent's layout, `force-replace`, guarded unlink, internal mknod.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{
    Dirent, EntrylkCmd, EntrylkType, Flock, InodelkCmd, LkCmd, LockOwner, LockType, SeekWhat, Statfs, XattropFlags,
    set_attr,
};
use rgfs_protocol::{Dict, Errno, Gfid, Iatt, Value};

use super::{keys, linkto};
use crate::event::{Event, EventSource, Status};
use crate::reply::*;
use crate::{Context, Fd, FopError, FopResult, Loc, Translator};

#[derive(Clone, Default)]
struct Object {
    stat: Iatt,
    xattrs: BTreeMap<String, Bytes>,
    names: BTreeMap<Bytes, Gfid>,
    data: Vec<u8>,
    /// Tells it from an earlier one with that gfid; 0 until somebody opens it.
    instance: usize,
}

#[derive(Debug, PartialEq)]
struct Lock {
    domain: String,
    gfid: Gfid,
    name: Option<Bytes>,
    exclusive: bool,
    owner: LockOwner,
}

#[derive(Default)]
struct State {
    objects: HashMap<Gfid, Object>,
    locks: Vec<Lock>,
    trace: Vec<String>,
    clock: i64,
    full: bool,
    down: bool,
    refused: Option<&'static str>,
    /// What fix-layout writes before it gives its lock of a directory back.
    to_be_written: Option<(Gfid, Bytes)>,
    /// Inodes and instances by their fds: an unlinked one lives on as long as it is open.
    open: Vec<(Arc<Fd>, Gfid, usize)>,
    /// Unlinked, but open.
    orphans: HashMap<(Gfid, usize), Object>,
    /// Names that were looked up: LINK refuses those at once (`server-resolve.c:resolve_entry_simple`).
    seen: HashSet<(Gfid, Bytes)>,
    /// Inodes whose posix locks went to another brick.
    locks_moved: Vec<Gfid>,
}

/// Something that others do.
type Happening = Box<dyn FnOnce() + Send>;

/// Stands for "no gfid yet".
const UNNAMED: Gfid = Gfid([0xff; 16]);

/// The brick.
pub(crate) struct MemoryBrick {
    name: Arc<str>,
    events: EventSource,
    state: Mutex<State>,
    before: Mutex<Option<(&'static str, Happening)>>,
}

impl MemoryBrick {
    /// An empty brick that is up.
    pub(crate) fn new(name: &str) -> Arc<Self> {
        let name = name.into();
        let brick =
            MemoryBrick { name, events: EventSource::default(), state: Mutex::default(), before: Mutex::default() };
        let root = Object { stat: brick.new_stat(Gfid::ROOT, 0o040_755, 0, 0), ..Object::default() };
        brick.state().objects.insert(Gfid::ROOT, root);
        brick.events.announce(&Event::Status(Status::Up));
        Arc::new(brick)
    }

    /// What it was asked since the last time, as `FOP name`.
    pub(crate) fn take_trace(&self) -> Vec<String> {
        std::mem::take(&mut self.state().trace)
    }

    /// Locks that are held.
    pub(crate) fn held_locks(&self) -> usize {
        self.state().locks.len()
    }

    /// From now on claims to have no free space.
    pub(crate) fn fill(&self) {
        self.state().full = true;
    }

    /// Fails everything with ENOTCONN while `down`.
    pub(crate) fn set_down(&self, down: bool) {
        self.state().down = down;
        let status = if down { Status::Down("killed".into()) } else { Status::Up };
        self.events.announce(&Event::Status(status));
    }

    /// Fails these fops with EIO from now on.
    pub(crate) fn refuse(&self, fop: &'static str) {
        self.state().refused = Some(fop);
    }

    /// Something happens just before the next fop of that kind.
    pub(crate) fn before(&self, fop: &'static str, what: impl FnOnce() + Send + 'static) {
        *self.before.lock().unwrap() = Some((fop, Box::new(what)));
    }

    /// Fix-layout is at work on a directory: whoever locks the layout gets the lock when this is written.
    pub(crate) fn write_before_a_lock(&self, path: &str, layout: &[u8]) {
        let mut state = self.state();
        let gfid = resolve(&state, path).unwrap();
        state.to_be_written = Some((gfid, Bytes::copy_from_slice(layout)));
    }

    /// Names below a directory given by its path (`/` or `/a/b`), with a mark: `/` directory, `@` linkto, none for others.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let state = self.state();
        let Some(gfid) = resolve(&state, path) else { return Vec::new() };
        let shown = state.objects[&gfid].names.iter().map(|(name, gfid)| {
            let object = &state.objects[gfid];
            let link = linkto::has_linkto_mode(&object.stat) && object.xattrs.contains_key(keys::LINKTO);
            let mark = if object.stat.is_dir() {
                "/"
            } else if link {
                "@"
            } else {
                ""
            };
            format!("{}{mark}", String::from_utf8_lossy(name))
        });
        shown.collect()
    }

    /// An xattr of the object at a path.
    pub(crate) fn xattr(&self, path: &str, name: &str) -> Option<Bytes> {
        let state = self.state();
        state.objects.get(&resolve(&state, path)?)?.xattrs.get(name).cloned()
    }

    /// Names of the xattrs of the object at a path.
    pub(crate) fn xattr_names(&self, path: &str) -> Vec<String> {
        let state = self.state();
        let object = resolve(&state, path).and_then(|gfid| state.objects.get(&gfid));
        object.map(|object| object.xattrs.keys().cloned().collect()).unwrap_or_default()
    }

    /// Writes or removes an xattr behind everybody's back.
    pub(crate) fn put_xattr(&self, path: &str, name: &str, value: Option<&[u8]>) {
        let mut state = self.state();
        let gfid = resolve(&state, path).unwrap();
        let xattrs = &mut state.objects.get_mut(&gfid).unwrap().xattrs;
        match value {
            Some(value) => xattrs.insert(name.into(), Bytes::copy_from_slice(value)),
            None => xattrs.remove(name),
        };
    }

    /// Removes a file or directory behind everybody's back.
    pub(crate) fn lose(&self, path: &str) {
        let mut state = self.state();
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = resolve(&state, parent).unwrap();
        let gfid = state.objects.get_mut(&parent).unwrap().names.remove(name.as_bytes()).unwrap();
        if state.objects[&gfid].stat.is_dir() {
            state.objects.remove(&gfid);
        }
    }

    /// Makes an object behind everybody's back, as somebody with access to the brick's disk can.
    pub(crate) fn plant(&self, path: &str, gfid: Gfid, mode: u32, xattrs: &[(&str, &[u8])]) {
        let stat = self.new_stat(gfid, mode, 0, 0);
        let xattrs = xattrs.iter().map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value)));
        let mut state = self.state();
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = resolve(&state, parent).unwrap();
        state.objects.insert(gfid, Object { stat, xattrs: xattrs.collect(), ..Object::default() });
        let name = Bytes::copy_from_slice(name.as_bytes());
        state.objects.get_mut(&parent).unwrap().names.insert(name, gfid);
    }

    /// Makes a directory that has no gfid until a lookup brings one.
    pub(crate) fn plant_without_gfid(&self, path: &str) {
        self.plant(path, UNNAMED, 0o040_755, &[]);
    }

    /// Attributes of the object at a path.
    pub(crate) fn stat_of(&self, path: &str) -> Option<Iatt> {
        let state = self.state();
        Some(state.objects.get(&resolve(&state, path)?)?.stat)
    }

    /// Changes owner and mode behind everybody's back.
    pub(crate) fn own(&self, path: &str, uid: u32, mode: u32) {
        let mut state = self.state();
        let gfid = resolve(&state, path).unwrap();
        let stat = &mut state.objects.get_mut(&gfid).unwrap().stat;
        (stat.uid, stat.mode) = (uid, mode);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, errno: Errno, step: &'static str) -> FopError {
        FopError::new(errno, &self.name, step)
    }

    fn new_stat(&self, gfid: Gfid, mode: u32, uid: u32, gid: u32) -> Iatt {
        let nlink = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        Iatt { gfid, flags: Iatt::FLAGS_BRICK, ino: gfid.ino(), nlink, mode, uid, gid, ..Iatt::default() }
    }

    /// Notes a call and counts its round. Calls made together are on the wire together.
    async fn enter(&self, context: &Context, fop: &'static str, what: &[u8]) -> FopResult<MutexGuard<'_, State>> {
        let depth = context.rounds.sent();
        on_the_wire().await;
        context.rounds.answered(depth);
        let before = self.before.lock().unwrap().take_if(|(of, _)| *of == fop);
        if let Some((_, before)) = before {
            before();
        }
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

    fn find(&self, state: &State, loc: &Loc) -> FopResult<Gfid> {
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
    fn find_inode(&self, state: &State, loc: &Loc) -> FopResult<Gfid> {
        if loc.gfid().is_null() {
            return self.find(state, loc);
        }
        Some(loc.gfid())
            .filter(|gfid| state.objects.contains_key(gfid))
            .ok_or_else(|| self.error(Errno::ESTALE, "find"))
    }

    /// An fd that is open stays what it is, as with `protocol/client`.
    fn note_open(state: &mut State, fd: &Arc<Fd>, gfid: Gfid) {
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
    fn opened<'a>(&self, state: &'a mut State, fd: &Arc<Fd>) -> FopResult<&'a mut Object> {
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

    fn change<T>(state: &mut Object, change: impl FnOnce(&mut Object) -> T) -> PrePostReply {
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

    fn answers(&self, object: &Object, request: &Dict) -> Dict {
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

    fn make(&self, state: &mut State, context: &Context, loc: &Loc, mode: u32, xdata: &Dict) -> FopResult<EntryReply> {
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

    fn drop_name(&self, state: &mut State, parent: Gfid, name: &Bytes) {
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

    fn listing(&self, state: &State, gfid: Gfid, size: u32, offset: u64, xdata: &Dict) -> FopResult<ReaddirpReply> {
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

    fn lock(&self, state: &mut State, lock: Lock) {
        if let Some((gfid, layout)) = state.to_be_written.take_if(|(gfid, _)| *gfid == lock.gfid) {
            state.objects.get_mut(&gfid).unwrap().xattrs.insert(keys::LAYOUT.to_owned(), layout);
        }
        let same = |held: &Lock| held.domain == lock.domain && held.gfid == lock.gfid && held.name == lock.name;
        let conflict = state.locks.iter().any(|held| same(held) && (held.exclusive || lock.exclusive));
        // Tests run one operation at a time: nobody could give the lock back.
        assert!(!conflict, "{}: would wait for ever for {lock:?}, held: {:?}", self.name, state.locks);
        state.locks.push(lock);
    }

    fn unlock(&self, state: &mut State, domain: &str, gfid: Gfid, name: Option<&[u8]>, owner: &LockOwner) {
        let held = state.locks.iter().position(|lock| {
            lock.domain == domain && lock.gfid == gfid && lock.name.as_deref() == name && lock.owner == *owner
        });
        state.locks.remove(held.expect("unlocks what it locked"));
    }
}

/// Lets others run once, as waiting for an answer does.
async fn on_the_wire() {
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
fn iatt(object: &Object, request: &Dict) -> Dict {
    match request.contains(keys::IATT_IN_XATTR) {
        true => Dict::empty().with(keys::IATT_IN_XATTR, Value::Iatt(Box::new(object.stat))),
        false => Dict::NULL,
    }
}

/// Sets xattrs, with the flags of setxattr(2); answers the xdata.
fn set_xattrs(object: &mut Object, dict: &Dict, flags: u32, request: &Dict) -> Result<Dict, Errno> {
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
fn add_to_xattrs(object: &mut Object, dict: &Dict, request: &Dict) -> Dict {
    for (key, value) in dict.iter() {
        let number = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().unwrap());
        let key = String::from_utf8(key.to_vec()).unwrap();
        let slot = object.xattrs.entry(key).or_insert(Bytes::from_static(&[0; 4]));
        let sum = number(slot) + number(&value.as_bytes().unwrap());
        *slot = Bytes::copy_from_slice(&sum.to_be_bytes());
    }
    iatt(object, request)
}

fn set_attributes(object: &mut Object, stat: &Iatt, valid: u32) -> PrePostReply {
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

fn zero(object: &mut Object, range: std::ops::Range<usize>) {
    for byte in object.data.iter_mut().take(range.end).skip(range.start) {
        *byte = 0;
    }
}

fn resolve(state: &State, path: &str) -> Option<Gfid> {
    let mut gfid = Gfid::ROOT;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        gfid = *state.objects.get(&gfid)?.names.get(name.as_bytes())?;
    }
    Some(gfid)
}

fn path_of(state: &State, gfid: Gfid) -> Option<String> {
    if gfid.is_root() {
        return Some(String::new());
    }
    let (parent, name) = state.objects.iter().find_map(|(parent, object)| {
        object.names.iter().find(|(_, child)| **child == gfid).map(|(name, _)| (*parent, name))
    })?;
    Some(format!("{}/{}", path_of(state, parent)?, String::from_utf8_lossy(name)))
}

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

    async fn stat(&self, context: &Context, loc: &Loc, _: Dict) -> FopResult<StatReply> {
        let state = self.enter(context, "STAT", &loc.name).await?;
        let gfid = self.find_inode(&state, loc)?;
        Ok(StatReply { stat: state.objects[&gfid].stat, xdata: Dict::NULL })
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
        let mut state = self.enter(c, "WRITE", b"").await?;
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
        Ok(WriteReply { written: bytes.len(), pre: reply.pre, post: reply.post, xdata: Dict::NULL })
    }

    async fn fstat(&self, c: &Context, fd: &Arc<Fd>, _: Dict) -> FopResult<StatReply> {
        let mut state = self.enter(c, "FSTAT", b"").await?;
        Ok(StatReply { stat: self.opened(&mut state, fd)?.stat, xdata: Dict::NULL })
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
