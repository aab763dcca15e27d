//! What sessions must not do to others: keep them out, show them a copy that missed something, or leave things undone.

use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt};

use super::testing::{ARBITER, REPLICA_3, Replica, program};
use crate::reply::Payload;
use crate::simulation::Verdict;
use crate::{Inode, Loc, Translator};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(100);

fn text(text: &'static str) -> Payload {
    Payload::from_iter([Bytes::from_static(text.as_bytes())])
}

#[test]
fn a_copy_that_missed_a_write_is_not_read_however_early_somebody_asked_how_it_is() {
    let replica = Replica::with(REPLICA_3, 1, &[("read-subvolume-index", "2")]);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.write(0, &fd, "old", 0).0.unwrap();
    let read = || {
        let context = program(0);
        let read = replica.clients[0].readv(&context, &fd, 3, 0, 0, Dict::NULL);
        let reply = replica.cluster.block_on(read).unwrap();
        reply.data.iter().flat_map(|part| part.to_vec()).collect::<Vec<u8>>()
    };
    assert_eq!(read(), b"old");
    replica.cluster.fail_next(2, "WRITE", Errno::ENOSPC);
    for brick in [0, 1] {
        replica.cluster.next(brick, "FXATTROP", Verdict::Wait(SECOND));
    }
    let (top, to) = (replica.clients[0].clone(), fd.clone());
    let writing = async move { top.writev(&program(0), &to, text("new"), 0, 0, Dict::NULL).await };
    let mut writing = replica.cluster.spawn(writing);
    replica.cluster.run_for(SECOND / 2);
    assert!(writing.result().is_none(), "what brick 2 missed is not noted yet");
    read();
    replica.cluster.run_for(SECOND);
    assert_eq!(writing.result().unwrap().unwrap().written, 3);
    assert_eq!(read(), b"new");
}

#[test]
fn changes_that_follow_each_other_without_end_do_not_keep_another_client_out() {
    let replica = Replica::new(REPLICA_3, 2);
    let file = replica.file("f", 7);
    for brick in 0..3 {
        let slow = |call: &crate::simulation::Call| {
            if call.fop == "SETATTR" && call.client == 0 { Verdict::Wait(MOMENT) } else { Verdict::Pass }
        };
        replica.cluster.add_rule(brick, slow);
    }
    for mode in [0o600, 0o640] {
        let (top, file) = (replica.clients[0].clone(), file.clone());
        replica.cluster.spawn(async move {
            let (stat, loc) = (Iatt { mode, ..Iatt::default() }, Loc::inode(file));
            for _ in 0..50 {
                top.setattr(&program(0), &loc, &stat, 1, Dict::NULL).await.unwrap();
            }
        });
    }
    replica.cluster.run_for(MOMENT);
    let before = replica.cluster.now();
    let other = Inode::known(Gfid([7; 16]), FileType::Regular);
    replica.chmod(1, &other, 0o666).0.unwrap();
    assert!(replica.cluster.now() - before < SECOND * 6 / 5, "{:?}", replica.cluster.now() - before);
    replica.cluster.run_for(20 * SECOND);
    assert!(replica.leftovers().is_empty());
}

#[test]
fn the_mount_ends_after_everything_that_was_put_off() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    replica.chmod(0, &file, 0o600).0.unwrap();
    replica.cluster.block_on(replica.clients[0].drain());
    assert!(replica.leftovers().is_empty(), "the lock of a metadata change");
    let loc = Loc::entry(super::testing::root(), "f".to_owned(), file);
    replica.cluster.block_on(replica.clients[0].unlink(&program(0), &loc, 0, Dict::NULL)).unwrap();
    replica.cluster.block_on(replica.clients[0].drain());
    assert!(replica.leftovers().is_empty(), "the lock of a name");
}

#[test]
fn an_fsync_that_waits_for_the_next_session_says_nothing_of_this_one() {
    let replica = Replica::new(REPLICA_3, 2);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.write(0, &fd, "text", 0).0.unwrap();
    replica.write(0, &fd, "TEXT", 0).0.unwrap();
    let other = replica.open(1, &Inode::known(Gfid([7; 16]), FileType::Regular));
    replica.cluster.next(0, "WRITE", Verdict::Wait(MOMENT));
    let (top, to) = (replica.clients[0].clone(), fd.clone());
    replica.cluster.spawn(async move { top.writev(&program(0), &to, text("more"), 4, 0, Dict::NULL).await });
    let top = replica.clients[1].clone();
    replica.cluster.spawn(async move { top.writev(&program(1), &other, text("else"), 8, 0, Dict::NULL).await });
    replica.forget();
    let top = replica.clients[0].clone();
    let synced = replica.cluster.spawn(async move { top.fsync(&program(0), &fd, false, Dict::NULL).await });
    let lines = replica.sent_within(3 * SECOND);
    let position = |of: &str| lines.iter().position(|line| line.starts_with(of)).unwrap();
    assert!(position("FSYNC") < position("FXATTROP 0,1,2 /f {dirty[-1,0,0]"), "{lines:#?}");
    replica.cluster.block_on(synced).unwrap();
    assert!(replica.leftovers().is_empty());
}

#[test]
fn an_arbiter_that_has_room_for_nothing_is_no_success() {
    let replica = Replica::new(ARBITER, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    for brick in [0, 1] {
        replica.cluster.fail_next(brick, "WRITE", Errno::ENOSPC);
    }
    assert_eq!(replica.write(0, &fd, "text", 0).0, Err(Errno::ENOSPC));
    replica.cluster.run_for(2 * SECOND);
    assert!(replica.leftovers().is_empty(), "{:?}", replica.leftovers());
}
