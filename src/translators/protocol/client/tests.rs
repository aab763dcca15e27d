//! Fops over a brick in memory: what it is asked, and what becomes of fds and locks when it comes back.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::AtomicI64;

use rgfs_protocol::fops::{Reply, Request, reply};
use rgfs_protocol::open_flags::host;
use rgfs_protocol::types::{Flock, LkCmd, LockOwner, LockType, SeekWhat};
use rgfs_protocol::xdr::Encoder;
use rgfs_protocol::{Dict, FileType, Iatt, Value};
use smallvec::smallvec;
use tokio::sync::oneshot;

use super::*;
use crate::event::EventSource;
use crate::inode::{Inode, Loc};

type Answer = FopResult<Bytes>;

/// A brick that notes what it is asked, hands out fd numbers, and fails what it is told to fail.
struct Memory {
    name: Arc<str>,
    events: EventSource,
    generation: AtomicU64,
    next_number: AtomicI64,
    asked: Mutex<Vec<(Context, Request, Bytes)>>,
    failing: Mutex<HashMap<Procedure, i32>>,
    answers: Mutex<HashMap<Procedure, (Reply, Bytes)>>,
    /// Procedures whose calls wait for the test to answer them.
    parked: Mutex<HashSet<Procedure>>,
    waiting: Mutex<Vec<oneshot::Sender<Answer>>>,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Memory {
            name: "v-client-0".into(),
            events: EventSource::default(),
            generation: AtomicU64::new(1),
            next_number: AtomicI64::new(0),
            asked: Mutex::default(),
            failing: Mutex::default(),
            answers: Mutex::default(),
            parked: Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    fn fail(&self, procedure: Procedure, errno: Errno) {
        self.failing.lock().unwrap().insert(procedure, errno.raw());
    }

    fn answer(&self, reply: Reply, data: &'static [u8]) {
        self.answers.lock().unwrap().insert(reply.procedure(), (reply, Bytes::from_static(data)));
    }

    fn park(&self, procedure: Procedure) {
        self.parked.lock().unwrap().insert(procedure);
    }

    /// Answers the oldest parked call: op_ret, op_errno.
    fn unpark(&self, op_ret: i32, op_errno: i32) {
        let waiting = self.waiting.lock().unwrap().remove(0);
        let _ = waiting.send(Ok(zeros(op_ret, op_errno)));
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<Request> {
        self.calls().into_iter().map(|(_, request, _)| request).collect()
    }

    fn calls(&self) -> Vec<(Context, Request, Bytes)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Breaks the connection and makes another one; the client opens its fds again.
    async fn reconnect(self: &Arc<Self>, client: &Client<Memory>) {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        client.reopen_all(&**self, generation).await;
    }
}

/// An answer of any shape: zeros all over.
fn zeros(op_ret: i32, op_errno: i32) -> Bytes {
    let mut encoder = Encoder::default();
    encoder.i32(op_ret);
    encoder.i32(op_errno);
    encoder.raw(&[0; 1024]);
    encoder.finish().freeze()
}

impl Caller for Memory {
    type Answer = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn fop(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) -> Self::Answer {
        let procedure = Procedure::from_number(call.procedure).unwrap();
        let current = self.generation.load(Ordering::SeqCst);
        if call.generation.is_some_and(|generation| generation != current) {
            let error = FopError::new(Errno::ENOTCONN, &self.name, call.name).with_detail("another connection");
            return Box::pin(std::future::ready(Err(error)));
        }
        let mut encoder = Encoder::default();
        encode(&mut encoder);
        let (request, _) = Request::decode(procedure, encoder.finish().freeze()).unwrap();
        let data: Bytes = call.payload.concat().into();
        self.asked.lock().unwrap().push((context.clone(), request, data));
        if self.parked.lock().unwrap().contains(&procedure) {
            let (sender, receiver) = oneshot::channel();
            self.waiting.lock().unwrap().push(sender);
            return Box::pin(async move { receiver.await.unwrap() });
        }
        let mut encoder = Encoder::default();
        let body = if let Some(errno) = self.failing.lock().unwrap().get(&procedure) {
            zeros(-1, *errno)
        } else if let Some((reply, data)) = self.answers.lock().unwrap().get(&procedure) {
            reply.encode(&mut encoder);
            encoder.raw(data);
            encoder.finish().freeze()
        } else if matches!(procedure, Procedure::Open | Procedure::Opendir) {
            let fd = self.next_number.fetch_add(1, Ordering::SeqCst);
            Wire::encode(&reply::Open { op_ret: 0, op_errno: 0, xdata: Dict::NULL, fd }, &mut encoder);
            encoder.finish().freeze()
        } else {
            zeros(0, 0)
        };
        Box::pin(std::future::ready(Ok(body)))
    }
}

impl Brick for Memory {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn events(&self) -> &EventSource {
        &self.events
    }

    fn generation(&self) -> Option<u64> {
        Some(self.generation.load(Ordering::SeqCst)).filter(|generation| *generation > 0)
    }

    fn send(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) {
        if call.generation == Some(self.generation.load(Ordering::SeqCst)) {
            drop(self.fop(context, call, encode));
        }
    }
}

const SETTINGS: Settings = Settings { strict_locks: false, filter_direct: true };
const GFID: Gfid = Gfid([7; 16]);

fn file() -> Arc<Inode> {
    Inode::known(GFID, FileType::Regular)
}

fn owner(number: u64) -> Context {
    Context { lock_owner: LockOwner::from_fuse(number), pid: 33, ..Context::internal() }
}

fn write_lock(start: u64, len: u64) -> Flock {
    Flock { kind: LockType::Write, whence: 0, start, len, pid: 33, owner: LockOwner::default() }
}

/// A client over a brick in memory, and a file that is open there as fd 0.
async fn opened(settings: Settings, flags: i32) -> (Arc<Memory>, Arc<Client<Memory>>, Arc<Fd>) {
    let brick = Memory::new();
    let client = Client::over(brick.clone(), settings);
    let fd = Fd::new(file(), flags, 33);
    client.open(&owner(1), &Loc::inode(file()), flags, &fd, Dict::NULL).await.unwrap();
    (brick, client, fd)
}

async fn lock(client: &Client<Memory>, fd: &Arc<Fd>) {
    client.lk(&owner(1), fd, LkCmd::SetLk, write_lock(10, 20), Dict::NULL).await.unwrap();
}

#[tokio::test]
async fn open_write_and_close() {
    let (brick, client, fd) = opened(SETTINGS, 2 | host::O_DIRECT | host::O_TRUNC).await;
    let data = smallvec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
    client.writev(&owner(1), &fd, data, 5, host::O_DIRECT as u32, Dict::NULL).await.unwrap();
    drop(fd);
    let calls = brick.calls();
    let [(_, Request::Open(open), _), (_, Request::Write(write), data), (_, Request::Release(release), _)] = &calls[..]
    else {
        panic!("{calls:?}")
    };
    assert_eq!(open.flags, wire::TRUNC | 2, "O_DIRECT is filtered");
    assert_eq!((write.gfid, write.fd, write.offset, write.size, write.flag), (GFID, 0, 5, 3, 0));
    assert_eq!(data.as_ref(), b"abc");
    assert_eq!((release.gfid, release.fd), (GFID, 0));
}

#[tokio::test]
async fn a_file_is_opened_again_and_its_locks_are_taken_again() {
    let (brick, client, fd) = opened(SETTINGS, 2 | host::O_TRUNC | host::O_CREAT).await;
    lock(&client, &fd).await;
    brick.asked();
    brick.reconnect(&client).await;
    client.fstat(&owner(1), &fd, Dict::NULL).await.unwrap();
    let calls = brick.calls();
    let [(by, Request::Open(open), _), (locker, Request::Lk(lk), _), (_, Request::Fstat(fstat), _)] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!((by.uid, open.gfid, open.flags), (0, GFID, 2));
    assert_eq!((locker.lock_owner.clone(), lk.fd, lk.cmd), (LockOwner::from_fuse(1), 1, LkCmd::SetLk));
    assert_eq!((lk.flock.start, lk.flock.len, lk.kind), (10, 20, LockType::Write));
    assert_eq!(fstat.fd, 1);
}

#[tokio::test]
async fn a_lock_that_cannot_be_had_again_makes_the_fd_bad() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    lock(&client, &fd).await;
    brick.asked();
    brick.fail(Procedure::Lk, Errno::EAGAIN);
    brick.reconnect(&client).await;
    let asked = brick.asked();
    assert!(matches!(&asked[..], [Request::Open(_), Request::Lk(_), Request::Release(_)]), "{asked:?}");
    for _ in 0..2 {
        let error = client.writev(&owner(1), &fd, smallvec![], 0, 0, Dict::NULL).await.unwrap_err();
        assert_eq!(error.errno, Errno::EBADFD);
        brick.reconnect(&client).await;
    }
    assert!(brick.asked().is_empty());
}

#[tokio::test]
async fn strict_locks_gives_up_fds_that_held_locks() {
    let (brick, client, fd) = opened(Settings { strict_locks: true, ..SETTINGS }, 2).await;
    lock(&client, &fd).await;
    brick.asked();
    brick.reconnect(&client).await;
    let error = client.readv(&owner(1), &fd, 10, 0, 0, Dict::NULL).await.unwrap_err();
    assert_eq!((error.errno, brick.asked().len()), (Errno::EBADFD, 0));
}

#[tokio::test]
async fn flush_ends_locks_for_good() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    lock(&client, &fd).await;
    client.flush(&owner(1), &fd, Dict::NULL).await.unwrap();
    brick.asked();
    brick.reconnect(&client).await;
    let asked = brick.asked();
    assert!(matches!(&asked[..], [Request::Open(_)]), "{asked:?}");
}

