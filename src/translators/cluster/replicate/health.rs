//! Whether all copies of everything are good, as far as this client was told lately.
//!
//! With every LOOKUP each brick says whether it keeps accusations of other copies (`link-count`). While none does, what a
//! listing tells need not be doubted (`afr_readdir_transform_entries`), and a directory that was found in one is itself
//! good on every copy. This is believed for as long as the kernel believes a name that it looked up.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// For how long what the bricks said is believed: `entry-timeout`.
const BELIEVED: Duration = Duration::from_secs(1);

/// What the bricks said last.
#[derive(Debug, Default)]
pub(super) struct Health {
    told: Mutex<Told>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// How often this client saw for itself that a copy missed something, or may have.
    doubts: u32,
    /// When every brick, asked then, said that it accuses nobody; `None` when one accused or kept silent.
    well: Option<Duration>,
}

impl Health {
    /// Take this before the bricks are asked, for [`Health::note`].
    pub(super) fn doubts(&self) -> u32 {
        self.told().doubts
    }

    /// What the bricks said that were asked at `asked`, when there were `doubts`. Later doubts are not ended by that.
    pub(super) fn note(&self, accuse: bool, doubts: u32, asked: Duration) {
        let mut told = self.told();
        if accuse {
            told.well = None;
        } else if told.doubts == doubts {
            told.well = told.well.max(Some(asked));
        }
    }

    /// A copy missed something, or may have: nothing is well until the bricks say so again.
    pub(super) fn doubt(&self) {
        let mut told = self.told();
        told.doubts = told.doubts.wrapping_add(1);
        told.well = None;
    }

    /// Whether the bricks accused nobody when they were asked last.
    pub(super) fn was_well(&self) -> bool {
        self.told().well.is_some()
    }

    /// Whether the bricks accused nobody just now.
    pub(super) fn is_well(&self, now: Duration) -> bool {
        self.told().well.is_some_and(|well| now.saturating_sub(well) < BELIEVED)
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn what_bricks_say_is_believed_for_a_second() {
        let health = Health::default();
        assert!(!health.is_well(at(0)) && !health.was_well(), "nobody said anything yet");
        health.note(false, 0, at(5));
        health.note(false, 0, at(3));
        assert!(health.is_well(at(1004)) && !health.is_well(at(1005)));
        assert!(health.was_well());
        health.note(true, 0, at(6));
        assert!(!health.is_well(at(6)) && !health.was_well());
    }

    #[test]
    fn answers_from_before_a_failure_are_not_believed() {
        let health = Health::default();
        let asked = health.doubts();
        health.doubt();
        health.note(false, asked, at(1));
        assert!(!health.was_well());
        health.note(false, health.doubts(), at(2));
        assert!(health.is_well(at(2)));
    }
}
