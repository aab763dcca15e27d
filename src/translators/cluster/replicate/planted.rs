//! Mistakes that tests make on purpose, to see that the simulation finds them.

use std::cell::Cell;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The application hears of success before the copies say who missed it.
    AnswerBeforeNote,
    /// Changelog updates leave one child out.
    DropPendingKey,
    /// All transactions of a client have one lock owner.
    OneLockOwner,
    /// Learns who missed names of a directory from a mark that something begins, also when all copies are there.
    MarkToLearn,
    /// A session ends without a sync of what was written.
    SkipSync,
    /// A posix lock that any brick granted is held.
    LockOnFew,
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Makes this mistake on this thread from now on.
pub(crate) fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// True when this mistake is to be made.
pub(super) fn is_planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}
