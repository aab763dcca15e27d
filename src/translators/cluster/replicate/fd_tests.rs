//! Open files, listings and the locks of others, over a cluster in memory: what is asked of which brick, in how many rounds.

use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::open_flags::host;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, LkCmd, LockOwner, LockType};
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::Replicate;
use super::changelog::Kind;
use super::child_set::ChildSet;
use crate::graph::Environment;
use crate::graph::testing::{environment, volume};
use crate::simulation::{Cluster, Layout, Verdict};
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

const FILE: Gfid = Gfid([0x11; 16]);
const DOMAIN: &str = "dht.layout.heal";

fn cluster(clients: usize) -> Cluster {
    let cluster = Cluster::new(1, Layout { replicas: 3, arbiter: false }, clients);
    for child in cluster.children(0) {
        let loc = Loc::entry(root(), "f", file());
        let fd = Fd::new(file(), 2, 1);
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(FILE));
        cluster.block_on(child.create(&Context::internal(), &loc, 2 | host::O_CREAT, 0o644, 0, &fd, xdata)).unwrap();
    }
    cluster.settle();
    cluster.take_lines();
    cluster
}

fn mount(cluster: &Cluster, client: usize) -> Arc<Replicate> {
    let environment = Environment { clock: cluster.clock(client), ..environment() };
    let replicate = Replicate::new(&volume("cluster/replicate", &[]), cluster.children(client), &environment).unwrap();
    cluster.settle();
    replicate
}

fn root() -> Arc<Inode> {
    Inode::known(Gfid::ROOT, FileType::Directory)
}

fn file() -> Arc<Inode> {
    Inode::known(FILE, FileType::Regular)
}

fn owner(number: u64) -> Context {
    Context { lock_owner: LockOwner::from_fuse(number), ..Context::internal() }
}

fn write_lock() -> Flock {
    Flock { kind: LockType::Write, whence: 0, start: 10, len: 20, pid: 1, owner: LockOwner::default() }
}

fn unlock() -> Flock {
    Flock { kind: LockType::Unlock, ..write_lock() }
}

fn opened(cluster: &Cluster, replicate: &Arc<Replicate>, inode: Arc<Inode>, flags: i32) -> Arc<Fd> {
    let fd = Fd::new(inode.clone(), flags, 1);
    let context = Context::internal();
    let loc = Loc::inode(inode.clone());
    let opened = match inode.is_dir() {
        true => cluster.block_on(replicate.opendir(&context, &loc, &fd, Dict::NULL)),
        false => cluster.block_on(replicate.open(&context, &loc, flags, &fd, Dict::NULL)),
    };
    opened.unwrap();
    cluster.settle();
    cluster.take_lines();
    fd
}

fn errno<T: std::fmt::Debug>(result: FopResult<T>) -> Errno {
    result.unwrap_err().errno
}

