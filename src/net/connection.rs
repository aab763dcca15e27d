//! One connection: calls go out from the caller's thread, answers complete their callers on the thread that reads them.
//!
//! There is no hand-off on the way: [`Connection::call`] encodes the request and writes the socket before it returns, and
//! the reader of the connection (`super::router`) wakes the caller's future, which then runs right there.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use rgfs_protocol::DecodeError;
use rgfs_protocol::auth::{Caller, OwnerTooLong};
use rgfs_protocol::callback::Callback;
use rgfs_protocol::record::{MAX_RECORD, SMALL, mark};
use rgfs_protocol::rpc::{CallHeader, FOPS, Program, Rejection};
use rgfs_protocol::session::{Session, Timing};
use rgfs_protocol::xdr::Encoder;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::endpoint::brief;
use super::outgoing::{self, Batch, Message, Outgoing};
use super::router;
use super::slot::Slot;
use super::stream::Stream;
use crate::observe::ConnectionCounters;
use crate::observe::counters::OTHER;
use crate::reply::Payload;

/// Bytes of a request before its arguments: record word, call header, a v3 credential without groups, verifier.
const HEADERS: usize = 4 + 24 + 8 + 44 + 8;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The connection is gone; whether the peer has executed the call is unknown.
    #[error("{0}")]
    Disconnected(Arc<str>),
    /// No answer within the frame timeout; the connection lives.
    #[error("no answer within {} s", .0.frame.as_secs_f32())]
    TimedOut(Timing),
    /// The RPC layer of the peer refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The answer does not decode.
    #[error("the answer makes no sense: {0}")]
    Garbled(#[from] DecodeError),
    /// The credential cannot be sent.
    #[error(transparent)]
    Credential(#[from] OwnerTooLong),
    /// The request is larger than peers accept.
    #[error("a request of {0} bytes is too large")]
    TooLarge(usize),
}

/// A call, but for its arguments.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Program of the peer.
    pub program: Program,
    /// Its procedure.
    pub procedure: u32,
    /// Who asks.
    pub caller: Caller<'a>,
    /// File data behind the arguments.
    pub payload: Payload,
    /// Bytes of the arguments, if known: saves an allocation.
    pub arguments: usize,
    /// Bytes, at most, that the answer carries besides headers: a large one is received into a buffer of its own.
    pub reply: usize,
    /// The answer carries file data. Others, if they are small, are copied out of the receive buffer, so that what is
    /// kept of them keeps little memory.
    pub data: bool,
    /// The answer may come hours later.
    pub exempt: bool,
}

impl<'a> Request<'a> {
    /// A call by `caller`, without file data.
    pub fn new(program: Program, procedure: u32, caller: Caller<'a>) -> Self {
        Request {
            program,
            procedure,
            caller,
            payload: Payload::new(),
            arguments: 0,
            reply: 0,
            data: false,
            exempt: false,
        }
    }

    fn slot(&self) -> usize {
        if self.program == FOPS { self.procedure as usize } else { OTHER }
    }
}

/// Hears callbacks; runs on the network thread and must not block.
pub type CallbackHandler = Arc<dyn Fn(Callback) + Send + Sync>;

/// What a connection needs to know about itself.
pub struct Settings {
    /// Who the peer is, for errors and logs: `i-server1:49152`.
    pub peer: Arc<str>,
    /// When to ping and give up.
    pub timing: Timing,
    /// Where to count.
    pub counters: Arc<ConnectionCounters>,
    /// Hears callbacks.
    pub callbacks: CallbackHandler,
}

/// An open connection. Dropping it closes it; calls that are out fail.
pub struct Connection {
    shared: Arc<Shared>,
}

/// What callers and the tasks of the connection share.
pub(super) struct Shared {
    pub(super) stream: Stream,
    pub(super) settings: Settings,
    pub(super) state: Mutex<State>,
    pub(super) outgoing: Mutex<Outgoing>,
    /// The socket is full, or gone: for the writer task.
    pub(super) writer: Notify,
    /// A call went out while the timer task slept, or the connection is gone.
    pub(super) timer: Notify,
    pub(super) closed: watch::Sender<Option<Arc<str>>>,
}

pub(super) struct State {
    pub(super) session: Session<Waiter>,
    /// Why the connection is gone, or about to go.
    pub(super) closed: Option<Arc<str>>,
    /// The timer task sleeps without a deadline.
    pub(super) timer_sleeps: bool,
}

/// Who waits for an answer.
pub(super) struct Waiter {
    pub(super) answer: Arc<Slot<Result<Bytes, CallError>>>,
    pub(super) started: Instant,
    pub(super) slot: usize,
    pub(super) has_data: bool,
}

impl Connection {
    /// Takes a connected stream into service on the runtime of `handle`, which must be the one that made it.
    pub fn start(handle: &Handle, stream: Stream, settings: Settings) -> Self {
        let state = State { session: Session::new(settings.timing, Instant::now()), closed: None, timer_sleeps: false };
        let shared = Arc::new(Shared {
            stream,
            settings,
            state: Mutex::new(state),
            outgoing: Mutex::default(),
            writer: Notify::new(),
            timer: Notify::new(),
            closed: watch::Sender::new(None),
        });
        handle.spawn(router::read(shared.clone()));
        handle.spawn(router::write(shared.clone()));
        handle.spawn(router::watch(shared.clone()));
        Connection { shared }
    }

    /// Who the peer is.
    pub fn peer(&self) -> &Arc<str> {
        &self.shared.settings.peer
    }

