//! The table of dependent rounds in `docs/ARCHITECTURE.md`, held against what the translators do over bricks in memory.
//!
//! Each column is a volume as glusterd writes it: distribute on top, even over one brick.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{Flock, LkCmd, LockOwner, LockType};
use rgfs_protocol::{Dict, FileType, Gfid, Iatt, Value};

use super::distribute::Distribute;
use super::replicate::Replicate;
use crate::graph::Environment;
use crate::graph::testing::{environment, volume};
use crate::reply::{EntryReply, Payload};
use crate::simulation::{Cluster, Layout};
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ARCHITECTURE.md"));
/// The first cell of the table's first line.
const TABLE: &str = "| fop, healthy |";

/// Rounds per fop, in the order in which they were measured.
type Column = Vec<(&'static str, u32)>;

/// A volume of `sets` sets of `copies` bricks.
pub(super) struct Mount {
    pub(super) cluster: Cluster,
    pub(super) top: Arc<dyn Translator>,
    measured: Column,
    gfids: u8,
}

impl Mount {
    pub(super) fn new(sets: usize, copies: usize, arbiter: bool) -> Self {
        let cluster = Cluster::new(1, Layout { replicas: sets * copies, arbiter }, 1);
        let environment = Environment { clock: cluster.clock(0), ..environment() };
        let bricks = cluster.children(0);
        let subvolumes = match copies {
            1 => bricks,
            _ => bricks
                .chunks(copies)
                .enumerate()
                .map(|(set, bricks)| replicate(set, bricks, arbiter, &environment))
                .collect(),
        };
        let top = Distribute::new(&volume("cluster/distribute", &[]), subvolumes, &environment).unwrap();
        cluster.settle();
        Mount { cluster, top, measured: Vec::new(), gfids: 0 }
    }

    /// Runs a fop, and notes how many rounds it took.
    pub(super) fn measure<T, F: Future<Output = FopResult<T>>>(
        &mut self,
        name: &'static str,
        fop: impl FnOnce(Context, Arc<dyn Translator>) -> F,
    ) -> T {
        let (result, rounds) = self.run(fop);
        self.measured.push((name, rounds));
        result.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(super) fn run<T, F: Future<Output = T>>(
        &self,
        fop: impl FnOnce(Context, Arc<dyn Translator>) -> F,
    ) -> (T, u32) {
        let context = Context { pid: 42, lock_owner: LockOwner::from_fuse(0xa0), ..Context::internal() };
        let rounds = context.rounds.clone();
        let result = self.cluster.block_on(fop(context, self.top.clone()));
        let count = rounds.count();
        // What goes on after the answer is nobody's wait.
        self.cluster.settle();
        (result, count)
    }

    pub(super) fn identity(&mut self) -> Dict {
        self.gfids += 1;
        Dict::empty().with("gfid-req", Value::Gfuuid(Gfid([self.gfids; 16])))
    }

    /// A place in a directory with nothing in it yet.
    pub(super) fn place(directory: &Arc<Inode>, name: &str) -> Loc {
        Loc::entry(directory.clone(), name.to_owned(), Inode::fresh())
    }

    pub(super) fn create(&mut self, name: &'static str, place: &Loc) -> Arc<Fd> {
        let (identity, fd) = (self.identity(), Fd::new(place.inode.clone(), libc::O_RDWR, 42));
        let made = self.measure(name, |context, top| {
            let (place, fd) = (place.clone(), fd.clone());
            async move { top.create(&context, &place, libc::O_RDWR | libc::O_CREAT, 0o644, 0, &fd, identity).await }
        });
        found(place, &made.stat);
        fd
    }

    fn write(&mut self, name: &'static str, fd: &Arc<Fd>, offset: u64) {
        let (fd, data) = (fd.clone(), Payload::from_iter([Bytes::from_static(b"text")]));
        self.measure(name, |context, top| async move { top.writev(&context, &fd, data, offset, 0, Dict::NULL).await });
    }

    fn lock(&mut self, name: &'static str, fd: &Arc<Fd>, cmd: LkCmd, kind: LockType) {
        let owner = LockOwner::from_fuse(0xa0);
        let (fd, flock) = (fd.clone(), Flock { kind, whence: 0, start: 0, len: 0, pid: 42, owner });
        self.measure(name, |context, top| async move { top.lk(&context, &fd, cmd, flock, Dict::NULL).await });
    }

    /// Lets an idle lock for writing go.
    fn rest(&self) {
        self.cluster.run_for(std::time::Duration::from_secs(5));
    }
}

fn replicate(
    set: usize,
    bricks: &[Arc<dyn Translator>],
    arbiter: bool,
    environment: &Environment,
) -> Arc<dyn Translator> {
    let mut options = vec![("quorum-type", "auto"), ("granular-entry-heal", "on")];
    if arbiter {
        options.push(("arbiter-count", "1"));
    }
    let mut volume = volume("cluster/replicate", &options);
    volume.name = format!("test-replicate-{set}").into();
    Replicate::new(&volume, bricks.to_vec(), environment).unwrap()
}

pub(super) fn found(place: &Loc, stat: &Iatt) {
    place.inode.identify(stat.gfid, stat.file_type());
}

/// All fops, on a volume.
fn measure(sets: usize, copies: usize, arbiter: bool) -> Column {
    let mut mount = Mount::new(sets, copies, arbiter);
    let root = Inode::known(Gfid::ROOT, FileType::Directory);
    let whole = Loc::inode(root.clone());
    mount.measure("lookup of the root", |context, top| {
        let whole = whole.clone();
        async move { top.lookup(&context, &whole, Dict::NULL).await }
    });
    // The first look may have given the root its layout.
    mount.measured.clear();
    let look = |mount: &mut Mount, name: &'static str, loc: &Loc| {
        let loc = loc.clone();
        mount.measure(name, |context, top| async move { top.lookup(&context, &loc, Dict::NULL).await })
    };
    look(&mut mount, "lookup of the root", &whole);

    let place = Mount::place(&root, "directory");
    let identity = mount.identity();
    let made: EntryReply = mount.measure("mkdir", |context, top| {
        let place = place.clone();
        async move { top.mkdir(&context, &place, 0o755, 0, identity).await }
    });
    found(&place, &made.stat);
    let directory = place.inode.clone();
    look(&mut mount, "lookup of a known directory", &place);

    let missing = Mount::place(&directory, "missing");
    let (absent, rounds) = mount.run(|context, top| async move { top.lookup(&context, &missing, Dict::NULL).await });
    absent.unwrap_err();
    mount.measured.push(("lookup of a name that is not there", rounds));

    let file = Mount::place(&directory, "file");
    let fd = mount.create("create", &file);
    look(&mut mount, "lookup of a file", &file);
    let inode = Loc::inode(file.inode.clone());
    mount.measure("stat", |context, top| {
        let inode = inode.clone();
        async move { top.stat(&context, &inode, Dict::NULL).await }
    });
    mount.write("first write", &fd, 0);
    mount.write("further write", &fd, 4);
    mount.measure("fsync after writes", |context, top| {
        let fd = fd.clone();
        async move { top.fsync(&context, &fd, false, Dict::NULL).await }
    });
    mount.measure("flush after writes", |context, top| {
        let fd = fd.clone();
        async move { top.flush(&context, &fd, Dict::NULL).await }
    });
    mount.rest();
    mount.measure("fsync without writes", |context, top| {
        let fd = fd.clone();
        async move { top.fsync(&context, &fd, false, Dict::NULL).await }
    });
    mount.measure("read", |context, top| {
        let fd = fd.clone();
        async move { top.readv(&context, &fd, 4096, 0, 0, Dict::NULL).await }
    });
    mount.measure("fstat", |context, top| {
        let fd = fd.clone();
        async move { top.fstat(&context, &fd, Dict::NULL).await }
    });
    mount.measure("truncate", |context, top| {
        let inode = inode.clone();
        async move { top.truncate(&context, &inode, 2, Dict::NULL).await }
    });
    mount.measure("ftruncate", |context, top| {
        let fd = fd.clone();
        async move { top.ftruncate(&context, &fd, 2, Dict::NULL).await }
    });
    mount.lock("lock", &fd, LkCmd::SetLk, LockType::Write);
    mount.lock("look for a lock", &fd, LkCmd::GetLk, LockType::Write);
    mount.lock("unlock", &fd, LkCmd::SetLk, LockType::Unlock);
    mount.rest();

    mount.measure("open", |context, top| {
        let (inode, fd) = (inode.clone(), Fd::new(inode.inode.clone(), libc::O_RDWR, 42));
        async move { top.open(&context, &inode, libc::O_RDWR, &fd, Dict::NULL).await }
    });
    mount.measure("setattr of a file", |context, top| {
        let (inode, stat) = (inode.clone(), Iatt { mode: 0o600, ..Iatt::default() });
        async move { top.setattr(&context, &inode, &stat, 1, Dict::NULL).await }
    });
    mount.measure("setattr of a directory", |context, top| {
        let (loc, stat) = (Loc::inode(directory.clone()), Iatt { mode: 0o700, ..Iatt::default() });
        async move { top.setattr(&context, &loc, &stat, 1, Dict::NULL).await }
    });
    mount.measure("setxattr", |context, top| {
        let (inode, dict) = (inode.clone(), Dict::empty().with("user.color", Value::Ptr(Bytes::from_static(b"red"))));
        async move { top.setxattr(&context, &inode, dict, 0, Dict::NULL).await }
    });
    mount.measure("getxattr", |context, top| {
        let inode = inode.clone();
        async move { top.getxattr(&context, &inode, Some("user.color"), Dict::NULL).await }
    });
    mount.measure("removexattr", |context, top| {
        let inode = inode.clone();
        async move { top.removexattr(&context, &inode, "user.color", Dict::NULL).await }
    });

    let place = Mount::place(&directory, "pipe");
    let identity = mount.identity();
    mount.measure("mknod", |context, top| {
        let place = place.clone();
        async move { top.mknod(&context, &place, 0o010_644, 0, 0, identity).await }
    });
    let place = Mount::place(&directory, "symlink");
    let identity = mount.identity();
    mount.measure("symlink", |context, top| async move {
        top.symlink(&context, &place, Bytes::from_static(b"target"), 0, identity).await
    });
    // Where the new name belongs to another subvolume a link file is made as well: not what is counted here.
    let names = || (0..16).map(|number| format!("other{number}"));
    let link = |mount: &mut Mount, name: String| {
        let new = Loc::entry(directory.clone(), name, file.inode.clone());
        let old = file.clone();
        let (done, rounds) = mount.run(|context, top| {
            let new = new.clone();
            async move { top.link(&context, &old, &new, Dict::NULL).await }
        });
        done.unwrap();
        (new, rounds)
    };
    let linked: Vec<(Loc, u32)> = names().map(|name| link(&mut mount, name)).collect();
    let (other, rounds) = linked.into_iter().min_by_key(|(_, rounds)| *rounds).unwrap();
    mount.measured.push(("link, one subvolume", rounds));
    mount.measure("unlink", |context, top| {
        let other = other.clone();
        async move { top.unlink(&context, &other, 0, Dict::NULL).await }
    });
    let mut fewest = u32::MAX;
    for number in 0..16 {
        let old = Mount::place(&directory, &format!("old{number}"));
        mount.create("to be renamed", &old);
        mount.measured.pop();
        let new = Mount::place(&directory, &format!("new{number}"));
        let (renamed, rounds) =
            mount.run(|context, top| async move { top.rename(&context, &old, &new, Dict::NULL).await });
        renamed.unwrap();
        fewest = fewest.min(rounds);
    }
    mount.measured.push(("rename of a file, one subvolume", fewest));
    mount.measure("statfs", |context, top| {
        let whole = whole.clone();
        async move { top.statfs(&context, &whole, Dict::NULL).await }
    });
    let listing = Fd::new(directory.clone(), libc::O_DIRECTORY, 42);
    mount.measure("opendir", |context, top| {
        let (loc, fd) = (Loc::inode(directory.clone()), listing.clone());
        async move { top.opendir(&context, &loc, &fd, Dict::NULL).await }
    });
    let page = mount.measure("readdirp, a page", |context, top| {
        let fd = listing.clone();
        async move { top.readdirp(&context, &fd, 128 * 1024, 0, Dict::NULL).await }
    });
    assert!(!page.entries.is_empty());
    let place = Mount::place(&root, "empty");
    let identity = mount.identity();
    let (made, _) = mount.run(|context, top| {
        let place = place.clone();
        async move { top.mkdir(&context, &place, 0o755, 0, identity).await }
    });
    found(&place, &made.unwrap().stat);
    mount.measure("rmdir", |context, top| async move { top.rmdir(&context, &place, 0, Dict::NULL).await });
    let locks: Vec<_> = (0..mount.cluster.bricks()).flat_map(|brick| mount.cluster.locks(brick)).collect();
    assert!(locks.is_empty(), "{locks:?}");
    assert!(mount.cluster.marks().is_empty(), "{:?}", mount.cluster.marks());
    mount.measured
}

/// The table as people read it: rows by name.
fn documented() -> BTreeMap<&'static str, Vec<&'static str>> {
    let lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(TABLE)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        (cells.next().unwrap_or_default(), cells.collect())
    });
    rows.collect()
}

#[test]
fn the_document_tells_the_rounds() {
    let columns =
        [measure(1, 1, false), measure(2, 1, false), measure(1, 3, false), measure(1, 3, true), measure(2, 3, false)];
    let mut measured: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut lines = Vec::new();
    for (row, (name, _)) in columns[0].iter().enumerate() {
        let cells: Vec<String> = columns.iter().map(|column| column[row].1.to_string()).collect();
        assert!(columns.iter().all(|column| column[row].0 == *name));
        lines.push(format!("| {name} | {} |", cells.join(" | ")));
        measured.insert(name, cells);
    }
    let documented = documented();
    let agree = documented.len() == measured.len()
        && documented.iter().all(|(name, cells)| measured.get(name).is_some_and(|found| found == cells));
    assert!(agree, "docs/ARCHITECTURE.md must say:\n{}", lines.join("\n"));
}
