//! For tests: a brick in memory, as far as distribute can tell it from a real one.
//!
//! It has gfids, xattrs, hard links, directory cookies, internal locks, and the checks of `storage/posix` that distribute
//! relies on: the parent's layout, `force-replace`, guarded unlink, internal mknod.

mod fops;
mod inside;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rgfs_protocol::{Gfid, Iatt};

use self::inside::{Object, State, resolve};
use super::{keys, linkto};
use crate::event::{Event, EventSource, Status};

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

    /// Something happens just before the next fop of that kind; or, for "written", between a write and the look at what it left.
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
}
