//! Requests that wait for something: which they are, since when, and for whom.
//!
//! A request gets in only when its first poll did not finish it, so what is answered from memory costs nothing here. The
//! registry is cut in shards, one per reading thread as a rule, so that threads do not wait for each other.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::thread::Thread;
use std::time::Instant;

const SHARDS: usize = 16;

/// How a request ends when its caller is signalled.
#[derive(Clone, Debug)]
pub enum Kind {
    /// When the signal kills, the caller is let go; the request itself goes on, its outcome is undone or dropped.
    Ordinary,
    /// Any signal that the caller would take ends the wait; the request is told and cancels itself at the brick.
    Lock(Arc<Interrupt>),
    /// Never: the kernel asks on its own behalf (write-back).
    Kernel,
}

/// Word from the watcher to a waiting lock request.
#[derive(Debug, Default)]
pub struct Interrupt {
    rounds: AtomicU32,
    abandoned: AtomicBool,
}

impl Interrupt {
    /// How often the watcher found the caller signalled; 0: never. A request that sees a new number cancels (again).
    pub fn rounds(&self) -> u32 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Cancelling took too long and the caller is being killed: it must be let go now.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// The caller is signalled.
    pub fn tell(&self) {
        self.rounds.fetch_add(1, Ordering::AcqRel);
    }

    /// The caller must be let go.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }
}

/// A request that waits.
#[derive(Clone, Debug)]
pub struct Parked {
    /// Its name, as in the FUSE protocol.
    pub name: &'static str,
    /// The kernel's number of it.
    pub unique: u64,
    /// Thread that asked.
    pub pid: u32,
    /// When it came.
    pub since: Instant,
    /// How it ends when its caller is signalled.
    pub kind: Kind,
    /// When its caller was found signalled.
    pub signalled: Option<Instant>,
    /// Polls it.
    pub waker: Waker,
}

#[derive(Default)]
struct Shard {
    slots: Vec<Option<Parked>>,
    free: Vec<usize>,
}

/// All requests that wait.
#[derive(Default)]
pub struct InFlight {
    shards: [Mutex<Shard>; SHARDS],
    watcher: OnceLock<Thread>,
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlight").field("waiting", &self.list().len()).finish()
    }
}

/// The place of a request in the registry; it leaves when this is dropped.
#[derive(Debug)]
pub struct Ticket {
    registry: Arc<InFlight>,
    shard: usize,
    slot: usize,
}

impl InFlight {
    fn lock(&self, shard: usize) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[shard % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request.
    pub fn park(self: &Arc<Self>, parked: Parked) -> Ticket {
        let shard = thread_shard();
        let urgent = matches!(parked.kind, Kind::Lock(_));
        let slot = {
            let mut entries = self.lock(shard);
            match entries.free.pop() {
                Some(slot) => {
                    entries.slots[slot] = Some(parked);
                    slot
                }
                None => {
                    entries.slots.push(Some(parked));
                    entries.slots.len() - 1
                }
            }
        };
        if urgent && let Some(watcher) = self.watcher.get() {
            watcher.unpark();
        }
        Ticket { registry: self.clone(), shard, slot }
    }

    /// Names the thread to be unparked when a lock request starts to wait.
    pub(super) fn set_watcher(&self, watcher: Thread) {
        let _ = self.watcher.set(watcher);
    }

    /// Visits all that wait. `visit` runs under a lock and must not block; the wakers that it returns are called after.
    pub(super) fn examine(&self, mut visit: impl FnMut(&mut Parked) -> bool) -> usize {
        let mut count = 0;
        let mut wake = Vec::new();
        for shard in 0..SHARDS {
            let mut entries = self.lock(shard);
            for parked in entries.slots.iter_mut().flatten() {
                count += 1;
                if visit(parked) {
                    wake.push(parked.waker.clone());
                }
            }
        }
        for waker in wake {
            waker.wake();
        }
        count
    }

    /// What waits now, for statedumps.
    pub fn list(&self) -> Vec<Parked> {
        (0..SHARDS).flat_map(|shard| self.lock(shard).slots.iter().flatten().cloned().collect::<Vec<_>>()).collect()
    }
}

impl Ticket {
    /// True once the caller was found signalled.
    pub fn is_signalled(&self) -> bool {
        let entries = self.registry.lock(self.shard);
        entries.slots[self.slot].as_ref().is_some_and(|parked| parked.signalled.is_some())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The waker may be the last reference to the task: drop it with the lock released.
        let _gone = {
            let mut entries = self.registry.lock(self.shard);
            entries.free.push(self.slot);
            entries.slots[self.slot].take()
        };
    }
}

/// The shard of this thread.
fn thread_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(unique: u64) -> Parked {
        let waker = Waker::noop().clone();
        let since = Instant::now();
        Parked { name: "READ", unique, pid: 1, since, kind: Kind::Ordinary, signalled: None, waker }
    }

    #[test]
    fn entries_come_and_go() {
        let registry = Arc::new(InFlight::default());
        let first = registry.park(parked(1));
        let second = registry.park(parked(2));
        assert_eq!(registry.list().len(), 2);
        drop(first);
        let third = registry.park(parked(3));
        let mut seen: Vec<u64> = registry.list().iter().map(|parked| parked.unique).collect();
        seen.sort_unstable();
        assert_eq!(seen, [2, 3]);
        registry.examine(|parked| {
            parked.signalled = (parked.unique == 3).then(Instant::now);
            false
        });
        assert!(third.is_signalled() && !second.is_signalled());
    }
}
