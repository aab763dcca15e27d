//! The life of one brick connection: connect, handshake, serve, lose, connect again (`client-handshake.c`, `client.c`).
//!
//! A [`Link`] belongs to one `protocol/client` volume. It owns the socket and its ups and downs; it knows nothing of
//! what fops mean. The fop layer gives it encoded arguments and gets the encoded body of the answer back.
//!
//! Every connection has a number, its *generation*. Remote fds belong to the generation that opened them: a fop on one
//! says so ([`FopCall::on`]) and fails with ENOTCONN when that connection is gone, instead of hitting another file.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::Errno;
use rgfs_protocol::xdr::Encoder;

use crate::context::Context;
use crate::error::{FopError, FopResult};
use crate::event::EventSource;
use crate::graph::{BuildError, Environment};
use crate::reply::Payload;
use crate::volfile::Volume;

/// One fop for the wire: which procedure, and what the connection must know about it.
#[derive(Clone, Debug)]
pub struct FopCall {
    pub(super) procedure: u32,
    pub(super) name: &'static str,
    pub(super) payload: Payload,
    pub(super) reply: usize,
    pub(super) waits: bool,
    pub(super) generation: Option<u64>,
}

impl FopCall {
    /// A call of procedure `procedure` of the fop program; `name` is its name in errors and counters.
    pub fn new(procedure: u32, name: &'static str) -> Self {
        FopCall { procedure, name, payload: Payload::new(), reply: 0, waits: false, generation: None }
    }

    /// The procedure.
    pub fn procedure(&self) -> u32 {
        self.procedure
    }

    /// File data that follows the arguments, sent as it is.
    #[must_use]
    pub fn with_payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// The answer carries up to `bytes` of data (READ, READDIRP): it is received into a buffer of its own.
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

/// One brick connection through all its lives.
pub struct Link {
    name: Arc<str>,
    events: EventSource,
}

impl Link {
    /// Reads the options of `volume`. Nothing is connected before [`Link::start`].
    ///
    /// # Errors
    /// When an option is missing or cannot be used.
    pub fn new(volume: &Volume, environment: &Environment) -> Result<Arc<Self>, BuildError> {
        let _ = environment;
        Ok(Arc::new(Link { name: volume.name.clone(), events: EventSource::default() }))
    }

    /// Begins to connect, and goes on until the link is dropped.
    pub fn start(self: &Arc<Self>, hooks: Weak<dyn Hooks>) {
        let _ = hooks;
    }

    /// Name of the volume section.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where the link announces what happens to the brick.
    pub fn events(&self) -> &EventSource {
        &self.events
    }

    /// Number of the connection that serves fops now; `None` while there is none.
    pub fn generation(&self) -> Option<u64> {
        None
    }

    /// Sends a fop before this returns; the future is the body of the answer. `encode` appends the arguments.
    ///
    /// Fails at once with ENOTCONN while the brick is down. Failures of the RPC layer become errnos: a lost connection or
    /// a timeout ENOTCONN, a procedure the brick does not have EOPNOTSUPP, arguments it cannot decode EINVAL.
    /// Dropping the future gives the call up; its late answer is ignored.
    pub fn fop(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) -> FopFuture {
        let _ = (context, encode);
        FopFuture { failed: Some(FopError::new(Errno::ENOTCONN, &self.name, call.name)) }
    }

    /// Sends a fop whose answer nobody wants (RELEASE). Does nothing while the brick is down.
    pub fn send(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) {
        drop(self.fop(context, call, encode));
    }
}

/// An established connection that does not serve everybody yet; see [`Hooks::connected`].
pub struct Channel {
    name: Arc<str>,
    generation: u64,
}

impl Channel {
    /// Number of this connection.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// [`Link::fop`] over this connection.
    pub fn fop(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) -> FopFuture {
        let _ = (context, encode);
        FopFuture { failed: Some(FopError::new(Errno::ENOTCONN, &self.name, call.name)) }
    }
}

/// The answer of a fop, to come: the bytes behind the RPC header.
#[must_use = "dropping it gives the call up"]
pub struct FopFuture {
    failed: Option<FopError>,
}

impl Future for FopFuture {
    type Output = FopResult<Bytes>;

    fn poll(mut self: Pin<&mut Self>, _context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        match self.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}
