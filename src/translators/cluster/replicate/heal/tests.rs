//! Heals on a simulated cluster: a brick misses something, comes back, is healed, and then is like the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::types::set_attr;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Time, Value};

use super::super::core::Core;
use super::super::options::Options;
use super::super::status;
use super::super::target::Target;
use super::HealOutcome;
use crate::graph::testing::volume;
use crate::reply::Payload;
use crate::simulation::{Cluster, Layout};
use crate::{Context, Fd, FopResult, Inode, Loc};

const VOLUME_ID: &str = "8c3ad1f2-3a4b-4e0f-9d3c-0123456789ab";
const O_CREAT: i32 = 0o100;
const O_RDONLY: i32 = 0;
const O_RDWR: i32 = 2;

/// A cluster with one client, whose replicate works as a volume's usually does.
struct Rig {
    cluster: Cluster,
    core: Arc<Core>,
    /// Number of gfids so far.
    made: AtomicU8,
}

impl Rig {
    fn new(arbiter: bool, options: &[(&str, &str)]) -> Self {
        let layout = Layout { replicas: 3, arbiter };
        let cluster = Cluster::new(7, layout, 1);
        let mut all = vec![("granular-entry-heal", "on"), ("use-anonymous-inode", "yes"), ("volume-id", VOLUME_ID)];
        all.push(("arbiter-count", if arbiter { "1" } else { "0" }));
        all.extend_from_slice(options);
        let options = Options::read(&volume("cluster/replicate", &all).options, 3).unwrap();
        let core = Core::new("v-replicate-0".into(), cluster.children(0), options, cluster.clock(0));
        let core = Arc::new(core);
        status::watch(&core);
        cluster.settle();
        Rig { cluster, core, made: AtomicU8::new(1) }
    }

    fn plain() -> Self {
        Rig::new(false, &[])
    }

    /// All bricks, plain and with an arbiter.
    fn both() -> [Self; 2] {
        [Rig::plain(), Rig::new(true, &[])]
    }

    fn inode(&self, path: &str) -> Arc<Inode> {
        if path.is_empty() || path == "/" {
            return Inode::known(Gfid::ROOT, FileType::Directory);
        }
        let object = (0..3).find_map(|brick| self.cluster.object(brick, path)).expect("some brick has it");
        Inode::known(object.stat.gfid, object.stat.file_type())
    }

    fn loc(&self, path: &str, inode: Arc<Inode>) -> Loc {
        let (parent, name) = path.rsplit_once('/').unwrap();
        Loc::entry(self.inode(parent), name.to_owned(), inode)
    }

