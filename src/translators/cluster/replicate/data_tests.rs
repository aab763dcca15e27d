//! Changes of content and attributes over a cluster in memory: what goes to which brick, in how many rounds, and what is
//! noted when something fails.

use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno};

use super::testing::{ARBITER, REPLICA_3, Replica, program};
use crate::simulation::Verdict;
use crate::{Loc, Translator};

const SECOND: Duration = Duration::from_secs(1);
const WRITE_XDATA: &str =
    r#"xdata{glusterfs.inodelk-dom-count="test" glusterfs.open-active-fd-count=u64 4 glusterfs.write-is-append=u64 4}"#;

#[test]
fn a_burst_of_writes_locks_and_marks_once() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    assert_eq!(replica.write(0, &fd, "twelve bytes", 0), (Ok(12), 3));
    assert_eq!(replica.write(0, &fd, "seven77", 12), (Ok(7), 1));
    let expected = [
        "FINODELK 0,1,2 /f SETLK WR 0,0 dom=test".to_owned(),
        "FXATTROP 0,1,2 /f {dirty[1,0,0] …0}".to_owned(),
        format!("WRITE 0,1,2 /f off=0 size=12 {WRITE_XDATA}"),
        format!("WRITE 0,1,2 /f off=12 size=7 {WRITE_XDATA}"),
    ];
    assert_eq!(replica.sent(), expected);
    // Idle: nothing for a second after the last write, and then the end.
    assert!(replica.sent_within(SECOND / 2).is_empty());
    let end = ["FXATTROP 0,1,2 /f {dirty[-1,0,0] …0}", "FINODELK 0,1,2 /f SETLK UNLCK 0,0 dom=test"];
    assert_eq!(replica.sent_within(SECOND), end);
    assert!(replica.leftovers().is_empty());
}

#[test]
fn a_flush_of_the_same_fd_ends_the_session_and_waits_for_nothing() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let (fd, other) = (replica.open(0, &file), replica.open(0, &file));
    replica.write(0, &fd, "text", 0).0.unwrap();
    replica.forget();
    let context = program(0);
    replica.cluster.block_on(replica.clients[0].flush(&context, &other, Dict::NULL)).unwrap();
    assert!(!replica.sent().iter().any(|line| line.starts_with("FXATTROP")), "another fd's");
    replica.cluster.block_on(replica.clients[0].flush(&context, &fd, Dict::NULL)).unwrap();
    let lines = replica.sent();
    assert!(lines.contains(&"FXATTROP 0,1,2 /f {dirty[-1,0,0] …0}".to_owned()), "{lines:#?}");
    assert!(replica.leftovers().is_empty());
}

#[test]
fn an_overwrite_is_on_disk_before_the_mark_goes() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.write(0, &fd, "text", 0).0.unwrap();
    replica.write(0, &fd, "TEXT", 0).0.unwrap();
    replica.forget();
    let lines = replica.sent_within(2 * SECOND);
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].starts_with("FSYNC 0,1,2 /f"), "{lines:#?}");
    assert_eq!(lines[1], "FXATTROP 0,1,2 /f {dirty[-1,0,0] …0}");
}

#[test]
fn attributes_need_no_mark_while_all_are_there() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    replica.open(0, &file);
    let (done, rounds) = replica.chmod(0, &file, 0o600);
    done.unwrap();
    assert_eq!(rounds, 2);
    let lines = replica.sent();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(lines[0], "INODELK 0,1,2 /f SETLK WR MAX-1,0 dom=test");
    assert!(lines[1].starts_with("SETATTR 0,1,2 /f"));
    assert_eq!(lines[2], "INODELK 0,1,2 /f SETLK UNLCK MAX-1,0 dom=test");
}

#[test]
fn attributes_that_too_few_copies_took_are_marked_and_nobody_is_accused() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    replica.open(0, &file);
    replica.cluster.fail_next(0, "SETATTR", Errno::EIO);
    replica.cluster.fail_next(1, "SETATTR", Errno::ENOSPC);
    replica.chmod(0, &file, 0o600).0.unwrap_err();
    let lines = replica.sent();
    assert!(lines.contains(&"XATTROP 2 /f {dirty[0,1,0]}".to_owned()), "{lines:#?}");
    assert_eq!(replica.leftovers(), ["2: /f trusted.afr.dirty [0, 1, 0]"]);
}

