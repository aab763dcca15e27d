//! The inodes that the kernel knows: nodeid <-> gfid <-> the translators' inode.
//!
//! An inode enters when an answer first names it to the kernel, and leaves when the kernel has forgotten it as often as it
//! was told of it. The table is keyed by gfid: all names of a file share one node.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rgfs_protocol::{FileType, Gfid, Iatt};
use smallvec::SmallVec;

use super::page_cache::Pages;
use crate::{Fd, Inode};

/// nodeid of the root.
pub const ROOT: u64 = 1;

/// An inode that the kernel knows.
#[derive(Debug)]
pub struct Node {
    /// The kernel's number of it; also its `st_ino`.
    pub nodeid: u64,
    /// Tells two gfids apart that had the same nodeid one after the other.
    pub generation: u64,
    /// What translators know.
    pub inode: Arc<Inode>,
    /// How often the kernel was told of it. Changed under the table's lock of the gfid.
    lookups: AtomicU64,
    /// When it was used last, in the table's seconds.
    used: AtomicU32,
    state: Mutex<State>,
}

/// What changes about a node.
#[derive(Debug, Default)]
pub struct State {
    /// Last attributes seen, and when.
    pub attributes: Option<(Iatt, Instant)>,
    /// When this mount changed it last, or something in it.
    pub changed: Option<Instant>,
    /// Of a directory: when this mount last took a name away from it, or gave one to another inode.
    pub names_gone: Option<Instant>,
    /// Last mode seen; stays when the attributes are forgotten, for what could change them did not add privileges.
    pub mode: u32,
    /// Last group seen.
    pub group: u32,
    /// What the kernel's pages show.
    pub pages: Pages,
    /// The name under which it was looked up last: directory's nodeid, and name.
    pub name: Option<(u64, Bytes)>,
    /// What this mount has open of it, by file handle.
    pub opened: SmallVec<[(u64, Arc<Fd>); 1]>,
}

impl Node {
    /// Identity.
    pub fn gfid(&self) -> Gfid {
        self.inode.gfid()
    }

    /// Its state, locked; never hold it over an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often the kernel was told of it and did not forget.
    pub fn lookups(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    /// Notes attributes that an answer brought at `seen`. An absent stat says nothing.
    pub fn note(&self, stat: &Iatt, seen: Instant) {
        if !stat.is_absent() {
            let mut state = self.state();
            state.attributes = Some((*stat, seen));
            state.mode = stat.mode;
            state.group = stat.gid;
        }
    }

    /// Notes attributes that came beside an answer about something in this directory (`postparent`). Answers overtake each
    /// other, so older ones are left out.
    pub fn note_beside(&self, stat: &Iatt, seen: Instant) {
        let mut state = self.state();
        if stat.gfid == self.gfid() && state.attributes.is_none_or(|(known, _)| known.ctime <= stat.ctime) {
            state.attributes = Some((*stat, seen));
        }
    }

    /// Something in this directory was changed through this mount. Without attributes none are known any more.
    pub fn note_inside(&self, stat: &Iatt, seen: Instant) {
        {
            let mut state = self.state();
            state.changed = Some(seen);
            if stat.gfid != self.gfid() {
                state.attributes = None;
            }
        }
        self.note_beside(stat, seen);
    }

    /// This mount changed it, and no attributes are known any more.
    pub fn forget_attributes(&self) {
        let mut state = self.state();
        state.attributes = None;
        state.changed = Some(Instant::now());
    }

    /// This mount took a name away from this directory, or gave it to another inode.
    pub fn note_gone(&self) {
        self.state().names_gone = Some(Instant::now());
    }

    /// Whether this mount changed it after `moment`, so that what was asked then may be older.
    pub fn changed_since(&self, moment: Instant) -> bool {
        self.state().changed.is_some_and(|changed| changed >= moment)
    }

    /// Notes the attributes of a listing that came at `seen`, unless later ones are known. Returns those that count.
    pub fn note_listed(&self, stat: &Iatt, seen: Instant) -> (Iatt, Instant) {
        if let Some(later) = self.state().attributes.filter(|(_, known)| *known > seen) {
            return later;
        }
        self.note(stat, seen);
        (*stat, seen)
    }

    /// An open file of the node; `writable` ones first when asked so.
    pub fn open_fd(&self, writable: bool) -> Option<Arc<Fd>> {
        let state = self.state();
        let is_writable = |fd: &Fd| fd.flags & libc::O_ACCMODE != libc::O_RDONLY;
        let found = state.opened.iter().find(|(_, fd)| !writable || is_writable(fd));
        found.or(state.opened.first()).map(|(_, fd)| fd.clone())
    }
}

/// All nodes.
pub struct InodeTable {
    by_nodeid: DashMap<u64, Arc<Node>>,
    by_gfid: DashMap<Gfid, Arc<Node>>,
    /// Hash of (directory, name) -> nodeid of the node whose `State::name` it is.
    names: DashMap<u64, u64>,
    hasher: RandomState,
    count: AtomicUsize,
    next_spare: AtomicU64,
    ino32: bool,
    began: Instant,
}

impl std::fmt::Debug for InodeTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InodeTable").field("nodes", &self.len()).finish()
    }
}

