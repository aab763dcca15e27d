//! Distribute over bricks in memory: what ends up where, and how many rounds it takes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::layout::DiskLayout;
use super::testing::MemoryBrick;
use super::{Distribute, hash, keys};
use crate::event::Status;
use crate::graph::testing::environment;
use crate::reply::EntryPlus;
use crate::volfile::{Kind, Options, Position, Volume};
use crate::{Context, Fd, FopError, FopResult, Inode, Loc, Translator};

#[path = "freshness_tests.rs"]
mod freshness;
#[path = "migration_tests.rs"]
mod migration;

/// A volume of bricks `v-client-0`, `v-client-1`... whose root has been looked up.
pub(super) struct Cluster {
    pub(super) bricks: Vec<Arc<MemoryBrick>>,
    pub(super) top: Arc<Distribute>,
    pub(super) root: Arc<Inode>,
}

pub(super) fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(super) fn fresh_gfid() -> Gfid {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let mut gfid = [0xee; 16];
    gfid[15] = NEXT.fetch_add(1, Ordering::Relaxed);
    gfid[14] = std::thread::current().name().map_or(0, |name| name.len() as u8);
    Gfid(gfid)
}

fn volume(options: &[(&str, &str)]) -> Volume {
    let name: Arc<str> = "v-dht".into();
    let mut all = Options::new(&name);
    for (key, value) in options {
        all = all.with(key, value);
    }
    // The options tell what it is.
    let set = |name: &str| options.iter().any(|(key, _)| *key == name);
    let canonical = match () {
        () if set("local-volume-name") => "cluster/nufa",
        () if set("pattern.switch.case") => "cluster/switch",
        () => "cluster/distribute",
    };
    let kind = Kind { canonical, written: canonical.into() };
    Volume { name, kind, options: all, subvolumes: Vec::new(), position: Position { line: 1, column: 1 } }
}

impl Cluster {
    pub(super) fn new(count: usize) -> Self {
        Self::with(count, &[])
    }

    fn with(count: usize, options: &[(&str, &str)]) -> Self {
        let bricks = (0..count).map(|index| MemoryBrick::new(&format!("v-client-{index}"))).collect();
        Self::over(bricks, options)
    }

    /// Another client of the same bricks.
    fn over(bricks: Vec<Arc<MemoryBrick>>, options: &[(&str, &str)]) -> Self {
        // Whoever counts requests shall not depend on the speed of the machine.
        Self::trusting(bricks, options, Duration::from_secs(3600))
    }

    fn trusting(bricks: Vec<Arc<MemoryBrick>>, options: &[(&str, &str)], trust: Duration) -> Self {
        let children = bricks.iter().map(|brick| brick.clone() as Arc<dyn Translator>).collect();
        let top = Distribute::over(&volume(options), children, trust, &environment()).unwrap();
        let root = Inode::known(Gfid::ROOT, FileType::Directory);
        let cluster = Cluster { bricks, top, root };
        let (found, _) = cluster.run(|context, top| {
            let loc = Loc::inode(cluster.root.clone());
            async move { top.lookup(&context, &loc, Dict::NULL).await }
        });
        found.unwrap();
        cluster.forget();
        cluster
    }

    pub(super) fn second_client(&self) -> Self {
        Self::over(self.bricks.clone(), &[])
    }

    /// Another client, which never takes a layout for just read.
    pub(super) fn doubting_client(&self) -> Self {
        Self::trusting(self.bricks.clone(), &[], Duration::ZERO)
    }

    /// Runs one operation; answers how many rounds it took. No lock may be left.
    pub(super) fn run<T, F: Future<Output = T>>(
        &self,
        operation: impl FnOnce(Context, Arc<Distribute>) -> F,
    ) -> (T, u32) {
        let context = Context { pid: 42, ..Context::internal() };
        let rounds = context.rounds.clone();
        let result = block(operation(context, self.top.clone()));
        for brick in &self.bricks {
            assert_eq!(brick.held_locks(), 0, "{} has locks left", brick.name());
        }
        (result, rounds.count())
    }

    pub(super) fn forget(&self) {
        for brick in &self.bricks {
            brick.take_trace();
        }
    }

    pub(super) fn traces(&self) -> Vec<Vec<String>> {
        self.bricks.iter().map(|brick| brick.take_trace()).collect()
    }

    pub(super) fn lookup(&self, parent: &Arc<Inode>, name: &str) -> (FopResult<Arc<Inode>>, u32) {
        let loc = Loc::entry(parent.clone(), name.to_owned(), Inode::fresh());
        self.run(|context, top| async move {
            let found =
                top.lookup(&context, &loc, Dict::NULL.with(keys::GFID_REQ, Value::Gfuuid(fresh_gfid()))).await?;
            loc.inode.identify(found.stat.gfid, found.stat.file_type());
            Ok(loc.inode)
        })
    }

