//! Fops while a scripted rebalance moves their file from brick 0 to brick 1: in each phase nothing is lost, nothing fails,
//! and nobody sees a mark.

use bytes::Bytes;
use rgfs_protocol::types::{Flock, LkCmd, LockOwner, LockType, set_attr};
use smallvec::smallvec;

use super::*;
use crate::reply::LkReply;

#[path = "append_tests.rs"]
mod appends;
#[path = "migration_table.rs"]
mod table;

/// When the fop comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// The file has its marks and was copied: what is not repeated at the destination is lost.
    Moving,
    /// The file is a linkto now.
    Moved,
    /// And it is gone.
    Gone,
}

const ALL: [When; 3] = [When::Moving, When::Moved, When::Gone];

/// A file with the data "0123456789" on brick 0 whose name belongs to brick 1, open.
struct Moving {
    cluster: Cluster,
    path: String,
    loc: Loc,
    fd: Arc<Fd>,
}

impl Moving {
    fn new(flags: i32) -> Self {
        let cluster = Cluster::new(2);
        let (old, new) = (cluster.name_at("/", 0, 0), cluster.name_at("/", 1, 0));
        cluster.create(&cluster.root, &old).0.unwrap();
        cluster.rename((&cluster.root, &old), (&cluster.root, &new)).0.unwrap();
        let loc = Loc::entry(cluster.root.clone(), new.clone(), cluster.find(&cluster.root, &new));
        let fd = Fd::new(loc.inode.clone(), flags, 42);
        let moving = Moving { cluster, path: format!("/{new}"), loc, fd };
        let writer = Fd::new(moving.loc.inode.clone(), libc::O_RDWR, 42);
        moving.ask(|context, top, file| async move {
            top.open(&context, &file.loc, libc::O_RDWR, &writer, Dict::NULL).await.unwrap();
            let data = smallvec![Bytes::from_static(b"0123456789")];
            top.writev(&context, &writer, data, 0, 0, Dict::NULL).await.unwrap();
            top.open(&context, &file.loc, file.fd.flags, &file.fd, Dict::NULL).await.unwrap();
        });
        moving.cluster.forget();
        moving
    }

    fn ask<'a, T, F: Future<Output = T>>(&'a self, ask: impl FnOnce(Context, Arc<Distribute>, &'a Self) -> F) -> T {
        self.cluster.run(|context, top| ask(context, top, self)).0
    }

    fn advance(&self, from: Option<When>, to: When) {
        let (source, aim) = (&self.cluster.bricks[0], &self.cluster.bricks[1]);
        if from.is_none() {
            source.begin_move(aim, &self.path);
            source.copy_to(aim, &self.path);
        }
        if to != When::Moving && matches!(from, None | Some(When::Moving)) {
            source.flip(aim, &self.path);
        }
        if to == When::Gone && from != Some(When::Gone) {
            source.finish_move(aim, &self.path);
        }
    }

    fn data(&self) -> String {
        String::from_utf8(self.cluster.bricks[1].data(&self.path)).unwrap().replace('\0', "_")
    }
}

/// A fop in each phase; `check` sees it when the migration is over.
fn in_each_phase(flags: i32, fop: impl AsyncFn(Context, Arc<Distribute>, &Moving), check: impl Fn(&Moving, When)) {
    for when in ALL {
        let file = Moving::new(flags);
        file.advance(None, when);
        file.ask(|context, top, file| fop(context, top, file));
        // And once more with what is remembered now.
        file.advance(Some(when), When::Gone);
        check(&file, when);
        assert_eq!(file.cluster.bricks[0].list("/"), [] as [String; 0], "{when:?}");
    }
}

fn seen(stat: &Iatt) {
    assert_eq!(stat.mode, 0o100_644, "{:o}", stat.mode);
}

/// Runs a step of rebalance when somebody waits for the lock that it has: only then does the lock come free.
fn while_awaited(file: &Moving, at: usize, step: impl FnOnce(&MemoryBrick, &MemoryBrick, &str) + Send + 'static) {
    let (source, aim, path) = (file.cluster.bricks[0].clone(), file.cluster.bricks[1].clone(), file.path.clone());
    file.cluster.bricks[at].before("INODELK", move || step(&source, &aim, &path));
}

fn complete(source: &MemoryBrick, aim: &MemoryBrick, path: &str) {
    source.flip(aim, path);
    source.finish_move(aim, path);
}

