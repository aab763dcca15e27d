//! Who can heal whom: what the changelogs of all copies, read under locks, add up to
//! (`afr-self-heal-common.c:afr_selfheal_find_direction`).

use smallvec::SmallVec;

use super::super::changelog::{Kind, Marks};
use super::super::child_set::ChildSet;

/// The answer for one kind of change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Copies that nobody accuses: good ones.
    pub sources: ChildSet,
    /// Copies that a good one accuses. All copies, when there is no source: split-brain.
    pub sinks: ChildSet,
    /// How many operations each copy saw begin whose end is not known.
    pub witness: SmallVec<[i64; 3]>,
}

impl Direction {
    /// Judges the changelogs of *all* children; with fewer there is no judgement, and no heal. `quorum` is the number of
    /// children that make a quorum, 0 without one: it is for the case that a changelog update reached some copies only, so
    /// that each copy is accused by somebody. Then those that fewer than a quorum accuse are good.
    pub fn find(kind: Kind, marks: &[Marks], quorum: usize) -> Self {
        let count = marks.len();
        let cell = |from: usize, to: usize| {
            let row = marks.get(from).map(|marks| marks.pending.as_slice()).unwrap_or_default();
            row.get(to).map_or(0, |counters| i64::from(counters.get(kind)))
        };
        let children = ChildSet::all(count);
        let accuses_itself: ChildSet = children.iter().filter(|child| cell(*child, *child) != 0).collect();
        let trusted = children.minus(accuses_itself);
        let accusers = |child: usize| trusted.iter().filter(|from| cell(*from, child) != 0).count();

        let mut sources: ChildSet = children.iter().filter(|child| accusers(*child) == 0).collect();
        let accused_by =
            |from: ChildSet| children.iter().filter(|to| from.iter().any(|from| cell(from, *to) != 0)).collect();
        let mut sinks: ChildSet = accused_by(sources.minus(accuses_itself));
        if sources.is_empty() && kind != Kind::Entry {
            sources = children.iter().filter(|child| accusers(*child) < quorum).collect();
        }
        if sources.is_empty() {
            sinks = children;
        }
        Direction { sources, sinks, witness: witness(kind, marks, &cell, accuses_itself) }
    }

    /// True when no copy is good, or no copy is good in the eyes of all.
    pub fn is_split_brain(&self) -> bool {
        self.sources.is_empty() || self.sinks == ChildSet::all(self.witness.len())
    }

    /// True when some operation is not known to have ended.
    pub fn has_witness(&self) -> bool {
        self.witness.iter().any(|count| *count != 0)
    }
}

