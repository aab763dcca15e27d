//! Each promise to callers, one test each.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{Dirent, Flock, LkCmd, LockOwner, LockType, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt};

use super::brick::*;
use crate::reply::*;
use crate::translators::performance::write_behind::WriteBehind;
use crate::translators::testing::Recorder;
use crate::{Context, Fd, Inode, Loc, Translator};

fn setup(options: &[(&str, &str)]) -> (Arc<Brick>, Arc<WriteBehind>, Arc<Inode>) {
    let brick = Brick::new();
    let top = write_behind(brick.clone(), options);
    (brick, top, Inode::known(GFID, FileType::Regular))
}

fn text(bytes: &'static str) -> Bytes {
    Bytes::from_static(bytes.as_bytes())
}

#[test]
fn a_write_is_sent_and_acknowledged_at_once_without_attributes() {
    let (brick, top, inode) = setup(&[]);
    let reply = write(&top, &open(&inode, 0), 5, text("hello")).now().unwrap();
    assert_eq!(reply.written, 5);
    assert!(reply.pre.is_absent() && reply.post.is_absent());
    assert_eq!(brick.waiting(), [(5, 5)]);
}

#[test]
fn synchronous_files_are_answered_by_the_brick() {
    for (options, flags, early) in [
        (&[][..], 0, true),
        (&[], libc::O_SYNC, false),
        (&[], libc::O_DSYNC, false),
        (&[], libc::O_DIRECT, true),
        (&[("strict-O_DIRECT", "on")], libc::O_DIRECT, false),
        (&[("pass-through", "on")], 0, false),
    ] {
        let (brick, top, inode) = setup(options);
        let answer = write(&top, &open(&inode, flags), 0, text("hello"));
        assert_eq!(answer.take().is_some(), early, "{options:?} {flags:o}");
        brick.answer(0, Outcome::Whole);
        if !early {
            assert!(!answer.now().unwrap().post.is_absent());
        }
    }
}

#[test]
fn small_neighbours_travel_together_as_slices() {
    let (brick, top, inode) = setup(&[]);
    let fd = open(&inode, 0);
    for offset in 0..10 {
        write(&top, &fd, offset, text("x")).now().unwrap();
    }
    assert_eq!(brick.waiting(), [(0, 1)]);
    brick.answer(0, Outcome::Whole);
    assert_eq!(brick.waiting(), [(1, 9)]);
    assert_eq!(brick.look(0, |pending| pending.data.len()), 9);
}

#[test]
fn a_short_answer_is_continued_across_slices() {
    let (brick, top, inode) = setup(&[]);
    let fd = open(&inode, 0);
    write(&top, &fd, 0, text("-"));
    for (offset, part) in [(1, "abc"), (4, "def"), (7, "ghi")] {
        write(&top, &fd, offset, text(part));
    }
    brick.answer(0, Outcome::Whole);
    brick.answer(0, Outcome::Short(4));
    assert_eq!(brick.waiting(), [(5, 5)]);
    brick.answer(0, Outcome::Short(2));
    brick.answer(0, Outcome::Whole);
    assert_eq!(*lock(&brick.file), b"-abcdefghi");
    assert_eq!(flush(&top, &fd).now(), None);
}

#[test]
fn background_writes_carry_their_writer_and_no_deadline() {
    let (brick, top, inode) = setup(&[]);
    let writer = Context {
        uid: 1,
        gid: 2,
        groups: Arc::from([3, 4]),
        pid: 5,
        lock_owner: LockOwner::from_fuse(6),
        deadline: Some(std::time::Instant::now()),
        ..Context::internal()
    };
    let (fd, sent) = (open(&inode, 0), writer.clone());
    Answer::of(async move {
        top.writev(&sent, &fd, Payload::from_iter([text("x")]), 0, 0, Dict::NULL).await.map(|reply| reply.written)
    });
    brick.look(0, |pending| {
        let got = &pending.context;
        assert_eq!(
            (got.uid, got.gid, &got.groups[..], got.pid, &got.lock_owner),
            (1, 2, &[3, 4][..], 5, &writer.lock_owner)
        );
        assert!(got.deadline.is_none());
    });
}

