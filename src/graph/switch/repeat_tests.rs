//! Fops that a brick has failed which was taken out: done in the next graph, once.

use rgfs_protocol::{FileType, Gfid, Iatt, Value};
use smallvec::smallvec;

use super::tests::{FOREVER, LEAVING, Turning, context, file, files, futures_poll, live_from};
use super::*;
use crate::reply::LookupReply;
use crate::translators::testing::Recorder;
use bytes::Bytes;

const MINE: Gfid = Gfid([7; 16]);
const THEIRS: Gfid = Gfid([8; 16]);

/// What the bricks of the new graph have: a file under the old name, and one under the new name.
#[derive(Clone, Copy)]
struct There(Option<Gfid>, Option<Gfid>);

/// The old graph fails `fop`, for its brick was taken out. The new one has other bricks, with what is there.
fn losing(fop: &'static str, there: There) -> Turning {
    let (old, new) = (Recorder::new("brick"), Recorder::new("brick"));
    old.fail(fop, Errno::ENOTCONN);
    new.on("lookup", move |call| {
        let name = call.loc.as_ref().map(|loc| loc.name.clone()).unwrap_or_default();
        let gfid = if &*name == b"old" { there.0 } else { there.1 };
        let gfid = gfid.ok_or_else(|| FopError::new(Errno::ENOENT, &"brick".into(), "lookup"))?;
        Ok(LookupReply { stat: Iatt { gfid, mode: 0o100_644, ..Iatt::default() }, ..LookupReply::default() })
    });
    Turning { switch: Switch::new(live_from(LEAVING, &old)), old, new, forgotten: Arc::default() }
}

fn entry(name: &'static str, inode: Arc<Inode>) -> Loc {
    Loc::entry(Inode::known(Gfid::ROOT, FileType::Directory), name, inode)
}

/// Runs a fop, which waits for the change of the graph, to its end; answers with what the new graph was asked to change.
async fn outlast<T>(turning: &Turning, fop: impl Future<Output = FopResult<T>>) -> (FopResult<T>, Vec<&'static str>) {
    let mut fop = std::pin::pin!(fop);
    assert!(futures_poll(&mut fop).await.is_none(), "it did not wait");
    assert!(turning.turn(OpenFds::default(), FOREVER).await);
    let result = fop.await;
    let changes = turning.new.fops().into_iter().filter(|fop| !matches!(*fop, "lookup" | "stat")).collect();
    (result, changes)
}

#[tokio::test]
async fn what_was_removed_is_not_removed_again() {
    let mine = Inode::known(MINE, FileType::Regular);
    for (there, expected) in [(Some(MINE), vec!["unlink"]), (None, vec![]), (Some(THEIRS), vec![])] {
        let turning = losing("unlink", There(there, None));
        let (loc, context) = (entry("old", mine.clone()), context());
        let (removed, changes) = outlast(&turning, turning.switch.unlink(&context, &loc, 0, Dict::NULL)).await;
        removed.unwrap();
        assert_eq!(changes, expected);
    }
}

#[tokio::test]
async fn what_was_renamed_is_not_renamed_again() {
    let mine = Inode::known(MINE, FileType::Regular);
    for (there, expected) in [
        (There(Some(MINE), None), vec!["rename"]),
        // Half done: it has both names.
        (There(Some(MINE), Some(MINE)), vec!["rename"]),
        (There(None, Some(MINE)), vec![]),
        (There(Some(THEIRS), Some(MINE)), vec![]),
        // That is for the new graph to fail.
        (There(None, None), vec!["rename"]),
    ] {
        let turning = losing("rename", there);
        let (old, new, context) = (entry("old", mine.clone()), entry("new", Inode::fresh()), context());
        let (renamed, changes) = outlast(&turning, turning.switch.rename(&context, &old, &new, Dict::NULL)).await;
        assert_eq!(renamed.unwrap().stat.gfid, if expected.is_empty() { MINE } else { Gfid::default() });
        assert_eq!(changes, expected);
    }
}