    pub(super) fn find(&self, parent: &Arc<Inode>, name: &str) -> Arc<Inode> {
        self.lookup(parent, name).0.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(super) fn create(&self, parent: &Arc<Inode>, name: &str) -> (FopResult<Arc<Inode>>, u32) {
        let loc = Loc::entry(parent.clone(), name.to_owned(), Inode::fresh());
        let fd = Fd::new(loc.inode.clone(), libc::O_RDWR, 42);
        let request = Dict::empty().with(keys::GFID_REQ, Value::Gfuuid(fresh_gfid()));
        self.run(|context, top| async move {
            let made = top.create(&context, &loc, libc::O_RDWR | libc::O_EXCL, 0o644, 0, &fd, request).await?;
            loc.inode.identify(made.stat.gfid, made.stat.file_type());
            Ok(loc.inode)
        })
    }

    pub(super) fn mkdir(&self, parent: &Arc<Inode>, name: &str) -> (FopResult<Arc<Inode>>, u32) {
        let loc = Loc::entry(parent.clone(), name.to_owned(), Inode::fresh());
        let request = Dict::empty().with(keys::GFID_REQ, Value::Gfuuid(fresh_gfid()));
        self.run(|context, top| async move {
            let made = top.mkdir(&context, &loc, 0o755, 0, request).await?;
            loc.inode.identify(made.stat.gfid, made.stat.file_type());
            Ok(loc.inode)
        })
    }

    fn unlink(&self, parent: &Arc<Inode>, name: &str, inode: &Arc<Inode>) -> (FopResult<()>, u32) {
        let loc = Loc::entry(parent.clone(), name.to_owned(), inode.clone());
        self.run(|context, top| async move { top.unlink(&context, &loc, 0, Dict::NULL).await.map(|_| ()) })
    }

    fn rmdir(&self, parent: &Arc<Inode>, name: &str) -> (FopResult<()>, u32) {
        let loc = Loc::entry(parent.clone(), name.to_owned(), self.find(parent, name));
        self.forget();
        self.run(|context, top| async move { top.rmdir(&context, &loc, 0, Dict::NULL).await.map(|_| ()) })
    }

    pub(super) fn rename(&self, from: (&Arc<Inode>, &str), to: (&Arc<Inode>, &str)) -> (FopResult<Iatt>, u32) {
        let old = Loc::entry(from.0.clone(), from.1.to_owned(), self.find(from.0, from.1));
        let there = self.lookup(to.0, to.1).0.unwrap_or_else(|_| Inode::fresh());
        let new = Loc::entry(to.0.clone(), to.1.to_owned(), there);
        self.forget();
        self.run(|context, top| async move { Ok(top.rename(&context, &old, &new, Dict::NULL).await?.stat) })
    }

    pub(super) fn link(&self, parent: &Arc<Inode>, old: &str, new: &str) -> FopResult<()> {
        let old = Loc::entry(parent.clone(), old.to_owned(), self.find(parent, old));
        let new = Loc::entry(parent.clone(), new.to_owned(), old.inode.clone());
        self.run(|context, top| async move { top.link(&context, &old, &new, Dict::NULL).await.map(|_| ()) }).0
    }

    /// The whole listing of a directory, as `ls` sees it.
    fn list(&self, directory: &Arc<Inode>, size: u32) -> Vec<EntryPlus> {
        let fd = Fd::new(directory.clone(), libc::O_DIRECTORY, 42);
        let loc = Loc::inode(directory.clone());
        self.run(|context, top| async move {
            top.opendir(&context, &loc, &fd, Dict::NULL).await.unwrap();
            let (mut all, mut offset) = (Vec::new(), 0);
            for _ in 0..10_000 {
                let reply = top.readdirp(&context, &fd, size, offset, Dict::NULL).await.unwrap();
                let next = reply.goes_on_at();
                all.extend(reply.entries);
                match next {
                    Some(next) => offset = next,
                    None => return all,
                }
            }
            panic!("the listing does not end");
        })
        .0
    }

    /// The names of each part of a listing, asked for by itself up to where the next one begins.
    fn parts(&self, directory: &Arc<Inode>, size: u32) -> Vec<String> {
        let fd = Fd::new(directory.clone(), libc::O_DIRECTORY, 42);
        let loc = Loc::inode(directory.clone());
        self.run(|context, top| async move {
            top.opendir(&context, &loc, &fd, Dict::NULL).await.unwrap();
            let mut begins = top.listing_parts(&fd).offsets;
            begins.insert(0, 0);
            assert_eq!(begins.len(), self.bricks.len());
            let mut names = Vec::new();
            for (part, begin) in begins.iter().enumerate() {
                let (mut offset, end) = (*begin, begins.get(part + 1).copied());
                loop {
                    let reply = top.readdirp(&context, &fd, size, offset, Dict::NULL).await.unwrap();
                    let name = |entry: &EntryPlus| String::from_utf8(entry.entry.name.to_vec()).unwrap();
                    names.extend(reply.entries.iter().map(name));
                    match reply.goes_on_at() {
                        next if next == end => break,
                        Some(next) => offset = next,
                        None => panic!("part {part} ends the listing"),
                    }
                }
            }
            names
        })
        .0
    }

    pub(super) fn names(&self, directory: &Arc<Inode>, size: u32) -> Vec<String> {
        let name = |entry: EntryPlus| String::from_utf8(entry.entry.name.to_vec()).unwrap();
        let mut names: Vec<String> = self.list(directory, size).into_iter().map(name).collect();
        names.sort();
        names
    }

    pub(super) fn disk(&self, brick: usize, path: &str) -> DiskLayout {
        DiskLayout::decode(&self.bricks[brick].xattr(path, keys::LAYOUT).unwrap()).unwrap()
    }

    /// A name that belongs to brick `index` in a directory of the usual two ranges.
    pub(super) fn name_at(&self, path: &str, index: usize, number: usize) -> String {
        let layout = self.disk(index, path);
        let names = (0..).map(|count| format!("f{count}"));
        names.filter(|name| layout.contains(hash::hash(name.as_bytes()))).nth(number).unwrap()
    }
}

pub(super) fn errno<T>(result: FopResult<T>) -> Errno {
    match result {
        Ok(_) => panic!("succeeded"),
        Err(FopError { errno, .. }) => errno,
    }
}

#[test]
fn the_first_lookup_gives_the_root_its_layout() {
    let cluster = Cluster::new(2);
    assert_eq!(cluster.disk(0, "/"), DiskLayout { commit_hash: 1, kind: 0, start: 0, stop: 0x7fff_fffe });
    assert_eq!(cluster.disk(1, "/"), DiskLayout { commit_hash: 1, kind: 0, start: 0x7fff_ffff, stop: u32::MAX });
    // The next client finds it and leaves it.
    let second = cluster.second_client();
    assert_eq!(second.disk(0, "/").commit_hash, 1);
    let loc = Loc::inode(second.root.clone());
    let (found, rounds) = second.run(|context, top| async move { top.lookup(&context, &loc, Dict::NULL).await });
    assert_eq!((found.unwrap().stat.size, rounds), (4096, 1));
    assert_eq!(second.traces(), [["LOOKUP"], ["LOOKUP"]]);
}

#[test]
fn mkdir_leaves_what_a_c_client_leaves() {
    let cluster = Cluster::new(2);
    let (directory, rounds) = cluster.mkdir(&cluster.root, "d1");
    directory.unwrap();
    assert_eq!(rounds, 7);
    let hashed = usize::from(hash::hash(b"d1") >= 0x7fff_ffff);
    let expected = |brick| match brick == hashed {
        true => vec![keys::LAYOUT, keys::MDS],
        false => vec![keys::LAYOUT],
    };
    for brick in 0..2 {
        assert_eq!(cluster.bricks[brick].xattr_names("/d1"), expected(brick));
        assert_eq!(cluster.disk(brick, "/d1").commit_hash, 0);
    }
    let trace = &cluster.traces()[hashed];
    let steps: Vec<&str> = trace.iter().map(String::as_str).filter(|step| !step.contains("STATFS")).collect();
    let locked = ["INODELK dht.layout.heal", "ENTRYLK d1", "MKDIR d1", "INODELK dht.layout.heal", "LOOKUP", "SETXATTR"];
    // The path, which the C client knows, is asked for beside the LOOKUP.
    let extra = |step: &str| step.contains("UNLK") || step.contains(keys::ANCESTRY_PATH);
    let without_unlocks: Vec<&str> = steps.iter().copied().filter(|step| !extra(step)).collect();
    assert_eq!(without_unlocks, locked);
    assert_eq!(errno(cluster.mkdir(&cluster.root, "d1").0), Errno::EEXIST);
}

#[test]
fn common_operations_take_one_round() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    cluster.forget();
    for brick in 0..2 {
        let name = cluster.name_at("/d", brick, 0);
        let (missing, rounds) = cluster.lookup(&directory, &name);
        assert_eq!((errno(missing), rounds), (Errno::ENOENT, 1), "lookup of what is not there");
        let (inode, rounds) = cluster.create(&directory, &name);
        let inode = inode.unwrap();
        assert_eq!(rounds, 1, "create");
        assert_eq!(cluster.lookup(&directory, &name).1, 1, "lookup");
        let loc = Loc::entry(directory.clone(), name.clone(), inode.clone());
        let again = cluster.run(|context, top| async move { top.lookup(&context, &loc, Dict::NULL).await });
        assert_eq!(again.1, 1, "revalidate");
        let fd = Fd::new(inode.clone(), libc::O_RDWR, 42);
        let data = [Bytes::from_static(b"hello")].into_iter().collect();
        let written =
            cluster.run(|context, top| async move { top.writev(&context, &fd, data, 0, 0, Dict::NULL).await });
        assert_eq!((written.0.unwrap().written, written.1), (5, 1), "write");
        assert_eq!(cluster.unlink(&directory, &name, &inode).1, 1, "unlink");
        let asked: Vec<usize> = cluster.traces().iter().map(Vec::len).collect();
        assert_eq!(asked[1 - brick], 0, "the other brick has nothing to do with it");
    }
    let name = cluster.name_at("/d", 0, 0);
    cluster.mkdir(&directory, &name).0.unwrap();
    assert_eq!(cluster.lookup(&directory, &name).1, 2, "a directory is on all bricks");
    assert_eq!(cluster.rmdir(&directory, &name).1, 6, "rmdir");
}