#[test]
fn a_truncate_ends_its_session_at_once() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    replica.open(0, &file);
    let context = program(0);
    let loc = Loc::inode(file);
    let truncate = replica.clients[0].truncate(&context, &loc, 5, Dict::NULL);
    replica.cluster.block_on(truncate).unwrap();
    assert_eq!(context.rounds.count(), 3);
    let lines = replica.sent();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert_eq!(lines[1], "XATTROP 0,1,2 /f {dirty[1,0,0] …0}");
    assert_eq!(lines[3], "XATTROP 0,1,2 /f {dirty[-1,0,0] …0}");
    assert!(replica.leftovers().is_empty());
}

#[test]
fn a_brick_that_is_away_is_accused_before_the_first_answer_and_then_once_per_session() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    replica.cluster.kill_brick(2);
    replica.cluster.settle();
    let fd = replica.open(0, &file);
    assert_eq!(replica.write(0, &fd, "one", 0).0, Ok(3));
    for brick in [0, 1] {
        assert_eq!(replica.cluster.changelog(brick, "/f", "v-client-2"), [1, 0, 0]);
    }
    // From now on nothing can be lost by waiting.
    assert_eq!(replica.write(0, &fd, "two", 3).0, Ok(3));
    assert_eq!(replica.write(0, &fd, "three", 6).0, Ok(5));
    assert_eq!(replica.cluster.changelog(0, "/f", "v-client-2"), [1, 0, 0]);
    replica.cluster.run_for(2 * SECOND);
    for brick in [0, 1] {
        assert_eq!(replica.cluster.changelog(brick, "/f", "v-client-2"), [2, 0, 0]);
        assert_eq!(replica.cluster.changelog(brick, "/f", "dirty"), [0, 0, 0]);
    }
    replica.chmod(0, &file, 0o600).0.unwrap();
    let lines = replica.sent();
    assert_eq!(lines[lines.len() - 4], "XATTROP 0,1 /f {dirty[0,1,0] …0}");
    assert_eq!(lines[lines.len() - 2], "XATTROP 0,1 /f {dirty[0,-1,0] v-client-2[0,1,0] …0}");
}

#[test]
fn the_program_hears_of_success_after_a_failure_was_noted() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.write(0, &fd, "text", 0).0.unwrap();
    replica.write(0, &fd, "TEXT", 0).0.unwrap();
    replica.forget();
    replica.cluster.fail_next(2, "WRITE", Errno::ENOSPC);
    let (written, rounds) = replica.write(0, &fd, "more", 4);
    assert_eq!((written, rounds), (Ok(4), 1));
    let lines = replica.sent();
    let noted = "FXATTROP 0,1 /f {dirty[-1,0,0] v-client-2[1,0,0] …0}";
    assert!(lines.iter().any(|line| line == noted), "{lines:#?}");
    assert_eq!(replica.cluster.changelog(2, "/f", "dirty"), [1, 0, 0], "it missed something: its mark stays");
    assert_eq!(replica.cluster.changelog(2, "/f", "v-client-0"), [0, 0, 0]);
}

#[test]
fn a_short_write_is_a_failure_of_that_copy() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.cluster.next(1, "WRITE", Verdict::Short(2));
    assert_eq!(replica.write(0, &fd, "text", 0).0, Ok(4));
    replica.cluster.run_for(2 * SECOND);
    assert_eq!(replica.cluster.changelog(0, "/f", "v-client-1"), [1, 0, 0]);
    assert_eq!(replica.cluster.changelog(2, "/f", "v-client-1"), [1, 0, 0]);
}

/// Rebalance marks the copies of a file one by one.
#[test]
fn an_answer_shows_a_move_that_any_copy_knows_of() {
    for (layout, marked, expected) in [
        (REPLICA_3, 0, 0o103_644),
        (REPLICA_3, 2, 0o103_644),
        (ARBITER, 1, 0o103_644),
        // Nothing is copied from an arbiter.
        (ARBITER, 2, 0o100_644),
    ] {
        let replica = Replica::new(layout, 1);
        let file = replica.file("f", 7);
        let fd = replica.open(0, &file);
        replica.cluster.tamper(marked, "/f", |copy| copy.stat.mode |= 0o3000);
        let (context, data) = (program(0), [Bytes::from_static(b"text")].into());
        let write = replica.clients[0].writev(&context, &fd, data, 0, 0, Dict::NULL);
        let mode = replica.cluster.block_on(write).unwrap().post.mode;
        assert_eq!(mode, expected, "{layout:?} {marked}: {mode:o}");
    }
}

