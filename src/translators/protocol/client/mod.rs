//! `protocol/client`: one brick.
//!
//! [`link`] keeps the connection (`options` says where, `handshake` how it begins, `life` how it goes on); this folder turns fops into messages on it. `fops` is the table of fops, `convert`
//! turns answers into replies, `fd` knows the brick's numbers of open files, `reopen` brings them back after a
//! reconnect, `posix_lock` and `locks` take care of the locks of applications.

mod brick;
mod convert;
mod fd;
mod fops;
mod handshake;
mod life;
pub mod link;
pub(crate) mod locks;
pub mod options;
mod posix_lock;
mod reopen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::fops::{ANONYMOUS_FD, Fop, Procedure, ReplyStatus, Wire};
use rgfs_protocol::open_flags::{self, wire};
use rgfs_protocol::xdr::Decoder;
use rgfs_protocol::{Errno, Gfid};

pub use brick::{Brick, Caller};
use fd::{Access, RemoteFd, State};
use link::{Channel, FopCall, Hooks, Link};
use locks::LockTable;

use crate::context::Context;
use crate::error::{FopError, FopResult};
use crate::fd::Fd;
use crate::graph::{BuildError, Environment};
use crate::inode::ContextKey;
use crate::translator::Translator;
use crate::volfile::Volume;

/// A key in the xdata of a failed MKDIR, CREATE or MKNOD that tells `cluster/distribute` to read the layout again; its
/// name is then the detail of the error.
const PREOP_FAILED: &str = "glusterfs.preop.check.failed";

/// One brick: the leaf of every client graph.
pub struct Client<B: Brick = Link> {
    link: Arc<B>,
    options: Settings,
    key: ContextKey,
    me: Weak<Self>,
    next_fd: AtomicU64,
    fds: Mutex<HashMap<u64, Weak<RemoteFd<B>>>>,
    locks: Arc<Mutex<LockTable>>,
}

/// Options of the volume section that concern fops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    /// Fds that held locks over a reconnect fail.
    strict_locks: bool,
    /// Bricks never see `O_DIRECT`.
    filter_direct: bool,
}

impl Settings {
    fn read(volume: &Volume) -> Result<Self, BuildError> {
        let boolean = |name, default| Ok::<_, BuildError>(volume.options.boolean(name)?.unwrap_or(default));
        Ok(Settings {
            strict_locks: boolean("strict-locks", false)?,
            // Off in the C client: then the brick demands aligned offsets and sizes of programs that opened a file
            // with O_DIRECT, which their own kernel did not.
            filter_direct: boolean("filter-O_DIRECT", true)?,
        })
    }
}

/// How a fop names an open file to the brick.
#[derive(Clone, Copy, Debug)]
struct Remote {
    generation: u64,
    gfid: Gfid,
    number: i64,
    /// Id of the [`RemoteFd`], 0 without one.
    id: u64,
}

impl Remote {
    /// READ's and WRITE's flags for this fd, of this machine.
    fn data_flags(self, flags: u32, fd: &Fd) -> u32 {
        if self.number == ANONYMOUS_FD { fd::anonymous_flags(flags, fd.flags) } else { flags }
    }
}

/// A call of a fop.
fn fop_call<F: Fop>() -> FopCall {
    FopCall::new(F::PROCEDURE.number(), F::PROCEDURE.name())
}

/// Reads an answer and the data behind it. A failed fop becomes an error that names the brick.
fn read_answer<F: Fop>(name: &Arc<str>, body: Bytes) -> FopResult<(F::Reply, Bytes)> {
    let step = F::PROCEDURE.name();
    let mut decoder = Decoder::new(body);
    let reply = F::Reply::decode(&mut decoder, step)
        .map_err(|error| FopError::new(Errno::EIO, name, step).with_detail(format!("answer of the brick: {error}")))?;
    match reply.outcome() {
        Ok(_) => Ok((reply, decoder.rest())),
        Err(errno) => {
            let error = FopError::new(errno, name, step).with_xdata(reply.xdata().clone());
            Err(match reply.xdata().contains(PREOP_FAILED) {
                true => error.with_detail(PREOP_FAILED),
                false => error,
            })
        }
    }
}