#[tokio::test]
async fn a_removed_file_is_lost_with_the_connection() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    brick.fail(Procedure::Open, Errno::ENOENT);
    brick.reconnect(&client).await;
    let error = client.readv(&owner(1), &fd, 10, 0, 0, Dict::NULL).await.unwrap_err();
    assert_eq!(error.errno, Errno::EBADFD);
    assert!(error.to_string().starts_with("v-client-0: READ: EBADFD (the file was removed"), "{error}");
}

#[tokio::test]
async fn the_anonymous_fd_helps_where_it_may() {
    for (flags, expected) in [(2, Some(ANONYMOUS_FD)), (2 | host::O_APPEND, None)] {
        let (brick, client, fd) = opened(SETTINGS, flags).await;
        brick.fail(Procedure::Open, Errno::EIO);
        brick.reconnect(&client).await;
        brick.asked();
        let written = client.writev(&owner(1), &fd, smallvec![], 0, 0, Dict::NULL).await;
        let number = brick.asked().into_iter().find_map(|request| match request {
            Request::Write(write) => Some(write.fd),
            _ => None,
        });
        assert_eq!((number, written.is_ok()), (expected, expected.is_some()));
        let error = client.seek(&owner(1), &fd, 0, SeekWhat::Data, Dict::NULL).await.unwrap_err();
        assert_eq!(error.errno, Errno::EBADFD);
    }
}

