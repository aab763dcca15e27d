//! What a replicate remembers of an inode (`afr_inode_ctx_t`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::pre_op::{DataSession, InodeSessions};

/// Which copies may be read, as learned in one generation of the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Readable {
    /// Generation in which it was learned.
    pub(super) generation: u32,
    /// Copies whose content (of a directory: entries) is good.
    pub(super) data: ChildSet,
    /// Copies whose attributes are good.
    pub(super) metadata: ChildSet,
}

impl Readable {
    /// Copies good for everything.
    pub(super) fn both(&self) -> ChildSet {
        self.data.and(self.metadata)
    }

    /// Copies good for operations of a kind.
    pub(super) fn of(&self, kind: Kind) -> ChildSet {
        match kind {
            Kind::Metadata => self.metadata,
            Kind::Data | Kind::Entry => self.data,
        }
    }

    /// Without what is known to be behind.
    #[must_use]
    pub(super) fn without(self, behind: Behind) -> Self {
        Readable {
            generation: self.generation,
            data: self.data.minus(behind.data),
            metadata: self.metadata.minus(behind.metadata),
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.data.0) << 16 | u64::from(self.metadata.0)
    }

    fn unpack(word: u64) -> Self {
        Readable {
            generation: (word >> 32) as u32,
            data: ChildSet((word >> 16 & 0xffff) as u16),
            metadata: ChildSet((word & 0xffff) as u16),
        }
    }
}

/// Copies that missed changes of this client, while the bricks do not say so yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// Of content.
    pub(super) data: ChildSet,
    /// Of attributes.
    pub(super) metadata: ChildSet,
}

/// State on an inode. Small, for there are millions; what few inodes need is boxed.
#[derive(Default)]
pub(super) struct InodeState {
    /// A packed [`Readable`]; 0 while nothing is known.
    readable: AtomicU64,
    /// How often there was a reason to ask the children again ...
    doubts: AtomicU32,
    /// ... and how many of these reasons the last answers knew of.
    settled: AtomicU32,
    /// Locks held for writing.
    sessions: OnceLock<Box<InodeSessions>>,
    /// The copy that the user chose to look at in a split-brain.
    pub(super) split_brain_choice: Mutex<Option<usize>>,
}

impl InodeState {
    /// What is known of the copies; `None` before the first lookup.
    pub(super) fn readable(&self) -> Option<Readable> {
        match self.readable.load(Ordering::Acquire) {
            0 => None,
            word => Some(Readable::unpack(word)),
        }
    }

    /// Notes what the children's answers told, to what was asked just now. Generations begin at 1, so that nothing known
    /// is told apart from nothing readable.
    pub(super) fn set_readable(&self, readable: Readable) {
        self.settle(readable, self.doubts());
    }

    /// Take this before the children are asked, for [`InodeState::settle`].
    pub(super) fn doubts(&self) -> u32 {
        self.doubts.load(Ordering::Acquire)
    }

    /// Notes what the children told who were asked when there were `doubts`. When a copy failed meanwhile, the answers may
    /// be from before that: then they are asked again at the next use.
    pub(super) fn settle(&self, readable: Readable, doubts: u32) {
        self.readable.store(readable.pack(), Ordering::Release);
        self.settled.store(doubts, Ordering::Release);
    }

    /// A copy failed: it is not read until the children were asked again.
    pub(super) fn forget_copy(&self, kind: Kind, failed: ChildSet) {
        let _ = self.readable.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            (word != 0).then(|| {
                let mut readable = Readable::unpack(word);
                match kind {
                    Kind::Metadata => readable.metadata = readable.metadata.minus(failed),
                    Kind::Data | Kind::Entry => readable.data = readable.data.minus(failed),
                }
                readable.pack()
            })
        });
        self.set_stale();
    }

    /// The children must be asked before the next use.
    pub(super) fn set_stale(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
    }

    /// True when the children must be asked again.
    pub(super) fn is_stale(&self) -> bool {
        self.doubts() != self.settled.load(Ordering::Acquire)
    }

    /// The locks held for writing; made at first use.
    pub(super) fn sessions(&self) -> &InodeSessions {
        self.sessions.get_or_init(Box::default)
    }

    /// What the sessions know of copies that missed changes. Take it before the children are asked.
    pub(super) fn behind(&self) -> Behind {
        let behind = |session: &Mutex<DataSession>| session.lock().unwrap_or_else(PoisonError::into_inner).behind;
        self.open_sessions().map_or_else(Behind::default, |sessions| Behind {
            data: behind(&sessions.data),
            metadata: behind(&sessions.metadata),
        })
    }

    /// The locks held for writing, if there ever was one.
    pub(super) fn open_sessions(&self) -> Option<&InodeSessions> {
        self.sessions.get().map(|sessions| &**sessions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_and_forgets_copies() {
        let state = InodeState::default();
        assert_eq!(state.readable(), None);
        let readable = Readable { generation: 7, data: ChildSet::all(3), metadata: ChildSet::one(1) };
        state.set_readable(readable);
        assert_eq!(state.readable(), Some(readable));
        assert!(!state.is_stale());
        state.forget_copy(Kind::Data, ChildSet::one(1));
        assert_eq!(state.readable().unwrap().both(), ChildSet::EMPTY);
        assert_eq!(state.readable().unwrap().of(Kind::Metadata), ChildSet::one(1));
        assert!(state.is_stale());
        state.set_readable(readable);
        assert!(!state.is_stale());
    }

    #[test]
    fn answers_from_before_a_failure_are_not_trusted() {
        let state = InodeState::default();
        let readable = Readable { generation: 1, data: ChildSet::all(3), metadata: ChildSet::all(3) };
        let asked = state.doubts();
        state.forget_copy(Kind::Data, ChildSet::one(2));
        state.settle(readable, asked);
        assert!(state.is_stale());
        state.settle(readable, state.doubts());
        assert!(!state.is_stale());
    }
}
