//! The open sessions of a replicate: they are ended when they have been idle for a while, when somebody else wants a
//! lock, and when the mount ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rgfs_protocol::Gfid;
use tokio::sync::Notify;

use super::changelog::Kind;
use super::core::Core;
use super::inode_state::InodeState;
use super::pre_op::session_of;
use crate::task;

/// Sessions by inode, and when to look at them.
#[derive(Default)]
pub(super) struct OpenSessions {
    table: Mutex<Table>,
    /// Transactions that have begun, and what they leave to be done behind them.
    unfinished: AtomicUsize,
    /// The last one has ended, or the last session.
    at_rest: Notify,
}

#[derive(Default)]
struct Table {
    open: BTreeMap<(Gfid, Kind), Arc<InodeState>>,
    due: BinaryHeap<Reverse<Due>>,
    numbers: u64,
    /// Somebody waits for the next one to be due.
    served: bool,
}

struct Due {
    at: Duration,
    number: u64,
    state: Weak<InodeState>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl OpenSessions {
    /// A session of this inode is open.
    pub(super) fn register(&self, gfid: Gfid, kind: Kind, state: &Arc<InodeState>) {
        self.table().open.insert((gfid, kind), state.clone());
    }

    /// It is closed.
    pub(super) fn forget(&self, gfid: Gfid, kind: Kind, state: &Arc<InodeState>) {
        let empty = {
            let mut table = self.table();
            // Not what another object of the same file has registered since.
            if table.open.get(&(gfid, kind)).is_some_and(|registered| Arc::ptr_eq(registered, state)) {
                table.open.remove(&(gfid, kind));
            }
            table.open.is_empty()
        };
        if empty {
            self.at_rest.notify_waiters();
        }
    }

    /// The inode with this gfid, if it has an open session of that kind.
    pub(super) fn find(&self, gfid: Gfid, kind: Kind) -> Option<Arc<InodeState>> {
        self.table().open.get(&(gfid, kind)).cloned()
    }

    /// The open sessions, in the order of their gfids.
    fn all(&self) -> Vec<(Kind, Arc<InodeState>)> {
        self.table().open.iter().map(|((_, kind), state)| (*kind, state.clone())).collect()
    }

    /// Number of open sessions.
    pub(super) fn len(&self) -> usize {
        self.table().open.len()
    }

    /// The session of this inode is idle; look at it then.
    pub(super) fn watch(&self, core: &Arc<Core>, at: Duration, state: &Arc<InodeState>) {
        let serve = {
            let mut table = self.table();
            table.numbers += 1;
            let number = table.numbers;
            table.due.push(Reverse(Due { at, number, state: Arc::downgrade(state) }));
            !std::mem::replace(&mut table.served, true)
        };
        if serve {
            let core = core.clone();
            task::spawn(async move { serve_due(&core).await });
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that must end before the mount may; see [`Core::unfinished`].
pub(super) struct Unfinished(Arc<Core>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.0.sessions.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.sessions.at_rest.notify_waiters();
        }
    }
}

/// What the one who serves the queue does next.
enum Next {
    Sleep(Duration),
    Look(Arc<InodeState>),
    Skip,
    End,
}

/// Somebody serves the queue. Should he be given up half way, the next session that becomes idle finds another one.
struct Serving<'a> {
    core: &'a Core,
    over: bool,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.core.sessions.table().served = false;
        }
    }
}

/// Ends sessions as they become due, until none is watched.
async fn serve_due(core: &Arc<Core>) {
    let mut serving = Serving { core, over: false };
    loop {
        let now = core.clock.now();
        let next = {
            let mut table = core.sessions.table();
            match table.due.peek() {
                None => {
                    table.served = false;
                    Next::End
                }
                Some(Reverse(due)) if due.at > now => Next::Sleep(due.at - now),
                Some(_) => {
                    let due = table.due.pop();
                    due.and_then(|Reverse(due)| due.state.upgrade()).map_or(Next::Skip, Next::Look)
                }
            }
        };
        match next {
            Next::Sleep(time) => core.clock.sleep(time).await,
            Next::Look(state) => look(core, &state, now),
            Next::Skip => {}
            Next::End => {
                serving.over = true;
                return;
            }
        }
    }
}

fn look(core: &Arc<Core>, state: &Arc<InodeState>, now: Duration) {
    let (close, again) = {
        let mut session = session_of(state, Kind::Data).lock().unwrap_or_else(PoisonError::into_inner);
        session.watched = false;
        let due = session.due(core.options.post_op_delay).filter(|_| !session.is_busy());
        match due {
            Some(due) if due <= now => (session.end_if_idle(), None),
            Some(due) => {
                session.watched = true;
                (false, Some(due))
            }
            None => (false, None),
        }
    };
    if let Some(due) = again {
        core.sessions.watch(core, due, state);
    }
    if close {
        core.close_in_background(state, Kind::Data);
    }
}

impl Core {
    /// The mount does not end while this lives: what was acknowledged may still have to be noted on the bricks.
    pub(super) fn unfinished(self: &Arc<Self>) -> Unfinished {
        self.sessions.unfinished.fetch_add(1, Ordering::AcqRel);
        Unfinished(self.clone())
    }

    /// Somebody waits for a lock that a session holds.
    pub(super) fn contended(self: &Arc<Self>, gfid: Gfid, kind: Kind) {
        if let Some(state) = self.sessions.find(gfid, kind) {
            let close = session_of(&state, kind).lock().unwrap_or_else(PoisonError::into_inner).give_way();
            if close {
                self.close_in_background(&state, kind);
            }
        }
    }

    /// Lets nobody new into the sessions that are open now; the next change opens one with the children of then.
    pub(super) fn end_sessions_soon(self: &Arc<Self>) {
        for (kind, state) in self.sessions.all() {
            self.end_session(&state, kind);
        }
    }

    /// Ends all sessions, and waits until they and all transactions are done.
    pub(super) async fn end_sessions(self: &Arc<Self>) {
        loop {
            let at_rest = self.sessions.at_rest.notified();
            let mut at_rest = std::pin::pin!(at_rest);
            at_rest.as_mut().enable();
            let open = self.sessions.all();
            if open.is_empty() && self.sessions.unfinished.load(Ordering::Acquire) == 0 {
                return;
            }
            for (kind, state) in open {
                self.end_session(&state, kind);
            }
            at_rest.await;
        }
    }

    fn end_session(self: &Arc<Self>, state: &Arc<InodeState>, kind: Kind) {
        let close = session_of(state, kind).lock().unwrap_or_else(PoisonError::into_inner).end_soon();
        if close {
            self.close_in_background(state, kind);
        }
    }
}
