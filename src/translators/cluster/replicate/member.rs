//! A change leaves its session whatever becomes of it.
//!
//! A transaction that panics, or whose future is dropped, is given up in the middle: nobody would say to its session that it is
//! over, and all later changes of that inode would wait for ever, here and on other clients. So who enters a session, and
//! who closes one, holds something whose drop says so. What copies did of such a change is unknown: their dirty marks stay.

use std::sync::{Arc, PoisonError};

use rgfs_protocol::Errno;

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::core::Core;
use super::inode_state::InodeState;
use super::pre_op::{Shared, lock, session_of, wake};
use super::target::Target;

/// A change in a session, on its way into one, or opening it.
pub(super) struct Member {
    core: Arc<Core>,
    state: Arc<InodeState>,
    kind: Kind,
    number: u64,
    over: bool,
}

impl Member {
    pub(super) fn new(core: &Arc<Core>, state: &Arc<InodeState>, kind: Kind, number: u64) -> Self {
        Member { core: core.clone(), state: state.clone(), kind, number, over: false }
    }

    /// The change leaves by itself, with this number.
    pub(super) fn leave(mut self) -> u64 {
        self.over = true;
        self.number
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let now = self.core.clock.now();
        let (after, was_in) = {
            let mut session = lock(session_of(&self.state, self.kind));
            let sent_to = session.lock.as_ref().map_or(ChildSet::EMPTY, |held| held.shared.usable);
            session.give_up(self.number, sent_to, now)
        };
        if was_in {
            self.state.set_stale();
            tracing::error!("a change was given up half way; its copies stay marked until they are healed");
        }
        wake(after.wake);
        if after.close {
            self.core.close_in_background(&self.state, self.kind);
        }
    }
}

/// A session that is being closed.
pub(super) struct Closing {
    core: Arc<Core>,
    state: Arc<InodeState>,
    kind: Kind,
    held: Option<(Target, Arc<Shared>)>,
}

impl Closing {
    pub(super) fn new(core: &Arc<Core>, state: &Arc<InodeState>, kind: Kind) -> Self {
        Closing { core: core.clone(), state: state.clone(), kind, held: None }
    }

    /// What the session holds.
    pub(super) fn holds(&mut self, target: &Target, shared: &Arc<Shared>) {
        self.held = Some((target.clone(), shared.clone()));
    }
}

impl Drop for Closing {
    /// It is closed, one way or the other: nobody waits for it any more, and what waits for the next one goes on.
    fn drop(&mut self) {
        if let Some((target, shared)) = self.held.take() {
            let waiting = std::mem::take(&mut *shared.after_close.lock().unwrap_or_else(PoisonError::into_inner));
            for waiting in waiting {
                self.state.set_stale();
                let error = self.core.error(Errno::EIO, "post-op").with_detail("the end of the session was abandoned");
                let _ = waiting.send(Err(error));
            }
            self.core.sessions.forget(target.inode().gfid(), self.kind, &self.state);
        }
        let woken = lock(session_of(&self.state, self.kind)).closed();
        wake(woken);
    }
}