#[test]
fn each_fd_reports_its_lost_writes_once_and_flush_still_reaches_the_brick() {
    let (brick, top, inode) = setup(&[]);
    let (guilty, innocent) = (open(&inode, 0), open(&inode, 0));
    write(&top, &guilty, 0, text("lost")).now().unwrap();
    write(&top, &innocent, 10, text("kept")).now().unwrap();
    let flushed = flush(&top, &guilty);
    assert!(flushed.take().is_none());
    brick.answer(0, Outcome::Fails(Errno::ENOSPC));
    brick.answer(0, Outcome::Whole);
    assert_eq!(flushed.now(), Some(Errno::ENOSPC));
    assert_eq!(flush(&top, &innocent).now(), None);
    assert_eq!(flush(&top, &guilty).now(), None);
    assert_eq!(brick.take_fops(), ["flush"; 3]);
}

#[test]
fn a_loss_is_shown_to_one_write_and_still_to_fsync() {
    let (brick, top, inode) = setup(&[]);
    let fd = open(&inode, 0);
    write(&top, &fd, 0, text("lost")).now().unwrap();
    brick.answer(0, Outcome::Fails(Errno::EDQUOT));
    assert_eq!(write(&top, &fd, 4, text("more")).now().unwrap_err().errno, Errno::EDQUOT);
    assert!(brick.waiting().is_empty());
    write(&top, &fd, 4, text("more")).now().unwrap();
    brick.answer(0, Outcome::Whole);
    assert_eq!(fsync(&top, &fd).now(), Some(Errno::EDQUOT));
    assert_eq!((fsync(&top, &fd).now(), flush(&top, &fd).now()), (None, None));
    assert_eq!(brick.take_fops(), ["fsync", "fsync", "flush"]);
}

#[test]
fn a_write_beyond_the_window_waits_and_hears_of_its_own_failure() {
    let (brick, top, inode) = setup(&[("cache-size", "512KB")]);
    let fd = open(&inode, 0);
    let block = Bytes::from(vec![1; 300 << 10]);
    let at = |index: u64| write(&top, &fd, index * (300 << 10), block.clone());
    at(0).now().unwrap();
    at(1).now().unwrap();
    let (third, fourth) = (at(2), at(3));
    assert!(third.take().is_none() && fourth.take().is_none());
    assert_eq!(brick.waiting().len(), 4, "what waits for the window is on its way all the same");
    brick.answer(3, Outcome::Fails(Errno::EIO));
    assert_eq!(fourth.now().unwrap_err().errno, Errno::EIO);
    assert!(third.take().is_none());
    brick.answer(0, Outcome::Whole);
    assert_eq!(third.now().unwrap().written, 300 << 10);
    brick.answer_all(Outcome::Whole);
    assert_eq!(flush(&top, &fd).now(), None);
}

#[test]
fn all_files_together_are_bounded() {
    let (brick, top, inode) = setup(&[("cache-size", "1GB")]);
    let fd = open(&inode, 0);
    let block = Bytes::from(vec![1; 1 << 20]);
    let answers: Vec<_> = (0..70).map(|_| write(&top, &fd, 0, block.clone())).collect();
    assert_eq!(answers.iter().filter(|answer| answer.take().is_some()).count(), 65);
    brick.answer_all(Outcome::Whole);
    assert_eq!(answers.iter().filter(|answer| answer.take().is_some()).count(), 5);
}

#[test]
fn a_read_waits_only_for_what_it_overlaps() {
    let (brick, top, inode) = setup(&[]);
    let fd = open(&inode, 0);
    lock(&brick.file).resize(100, b'.');
    write(&top, &fd, 10, text("new"));
    assert_eq!(read(&top, &fd, 20, 10).now().unwrap(), b"..........");
    let overlapping = read(&top, &fd, 8, 6);
    assert!(overlapping.take().is_none());
    brick.answer(0, Outcome::Whole);
    assert_eq!(overlapping.now().unwrap(), b"..new.");
}

#[test]
fn a_hole_below_a_buffered_write_is_read_as_zeros() {
    let (brick, top, inode) = setup(&[]);
    let fd = open(&inode, 0);
    write(&top, &fd, 100, text("far"));
    let hole = read(&top, &fd, 0, 4);
    assert!(hole.take().is_none());
    brick.answer(0, Outcome::Whole);
    assert_eq!(hole.now().unwrap(), [0; 4]);
}

#[test]
fn a_lookup_by_another_name_tells_the_new_size() {
    let (brick, top, inode) = setup(&[]);
    write(&top, &open(&inode, 0), 0, text("hello"));
    let asked = top.clone();
    let found = Answer::of(async move {
        let loc = Loc::entry(Inode::known(Gfid::ROOT, FileType::Directory), "other", Inode::fresh());
        asked.lookup(&Context::internal(), &loc, Dict::NULL).await.map(|reply| reply.stat.size)
    });
    assert!(found.take().is_none());
    brick.answer(0, Outcome::Whole);
    assert_eq!(found.now().unwrap(), 5);
}