/// The names of fops in a record, with the bricks that got them.
fn fops(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_known_file_is_opened_in_one_round() {
    let cluster = cluster(1);
    let replicate = mount(&cluster, 0);
    let inode = file();
    opened(&cluster, &replicate, inode.clone(), 2);
    let (context, fd) = (Context::internal(), Fd::new(inode.clone(), 2, 1));
    cluster.block_on(replicate.open(&context, &Loc::inode(inode), 2, &fd, Dict::NULL)).unwrap();
    assert_eq!(context.rounds.count(), 1);
    assert_eq!(fops(&cluster.take_lines()), ["OPEN 0,1,2"]);
    assert_eq!(replicate.core.fd(&fd).opened(), ChildSet::all(3));
}

#[test]
fn an_open_needs_a_quorum() {
    let cluster = cluster(1);
    let replicate = mount(&cluster, 0);
    let inode = file();
    opened(&cluster, &replicate, inode.clone(), 2);
    let open = || {
        let fd = Fd::new(inode.clone(), 2, 1);
        cluster.block_on(replicate.open(&Context::internal(), &Loc::inode(inode.clone()), 2, &fd, Dict::NULL))
    };
    cluster.fail_next(0, "OPEN", Errno::EIO);
    assert!(open().is_ok());
    for brick in [0, 1] {
        cluster.fail_next(brick, "OPEN", Errno::EIO);
    }
    assert_eq!(errno(open()), Errno::EIO);
    cluster.kill_brick(0);
    cluster.kill_brick(1);
    cluster.settle();
    assert_eq!(errno(open()), Errno::ENOTCONN);
}

#[test]
fn what_was_opened_while_a_brick_was_away_is_opened_there_when_it_is_back() {
    let cluster = cluster(1);
    let replicate = mount(&cluster, 0);
    cluster.kill_brick(2);
    cluster.settle();
    let fd = opened(&cluster, &replicate, file(), 2 | host::O_CREAT);
    let state = replicate.core.fd(&fd);
    assert_eq!(state.opened(), ChildSet::all(2));
    cluster.restart_brick(2);
    cluster.settle();
    assert_eq!(replicate.core.snapshot().up, ChildSet::all(3));
    for _ in 0..2 {
        replicate.core.open_late(&fd, replicate.core.snapshot().up);
    }
    cluster.settle();
    assert_eq!(fops(&cluster.take_lines()), ["OPEN 2"]);
    assert_eq!(state.opened(), ChildSet::all(3));
}

#[test]
fn copies_are_asked_how_they_are_while_a_directory_is_opened() {
    let cluster = cluster(1);
    let replicate = mount(&cluster, 0);
    let fd = Fd::new(root(), host::O_DIRECTORY, 1);
    for expected in [&["OPENDIR 0,1,2", "LOOKUP 0,1,2"][..], &["OPENDIR 0,1,2"]] {
        let context = Context::internal();
        cluster.block_on(replicate.opendir(&context, &Loc::inode(fd.inode.clone()), &fd, Dict::NULL)).unwrap();
        assert_eq!(context.rounds.count(), 1);
        cluster.settle();
        assert_eq!(fops(&cluster.take_lines()), expected);
    }
}

#[test]
fn a_directory_found_in_a_listing_is_good_while_no_brick_has_heals_pending() {
    let cluster = cluster(2);
    let (ours, theirs) = (mount(&cluster, 0), mount(&cluster, 1));
    let gfid = Gfid([0x22; 16]);
    let loc = Loc::entry(root(), "d", Inode::fresh());
    let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(gfid));
    cluster.block_on(theirs.mkdir(&Context::internal(), &loc, 0o755, 0, xdata)).unwrap();
    cluster.settle();
    let look_up_root = || {
        let loc = Loc::inode(root());
        cluster.block_on(ours.lookup(&Context::internal(), &loc, Dict::NULL)).unwrap();
    };
    // Each time as if it were found anew.
    let list = || {
        let fd = Fd::new(Inode::known(gfid, FileType::Directory), host::O_DIRECTORY, 1);
        cluster.take_lines();
        cluster.block_on(ours.opendir(&Context::internal(), &Loc::inode(fd.inode.clone()), &fd, Dict::NULL)).unwrap();
        cluster.block_on(ours.readdirp(&Context::internal(), &fd, 4096, 0, Dict::NULL)).unwrap();
        cluster.settle();
        fops(&cluster.take_lines()).iter().any(|line| line.starts_with("LOOKUP"))
    };
    assert!(list(), "nobody said yet that all is well");
    look_up_root();
    assert!(!list(), "all is well");
    ours.core.forget_copy(&ours.core.inode(&root()), Kind::Entry, ChildSet::one(1));
    assert!(list(), "a copy failed");
    look_up_root();
    assert!(!list(), "all is well again");
    cluster.block_on(async { cluster.clock(0).sleep(Duration::from_secs(1)).await });
    assert!(list(), "that was long ago");
}

#[test]
fn a_directory_is_listed_by_one_brick_from_its_start_to_its_end() {
    let cluster = cluster(1);
    let replicate = mount(&cluster, 0);
    let fd = opened(&cluster, &replicate, root(), host::O_DIRECTORY);
    let list = |context: &Context, offset| cluster.block_on(replicate.readdirp(context, &fd, 4096, offset, Dict::NULL));
    let context = Context::internal();
    let listing = list(&context, 0).unwrap();
    assert_eq!(context.rounds.count(), 1);
    let entry = listing.entries.iter().find(|entry| entry.entry.name == "f").unwrap();
    assert!(!entry.stat.is_absent(), "all bricks are well");
    let lines = cluster.take_lines();
    let lister = replicate.core.fd(&fd).lister().unwrap();
    assert_eq!(fops(&lines), [format!("READDIRP {lister}")]);
    // It fails, and what comes next is nobody else's.
    cluster.kill_brick(lister);
    cluster.settle();
    assert_eq!(errno(list(&context, listing.entries[0].entry.offset)), Errno::ENOTCONN);
    let again = list(&context, 0).unwrap();
    assert_ne!(replicate.core.fd(&fd).lister(), Some(lister));
    let entry = again.entries.iter().find(|entry| entry.entry.name == "f").unwrap();
    assert!(entry.stat.is_absent(), "a brick is away, and nobody knows what it missed");
}

