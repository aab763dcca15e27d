//! Two graphs of write-behind over scripted bricks, one after the other.

use std::sync::Mutex as StdMutex;

use rgfs_protocol::types::{Flock, LkCmd, LockOwner, LockType};
use rgfs_protocol::{FileType, Gfid};
use smallvec::smallvec;

use super::*;
use crate::event::{Event, Status};
use crate::graph::testing::{environment, graph};
use crate::translators::testing::Recorder;
use bytes::Bytes;

const TEXT: &str = "volume brick type protocol/client end-volume \
                    volume top type performance/write-behind subvolumes brick end-volume";
pub(super) const FOREVER: Duration = Duration::from_secs(60);

fn live(brick: &Arc<Recorder>) -> LiveGraph {
    live_from(TEXT, brick)
}

pub(super) fn live_from(text: &str, brick: &Arc<Recorder>) -> LiveGraph {
    LiveGraph::build_with(&graph(text), &environment(), None, |volume, children, environment| {
        match volume.kind.canonical {
            "protocol/client" => Ok(brick.clone() as Arc<dyn Translator>),
            _ => crate::graph::construct(volume, children, environment),
        }
    })
    .unwrap()
}

/// A switch between two graphs.
pub(super) struct Turning {
    pub(super) old: Arc<Recorder>,
    pub(super) new: Arc<Recorder>,
    pub(super) switch: Arc<Switch>,
    pub(super) forgotten: Arc<StdMutex<Option<Vec<KeySpan>>>>,
}

impl Turning {
    fn new() -> Self {
        let (old, new) = (Recorder::new("brick"), Recorder::new("brick"));
        Turning { switch: Switch::new(live(&old)), old, new, forgotten: Arc::default() }
    }

    pub(super) async fn turn(&self, opened: OpenFds, patience: Duration) -> bool {
        let forgotten = self.forgotten.clone();
        let forget = move |keys| *forgotten.lock().unwrap() = Some(keys);
        self.switch.turn(live(&self.new), || opened, patience, forget).await.is_ok()
    }

    fn has_ended(&self) -> bool {
        self.forgotten.lock().unwrap().is_some()
    }
}

pub(super) fn context() -> Context {
    Context::internal()
}

pub(super) fn file(number: u8) -> Arc<Fd> {
    Fd::new(Inode::known(Gfid([number; 16]), FileType::Regular), libc::O_RDWR, 1)
}

pub(super) fn files(fds: &[&Arc<Fd>]) -> OpenFds {
    OpenFds { files: fds.iter().map(|fd| (*fd).clone()).collect(), directories: Vec::new() }
}

#[tokio::test]
async fn fops_at_work_end_in_the_old_graph_and_those_to_come_wait_for_the_new() {
    let turning = Turning::new();
    let release = turning.old.hold("stat");
    let loc = Loc::inode(Inode::known(Gfid::ROOT, FileType::Directory));
    let context = context();
    let mut at_work = std::pin::pin!(turning.switch.stat(&context, &loc, Dict::NULL));
    assert!(futures_poll(&mut at_work).await.is_none());
    let mut turn = std::pin::pin!(turning.turn(OpenFds::default(), FOREVER));
    assert!(futures_poll(&mut turn).await.is_none());
    let mut to_come = std::pin::pin!(turning.switch.stat(&context, &loc, Dict::NULL));
    assert!(futures_poll(&mut to_come).await.is_none());
    assert_eq!((turning.old.fops(), turning.new.fops()), (vec!["stat"], vec![]));
    release.send(()).unwrap();
    at_work.await.unwrap();
    assert!(turn.await);
    to_come.await.unwrap();
    assert_eq!((turning.old.fops(), turning.new.fops()), (vec!["stat"], vec!["stat"]));
    assert!(turning.has_ended());
}