#[test]
fn one_brick_is_passed_through() {
    let cluster = Cluster::new(1);
    let (directory, rounds) = cluster.mkdir(&cluster.root, "d");
    let directory = directory.unwrap();
    assert_eq!(rounds, 1);
    assert_eq!(cluster.disk(0, "/d"), DiskLayout { commit_hash: 0, kind: 0, start: 0, stop: u32::MAX });
    assert_eq!(cluster.lookup(&cluster.root, "d").1, 1);
    let (file, rounds) = cluster.create(&directory, "f");
    let file = file.unwrap();
    assert_eq!((rounds, cluster.lookup(&directory, "f").1), (1, 1));
    assert_eq!(cluster.names(&directory, 4096), [".", "..", "f"]);
    assert_eq!(cluster.rename((&directory, "f"), (&directory, "g")).1, 1);
    assert_eq!(cluster.unlink(&directory, "g", &file).1, 1);
    assert_eq!(cluster.rmdir(&cluster.root, "d").1, 1);
}

#[test]
fn a_full_brick_gets_a_linkto() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let name = cluster.name_at("/d", 1, 0);
    cluster.bricks[1].fill();
    block(cluster.top.core.ask_usage());
    let inode = cluster.create(&directory, &name).0.unwrap();
    assert_eq!(cluster.bricks[0].list("/d"), [name.as_str()]);
    assert_eq!(cluster.bricks[1].list("/d"), [format!("{name}@")]);
    let path = format!("/d/{name}");
    assert_eq!(cluster.bricks[1].xattr(&path, keys::LINKTO).unwrap(), &b"v-client-0\0"[..], "with its NUL");
    assert_eq!(cluster.bricks[0].xattr_names(&path), Vec::<String>::new(), "no stray xattrs on the file");
    let second = cluster.second_client();
    let (found, rounds) = second.lookup(&second.find(&second.root, "d"), &name);
    assert_eq!((found.unwrap().gfid(), rounds), (inode.gfid(), 2), "the linkto is followed");
    assert_eq!(cluster.names(&directory, 4096), [".", "..", &name], "the linkto is not listed");
    cluster.unlink(&directory, &name, &inode).0.unwrap();
    assert!(cluster.bricks.iter().all(|brick| brick.list("/d").is_empty()), "the linkto goes with the file");
}

