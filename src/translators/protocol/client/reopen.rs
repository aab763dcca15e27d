//! After a reconnect: open the fds again that the brick forgot, and take their posix locks again.
//!
//! Files are opened by gfid, as root: who opened them first was checked then. A file that has no name any more cannot be
//! opened, and a lock that somebody else took meanwhile cannot be had: such an fd fails with EBADFD from then on, because
//! a program that goes on as if nothing had happened would lose data. With `strict-locks` an fd that held locks is not
//! even tried: between the two connections nobody guarded what it locks.

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use rgfs_protocol::fops::{Fop, request};
use rgfs_protocol::open_flags::wire;
use rgfs_protocol::types::{LkCmd, LockType};
use rgfs_protocol::{Dict, Errno};

use super::brick::{Brick, Caller};
use super::fd::{RemoteFd, State, close};
use super::locks::Held;
use super::{Client, fop_call, read_reply};
use crate::context::Context;
use crate::error::FopResult;

/// Fds that are opened at the same time.
const BATCH: usize = 64;

/// Flags with which a file is opened again: without those that make or empty it.
pub(super) fn reopen_flags(flags: u32) -> u32 {
    flags & !(wire::CREAT | wire::EXCL | wire::TRUNC)
}

/// What to do with an fd on a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is bad already, or open on this connection.
    Leave,
    /// It held locks, and `strict-locks` forbids to go on without them.
    Poison,
    /// Open it, then take its locks.
    Open,
}

/// Decides what to do with an fd of that state on the connection `generation`.
pub(super) fn plan(state: &State, generation: u64, holds_locks: bool, strict_locks: bool) -> Plan {
    match state {
        State::Bad { .. } => Plan::Leave,
        State::Open { generation: of, .. } if *of == generation => Plan::Leave,
        State::Open { .. } | State::Closed { .. } if holds_locks && strict_locks => Plan::Poison,
        State::Open { .. } | State::Closed { .. } => Plan::Open,
    }
}

/// The state of an fd whose reopening failed; `late` is [`RemoteFd::late`]. `None`: the connection went away, or the brick did not answer, which says
/// nothing about the file; it stays as it is, to be opened on the next connection or when it is needed.
pub(super) fn after_failure(
    errno: Errno,
    generation: u64,
    (late, holds_locks): (bool, bool),
    now: Instant,
) -> Option<State> {
    Some(match errno {
        Errno::ENOTCONN => return None,
        Errno::ENOENT | Errno::ESTALE if !late => {
            State::Bad { reason: "the file was removed, and the connection that held it open is lost".into() }
        }
        _ if holds_locks => {
            State::Bad { reason: format!("its locks are lost: cannot be opened again: {errno}").into() }
        }
        _ => State::Closed { generation, since: now, reason: format!("cannot be opened again: {errno}").into() },
    })
}

impl<B: Brick> Client<B> {
    /// Opens every fd again on a new connection. Fails none: each fd remembers what became of it.
    pub(super) async fn reopen_all(&self, channel: &impl Caller, generation: u64) {
        let fds: Vec<Arc<RemoteFd<B>>> = {
            let fds = self.fds.lock().unwrap_or_else(PoisonError::into_inner);
            fds.values().filter_map(|fd| fd.upgrade()).collect()
        };
        for batch in fds.chunks(BATCH) {
            // All requests leave before the first answer is waited for.
            let opening: Vec<_> = batch.iter().map(|fd| self.reopen(channel, fd, generation)).collect();
            for reopened in opening {
                reopened.await;
            }
        }
    }

    /// Opens one fd again. The request leaves before this returns.
    pub(super) fn reopen<'a, C: Caller>(
        &'a self,
        channel: &'a C,
        fd: &'a Arc<RemoteFd<B>>,
        generation: u64,
    ) -> impl Future<Output = ()> + Send + 'a {
        let held = self.locks.lock().unwrap_or_else(PoisonError::into_inner).of_fd(fd.gfid, fd.id);
        let opening = match plan(&fd.state(), generation, !held.is_empty(), self.options.strict_locks) {
            Plan::Leave => None,
            Plan::Poison => {
                fd.poison("it held locks when the connection to the brick broke, and strict-locks is on");
                None
            }
            Plan::Open => Some(open(channel, self.link.name(), fd, generation)),
        };
        async move {
            let Some(opening) = opening else { return };
            let number = match opening.await {
                Ok(number) => number,
                Err(error) => {
                    let state = after_failure(error.errno, generation, (fd.late, !held.is_empty()), Instant::now());
                    tracing::warn!(gfid = %fd.gfid, ?state, "{error}");
                    if let Some(state) = state {
                        fd.set_state(state);
                    }
                    return;
                }
            };
            for lock in &held {
                if let Err(error) = take(channel, self.link.name(), fd, (generation, number), lock).await {
                    if error.errno == Errno::ENOTCONN {
                        // Nobody has said no; closing gives back what was taken, and it is tried again.
                        return close(&*self.link, fd.gfid, fd.flags.is_none(), generation, number);
                    }
                    tracing::warn!(gfid = %fd.gfid, start = lock.start, "a lock is lost over a reconnect: {error}");
                    fd.poison("a lock that it held was lost when the connection to the brick broke");
                    self.locks.lock().unwrap_or_else(PoisonError::into_inner).release_fd(fd.gfid, fd.id);
                    return close(&*self.link, fd.gfid, fd.flags.is_none(), generation, number);
                }
            }
            self.give_back(channel, fd, (generation, number), &held).await;
            fd.set_state(State::Open { generation, number });
        }
    }

    /// Unlocks what was taken again on a new connection, though its owner gave it up meanwhile.
    async fn give_back(&self, channel: &impl Caller, fd: &RemoteFd<B>, remote: (u64, i64), taken: &[Held]) {
        for lock in taken {
            let still = self.locks().within(fd.gfid, &lock.owner, &lock.flock());
            if still.iter().map(|lock| (lock.start, lock.end)).eq([(lock.start, lock.end)]) {
                continue;
            }
            let gone = Held { kind: LockType::Unlock, ..lock.clone() };
            let mut done = take(channel, self.link.name(), fd, remote, &gone).await;
            for lock in still {
                if done.is_ok() {
                    done = take(channel, self.link.name(), fd, remote, &lock).await;
                }
            }
            if let Err(error) = done {
                tracing::warn!(gfid = %fd.gfid, start = lock.start, "a lock that was given up stays locked: {error}");
            }
        }
    }
}

