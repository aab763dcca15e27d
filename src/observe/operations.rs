//! Requests of the kernel by operation: how many, how long, and how many round trips to bricks each took.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Histogram;

/// Names of the operations that are told apart; the last row is for any other.
const NAMES: [&str; 35] = [
    "LOOKUP",
    "GETATTR",
    "SETATTR",
    "READ",
    "WRITE",
    "OPEN",
    "CREATE",
    "FLUSH",
    "RELEASE",
    "FSYNC",
    "OPENDIR",
    "READDIR",
    "READDIRPLUS",
    "RELEASEDIR",
    "FSYNCDIR",
    "MKNOD",
    "MKDIR",
    "SYMLINK",
    "LINK",
    "UNLINK",
    "RMDIR",
    "RENAME",
    "READLINK",
    "STATFS",
    "ACCESS",
    "GETXATTR",
    "SETXATTR",
    "LISTXATTR",
    "REMOVEXATTR",
    "GETLK",
    "SETLK",
    "SETLKW",
    "FALLOCATE",
    "LSEEK",
    "COPY_FILE_RANGE",
];

/// Round trips that are told apart: 0, 1, 2, ... and the last for all above.
const ROUNDS: usize = 9;

/// Counters of all operations. Many threads feed them without a lock.
#[derive(Debug)]
pub struct Operations([Operation; NAMES.len() + 1]);

/// Counters of one operation.
#[derive(Debug, Default)]
pub struct Operation {
    failed: AtomicU64,
    rounds: [AtomicU64; ROUNDS],
    time: Histogram,
}

impl Default for Operations {
    fn default() -> Self {
        Operations(std::array::from_fn(|_| Operation::default()))
    }
}

impl Operations {
    /// A request of the operation `name` is answered: after how many dependent round trips, how long it took, and whether
    /// it failed.
    pub fn answered(&self, name: &str, rounds: u32, time: Duration, failed: bool) {
        let operation = self.of(name);
        let bucket = usize::try_from(rounds).map_or(ROUNDS - 1, |rounds| rounds.min(ROUNDS - 1));
        operation.rounds[bucket].fetch_add(1, Ordering::Relaxed);
        operation.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        operation.time.record(time);
    }

    /// The counters of an operation.
    pub fn of(&self, name: &str) -> &Operation {
        &self.0[NAMES.iter().position(|known| *known == name).unwrap_or(NAMES.len())]
    }

    /// Lines for a statedump; operations that never came are left out.
    pub fn dump(&self, out: &mut dyn FnMut(&str, &dyn fmt::Display)) {
        let names = NAMES.iter().chain([&"OTHER"]);
        for (name, operation) in names.zip(&self.0).filter(|(_, operation)| operation.count() > 0) {
            out(&format!("fuse.operation.{name}"), operation);
        }
    }
}

impl Operation {
    /// Requests that were answered.
    pub fn count(&self) -> u64 {
        self.time.count()
    }

    /// Requests that were answered after `rounds` dependent round trips (from 8 on: 8 or more).
    pub fn with_rounds(&self, rounds: usize) -> u64 {
        self.rounds.get(rounds).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Operation {
    /// `failed=0 rounds=0:3,1:9 count=12 mean=...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed={} rounds=", self.failed.load(Ordering::Relaxed))?;
        let mut separator = "";
        for (rounds, count) in self.rounds.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                write!(f, "{separator}{rounds}:{count}")?;
                separator = ",";
            }
        }
        write!(f, " {}", self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_name_and_rounds() {
        let operations = Operations::default();
        let time = Duration::from_micros(3);
        operations.answered("READ", 1, time, false);
        operations.answered("READ", 1, time, true);
        operations.answered("READ", 1000, time, false);
        operations.answered("NEW", 0, time, false);
        assert_eq!((operations.of("READ").count(), operations.of("READ").with_rounds(1)), (3, 2));
        let mut lines = Vec::new();
        operations.dump(&mut |key, value| lines.push(format!("{key}={value}")));
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("fuse.operation.READ=failed=1 rounds=1:2,8:1 count=3"), "{lines:?}");
        assert!(lines[1].starts_with("fuse.operation.OTHER="), "{lines:?}");
    }
}
