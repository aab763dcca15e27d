//! What the fop layer needs of a brick connection. [`Link`] is the real thing; tests have one in memory.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::xdr::Encoder;

use super::link::{Channel, FopCall, FopFuture, Link};
use crate::context::Context;
use crate::error::FopResult;
use crate::event::EventSource;
use crate::observe::ConnectionCounters;
use crate::volfile::Volume;

/// Something that carries fops to a brick: a connection that everybody uses, or one that is still being set up.
pub trait Caller: Send + Sync {
    /// The body of an answer, to come.
    type Answer: Future<Output = FopResult<Bytes>> + Send + 'static;

    /// Sends a fop before this returns; see [`Link::fop`].
    fn fop(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) -> Self::Answer;
}

/// A brick connection through all its lives.
pub trait Brick: Caller + 'static {
    /// Name of the volume section.
    fn name(&self) -> &Arc<str>;

    /// Where it announces what happens to the brick.
    fn events(&self) -> &EventSource;

    /// Number of the connection that serves fops now; `None` while there is none.
    fn generation(&self) -> Option<u64>;

    /// What it counted; a brick in memory counts nothing.
    fn counters(&self) -> Option<&ConnectionCounters> {
        None
    }

    /// See [`Link::reconfigure`].
    fn reconfigure(&self, volume: &Volume) -> bool {
        let _ = volume;
        false
    }

    /// Sends a fop whose answer nobody wants; see [`Link::send`].
    fn send(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder));
}

impl Caller for Link {
    type Answer = FopFuture;

    fn fop(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) -> FopFuture {
        Link::fop(self, context, call, encode)
    }
}

impl Brick for Link {
    fn name(&self) -> &Arc<str> {
        Link::name(self)
    }

    fn events(&self) -> &EventSource {
        Link::events(self)
    }

    fn generation(&self) -> Option<u64> {
        Link::generation(self)
    }

    fn counters(&self) -> Option<&ConnectionCounters> {
        Some(Link::counters(self))
    }

    fn reconfigure(&self, volume: &Volume) -> bool {
        Link::reconfigure(self, volume)
    }

    fn send(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) {
        Link::send(self, context, call, encode);
    }
}

impl Caller for Channel {
    type Answer = FopFuture;

    fn fop(&self, context: &Context, call: FopCall, encode: impl FnOnce(&mut Encoder)) -> FopFuture {
        Channel::fop(self, context, call, encode)
    }
}