/// A change of data in each phase. A move that goes on ends while that is awaited: it is completed, or given up.
fn change_of_data(flags: i32, fop: impl AsyncFn(Context, Arc<Distribute>, &Moving), expected: &str) {
    for (when, given_up) in [(When::Moving, false), (When::Moving, true), (When::Moved, false), (When::Gone, false)] {
        let file = Moving::new(flags);
        file.advance(None, when);
        if when == When::Moving {
            while_awaited(&file, 0, move |source, aim, path| {
                assert!(aim.xattr(path, keys::PROTECT_WRITES).is_some(), "what is copied from now on is refused");
                match given_up {
                    true => source.give_up_move(aim, path),
                    false => complete(source, aim, path),
                }
            });
        }
        file.ask(|context, top, file| fop(context, top, file));
        if when == When::Moved {
            file.advance(Some(when), When::Gone);
        }
        let data = file.cluster.bricks[usize::from(!given_up)].data(&file.path);
        assert_eq!(String::from_utf8(data).unwrap().replace('\0', "_"), expected, "{when:?} {given_up}");
        assert_eq!(file.cluster.bricks[1].xattr(&file.path, keys::PROTECT_WRITES), None, "it may move on");
        assert!(file.cluster.bricks.iter().all(|brick| brick.held_locks() == 0));
    }
}

#[test]
fn changes_of_data_reach_the_destination() {
    let write = |at: u64| {
        async move |context: Context, top: Arc<Distribute>, file: &Moving| {
            let data = smallvec![Bytes::from_static(b"ab")];
            let reply = top.writev(&context, &file.fd, data, at, 0, Dict::NULL).await.unwrap();
            assert_eq!(reply.written, 2);
            seen(&reply.pre);
            seen(&reply.post);
        }
    };
    change_of_data(libc::O_RDWR, write(3), "012ab56789");
    // Nothing may be emptied when it is opened again.
    change_of_data(libc::O_RDWR | libc::O_CREAT | libc::O_EXCL, write(12), "0123456789__ab");
    change_of_data(libc::O_WRONLY | libc::O_APPEND, write(0), "0123456789ab");
    change_of_data(
        libc::O_RDWR,
        async |context, top, file| seen(&top.ftruncate(&context, &file.fd, 4, Dict::NULL).await.unwrap().post),
        "0123",
    );
    change_of_data(
        libc::O_RDWR,
        async |context, top, file| seen(&top.truncate(&context, &file.loc, 5, Dict::NULL).await.unwrap().post),
        "01234",
    );
    change_of_data(
        libc::O_RDWR,
        async |context, top, file| {
            seen(&top.fallocate(&context, &file.fd, false, 8, 4, Dict::NULL).await.unwrap().post)
        },
        "0123456789__",
    );
    change_of_data(
        libc::O_RDWR,
        async |context, top, file| seen(&top.discard(&context, &file.fd, 1, 2, Dict::NULL).await.unwrap().post),
        "0__3456789",
    );
    change_of_data(
        libc::O_RDWR,
        async |context, top, file| seen(&top.zerofill(&context, &file.fd, 2, 2, Dict::NULL).await.unwrap().post),
        "01__456789",
    );
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| seen(&top.fsync(&context, &file.fd, true, Dict::NULL).await.unwrap().post),
        |file, when| {
            assert!(file.cluster.traces()[1].contains(&"FSYNC".to_owned()), "{when:?}");
            assert_eq!(file.data(), "0123456789");
        },
    );
}

