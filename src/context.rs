//! What every fop carries along: who asks, until when, and which times the bricks shall note (`call_frame_t`, `call_stack_t`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rgfs_protocol::Time;
use rgfs_protocol::types::LockOwner;

/// Identity and bookkeeping of one user operation. Cheap to clone: a translator that changes something for its children
/// clones it and changes its clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// File-system uid of the caller.
    pub uid: u32,
    /// File-system gid of the caller.
    pub gid: u32,
    /// Supplementary groups of the caller.
    pub groups: Arc<[u32]>,
    /// Process that asks; negative for internal clients (`GF_CLIENT_PID_*`).
    pub pid: i32,
    /// Owner of locks; travels in the credential.
    pub lock_owner: LockOwner,
    /// When the caller gives up, if ever.
    pub deadline: Option<Instant>,
    /// Number of the operation in logs and statedumps.
    pub request_id: u64,
    /// Which times bricks update on behalf of `features/utime` (`time_update::*`); 0 without that translator.
    pub time_flags: u32,
    /// The one moment that all bricks note for this operation.
    pub time: Time,
    /// Round trips, shared by all calls made for this operation.
    pub rounds: Arc<Rounds>,
}

impl Context {
    /// The client itself, as root, with no caller: root lookups, reopening of fds, background work.
    pub fn internal() -> Self {
        Context {
            uid: 0,
            gid: 0,
            groups: Arc::from([]),
            pid: 0,
            lock_owner: LockOwner::from_pid(0),
            deadline: None,
            request_id: 0,
            time_flags: 0,
            time: Time::default(),
            rounds: Arc::default(),
        }
    }
}

/// Counts the dependent round trips of one operation: requests sent in parallel are one round, a request that was sent
/// after an answer came is a further one.
#[derive(Debug, Default)]
pub struct Rounds {
    answered: AtomicU32,
    requests: AtomicU32,
}

impl Rounds {
    /// A request leaves for a brick. Returns its depth, to be given to [`Rounds::answered`].
    pub fn sent(&self) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answered.load(Ordering::Relaxed) + 1
    }

    /// The answer of a request of that depth arrived.
    pub fn answered(&self, depth: u32) {
        self.answered.fetch_max(depth, Ordering::Relaxed);
    }

    /// Dependent rounds so far.
    pub fn count(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Requests sent so far, to all bricks.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_requests_are_one_round() {
        let rounds = Rounds::default();
        let (a, b) = (rounds.sent(), rounds.sent());
        rounds.answered(a);
        rounds.answered(b);
        assert_eq!(rounds.count(), 1);
        rounds.answered(rounds.sent());
        assert_eq!((rounds.count(), rounds.requests()), (2, 3));
    }
}