#[test]
fn listings_do_not_tell_attributes_that_lack_writes() {
    let child = Recorder::new("child");
    let other = Gfid([3; 16]);
    child.on("writev", |call| Ok(WriteReply { written: call.size as usize, ..WriteReply::default() }));
    child.on("readdirp", move |_| {
        let entries = [GFID, other].map(|gfid| EntryPlus {
            entry: Dirent { ino: 1, offset: 1, kind: 8, name: "name".into() },
            stat: Iatt { gfid, flags: Iatt::FLAGS_BRICK, ..Iatt::default() },
            xdata: Dict::NULL,
            inode: Some(Inode::fresh()),
        });
        Ok(ReaddirpReply { entries: entries.into(), ..ReaddirpReply::default() })
    });
    let top = write_behind(child.clone(), &[]);
    let list = || {
        let (top, fd) = (top.clone(), Fd::new(Inode::known(Gfid::ROOT, FileType::Directory), libc::O_DIRECTORY, 1));
        Answer::of(async move {
            let reply = top.readdirp(&Context::internal(), &fd, 4096, 0, Dict::NULL).await.unwrap();
            reply.entries.iter().map(|entry| !entry.stat.is_absent() && entry.inode.is_some()).collect::<Vec<_>>()
        })
    };
    assert_eq!(list().now(), [true, true]);
    let held = child.hold("writev");
    let inode = Inode::known(GFID, FileType::Regular);
    write(&top, &open(&inode, 0), 0, text("hello")).now().unwrap();
    assert_eq!(list().now(), [false, true]);
    let listing = child.hold("readdirp");
    let during = list();
    drop(held);
    drop(listing);
    assert_eq!(during.now(), [false, true], "the brick may have looked before it wrote");
    assert_eq!(list().now(), [true, true]);
}

