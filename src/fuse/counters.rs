//! Counters of the FUSE side, for tests, statedumps and `observe`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe::Operations;

/// Counts since the mount began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests taken from the kernel, FORGET not among them.
    pub requests: AtomicU64,
    /// File bytes given to the kernel.
    pub bytes_read: AtomicU64,
    /// File bytes taken from the kernel.
    pub bytes_written: AtomicU64,
    /// File bytes of READ answers that user space copied because they came in several pieces.
    pub bytes_copied: AtomicU64,
    /// Requests that ended with EINTR because their caller was signalled.
    pub interrupted: AtomicU64,
    /// What was answered, by operation.
    pub operations: Operations,
}

impl Counters {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Names and values, for a statedump.
    pub fn snapshot(&self) -> [(&'static str, u64); 5] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("fuse.requests", get(&self.requests)),
            ("fuse.bytes-read", get(&self.bytes_read)),
            ("fuse.bytes-written", get(&self.bytes_written)),
            ("fuse.bytes-copied", get(&self.bytes_copied)),
            ("fuse.interrupted", get(&self.interrupted)),
        ]
    }
}