    fn fresh(&self, path: &str) -> (Loc, Dict) {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(Gfid::from_random([number; 16])));
        (self.loc(path, Inode::fresh()), xdata)
    }

    fn run<T>(&self, future: impl Future<Output = FopResult<T>>) -> T {
        self.cluster.block_on(future).unwrap()
    }

    fn create(&self, path: &str, text: &str) {
        let (loc, xdata) = self.fresh(path);
        let fd = Fd::new(loc.inode.clone(), O_RDWR | O_CREAT, 1);
        let gfid = super::super::new_entry::requested_gfid(&xdata).unwrap();
        let context = Context::internal();
        self.run(self.core.create(&context, &loc, O_RDWR | O_CREAT, 0o644, 0, &fd, xdata));
        loc.inode.identify(gfid, FileType::Regular);
        self.write_to(&fd, text, 0);
    }

    fn write_to(&self, fd: &Arc<Fd>, text: &str, offset: u64) {
        if !text.is_empty() {
            let data = Payload::from_iter([Bytes::copy_from_slice(text.as_bytes())]);
            self.run(self.core.writev(&Context::internal(), fd, data, offset, 0, Dict::NULL));
        }
        self.cluster.run_for(Duration::from_secs(3));
    }

    fn write(&self, path: &str, text: &str, offset: u64) {
        let inode = self.inode(path);
        let fd = Fd::new(inode.clone(), O_RDWR, 1);
        let up = self.core.snapshot().up;
        for child in up.iter() {
            let loc = Loc::inode(inode.clone());
            self.run(self.core.child(child).open(&Context::internal(), &loc, O_RDWR, &fd, Dict::NULL));
        }
        self.core.fd(&fd).set_opened(up);
        self.write_to(&fd, text, offset);
    }

    fn mkdir(&self, path: &str) {
        let (loc, xdata) = self.fresh(path);
        self.run(self.core.mkdir(&Context::internal(), &loc, 0o755, 0, xdata));
    }

    fn symlink(&self, path: &str, target: &'static str) {
        let (loc, xdata) = self.fresh(path);
        self.run(self.core.symlink(&Context::internal(), &loc, target.into(), 0, xdata));
    }

    fn unlink(&self, path: &str) {
        let loc = self.loc(path, self.inode(path));
        self.run(self.core.unlink(&Context::internal(), &loc, 0, Dict::NULL));
    }

    fn rmdir(&self, path: &str) {
        let loc = self.loc(path, self.inode(path));
        self.run(self.core.rmdir(&Context::internal(), &loc, 0, Dict::NULL));
    }

    fn rename(&self, old: &str, new: &str) {
        let (old, new) = (self.loc(old, self.inode(old)), self.loc(new, Inode::fresh()));
        self.run(self.core.rename(&Context::internal(), &old, &new, Dict::NULL));
    }

    fn link(&self, old: &str, new: &str) {
        let (old, new) = (self.loc(old, self.inode(old)), self.loc(new, self.inode(old)));
        self.run(self.core.link(&Context::internal(), &old, &new, Dict::NULL));
    }

    fn chmod(&self, path: &str, mode: u32) {
        let stat = Iatt { mode, ..Iatt::default() };
        let loc = Loc::inode(self.inode(path));
        self.run(self.core.setattr(&Context::internal(), &loc, &stat, set_attr::MODE, Dict::NULL));
        self.cluster.run_for(Duration::from_secs(3));
    }

    /// `change` happens while a brick is down.
    fn without(&self, brick: usize, change: impl FnOnce()) {
        self.cluster.kill_brick(brick);
        self.cluster.run_for(Duration::from_secs(1));
        change();
        self.cluster.run_for(Duration::from_secs(3));
        self.cluster.restart_brick(brick);
        self.cluster.run_for(Duration::from_secs(3));
    }

    fn heal(&self, path: &str) -> FopResult<HealOutcome> {
        let inode = self.inode(path);
        self.cluster.block_on(self.core.heal_inode(&inode))
    }

    /// What the self-heal daemon does, until there is nothing left to do.
    fn crawl(&self) {
        for _ in 0..8 {
            for brick in 0..3 {
                for gfid in self.cluster.pending_gfids(brick) {
                    let inode = Inode::known(gfid, FileType::Unknown);
                    let result = self.cluster.block_on(self.core.heal_inode(&inode));
                    if let Err(error) = result {
                        assert!(matches!(error.errno, Errno::EIO | Errno::ESTALE), "{error}");
                    }
                }
            }
        }
    }

    /// All copies are equal, and nothing is noted any more.
    fn assert_whole(&self) {
        let trash = format!("/.glusterfs-anonymous-inode-{VOLUME_ID}");
        let differences: Vec<_> =
            self.cluster.compare_bricks().into_iter().filter(|line| !line.starts_with(&trash)).collect();
        assert!(differences.is_empty(), "{differences:#?}\n{:#?}", self.cluster.marks());
        assert!(self.cluster.marks().is_empty(), "{:#?}", self.cluster.marks());
        for brick in 0..3 {
            assert!(self.cluster.pending_gfids(brick).is_empty());
            assert!(self.cluster.index(brick).entry_changes.is_empty(), "{:?}", self.cluster.index(brick));
            assert!(self.cluster.locks(brick).is_empty(), "{:?}", self.cluster.locks(brick));
        }
    }

    /// Makes copies accuse each other of `counters`, as two network splits without quorum would.
    fn split_brain(&self, path: &str, counters: [i32; 3]) {
        let value: Vec<u8> = counters.iter().flat_map(|counter: &i32| counter.to_be_bytes()).collect();
        for brick in 0..3 {
            for other in (0..3).filter(|other| *other != brick) {
                let key = format!("trusted.afr.v-client-{other}");
                self.cluster.put_xattr(brick, path, &key, Some(&value));
            }
        }
    }

    fn tamper(&self, brick: usize, path: &str, data: &str, mtime: i64) {
        self.cluster.tamper(brick, path, |object| {
            object.data = data.as_bytes().to_vec();
            object.stat.size = data.len() as u64;
            object.stat.mtime = Time { sec: mtime, nsec: 0 };
            object.stat.ctime = Time { sec: mtime + 100, nsec: 0 };
        });
    }
}