type Fop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A fop's name, whether it waits for a buffered write of `fd`, and the fop.
fn dependents(top: &Arc<WriteBehind>, fd: &Arc<Fd>) -> Vec<(&'static str, bool, Fop)> {
    let mut all: Vec<(&'static str, bool, Fop)> = Vec::new();
    macro_rules! fop {
        ($name:ident, $waits:expr, |$c:ident, $fd:ident, $loc:ident| $($argument:expr),*) => {{
            let (top, $fd) = (top.clone(), fd.clone());
            all.push((stringify!($name), $waits, Box::pin(async move {
                let ($c, $loc) = (&Context::internal(), &Loc::inode($fd.inode.clone()));
                let $fd = &$fd;
                let _ = ($c, $loc, $fd);
                let _ = top.$name($($argument),*, Dict::NULL).await;
            })));
        }};
    }
    let flock = |kind| Flock { kind, whence: 0, start: 0, len: 0, pid: 1, owner: LockOwner::from_pid(1) };
    let fresh = || Loc::inode(Inode::fresh());
    fop!(lookup, true, |c, fd, loc| c, loc);
    fop!(stat, true, |c, fd, loc| c, loc);
    fop!(fstat, true, |c, fd, loc| c, fd);
    fop!(truncate, true, |c, fd, loc| c, loc, 0);
    fop!(ftruncate, true, |c, fd, loc| c, fd, 0);
    fop!(setattr, true, |c, fd, loc| c, loc, &Iatt::default(), 1);
    fop!(fsetattr, true, |c, fd, loc| c, fd, &Iatt::default(), 1);
    fop!(link, true, |c, fd, loc| c, loc, &fresh());
    fop!(rename, true, |c, fd, loc| c, loc, &fresh());
    fop!(rename, true, |c, fd, loc| c, &fresh(), loc);
    fop!(open, false, |c, fd, loc| c, loc, libc::O_RDONLY, fd);
    fop!(open, true, |c, fd, loc| c, loc, libc::O_TRUNC, fd);
    fop!(create, true, |c, fd, loc| c, loc, libc::O_TRUNC, 0, 0, fd);
    fop!(readv, true, |c, fd, loc| c, fd, 1, 0, 0);
    fop!(readv, false, |c, fd, loc| c, fd, 0, 4096, 0);
    fop!(flush, true, |c, fd, loc| c, fd);
    fop!(fsync, true, |c, fd, loc| c, fd, true);
    fop!(setxattr, true, |c, fd, loc| c, loc, Dict::NULL, 0);
    fop!(getxattr, true, |c, fd, loc| c, loc, None);
    fop!(removexattr, true, |c, fd, loc| c, loc, "user.a");
    fop!(fsetxattr, true, |c, fd, loc| c, fd, Dict::NULL, 0);
    fop!(fgetxattr, true, |c, fd, loc| c, fd, None);
    fop!(fremovexattr, true, |c, fd, loc| c, fd, "user.a");
    fop!(xattrop, true, |c, fd, loc| c, loc, XattropFlags::AddArray, Dict::NULL);
    fop!(fxattrop, true, |c, fd, loc| c, fd, XattropFlags::AddArray, Dict::NULL);
    fop!(lk, true, |c, fd, loc| c, fd, LkCmd::SetLk, flock(LockType::Unlock));
    fop!(lk, true, |c, fd, loc| c, fd, LkCmd::SetLkW, flock(LockType::Read));
    fop!(lk, false, |c, fd, loc| c, fd, LkCmd::SetLkW, flock(LockType::Write));
    fop!(lk, false, |c, fd, loc| c, fd, LkCmd::GetLk, flock(LockType::Read));
    fop!(lease, true, |c, fd, loc| c, loc, Default::default());
    fop!(rchecksum, true, |c, fd, loc| c, fd, 0, 1);
    fop!(fallocate, true, |c, fd, loc| c, fd, false, 0, 1);
    fop!(discard, true, |c, fd, loc| c, fd, 0, 1);
    fop!(zerofill, true, |c, fd, loc| c, fd, 0, 1);
    fop!(seek, true, |c, fd, loc| c, fd, 0, SeekWhat::Data);
    let elsewhere = Fd::new(Inode::fresh(), 0, 1);
    let other = elsewhere.clone();
    fop!(copy_file_range, true, |c, fd, loc| c, fd, 0, &other, 0, 1, 0);
    let other = elsewhere;
    fop!(copy_file_range, true, |c, fd, loc| c, &other, 0, fd, 0, 1, 0);
    fop!(unlink, false, |c, fd, loc| c, loc, 0);
    fop!(access, false, |c, fd, loc| c, loc, 4);
    fop!(statfs, false, |c, fd, loc| c, loc);
    all
}

#[test]
fn whoever_may_see_the_difference_waits() {
    let child = Recorder::new("child");
    child.on("writev", |call| Ok(WriteReply { written: call.size as usize, ..WriteReply::default() }));
    let top = write_behind(child.clone(), &[]);
    let fd = open(&Inode::known(GFID, FileType::Regular), 0);
    for (name, waits, fop) in dependents(&top, &fd) {
        let held = child.hold("writev");
        write(&top, &fd, 0, text("x")).now().unwrap();
        let done = Answer::of(fop);
        let expected: &[&str] = if waits { &["writev"] } else { &["writev", name] };
        assert_eq!(child.fops(), expected, "{name}");
        drop(held);
        assert_eq!(child.fops(), ["writev", name]);
        done.now();
        child.take_calls();
    }
}

#[test]
fn strict_write_ordering_lets_nothing_pass() {
    let (brick, top, inode) = setup(&[("strict-write-ordering", "on")]);
    let fd = open(&inode, 0);
    lock(&brick.file).resize(100, b'.');
    write(&top, &fd, 0, text("x"));
    write(&top, &fd, 50, text("y"));
    let far = read(&top, &fd, 90, 1);
    assert_eq!(brick.waiting(), [(0, 1)]);
    brick.answer(0, Outcome::Whole);
    assert_eq!(brick.waiting(), [(50, 1)]);
    assert!(far.take().is_none());
    brick.answer(0, Outcome::Whole);
    assert_eq!(far.now().unwrap(), b".");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (options, good) in [
        (&[][..], true),
        (&[("window-size", "2MB"), ("flush-behind", "off"), ("trickling-writes", "off")], true),
        (&[("cache-size", "1KB")], false),
        (&[("cache-size", "512KB"), ("aggregate-size", "1MB")], false),
        (&[("flush-behind", "perhaps")], false),
    ] {
        assert_eq!(build(Brick::new(), options).is_ok(), good, "{options:?}");
    }
}

#[test]
fn a_child_that_panics_fails_the_write_and_holds_up_nobody() {
    let (brick, top, inode) = setup(&[]);
    let fd = open(&inode, 0);
    write(&top, &fd, 0, text("lost")).now().unwrap();
    let flushed = flush(&top, &fd);
    brick.answer(0, Outcome::Panics);
    assert_eq!(flushed.now(), Some(Errno::EIO));
}