/// [`read_answer`] of a fop that answers no data.
fn read_reply<F: Fop>(name: &Arc<str>, body: Bytes) -> FopResult<F::Reply> {
    read_answer::<F>(name, body).map(|(reply, _)| reply)
}

impl Client<Link> {
    /// Builds the leaf and begins to connect.
    ///
    /// # Errors
    /// When the volume has children, or an option is missing or cannot be used.
    pub fn new(
        volume: &Volume,
        children: Vec<Arc<dyn Translator>>,
        environment: &Environment,
    ) -> Result<Arc<Self>, BuildError> {
        if !children.is_empty() {
            return Err(BuildError::refused(volume, "a brick has no subvolumes; remove its `subvolumes` line"));
        }
        let settings = Settings::read(volume)?;
        let link = Link::new(volume, environment)?;
        let client = Self::over(link, settings);
        let hooks: Weak<dyn Hooks> = client.me.clone();
        client.link.start(hooks);
        Ok(client)
    }
}

#[async_trait]
impl Hooks for Client<Link> {
    async fn connected(&self, channel: &Channel) {
        self.reopen_all(channel, channel.generation()).await;
    }

    fn disconnected(&self, _generation: u64) {
        // Nothing to do: an fd remembers its connection, and is not used on another.
    }
}

impl<B: Brick> Client<B> {
    fn over(link: Arc<B>, options: Settings) -> Arc<Self> {
        Arc::new_cyclic(|me| Client {
            link,
            options,
            key: ContextKey::unique(),
            me: me.clone(),
            next_fd: AtomicU64::new(1),
            fds: Mutex::default(),
            locks: Arc::default(),
        })
    }

    /// Sends a fop, before this returns, and reads its answer.
    fn call<F: Fop>(&self, context: &Context, request: F) -> impl Future<Output = FopResult<F::Reply>> + Send {
        self.call_as(context, fop_call::<F>(), &request)
    }

    /// Sends a fop on an open file.
    fn call_on<F: Fop>(
        &self,
        context: &Context,
        remote: Remote,
        request: F,
    ) -> impl Future<Output = FopResult<F::Reply>> + Send {
        self.call_as(context, fop_call::<F>().on(remote.generation), &request)
    }