#[test]
fn content_that_a_brick_missed() {
    for rig in Rig::both() {
        for brick in 0..3 {
            let path = format!("/f{brick}");
            rig.create(&path, "before");
            rig.without(brick, || rig.write(&path, "and after", 3));
            assert!(!rig.cluster.marks().is_empty());
            assert_eq!(rig.heal(&path).unwrap(), HealOutcome::Healed);
            assert_eq!(rig.cluster.data(0, &path).unwrap(), b"befand after");
            rig.assert_whole();
            assert_eq!(rig.heal(&path).unwrap(), HealOutcome::Healthy);
        }
    }
}

#[test]
fn large_content_and_content_cut_short() {
    for options in [&[][..], &[("data-self-heal-algorithm", "full")], &[("data-self-heal-algorithm", "diff")]] {
        let rig = Rig::new(false, options);
        let long: String = (0..300_000).map(|number| char::from(b'a' + (number % 23) as u8)).collect();
        rig.create("/f", &long);
        rig.create("/g", &long);
        rig.create("/h", "");
        rig.without(1, || {
            rig.write("/f", "changed", 200_000);
            let loc = Loc::inode(rig.inode("/g"));
            rig.run(rig.core.truncate(&Context::internal(), &loc, 10, Dict::NULL));
            rig.write("/h", &long, 2_000_000);
        });
        rig.crawl();
        rig.assert_whole();
        assert_eq!(rig.cluster.data(1, "/g").unwrap().len(), 10);
        assert_eq!(rig.cluster.data(1, "/h").unwrap().len(), 2_300_000);
    }
}

#[test]
fn attributes_that_a_brick_missed() {
    for rig in Rig::both() {
        rig.create("/f", "x");
        rig.mkdir("/d");
        let set = |path: &str, key: &'static str| {
            let loc = Loc::inode(rig.inode(path));
            let dict = Dict::empty().with(key, Value::Ptr("1".into()));
            rig.run(rig.core.setxattr(&Context::internal(), &loc, dict, 0, Dict::NULL));
        };
        set("/f", "user.old");
        rig.without(0, || {
            rig.chmod("/f", 0o600);
            rig.chmod("/d", 0o700);
            set("/f", "user.new");
            let loc = Loc::inode(rig.inode("/f"));
            rig.run(rig.core.removexattr(&Context::internal(), &loc, "user.old", Dict::NULL));
        });
        rig.crawl();
        assert_eq!(rig.cluster.object(0, "/f").unwrap().stat.mode, 0o100_600);
        rig.assert_whole();
    }
}

#[test]
fn attributes_that_differ_without_a_trace() {
    let rig = Rig::new(false, &[("metadata-self-heal", "on")]);
    rig.create("/f", "x");
    rig.cluster.tamper(1, "/f", |object| object.stat.uid = 7);
    let loc = rig.loc("/f", Inode::fresh());
    rig.run(rig.core.lookup(&Context::internal(), &loc, Dict::NULL));
    assert_eq!(rig.cluster.object(1, "/f").unwrap().stat.uid, 0);
    rig.assert_whole();
}

#[test]
fn names_that_a_brick_missed() {
    for granular in ["on", "off"] {
        for anonymous in ["on", "off"] {
            for arbiter in [false, true] {
                let rig = Rig::new(arbiter, &[("granular-entry-heal", granular), ("use-anonymous-inode", anonymous)]);
                names_of(&rig);
            }
        }
    }
}

fn names_of(rig: &Rig) {
    rig.mkdir("/old");
    rig.mkdir("/old/sub");
    rig.create("/old/sub/deep", "deep");
    rig.mkdir("/gone");
    rig.create("/moved", "moved");
    rig.create("/removed", "removed");
    rig.create("/linked", "linked");
    rig.create("/replaced", "old");
    rig.without(1, || {
        rig.mkdir("/new");
        rig.mkdir("/new/a");
        rig.create("/new/a/f", "inside");
        rig.symlink("/link", "to");
        rig.rename("/moved", "/new/moved");
        rig.unlink("/removed");
        rig.rmdir("/gone");
        rig.link("/linked", "/new/linked");
        rig.rename("/old/sub", "/new/sub");
        rig.unlink("/replaced");
        rig.mkdir("/replaced");
    });
    rig.crawl();
    assert_eq!(rig.cluster.data(0, "/new/sub/deep").unwrap(), b"deep");
    assert_eq!(rig.cluster.data(0, "/new/a/f").unwrap(), b"inside");
    rig.assert_whole();
}