#[test]
fn a_posix_lock_is_asked_for_brick_after_brick() {
    let cluster = cluster(2);
    let (ours, theirs) = (mount(&cluster, 0), mount(&cluster, 1));
    let (fd, other) = (opened(&cluster, &ours, file(), 2), opened(&cluster, &theirs, file(), 2));
    let context = owner(1);
    cluster.block_on(ours.lk(&context, &fd, LkCmd::SetLk, write_lock(), Dict::NULL)).unwrap();
    assert_eq!(context.rounds.count(), 3);
    assert_eq!(fops(&cluster.take_lines()), ["LK 0", "LK 1", "LK 2"]);
    let refused = cluster.block_on(theirs.lk(&owner(2), &other, LkCmd::SetLk, write_lock(), Dict::NULL));
    assert_eq!(errno(refused), Errno::EAGAIN);
    assert_eq!(fops(&cluster.take_lines()), ["c1: LK"], "one refusal is enough");
    let holder = cluster.block_on(theirs.lk(&owner(2), &other, LkCmd::GetLk, write_lock(), Dict::NULL)).unwrap();
    assert_eq!(holder.flock.kind, LockType::Write);
    cluster.take_lines();
    let context = owner(1);
    cluster.block_on(ours.lk(&context, &fd, LkCmd::SetLk, unlock(), Dict::NULL)).unwrap();
    assert_eq!((context.rounds.count(), fops(&cluster.take_lines())), (1, vec!["LK 0,1,2".to_owned()]));
    assert!((0..3).all(|brick| cluster.locks(brick).is_empty()));
}

#[test]
fn a_posix_lock_that_some_bricks_refuse_is_given_back_everywhere() {
    for (failing, error, expected) in
        [(&[2][..], Errno::EAGAIN, Errno::EAGAIN), (&[1, 2], Errno::EIO, Errno::EIO), (&[2], Errno::EIO, Errno::EIO)]
    {
        let cluster = cluster(1);
        let replicate = mount(&cluster, 0);
        let fd = opened(&cluster, &replicate, file(), 2);
        for brick in failing {
            cluster.fail_next(*brick, "LK", error);
        }
        let locked = cluster.block_on(replicate.lk(&owner(1), &fd, LkCmd::SetLk, write_lock(), Dict::NULL));
        let held = (0..3).filter(|brick| !cluster.locks(*brick).is_empty()).count();
        match locked {
            Ok(_) => assert_eq!(held, 2, "two of three are a quorum"),
            Err(error) => assert_eq!((error.errno, held), (expected, 0)),
        }
    }
}

#[test]
fn a_waiting_lock_whose_caller_goes_away_leaves_nothing_locked() {
    let cluster = cluster(2);
    let (ours, theirs) = (mount(&cluster, 0), mount(&cluster, 1));
    let (fd, other) = (opened(&cluster, &ours, file(), 2), opened(&cluster, &theirs, file(), 2));
    // The second brick alone has the other's lock: the first one grants.
    let child = cluster.children(1).remove(1);
    cluster.block_on(child.lk(&owner(2), &other, LkCmd::SetLk, write_lock(), Dict::NULL)).unwrap();
    let context = owner(1);
    let mut waiting = Box::pin(ours.lk(&context, &fd, LkCmd::SetLkW, write_lock(), Dict::NULL));
    assert!(cluster.try_block_on(&mut waiting).is_none());
    assert_eq!(cluster.locks(0).len(), 1);
    drop(waiting);
    cluster.settle();
    assert!(cluster.locks(0).is_empty(), "{:?}", cluster.locks(0));
}

#[test]
fn the_locks_of_others_are_tried_everywhere_and_then_waited_for_in_order() {
    let cluster = cluster(2);
    let (ours, theirs) = (mount(&cluster, 0), mount(&cluster, 1));
    let loc = Loc::inode(root());
    let ask = |replicate: &Arc<Replicate>, number, cmd, flock| {
        let (replicate, loc) = (replicate.clone(), loc.clone());
        cluster.spawn(async move { replicate.inodelk(&owner(number), DOMAIN, &loc, cmd, flock, Dict::NULL).await })
    };
    let everything = || Flock { start: 0, len: 0, ..write_lock() };
    let nothing = || Flock { kind: LockType::Unlock, ..everything() };
    cluster.block_on(ask(&theirs, 2, InodelkCmd::SetLkW, everything())).unwrap();
    cluster.take_lines();
    assert_eq!(errno(cluster.block_on(ask(&ours, 1, InodelkCmd::SetLk, everything()))), Errno::EAGAIN);
    assert_eq!(fops(&cluster.take_lines()), ["INODELK 0,1,2", "INODELK 0"]);
    let mut waiting = ask(&ours, 1, InodelkCmd::SetLkW, everything());
    cluster.settle();
    assert!(waiting.result().is_none());
    assert_eq!(fops(&cluster.take_lines()), ["INODELK 0,1,2", "INODELK 0"]);
    cluster.block_on(ask(&theirs, 2, InodelkCmd::SetLk, nothing())).unwrap();
    cluster.settle();
    waiting.result().unwrap().unwrap();
    assert_eq!((0..3).map(|brick| cluster.locks(brick).len()).collect::<Vec<_>>(), [1, 1, 1]);
    cluster.block_on(ask(&ours, 1, InodelkCmd::SetLk, nothing())).unwrap();
    assert!((0..3).all(|brick| cluster.locks(brick).is_empty()));
}

