//! The life of one brick connection: connect, handshake, serve, lose, connect again (`client-handshake.c`, `client.c`).
//!
//! A [`Link`] belongs to one `protocol/client` volume. It owns the socket and its ups and downs; it knows nothing of
//! what fops mean. The fop layer gives it encoded arguments and gets the encoded body of the answer back.
//!
//! Every connection has a number, its *generation*. Remote fds belong to the generation that opened them: a fop on one
//! says so ([`FopCall::on`]) and fails with ENOTCONN when that connection is gone, instead of hitting another file.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::Errno;
use rgfs_protocol::auth::{self, Times};
use rgfs_protocol::fops::Procedure;
use rgfs_protocol::rpc::{FOPS, Rejection};
use rgfs_protocol::xdr::Encoder;
use tokio::sync::Notify;

use super::life;
use super::options::LinkOptions;
use crate::context::{Context, Rounds};
use crate::error::{FopError, FopResult};
use crate::event::EventSource;
use crate::graph::{BuildError, Environment};
use crate::net::connection::{Call, CallError, Connection, Request};
use crate::observe::ConnectionCounters;
use crate::reply::Payload;
use crate::volfile::Volume;

/// One fop for the wire: which procedure, and what the connection must know about it.
#[derive(Clone, Debug)]
pub struct FopCall {
    pub(super) procedure: u32,
    pub(super) name: &'static str,
    pub(super) payload: Payload,
    pub(super) arguments: usize,
    pub(super) reply: usize,
    pub(super) waits: bool,
    pub(super) generation: Option<u64>,
}

impl FopCall {
    /// A call of procedure `procedure` of the fop program; `name` is its name in errors and counters.
    pub fn new(procedure: u32, name: &'static str) -> Self {
        FopCall { procedure, name, payload: Payload::new(), arguments: 0, reply: 0, waits: false, generation: None }
    }

    /// The procedure.
    pub fn procedure(&self) -> u32 {
        self.procedure
    }

    /// The arguments take `bytes` on the wire: saves an allocation when they are many.
    #[must_use]
    pub fn sized(mut self, bytes: usize) -> Self {
        self.arguments = bytes;
        self
    }

    /// File data that follows the arguments, sent as it is.
    #[must_use]
    pub fn with_payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// The answer carries up to `bytes` (READ, READDIRP): a large one is received into a buffer of its own.
    #[must_use]
    pub fn expecting(mut self, bytes: usize) -> Self {
        self.reply = bytes;
        self
    }

    /// The brick may answer hours later (blocking locks): the frame timeout does not apply.
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.waits = true;
        self
    }

    /// The call names a remote fd of that connection.
    #[must_use]
    pub fn on(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }
}

/// What the fop layer does when the connection comes and goes.
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// A connection has passed the handshake. Only `channel` reaches the brick until this returns: reopen fds and take
    /// locks again here. Then the link announces `Up` and other fops pass.
    async fn connected(&self, channel: &Channel);

    /// The connection of that generation is gone: its remote fds and locks with it.
    fn disconnected(&self, generation: u64);
}

/// One brick connection through all its lives. It ends when this is dropped.
pub struct Link {
    inner: Arc<Inner>,
}

/// What the link shares with the task that keeps it alive.
pub(super) struct Inner {
    pub(super) name: Arc<str>,
    /// What the next connection goes by.
    pub(super) options: RwLock<Arc<LinkOptions>>,
    pub(super) environment: Environment,
    pub(super) events: EventSource,
    pub(super) counters: Arc<ConnectionCounters>,
    /// The connection that is set up, from the handshake to its end, whether or not fops pass.
    pub(super) established: RwLock<Option<Arc<Channel>>>,
    /// The connection that serves fops.
    pub(super) current: RwLock<Option<Arc<Channel>>>,
    /// Why there is none.
    pub(super) cause: Mutex<Arc<str>>,
    /// Attempts to connect so far; the next one's number. Connections take their generation from it.
    pub(super) attempts: AtomicU64,
    /// The link was dropped.
    pub(super) end: Notify,
}