#[test]
fn a_directory_with_a_lost_end_is_merged() {
    let rig = Rig::plain();
    rig.mkdir("/d");
    rig.create("/d/everywhere", "1");
    rig.create("/d/on two", "2");
    rig.cluster.lose(2, "/d/on two");
    let dirty: Vec<u8> = [0, 0, 1i32].iter().flat_map(|counter| counter.to_be_bytes()).collect();
    rig.cluster.put_xattr(0, "/d", "trusted.afr.dirty", Some(&dirty));
    assert_eq!(rig.heal("/d").unwrap(), HealOutcome::Healed);
    assert!(rig.cluster.object(2, "/d/on two").is_some());
    rig.crawl();
    rig.assert_whole();
}

#[test]
fn a_file_with_a_lost_end_is_like_the_one_that_saw_most() {
    let rig = Rig::plain();
    rig.create("/f", "same");
    rig.tamper(1, "/f", "diff", 5);
    let dirty: Vec<u8> = [2, 0, 0i32].iter().flat_map(|counter| counter.to_be_bytes()).collect();
    rig.cluster.put_xattr(1, "/f", "trusted.afr.dirty", Some(&dirty));
    assert_eq!(rig.heal("/f").unwrap(), HealOutcome::Healed);
    assert_eq!(rig.cluster.data(0, "/f").unwrap(), b"diff");
    rig.assert_whole();
}

#[test]
fn nothing_is_touched_unless_all_bricks_are_there() {
    let rig = Rig::plain();
    rig.mkdir("/d");
    rig.create("/f", "before");
    rig.without(2, || {
        rig.write("/f", "after!", 0);
        rig.chmod("/f", 0o600);
        rig.create("/d/new", "n");
    });
    rig.cluster.kill_brick(0);
    rig.cluster.run_for(Duration::from_secs(1));
    let before = rig.cluster.marks();
    for path in ["/f", "/d"] {
        assert_eq!(rig.heal(path).unwrap_err().errno, Errno::ENOTCONN);
    }
    assert_eq!(rig.cluster.data(2, "/f").unwrap(), b"before");
    assert!(rig.cluster.object(2, "/d/new").is_none());
    assert_eq!(rig.cluster.marks(), before);
    rig.cluster.restart_brick(0);
    rig.cluster.run_for(Duration::from_secs(3));
    rig.crawl();
    rig.assert_whole();
}

#[test]
fn a_sink_that_cannot_be_written_stays_accused() {
    let rig = Rig::plain();
    rig.create("/f", "before");
    rig.without(2, || rig.write("/f", "after!", 0));
    rig.cluster.fail_next(2, "WRITE", Errno::ENOSPC);
    assert_eq!(rig.heal("/f").unwrap_err().errno, Errno::EIO);
    assert_ne!(rig.cluster.changelog(0, "/f", "v-client-2"), [0; 3]);
    assert_ne!(rig.cluster.changelog(1, "/f", "v-client-2"), [0; 3]);
    assert!(!rig.cluster.pending_gfids(0).is_empty());
    assert_eq!(rig.heal("/f").unwrap(), HealOutcome::Healed);
    rig.assert_whole();
}

#[test]
fn split_brains_are_left_alone_or_ended_by_policy() {
    for (policy, winner) in
        [("none", None), ("size", Some(1)), ("mtime", Some(0)), ("ctime", Some(0)), ("majority", None)]
    {
        let rig = Rig::new(false, &[("favorite-child-policy", policy)]);
        rig.create("/f", "x");
        for (brick, text, mtime) in [(0, "zero", 50), (1, "one, the longest", 40), (2, "two", 30)] {
            rig.tamper(brick, "/f", text, mtime);
        }
        rig.split_brain("/f", [1, 0, 0]);
        let before: Vec<_> = (0..3).map(|brick| rig.cluster.data(brick, "/f").unwrap()).collect();
        let healed = rig.heal("/f");
        match winner {
            Some(winner) => {
                assert_eq!(healed.unwrap(), HealOutcome::Healed, "{policy}");
                assert_eq!(rig.cluster.data(2, "/f").unwrap(), before[winner], "{policy}");
                rig.crawl();
                rig.assert_whole();
            }
            None => {
                assert_eq!(healed.unwrap_err().errno, Errno::EIO, "{policy}");
                let after: Vec<_> = (0..3).map(|brick| rig.cluster.data(brick, "/f").unwrap()).collect();
                assert_eq!(before, after);
                assert_eq!(rig.cluster.marks().len(), 6);
            }
        }
    }
}

