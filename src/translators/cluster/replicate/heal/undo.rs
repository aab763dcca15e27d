//! What the changelogs shall no longer say after a heal (`afr-self-heal-common.c:afr_selfheal_undo_pending`).
//!
//! What was seen before the heal is subtracted; nothing is set to zero. So marks that clients added while the heal was
//! under way stay, and the next heal finds them.

use smallvec::SmallVec;

use super::super::changelog::{Counters, Kind, Marks};
use super::super::child_set::ChildSet;

/// The XATTROP of one child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// What is added to its accusations.
    pub pending: SmallVec<[Counters; 3]>,
    /// What is added to its dirty mark.
    pub dirty: Counters,
}

/// What each child is told after a heal of `kind`: `None` for nothing at all. `observed` are the changelogs of all children
/// before it, `unhealed` the sinks that could not be healed: they stay accused, one count more, so that the index knows
/// them; and what they say themselves stays too. `whole` is for entries: the crawl saw all names, so the marks that asked
/// for such a crawl (in the data counter of directories) go as well.
pub fn undo(kind: Kind, observed: &[Marks], unhealed: ChildSet, whole: bool) -> Vec<Option<Undo>> {
    let marker = whole && kind == Kind::Entry;
    let row = |(from, marks): (usize, &Marks)| {
        if unhealed.contains(from) {
            return None;
        }
        let told = |(to, seen): (usize, &Counters)| {
            let change = |kind: Kind| if unhealed.contains(to) { 1 } else { seen.get(kind).wrapping_neg() };
            let mut counters = Counters::of(kind, change(kind));
            if marker {
                counters.0[Kind::Data.index()] = change(Kind::Data);
            }
            counters
        };
        let pending = marks.pending.iter().enumerate().map(told).collect();
        Some(Undo { pending, dirty: Counters::of(kind, marks.dirty.get(kind).wrapping_neg()) })
    };
    observed.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(pending: [[i32; 3]; 3], dirty: [i32; 3]) -> Marks {
        Marks { pending: pending.map(Counters).into_iter().collect(), dirty: Counters(dirty) }
    }

    fn apply(marks: &Marks, undo: &Undo) -> Marks {
        let sum = |a: Counters, b: Counters| Counters([a.0[0] + b.0[0], a.0[1] + b.0[1], a.0[2] + b.0[2]]);
        let pending = marks.pending.iter().zip(&undo.pending).map(|(a, b)| sum(*a, *b)).collect();
        Marks { pending, dirty: sum(marks.dirty, undo.dirty) }
    }

    #[test]
    fn only_what_was_seen_goes() {
        let seen = marks([[0, 0, 0], [0, 0, 0], [2, 1, 0]], [1, 0, 0]);
        let undone =
            undo(Kind::Data, &[seen.clone(), seen.clone(), marks([[0; 3]; 3], [1, 0, 0])], ChildSet::EMPTY, false);
        let meanwhile = marks([[0, 0, 0], [0, 0, 0], [3, 1, 0]], [1, 0, 0]);
        let after = apply(&meanwhile, undone[0].as_ref().unwrap());
        assert_eq!(
            after,
            marks([[0, 0, 0], [0, 0, 0], [1, 1, 0]], [0, 0, 0]),
            "one more came, metadata is another heal"
        );
        assert_eq!(undone[2].as_ref().unwrap().dirty, Counters([-1, 0, 0]));
    }

    #[test]
    fn who_was_not_healed_stays_accused() {
        let seen = [
            marks([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [0; 3]),
            marks([[1, 0, 0], [0, 0, 0], [0, 0, 0]], [0; 3]),
            marks([[0; 3]; 3], [0; 3]),
        ];
        let undone = undo(Kind::Data, &seen, ChildSet::one(1), false);
        assert_eq!(undone[0].as_ref().unwrap().pending.as_slice(), [0, 1, -2].map(|count| Counters([count, 0, 0])));
        assert_eq!(undone[1], None, "what it says itself stays");
        assert_eq!(undone[2].as_ref().unwrap().pending[1], Counters([1, 0, 0]));
    }

    #[test]
    fn the_marker_for_a_whole_crawl_goes_with_it() {
        let seen = [marks([[0; 3], [1, 1, 1], [0; 3]], [0, 0, 1])];
        assert_eq!(
            undo(Kind::Entry, &seen, ChildSet::EMPTY, true)[0].as_ref().unwrap().pending[1],
            Counters([-1, 0, -1])
        );
        assert_eq!(
            undo(Kind::Entry, &seen, ChildSet::EMPTY, false)[0].as_ref().unwrap().pending[1],
            Counters([0, 0, -1])
        );
        assert_eq!(
            undo(Kind::Metadata, &seen, ChildSet::EMPTY, true)[0].as_ref().unwrap().pending[1],
            Counters([0, -1, 0])
        );
    }
}
