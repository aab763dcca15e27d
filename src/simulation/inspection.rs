//! A look behind the scenes of a [`Cluster`]: what was sent, what is on the bricks, and changes behind everybody's back.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use bytes::Bytes;
use rgfs_protocol::{Errno, Gfid};

use super::brick::Brick;
use super::cluster::Cluster;
use super::storage::Object;
use super::trace::{Entry, merged};

impl Cluster {
    /// Switches the record on or off.
    pub(crate) fn record(&self, record: bool) {
        self.world.record_from_now_on(record);
    }

    /// What was sent since the last time.
    pub(crate) fn take_trace(&self) -> Vec<Entry> {
        self.world.take_trace()
    }

    /// What was sent since the last time, each request with its time, client and brick.
    pub(crate) fn take_timed_lines(&self) -> Vec<String> {
        let names = self.names();
        let name_of = |gfid| names.get(&gfid).cloned().unwrap_or_else(|| format!("{gfid}"));
        let line = |entry: &Entry| {
            let (at, client, brick) = (entry.at, entry.call.client, entry.brick);
            let failure = entry.failure.map_or_else(String::new, |errno| format!(" => {errno}"));
            format!("{at:?} c{client} -> {brick}: {}{failure}", entry.line(&name_of))
        };
        self.take_trace().iter().map(line).collect()
    }