/// A client over a brick in memory, and a file that was opened while the brick was away.
fn opened_elsewhere(flags: i32) -> (Arc<Memory>, Arc<Client<Memory>>, Arc<Fd>) {
    let brick = Memory::new();
    let client = Client::over(brick.clone(), SETTINGS);
    (brick, client, Fd::new(file(), flags, 33))
}

#[tokio::test]
async fn a_file_opened_elsewhere_is_written_anonymously_and_as_promised() {
    let (brick, client, fd) = opened_elsewhere(1 | host::O_SYNC);
    client.writev(&owner(1), &fd, smallvec![], 0, 0, Dict::NULL).await.unwrap();
    client.flush(&owner(1), &fd, Dict::NULL).await.unwrap();
    let asked = brick.asked();
    let [Request::Write(write)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((write.gfid, write.fd, write.flag), (GFID, ANONYMOUS_FD, host::O_SYNC as u32));
}

#[tokio::test]
async fn a_file_opened_elsewhere_is_opened_here_once_when_the_anonymous_fd_will_not_do() {
    let (brick, client, fd) = opened_elsewhere(1 | host::O_APPEND | host::O_TRUNC | host::O_CREAT);
    client.writev(&owner(1), &fd, smallvec![], 0, 0, Dict::NULL).await.unwrap();
    client.ftruncate(&owner(1), &fd, 0, Dict::NULL).await.unwrap();
    // The fd that is in use stays, and a second one goes.
    client.open(&owner(1), &Loc::inode(file()), 1, &fd, Dict::NULL).await.unwrap();
    client.fstat(&owner(1), &fd, Dict::NULL).await.unwrap();
    let asked = brick.asked();
    let [Request::Open(open), Request::Write(write), Request::Ftruncate(_), rest @ ..] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!((open.flags, write.fd), (wire::APPEND | 1, 0));
    let [Request::Open(_), Request::Release(release), Request::Fstat(fstat)] = rest else { panic!("{rest:?}") };
    assert_eq!((release.fd, fstat.fd), (1, 0));
}

#[tokio::test]
async fn a_file_opened_elsewhere_may_still_be_healed() {
    let (brick, client, fd) = opened_elsewhere(2);
    brick.fail(Procedure::Open, Errno::ENOENT);
    let error = client.ftruncate(&owner(1), &fd, 0, Dict::NULL).await.unwrap_err();
    assert_eq!(error.errno, Errno::EBADFD);
    brick.asked();
    client.writev(&owner(1), &fd, smallvec![], 0, 0, Dict::NULL).await.unwrap();
    let asked = brick.asked();
    assert!(matches!(&asked[..], [Request::Write(write)] if write.fd == ANONYMOUS_FD), "{asked:?}");
}

#[tokio::test]
async fn an_open_that_a_reconnect_overtook_is_made_good() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    // The new connection was set up before this fd was known.
    brick.generation.store(2, Ordering::SeqCst);
    brick.asked();
    client.fstat(&owner(1), &fd, Dict::NULL).await.unwrap();
    let asked = brick.asked();
    assert!(matches!(&asked[..], [Request::Open(_), Request::Fstat(fstat)] if fstat.fd == 1), "{asked:?}");
}

