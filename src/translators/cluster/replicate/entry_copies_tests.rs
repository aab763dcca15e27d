//! Changes of names in directories of which copies missed changes before: a good copy must do them, no heal is led to bring
//! removed names back, and never do all copies accuse each other.

use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::testing::{ARBITER, REPLICA_3, Replica, program, root};
use crate::simulation::{Running, Verdict};
use crate::{Fd, FopResult, Inode, Loc, Translator};

const OPTIONS: &[(&str, &str)] = &[
    ("granular-entry-heal", "on"),
    ("quorum-type", "auto"),
    ("use-anonymous-inode", "yes"),
    ("volume-id", "8c3ad1f2-3a4b-4e0f-9d3c-0123456789ab"),
];

fn gfid(number: u8) -> Gfid {
    Gfid([number; 16])
}

fn file(parent: &Arc<Inode>, name: &str, number: u8) -> Loc {
    Loc::entry(parent.clone(), name.to_owned(), Inode::known(gfid(number), FileType::Regular))
}

impl Replica {
    /// Makes a directory in the root.
    fn prepare(&self, name: &str, number: u8) -> Arc<Inode> {
        let loc = Loc::entry(root(), name.to_owned(), Inode::fresh());
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(gfid(number)));
        self.cluster.block_on(self.clients[0].mkdir(&program(0), &loc, 0o755, 0, xdata)).unwrap();
        Inode::known(gfid(number), FileType::Directory)
    }

    fn create_new(&self, loc: &Loc) -> FopResult<()> {
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(loc.inode.gfid()));
        let loc = Loc::entry(loc.parent.clone().unwrap(), loc.name.clone(), Inode::fresh());
        let flags = libc::O_RDWR | libc::O_CREAT;
        let fd = Fd::new(loc.inode.clone(), flags, 1);
        self.cluster.block_on(self.clients[0].create(&program(0), &loc, flags, 0o644, 0, &fd, xdata)).map(|_| ())
    }

    /// A client begins to make a directory.
    fn begin_mkdir(&self, client: usize, parent: &Arc<Inode>, name: &str, number: u8) -> Running<FopResult<()>> {
        let (top, loc) = (self.clients[client].clone(), Loc::entry(parent.clone(), name.to_owned(), Inode::fresh()));
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(gfid(number)));
        self.cluster.spawn(async move { top.mkdir(&program(client), &loc, 0o755, 0, xdata).await.map(|_| ()) })
    }

    /// Copies of a directory that any copy accuses of having missed names.
    fn accused(&self, path: &str) -> Vec<usize> {
        let by = |by: usize, of: usize| self.cluster.changelog(by, path, &format!("v-client-{of}"))[2] != 0;
        (0..3).filter(|of| (0..3).any(|other| by(other, *of))).collect()
    }

    fn remove(&self, loc: &Loc) -> FopResult<()> {
        self.cluster.block_on(self.clients[0].unlink(&program(0), loc, 0, Dict::NULL)).map(|_| ())
    }

    fn look(&self, inode: &Arc<Inode>) {
        let (context, loc) = (program(0), Loc::inode(inode.clone()));
        self.cluster.block_on(self.clients[0].lookup(&context, &loc, Dict::NULL)).unwrap();
    }

    fn has(&self, path: &str) -> Vec<usize> {
        (0..3).filter(|brick| self.cluster.gfid(*brick, path).is_some()).collect()
    }

    /// Does something while one brick is away.
    fn without<T>(&self, brick: usize, change: impl FnOnce() -> T) -> T {
        self.cluster.kill_brick(brick);
        self.forget();
        let result = change();
        self.cluster.settle();
        self.cluster.restart_brick(brick);
        self.forget();
        result
    }

    fn dirty(&self) -> Vec<String> {
        self.cluster.marks().into_iter().filter(|mark| mark.contains("dirty")).collect()
    }
}