impl InodeTable {
    /// A table with the root in it. With `ino32` numbers fit in 32 bits.
    pub fn new(ino32: bool) -> Self {
        let table = InodeTable {
            by_nodeid: DashMap::new(),
            by_gfid: DashMap::new(),
            names: DashMap::new(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(1),
            next_spare: AtomicU64::new(if ino32 { 1 << 16 } else { 1 << 40 }),
            ino32,
            began: Instant::now(),
        };
        let root = Arc::new(Node {
            nodeid: ROOT,
            generation: 0,
            inode: Inode::known(Gfid::ROOT, FileType::Directory),
            // The kernel never forgets the root.
            lookups: AtomicU64::new(1),
            used: AtomicU32::new(0),
            state: Mutex::default(),
        });
        table.by_nodeid.insert(ROOT, root.clone());
        table.by_gfid.insert(Gfid::ROOT, root);
        table
    }

    /// Nodes in the table.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Never true: the root is always there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All nodes of this moment.
    pub fn all(&self) -> Vec<Arc<Node>> {
        self.by_nodeid.iter().map(|node| node.clone()).collect()
    }

    /// The node of a nodeid.
    pub fn get(&self, nodeid: u64) -> Option<Arc<Node>> {
        let node = self.by_nodeid.get(&nodeid)?.clone();
        node.used.store(self.clock(), Ordering::Relaxed);
        Some(node)
    }

    /// The node of a gfid.
    pub fn find(&self, gfid: Gfid) -> Option<Arc<Node>> {
        self.by_gfid.get(&gfid).map(|node| node.clone())
    }

    /// Whether this mount changed the inode of a gfid after `moment`, as far as the table knows.
    pub fn changed_since(&self, gfid: Gfid, moment: Instant) -> bool {
        self.by_gfid.get(&gfid).is_some_and(|node| node.changed_since(moment))
    }

    /// The node that was last looked up under that name of a directory.
    pub fn find_name(&self, directory: u64, name: &[u8]) -> Option<Arc<Node>> {
        let nodeid = *self.names.get(&self.hash(directory, name))?;
        let node = self.get(nodeid)?;
        let matches = matches!(&node.state().name, Some((parent, known)) if *parent == directory && known == name);
        matches.then_some(node)
    }

    /// The number that stat(2) shows for a gfid, whether it is in the table or not.
    pub fn number_of(&self, gfid: Gfid) -> u64 {
        self.find(gfid).map_or_else(|| self.preferred(gfid), |node| node.nodeid)
    }

    /// A number that no inode has and nobody was given before.
    pub fn number_of_nothing(&self) -> u64 {
        use std::sync::atomic::AtomicU64;
        static LAST: AtomicU64 = AtomicU64::new(u64::MAX);
        loop {
            let number = LAST.fetch_sub(1, Ordering::Relaxed);
            if self.get(number).is_none() {
                return number;
            }
        }
    }

    /// The kernel is about to be told of the inode that `stat` describes: the node of that gfid, or a new one around
    /// `fresh`. Counts one lookup. `stat` was `seen` then and must not be absent.
    pub fn link(&self, fresh: &Arc<Inode>, stat: &Iatt, seen: Instant) -> Arc<Node> {
        let node = self.link_silently(fresh, stat);
        node.note(stat, seen);
        node
    }

    /// [`InodeTable::link`] without noting the attributes.
    pub fn link_silently(&self, fresh: &Arc<Inode>, stat: &Iatt) -> Arc<Node> {
        // Even when the table has another inode already: an fd may refer to this one.
        fresh.identify(stat.gfid, stat.file_type());
        let node = match self.by_gfid.entry(stat.gfid) {
            Entry::Occupied(known) => {
                known.get().lookups.fetch_add(1, Ordering::Relaxed);
                known.get().clone()
            }
            Entry::Vacant(place) => {
                let node = self.insert_numbered(stat.gfid, |nodeid| Node {
                    nodeid,
                    generation: generation(stat.gfid),
                    inode: fresh.clone(),
                    lookups: AtomicU64::new(1),
                    used: AtomicU32::new(0),
                    state: Mutex::default(),
                });
                self.count.fetch_add(1, Ordering::Relaxed);
                place.insert(node.clone());
                node
            }
        };
        node.used.store(self.clock(), Ordering::Relaxed);
        node
    }

    fn insert_numbered(&self, gfid: Gfid, make: impl FnOnce(u64) -> Node) -> Arc<Node> {
        let mut nodeid = self.preferred(gfid);
        loop {
            // 0 means "none" to the kernel and 1 is the root.
            if nodeid > ROOT
                && let Entry::Vacant(place) = self.by_nodeid.entry(nodeid)
            {
                let node = Arc::new(make(nodeid));
                place.insert(node.clone());
                return node;
            }
            let spare = self.next_spare.fetch_add(1, Ordering::Relaxed);
            nodeid = if self.ino32 { spare & 0xffff_ffff } else { spare };
        }
    }

    /// The kernel forgets `count` lookups of a nodeid.
    pub fn forget(&self, nodeid: u64, count: u64) {
        if nodeid == ROOT {
            return;
        }
        let Some(gfid) = self.by_nodeid.get(&nodeid).map(|node| node.gfid()) else { return };
        let (node, gone) = {
            let Entry::Occupied(place) = self.by_gfid.entry(gfid) else { return };
            let node = place.get().clone();
            if node.nodeid != nodeid {
                return;
            }
            let before = node.lookups.load(Ordering::Relaxed);
            node.lookups.store(before.saturating_sub(count), Ordering::Relaxed);
            let gone = before <= count;
            if gone {
                place.remove();
                self.by_nodeid.remove(&nodeid);
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            (node, gone)
        };
        if gone {
            self.forget_name(&node);
        }
    }

    /// Remembers under which name `node` was found.
    pub fn name(&self, node: &Node, directory: u64, name: &Bytes) {
        let before = {
            let mut state = node.state();
            if matches!(&state.name, Some((parent, known)) if *parent == directory && known == name) {
                return;
            }
            // A copy: the slice may hold a whole request or answer in memory.
            state.name.replace((directory, Bytes::copy_from_slice(name)))
        };
        if let Some((parent, known)) = before {
            self.names.remove_if(&self.hash(parent, &known), |_, nodeid| *nodeid == node.nodeid);
        }
        self.names.insert(self.hash(directory, name), node.nodeid);
    }

    /// The name of a node holds no more.
    pub fn forget_name(&self, node: &Node) {
        let before = node.state().name.take();
        if let Some((parent, known)) = before {
            self.names.remove_if(&self.hash(parent, &known), |_, nodeid| *nodeid == node.nodeid);
        }
    }

    /// Up to `limit` nodes that were not used for long, with their names: those that the kernel may be asked to forget.
    /// Looks at all nodes, so call it rarely.
    pub fn oldest(&self, limit: usize) -> Vec<(u64, Bytes)> {
        let now = self.clock();
        let mut ages: Vec<u32> =
            self.by_nodeid.iter().map(|node| now - node.used.load(Ordering::Relaxed).min(now)).collect();
        if ages.is_empty() {
            return Vec::new();
        }
        let at = ages.len().saturating_sub(limit).min(ages.len() - 1);
        let (_, threshold, _) = ages.select_nth_unstable(at);
        let threshold = *threshold;
        // With a directory the kernel forgets all that it knows in it: not while there is something else to forget.
        let (mut oldest, mut directories) = (Vec::new(), Vec::new());
        for node in self.by_nodeid.iter() {
            if oldest.len() >= limit {
                break;
            }
            if now - node.used.load(Ordering::Relaxed).min(now) < threshold {
                continue;
            }
            let state = node.state();
            if state.opened.is_empty()
                && let Some(name) = &state.name
            {
                let list = if node.inode.is_dir() { &mut directories } else { &mut oldest };
                if list.len() < limit {
                    list.push(name.clone());
                }
            }
        }
        if oldest.is_empty() { directories } else { oldest }
    }

    fn preferred(&self, gfid: Gfid) -> u64 {
        let ino = gfid.ino();
        if self.ino32 && !gfid.is_root() { (ino & 0xffff_ffff) ^ (ino >> 32) } else { ino }
    }

    fn hash(&self, directory: u64, name: &[u8]) -> u64 {
        self.hasher.hash_one((directory, name))
    }

    fn clock(&self) -> u32 {
        self.began.elapsed().as_secs() as u32
    }
}

/// The half of the gfid that is not in the number. The kernel keeps 31 bits of it.
fn generation(gfid: Gfid) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = gfid.0;
    u64::from((u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h])) & 0x7fff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(high: u8, low: u8) -> Iatt {
        let mut gfid = [0; 16];
        (gfid[0], gfid[15]) = (high, low);
        Iatt { gfid: Gfid(gfid), flags: Iatt::FLAGS_BRICK, mode: 0o100_644, ..Iatt::default() }
    }