    /// What was sent since the last time, equal requests to several bricks as one line, objects by their paths.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        let names = self.names();
        merged(&self.take_trace(), &|gfid| names.get(&gfid).cloned().unwrap_or_else(|| gfid.to_string()))
    }

    /// Paths by gfid, of all bricks; with the beginning of the gfid where bricks have different things at a path.
    fn names(&self) -> BTreeMap<Gfid, String> {
        let mut names = BTreeMap::from([(Gfid::ROOT, "/".to_owned())]);
        let mut known: BTreeMap<String, Gfid> = BTreeMap::new();
        for host in &self.hosts {
            for (path, gfid) in host.brick().storage.tree() {
                let same = *known.entry(path.clone()).or_insert(gfid) == gfid;
                let short = gfid.to_string().chars().take(4).collect::<String>();
                names.entry(gfid).or_insert(if same { path } else { format!("{path}#{short}") });
            }
        }
        names
    }

    /// Number of bricks.
    pub(crate) fn bricks(&self) -> usize {
        self.hosts.len()
    }

    /// Number of clients.
    pub(crate) fn client_count(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn brick(&self, brick: usize) -> MutexGuard<'_, Brick> {
        self.hosts[brick].brick()
    }

    /// The gfid of a path (`/a/b`) on a brick.
    pub(crate) fn gfid(&self, brick: usize, path: &str) -> Option<Gfid> {
        self.brick(brick).storage.resolve(path)
    }

    /// A copy of the object at a path of a brick.
    pub(crate) fn object(&self, brick: usize, path: &str) -> Option<Object> {
        let brick = self.brick(brick);
        brick.storage.get(brick.storage.resolve(path)?).cloned()
    }

    /// A copy of an object of a brick.
    pub(crate) fn object_of(&self, brick: usize, gfid: Gfid) -> Option<Object> {
        self.brick(brick).storage.get(gfid).cloned()
    }

    /// Data of a file.
    pub(crate) fn data(&self, brick: usize, path: &str) -> Option<Vec<u8>> {
        self.object(brick, path).map(|object| object.data)
    }

    /// An xattr of the object at a path.
    pub(crate) fn xattr(&self, brick: usize, path: &str, key: &str) -> Option<Bytes> {
        self.object(brick, path)?.xattrs.get(key).cloned()
    }

    /// A changelog of the object at a path: `who` is `dirty` or `v-client-N`. Zeros when there is none.
    pub(crate) fn changelog(&self, brick: usize, path: &str, who: &str) -> [i32; 3] {
        self.object(brick, path).map(|object| super::trace::changelog(&object, who)).unwrap_or_default()
    }

    /// Writes or removes an xattr.
    pub(crate) fn put_xattr(&self, brick: usize, path: &str, key: &str, value: Option<&[u8]>) {
        let gfid = self.gfid(brick, path).expect("the path is there");
        let mut brick = self.brick(brick);
        let xattrs = &mut brick.storage.object_mut(gfid).expect("the object is there").xattrs;
        match value {
            Some(value) => xattrs.insert(key.into(), Bytes::copy_from_slice(value)),
            None => xattrs.remove(key),
        };
    }

    /// Changes an object.
    pub(crate) fn tamper(&self, brick: usize, path: &str, change: impl FnOnce(&mut Object)) {
        let gfid = self.gfid(brick, path).expect("the path is there");
        change(self.brick(brick).storage.object_mut(gfid).expect("the object is there"));
    }

    /// Removes a name, and what is below it.
    pub(crate) fn lose(&self, brick: usize, path: &str) {
        let (parent, name) = path.rsplit_once('/').expect("an absolute path");
        let parent = self.gfid(brick, parent).expect("the parent is there");
        let mut brick = self.brick(brick);
        if brick.storage.unlink(parent, name.as_bytes()) == Err(Errno::EISDIR) {
            brick.storage.rmdir(parent, name.as_bytes(), true).expect("it can be removed");
        }
        brick.sweep();
    }

    /// Every name of a brick: path and gfid.
    pub(crate) fn tree(&self, brick: usize) -> BTreeMap<String, Gfid> {
        self.brick(brick).storage.tree()
    }

    /// All locks of a brick as text, sorted: kind, inode, domain, what, and `waits` for those that are not granted.
    pub(crate) fn locks(&self, brick: usize) -> Vec<String> {
        let brick = self.brick(brick);
        let internal = brick.inodelks.all().map(|lock| ("inodelk", lock));
        let internal = internal.chain(brick.entrylks.all().map(|lock| ("entrylk", lock)));
        let internal = internal.map(|(kind, (gfid, domain, lock, granted))| {
            let waits = if granted { "" } else { " waits" };
            format!("{kind} {gfid} {domain} {:?} {:?}{waits}", lock.scope, lock.holder)
        });
        let posix = brick.posix_locks.all();
        let posix = posix.map(|(gfid, holder, start, end, _)| format!("lk {gfid} {start}..{end} {holder:?}"));
        internal.chain(posix).collect()
    }

    /// How often a brick was told to make a directory with the gfid of another one.
    pub(crate) fn shared_gfids(&self, brick: usize) -> usize {
        self.brick(brick).shared_gfids
    }

    /// Checks that no two owners hold locks of a brick that exclude each other.
    pub(crate) fn check_exclusion(&self) -> Result<(), String> {
        for (number, host) in self.hosts.iter().enumerate() {
            let brick = host.brick();
            brick.check_exclusion().map_err(|error| format!("brick {number}: {error}"))?;
        }
        Ok(())
    }

    /// Objects that the index of a brick says need heal: pending and dirty ones.
    pub(crate) fn pending_gfids(&self, brick: usize) -> Vec<Gfid> {
        let brick = self.brick(brick);
        let mut all: Vec<Gfid> = brick.index.pending.union(&brick.index.dirty).copied().collect();
        all.retain(|gfid| brick.storage.get(*gfid).is_some());
        all
    }

    /// A copy of the index of a brick.
    pub(crate) fn index(&self, brick: usize) -> super::index::Index {
        self.brick(brick).index.clone()
    }

    /// Every changelog that is not zero: brick, path, key and value.
    pub(crate) fn marks(&self) -> Vec<String> {
        let mut marks = Vec::new();
        for (number, host) in self.hosts.iter().enumerate() {
            let brick = host.brick();
            let mut tree = brick.storage.tree();
            tree.insert("/".to_owned(), Gfid::ROOT);
            for (path, gfid) in tree {
                let Some(object) = brick.storage.get(gfid) else { continue };
                for (key, value) in object.xattrs.iter().filter(|(key, _)| key.starts_with("trusted.afr.")) {
                    if let Some(counters) = super::trace::counters(&rgfs_protocol::Value::Ptr(value.clone()))
                        && counters != [0; 3]
                    {
                        marks.push(format!("{number}: {path} {key} {counters:?}"));
                    }
                }
            }
        }
        marks
    }

    /// How the bricks differ from the first one: names, types, modes, owners, data (but for an arbiter's), link targets and
    /// xattrs other than changelogs. Empty when they are equal.
    pub(crate) fn compare_bricks(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let first = self.brick(0).comparable();
        for (number, host) in self.hosts.iter().enumerate().skip(1) {
            let brick = host.brick();
            let other = brick.comparable();
            let paths: std::collections::BTreeSet<_> = first.keys().chain(other.keys()).collect();
            for path in paths {
                let (here, there) = (first.get(path), other.get(path));
                let same = match (here, there) {
                    (Some(here), Some(there)) if brick.arbiter => here.0 == there.0,
                    (here, there) => here == there,
                };
                if !same {
                    differences.push(format!("{path}: brick 0 {here:?}, brick {number} {there:?}"));
                }
            }
        }
        differences
    }
}

impl Brick {
    /// Attributes and content of every name, as text.
    fn comparable(&self) -> BTreeMap<String, (String, String)> {
        let mut tree = self.storage.tree();
        tree.insert("/".to_owned(), Gfid::ROOT);
        let all = tree.into_iter().filter_map(|(path, gfid)| {
            let object = self.storage.get(gfid)?;
            let xattrs: Vec<_> = object.xattrs.iter().filter(|(key, _)| !key.starts_with("trusted.afr.")).collect();
            let stat = object.stat;
            let nlink = if stat.is_dir() { 0 } else { stat.nlink };
            let attributes = format!(
                "{gfid} {:o} {}:{} links={nlink} {xattrs:?} {:?}",
                stat.mode, stat.uid, stat.gid, object.target
            );
            Some((path, (attributes, String::from_utf8_lossy(&object.data).into_owned())))
        });
        all.collect()
    }

    fn check_exclusion(&self) -> Result<(), String> {
        for table in [&self.inodelks, &self.entrylks] {
            if let Some(conflict) = table.conflict().or_else(|| table.held_twice()) {
                return Err(conflict);
            }
        }
        Ok(())
    }
}