#[test]
fn an_error_that_all_share_accuses_nobody() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    for brick in 0..3 {
        replica.cluster.fail_next(brick, "WRITE", Errno::ENOSPC);
    }
    assert_eq!(replica.write(0, &fd, "text", 0).0, Err(Errno::ENOSPC));
    replica.cluster.run_for(2 * SECOND);
    assert!(replica.leftovers().is_empty(), "{:?}", replica.leftovers());
}

#[test]
fn a_copy_that_lacks_the_xattr_that_is_removed_missed_nothing() {
    for lacking in 0..3 {
        let replica = Replica::new(REPLICA_3, 1);
        let loc = Loc::inode(replica.file("f", 7));
        for brick in (0..3).filter(|brick| *brick != lacking) {
            replica.cluster.put_xattr(brick, "/f", "user.x", Some(b"value"));
        }
        let remove = || {
            let (context, client) = (program(0), &replica.clients[0]);
            replica
                .cluster
                .block_on(client.removexattr(&context, &loc, "user.x", Dict::NULL))
                .map_err(|error| error.errno)
        };
        remove().unwrap();
        assert!((0..3).all(|brick| replica.cluster.xattr(brick, "/f", "user.x").is_none()));
        assert_eq!(remove(), Err(Errno::ENODATA), "nobody has it");
        replica.cluster.run_for(SECOND);
        assert!(replica.leftovers().is_empty(), "{:?}", replica.leftovers());
    }
}

#[test]
fn a_quorum_that_is_lost_in_the_write_leaves_the_mark_and_accuses_nobody() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    for brick in [1, 2] {
        replica.cluster.fail_next(brick, "WRITE", Errno::EIO);
    }
    assert_eq!(replica.write(0, &fd, "text", 0).0, Err(Errno::EIO));
    replica.cluster.run_for(2 * SECOND);
    for brick in 0..3 {
        assert_eq!(replica.cluster.changelog(brick, "/f", "dirty"), [1, 0, 0]);
        for who in ["v-client-0", "v-client-1", "v-client-2"] {
            assert_eq!(replica.cluster.changelog(brick, "/f", who), [0, 0, 0]);
        }
    }
    assert!((0..3).all(|brick| replica.cluster.locks(brick).is_empty()));
}

#[test]
fn a_quorum_that_is_lost_in_the_sync_leaves_the_mark_and_accuses_nobody() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.write(0, &fd, "text", 0).0.unwrap();
    replica.cluster.run_for(2 * SECOND);
    replica.cluster.kill_brick(2);
    replica.cluster.fail_next(1, "FSYNC", Errno::ENOTCONN);
    assert_eq!(replica.write(0, &fd, "TEXT", 0).0, Err(Errno::ENOTCONN), "one copy has it on disk");
    replica.cluster.run_for(2 * SECOND);
    for brick in [0, 1] {
        assert_eq!(replica.cluster.changelog(brick, "/f", "dirty"), [1, 0, 0]);
        assert_eq!(replica.cluster.changelog(brick, "/f", "v-client-2"), [0, 0, 0]);
    }
}

#[test]
fn the_only_good_copy_must_not_miss_a_write() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let accused = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    replica.cluster.put_xattr(0, "/f", "trusted.afr.v-client-1", Some(&accused));
    replica.cluster.put_xattr(0, "/f", "trusted.afr.v-client-2", Some(&accused));
    let fd = replica.open(0, &file);
    replica.cluster.fail_next(0, "WRITE", Errno::ENOSPC);
    assert_eq!(replica.write(0, &fd, "text", 0).0, Err(Errno::ENOSPC));
    replica.cluster.run_for(2 * SECOND);
    for brick in [1, 2] {
        assert_eq!(replica.cluster.changelog(brick, "/f", "v-client-0"), [0, 0, 0]);
        assert_eq!(replica.cluster.changelog(brick, "/f", "dirty"), [1, 0, 0]);
    }
}

