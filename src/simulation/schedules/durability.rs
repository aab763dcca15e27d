//! What power cuts may take, and what they must leave.
//!
//! A brick whose machine loses power may come back without the data that was written since the last sync. Replicate
//! promises more than a sync would: before a session ends, its client syncs, and says of a copy that it could not sync
//! that it missed the writes. Two kinds of change are left out of that, here as in the C client: what is added at the end
//! of a file (the copy that lost it is the shorter one), and truncations by name (there is no fd to sync through). They are
//! safe once the application itself has synced them.

use std::time::Duration;

use super::history::SETTLED;

/// Which power cuts a schedule has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Power {
    /// None.
    #[default]
    Stays,
    /// Of one brick, and all clients live: only what nobody syncs may be lost.
    OneBrick,
    /// Of several bricks, while clients die, so that nobody notes what was lost: what the application synced is left.
    AnyBrick,
}

/// What a change is to a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that a power cut takes.
    Lasting,
    /// It replaced bytes of a file.
    Overwrite,
    /// It added to the end of a file, or cut it.
    Size,
}

struct Cut {
    moment: u64,
    at: Duration,
}

/// Power cuts so far, and what follows from them.
#[derive(Default)]
pub(super) struct Durability {
    pub(super) power: Power,
    cuts: Vec<Cut>,
}

impl Durability {
    /// The machine of a brick loses power.
    pub(super) fn cut(&mut self, moment: u64, at: Duration) {
        self.cuts.push(Cut { moment, at });
    }

    /// Whether an acknowledged change must survive.
    pub(super) fn is_promised(&self, change: Change, synced: bool) -> bool {
        match (self.power, change) {
            (Power::Stays, _) | (_, Change::Lasting) | (Power::OneBrick, Change::Overwrite) => true,
            _ => synced,
        }
    }

    /// Whether a sync of the same client that began at `sync` makes a change of `begin` safe, if it is acknowledged. What
    /// was lost before that cannot be synced any more, and may have been on no other good copy.
    pub(super) fn is_synced(&self, begin: u64, sync: u64) -> bool {
        !self.cuts.iter().any(|cut| (begin..sync).contains(&cut.moment))
    }

    /// Whether a cut was so lately that the others may not have noted yet what it took.
    pub(super) fn is_unsettled(&self, now: Duration) -> bool {
        self.cuts.last().is_some_and(|cut| now <= cut.at + SETTLED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised() {
        let of = |power| Durability { power, cuts: Vec::new() };
        assert!(of(Power::Stays).is_promised(Change::Size, false));
        assert!(of(Power::AnyBrick).is_promised(Change::Lasting, false));
        assert!(of(Power::OneBrick).is_promised(Change::Overwrite, false));
        assert!(!of(Power::OneBrick).is_promised(Change::Size, false));
        assert!(!of(Power::AnyBrick).is_promised(Change::Overwrite, false));
        assert!(of(Power::AnyBrick).is_promised(Change::Size, true));
    }

    #[test]
    fn a_sync_comes_too_late_for_what_is_lost() {
        let mut durability = Durability { power: Power::AnyBrick, cuts: Vec::new() };
        durability.cut(5, Duration::from_secs(1));
        assert!(!durability.is_synced(3, 7) && durability.is_synced(6, 7) && durability.is_synced(2, 4));
        assert!(durability.is_unsettled(Duration::from_secs(3)) && !durability.is_unsettled(Duration::from_secs(7)));
    }
}