#[test]
fn reads_and_attributes_come_from_where_the_file_is() {
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| {
            for _ in 0..2 {
                let read = top.readv(&context, &file.fd, 100, 0, 0, Dict::NULL).await.unwrap();
                assert_eq!(read.data.concat(), b"0123456789");
                seen(&read.stat);
            }
            seen(&top.stat(&context, &file.loc, Dict::NULL).await.unwrap().stat);
            seen(&top.fstat(&context, &file.fd, Dict::NULL).await.unwrap().stat);
            top.access(&context, &file.loc, 4, Dict::NULL).await.unwrap();
            let again = Fd::new(file.loc.inode.clone(), libc::O_RDONLY, 42);
            top.open(&context, &file.loc, libc::O_RDONLY, &again, Dict::NULL).await.unwrap();
            let read = top.readv(&context, &again, 100, 0, 0, Dict::NULL).await.unwrap();
            assert_eq!(read.data.concat(), b"0123456789");
            let fresh = Loc { inode: Inode::fresh(), ..file.loc.clone() };
            seen(&top.lookup(&context, &fresh, Dict::NULL).await.unwrap().stat);
            seen(&top.lookup(&context, &file.loc, Dict::NULL).await.unwrap().stat);
        },
        |_, _| {},
    );
    let ours = || Dict::empty().with("user.a", Value::Ptr(Bytes::from_static(b"1")));
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| {
            top.setxattr(&context, &file.loc, ours(), 0, Dict::NULL).await.unwrap();
            let by_name = top.getxattr(&context, &file.loc, Some("user.a"), Dict::NULL).await.unwrap();
            let by_fd = top.fgetxattr(&context, &file.fd, Some("user.a"), Dict::NULL).await.unwrap();
            assert!(by_name.dict.contains("user.a") && by_fd.dict.contains("user.a"));
        },
        |_, _| {},
    );
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| {
            let owner = Iatt { uid: 7, ..Iatt::default() };
            let set = top.setattr(&context, &file.loc, &owner, set_attr::UID, Dict::NULL).await.unwrap();
            seen(&set.post);
        },
        |file, when| assert_eq!(file.cluster.bricks[1].stat_of(&file.path).unwrap().uid, 7, "{when:?}"),
    );
}

#[test]
fn changes_of_xattrs_reach_the_destination() {
    let value = || Dict::empty().with("user.a", Value::Ptr(Bytes::from_static(b"1")));
    let there = |file: &Moving, when| {
        assert_eq!(file.cluster.bricks[1].xattr(&file.path, "user.a").as_deref(), Some(&b"1"[..]), "{when:?}");
    };
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| {
            top.setxattr(&context, &file.loc, value(), 0, Dict::NULL).await.unwrap();
        },
        there,
    );
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| {
            top.fsetxattr(&context, &file.fd, value(), 0, Dict::NULL).await.unwrap();
        },
        there,
    );
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| {
            top.setxattr(&context, &file.loc, value(), 0, Dict::NULL).await.unwrap();
            top.removexattr(&context, &file.loc, "user.a", Dict::NULL).await.unwrap();
        },
        |file, _| assert_eq!(file.cluster.bricks[1].xattr(&file.path, "user.a"), None),
    );
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| {
            let one = Dict::empty().with("user.sum", Value::Ptr(Bytes::from_static(&[0, 0, 0, 1])));
            let add = rgfs_protocol::types::XattropFlags::AddArray;
            top.xattrop(&context, &file.loc, add, one, Dict::NULL).await.unwrap();
        },
        |file, when| {
            let sum = file.cluster.bricks[1].xattr(&file.path, "user.sum");
            assert_eq!(sum.as_deref(), Some(&[0, 0, 0, 1][..]), "{when:?}");
        },
    );
}

#[test]
fn locks_follow_the_file() {
    in_each_phase(
        libc::O_RDWR,
        async |context, top, file| {
            let owner = LockOwner(b"me"[..].into());
            let flock = Flock { kind: LockType::Write, whence: 0, start: 0, len: 0, pid: 42, owner };
            let _: LkReply = top.lk(&context, &file.fd, LkCmd::SetLk, flock, Dict::NULL).await.unwrap();
            top.flush(&context, &file.fd, Dict::NULL).await.unwrap();
        },
        |file, when| {
            let there = file.cluster.traces()[1].contains(&"LK".to_owned());
            assert_eq!(there, when == When::Gone, "{when:?}");
        },
    );
}

#[test]
fn names_made_and_taken_on_the_way() {
    for when in ALL {
        for home in 0..2 {
            let file = Moving::new(libc::O_RDWR);
            let name = file.cluster.name_at("/", home, 5);
            file.advance(None, when);
            let new = Loc::entry(file.cluster.root.clone(), name.clone(), file.loc.inode.clone());
            file.ask(|context, top, file| async move {
                seen(&top.link(&context, &file.loc, &new, Dict::NULL).await.unwrap().stat);
            });
            file.advance(Some(when), When::Gone);
            for name in [name.as_str(), &file.path[1..]] {
                let found = file.cluster.second_client().find(&file.cluster.root, name);
                assert_eq!(found.gfid(), file.loc.gfid(), "{name} {when:?} {home}");
            }
        }

        let file = Moving::new(libc::O_RDWR);
        let name = file.cluster.name_at("/", 0, 5);
        file.advance(None, When::Moved);
        if when == When::Gone {
            file.advance(Some(When::Moved), When::Gone);
        }
        let new = Loc::entry(file.cluster.root.clone(), name.clone(), Inode::fresh());
        file.ask(|context, top, file| async move {
            top.rename(&context, &file.loc, &new, Dict::NULL).await.unwrap();
        });
        let found = file.cluster.second_client().find(&file.cluster.root, &name);
        assert_eq!(found.gfid(), file.loc.gfid(), "{when:?}");

        let file = Moving::new(libc::O_RDWR);
        file.advance(None, when);
        file.cluster.unlink(&file.cluster.root, &file.path[1..], &file.loc.inode).0.unwrap();
        assert_eq!(file.cluster.bricks.iter().map(|brick| brick.list("/").len()).sum::<usize>(), 0, "{when:?}");
    }
}