/// What a brick missed makes it fail later. If it kept a mark that something was begun, the heal would give all copies every
/// name that one of them has.
#[test]
fn a_removed_name_does_not_come_back_because_an_old_copy_failed() {
    let replica = Replica::with(REPLICA_3, 1, OPTIONS);
    let d = replica.prepare("d", 1);
    let (removed, moved, new) = (file(&d, "removed", 2), file(&d, "moved", 3), file(&d, "new", 4));
    replica.create_new(&removed).unwrap();
    replica.create_new(&moved).unwrap();
    replica.without(2, || {
        replica.remove(&removed).unwrap();
        replica.create_new(&new).unwrap();
        let to = Loc::entry(d.clone(), "moved-1", Inode::fresh());
        replica.cluster.block_on(replica.clients[0].rename(&program(0), &moved, &to, Dict::NULL)).unwrap();
    });
    assert_eq!(replica.has("/d/removed"), [2]);
    for remembers in [false, true] {
        if remembers {
            replica.look(&d);
        }
        let name = if remembers { "moved-2" } else { "moved-1" };
        let old = file(&d, name, 3);
        let to = Loc::entry(d.clone(), if remembers { "moved-3" } else { "moved-2" }, Inode::fresh());
        replica.cluster.block_on(replica.clients[0].rename(&program(0), &old, &to, Dict::NULL)).unwrap();
        replica.cluster.settle();
        assert_eq!(replica.dirty(), [""; 0], "remembers: {remembers}");
    }
    replica.remove(&new).unwrap();
    replica.cluster.settle();
    assert_eq!(replica.dirty(), [""; 0]);
    for _ in 0..2 {
        replica.cluster.block_on(replica.clients[0].heal(&d)).unwrap();
    }
    for name in ["removed", "new", "moved", "moved-1", "moved-2"] {
        assert_eq!(replica.has(&format!("/d/{name}")), [0; 0], "{name} is back");
    }
    assert_eq!(replica.has("/d/moved-3"), [0, 1, 2]);
}

#[test]
fn three_changes_that_each_brick_misses_one_of_end_in_no_circle() {
    for layout in [REPLICA_3, ARBITER] {
        let replica = Replica::with(layout, 1, OPTIONS);
        let d = replica.prepare("d", 1);
        let (a, b, c) = (file(&d, "a", 2), file(&d, "b", 3), file(&d, "c", 4));
        replica.create_new(&a).unwrap();
        replica.without(2, || replica.remove(&a)).unwrap();
        replica.without(1, || replica.create_new(&b)).unwrap();
        let before = replica.cluster.marks();
        let refused = replica.without(0, || replica.create_new(&c)).unwrap_err();
        assert_eq!(refused.errno, Errno::ENOTCONN, "{refused}");
        assert!(refused.to_string().contains("missed names"), "{refused}");
        assert_eq!((replica.has("/d/c"), replica.cluster.marks()), (vec![], before), "nothing is left of it");
        // With all bricks it is done; who misses it is no matter, for a good copy has it.
        replica.create_new(&c).unwrap();
        replica.cluster.settle();
        for _ in 0..2 {
            replica.cluster.block_on(replica.clients[0].heal(&d)).unwrap();
        }
        assert_eq!(
            [replica.has("/d/a"), replica.has("/d/b"), replica.has("/d/c")],
            [vec![], vec![0, 1, 2], vec![0, 1, 2]]
        );
    }
}

/// The new directory of a rename is known by a copy that does not know the old one.
#[test]
fn what_no_good_copy_of_a_directory_can_do_is_not_done_on_the_others() {
    let replica = Replica::with(REPLICA_3, 1, OPTIONS);
    let (from, to) = (replica.prepare("from", 1), replica.prepare("to", 2));
    let token = file(&from, "token", 3);
    replica.without(0, || replica.create_new(&file(&to, "x", 4))).unwrap();
    replica.without(1, || replica.create_new(&file(&to, "y", 5))).unwrap();
    replica.without(2, || replica.create_new(&token)).unwrap();
    let before = replica.cluster.marks();
    replica.look(&from);
    replica.look(&to);
    let target = Loc::entry(to.clone(), "token", Inode::fresh());
    let rename = |old: &Loc| {
        let renamed = replica.cluster.block_on(replica.clients[0].rename(&program(0), old, &target, Dict::NULL));
        replica.cluster.settle();
        renamed.map(|_| ())
    };
    let error = rename(&token).unwrap_err();
    assert_eq!(error.errno, Errno::EIO, "not ENOENT: it is there. {error}");
    assert_eq!((replica.has("/from/token"), replica.has("/to/token")), (vec![0, 1], vec![]));
    assert_eq!(replica.cluster.marks(), before);
    replica.cluster.block_on(replica.clients[0].heal(&from)).unwrap();
    rename(&token).unwrap();
    assert_eq!((replica.has("/from/token"), replica.has("/to/token")), (vec![], vec![0, 1, 2]));
}

