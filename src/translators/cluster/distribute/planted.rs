//! Mistakes that tests make on purpose, to see that the simulation finds them.

use std::cell::Cell;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A file is renamed over one beside it before the linkto of the new name leads to it.
    LinktoLast,
    /// A directory that a rename has moved on some subvolumes only is made anew on those.
    MakeWhatWasRenamed,
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