#[test]
fn what_moves_nothing_costs_nothing() {
    let file = Moving::new(libc::O_RDWR);
    let (rounds, _) = file.cluster.run(|context, top| {
        let file = &file;
        async move {
            top.writev(&context, &file.fd, smallvec![Bytes::from_static(b"x")], 0, 0, Dict::NULL).await.unwrap();
            top.readv(&context, &file.fd, 1, 0, 0, Dict::NULL).await.unwrap();
            top.fsync(&context, &file.fd, false, Dict::NULL).await.unwrap();
            top.flush(&context, &file.fd, Dict::NULL).await.unwrap();
            context.rounds.requests()
        }
    });
    assert_eq!((rounds, file.cluster.traces()[1].len()), (4, 0));
}

/// Sets an xattr through the descriptor.
fn set_xattr(file: &Moving, name: &'static str) {
    file.ask(|context, top, file| async move {
        let dict = Dict::empty().with(name, Value::Ptr(Bytes::from_static(b"1")));
        top.fsetxattr(&context, &file.fd, dict, 0, Dict::NULL).await.unwrap();
    });
}

#[test]
fn a_second_change_asks_only_whether_it_was_in_time() {
    let file = Moving::new(libc::O_RDWR);
    file.advance(None, When::Moving);
    let change = || {
        set_xattr(&file, "user.a");
        file.cluster.traces()
    };
    let first = change();
    assert_eq!(first[0], ["FSETXATTR", "FGETXATTR trusted.glusterfs.dht.linkto", "FSTAT"]);
    assert_eq!(first[1], ["LOOKUP", "OPEN", "FSETXATTR"]);
    assert_eq!(change(), [&["FSETXATTR", "FSTAT"][..], &["FSETXATTR"]]);
}

/// Writes "ab" at 3, or appends it.
fn write_ab(file: &Moving) {
    file.ask(|context, top, file| async move {
        let data = smallvec![Bytes::from_static(b"ab")];
        let reply = top.writev(&context, &file.fd, data, 3, 0, Dict::NULL).await.unwrap();
        assert_eq!(reply.written, 2);
        seen(&reply.post);
    });
}

/// The move ends when the fop has been done at the source, and somebody writes at the destination before it is repeated there.
#[test]
fn a_move_that_ends_between_two_steps_of_a_fop() {
    let end = |file: &Moving, fop: &'static str, appended: &'static [u8]| {
        let (source, aim, path) = (file.cluster.bricks[0].clone(), file.cluster.bricks[1].clone(), file.path.clone());
        file.cluster.bricks[0].before(fop, move || {
            source.flip(&aim, &path);
            source.finish_move(&aim, &path);
            aim.put_data(&path, &[&b"0123456789"[..], appended].concat());
        });
    };
    let file = Moving::new(libc::O_RDWR);
    file.advance(None, When::Moving);
    end(&file, "FSTAT", b"XY");
    write_ab(&file);
    assert_eq!(file.data(), "012ab56789XY");

    // By name: the source has nothing that could be asked.
    let file = Moving::new(libc::O_RDWR);
    file.advance(None, When::Moving);
    end(&file, "STAT", b"");
    file.ask(|context, top, file| async move {
        top.truncate(&context, &file.loc, 5, Dict::NULL).await.unwrap();
    });
    assert_eq!(file.data(), "01234");
}