/// Two objects of one name in a directory of which nobody is accused could not be healed.
#[test]
fn what_few_copies_made_in_vain_is_taken_back() {
    let replica = Replica::with(REPLICA_3, 1, OPTIONS);
    let d = replica.prepare("d", 1);
    let (here, new) = (file(&d, "f", 2), file(&d, "f", 3));
    replica.create_new(&here).unwrap();
    // A client that died in its create left it on one brick.
    replica.cluster.lose(0, "/d/f");
    replica.cluster.lose(1, "/d/f");
    replica.forget();
    replica.without(1, || {
        assert_eq!(replica.create_new(&new).unwrap_err().errno, Errno::ESTALE);
    });
    let found: Vec<_> = (0..3).map(|brick| replica.cluster.gfid(brick, "/d/f")).collect();
    assert_eq!(found, [None, None, Some(gfid(2))]);
    assert_eq!(replica.cluster.marks(), [""; 0]);
}

/// Each misses another copy, and would accuse it: with the one that was accused before, these would be all.
#[test]
fn clients_that_see_different_bricks_leave_a_good_copy() {
    let replica = Replica::with(REPLICA_3, 2, OPTIONS);
    let d = replica.prepare("d", 1);
    replica.without(1, || replica.create_new(&file(&d, "a", 2)).unwrap());
    replica.cluster.cut(0, 2);
    replica.cluster.cut(1, 0);
    replica.forget();
    let mut making = [replica.begin_mkdir(0, &d, "x", 3), replica.begin_mkdir(1, &d, "y", 4)];
    replica.cluster.settle();
    let mut made: Vec<bool> = Vec::new();
    for (making, name) in making.iter_mut().zip(["x", "y"]) {
        let result = making.result().unwrap();
        if let Err(error) = &result {
            assert_eq!(error.errno, Errno::ENOTCONN, "{error}");
            assert!(error.to_string().contains("at the same time"), "{error}");
            assert_eq!(replica.has(&format!("/d/{name}")), [0; 0]);
        }
        made.push(result.is_ok());
    }
    assert!(made[0] != made[1], "{made:?}");
    assert!(replica.accused("/d").len() < 3, "{:?}", replica.cluster.marks());
    assert_eq!(replica.dirty(), [""; 0]);
    // What was done is there after a heal, and what was removed stays away.
    replica.cluster.heal_cut(0, 2);
    replica.cluster.heal_cut(1, 0);
    replica.cluster.settle();
    for _ in 0..2 {
        replica.cluster.block_on(replica.clients[0].heal(&d)).unwrap();
    }
    let everywhere = |is_there: bool| if is_there { vec![0, 1, 2] } else { vec![] };
    assert_eq!([replica.has("/d/x"), replica.has("/d/y")], [everywhere(made[0]), everywhere(made[1])]);
}

#[test]
fn nothing_is_left_of_an_accusation_when_nothing_was_done() {
    let replica = Replica::with(REPLICA_3, 1, OPTIONS);
    let d = replica.prepare("d", 1);
    replica.without(1, || replica.begin_mkdir(0, &d, "a", 2));
    let before = replica.cluster.marks();
    replica.cluster.cut(0, 2);
    replica.forget();
    let mut making = replica.begin_mkdir(0, &d, "a", 3);
    replica.cluster.settle();
    assert_eq!(making.result().unwrap().unwrap_err().errno, Errno::EEXIST);
    assert_eq!(replica.cluster.marks(), before);
    // The quorum breaks in the middle: one may have done it, and it notes that. What the copy keeps that went, is not taken back.
    replica.cluster.next(1, "MKDIR", Verdict::Wait(Duration::from_secs(1)));
    let mut making = replica.begin_mkdir(0, &d, "b", 3);
    replica.cluster.settle();
    assert_eq!(replica.accused("/d"), [1, 2]);
    replica.cluster.cut(0, 1);
    replica.cluster.settle();
    assert_eq!(making.result().unwrap().unwrap_err().errno, Errno::ENOTCONN);
    assert_eq!([0, 1].map(|at| replica.cluster.changelog(at, "/d", "v-client-2")), [[0, 0, 1]; 2]);
    assert_eq!(replica.cluster.changelog(0, "/d", "dirty"), [0, 0, 1]);
}