#[test]
fn copies_that_accuse_each_other_are_not_written() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    let accused = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    for (brick, other) in [(0, 1), (1, 2), (2, 0)] {
        replica.cluster.put_xattr(brick, "/f", &format!("trusted.afr.v-client-{other}"), Some(&accused));
    }
    assert_eq!(replica.write(0, &fd, "text", 0).0, Err(Errno::EIO));
    assert!((0..3).all(|brick| replica.cluster.data(brick, "/f").unwrap().is_empty()));
}

#[test]
fn a_brick_that_comes_back_is_locked_before_it_is_written() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.cluster.kill_brick(2);
    replica.cluster.settle();
    replica.write(0, &fd, "one", 0).0.unwrap();
    replica.cluster.restart_brick(2);
    replica.cluster.run_for(SECOND * 9 / 10);
    replica.forget();
    replica.write(0, &fd, "two", 3).0.unwrap();
    let lines = replica.sent();
    let position = |start: &str| lines.iter().position(|line| line.starts_with(start));
    let locked = position("FINODELK 0,1,2 /f SETLK WR").unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(locked < position("WRITE 0,1,2").unwrap(), "{lines:#?}");
    assert!(position("FINODELK 0,1 /f SETLK UNLCK").is_none_or(|unlocked| unlocked < locked), "{lines:#?}");
}

#[test]
fn who_waits_for_the_lock_gets_it_soon() {
    let replica = Replica::new(REPLICA_3, 2);
    let (first, second) =
        (replica.file("f", 7), crate::Inode::known(rgfs_protocol::Gfid([7; 16]), rgfs_protocol::FileType::Regular));
    let (one, two) = (replica.open(0, &first), replica.open(1, &second));
    replica.write(0, &one, "one", 0).0.unwrap();
    let before = replica.cluster.now();
    replica.write(1, &two, "two", 0).0.unwrap();
    assert!(replica.cluster.now() - before < SECOND * 6 / 5);
    for turn in 0..20 {
        let (client, fd) = if turn % 2 == 0 { (0, &one) } else { (1, &two) };
        replica.write(client, fd, "again", turn).0.unwrap();
    }
    replica.cluster.run_for(2 * SECOND);
    assert!(replica.leftovers().is_empty());
    assert!(replica.cluster.compare_bricks().is_empty());
}

#[test]
fn an_arbiter_gets_one_byte() {
    let replica = Replica::new(ARBITER, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    assert_eq!(replica.write(0, &fd, "twelve bytes", 0).0, Ok(12));
    let lines = replica.sent();
    assert!(lines.iter().any(|line| line.starts_with("WRITE 0,1 /f off=0 size=12")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("WRITE 2 /f off=0 size=1 ")), "{lines:#?}");
    replica.cluster.run_for(2 * SECOND);
    assert!(replica.leftovers().is_empty());
    assert_eq!(replica.cluster.data(2, "/f").unwrap().len(), 0);
}

#[test]
fn the_arbiter_is_the_first_to_note_that_a_copy_missed_a_write() {
    let replica = Replica::new(ARBITER, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    let accusations = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| line.contains("v-client-1[1,0,0]")).collect()
    };
    replica.cluster.kill_brick(1);
    replica.write(0, &fd, "text", 0).0.unwrap();
    let note = "/f {dirty[-1,0,0] v-client-1[1,0,0] …0}";
    assert_eq!(accusations(replica.sent()), [format!("FXATTROP 2 {note}"), format!("FXATTROP 0 {note}")]);
    replica.write(0, &fd, "TEXT", 0).0.unwrap();
    let known = accusations(replica.sent_within(2 * SECOND));
    assert_eq!(known, [format!("FXATTROP 0,2 {note}")], "it is no news any more");
}

