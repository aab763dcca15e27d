//! What a brick stores, as far as clients can tell it from `storage/posix`: objects by gfid with attributes, xattrs,
//! entries and data, and for each file what would be left of it after a power cut.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rgfs_protocol::types::{Dirent, set_attr};
use rgfs_protocol::{Errno, FileType, Gfid, Iatt, Time};

/// Result of an operation on the storage.
pub(super) type Stored<T> = Result<T, Errno>;

/// A file, directory, link or node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    /// Attributes; `size` and `nlink` are kept up to date.
    pub(crate) stat: Iatt,
    /// Extended attributes.
    pub(crate) xattrs: BTreeMap<String, Bytes>,
    /// Entries of a directory.
    pub(crate) entries: BTreeMap<Bytes, Gfid>,
    /// Data of a file.
    pub(crate) data: Vec<u8>,
    /// Target of a symbolic link.
    pub(crate) target: Bytes,
    /// The data that a power cut leaves, where that is not `data`.
    pub(crate) durable: Option<Vec<u8>>,
}

impl Object {
    fn change_data(&mut self, now: Time, change: impl FnOnce(&mut Vec<u8>)) {
        if self.durable.is_none() {
            self.durable = Some(self.data.clone());
        }
        change(&mut self.data);
        self.stat.size = self.data.len() as u64;
        self.stat.blocks = self.stat.size.div_ceil(512);
        self.stat.mtime = now;
        self.stat.ctime = now;
    }
}

/// What a write did.
pub(super) struct Written {
    pub(super) written: usize,
    pub(super) pre: Iatt,
    pub(super) post: Iatt,
    pub(super) append: bool,
}

/// A range operation on data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Size(u64),
    Allocate { keep_size: bool, offset: u64, len: u64 },
    Discard { offset: u64, len: u64 },
    Zero { offset: u64, len: u64 },
}

/// The objects of one brick.
pub(crate) struct Storage {
    brick: usize,
    objects: BTreeMap<Gfid, Object>,
    /// Objects without a name that somebody may still have open.
    orphans: BTreeSet<Gfid>,
    /// The time that the running operation notes.
    pub(super) now: Time,
}

impl Storage {
    pub(super) fn new(brick: usize) -> Self {
        let mut storage = Storage { brick, objects: BTreeMap::new(), orphans: BTreeSet::new(), now: Time::default() };
        let root = Object { stat: storage.stat_of_new(Gfid::ROOT, 0o040_755, 0, 0), ..Object::default() };
        storage.objects.insert(Gfid::ROOT, root);
        storage
    }

    fn stat_of_new(&self, gfid: Gfid, mode: u32, uid: u32, gid: u32) -> Iatt {
        Iatt {
            gfid,
            flags: Iatt::FLAGS_BRICK,
            ino: gfid.ino(),
            dev: 64 + self.brick as u64,
            nlink: if FileType::from_mode(mode) == FileType::Directory { 2 } else { 1 },
            blksize: 4096,
            mode,
            uid,
            gid,
            atime: self.now,
            mtime: self.now,
            ctime: self.now,
            ..Iatt::default()
        }
    }

    /// An object that can be reached by its gfid.
    pub(crate) fn get(&self, gfid: Gfid) -> Option<&Object> {
        self.objects.get(&gfid).filter(|object| object.stat.nlink > 0)
    }

    /// An object, with or without a name.
    pub(super) fn open(&self, gfid: Gfid) -> Option<&Object> {
        self.objects.get(&gfid)
    }

    /// For changes behind everybody's back, and xattrs.
    pub(super) fn object_mut(&mut self, gfid: Gfid) -> Stored<&mut Object> {
        self.objects.get_mut(&gfid).ok_or(Errno::ESTALE)
    }

    /// All that has a name.
    pub(super) fn objects(&self) -> impl Iterator<Item = (Gfid, &Object)> {
        self.objects.iter().filter(|(_, object)| object.stat.nlink > 0).map(|(gfid, object)| (*gfid, object))
    }

    pub(super) fn stat(&self, gfid: Gfid) -> Iatt {
        self.objects.get(&gfid).map(|object| object.stat).unwrap_or_default()
    }