#[test]
fn new_files_go_where_nufa_and_switch_say() {
    for option in [("local-volume-name", "v-client-0"), ("pattern.switch.case", "/d/*:v-client-0;/e/*:v-client-1")] {
        let cluster = Cluster::with(3, &[option]);
        let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
        let name = cluster.name_at("/d", 2, 0);
        let inode = cluster.create(&directory, &name).0.unwrap();
        assert_eq!(cluster.bricks[0].list("/d"), [name.as_str()]);
        assert_eq!(cluster.bricks[2].list("/d"), [format!("{name}@")], "its home knows where");
        let second = cluster.second_client();
        assert_eq!(second.find(&second.find(&second.root, "d"), &name).gfid(), inode.gfid());
        cluster.unlink(&directory, &name, &inode).0.unwrap();
        cluster.bricks[0].set_down(true);
        cluster.create(&directory, &name).0.unwrap();
        assert_eq!(cluster.bricks[2].list("/d"), [name.as_str()], "better at home than nowhere");
    }
}

#[test]
fn clients_that_see_different_free_space_make_one_file() {
    for first_choice in [0, 2] {
        let cluster = Cluster::new(3);
        let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
        let name = cluster.name_at("/d", 1, 0);
        // Another client found the home full, and has made the linkto but not yet the file.
        let (loc, gfid) = (Loc::entry(directory.clone(), name.clone(), Inode::fresh()), fresh_gfid());
        let context = Context::internal();
        block(cluster.top.core.make_linkto(&context, &loc, gfid, 1, first_choice, Dict::NULL)).unwrap();
        cluster.bricks[1].fill();
        block(cluster.top.core.ask_usage());
        let made = cluster.create(&directory, &name).0.unwrap();
        assert_eq!(made.gfid(), gfid, "that of the linkto, or no lookup would find the file");
        assert_eq!(cluster.bricks[first_choice].list("/d"), [name.as_str()]);
        assert!(cluster.bricks[2 - first_choice].list("/d").is_empty(), "one file");
        let second = cluster.second_client();
        assert_eq!(second.find(&second.find(&second.root, "d"), &name).gfid(), gfid);
    }
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let name = cluster.name_at("/d", 1, 0);
    cluster.create(&directory, &name).0.unwrap();
    cluster.bricks[1].fill();
    block(cluster.top.core.ask_usage());
    assert_eq!(errno(cluster.create(&directory, &name).0), Errno::EEXIST);
    assert!(cluster.bricks[0].list("/d").is_empty(), "no second file beside the one that came first");
}

#[test]
fn a_file_off_its_place_is_found_and_linked() {
    let cluster = Cluster::new(2);
    // The root's commit hash is 1: names may be anywhere.
    let name = cluster.name_at("/", 0, 0);
    let other = cluster.name_at("/", 1, 0);
    cluster.create(&cluster.root, &other).0.unwrap();
    // Renaming behind everybody's back leaves the file off its place.
    let (old, new) = (other.clone(), name.clone());
    let brick = cluster.bricks[1].clone();
    let root = cluster.root.clone();
    block(async move {
        let old = Loc::entry(root.clone(), old, Inode::fresh());
        let new = Loc::entry(root, new, Inode::fresh());
        brick.rename(&Context::internal(), &old, &new, Dict::NULL).await.unwrap();
    });
    let found = cluster.find(&cluster.root, &name);
    assert_eq!(cluster.bricks[0].list("/"), [format!("{name}@")]);
    assert_eq!(cluster.find(&cluster.root, &name).gfid(), found.gfid());
    // The data vanishes: the linkto that is left must not keep the name from being used again.
    cluster.bricks[1].lose(&format!("/{name}"));
    let second = cluster.second_client();
    assert_eq!(errno(second.lookup(&second.root, &name).0), Errno::ENOENT);
    assert!(cluster.bricks[0].list("/").is_empty());
    second.create(&second.root, &name).0.unwrap();
}