/// Dirty marks, and what the marks of a copy that accuses itself mean (old versions wrote such marks before an operation).
fn witness(
    kind: Kind,
    marks: &[Marks],
    cell: &impl Fn(usize, usize) -> i64,
    accuses_itself: ChildSet,
) -> SmallVec<[i64; 3]> {
    let count = marks.len();
    let others = |child: usize| (0..count).filter(move |other| *other != child);
    let accuses_others = |child: usize| others(child).any(|other| cell(child, other) != 0);
    let nobody_accuses_others = !(0..count).any(accuses_others);
    let seen = marks.iter().enumerate().map(|(child, marks)| {
        let mut seen = i64::from(marks.dirty.get(kind));
        if accuses_itself.contains(child) {
            seen += others(child).map(|other| cell(child, other)).sum::<i64>();
            if nobody_accuses_others || accuses_others(child) {
                seen += cell(child, child);
            }
        }
        seen
    });
    seen.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::changelog::Counters;
    use super::*;

    /// Rows of a matrix and the dirty counts, as marks of data.
    fn marks(matrix: &[&[i32]], dirty: &[i32]) -> Vec<Marks> {
        let row = |(row, dirty): (&&[i32], &i32)| Marks {
            pending: row.iter().map(|counter| Counters::of(Kind::Data, *counter)).collect(),
            dirty: Counters::of(Kind::Data, *dirty),
        };
        matrix.iter().zip(dirty).map(row).collect()
    }

    fn set(indices: &[usize]) -> ChildSet {
        indices.iter().copied().collect()
    }

    type Case = (&'static str, &'static [&'static [i32]], [i32; 3], &'static [usize], &'static [usize], [i64; 3]);

    #[test]
    fn three_copies() {
        let cases: [Case; 9] = [
            ("all is well", &[&[0, 0, 0], &[0, 0, 0], &[0, 0, 0]], [0, 0, 0], &[0, 1, 2], &[], [0, 0, 0]),
            ("one missed it", &[&[0, 0, 2], &[0, 0, 2], &[0, 0, 0]], [0, 0, 1], &[0, 1], &[2], [0, 0, 1]),
            ("one accuser is enough", &[&[0, 0, 1], &[0, 0, 0], &[0, 0, 0]], [0, 1, 0], &[0, 1], &[2], [0, 1, 0]),
            ("two missed it", &[&[0, 1, 1], &[0, 0, 0], &[0, 0, 0]], [0, 0, 0], &[0], &[1, 2], [0, 0, 0]),
            ("an accused accuses", &[&[0, 1, 1], &[0, 0, 1], &[0, 0, 0]], [0, 0, 0], &[0], &[1, 2], [0, 0, 0]),
            // bug-1539358: 0 accuses 1, 1 accuses 2, 2 accuses 0: marks of operations that each lost one post-op.
            ("in a circle", &[&[0, 1, 0], &[0, 0, 1], &[1, 0, 0]], [0, 0, 0], &[0, 1, 2], &[], [0, 0, 0]),
            // bug-1717819: all are accused, 2 by a quorum: it is the bad one.
            ("less than a quorum", &[&[0, 0, 1], &[1, 0, 1], &[0, 1, 0]], [0, 0, 0], &[0, 1], &[], [0, 0, 0]),
            ("split-brain", &[&[0, 1, 1], &[1, 0, 1], &[1, 1, 0]], [0, 0, 0], &[], &[0, 1, 2], [0, 0, 0]),
            // A fool accuses nobody, and is no sink of the others' making.
            ("self-accused", &[&[1, 1, 0], &[0, 0, 0], &[0, 0, 0]], [0, 0, 0], &[0, 1, 2], &[], [2, 0, 0]),
        ];
        for (name, matrix, dirty, sources, sinks, witness) in cases {
            let direction = Direction::find(Kind::Data, &marks(matrix, &dirty), 2);
            assert_eq!(direction.sources, set(sources), "{name}");
            assert_eq!(direction.sinks, set(sinks), "{name}");
            assert_eq!(direction.witness.as_slice(), witness, "{name}");
        }
    }

    #[test]
    fn two_copies_have_no_quorum_to_decide() {
        let mutual = marks(&[&[0, 1], &[1, 0]], &[0, 0]);
        assert!(Direction::find(Kind::Data, &mutual, 0).is_split_brain());
        assert!(!Direction::find(Kind::Data, &mutual, 2).is_split_brain());
    }

    #[test]
    fn entries_are_never_decided_by_quorum() {
        let circle = [[0, 1, 0], [0, 0, 1], [1, 0, 0]].map(|row| Marks {
            pending: row.iter().map(|counter| Counters::of(Kind::Entry, *counter)).collect(),
            dirty: Counters::ZERO,
        });
        assert!(Direction::find(Kind::Entry, &circle, 2).is_split_brain());
        assert!(!Direction::find(Kind::Data, &circle, 2).is_split_brain(), "the other counters are not looked at");
    }

    #[test]
    fn a_lonely_self_accusation_is_a_witness() {
        let own = marks(&[&[3, 0, 0], &[0, 0, 0], &[0, 0, 0]], &[0, 0, 0]);
        assert_eq!(Direction::find(Kind::Data, &own, 2).witness.as_slice(), [3, 0, 0]);
        // Others accuse: the one that accuses itself alone is just left out of the count.
        let both = marks(&[&[3, 0, 0], &[0, 0, 1], &[0, 0, 0]], &[0, 0, 0]);
        assert_eq!(Direction::find(Kind::Data, &both, 2).witness.as_slice(), [0, 0, 0]);
    }
}