#[test]
fn an_arbiter_alone_is_no_source() {
    let rig = Rig::new(true, &[]);
    rig.create("/f", "x");
    let one: Vec<u8> = [1, 0, 0i32].iter().flat_map(|counter| counter.to_be_bytes()).collect();
    for accused in 0..2 {
        rig.cluster.put_xattr(2, "/f", &format!("trusted.afr.v-client-{accused}"), Some(&one));
    }
    assert_eq!(rig.heal("/f").unwrap(), HealOutcome::Unneeded);
    assert_eq!(rig.cluster.marks().len(), 2, "what it knows stays");
}

fn look_for(rig: &Rig, path: &str) -> FopResult<()> {
    let loc = rig.loc(path, Inode::fresh());
    rig.cluster.block_on(rig.core.heal_name(&Context::internal(), &loc, None, &Dict::NULL))
}

#[test]
fn a_name_is_healed_where_it_is_looked_for() {
    let rig = Rig::plain();
    rig.without(2, || {
        rig.create("/f", "x");
        rig.mkdir("/d");
    });
    rig.create("/gone", "x");
    rig.without(1, || rig.unlink("/gone"));
    rig.cluster.take_trace();
    let noted_before = rig.cluster.changelog(0, "/f", "v-client-2")[0];
    for path in ["/f", "/d", "/gone"] {
        look_for(&rig, path).unwrap();
    }
    assert!(rig.cluster.object(1, "/gone").is_none());
    assert!(rig.cluster.object(2, "/f").is_some() && rig.cluster.object(2, "/d").is_some());
    let noted = rig.cluster.changelog(0, "/f", "v-client-2")[0];
    assert!(
        noted > noted_before,
        "it has no content yet, whatever a heal under way takes back of what was noted before"
    );
    rig.crawl();
    rig.assert_whole();
}

/// In a directory where something else changes, beside a brick that one client does not see yet.
#[test]
fn a_name_that_was_removed_does_not_come_back() {
    for accused in [true, false] {
        let rig = Rig::plain();
        rig.create("/gone", "x");
        rig.without(1, || rig.unlink("/gone"));
        let entry = |count: i32| [0, 0, count].iter().flat_map(|counter| counter.to_be_bytes()).collect::<Vec<u8>>();
        for brick in [0, 2] {
            rig.cluster.put_xattr(brick, "/", "trusted.afr.dirty", Some(&entry(1)));
            rig.cluster.put_xattr(brick, "/", "trusted.afr.v-client-1", Some(&entry(i32::from(accused))));
        }
        look_for(&rig, "/gone").unwrap();
        let there = [0, 1, 2].map(|brick| rig.cluster.object(brick, "/gone").is_some());
        // Of a dirty mark alone nobody knows what it means: what any copy has is kept.
        assert_eq!(there, [!accused; 3], "accused: {accused}");
    }
}

#[test]
fn names_of_different_objects() {
    for (policy, healed) in [("none", false), ("majority", true)] {
        let rig = Rig::new(false, &[("favorite-child-policy", policy)]);
        rig.create("/f", "x");
        rig.cluster.lose(1, "/f");
        let child = rig.cluster.children(0).remove(1);
        let other = Gfid::from_random([9; 16]);
        let loc = rig.loc("/f", Inode::fresh());
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(other));
        rig.run(child.mknod(&Context::internal(), &loc, 0o100_600, 0, 0, xdata));
        let result = look_for(&rig, "/f");
        assert_eq!(result.is_ok(), healed);
        assert_eq!(rig.cluster.gfid(1, "/f") == rig.cluster.gfid(0, "/f"), healed);
        if let Err(error) = result {
            assert_eq!(error.errno, Errno::EIO);
            continue;
        }
        rig.crawl();
        rig.assert_whole();
    }
}