#[test]
fn a_changed_layout_of_the_parent_is_noticed() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let name = cluster.name_at("/d", 0, 0);
    let sub = cluster.name_at("/d", 0, 1);
    let (low, high) = (cluster.disk(0, "/d"), cluster.disk(1, "/d"));
    cluster.bricks[0].put_xattr("/d", keys::LAYOUT, Some(&high.encode()));
    cluster.bricks[1].put_xattr("/d", keys::LAYOUT, Some(&low.encode()));
    cluster.create(&directory, &name).0.unwrap();
    assert_eq!(cluster.bricks[1].list("/d"), [name.as_str()], "made where the new layout says");
    assert!(cluster.bricks[1].xattr_names(&format!("/d/{name}")).is_empty());
    // The layout is known now; change it back for mkdir.
    cluster.bricks[0].put_xattr("/d", keys::LAYOUT, Some(&low.encode()));
    cluster.bricks[1].put_xattr("/d", keys::LAYOUT, Some(&high.encode()));
    cluster.mkdir(&directory, &sub).0.unwrap();
    assert!(cluster.bricks[0].xattr(&format!("/d/{sub}"), keys::MDS).is_some(), "its home is the MDS");
}

#[test]
fn links_across_bricks() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let (here, there) = (cluster.name_at("/d", 0, 0), cluster.name_at("/d", 1, 0));
    let inode = cluster.create(&directory, &here).0.unwrap();
    cluster.link(&directory, &here, &there).unwrap();
    assert_eq!(cluster.bricks[1].list("/d"), [format!("{there}@")]);
    assert_eq!(cluster.second_client().find(&directory, &there).gfid(), inode.gfid());
    assert_eq!(errno(cluster.link(&directory, &here, &there)), Errno::EEXIST);
    assert_eq!(cluster.second_client().find(&directory, &there).gfid(), inode.gfid(), "a failed link harms nothing");
    cluster.unlink(&directory, &here, &inode).0.unwrap();
    assert_eq!(cluster.second_client().find(&directory, &there).gfid(), inode.gfid());
}

#[test]
fn a_link_is_made_by_one_client_alone() {
    let cluster = Cluster::new(3);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let (mine, theirs) = (cluster.name_at("/d", 0, 0), cluster.name_at("/d", 1, 0));
    let lock = cluster.name_at("/d", 2, 0);
    cluster.create(&directory, &mine).0.unwrap();
    let other = cluster.create(&directory, &theirs).0.unwrap();
    // Another client links its file to that name, and is half done.
    let loc = Loc::entry(directory.clone(), lock.clone(), Inode::fresh());
    let context = Context::internal();
    block(cluster.top.core.make_linkto(&context, &loc, other.gfid(), 2, 1, Dict::NULL)).unwrap();
    assert_eq!(errno(cluster.link(&directory, &mine, &lock)), Errno::EEXIST);
    cluster.link(&directory, &theirs, &lock).unwrap();
    assert_eq!(cluster.find(&directory, &lock).gfid(), other.gfid());
    // A file at its home.
    let taken = cluster.name_at("/d", 2, 1);
    cluster.create(&directory, &taken).0.unwrap();
    assert_eq!(errno(cluster.link(&directory, &mine, &taken)), Errno::EEXIST);
    assert_eq!(cluster.bricks[0].list("/d"), [mine]);
}

#[test]
fn a_linkto_that_was_taken_for_stale_is_made_again() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let (name, new) = (cluster.name_at("/d", 0, 0), cluster.name_at("/d", 1, 0));
    let file = cluster.create(&directory, &name).0.unwrap();
    cluster.link(&directory, &name, &new).unwrap();
    let loc = Loc::entry(directory.clone(), new.clone(), Inode::fresh());
    block(cluster.top.core.remove_stale_linkto(&Context::internal(), &loc, 1)).unwrap();
    assert!(cluster.bricks[1].list("/d").is_empty());
    let stat = rgfs_protocol::Iatt { gfid: file.gfid(), mode: 0o100_644, ..Default::default() };
    block(cluster.top.core.own_linkto(&Context::internal(), &loc, 1, &stat, 0));
    assert_eq!(cluster.bricks[1].list("/d"), [format!("{new}@")]);
}