    /// What a name of a directory leads to.
    pub(super) fn entry(&self, parent: Gfid, name: &[u8]) -> Stored<Gfid> {
        let directory = self.get(parent).ok_or(Errno::ESTALE)?;
        if !directory.stat.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        directory.entries.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// Makes an object with a first name.
    pub(super) fn make(
        &mut self,
        (parent, name): (Gfid, &Bytes),
        gfid: Gfid,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Stored<&mut Object> {
        match self.entry(parent, name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        if self.objects.contains_key(&gfid) {
            return Err(Errno::EEXIST);
        }
        let stat = self.stat_of_new(gfid, mode, uid, gid);
        self.objects.insert(gfid, Object { stat, ..Object::default() });
        self.add_entry(parent, name, gfid);
        self.object_mut(gfid)
    }

    /// A further name of an object.
    pub(super) fn link(&mut self, gfid: Gfid, (parent, name): (Gfid, &Bytes)) -> Stored<()> {
        match self.entry(parent, name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let now = self.now;
        let object = self.objects.get_mut(&gfid).filter(|object| object.stat.nlink > 0).ok_or(Errno::ESTALE)?;
        if object.stat.is_dir() {
            return Err(Errno::EPERM);
        }
        object.stat.nlink += 1;
        object.stat.ctime = now;
        self.add_entry(parent, name, gfid);
        Ok(())
    }

    fn add_entry(&mut self, parent: Gfid, name: &Bytes, gfid: Gfid) {
        let (now, directory) = (self.now, self.stat(gfid).is_dir());
        if let Some(parent) = self.objects.get_mut(&parent) {
            parent.entries.insert(name.clone(), gfid);
            parent.stat.nlink += u32::from(directory);
            parent.stat.mtime = now;
            parent.stat.ctime = now;
        }
    }

    fn take_entry(&mut self, parent: Gfid, name: &[u8]) -> Option<Gfid> {
        let now = self.now;
        let parent_object = self.objects.get_mut(&parent)?;
        let gfid = parent_object.entries.remove(name)?;
        parent_object.stat.mtime = now;
        parent_object.stat.ctime = now;
        if self.stat(gfid).is_dir() {
            self.objects.get_mut(&parent)?.stat.nlink -= 1;
        }
        Some(gfid)
    }

    fn lose_name(&mut self, gfid: Gfid) {
        let now = self.now;
        let Some(object) = self.objects.get_mut(&gfid) else { return };
        object.stat.ctime = now;
        object.stat.nlink = if object.stat.is_dir() { 0 } else { object.stat.nlink - 1 };
        if object.stat.nlink == 0 {
            self.orphans.insert(gfid);
        }
    }

    /// Removes a name of what is not a directory.
    pub(super) fn unlink(&mut self, parent: Gfid, name: &[u8]) -> Stored<()> {
        let gfid = self.entry(parent, name)?;
        if self.stat(gfid).is_dir() {
            return Err(Errno::EISDIR);
        }
        self.take_entry(parent, name);
        self.lose_name(gfid);
        Ok(())
    }

    /// Removes a directory; a full one only when `recursive`.
    pub(super) fn rmdir(&mut self, parent: Gfid, name: &[u8], recursive: bool) -> Stored<()> {
        let gfid = self.entry(parent, name)?;
        let directory = self.get(gfid).ok_or(Errno::ESTALE)?;
        if !directory.stat.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if !directory.entries.is_empty() && !recursive {
            return Err(Errno::ENOTEMPTY);
        }
        for inside in directory.entries.keys().cloned().collect::<Vec<_>>() {
            if self.unlink(gfid, &inside) == Err(Errno::EISDIR) {
                self.rmdir(gfid, &inside, true)?;
            }
        }
        self.take_entry(parent, name);
        self.lose_name(gfid);
        Ok(())
    }

    /// Moves a name over another; returns the moved object.
    pub(super) fn rename(&mut self, old: (Gfid, &Bytes), new: (Gfid, &Bytes)) -> Stored<Gfid> {
        let moved = self.entry(old.0, old.1)?;
        let directory = self.stat(moved).is_dir();
        if directory && self.is_below(new.0, moved) {
            return Err(Errno::EINVAL);
        }
        match self.entry(new.0, new.1) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
            // rename(2) would do nothing; storage/posix removes the old name.
            Ok(there) if there == moved => {
                if old != new {
                    self.take_entry(old.0, old.1);
                    self.lose_name(moved);
                }
                return Ok(moved);
            }
            Ok(there) => {
                let target = self.get(there).ok_or(Errno::ESTALE)?;
                match (directory, target.stat.is_dir()) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    (true, true) if !target.entries.is_empty() => return Err(Errno::ENOTEMPTY),
                    _ => {}
                }
                self.take_entry(new.0, new.1);
                self.lose_name(there);
            }
        }
        self.take_entry(old.0, old.1);
        self.add_entry(new.0, new.1, moved);
        let now = self.now;
        self.object_mut(moved)?.stat.ctime = now;
        Ok(moved)
    }

    /// True when `gfid` is `top` or somewhere below it.
    fn is_below(&self, gfid: Gfid, top: Gfid) -> bool {
        gfid == top
            || self.open(top).is_some_and(|top| {
                let mut directories = top.entries.values().filter(|inside| self.stat(**inside).is_dir());
                directories.any(|inside| self.is_below(gfid, *inside))
            })
    }

    /// Forgets what has no name and is not open.
    pub(super) fn sweep(&mut self, is_open: impl Fn(Gfid) -> bool) {
        let gone: Vec<Gfid> = self.orphans.iter().copied().filter(|gfid| !is_open(*gfid)).collect();
        for gfid in gone {
            self.orphans.remove(&gfid);
            self.objects.remove(&gfid);
        }
    }

    /// Writes at `offset`, or at the end.
    pub(super) fn write(&mut self, gfid: Gfid, data: &[u8], offset: u64, append: bool, sync: bool) -> Stored<Written> {
        let now = self.now;
        let object = self.object_mut(gfid)?;
        let pre = object.stat;
        let offset = if append { pre.size } else { offset };
        object.change_data(now, |content| {
            let end = offset as usize + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[offset as usize..end].copy_from_slice(data);
        });
        if sync {
            object.durable = None;
        }
        Ok(Written { written: data.len(), pre, post: object.stat, append: append || offset == pre.size })
    }

    /// Changes size or content of a range.
    pub(super) fn change(&mut self, gfid: Gfid, change: Change) -> Stored<(Iatt, Iatt)> {
        let now = self.now;
        let object = self.object_mut(gfid)?;
        let pre = object.stat;
        object.change_data(now, |content| match change {
            Change::Size(size) => content.resize(size as usize, 0),
            Change::Allocate { keep_size: true, .. } => {}
            Change::Allocate { keep_size: false, offset, len } => {
                content.resize(content.len().max((offset + len) as usize), 0);
            }
            Change::Discard { offset, len } => clear(content, offset, len),
            Change::Zero { offset, len } => {
                content.resize(content.len().max((offset + len) as usize), 0);
                clear(content, offset, len);
            }
        });
        Ok((pre, object.stat))
    }

    pub(super) fn set_attributes(&mut self, gfid: Gfid, stat: &Iatt, valid: u32) -> Stored<(Iatt, Iatt)> {
        let now = self.now;
        let object = &mut self.object_mut(gfid)?.stat;
        let pre = *object;
        if valid & set_attr::MODE != 0 {
            object.mode = object.file_type().to_mode() | stat.mode & 0o7777;
        }
        if valid & set_attr::UID != 0 {
            object.uid = stat.uid;
        }
        if valid & set_attr::GID != 0 {
            object.gid = stat.gid;
        }
        if valid & (set_attr::ATIME | set_attr::ATIME_NOW) != 0 {
            object.atime = stat.atime;
        }
        if valid & (set_attr::MTIME | set_attr::MTIME_NOW) != 0 {
            object.mtime = stat.mtime;
        }
        object.ctime = now;
        Ok((pre, *object))
    }

    /// A page of a directory: entries from `offset` on, in an order that differs between bricks, and whether they are the
    /// last. As on ext4 the offset of an entry is the place of the next one, so one that is a little too small does no harm.
    pub(super) fn list(&self, gfid: Gfid, size: u32, offset: u64) -> Stored<(Vec<(Dirent, Gfid)>, bool)> {
        let directory = self.open(gfid).ok_or(Errno::ESTALE)?;
        if !directory.stat.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let mut all = vec![(0, Bytes::from_static(b"."), gfid), (2, Bytes::from_static(b".."), gfid)];
        all.extend(directory.entries.iter().map(|(name, gfid)| (self.cookie(name), name.clone(), *gfid)));
        all.sort_by_key(|(cookie, ..)| *cookie);
        all.retain(|(cookie, ..)| *cookie >= offset);
        let room = (size / 64).max(1) as usize;
        let end = all.len() <= room;
        let places: Vec<u64> = all.iter().map(|(cookie, ..)| *cookie).skip(1).chain([i64::MAX as u64]).collect();
        all.truncate(room);
        let entries = all.into_iter().zip(places).map(|((_, name, gfid), offset)| {
            let stat = self.stat(gfid);
            (Dirent { ino: stat.ino, offset, kind: stat.file_type().to_dirent(), name }, gfid)
        });
        Ok((entries.collect(), end))
    }

    /// Position of a name in its directory: a hash, like ext4's, with a seed of the brick's own.
    fn cookie(&self, name: &[u8]) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ (self.brick as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for byte in name {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        (hash ^ (hash >> 29)) >> 2 | 8
    }

    /// A power cut: data that was not synced is gone where `lost` says so.
    pub(super) fn power_cut(&mut self, mut lost: impl FnMut() -> bool) {
        for object in self.objects.values_mut() {
            let Some(durable) = object.durable.take() else { continue };
            if lost() {
                object.data = durable;
                object.stat.size = object.data.len() as u64;
            }
        }
    }

    /// The object at a path (`/a/b`).
    pub(crate) fn resolve(&self, path: &str) -> Option<Gfid> {
        let mut gfid = Gfid::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            gfid = *self.get(gfid)?.entries.get(name.as_bytes())?;
        }
        self.get(gfid).map(|_| gfid)
    }

    /// A path of an object, if it has one.
    pub(super) fn path_of(&self, gfid: Gfid) -> Option<String> {
        if gfid.is_root() {
            return Some("/".to_owned());
        }
        self.tree().into_iter().find(|(_, there)| *there == gfid).map(|(path, _)| path)
    }

    /// Every name: path and gfid, in order.
    pub(crate) fn tree(&self) -> BTreeMap<String, Gfid> {
        let mut tree = BTreeMap::new();
        self.walk(Gfid::ROOT, "", &mut tree);
        tree
    }

    fn walk(&self, gfid: Gfid, path: &str, tree: &mut BTreeMap<String, Gfid>) {
        let Some(directory) = self.get(gfid) else { return };
        for (name, inside) in &directory.entries {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            self.walk(*inside, &path, tree);
            tree.insert(path, *inside);
        }
    }
}

fn clear(content: &mut [u8], offset: u64, len: u64) {
    let end = content.len().min((offset + len) as usize);
    let start = end.min(offset as usize);
    content[start..end].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gfid(number: u8) -> Gfid {
        Gfid::from_random([number; 16])
    }

    fn name(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    fn storage() -> Storage {
        let mut storage = Storage::new(0);
        storage.make((Gfid::ROOT, &name("a")), gfid(1), 0o100_644, (0, 0)).unwrap();
        storage.make((Gfid::ROOT, &name("b")), gfid(2), 0o100_644, (0, 0)).unwrap();
        storage.make((Gfid::ROOT, &name("d")), gfid(3), 0o040_755, (0, 0)).unwrap();
        storage.make((gfid(3), &name("e")), gfid(4), 0o040_755, (0, 0)).unwrap();
        storage
    }

    #[test]
    fn renames() {
        let (root, a, b, d, e) = (Gfid::ROOT, name("a"), name("b"), name("d"), name("e"));
        let mut storage = storage();
        assert_eq!(storage.rename((root, &a), (root, &d)), Err(Errno::EISDIR));
        assert_eq!(storage.rename((root, &d), (root, &a)), Err(Errno::ENOTDIR));
        assert_eq!(storage.rename((root, &d), (gfid(4), &a)), Err(Errno::EINVAL));
        assert_eq!(storage.rename((root, &a), (root, &b)), Ok(gfid(1)));
        storage.sweep(|_| false);
        assert!(storage.open(gfid(2)).is_none());
        storage.link(gfid(1), (root, &a)).unwrap();
        assert_eq!(storage.rename((root, &a), (root, &b)), Ok(gfid(1)));
        assert_eq!((storage.stat(gfid(1)).nlink, storage.resolve("/a")), (1, None));
        storage.make((root, &e), gfid(5), 0o040_755, (0, 0)).unwrap();
        assert_eq!(storage.rename((root, &e), (root, &d)), Err(Errno::ENOTEMPTY));
        assert_eq!(storage.rename((root, &e), (gfid(3), &e)), Ok(gfid(5)));
        assert_eq!(storage.stat(root).nlink, 3);
    }

    #[test]
    fn what_is_open_outlives_its_name() {
        let mut storage = storage();
        storage.unlink(Gfid::ROOT, b"a").unwrap();
        storage.sweep(|_| true);
        assert!(storage.get(gfid(1)).is_none());
        assert!(storage.write(gfid(1), b"x", 0, false, false).is_ok());
        storage.sweep(|_| false);
        assert!(storage.open(gfid(1)).is_none());
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced() {
        let mut storage = storage();
        storage.write(gfid(1), b"synced", 0, false, true).unwrap();
        storage.write(gfid(1), b"lost", 0, true, false).unwrap();
        storage.power_cut(|| true);
        assert_eq!(storage.get(gfid(1)).unwrap().data, b"synced");
    }

    #[test]
    fn cookies_lead_through_a_directory_and_differ_between_bricks() {
        let list = |brick: usize| {
            let mut storage = Storage::new(brick);
            for number in 0..40u8 {
                let name = Bytes::from(format!("f{number}"));
                storage.make((Gfid::ROOT, &name), gfid(number + 10), 0o100_644, (0, 0)).unwrap();
            }
            let (mut names, mut offset) = (Vec::new(), 0);
            loop {
                let (page, end) = storage.list(Gfid::ROOT, 256, offset).unwrap();
                offset = page.last().unwrap().0.offset;
                names.extend(page.into_iter().map(|(entry, _)| entry.name));
                if end {
                    return names;
                }
            }
        };
        let (mut first, mut second) = (list(0), list(1));
        assert_ne!(first, second);
        first.sort();
        second.sort();
        assert_eq!((first.len(), &first), (42, &second));
    }
}