#[test]
fn a_name_is_locked_on_enough_bricks_or_on_none() {
    let cluster = cluster(1);
    let replicate = mount(&cluster, 0);
    let loc = Loc::inode(root());
    let lock = || {
        let (context, name) = (owner(1), Some(&b"f"[..]));
        let (lock, write) = (EntrylkCmd::Lock, EntrylkType::Write);
        cluster.block_on(replicate.entrylk(&context, DOMAIN, &loc, name, lock, write, Dict::NULL))
    };
    for brick in [0, 2] {
        cluster.fail_next(brick, "ENTRYLK", Errno::EIO);
    }
    assert_eq!(errno(lock()), Errno::EIO);
    assert!((0..3).all(|brick| cluster.locks(brick).is_empty()));
    cluster.fail_next(1, "ENTRYLK", Errno::EIO);
    lock().unwrap();
}

#[test]
fn statfs_tells_the_fullest_brick_and_flush_reaches_all() {
    let cluster = cluster(1);
    let replicate = mount(&cluster, 0);
    let fd = opened(&cluster, &replicate, file(), 2);
    cluster.fail_next(1, "STATFS", Errno::EIO);
    cluster.block_on(replicate.statfs(&Context::internal(), &Loc::inode(root()), Dict::NULL)).unwrap();
    cluster.take_lines();
    cluster.fail_next(0, "FLUSH", Errno::EIO);
    cluster.block_on(replicate.flush(&owner(1), &fd, Dict::NULL)).unwrap();
    assert_eq!(fops(&cluster.take_lines()), ["FLUSH 0,1,2"]);
}

/// The brick was away when the lock was given back. Its client takes locks again when it comes back, and must not take that one.
#[test]
fn a_lock_that_was_given_back_does_not_come_back_with_a_brick() {
    for by_closing in [false, true] {
        let cluster = cluster(2);
        let (ours, theirs) = (mount(&cluster, 0), mount(&cluster, 1));
        let fd = opened(&cluster, &ours, file(), 2);
        cluster.block_on(ours.lk(&owner(1), &fd, LkCmd::SetLk, write_lock(), Dict::NULL)).unwrap();
        cluster.kill_brick(1);
        cluster.run_for(Duration::from_secs(1));
        match by_closing {
            true => drop(cluster.block_on(ours.flush(&owner(1), &fd, Dict::NULL)).unwrap()),
            false => drop(cluster.block_on(ours.lk(&owner(1), &fd, LkCmd::SetLk, unlock(), Dict::NULL)).unwrap()),
        }
        cluster.restart_brick(1);
        cluster.run_for(Duration::from_secs(1));
        let other = opened(&cluster, &theirs, file(), 2);
        cluster.block_on(theirs.lk(&owner(2), &other, LkCmd::SetLk, write_lock(), Dict::NULL)).unwrap();
    }
}

/// Two bricks granted it. One of them was gone before the other answered: somebody else may have got it there.
#[test]
fn a_lock_that_was_lost_while_others_were_asked_does_not_count() {
    let cluster = cluster(1);
    let ours = mount(&cluster, 0);
    let fd = opened(&cluster, &ours, file(), 2);
    cluster.kill_brick(2);
    cluster.run_for(Duration::from_secs(1));
    cluster.next(1, "LK", Verdict::AnswerLate(Duration::from_secs(2)));
    let (top, asked) = (ours.clone(), fd.clone());
    let mut locked =
        cluster.spawn(async move { top.lk(&owner(1), &asked, LkCmd::SetLk, write_lock(), Dict::NULL).await });
    cluster.run_for(Duration::from_millis(100));
    cluster.kill_brick(0);
    cluster.run_for(Duration::from_millis(100));
    cluster.restart_brick(0);
    cluster.run_for(Duration::from_secs(5));
    let error = locked.result().unwrap().unwrap_err();
    assert_eq!(error.errno, Errno::ENOTCONN);
    assert!((0..3).all(|brick| cluster.locks(brick).is_empty()), "what is left of it is given back");
}