impl Link {
    /// Reads the options of `volume`. Nothing is connected before [`Link::start`].
    ///
    /// # Errors
    /// When an option is missing or cannot be used.
    pub fn new(volume: &Volume, environment: &Environment) -> Result<Arc<Self>, BuildError> {
        let inner = Inner {
            name: volume.name.clone(),
            options: RwLock::new(Arc::new(LinkOptions::new(volume, environment)?)),
            environment: environment.clone(),
            events: EventSource::default(),
            counters: Arc::default(),
            established: RwLock::new(None),
            current: RwLock::new(None),
            cause: Mutex::new("not connected yet".into()),
            attempts: AtomicU64::new(0),
            end: Notify::new(),
        };
        Ok(Arc::new(Link { inner: Arc::new(inner) }))
    }

    /// Begins to connect, and goes on until the link is dropped. Call it once.
    pub fn start(self: &Arc<Self>, hooks: Weak<dyn Hooks>) {
        let handle = self.inner.environment.network.handle().clone();
        handle.spawn(life::run(self.inner.clone(), handle.clone(), hooks));
    }

    /// Name of the volume section.
    pub fn name(&self) -> &Arc<str> {
        &self.inner.name
    }

    /// Where the link announces what happens to the brick.
    pub fn events(&self) -> &EventSource {
        &self.inner.events
    }

    /// What the connections of this brick have counted.
    pub fn counters(&self) -> &Arc<ConnectionCounters> {
        &self.inner.counters
    }

    /// The options of the next connection.
    pub fn options(&self) -> Arc<LinkOptions> {
        self.inner.options()
    }

    /// Takes over the options of `volume`, for the next connection, if it is the same brick.
    pub fn reconfigure(&self, volume: &Volume) -> bool {
        let Ok(new) = LinkOptions::new(volume, &self.inner.environment) else { return false };
        let mut options = self.inner.options.write().unwrap_or_else(PoisonError::into_inner);
        let same = new.remote == options.remote && new.subvolume == options.subvolume;
        if same {
            *options = Arc::new(new);
        }
        same
    }

    /// Number of the connection that serves fops now; `None` while there is none.
    pub fn generation(&self) -> Option<u64> {
        self.current().map(|channel| channel.generation)
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.current().map_or(0, |channel| channel.connection.in_flight())
    }

    /// Sends a fop before this returns; the future is the body of the answer. `encode` appends the arguments.
    ///
    /// Fails at once with ENOTCONN while the brick is down. Failures of the RPC layer become errnos: a lost connection or
    /// a timeout ENOTCONN, a procedure the brick does not have EOPNOTSUPP, arguments it cannot decode EINVAL.
    /// Dropping the future gives the call up; its late answer is ignored.
    pub fn fop(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) -> FopFuture {
        match self.current() {
            Some(channel) => channel.fop(context, call, encode),
            None => FopFuture::failed(
                FopError::new(Errno::ENOTCONN, &self.inner.name, call.name).with_detail(&*self.inner.cause()),
            ),
        }
    }

    /// Sends a fop whose answer nobody wants (RELEASE). One that names a connection goes over it also while fds are
    /// opened again there, or the brick's storage is down: nothing would repeat it later. Without the connection it does
    /// nothing.
    pub fn send(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) {
        let channel = match call.generation {
            Some(_) => self.inner.established.read().unwrap_or_else(PoisonError::into_inner).clone(),
            None => self.current(),
        };
        let Some(channel) = channel else { return };
        if call.generation.is_none_or(|generation| generation == channel.generation) {
            // A connection that is lost has released everything by itself.
            let _ = channel.connection.call_one_way(channel.request(context, call), encode);
        }
    }

    fn current(&self) -> Option<Arc<Channel>> {
        self.inner.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.inner.serve(None);
        self.inner.establish(None);
        self.inner.end.notify_one();
    }
}