#[test]
fn files_are_renamed_over_all_kinds_of_names() {
    // Homes of the old and new name; whether the file is off its home; what has the new name: 0 nothing, 1 a file at home, 2 a
    // file off its home.
    for case in 0..24 {
        let (old_home, new_home, off, target) = (case & 1, case >> 1 & 1, case >> 2 & 1 == 1, case >> 3);
        let cluster = Cluster::new(2);
        let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
        let (old, new) = (cluster.name_at("/d", old_home, 0), cluster.name_at("/d", new_home, 5));
        let helper = |home: usize, number| cluster.name_at("/d", home, number);
        // A file that is off its home got there by a rename.
        let make = |name: &str, home: usize, off: bool, number| {
            if off {
                let made = helper(1 - home, number);
                let inode = cluster.create(&directory, &made).0.unwrap();
                cluster.rename((&directory, &made), (&directory, name)).0.unwrap();
                inode
            } else {
                cluster.create(&directory, name).0.unwrap()
            }
        };
        let inode = make(&old, old_home, off, 8);
        if target > 0 {
            make(&new, new_home, target == 2, 9);
        }
        let (renamed, _) = cluster.rename((&directory, &old), (&directory, &new));
        assert_eq!(renamed.unwrap().gfid, inode.gfid(), "case {case}");
        let second = cluster.second_client();
        assert_eq!(second.find(&directory, &new).gfid(), inode.gfid(), "case {case}");
        assert_eq!(errno(second.lookup(&directory, &old).0), Errno::ENOENT, "case {case}");
        assert_eq!(second.names(&directory, 4096), [".", "..", &new], "case {case}");
        let left: Vec<String> = cluster.bricks.iter().flat_map(|brick| brick.list("/d")).collect();
        let names = left.iter().filter(|name| !name.ends_with('@')).count();
        assert!(names == 1 && left.len() <= 2, "case {case}: {left:?}");
    }
}

/// Over a file that rebalance has moved to its home, and has not removed from where it was.
#[test]
fn a_rename_outlasts_the_removal_of_what_was_moved_away() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let (old, new) = (cluster.name_at("/d", 0, 0), cluster.name_at("/d", 1, 5));
    let inode = cluster.create(&directory, &old).0.unwrap();
    let replaced = cluster.create(&directory, &new).0.unwrap();
    cluster.bricks[0].plant(&format!("/d/{new}"), replaced.gfid(), 0o100_644, &[]);
    cluster.bricks[0].take_trace();
    assert_eq!(cluster.rename((&directory, &old), (&directory, &new)).0.unwrap().gfid, inode.gfid());
    let trace = cluster.bricks[0].take_trace();
    // Tried once more after rebalance was waited for, and only then done over what is still there.
    let links: Vec<_> = trace.iter().enumerate().filter(|(_, call)| call.starts_with("LINK")).collect();
    let [(first, _), (second, _)] = links[..] else { panic!("{trace:#?}") };
    assert!(trace[first..second].iter().any(|call| call.starts_with("LOOKUP")), "{trace:#?}");
    let second = cluster.second_client();
    assert_eq!(second.find(&directory, &new).gfid(), inode.gfid());
    assert_eq!(second.names(&directory, 4096), [".", "..", &new]);
}

#[test]
fn directories_are_renamed_everywhere_or_nowhere() {
    let cluster = Cluster::new(3);
    let a = cluster.mkdir(&cluster.root, "a").0.unwrap();
    cluster.create(&a, "inside").0.unwrap();
    cluster.mkdir(&cluster.root, "empty").0.unwrap();
    cluster.rename((&cluster.root, "a"), (&cluster.root, "b")).0.unwrap();
    cluster.rename((&cluster.root, "b"), (&cluster.root, "empty")).0.unwrap();
    for brick in &cluster.bricks {
        assert_eq!(brick.list("/"), ["empty/"]);
    }
    let renamed = cluster.find(&cluster.root, "empty");
    assert_eq!(renamed.gfid(), a.gfid());
    cluster.find(&renamed, "inside");
    cluster.mkdir(&cluster.root, "c").0.unwrap();
    assert_eq!(errno(cluster.rename((&cluster.root, "c"), (&cluster.root, "empty")).0), Errno::ENOTEMPTY);
    for brick in &cluster.bricks {
        assert_eq!(brick.list("/"), ["c/", "empty/"]);
    }
}

#[test]
fn rmdir_wants_all_bricks_empty() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let name = cluster.name_at("/d", 1, 0);
    cluster.bricks[1].fill();
    block(cluster.top.core.ask_usage());
    let inode = cluster.create(&directory, &name).0.unwrap();
    assert_eq!(errno(cluster.rmdir(&cluster.root, "d").0), Errno::ENOTEMPTY);
    assert_eq!(cluster.bricks[1].list("/d"), [format!("{name}@")], "a linkto with a file stays");
    // The file goes without its linkto.
    cluster.bricks[0].lose(&format!("/d/{name}"));
    drop(inode);
    let (removed, rounds) = cluster.rmdir(&cluster.root, "d");
    removed.unwrap();
    assert!(rounds <= 10, "{rounds}");
    assert!(cluster.bricks.iter().all(|brick| brick.list("/").is_empty()));
    assert_eq!(errno(cluster.lookup(&cluster.root, "d").0), Errno::ENOENT);
}

#[test]
fn listings_of_two_bricks_skip_a_round() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    for brick in 0..2 {
        cluster.create(&directory, &cluster.name_at("/d", brick, 0)).0.unwrap();
    }
    cluster.forget();
    let entries = cluster.list(&directory, 1 << 17);
    assert_eq!(cluster.traces(), [["OPENDIR", "READDIRP"], ["OPENDIR", "READDIRP"]]);
    for entry in entries.iter().filter(|entry| entry.entry.kind == FileType::Regular.to_dirent()) {
        let inode = entry.inode.clone().unwrap();
        inode.identify(entry.stat.gfid, entry.stat.file_type());
        let fd = Fd::new(inode.clone(), libc::O_RDONLY, 42);
        let (opened, rounds) = cluster.run(|context, top| async move {
            top.open(&context, &Loc::inode(inode), libc::O_RDONLY, &fd, Dict::NULL).await
        });
        opened.unwrap();
        assert_eq!(rounds, 1, "a listed file opens without a lookup");
    }
}