/// The move ends before the fop is repeated at the destination, and the file moves back, or has moved back.
#[test]
fn a_destination_that_is_a_source_by_now() {
    for finished in [false, true] {
        let file = Moving::new(libc::O_RDWR);
        let [source, aim] = &file.cluster.bricks[..] else { panic!("two bricks") };
        file.advance(None, When::Moving);
        // A descriptor at the destination, so that what is left there lives on.
        set_xattr(&file, "user.a");
        let (from, to, path) = (source.clone(), aim.clone(), file.path.clone());
        aim.before("FSETXATTR", move || {
            complete(&from, &to, &path);
            to.begin_move(&from, &path);
            to.copy_to(&from, &path);
            if finished {
                to.flip(&from, &path);
            }
        });
        set_xattr(&file, "user.b");
        assert!(source.xattr(&file.path, "user.b").is_some(), "{finished}");
    }
}

/// Two moves, and the data is what it was.
fn go_and_come_back(file: &Moving) {
    file.advance(None, When::Gone);
    let [source, aim] = &file.cluster.bricks[..] else { panic!("two bricks") };
    aim.begin_move(source, &file.path);
    aim.copy_to(source, &file.path);
    complete(aim, source, &file.path);
    source.put_data(&file.path, b"0123456789");
}

#[test]
fn a_file_that_came_back_is_not_the_one_that_went() {
    let file = Moving::new(libc::O_RDWR);
    write_ab(&file);
    go_and_come_back(&file);
    for _ in 0..2 {
        write_ab(&file);
    }
    assert_eq!(file.cluster.bricks[0].data(&file.path), b"012ab56789");
    file.cluster.traces();
    write_ab(&file);
    assert_eq!(file.cluster.traces(), [&["WRITE"][..], &[]], "that was found out once and for all");
}

#[test]
fn the_destination_of_a_second_move_is_not_that_of_the_first() {
    let file = Moving::new(libc::O_RDWR);
    let [source, aim] = &file.cluster.bricks[..] else { panic!("two bricks") };
    file.advance(None, When::Moving);
    set_xattr(&file, "user.a");
    source.give_up_move(aim, &file.path);
    file.advance(None, When::Moving);
    set_xattr(&file, "user.b");
    assert!(aim.xattr(&file.path, "user.b").is_some());
}

/// Our memory, and a descriptor, are of the time when the file was at the destination.
fn with_a_memory_of_the_destination(flags: i32) -> Moving {
    let file = Moving::new(flags);
    file.cluster.bricks[0].begin_move(&file.cluster.bricks[1], &file.path);
    file.ask(|context, top, file| async move {
        top.core.remember_file(&file.loc.inode, 1);
        top.core.child(1).open(&context, &file.loc, flags, &file.fd, Dict::NULL).await.unwrap();
    });
    file
}

/// The move ends at that moment at the destination.
fn end_before(file: &Moving, moment: &'static str) {
    let (source, aim, path) = (file.cluster.bricks[0].clone(), file.cluster.bricks[1].clone(), file.path.clone());
    file.cluster.bricks[1].before(moment, move || {
        source.copy_to(&aim, &path);
        complete(&source, &aim, &path);
    });
}

#[test]
fn what_came_to_the_destination_too_early() {
    for moment in ["written", "FSTAT"] {
        for (flags, expected) in [(libc::O_RDWR, "012ab56789"), (libc::O_WRONLY | libc::O_APPEND, "0123456789ab")] {
            let file = with_a_memory_of_the_destination(flags);
            end_before(&file, moment);
            write_ab(&file);
            assert_eq!(file.data(), expected, "{moment}");
        }
    }

    let file = with_a_memory_of_the_destination(libc::O_RDWR);
    end_before(&file, "FGETXATTR");
    file.ask(|context, top, file| async move {
        let read = top.readv(&context, &file.fd, 100, 0, 0, Dict::NULL).await.unwrap();
        assert_eq!(read.data.concat(), b"0123456789");
    });
}

#[test]
fn bits_of_a_user_are_no_marks() {
    for mode in [0o103_644, 0o101_000] {
        let file = Moving::new(libc::O_RDWR);
        let stat = Iatt { mode, ..Iatt::default() };
        file.ask(|context, top, file| async move {
            top.setattr(&context, &file.loc, &stat, set_attr::MODE, Dict::NULL).await.unwrap();
            let data = smallvec![Bytes::from_static(b"x")];
            let reply = top.writev(&context, &file.fd, data, 0, 0, Dict::NULL).await.unwrap();
            assert_eq!(reply.post.mode, mode);
        });
        assert_eq!(file.cluster.bricks[0].data(&file.path), b"x123456789");
        assert!(!file.cluster.traces()[1].contains(&"WRITE".to_owned()));
    }
}
