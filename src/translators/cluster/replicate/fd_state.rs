//! What a replicate remembers of an open file or directory (`afr_fd_ctx_t`): on which children it is open.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::child_set::ChildSet;

/// State on an fd.
pub(super) struct FdState {
    /// Low half: children on which it is open; high half: children on which it is being opened.
    opened: AtomicU32,
    /// The child that lists this directory: cookies mean nothing to another. `usize::MAX` for none.
    lister: AtomicUsize,
}

impl Default for FdState {
    fn default() -> Self {
        FdState { opened: AtomicU32::new(0), lister: AtomicUsize::new(usize::MAX) }
    }
}

impl FdState {
    /// Children on which it is open.
    pub(super) fn opened(&self) -> ChildSet {
        ChildSet((self.opened.load(Ordering::Acquire) & 0xffff) as u16)
    }

    /// It is open on these children too.
    pub(super) fn set_opened(&self, children: ChildSet) {
        self.opened.fetch_or(u32::from(children.0), Ordering::AcqRel);
    }

    /// Claims the children among `wanted` on which it is neither open nor being opened. The caller opens it there, and
    /// then calls [`FdState::late_open_ended`].
    pub(super) fn begin_late_open(&self, wanted: ChildSet) -> ChildSet {
        let word = self.opened.load(Ordering::Acquire);
        let missing = |word: u32| u32::from(wanted.0) & !(word & 0xffff) & !(word >> 16);
        if missing(word) == 0 {
            return ChildSet::EMPTY;
        }
        let claim = |word: u32| Some(word | missing(word) << 16);
        let before = self.opened.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim);
        ChildSet(before.map_or(0, missing) as u16)
    }

    /// The attempt that [`FdState::begin_late_open`] allowed is over; `opened` of the claimed children worked.
    pub(super) fn late_open_ended(&self, claimed: ChildSet, opened: ChildSet) {
        let end = |word: u32| Some(word & !(u32::from(claimed.0) << 16) | u32::from(opened.0));
        let _ = self.opened.fetch_update(Ordering::AcqRel, Ordering::Acquire, end);
    }

    /// The child that lists this directory.
    pub(super) fn lister(&self) -> Option<usize> {
        Some(self.lister.load(Ordering::Acquire)).filter(|index| *index != usize::MAX)
    }

    /// From now on `child` lists this directory.
    pub(super) fn set_lister(&self, child: usize) {
        self.lister.store(child, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_open_is_claimed_once() {
        let state = FdState::default();
        state.set_opened(ChildSet::one(0));
        let all = ChildSet::all(3);
        assert_eq!(state.begin_late_open(all), ChildSet::one(1).with(2));
        assert_eq!(state.begin_late_open(all), ChildSet::EMPTY);
        state.late_open_ended(ChildSet::one(1).with(2), ChildSet::one(2));
        assert_eq!(state.opened(), ChildSet::one(0).with(2));
        assert_eq!(state.begin_late_open(all), ChildSet::one(1));
    }
}