/// OPEN or OPENDIR by gfid, as root, on the connection `generation` and no other.
fn open<B: Brick, C: Caller>(
    channel: &C,
    name: &Arc<str>,
    fd: &RemoteFd<B>,
    generation: u64,
) -> impl Future<Output = FopResult<i64>> + Send + use<B, C> {
    let root = Context::internal();
    let answer = match fd.flags {
        Some(flags) => {
            let request = request::Open { gfid: fd.gfid, flags: reopen_flags(flags), xdata: Dict::NULL };
            send(channel, &root, generation, &request)
        }
        None => send(channel, &root, generation, &request::Opendir { gfid: fd.gfid, xdata: Dict::NULL }),
    };
    let name = name.clone();
    // OPEN and OPENDIR answer alike.
    async move { Ok(read_reply::<request::Open>(&name, answer.await?)?.fd) }
}

/// LK for a lock that was held, as its owner, without waiting, by the connection and the fd's number there.
pub(super) async fn take<B: Brick>(
    channel: &impl Caller,
    name: &Arc<str>,
    fd: &RemoteFd<B>,
    (generation, number): (u64, i64),
    lock: &Held,
) -> FopResult<()> {
    let context = Context { lock_owner: lock.owner.clone(), pid: lock.pid as i32, ..Context::internal() };
    let (gfid, flock) = (fd.gfid, lock.flock());
    let request = request::Lk { gfid, fd: number, cmd: LkCmd::SetLk, kind: lock.kind, flock, xdata: Dict::NULL };
    let answer = send(channel, &context, generation, &request);
    read_reply::<request::Lk>(name, answer.await?).map(drop)
}

fn send<F: Fop, C: Caller>(channel: &C, context: &Context, generation: u64, request: &F) -> C::Answer {
    channel.fop(context, fop_call::<F>().on(generation), |encoder| request.encode(encoder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_an_fd() {
        let open = State::Open { generation: 1, number: 3 };
        let bad = State::Bad { reason: "b".into() };
        let cases = [
            (&open, 2, false, false, Plan::Open),
            (&open, 2, true, false, Plan::Open),
            (&open, 2, false, true, Plan::Open),
            (&open, 2, true, true, Plan::Poison),
            (&open, 1, true, true, Plan::Leave),
            (&bad, 2, false, false, Plan::Leave),
        ];
        for (state, generation, locks, strict, expected) in cases {
            assert_eq!(plan(state, generation, locks, strict), expected, "{state:?} {generation} {locks} {strict}");
        }
    }

    #[test]
    fn a_removed_file_and_a_lost_lock_are_for_ever() {
        let now = Instant::now();
        assert!(matches!(after_failure(Errno::ENOENT, 1, (false, false), now), Some(State::Bad { .. })));
        assert!(matches!(after_failure(Errno::ESTALE, 1, (false, false), now), Some(State::Bad { .. })));
        assert!(matches!(after_failure(Errno::EIO, 1, (false, true), now), Some(State::Bad { .. })));
        for (errno, late) in [(Errno::EIO, false), (Errno::ENOENT, true)] {
            let state = after_failure(errno, 1, (late, false), now);
            assert!(matches!(state, Some(State::Closed { generation: 1, .. })), "{errno} {late}");
        }
        assert_eq!(after_failure(Errno::ENOTCONN, 1, (false, true), now), None, "nobody said that they are lost");
    }

    #[test]
    fn a_file_is_not_made_or_emptied_again() {
        assert_eq!(reopen_flags(wire::CREAT | wire::TRUNC | wire::EXCL | wire::APPEND | 2), wire::APPEND | 2);
    }
}