    #[test]
    fn names_of_one_file_share_a_node() {
        let table = InodeTable::new(false);
        let first = table.link(&Inode::fresh(), &stat(1, 9), Instant::now());
        let second = table.link(&Inode::fresh(), &stat(1, 9), Instant::now());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((first.lookups(), first.nodeid, table.len()), (2, 9, 2));
        table.forget(9, 1);
        assert!(table.get(9).is_some());
        table.forget(9, 1);
        assert!(table.get(9).is_none() && table.find(stat(1, 9).gfid).is_none());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_number_in_use_is_not_given_twice() {
        let table = InodeTable::new(false);
        let first = table.link(&Inode::fresh(), &stat(1, 9), Instant::now());
        let second = table.link(&Inode::fresh(), &stat(2, 9), Instant::now());
        assert_ne!(first.nodeid, second.nodeid);
        assert_ne!(first.generation, second.generation);
        let like_root = table.link(&Inode::fresh(), &stat(3, 1), Instant::now());
        assert_ne!(like_root.nodeid, ROOT);
        assert_eq!(table.number_of(stat(2, 9).gfid), second.nodeid);
        assert_eq!(table.get(second.nodeid).unwrap().gfid(), second.gfid());
    }

    #[test]
    fn small_numbers_are_small() {
        let table = InodeTable::new(true);
        for high in 0..50 {
            let mut like = stat(high, 5);
            like.gfid.0[8] = high;
            assert!(table.link(&Inode::fresh(), &like, Instant::now()).nodeid <= u64::from(u32::MAX));
        }
        assert_eq!(table.len(), 51);
    }

    #[test]
    fn the_last_name_is_remembered() {
        let table = InodeTable::new(false);
        let node = table.link(&Inode::fresh(), &stat(1, 9), Instant::now());
        table.name(&node, ROOT, &Bytes::from_static(b"a"));
        assert!(table.find_name(ROOT, b"a").is_some());
        table.name(&node, ROOT, &Bytes::from_static(b"b"));
        assert!(table.find_name(ROOT, b"a").is_none() && table.find_name(ROOT, b"b").is_some());
        assert_eq!(table.oldest(10), [(ROOT, Bytes::from_static(b"b"))]);
        table.forget(9, 1);
        assert!(table.find_name(ROOT, b"b").is_none());
        assert!(table.names.is_empty());
    }

    #[test]
    fn the_root_stays() {
        let table = InodeTable::new(false);
        table.forget(ROOT, 100);
        assert!(table.get(ROOT).is_some_and(|root| root.gfid().is_root()));
    }

    #[test]
    fn counts_survive_threads() {
        let table = InodeTable::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000u32 {
                        let node = table.link(&Inode::fresh(), &stat(1, (round % 7) as u8 + 2), Instant::now());
                        table.name(&node, ROOT, &Bytes::from_static(b"x"));
                        table.forget(node.nodeid, 1);
                    }
                });
            }
        });
        assert_eq!(table.len(), 1);
        assert!(table.by_nodeid.len() == 1 && table.by_gfid.len() == 1);
    }
}