#[test]
fn attributes_and_xattrs_of_directories_are_on_all_bricks() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let loc = Loc::inode(directory.clone());
    let ((), _) = cluster.run(|context, top| async move {
        let stat = Iatt { mode: 0o700, ..Iatt::default() };
        let set = top.setattr(&context, &loc, &stat, 1, Dict::NULL).await.unwrap();
        assert_eq!(set.post.mode, 0o040_700);
        let dict = Dict::empty().with("user.a", Value::Ptr(Bytes::from_static(b"x")));
        top.setxattr(&context, &loc, dict, 0, Dict::NULL).await.unwrap();
        let own = Dict::empty().with(keys::LAYOUT, Value::Ptr(Bytes::new()));
        assert_eq!(errno(top.setxattr(&context, &loc, own, 0, Dict::NULL).await), Errno::EPERM);
        let all = top.getxattr(&context, &loc, None, Dict::NULL).await.unwrap().dict;
        assert_eq!(all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), ["user.a"]);
        let hashed = top.getxattr(&context, &loc, Some("dht.file.hashed-subvol.x"), Dict::NULL).await.unwrap();
        assert!(hashed.dict.bytes("dht.file.hashed-subvol.x").unwrap().starts_with(b"v-client-"));
        let total = top.statfs(&context, &loc, Dict::NULL).await.unwrap().statfs;
        assert_eq!((total.blocks, total.files), (2000, 200));
    });
    for brick in &cluster.bricks {
        assert_eq!(brick.xattr("/d", "user.a").unwrap(), &b"x"[..]);
        assert!(brick.xattr("/d", keys::MDS).is_none_or(|counter| counter == [0; 4][..]));
    }
}

#[test]
fn bits_that_a_user_sets_are_not_taken_for_a_migration() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let name = cluster.name_at("/d", 0, 0);
    let loc = Loc::inode(cluster.create(&directory, &name).0.unwrap());
    let modes = |cluster: &Cluster| {
        let loc = loc.clone();
        let entry = Loc::entry(directory.clone(), name.clone(), Inode::fresh());
        let (modes, _) = cluster.run(|context, top| async move {
            let stat = Iatt { mode: 0o3644, ..Iatt::default() };
            let set = top.setattr(&context, &loc, &stat, 1, Dict::NULL).await.unwrap().post.mode;
            let seen = top.stat(&context, &loc, Dict::NULL).await.unwrap().stat.mode;
            [set, seen, top.lookup(&context, &entry, Dict::NULL).await.unwrap().stat.mode]
        });
        modes
    };
    assert_eq!(modes(&cluster), [0o103_644; 3]);
    cluster.bricks[0].put_xattr(&format!("/d/{name}"), keys::LINKTO, Some(b"v-client-1\0"));
    assert_eq!(modes(&cluster), [0o100_644; 3]);
}

#[test]
fn a_brick_that_is_away_hides_nothing_as_absent() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let (up, down) = (cluster.name_at("/d", 0, 0), cluster.name_at("/d", 1, 0));
    let file = cluster.create(&directory, &down).0.unwrap();
    cluster.bricks[1].set_down(true);
    assert_eq!(cluster.top.events().status(), Status::Up);
    assert_eq!(errno(cluster.lookup(&directory, &down).0), Errno::ENOTCONN);
    assert_eq!(errno(cluster.create(&directory, &cluster.name_at("/d", 1, 1).replace("/d", "")).0), Errno::ENOTCONN);
    cluster.create(&directory, &up).0.unwrap();
    assert!(cluster.names(&directory, 4096).contains(&up));
    assert_eq!(errno(cluster.rename((&cluster.root, "d"), (&cluster.root, "e")).0), Errno::ENOTCONN);
    assert_eq!(errno(cluster.rmdir(&cluster.root, "d").0), Errno::ENOTCONN);
    cluster.bricks[0].set_down(true);
    assert!(matches!(cluster.top.events().status(), Status::Down(_)));
    cluster.bricks[0].set_down(false);
    cluster.bricks[1].set_down(false);
    assert_eq!(cluster.find(&directory, &down).gfid(), file.gfid());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_listing_has_every_name_once(
        files in prop::collection::btree_set("[a-z]{1,6}", 0..40),
        directories in prop::collection::btree_set("[A-Z]{1,4}", 0..8),
        bricks in 2usize..5,
        size in prop::sample::select(vec![256u32, 1024, 4096, 1 << 17]),
    ) {
        let cluster = Cluster::new(bricks);
        for name in &files {
            cluster.create(&cluster.root, name).0.unwrap();
        }
        for name in &directories {
            cluster.mkdir(&cluster.root, name).0.unwrap();
        }
        let mut expected: Vec<String> = files.iter().chain(&directories).cloned().collect();
        expected.extend([".".to_owned(), "..".to_owned()]);
        expected.sort();
        prop_assert_eq!(cluster.names(&cluster.root, size), expected.clone());
        let mut parts = cluster.parts(&cluster.root, size);
        parts.sort();
        prop_assert_eq!(parts, expected);
    }
}

