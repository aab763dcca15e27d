//! The brick's side of an open file: its number there, and what becomes of it when the connection breaks (`clnt_fd_ctx_t`).

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rgfs_protocol::fops::{Fop, Procedure, Wire, request};
use rgfs_protocol::open_flags::{host, wire};
use rgfs_protocol::{Dict, Errno, Gfid};

use super::brick::Brick;
use super::link::FopCall;
use super::{Client, fop_call};
use crate::context::Context;

/// What this client knows of an fd on its brick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The brick knows it by `number` on the connection `generation`.
    Open {
        /// Number of the connection.
        generation: u64,
        /// Number of the fd there; 0 is one.
        number: i64,
    },
    /// It could not be opened again on that connection, for a reason that may pass.
    Closed {
        /// Number of the connection.
        generation: u64,
        /// When that was tried.
        since: Instant,
        /// Why.
        reason: Arc<str>,
    },
    /// Lost for good: the file is gone, or a lock is.
    Bad {
        /// Why.
        reason: Arc<str>,
    },
}

impl State {
    /// The connection that it speaks of; a bad one outlasts all.
    fn generation(&self) -> u64 {
        match self {
            State::Open { generation, .. } | State::Closed { generation, .. } => *generation,
            State::Bad { .. } => u64::MAX,
        }
    }
}

/// How a fop may use an fd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// By its number.
    Number(i64),
    /// By gfid, through the anonymous fd.
    Anonymous,
    /// Not before it was opened on this connection.
    Reopen,
    /// Not at all.
    Refused(Errno, Arc<str>),
}

/// Time between attempts to open an fd again on one connection.
const RETRY: Duration = Duration::from_secs(1);

/// Decides how a fop may use an fd of that state on the connection `generation` (`client_get_remote_fd`,
/// `client-helpers.c`). `anonymous` tells whether the fop may do with the anonymous fd.
///
/// What could not be opened is tried again after a while, as in C (`client_attempt_reopen`): the reason may have passed.
pub(super) fn access(state: &State, generation: u64, anonymous: bool, now: Instant) -> Access {
    match state {
        State::Closed { since, .. } if now.saturating_duration_since(*since) >= RETRY => Access::Reopen,
        State::Open { generation: of, number } if *of == generation => Access::Number(*number),
        State::Closed { generation: of, .. } if *of == generation && anonymous => Access::Anonymous,
        State::Closed { generation: of, reason, .. } if *of == generation => {
            Access::Refused(Errno::EBADFD, reason.clone())
        }
        State::Open { .. } | State::Closed { .. } => Access::Reopen,
        State::Bad { reason } => Access::Refused(Errno::EBADFD, reason.clone()),
    }
}

/// The state of an fd that nobody has tried to open here: due to be tried at once, on whatever connection there is.
pub(super) fn not_tried(now: Instant) -> State {
    let since = now.checked_sub(RETRY).unwrap_or(now);
    State::Closed { generation: 0, since, reason: "it is not open on this brick".into() }
}

/// True for the fops that may go through the anonymous fd when the real one is not open on the brick
/// (`client-common.c`, `FALLBACK_TO_ANON_FD`). `flags` are those of the open. The anonymous fd never appends: the copies of
/// a file would differ without anybody noticing. `O_SYNC` and `O_DIRECT` are kept, see [`anonymous_flags`].
pub(super) fn anonymous_will_do(procedure: Procedure, flags: u32) -> bool {
    match procedure {
        Procedure::Write => flags & wire::APPEND == 0,
        Procedure::Read | Procedure::Fsync | Procedure::Finodelk | Procedure::Fxattrop => true,
        _ => false,
    }
}

/// Flags of READ and WRITE through the anonymous fd: what the open promised is said again, because the brick looks there
/// (`fd_anonymous_with_flags`, `posix_writev`). Both are of this machine.
pub(super) fn anonymous_flags(flags: u32, opened_with: i32) -> u32 {
    flags | (opened_with & (host::O_SYNC | host::O_DIRECT)).cast_unsigned()
}

