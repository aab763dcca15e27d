//! Names that were just found missing.
//!
//! Before the kernel asks to make or replace a name it looks the name up. A rename must know what the new name holds; if
//! that lookup said "nothing" a moment ago there is no need to ask the bricks again. As with the C client, another
//! client may make the name in between: the brick then replaces that file, as if it had come after it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How long the answer to a lookup counts as just now: the kernel asks for the rename right after it.
const JUST_NOW: Duration = Duration::from_millis(100);
/// Answers that are remembered.
const CAPACITY: usize = 32;

/// The latest names that were found missing.
#[derive(Debug, Default)]
pub(super) struct Absent {
    latest: Mutex<VecDeque<(u64, Bytes, Instant)>>,
}

impl Absent {
    /// The directory `parent` (a nodeid) has no `name`.
    pub(super) fn note(&self, parent: u64, name: Bytes, now: Instant) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == CAPACITY {
            latest.pop_front();
        }
        latest.push_back((parent, name, now));
    }

    /// Whether that was found just now. Believed once: afterwards the name is made.
    pub(super) fn take(&self, parent: u64, name: &[u8], now: Instant) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let at = latest.iter().rposition(|(directory, absent, _)| *directory == parent && absent == name);
        let noted = at.and_then(|at| latest.remove(at));
        noted.is_some_and(|(_, _, then)| now.saturating_duration_since(then) < JUST_NOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_believed_once_and_for_a_moment() {
        let (absent, now) = (Absent::default(), Instant::now());
        absent.note(1, "a".into(), now);
        assert!(!absent.take(2, b"a", now) && !absent.take(1, b"b", now));
        assert!(absent.take(1, b"a", now) && !absent.take(1, b"a", now));
        absent.note(1, "a".into(), now);
        assert!(!absent.take(1, b"a", now + JUST_NOW));
    }

    #[test]
    fn only_the_latest_are_kept() {
        let (absent, now) = (Absent::default(), Instant::now());
        for number in 0..=CAPACITY as u64 {
            absent.note(number, "a".into(), now);
        }
        assert!(!absent.take(0, b"a", now) && absent.take(1, b"a", now));
    }
}