/// A copy fails, and while the others do it, another client accuses one of these.
#[test]
fn an_accusation_is_taken_back_when_it_leaves_no_good_copy() {
    let replica = Replica::with(REPLICA_3, 2, OPTIONS);
    let d = replica.prepare("d", 1);
    let old = file(&d, "old", 2);
    replica.create_new(&old).unwrap();
    replica.without(0, || replica.create_new(&file(&d, "new", 3)).unwrap());
    replica.look(&d);
    replica.cluster.cut(1, 2);
    replica.forget();
    replica.cluster.next(1, "UNLINK", Verdict::Fail(Errno::EIO));
    replica.cluster.next(2, "UNLINK", Verdict::Wait(Duration::from_secs(1)));
    let (top, loc) = (replica.clients[0].clone(), old.clone());
    let mut removing =
        replica.cluster.spawn(async move { top.unlink(&program(0), &loc, 0, Dict::NULL).await.map(|_| ()) });
    replica.cluster.settle();
    let mut making = replica.begin_mkdir(1, &d, "x", 4);
    replica.cluster.settle();
    making.result().unwrap().unwrap();
    assert_eq!(replica.accused("/d"), [0, 2]);
    replica.cluster.run_for(Duration::from_secs(2));
    let error = removing.result().unwrap().unwrap_err();
    assert_eq!(error.errno, Errno::ENOTCONN);
    assert!(error.to_string().contains("at the same time"), "{error}");
    assert_eq!(replica.accused("/d"), [0, 2]);
    assert_eq!(replica.dirty(), ["0: /d trusted.afr.dirty [0, 0, 1]", "2: /d trusted.afr.dirty [0, 0, 1]"]);
}

/// Who sees the others only does not know of it, and may accuse those that do.
#[test]
fn an_accusation_that_few_copies_know_does_not_stay() {
    for accused_before in [false, true] {
        let replica = Replica::with(REPLICA_3, 1, OPTIONS);
        let d = replica.prepare("d", 1);
        let old = file(&d, "old", 2);
        replica.create_new(&old).unwrap();
        if accused_before {
            replica.without(0, || replica.create_new(&file(&d, "new", 3)).unwrap());
        }
        replica.forget();
        replica.cluster.next(0, "UNLINK", Verdict::Fail(Errno::EIO));
        replica.cluster.next(2, "XATTROP", Verdict::Fail(Errno::ENOTCONN));
        assert_eq!(replica.remove(&old).unwrap_err().errno, Errno::ENOTCONN);
        replica.cluster.settle();
        if accused_before {
            assert_eq!(replica.accused("/d"), [0]);
            assert_eq!(replica.dirty(), [""; 0], "names that were removed while it was away must not come back");
        } else {
            assert_eq!(replica.accused("/d"), [0; 0]);
            assert_eq!(replica.dirty(), ["1: /d trusted.afr.dirty [0, 0, 1]"]);
        }
    }
}

/// When a copy that missed names remembers what the only good one says no more, nothing is lost; else it would accuse that.
#[test]
fn the_good_copy_takes_an_accusation_back_first() {
    let replica = Replica::with(REPLICA_3, 1, OPTIONS);
    let d = replica.prepare("d", 1);
    replica.without(1, || replica.create_new(&file(&d, "a", 2)).unwrap());
    replica.cluster.cut(0, 2);
    replica.forget();
    replica.cluster.next(0, "MKDIR", Verdict::Wait(Duration::from_secs(1)));
    replica.cluster.next(1, "MKDIR", Verdict::Fail(Errno::ENOSPC));
    let mut making = replica.begin_mkdir(0, &d, "b", 3);
    replica.cluster.settle();
    let early = || [0, 1].map(|brick| replica.cluster.changelog(brick, "/d", "v-client-2"));
    assert_eq!(early(), [[0, 0, 1]; 2]);
    replica.cluster.next(0, "XATTROP", Verdict::Fail(Errno::ENOTCONN));
    replica.cluster.run_for(Duration::from_secs(2));
    assert_eq!(making.result().unwrap().unwrap_err().errno, Errno::ENOSPC);
    assert_eq!(early(), [[0, 0, 1]; 2]);
}