impl Inner {
    /// What the next connection goes by.
    pub(super) fn options(&self) -> Arc<LinkOptions> {
        self.options.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on fops go to `channel`, or fail.
    pub(super) fn serve(&self, channel: Option<Arc<Channel>>) {
        let before = std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), channel);
        drop(before);
    }

    /// A connection has passed the handshake, or is gone.
    pub(super) fn establish(&self, channel: Option<Arc<Channel>>) {
        let before = std::mem::replace(&mut *self.established.write().unwrap_or_else(PoisonError::into_inner), channel);
        drop(before);
    }

    /// Why there is no connection.
    pub(super) fn cause(&self) -> Arc<str> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_cause(&self, cause: &Arc<str>) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause.clone();
    }
}

/// An established connection that does not serve everybody yet; see [`Hooks::connected`].
pub struct Channel {
    pub(super) name: Arc<str>,
    pub(super) generation: u64,
    pub(super) connection: Connection,
    pub(super) send_gids: bool,
}

impl Channel {
    /// Number of this connection.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// [`Link::fop`] over this connection.
    pub fn fop(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) -> FopFuture {
        let step = call.name;
        if call.generation.is_some_and(|generation| generation != self.generation) {
            return FopFuture::failed(
                FopError::new(Errno::ENOTCONN, &self.name, step)
                    .with_detail("the connection that opened the file is gone"),
            );
        }
        let depth = context.rounds.sent();
        match self.connection.call(self.request(context, call), encode) {
            Ok(call) => FopFuture {
                state: State::Sent(Sent { call, rounds: context.rounds.clone(), depth, name: self.name.clone(), step }),
            },
            Err(error) => FopFuture::failed(fop_error(&self.name, step, &error)),
        }
    }

    fn request<'a>(&self, context: &'a Context, call: FopCall) -> Request<'a> {
        let caller = auth::Caller {
            // To a brick, pid 1 is the NFS server, which it treats differently. In a container it is just a process.
            pid: if context.pid == 1 { 2 } else { context.pid },
            uid: context.uid,
            gid: context.gid,
            groups: if self.send_gids { &context.groups } else { std::slice::from_ref(&context.gid) },
            owner: &context.lock_owner.0,
            times: Times {
                flags: context.time_flags,
                seconds: context.time.sec.cast_unsigned(),
                nanoseconds: context.time.nsec,
            },
        };
        Request {
            payload: call.payload,
            arguments: call.arguments,
            reply: call.reply,
            data: call.procedure == Procedure::Read.number(),
            exempt: call.waits,
            ..Request::new(FOPS, call.procedure, caller)
        }
    }
}

/// The errno and the words for a fop whose call failed below it.
fn fop_error(name: &Arc<str>, step: &'static str, error: &CallError) -> FopError {
    let errno = match error {
        CallError::Disconnected(_) | CallError::TimedOut(_) => Errno::ENOTCONN,
        CallError::Rejected(Rejection::ProcedureUnavailable) => Errno::EOPNOTSUPP,
        CallError::Rejected(Rejection::GarbageArguments) | CallError::Garbled(_) | CallError::TooLarge(_) => {
            Errno::EINVAL
        }
        CallError::Rejected(Rejection::Authentication(_)) => Errno::EACCES,
        CallError::Rejected(_) => Errno::ENOTCONN,
        CallError::Credential(_) => Errno::E2BIG,
    };
    FopError::new(errno, name, step).with_detail(error.to_string())
}

/// The answer of a fop, to come: the bytes behind the RPC header.
#[must_use = "dropping it gives the call up"]
pub struct FopFuture {
    state: State,
}

#[allow(clippy::large_enum_variant, reason = "the usual variant is the large one")]
enum State {
    Failed(Option<FopError>),
    Sent(Sent),
}

struct Sent {
    call: Call,
    rounds: Arc<Rounds>,
    depth: u32,
    name: Arc<str>,
    step: &'static str,
}

impl FopFuture {
    fn failed(error: FopError) -> Self {
        FopFuture { state: State::Failed(Some(error)) }
    }
}

impl Future for FopFuture {
    type Output = FopResult<Bytes>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Failed(error) => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
            State::Sent(sent) => Pin::new(&mut sent.call).poll(context).map(|answer| {
                sent.rounds.answered(sent.depth);
                answer.map_err(|error| fop_error(&sent.name, sent.step, &error))
            }),
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