#[tokio::test]
async fn what_was_made_by_this_very_fop_is_taken_for_made() {
    for (there, expected) in [(MINE, None), (THEIRS, Some(Errno::EEXIST))] {
        let (loc, context, fd) = (entry("new", Inode::fresh()), context(), file(7));
        let wanted = || Dict::empty().with("gfid-req", Value::Gfuuid(MINE));
        let taken = |fop| {
            let turning = losing(fop, There(None, Some(there)));
            turning.new.fail(fop, Errno::EEXIST);
            turning
        };
        let turning = taken("mkdir");
        let (made, _) = outlast(&turning, turning.switch.mkdir(&context, &loc, 0o755, 0, wanted())).await;
        assert_eq!(made.err().map(|error| error.errno), expected);

        let turning = taken("create");
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        let create = turning.switch.create(&context, &loc, flags, 0o644, 0, &fd, wanted());
        let (made, changes) = outlast(&turning, create).await;
        assert_eq!(made.err().map(|error| error.errno), expected);
        assert_eq!(changes, if expected.is_none() { vec!["create", "open"] } else { vec!["create"] });

        let turning = taken("link");
        let old = entry("old", Inode::known(MINE, FileType::Regular));
        let (made, _) = outlast(&turning, turning.switch.link(&context, &old, &loc, Dict::NULL)).await;
        assert_eq!(made.err().map(|error| error.errno), expected);
    }
}

#[tokio::test]
async fn a_brick_that_may_come_back_with_what_was_appended_fails_the_write() {
    // The next graph has the brick as well, or another one.
    const OTHER: &str = "volume other type protocol/client end-volume \
                         volume top type cluster/distribute subvolumes other end-volume";
    for (flags, text, done) in [
        (libc::O_RDWR, LEAVING, true),
        (libc::O_RDWR | libc::O_APPEND, LEAVING, false),
        (libc::O_RDWR | libc::O_APPEND, OTHER, true),
    ] {
        let turning = losing("writev", There(None, Some(MINE)));
        let fd = Fd::new(Inode::known(MINE, FileType::Regular), flags, 1);
        let (context, data) = (context(), smallvec![Bytes::from_static(b"x")]);
        let mut write = std::pin::pin!(turning.switch.writev(&context, &fd, data, 0, 0, Dict::NULL));
        assert!(futures_poll(&mut write).await.is_none());
        let next = live_from(text, &turning.new);
        assert!(turning.switch.turn(next, || files(&[&fd]), FOREVER, |_| {}).await.is_ok());
        assert_eq!(write.await.is_ok(), done, "{flags:o}");
        assert_eq!(turning.new.fops().contains(&"writev"), done, "{flags:o}");
    }
}

/// The write was acknowledged: a second FLUSH that succeeds would hide that it is lost.
#[tokio::test]
async fn a_lost_write_is_told() {
    const BUFFERED: &str = "volume brick type protocol/client end-volume \
                            volume dht type cluster/distribute option decommissioned-bricks brick subvolumes brick end-volume \
                            volume top type performance/write-behind subvolumes dht end-volume";
    let (old, new) = (Recorder::new("brick"), Recorder::new("brick"));
    old.fail("writev", Errno::ENOTCONN);
    let turning = Turning { switch: Switch::new(live_from(BUFFERED, &old)), old, new, forgotten: Arc::default() };
    let (fd, context) = (file(7), context());
    let data = smallvec![Bytes::from_static(b"x")];
    turning.switch.writev(&context, &fd, data, 0, 0, Dict::NULL).await.unwrap();
    let mut flush = std::pin::pin!(turning.switch.flush(&context, &fd, Dict::NULL));
    let flushed = futures_poll(&mut flush).await;
    assert_eq!(flushed.unwrap().unwrap_err().errno, Errno::ENOTCONN);
}