/// Polls once.
pub(super) async fn futures_poll<F: Future + ?Sized>(future: &mut std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_waiting_lock_goes_on_waiting() {
    let turning = Turning::new();
    let (fd, context) = (file(7), context());
    let release = turning.old.hold("lk");
    turning.old.on("lk", |_| Ok(Some(crate::reply::LkReply { flock: flock(), xdata: Dict::NULL })));
    let mut waiting = std::pin::pin!(turning.switch.lk(&context, &fd, LkCmd::SetLkW, flock(), Dict::NULL));
    assert!(futures_poll(&mut waiting).await.is_none());
    assert!(turning.turn(files(&[&fd]), FOREVER).await);
    assert!(!turning.has_ended(), "the waiting lock still uses it");
    release.send(()).unwrap();
    waiting.await.unwrap();
    assert_eq!((turning.old.fops(), turning.new.fops()), (vec!["lk"], vec!["lookup"]));
}

fn flock() -> Flock {
    Flock { kind: LockType::Write, whence: 0, start: 0, len: 0, pid: 1, owner: LockOwner(b"me"[..].into()) }
}

#[tokio::test]
async fn what_hangs_puts_the_change_off() {
    let turning = Turning::new();
    let release = turning.old.hold("stat");
    let (loc, context) = (Loc::inode(Inode::known(Gfid::ROOT, FileType::Directory)), context());
    let mut hanging = std::pin::pin!(turning.switch.stat(&context, &loc, Dict::NULL));
    assert!(futures_poll(&mut hanging).await.is_none());
    assert!(!turning.turn(OpenFds::default(), Duration::ZERO).await);
    turning.switch.access(&context, &loc, 4, Dict::NULL).await.unwrap();
    assert_eq!((turning.old.fops(), turning.new.fops()), (vec!["stat", "access"], vec![]));
    release.send(()).unwrap();
    hanging.await.unwrap();
    assert!(turning.turn(OpenFds::default(), FOREVER).await);
}

#[tokio::test]
async fn buffered_writes_are_on_the_brick_before_the_new_graph_serves_and_their_failures_are_reported_there() {
    let turning = Turning::new();
    let (fd, context) = (file(7), context());
    turning.old.fail("writev", Errno::ENOSPC);
    let release = turning.old.hold("writev");
    let data = smallvec![Bytes::from_static(b"x")];
    turning.switch.writev(&context, &fd, data, 0, 0, Dict::NULL).await.unwrap();
    let mut turn = std::pin::pin!(turning.turn(files(&[&fd]), FOREVER));
    assert!(futures_poll(&mut turn).await.is_none(), "an acknowledged write has no answer yet");
    release.send(()).unwrap();
    assert!(turn.await);
    let flushed = turning.switch.flush(&context, &fd, Dict::NULL).await;
    assert_eq!(flushed.unwrap_err().errno, Errno::ENOSPC);
    turning.switch.flush(&context, &fd, Dict::NULL).await.unwrap();
    assert_eq!(turning.new.fops(), ["lookup", "flush", "flush"]);
}

#[tokio::test]
async fn a_file_without_a_name_stays_until_it_is_closed() {
    let turning = Turning::new();
    let (named, nameless, context) = (file(7), file(8), context());
    turning.new.on("lookup", |call| {
        let gfid = call.loc.as_ref().unwrap().gfid();
        match gfid == Gfid([8; 16]) {
            true => Err(FopError::new(Errno::ENOENT, &"brick".into(), "lookup")),
            false => Ok(crate::reply::LookupReply::default()),
        }
    });
    assert!(turning.turn(files(&[&named, &nameless]), FOREVER).await);
    turning.switch.fstat(&context, &named, Dict::NULL).await.unwrap();
    turning.switch.fstat(&context, &nameless, Dict::NULL).await.unwrap();
    assert_eq!((turning.old.fops(), turning.new.fops()), (vec!["fstat"], vec!["lookup", "lookup", "fstat"]));
    assert!(!turning.has_ended());
    drop(nameless);
    // Nobody else holds the recorders' copies of it.
    drop((turning.old.take_calls(), turning.new.take_calls()));
    assert!(turning.has_ended());
}

#[tokio::test]
async fn positions_in_directories_stay_with_the_graph_that_made_them() {
    let turning = Turning::new();
    let context = context();
    let directory = Fd::new(Inode::known(Gfid([9; 16]), FileType::Directory), libc::O_DIRECTORY, 1);
    let opened = OpenFds { files: Vec::new(), directories: vec![directory.clone()] };
    assert!(turning.turn(opened, FOREVER).await);
    let list = async |offset| turning.switch.readdirp(&context, &directory, 4096, offset, Dict::NULL).await.unwrap();
    list(77).await;
    assert_eq!((turning.old.fops(), turning.new.fops()), (vec!["readdirp"], vec![]));
    list(0).await;
    list(5).await;
    assert_eq!(turning.old.fops(), ["readdirp"]);
    assert_eq!(turning.new.fops(), ["opendir", "readdirp", "readdirp"]);
    assert!(turning.has_ended());
}

#[tokio::test]
async fn news_come_from_the_graph_of_the_time() {
    let turning = Turning::new();
    let heard = Arc::new(StdMutex::new(0));
    turning.switch.events().subscribe_for(&heard, |heard, event| {
        if matches!(event, Event::CacheInvalidation { .. }) {
            *heard.lock().unwrap() += 1;
        }
    });
    let news = Event::CacheInvalidation { gfid: Gfid::ROOT, flags: 0 };
    turning.old.events().announce(&news);
    assert!(turning.turn(OpenFds::default(), FOREVER).await);
    turning.new.events().announce(&news);
    turning.new.announce(Status::Down("gone".into()));
    assert_eq!(*heard.lock().unwrap(), 2);
}

/// The same brick, which is being taken out of the volume.
pub(super) const LEAVING: &str = "volume brick type protocol/client end-volume \
                       volume top type cluster/distribute option decommissioned-bricks brick subvolumes brick end-volume";

fn taken_out() -> Turning {
    let (old, new) = (Recorder::new("brick"), Recorder::new("brick"));
    old.fail("stat", Errno::ENOTCONN);
    old.fail("lk", Errno::ENOTCONN);
    old.fail("access", Errno::EACCES);
    new.on("lk", |_| Ok(Some(crate::reply::LkReply { flock: flock(), xdata: Dict::NULL })));
    Turning { switch: Switch::new(live_from(LEAVING, &old)), old, new, forgotten: Arc::default() }
}

#[tokio::test]
async fn what_needs_a_brick_that_was_taken_out_is_done_in_the_graph_without_it() {
    let turning = taken_out();
    let (fd, context) = (file(7), context());
    let loc = Loc::inode(fd.inode.clone());
    let mut stat = std::pin::pin!(turning.switch.stat(&context, &loc, Dict::NULL));
    let mut lock = std::pin::pin!(turning.switch.lk(&context, &fd, LkCmd::SetLkW, flock(), Dict::NULL));
    assert!(futures_poll(&mut stat).await.is_none());
    assert!(futures_poll(&mut lock).await.is_none());
    // Other errors are answers.
    let denied = turning.switch.access(&context, &loc, 4, Dict::NULL).await;
    assert_eq!(denied.unwrap_err().errno, Errno::EACCES);
    // Who waits does not hold up the change.
    assert!(turning.turn(files(&[&fd]), Duration::from_secs(5)).await);
    stat.await.unwrap();
    lock.await.unwrap();
    assert_eq!(turning.new.fops(), ["lookup", "stat", "lk"]);
}

#[tokio::test]
async fn a_brick_that_only_died_is_not_waited_for() {
    let turning = Turning::new();
    turning.old.fail("stat", Errno::ENOTCONN);
    let loc = Loc::inode(Inode::known(Gfid::ROOT, FileType::Directory));
    let failed = turning.switch.stat(&context(), &loc, Dict::NULL).await;
    assert_eq!(failed.unwrap_err().errno, Errno::ENOTCONN);
}

#[test]
fn all_below_what_leaves_is_leaving() {
    let text = "volume a type protocol/client end-volume volume b type protocol/client end-volume \
                volume c type protocol/client end-volume volume d type protocol/client end-volume \
                volume r0 type cluster/replicate subvolumes a b end-volume \
                volume r1 type cluster/replicate subvolumes c d end-volume \
                volume dht type cluster/distribute option decommissioned-bricks r1 subvolumes r0 r1 end-volume";
    let mut leaving: Vec<String> = leaving(&graph(text)).iter().map(|name| name.to_string()).collect();
    leaving.sort();
    assert_eq!(leaving, ["c", "d", "r1"]);
}