#[test]
fn a_name_is_not_healed_with_a_brick_away() {
    let rig = Rig::plain();
    rig.without(2, || rig.create("/f", "x"));
    rig.cluster.kill_brick(1);
    rig.cluster.run_for(Duration::from_secs(1));
    assert_eq!(look_for(&rig, "/f").unwrap_err().errno, Errno::ENOTCONN);
    assert!(rig.cluster.object(2, "/f").is_none());
    assert!(rig.cluster.locks(0).is_empty());
}

#[test]
fn a_client_heals_in_the_background_when_told_to() {
    let rig = Rig::new(false, &[("data-self-heal", "on"), ("metadata-self-heal", "on")]);
    rig.create("/f", "before");
    rig.without(2, || rig.write("/f", "after!", 0));
    rig.core.heal_in_background(&rig.inode("/f"));
    rig.cluster.run_for(Duration::from_secs(1));
    rig.assert_whole();
    let rig = Rig::plain();
    rig.create("/f", "before");
    rig.without(2, || rig.write("/f", "after!", 0));
    rig.core.heal_in_background(&rig.inode("/f"));
    rig.cluster.run_for(Duration::from_secs(1));
    assert_eq!(rig.cluster.data(2, "/f").unwrap(), b"before");
}

impl Rig {
    fn get(&self, path: &str, name: &str, xdata: Dict) -> FopResult<Dict> {
        let target = Target::Inode(self.inode(path));
        let reply = self.core.virtual_getxattr(&target, name, &xdata);
        self.cluster.block_on(async { reply.await.unwrap() }).map(|reply| reply.dict)
    }

    fn set_on(&self, inode: &Arc<Inode>, name: &'static str, value: &'static str) -> FopResult<()> {
        let dict = Dict::empty().with(name, Value::Ptr(value.into()));
        let target = Target::Inode(inode.clone());
        let context = Context::internal();
        let reply = self.core.virtual_setxattr(&context, &target, &dict);
        self.cluster.block_on(async { reply.await.unwrap() }).map(|_| ())
    }

    fn split_file(&self) {
        self.create("/f", "x");
        for (brick, text, mtime) in [(0, "zero", 50), (1, "one, the longest", 40), (2, "two", 30)] {
            self.tamper(brick, "/f", text, mtime);
        }
        self.split_brain("/f", [1, 0, 0]);
    }
}

#[test]
fn a_copy_can_be_looked_at_for_a_while() {
    let rig = Rig::plain();
    rig.split_file();
    rig.create("/healthy", "x");
    let status =
        |path| rig.get(path, "replica.split-brain-status", Dict::NULL).unwrap().bytes("replica.split-brain-status");
    let choices = "v-client-0,v-client-1,v-client-2";
    assert_eq!(status("/f").unwrap(), format!("data-split-brain:yes    metadata-split-brain:no    Choices:{choices}"));
    assert_eq!(status("/healthy").unwrap(), "The file is not under data or metadata split-brain");
    let healthy = rig.inode("/healthy");
    let choice = "replica.split-brain-choice";
    assert_eq!(rig.set_on(&healthy, choice, "v-client-1").unwrap_err().errno, Errno::EINVAL);
    let inode = rig.inode("/f");
    assert_eq!(rig.set_on(&inode, choice, "v-client-9").unwrap_err().errno, Errno::EINVAL);
    let chosen = || *rig.core.inode(&inode).split_brain_choice.lock().unwrap();
    rig.set_on(&inode, choice, "v-client-1").unwrap();
    assert_eq!(chosen(), Some(1));
    rig.cluster.run_for(Duration::from_secs(200));
    rig.set_on(&inode, choice, "v-client-2").unwrap();
    rig.cluster.run_for(Duration::from_secs(200));
    assert_eq!(chosen(), Some(2), "the time of the first one is over");
    rig.cluster.run_for(Duration::from_secs(200));
    assert_eq!(chosen(), None);
    rig.set_on(&inode, "replica.split-brain-choice-timeout", "1").unwrap();
    rig.set_on(&inode, choice, "v-client-1").unwrap();
    rig.cluster.run_for(Duration::from_secs(61));
    assert_eq!(chosen(), None);
    rig.set_on(&inode, choice, "v-client-1").unwrap();
    rig.set_on(&inode, choice, "none").unwrap();
    assert_eq!(chosen(), None);
    rig.set_on(&inode, "replica.split-brain-heal-finalize", "v-client-2").unwrap();
    assert_eq!(rig.cluster.data(0, "/f").unwrap(), b"two");
    rig.crawl();
    rig.assert_whole();
}