#[tokio::test]
async fn nothing_is_asked_while_the_brick_is_away() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    brick.asked();
    brick.generation.store(0, Ordering::SeqCst);
    let error = client.fstat(&owner(1), &fd, Dict::NULL).await.unwrap_err();
    assert_eq!(error.errno, Errno::ENOTCONN);
    drop(fd);
    assert!(brick.asked().is_empty());
}

#[tokio::test]
async fn a_read_of_nothing_is_answered_here_and_one_of_something_by_the_brick() {
    let (brick, client, fd) = opened(SETTINGS, 0).await;
    brick.asked();
    assert!(client.readv(&owner(1), &fd, 0, 0, 0, Dict::NULL).await.unwrap().data.is_empty());
    assert!(brick.asked().is_empty());
    let read = reply::Read { op_ret: 2, op_errno: 2, stat: Iatt::default(), size: 2, xdata: Dict::NULL };
    brick.answer(Reply::Read(read), b"hi");
    let reply = client.readv(&owner(1), &fd, 100, 0, 0, Dict::NULL).await.unwrap();
    assert_eq!((reply.data[0].as_ref(), reply.end_of_file), (&b"hi"[..], true));
    let error = client.readv(&owner(1), &fd, 1, 0, 0, Dict::NULL).await.unwrap_err();
    assert_eq!(error.errno, Errno::EIO, "more than was asked for");
}