/// A file at its home on brick 0 of a volume that was rebalanced; bricks 1 and 2 have linktos from earlier layouts.
fn with_strays(commit_hash: Option<&[u8]>) -> (Cluster, String) {
    let cluster = Cluster::new(3);
    let name = cluster.name_at("/", 0, 0);
    let file = cluster.create(&cluster.root, &name).0.unwrap();
    for brick in &cluster.bricks[1..] {
        brick.plant(&format!("/{name}"), file.gfid(), 0o101_000, &[(keys::LINKTO, b"v-client-2\0")]);
    }
    for brick in &cluster.bricks {
        brick.put_xattr("/", keys::COMMIT_HASH, commit_hash);
    }
    (cluster.second_client(), name)
}

fn bricks_with(cluster: &Cluster, name: &str) -> Vec<usize> {
    let has = |index: &usize| cluster.bricks[*index].stat_of(&format!("/{name}")).is_some();
    (0..cluster.bricks.len()).filter(has).collect()
}

#[test]
fn linktos_that_earlier_layouts_have_left_go_with_the_name() {
    let (cluster, name) = with_strays(Some(b"8\0"));
    let file = cluster.find(&cluster.root, &name);
    cluster.unlink(&cluster.root, &name, &file).0.unwrap();
    assert!(bricks_with(&cluster, &name).is_empty());

    for home in 0..3 {
        let (cluster, name) = with_strays(Some(b"8\0"));
        let next = cluster.name_at("/", home, 5);
        cluster.rename((&cluster.root, &name), (&cluster.root, &next)).0.unwrap();
        assert!(bricks_with(&cluster, &name).is_empty(), "to {home}");
        assert_eq!(cluster.names(&cluster.root, 4096), [".", "..", &next]);
    }

    // Over a name that has such linktos.
    let (cluster, name) = with_strays(Some(b"8\0"));
    let other = cluster.name_at("/", 0, 5);
    cluster.create(&cluster.root, &other).0.unwrap();
    cluster.rename((&cluster.root, &other), (&cluster.root, &name)).0.unwrap();
    assert_eq!(bricks_with(&cluster, &name), [0]);
}

#[test]
fn a_file_is_never_taken_for_such_a_linkto() {
    let (cluster, name) = with_strays(Some(b"8\0"));
    let file = cluster.find(&cluster.root, &name);
    cluster.bricks[2].own(&format!("/{name}"), 0, 0o100_644);
    cluster.unlink(&cluster.root, &name, &file).0.unwrap();
    assert_eq!(bricks_with(&cluster, &name), [2]);
}

#[test]
fn nobody_looks_for_them_in_a_volume_that_was_never_rebalanced() {
    let (cluster, name) = with_strays(None);
    let file = cluster.find(&cluster.root, &name);
    cluster.forget();
    let (removed, rounds) = cluster.unlink(&cluster.root, &name, &file);
    removed.unwrap();
    assert_eq!((rounds, cluster.traces()[1].len(), cluster.traces()[2].len()), (1, 0, 0));
}

#[test]
fn an_unreachable_brick_is_named_before_one_that_leaves() {
    let bricks: Vec<_> = (0..3).map(|index| MemoryBrick::new(&format!("v-client-{index}"))).collect();
    let cluster = Cluster::over(bricks, &[("decommissioned-bricks", "v-client-1")]);
    let name = cluster.name_at("/", 0, 0);
    let origin = || cluster.lookup(&cluster.root, &name).0.unwrap_err().origin;
    cluster.bricks[1].set_down(true);
    assert_eq!(&*origin(), "v-client-1");
    cluster.bricks[2].set_down(true);
    assert_eq!(&*origin(), "v-client-2");
}

/// A brick is stopped when all its files have moved, and clients hear of that later.
#[test]
fn a_file_is_found_where_it_went_from_a_brick_that_was_taken_out() {
    for moved in [true, false] {
        let bricks: Vec<_> = (0..3).map(|index| MemoryBrick::new(&format!("v-client-{index}"))).collect();
        let cluster = Cluster::over(bricks, &[("decommissioned-bricks", "v-client-0")]);
        let (name, gfid) = (cluster.name_at("/", 1, 0), fresh_gfid());
        let path = format!("/{name}");
        cluster.bricks[0].plant(&path, gfid, 0o100_644, &[]);
        cluster.bricks[1].plant(&path, gfid, 0o101_000, &[(keys::LINKTO, b"v-client-0\0")]);
        let inode = cluster.find(&cluster.root, &name);
        let fd = Fd::new(inode.clone(), libc::O_RDWR | libc::O_APPEND, 42);
        let (loc, opened) = (Loc::entry(cluster.root.clone(), name, inode), fd.clone());
        cluster.run(|context, top| async move {
            top.open(&context, &loc, opened.flags, &opened, Dict::NULL).await.unwrap();
        });
        if moved {
            cluster.bricks[1].lose(&path);
            cluster.bricks[1].plant(&path, gfid, 0o100_644, &[]);
        }
        cluster.bricks[0].set_down(true);
        let data = smallvec::smallvec![Bytes::from_static(b"line")];
        let (written, _) =
            cluster.run(|context, top| async move { top.writev(&context, &fd, data, 0, 0, Dict::NULL).await });
        match moved {
            true => {
                written.unwrap();
                assert_eq!(cluster.bricks[1].data(&path), b"line");
            }
            // The graph without the brick may know.
            false => assert_eq!(&*written.unwrap_err().origin, "v-client-0"),
        }
    }
}