#[test]
fn a_chosen_copy_can_be_opened_and_read() {
    let rig = Rig::plain();
    rig.split_file();
    let inode = rig.inode("/f");
    let (context, loc) = (Context::internal(), Loc::inode(inode.clone()));
    let open = || {
        let fd = Fd::new(inode.clone(), O_RDONLY, 1);
        rig.cluster.block_on(rig.core.open(&context, &loc, O_RDONLY, &fd, Dict::NULL)).map(|_| fd)
    };
    assert_eq!(open().unwrap_err().errno, Errno::EIO);
    rig.set_on(&inode, "replica.split-brain-choice", "v-client-1").unwrap();
    let fd = open().unwrap();
    let read = rig.run(rig.core.readv(&context, &fd, 100, 0, 0, Dict::NULL));
    assert_eq!(read.data.concat(), b"one, the longest");
    rig.set_on(&inode, "replica.split-brain-choice", "none").unwrap();
    assert_eq!(open().unwrap_err().errno, Errno::EIO);
}

#[test]
fn administrators_end_split_brains() {
    let heal = |rig: &Rig, op: i64, child: &str| {
        let xdata = Dict::empty().with("heal-op", Value::Int(op)).with("child-name", Value::str(child));
        rig.get("/f", "glusterfs.heal-sbrain", xdata).unwrap().bytes("sh-fail-msg")
    };
    for (op, child, winner) in [(10, "", "one, the longest"), (14, "", "zero"), (11, "v-client-2", "two")] {
        let rig = Rig::plain();
        rig.split_file();
        assert_eq!(
            rig.get("/f", "glusterfs.heal-info", Dict::NULL).unwrap().bytes("heal-info").unwrap(),
            "split-brain-pending"
        );
        assert_eq!(heal(&rig, 11, "v-client-9").unwrap(), "Invalid brick name");
        assert_eq!(heal(&rig, op, child), None);
        assert_eq!(rig.cluster.data(0, "/f").unwrap(), winner.as_bytes());
        rig.crawl();
        rig.assert_whole();
        assert_eq!(heal(&rig, op, child).unwrap(), "File not in split-brain");
        assert_eq!(rig.get("/f", "glusterfs.heal-info", Dict::NULL).unwrap().bytes("heal-info").unwrap(), "no-heal");
    }
    let rig = Rig::plain();
    rig.split_file();
    rig.tamper(0, "/f", "one, as long yes", 1);
    assert_eq!(heal(&rig, 10, "").unwrap(), "No bigger file");
}

#[test]
fn a_favorite_can_be_read_before_it_is_copied() {
    let rig = Rig::new(false, &[("favorite-child-policy", "size")]);
    rig.split_file();
    let inode = rig.inode("/f");
    assert!(rig.cluster.block_on(rig.core.end_split_brain_by_policy(&inode)).unwrap());
    assert_eq!(rig.cluster.data(0, "/f").unwrap(), b"zero", "nothing is copied yet");
    assert_eq!(rig.cluster.changelog(0, "/f", "v-client-1"), [0; 3]);
    assert_ne!(rig.cluster.changelog(1, "/f", "v-client-0"), [0; 3]);
    assert!(!rig.cluster.block_on(rig.core.end_split_brain_by_policy(&inode)).unwrap(), "it is ended");
    rig.crawl();
    assert_eq!(rig.cluster.data(0, "/f").unwrap(), b"one, the longest");
    rig.assert_whole();
}

#[test]
fn only_glusterd_says_that_a_brick_is_empty() {
    let rig = Rig::plain();
    let root = rig.inode("/");
    assert_eq!(rig.set_on(&root, "trusted.replace-brick", "v-client-1").unwrap_err().errno, Errno::EPERM);
    let helper = Context { pid: -12, ..Context::internal() };
    for name in ["other-client-1", "v-client-1"] {
        let dict = Dict::empty().with("trusted.replace-brick", Value::str(name));
        let target = Target::Inode(root.clone());
        let reply = rig.core.virtual_setxattr(&helper, &target, &dict);
        rig.cluster.block_on(async { reply.await.unwrap() }).unwrap();
        let expected = if name == "v-client-1" { [1, 1, 1] } else { [0; 3] };
        assert_eq!(rig.cluster.changelog(0, "/", "v-client-1"), expected);
    }
}
