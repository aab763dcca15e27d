//! Who was told that a lock is theirs. Two programs must not believe at once that they have locks that exclude each other.
//!
//! A lock is kept by the bricks, on enough of them for the quorum. It is lost where the connection is lost, and taken
//! again on the next one; a client that is refused makes the fd fail on that brick. So a program may be taken for somebody
//! who was told of the loss, or will be at the next use of its fd, as soon as too few bricks are left that granted the lock and
//! that its fd can use. Nothing more is promised for a lock that bricks lost one after the other: none of them
//! learns it from the others (`afr_lk`).

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rgfs_protocol::types::Flock;

use super::history::History;
use crate::Fd;

/// How many bricks keep a lock of a client for an fd, of those that the fd can use.
pub(super) type Keepers = Arc<dyn Fn(usize, &Fd, &Flock) -> usize + Send + Sync>;

/// Bricks that make a quorum.
const QUORUM: usize = 2;

/// A lock that a program was told it has. The owner is that of the program.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) client: usize,
    pub(super) task: u64,
    pub(super) file: usize,
    pub(super) exclusive: bool,
    pub(super) flock: Flock,
    pub(super) fd: Weak<Fd>,
}

impl Claim {
    fn conflicts(&self, other: &Claim) -> bool {
        let end = |flock: &Flock| if flock.len == 0 { u64::MAX } else { flock.start + flock.len };
        self.task != other.task
            && self.file == other.file
            && (self.exclusive || other.exclusive)
            && self.flock.start < end(&other.flock)
            && other.flock.start < end(&self.flock)
    }
}

/// All locks that programs believe to have.
#[derive(Clone)]
pub(super) struct LockBook {
    claims: Arc<Mutex<Vec<Claim>>>,
    /// Fds that stay open until all is looked at: closing one would hide a lock that was left behind.
    parked: Arc<Mutex<Vec<Arc<Fd>>>>,
    keepers: Keepers,
    history: History,
}

impl LockBook {
    pub(super) fn new(keepers: Keepers, history: &History) -> Self {
        LockBook { claims: Arc::default(), parked: Arc::default(), keepers, history: history.clone() }
    }

    /// A program is told that a lock is its own. Whoever has one in its way must have lost it.
    pub(super) fn granted(&self, claim: Claim) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|other| {
            if !other.conflicts(&claim) {
                return true;
            }
            let keepers = other.fd.upgrade().map_or(0, |fd| (self.keepers)(other.client, &fd, &other.flock));
            let (task, file, range) = (other.task, other.file, (other.flock.start, other.flock.len));
            if keepers >= QUORUM {
                let text = format!(
                    "task {} is given a lock of f{file} that {keepers} bricks keep for task {task}",
                    claim.task
                );
                self.history.violation(text);
            } else {
                self.history.note(format!("task {task} has lost its lock {range:?} of f{file}"));
            }
            false
        });
        claims.push(claim);
    }

    /// A program gives up what it has of a file.
    pub(super) fn released(&self, task: u64, file: usize) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|claim| (claim.task, claim.file) != (task, file));
    }

    /// The lock that a program believes to have on a file.
    pub(super) fn claim(&self, task: u64, file: usize) -> Option<Claim> {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.iter().find(|claim| (claim.task, claim.file) == (task, file)).cloned()
    }

    /// Keeps an fd open.
    pub(super) fn park(&self, fd: Arc<Fd>) {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).push(fd);
    }

    /// Closes what was kept open.
    pub(super) fn close_parked(&self) {
        let parked = std::mem::take(&mut *self.parked.lock().unwrap_or_else(PoisonError::into_inner));
        drop(parked);
    }
}