    /// Sends a fop as `call` says.
    fn call_as<F: Fop>(
        &self,
        context: &Context,
        call: FopCall,
        request: &F,
    ) -> impl Future<Output = FopResult<F::Reply>> + Send + use<'_, F, B> {
        let answer = self.send(context, call, request);
        async move { read_reply::<F>(self.link.name(), answer.await?) }
    }

    /// Sends a fop; the answer is still bytes.
    fn send<F: Fop>(&self, context: &Context, call: FopCall, request: &F) -> B::Answer {
        self.link.fop(context, call.sized(request.encoded_len()), |encoder| request.encode(encoder))
    }

    fn error(&self, errno: Errno, procedure: Procedure) -> FopError {
        FopError::new(errno, self.link.name(), procedure.name())
    }

    /// This machine's open flags as the wire's, without what the options filter.
    fn wire_flags(&self, flags: i32) -> u32 {
        let flags = open_flags::to_wire(flags);
        if self.options.filter_direct { flags & !wire::DIRECT } else { flags }
    }

    /// READ's and WRITE's flags, which are this machine's, without what the options filter.
    fn data_flags(&self, flags: u32) -> u32 {
        if self.options.filter_direct { flags & !(open_flags::host::O_DIRECT as u32) } else { flags }
    }

    /// The number of the connection that serves fops.
    fn generation(&self, procedure: Procedure) -> FopResult<u64> {
        self.link
            .generation()
            .ok_or_else(|| self.error(Errno::ENOTCONN, procedure).with_detail("the brick is not connected"))
    }

    /// Remembers that the brick opened `fd` as `number` on the connection `generation`.
    fn opened(&self, fd: &Fd, gfid: Gfid, flags: Option<u32>, generation: u64, number: i64) {
        let state = State::Open { generation, number };
        let known = self.remember(fd, || self.remote_fd(gfid, flags, false, state.clone()));
        if known.state() != state {
            // A fop that could not wait had it opened meanwhile, or it is bad and stays bad.
            fd::close(&*self.link, gfid, flags.is_none(), generation, number);
        }
    }

    /// Closes the brick's fd.
    fn close(&self, fd: &Fd) {
        let known = fd.contexts.get::<RemoteFd<B>>(self.key);
        fd.contexts.remove(self.key);
        drop(known);
    }

    /// Whether this brick was ever asked to open `fd`.
    fn is_known(&self, fd: &Fd) -> bool {
        fd.contexts.get::<RemoteFd<B>>(self.key).is_some()
    }

    /// What is known of `fd`; `make` tells it when nothing is.
    fn remember(&self, fd: &Fd, make: impl FnOnce() -> RemoteFd<B>) -> Arc<RemoteFd<B>> {
        let remote = fd.contexts.get_or_insert_with(self.key, make);
        self.fds.lock().unwrap_or_else(PoisonError::into_inner).insert(remote.id, Arc::downgrade(&remote));
        remote
    }

    fn remote_fd(&self, gfid: Gfid, flags: Option<u32>, late: bool, state: State) -> RemoteFd<B> {
        RemoteFd {
            id: self.next_fd.fetch_add(1, Ordering::Relaxed),
            gfid,
            flags,
            late,
            state: Mutex::new(state),
            reopening: tokio::sync::Mutex::default(),
            client: self.me.clone(),
        }
    }

    /// An fd is closed: its number and its locks are of the past.
    fn forget(&self, fd: &RemoteFd<B>) {
        self.fds.lock().unwrap_or_else(PoisonError::into_inner).remove(&fd.id);
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).release_fd(fd.gfid, fd.id);
    }

    /// How `procedure` names `fd` to the brick. Opens it first where a reconnect overtook the answer of its open.
    async fn remote(&self, fd: &Fd, procedure: Procedure) -> FopResult<Remote> {
        let remote = match fd.contexts.get::<RemoteFd<B>>(self.key) {
            Some(remote) => remote,
            None if self.anonymous_will_do(procedure, open_flags::to_wire(fd.flags)) => {
                let generation = self.generation(procedure)?;
                return Ok(Remote { generation, gfid: fd.gfid(), number: ANONYMOUS_FD, id: 0 });
            }
            None => self.opened_late(fd),
        };
        let flags = remote.flags.unwrap_or_default();
        let mut tried = false;
        loop {
            let generation = self.generation(procedure)?;
            let anonymous = self.anonymous_will_do(procedure, flags);
            let number = match fd::access(&remote.state(), generation, anonymous, Instant::now()) {
                Access::Number(number) => number,
                Access::Anonymous => ANONYMOUS_FD,
                Access::Refused(errno, reason) => {
                    return Err(self.error(errno, procedure).with_detail(&*reason));
                }
                Access::Reopen if tried => {
                    return Err(self.error(Errno::ENOTCONN, procedure).with_detail("the brick comes and goes"));
                }
                Access::Reopen => {
                    tried = true;
                    let _alone = remote.reopening.lock().await;
                    self.reopen(&*self.link, &remote, generation).await;
                    continue;
                }
            };
            return Ok(Remote { generation, gfid: remote.gfid, number, id: remote.id });
        }
    }

    /// An fd that was opened while this brick was away. It is opened now, by gfid and as root like after a reconnect: a
    /// failure here would accuse a brick that is well.
    fn opened_late(&self, fd: &Fd) -> Arc<RemoteFd<B>> {
        let directory = fd.inode.is_dir() || fd.flags & open_flags::host::O_DIRECTORY != 0;
        let flags = (!directory).then(|| self.wire_flags(fd.flags));
        self.remember(fd, || self.remote_fd(fd.gfid(), flags, true, fd::not_tried(Instant::now())))
    }

    /// Whether a fop may go through the anonymous fd. With `strict-locks` nothing is written but through an fd that is open.
    fn anonymous_will_do(&self, procedure: Procedure, flags: u32) -> bool {
        !(self.options.strict_locks && procedure == Procedure::Write) && fd::anonymous_will_do(procedure, flags)
    }
}