#[tokio::test]
async fn a_hidden_xattr_is_a_missing_one() {
    let brick = Memory::new();
    let client = Client::over(brick.clone(), SETTINGS);
    let loc = Loc::inode(file());
    let error = client.getxattr(&owner(1), &loc, Some("trusted.gfid"), Dict::NULL).await.unwrap_err();
    assert_eq!(error.errno, Errno::ENODATA);
    assert!(client.getxattr(&owner(1), &loc, None, Dict::NULL).await.is_ok());
    let asked = brick.asked();
    let [Request::Getxattr(one), Request::Getxattr(all)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((one.namelen, all.namelen), (12, 0));
}

#[tokio::test]
async fn lookups_name_either_a_name_or_a_gfid_and_notice_another_inode() {
    let brick = Memory::new();
    let client = Client::over(brick.clone(), SETTINGS);
    let stat = Iatt { gfid: Gfid([9; 16]), flags: Iatt::FLAGS_BRICK, ..Iatt::default() };
    let lookup = reply::Lookup { op_ret: 0, op_errno: 0, xdata: Dict::NULL, stat, postparent: Iatt::default() };
    brick.answer(Reply::Lookup(lookup), b"");
    let root = Inode::known(Gfid::ROOT, FileType::Directory);
    client.lookup(&owner(1), &Loc::entry(root.clone(), "a", Inode::fresh()), Dict::NULL).await.unwrap();
    let error = client.lookup(&owner(1), &Loc::entry(root, "a", file()), Dict::NULL).await.unwrap_err();
    assert_eq!(error.errno, Errno::ESTALE);
    let error = client.lookup(&owner(1), &Loc::inode(file()), Dict::NULL).await.unwrap_err();
    assert_eq!(error.errno, Errno::ESTALE);
    let asked = brick.asked();
    let [Request::Lookup(named), _, Request::Lookup(nameless)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((named.gfid, named.parent, named.name.as_ref()), (Gfid::NULL, Gfid::ROOT, &b"a"[..]));
    assert_eq!((nameless.gfid, nameless.parent, nameless.name.len()), (GFID, Gfid::NULL, 0));
}

#[tokio::test]
async fn a_failed_layout_check_is_told_to_distribute() {
    let brick = Memory::new();
    let client = Client::over(brick.clone(), SETTINGS);
    let none = Iatt::default();
    brick.answer(
        Reply::Mkdir(reply::Entry {
            op_ret: -1,
            op_errno: 5,
            xdata: Dict::NULL.with(PREOP_FAILED, Value::Int(1)),
            stat: none,
            preparent: none,
            postparent: none,
        }),
        b"",
    );
    let loc = Loc::entry(Inode::known(Gfid::ROOT, FileType::Directory), "d", Inode::fresh());
    let error = client.mkdir(&owner(1), &loc, 0o755, 0, Dict::NULL).await.unwrap_err();
    assert_eq!((error.errno, error.detail.as_deref()), (Errno::EIO, Some(PREOP_FAILED)));
}

/// A brick says so of the directory that it was just making itself, when a LOOKUP came between.
#[tokio::test]
async fn a_directory_that_is_there_is_made_once_more() {
    let brick = Memory::new();
    let client = Client::over(brick.clone(), SETTINGS);
    let loc = Loc::entry(Inode::known(Gfid::ROOT, FileType::Directory), "d", Inode::fresh());
    let context = owner(1);
    for (errno, expected) in [(0, None), (Errno::EEXIST.raw(), Some(Errno::EEXIST))] {
        brick.park(Procedure::Mkdir);
        let mut making = Box::pin(client.mkdir(&context, &loc, 0o755, 0, Dict::NULL));
        std::future::poll_fn(|poll| {
            assert!(making.as_mut().poll(poll).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        brick.unpark(-1, Errno::EEXIST.raw());
        std::future::poll_fn(|poll| {
            assert!(making.as_mut().poll(poll).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        let asked = brick.asked();
        let [Request::Mkdir(first), Request::Mkdir(second)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(first, second);
        brick.unpark(if expected.is_some() { -1 } else { 0 }, errno);
        assert_eq!(making.await.err().map(|error| error.errno), expected);
    }
}

#[tokio::test]
async fn a_waiting_lock_is_cancelled_when_its_caller_goes_away() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    brick.asked();
    brick.park(Procedure::Lk);
    let context = owner(1);
    let mut waiting = Box::pin(client.lk(&context, &fd, LkCmd::SetLkW, write_lock(3, 4), Dict::NULL));
    std::future::poll_fn(|poll| {
        assert!(waiting.as_mut().poll(poll).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    drop(waiting);
    let calls = brick.calls();
    let [(_, Request::Lk(lk), _), (by, Request::Fgetxattr(cancel), _)] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(lk.cmd, LkCmd::SetLkW);
    assert_eq!((by.pid, cancel.fd), (33, lk.fd));
    assert_eq!(cancel.name, "glusterfs.intrlk.tposix.kblocked.0,3-4");
    brick.unpark(-1, Errno::EINTR.raw());
    assert!(brick.asked().is_empty());
}

#[tokio::test]
async fn a_grant_that_wins_the_race_is_given_back() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    lock(&client, &fd).await;
    brick.asked();
    brick.park(Procedure::Lk);
    let context = owner(1);
    let mut waiting = Box::pin(client.lk(&context, &fd, LkCmd::SetLkW, write_lock(25, 10), Dict::NULL));
    std::future::poll_fn(|poll| {
        assert!(waiting.as_mut().poll(poll).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    drop(waiting);
    brick.parked.lock().unwrap().clear();
    brick.asked();
    brick.unpark(0, 0);
    let asked = brick.asked();
    let [Request::Lk(unlock), Request::Lk(again)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((unlock.kind, unlock.flock.start, unlock.flock.len), (LockType::Unlock, 25, 10));
    assert_eq!((again.kind, again.flock.start, again.flock.len), (LockType::Write, 25, 5), "what it had before");
}

#[tokio::test]
async fn a_grant_that_its_caller_did_not_stay_to_see_is_given_back() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    brick.park(Procedure::Lk);
    let context = owner(1);
    let mut waiting = Box::pin(client.lk(&context, &fd, LkCmd::SetLkW, write_lock(25, 10), Dict::NULL));
    std::future::poll_fn(|poll| {
        assert!(waiting.as_mut().poll(poll).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    brick.parked.lock().unwrap().clear();
    brick.asked();
    brick.unpark(0, 0);
    drop(waiting);
    let asked = brick.asked();
    let [Request::Lk(unlock)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((unlock.kind, unlock.flock.start, unlock.flock.len), (LockType::Unlock, 25, 10));
    brick.reconnect(&client).await;
    assert!(!brick.asked().iter().any(|request| matches!(request, Request::Lk(_))), "nothing to take again");
}

#[tokio::test]
async fn a_waiting_lock_is_noted_when_it_is_granted() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    brick.park(Procedure::Lk);
    let context = owner(1);
    let mut waiting = Box::pin(client.lk(&context, &fd, LkCmd::SetLkW, write_lock(0, 0), Dict::NULL));
    std::future::poll_fn(|poll| {
        assert!(waiting.as_mut().poll(poll).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    brick.unpark(0, 0);
    waiting.await.unwrap();
    brick.parked.lock().unwrap().clear();
    brick.asked();
    brick.reconnect(&client).await;
    let asked = brick.asked();
    assert!(matches!(&asked[..], [Request::Open(_), Request::Lk(lk)] if lk.cmd == LkCmd::SetLk), "{asked:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_while_files_are_reopened_costs_no_locks() {
    for procedure in [Procedure::Open, Procedure::Lk] {
        let (brick, client, fd) = opened(SETTINGS, 2).await;
        lock(&client, &fd).await;
        brick.fail(procedure, Errno::ENOTCONN);
        brick.reconnect(&client).await;
        brick.failing.lock().unwrap().clear();
        brick.asked();
        brick.reconnect(&client).await;
        client.fstat(&owner(1), &fd, Dict::NULL).await.unwrap();
        let asked = brick.asked();
        assert!(matches!(&asked[..], [Request::Open(_), Request::Lk(_), Request::Fstat(_)]), "{asked:?}");
    }
}

#[tokio::test]
async fn a_late_attempt_to_reopen_does_not_reach_the_next_connection() {
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    let remote = fd.contexts.get::<RemoteFd<Memory>>(client.key).unwrap();
    brick.reconnect(&client).await;
    brick.reconnect(&client).await;
    let now = remote.state();
    brick.asked();
    client.reopen(&*brick, &remote, 2).await;
    assert_eq!((remote.state(), brick.asked().len()), (now, 0));
    remote.set_state(State::Open { generation: 2, number: 9 });
    assert!(matches!(remote.state(), State::Open { generation: 3, .. }), "the answer of the older one came late");
}

#[tokio::test]
async fn a_lock_that_is_given_up_while_the_brick_is_away_is_not_taken_again() {
    let unlock = Flock { kind: LockType::Unlock, ..write_lock(10, 20) };
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    lock(&client, &fd).await;
    brick.generation.store(0, Ordering::SeqCst);
    client.lk(&owner(1), &fd, LkCmd::SetLk, unlock.clone(), Dict::NULL).await.unwrap_err();
    brick.generation.store(1, Ordering::SeqCst);
    brick.asked();
    brick.reconnect(&client).await;
    let asked = brick.asked();
    assert!(matches!(&asked[..], [Request::Open(_)]), "{asked:?}");

    // Or just when it is being taken again.
    let (brick, client, fd) = opened(SETTINGS, 2).await;
    lock(&client, &fd).await;
    brick.asked();
    brick.park(Procedure::Lk);
    let mut reopening = Box::pin(brick.reconnect(&client));
    std::future::poll_fn(|poll| {
        assert!(reopening.as_mut().poll(poll).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    brick.parked.lock().unwrap().clear();
    let generation = brick.generation.swap(0, Ordering::SeqCst);
    client.lk(&owner(1), &fd, LkCmd::SetLk, unlock, Dict::NULL).await.unwrap_err();
    brick.generation.store(generation, Ordering::SeqCst);
    brick.unpark(0, 0);
    reopening.await;
    let asked = brick.asked();
    let [Request::Open(_), Request::Lk(lock), Request::Lk(unlock)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((lock.kind, unlock.kind, unlock.flock.start), (LockType::Write, LockType::Unlock, 10));
}