    /// Sends a call before this returns (unless the socket is full: then its network thread does). `encode` appends the
    /// arguments. Dropping the returned future gives the call up.
    ///
    /// # Errors
    /// When the connection is gone or the request cannot be sent.
    pub fn call(&self, request: Request<'_>, encode: impl FnOnce(&mut Encoder)) -> Result<Call, CallError> {
        let message = encode_message(&request, encode)?;
        let answer = Arc::new(Slot::default());
        let started = Instant::now();
        let waiter = Waiter { answer: answer.clone(), started, slot: message.slot, has_data: request.data };
        let xid = self.send(message, started, |session| {
            session.handle_call(started, waiter, request.exempt, request.reply > SMALL)
        })?;
        Ok(Call { answer, shared: self.shared.clone(), xid, finished: false })
    }

    /// Sends a call whose answer nobody wants.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn call_one_way(&self, request: Request<'_>, encode: impl FnOnce(&mut Encoder)) -> Result<(), CallError> {
        let message = encode_message(&request, encode)?;
        let now = Instant::now();
        self.send(message, now, |session| session.handle_one_way(now)).map(|_| ())
    }

    fn send(
        &self,
        mut message: Message,
        now: Instant,
        register: impl FnOnce(&mut Session<Waiter>) -> u32,
    ) -> Result<u32, CallError> {
        let (xid, wake_timer) = {
            let mut state = self.shared.state();
            if let Some(cause) = &state.closed {
                return Err(CallError::Disconnected(cause.clone()));
            }
            (register(&mut state.session), std::mem::take(&mut state.timer_sleeps))
        };
        if wake_timer {
            self.shared.timer.notify_one();
        }
        message.head[4..8].copy_from_slice(&xid.to_be_bytes());
        self.shared.settings.counters.request(message.slot, message.len());
        self.shared.send(message, now);
        Ok(xid)
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.shared.state().session.len()
    }

    /// Ends when the connection is gone; says why.
    pub async fn closed(&self) -> Arc<str> {
        let mut closed = self.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(cause) => cause.clone().unwrap_or_else(|| "closed".into()),
            Err(_) => "closed".into(),
        }
    }

    /// Closes the connection; `cause` is what those hear who wait for answers.
    pub fn close(&self, cause: impl Into<Arc<str>>) {
        self.shared.fail(cause.into());
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.fail("the connection was closed by this client".into());
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", self.peer()).finish_non_exhaustive()
    }
}

/// Record word, headers and arguments; the xid is patched in when the call is registered.
fn encode_message(request: &Request<'_>, encode: impl FnOnce(&mut Encoder)) -> Result<Message, CallError> {
    let arguments = if request.arguments == 0 { 256 } else { request.arguments };
    let credential = request.caller.groups.len() * 4 + request.caller.owner.len();
    let mut encoder = Encoder::with_capacity(HEADERS + credential + arguments);
    encoder.u32(0);
    CallHeader::encode_front(&mut encoder, 0, request.program, request.procedure);
    request.caller.encode_v3(&mut encoder)?;
    CallHeader::encode_verifier(&mut encoder);
    encode(&mut encoder);
    let message =
        Message { head: encoder.finish(), payload: request.payload.clone(), slot: request.slot(), queued: None };
    let length = message.len() - 4;
    if length > MAX_RECORD {
        return Err(CallError::TooLarge(length));
    }
    let mut message = message;
    message.head[..4].copy_from_slice(&mark(length).to_be_bytes());
    Ok(message)
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `message` now, or leaves it to the thread or task that writes.
    pub(super) fn send(&self, message: Message, now: Instant) {
        let message = self.outgoing().push(message, now);
        if let Some(message) = message {
            self.write(Batch::from_buf([message]));
        }
    }

    /// Writes `batch` and what is queued meanwhile, until all is out or the socket is full. Returns the bytes written.
    pub(super) fn write(&self, mut batch: Batch) -> usize {
        let counters = &self.settings.counters;
        let mut total = 0;
        loop {
            if batch.is_empty() {
                self.outgoing().next(&mut batch);
                if batch.is_empty() {
                    return total;
                }
            }
            let sent = self.stream.send(&outgoing::slices(&batch));
            counters.writes.fetch_add(1, Ordering::Relaxed);
            match sent {
                Ok(count) => {
                    total += count;
                    outgoing::advance(&mut batch, count, |message| {
                        if let Some(queued) = message.queued {
                            counters.slot(message.slot).queued.record(queued.elapsed());
                        }
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    for message in &mut batch {
                        message.queued.get_or_insert(now);
                    }
                    self.outgoing().full(batch);
                    self.writer.notify_one();
                    return total;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.fail(format!("{}: {} while sending", self.settings.peer, brief(&error)).into());
                    return total;
                }
            }
        }
    }

    /// The connection must go: the reader notices, and fails those who wait. The first cause counts.
    pub(super) fn fail(&self, cause: Arc<str>) {
        self.state().closed.get_or_insert(cause);
        self.outgoing().abandon();
        self.stream.shutdown();
    }
}

/// An answer to come: the body behind the RPC header. Dropping it gives the call up; its late answer is ignored.
#[must_use = "dropping it gives the call up"]
pub struct Call {
    answer: Arc<Slot<Result<Bytes, CallError>>>,
    shared: Arc<Shared>,
    xid: u32,
    finished: bool,
}

impl Future for Call {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.answer.poll(context.waker());
        self.finished |= answer.is_ready();
        answer
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.finished {
            let waiter = self.shared.state().session.handle_dropped(self.xid);
            drop(waiter);
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