#[test]
fn a_copy_of_data_alone_accuses_nobody() {
    let replica = Replica::new(ARBITER, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.cluster.kill_brick(1);
    let mut marks = 0;
    replica.cluster.add_rule(2, move |call| {
        marks += usize::from(call.fop == "FXATTROP");
        if call.fop == "FXATTROP" && marks == 2 { Verdict::Fail(Errno::EIO) } else { Verdict::Pass }
    });
    assert_eq!(replica.write(0, &fd, "text", 0).0, Err(Errno::ENOTCONN));
    replica.cluster.run_for(2 * SECOND);
    assert_eq!(replica.cluster.changelog(0, "/f", "v-client-1"), [0, 0, 0]);
    assert_eq!(replica.cluster.changelog(0, "/f", "dirty"), [1, 0, 0]);
}

#[test]
fn an_arbiter_does_not_stand_in_for_a_good_copy() {
    let replica = Replica::new(ARBITER, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.cluster.kill_brick(1);
    replica.cluster.settle();
    replica.write(0, &fd, "text", 0).0.unwrap();
    replica.cluster.run_for(2 * SECOND);
    replica.cluster.restart_brick(1);
    replica.cluster.run_for(2 * SECOND);
    replica.cluster.kill_brick(0);
    replica.cluster.settle();
    assert_eq!(replica.write(0, &fd, "lost", 0).0, Err(Errno::ENOTCONN));
    assert!(replica.cluster.data(1, "/f").unwrap().is_empty());
}

#[test]
fn an_fsync_without_a_session_takes_one_round() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    let sync = |expected: u32| {
        let context = program(0);
        replica.cluster.block_on(replica.clients[0].fsync(&context, &fd, false, Dict::NULL)).unwrap();
        assert_eq!(context.rounds.count(), expected);
    };
    sync(1);
    replica.write(0, &fd, "text", 0).0.unwrap();
    sync(1);
    replica.forget();
    replica.cluster.run_for(2 * SECOND);
    // A disk says so once.
    replica.cluster.fail_next(1, "FSYNC", Errno::EIO);
    let context = program(0);
    replica.cluster.block_on(replica.clients[0].fsync(&context, &fd, false, Dict::NULL)).unwrap();
    replica.cluster.run_for(2 * SECOND);
    assert_eq!(replica.cluster.changelog(0, "/f", "v-client-1"), [1, 0, 0], "a copy that cannot sync is not trusted");
}

/// It may hold what was appended before and not synced, and a power cut may take that.
#[test]
fn a_copy_that_is_away_when_a_file_is_synced_is_not_trusted() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.write(0, &fd, "text", 0).0.unwrap();
    replica.cluster.run_for(2 * SECOND);
    replica.cluster.kill_brick(1);
    replica.cluster.run_for(SECOND);
    replica.cluster.block_on(replica.clients[0].fsync(&program(0), &fd, false, Dict::NULL)).unwrap();
    assert_eq!(replica.cluster.changelog(0, "/f", "v-client-1"), [1, 0, 0]);
}

#[test]
fn writes_to_other_ranges_are_in_flight_together_and_overlapping_ones_are_not() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    let top = &replica.clients[0];
    let data = |text: &'static str| crate::reply::Payload::from_iter([bytes::Bytes::from_static(text.as_bytes())]);
    let (first, second, third) = (program(0), program(0), program(0));
    let all = async {
        let writes = crate::translators::cluster::join_all([
            top.writev(&first, &fd, data("aaaa"), 0, 0, Dict::NULL),
            top.writev(&second, &fd, data("bbbb"), 8, 0, Dict::NULL),
            top.writev(&third, &fd, data("cccc"), 2, 0, Dict::NULL),
        ]);
        writes.await
    };
    assert!(replica.cluster.block_on(all).iter().all(Result::is_ok));
    let lines = replica.sent();
    let writes: Vec<&String> = lines.iter().filter(|line| line.starts_with("WRITE 0,1,2")).collect();
    assert_eq!(writes.len(), 3, "{lines:#?}");
    assert!(writes[2].contains("off=2 "), "the overlapping one comes last: {lines:#?}");
    replica.cluster.run_for(2 * SECOND);
    assert_eq!(replica.cluster.data(0, "/f").unwrap(), b"aacccc\0\0bbbb");
    assert!(replica.leftovers().is_empty());
}

#[test]
fn unmounting_leaves_nothing_behind() {
    let replica = Replica::new(REPLICA_3, 1);
    let file = replica.file("f", 7);
    let fd = replica.open(0, &file);
    replica.write(0, &fd, "text", 0).0.unwrap();
    let before = replica.cluster.now();
    replica.cluster.block_on(replica.clients[0].drain());
    assert!(replica.cluster.now() - before < SECOND / 10);
    assert!(replica.leftovers().is_empty());
}
