//! Which children are up, and how often that changed (`afr_notify`, `child_up`, `event_generation`).
//!
//! What was learned of the copies before a child came or went says nothing about what is true after it: a copy that missed
//! writes while it was away looks healthy to itself. So everything that is remembered carries the generation in which it
//! was learned, and every operation works with one [`Snapshot`] from its beginning to its end.

use super::child_set::ChildSet;
use crate::event::Status;

/// What an operation knows of the children for all its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Children that are up.
    pub up: ChildSet,
    /// Number of changes so far.
    pub generation: u32,
}

impl Snapshot {
    /// In one word, for an atomic.
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 16 | u64::from(self.up.0)
    }

    /// Back from [`Snapshot::pack`].
    pub fn unpack(word: u64) -> Self {
        Snapshot { up: ChildSet((word & 0xffff) as u16), generation: (word >> 16) as u32 }
    }
}

/// The states of all children.
#[derive(Clone, Debug)]
pub struct Family {
    statuses: Vec<Status>,
    /// Generation of each child's last real change.
    changed: Vec<u32>,
    snapshot: Snapshot,
    /// What the thin arbiter is, in volumes that have one. It is waited for too, but serves nothing.
    thin_arbiter: Option<Status>,
    /// Silent children count as down.
    waited_enough: bool,
}

impl Family {
    /// `count` children of whom nothing is known, and perhaps a thin arbiter.
    pub fn new(count: usize, thin_arbiter: bool) -> Self {
        Family {
            statuses: vec![Status::Connecting; count],
            changed: vec![0; count],
            snapshot: Snapshot::default(),
            thin_arbiter: thin_arbiter.then_some(Status::Connecting),
            waited_enough: false,
        }
    }

    /// A child said something. Only a real change moves the generation: a first "down" of a child that was never up does
    /// not.
    pub fn heard(&mut self, child: usize, status: Status) {
        let up = status == Status::Up;
        if let Some(slot) = self.statuses.get_mut(child) {
            *slot = status;
        }
        if up == self.snapshot.up.contains(child) {
            return;
        }
        self.snapshot.generation = self.snapshot.generation.wrapping_add(1);
        if up {
            self.snapshot.up.insert(child);
        } else {
            self.snapshot.up.remove(child);
        }
        if let Some(changed) = self.changed.get_mut(child) {
            *changed = self.snapshot.generation;
        }
    }

    /// The thin arbiter said something.
    pub fn heard_thin_arbiter(&mut self, status: Status) {
        self.thin_arbiter = Some(status);
    }

    /// Children that have not said anything yet are waited for no longer.
    pub fn stop_waiting(&mut self) {
        self.waited_enough = true;
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
    }

    /// Children that are as they were in `generation`: neither lost nor regained since. Locks taken then are still held
    /// there.
    pub fn unchanged_since(&self, generation: u32) -> ChildSet {
        let unchanged = self.changed.iter().enumerate().filter(|(_, changed)| **changed <= generation);
        unchanged.map(|(index, _)| index).collect()
    }

    /// What the replicate itself is: `Connecting` until every child has spoken or was waited for long enough.
    pub fn overall(&self) -> Status {
        let mut all = self.statuses.iter().chain(&self.thin_arbiter);
        let silent = all.any(|status| *status == Status::Connecting);
        if silent && !self.waited_enough {
            return Status::Connecting;
        }
        if !self.snapshot.up.is_empty() {
            return Status::Up;
        }
        let refused = self.statuses.iter().find(|status| matches!(status, Status::Refused(_)));
        let down = self.statuses.iter().find(|status| matches!(status, Status::Down(_)));
        refused.or(down).cloned().unwrap_or_else(|| Status::Down("no brick has answered".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Status {
        Status::Down("gone".into())
    }

    #[test]
    fn only_real_changes_count() {
        let mut family = Family::new(3, false);
        family.heard(0, down());
        assert_eq!(family.snapshot(), Snapshot::default());
        family.heard(0, Status::Up);
        family.heard(0, Status::Up);
        family.heard(1, Status::Up);
        assert_eq!(family.snapshot(), Snapshot { up: ChildSet::all(2), generation: 2 });
        family.heard(0, down());
        family.heard(0, Status::Refused("no".into()));
        family.heard(0, Status::Up);
        assert_eq!(family.snapshot(), Snapshot { up: ChildSet::all(2), generation: 4 });
        assert_eq!(family.unchanged_since(2), ChildSet::one(1).with(2));
        assert_eq!(Snapshot::unpack(family.snapshot().pack()), family.snapshot());
    }

    #[test]
    fn nothing_is_announced_before_all_have_spoken() {
        let mut family = Family::new(2, false);
        assert_eq!(family.overall(), Status::Connecting);
        family.heard(0, Status::Up);
        assert_eq!(family.overall(), Status::Connecting);
        family.stop_waiting();
        assert_eq!(family.overall(), Status::Up);
        family.heard(0, down());
        assert_eq!(family.overall(), down());
        let mut witnessed = Family::new(1, true);
        witnessed.heard(0, Status::Up);
        assert_eq!(witnessed.overall(), Status::Connecting);
        witnessed.heard_thin_arbiter(down());
        assert_eq!(witnessed.overall(), Status::Up);
        let mut silent = Family::new(2, false);
        silent.stop_waiting();
        assert!(matches!(silent.overall(), Status::Down(_)));
    }
}