/// An open file or directory on the brick. Hangs on the [`Fd`](crate::Fd); dropping it closes the brick's fd.
pub(super) struct RemoteFd<B: Brick> {
    /// Unique among the fds of this client.
    pub(super) id: u64,
    pub(super) gfid: Gfid,
    /// Flags of the wire with which to open it again; `None` for a directory.
    pub(super) flags: Option<u32>,
    /// The brick was away when the file was opened. That it does not have the file may then pass: it may be healed.
    pub(super) late: bool,
    pub(super) state: Mutex<State>,
    /// Held while it is opened again, so that only one does it.
    pub(super) reopening: tokio::sync::Mutex<()>,
    pub(super) client: Weak<Client<B>>,
}

impl<B: Brick> RemoteFd<B> {
    /// The state now.
    pub(super) fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state. A bad fd stays bad, and news of an older connection come too late.
    pub(super) fn set_state(&self, new: State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if new.generation() >= state.generation() {
            *state = new;
        }
    }

    /// Makes it fail from now on.
    pub(super) fn poison(&self, reason: &str) {
        self.set_state(State::Bad { reason: reason.into() });
    }
}

impl<B: Brick> Drop for RemoteFd<B> {
    fn drop(&mut self) {
        let Some(client) = self.client.upgrade() else { return };
        client.forget(self);
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Open { generation, number } = *state {
            close(&*client.link, self.gfid, self.flags.is_none(), generation, number);
        }
    }
}

/// Tells the brick to close its fd; the answer is not waited for. Also while other fds are opened again there: the brick
/// would keep this one, and its locks, as long as the connection lives.
pub(super) fn close<B: Brick>(link: &B, gfid: Gfid, directory: bool, generation: u64, number: i64) {
    fn send<F: Fop>(link: &impl Brick, generation: u64, request: &F) {
        let call: FopCall = fop_call::<F>().on(generation);
        link.send(&Context::internal(), call, |encoder| Wire::encode(request, encoder));
    }
    if directory {
        send(link, generation, &request::Releasedir { gfid, fd: number, xdata: Dict::NULL });
    } else {
        send(link, generation, &request::Release { gfid, fd: number, xdata: Dict::NULL });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fd_is_used_on_its_connection_only() {
        let open = State::Open { generation: 1, number: 0 };
        let now = Instant::now();
        let closed = State::Closed { generation: 1, since: now, reason: "r".into() };
        let long_closed = State::Closed { generation: 1, since: now - RETRY, reason: "r".into() };
        let bad = State::Bad { reason: "b".into() };
        let refused = |reason: &str| Access::Refused(Errno::EBADFD, reason.into());
        let untried = not_tried(now);
        let cases = [
            (&untried, 0, false, Access::Reopen),
            (&open, 1, false, Access::Number(0)),
            (&open, 1, true, Access::Number(0)),
            (&open, 2, true, Access::Reopen),
            (&closed, 1, true, Access::Anonymous),
            (&closed, 1, false, refused("r")),
            (&closed, 2, true, Access::Reopen),
            (&long_closed, 1, true, Access::Reopen),
            (&long_closed, 1, false, Access::Reopen),
            (&bad, 1, true, refused("b")),
            (&bad, 2, false, refused("b")),
        ];
        for (state, generation, anonymous, expected) in cases {
            assert_eq!(access(state, generation, anonymous, now), expected, "{state:?} on {generation}");
        }
    }

    #[test]
    fn the_anonymous_fd_does_not_break_promises_of_open() {
        assert!(anonymous_will_do(Procedure::Write, wire::ACCESS_MODE));
        assert!(!anonymous_will_do(Procedure::Write, wire::APPEND));
        assert!(anonymous_will_do(Procedure::Write, wire::SYNC));
        assert_eq!(anonymous_flags(1, host::O_SYNC | host::O_APPEND), 1 | host::O_SYNC as u32);
        assert!(anonymous_will_do(Procedure::Read, wire::APPEND));
        assert!(!anonymous_will_do(Procedure::Lk, 0));
        assert!(!anonymous_will_do(Procedure::Flush, 0));
        assert!(!anonymous_will_do(Procedure::CopyFileRange, 0));
    }
}
