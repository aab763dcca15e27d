//! What an entry operation came to: what the application is told, and what the copies must remember
//! (`afr_handle_quorum`, `afr_changelog_post_op_do`, `afr_changelog_populate_xdata`). A decision without I/O.

use rgfs_protocol::Errno;
use smallvec::SmallVec;

use super::child_set::ChildSet;
use super::entry_copies::Accused;
use super::quorum::Quorum;

/// What happened.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Number of children.
    pub count: usize,
    /// How many of them make a success.
    pub quorum: Quorum,
    /// Children that granted all locks.
    pub locked: ChildSet,
    /// Children on which the operation was noted before it began; `None` when all copies were there and nothing was noted.
    pub noted: Option<ChildSet>,
    /// Copies that missed names of the directories before, as far as that is known.
    pub accused: Accused,
    /// Copies that were accused before it was done.
    pub early: ChildSet,
    /// Children that were not asked, because the good copies went away while they did it.
    pub unasked: ChildSet,
    /// What the children said that were asked.
    pub outcomes: SmallVec<[(usize, Option<Errno>); 3]>,
}

/// What to do with the name in the index of names that copies missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameIndex {
    /// Nothing.
    Leave,
    /// Keep it: a copy missed it (`glusterfs.xattrop-entry-create`).
    Add,
    /// Forget it: all copies have it (`glusterfs.xattrop-entry-delete`).
    Remove,
}

/// What changes in the changelogs of the directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Copies whose changelog changes.
    pub on: ChildSet,
    /// Copies that are accused; `None` when none must be, not even by zeros: nobody knows who is right.
    pub pending: Option<ChildSet>,
    /// Copies that were accused before it was done: that counts, or is taken back.
    pub early: ChildSet,
    /// What is added to the dirty counter.
    pub dirty: i32,
    /// The index of names, in volumes that have one.
    pub name: NameIndex,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The children whose success the application is told; `None` when it is told a failure.
    pub success: Option<ChildSet>,
    /// Copies that took part and failed.
    pub failed: ChildSet,
    /// Changes of the changelogs, if any.
    pub marks: Option<Marks>,
    /// Copies that do not have what was made (or lack more of it): to be noted on the new inode.
    pub missed: ChildSet,
    /// The application may go on before the marks are made. Else a crash of this client would lose what they say of an
    /// operation that was acknowledged.
    pub answer_first: bool,
}

impl Verdict {
    /// True when copies will be accused of having missed it.
    pub fn accuses(&self) -> bool {
        self.marks.and_then(|marks| marks.pending).is_some_and(|accused| !accused.is_empty())
    }

    /// Nothing changed anywhere: the note from before has to go, and accusations with it.
    pub fn of_nothing(noted: ChildSet, early: ChildSet) -> Self {
        let nobody = Some(ChildSet::EMPTY);
        let marks = Marks { on: noted, pending: nobody, early, dirty: -1, name: NameIndex::Leave };
        let (failed, missed) = (ChildSet::EMPTY, ChildSet::EMPTY);
        Verdict { success: None, failed, marks: Some(marks), missed, answer_first: true }
    }
}

/// Decides.
pub fn judge(facts: &Facts) -> Verdict {
    let verdict = decide(facts);
    if facts.early.is_empty() {
        return verdict;
    }
    let noted = facts.noted.unwrap_or_default();
    let gone = facts.outcomes.iter().filter(|(_, outcome)| *outcome == Some(Errno::ENOTCONN)).map(|(index, _)| *index);
    let unchanged =
        Marks { on: noted, pending: Some(ChildSet::EMPTY), early: facts.early, dirty: 0, name: NameIndex::Leave };
    let told = verdict.marks.unwrap_or(unchanged).on.minus(gone.collect());
    // What one copy keeps, the others must not take back: with the one that is accused they would accuse that copy next, and
    // none would be good when it comes back.
    let keeps = !noted.minus(told).is_empty();
    let marks = match verdict.marks {
        Some(Marks { pending: Some(pending), .. }) if keeps => {
            verdict.marks.map(|marks| Marks { pending: Some(pending.union(facts.early)), ..marks })
        }
        Some(marks) => Some(marks),
        // The note from before stays, and nobody is accused.
        None => (!keeps).then_some(unchanged),
    };
    Verdict { marks, ..verdict }
}

fn decide(facts: &Facts) -> Verdict {
    let all = ChildSet::all(facts.count);
    let with = |matches: &dyn Fn(Option<Errno>) -> bool| -> ChildSet {
        facts.outcomes.iter().filter(|(_, outcome)| matches(*outcome)).map(|(index, _)| *index).collect()
    };
    let succeeded = with(&|outcome| outcome.is_none());
    // A directory that is not empty on one copy is no failure of it: its entry heal is still to come.
    let fine = with(&|outcome| matches!(outcome, None | Some(Errno::ENOTEMPTY)));
    let failed = facts.locked.minus(fine);

    if is_symmetric(facts) {
        // Nothing changed anywhere; only the note from before has to go, where it was made.
        let nothing = Verdict::of_nothing(facts.noted.unwrap_or_default(), facts.early);
        return Verdict { marks: nothing.marks.filter(|_| facts.noted.is_some()), ..nothing };
    }
    if let Some(refused) = refused_by_quorum(facts) {
        // So few did it that it did not happen, and a quorum knows it: where it happened it must be undone. Upstream marks
        // the ones that did it dirty; then a heal keeps what any copy has, and cannot when they have different objects.
        let marks = Marks {
            on: refused,
            pending: Some(all.minus(refused)),
            early: facts.early,
            dirty: if facts.noted.is_some() { -1 } else { 0 },
            name: NameIndex::Add,
        };
        let failed = facts.locked.minus(refused);
        return Verdict { success: None, failed, marks: Some(marks), missed: ChildSet::EMPTY, answer_first: false };
    }
    if !facts.unasked.is_empty() {
        // The good copies may have done it. The heal of this name will tell; the others are accused already.
        let dirty = if facts.noted.is_some() { -1 } else { 0 };
        let marks = Marks {
            on: facts.unasked,
            pending: Some(ChildSet::EMPTY),
            early: facts.early,
            dirty,
            name: NameIndex::Add,
        };
        let failed = failed.minus(facts.unasked);
        return Verdict { success: None, failed, marks: Some(marks), missed: ChildSet::EMPTY, answer_first: false };
    }
    // Upstream counts copies that are not empty as successes. What one copy removed and two kept is still there. And when no
    // good copy did it, accusing these would leave none.
    if succeeded.is_empty() || !facts.quorum.met(succeeded, facts.count) || lacks_good(facts, succeeded) {
        // Nobody is accused, for on the other side of a split network others may accuse ours.
        let marks = doubt(facts, fine).filter(|_| facts.quorum.is_on());
        return Verdict { success: None, failed, marks, missed: ChildSet::EMPTY, answer_first: false };
    }
    let missed = all.minus(fine);
    let name = match (failed.is_empty(), missed.is_empty()) {
        (true, true) => NameIndex::Remove,
        // The note from before put it there. But until somebody is accused of missing names of the directory, C clients that
        // fail to rename into it make the brick forget all of them (`afr_changelog_populate_xdata`, `xattrop_index_action`).
        _ => NameIndex::Add,
    };
    let marks = (facts.noted.is_some() || !failed.is_empty()).then(|| Marks {
        on: fine,
        pending: Some(missed),
        early: facts.early,
        dirty: if facts.noted.is_some() { -1 } else { 0 },
        name,
    });
    Verdict { success: Some(succeeded), failed, marks, missed, answer_first: failed.is_empty() }
}

/// Marks that say that the copies may differ, and accuse none. A note from before on the copies stays instead; `fine` are
/// the copies that may have done it.
pub fn doubt(facts: &Facts, fine: ChildSet) -> Option<Marks> {
    let unnoted = facts.noted.is_none() && !fine.is_empty();
    unnoted.then_some(Marks { on: fine, pending: None, early: ChildSet::EMPTY, dirty: 1, name: NameIndex::Add })
}

/// True when none of these copies of a directory is good, and another one is.
fn lacks_good(facts: &Facts, children: ChildSet) -> bool {
    facts.quorum.is_on() && facts.accused.lacks_good(children, ChildSet::all(facts.count))
}

/// The copies that failed alike, if they are a quorum and some other copy did it, or may have.
fn refused_by_quorum(facts: &Facts) -> Option<ChildSet> {
    let alike = |errno: Errno| -> ChildSet {
        facts.outcomes.iter().filter(|(_, outcome)| *outcome == Some(errno)).map(|(index, _)| *index).collect()
    };
    let settled = |errno: &Errno| !matches!(*errno, Errno::ENOTCONN | Errno::ENOTEMPTY);
    let errnos = facts.outcomes.iter().filter_map(|(_, outcome)| *outcome).filter(settled);
    let refused = errnos.map(alike).find(|refused| facts.quorum.is_on() && facts.quorum.met(*refused, facts.count))?;
    if lacks_good(facts, refused) {
        // They may say so because of what they missed.
        return None;
    }
    let done_elsewhere = |(_, outcome): &(usize, Option<Errno>)| matches!(outcome, None | Some(Errno::ENOTCONN));
    facts.outcomes.iter().any(done_elsewhere).then_some(refused)
}

/// True when all that were asked failed alike. A brick that went away (ENOTCONN) may or may not have done it.
fn is_symmetric(facts: &Facts) -> bool {
    let mut outcomes = facts.outcomes.iter().map(|(_, outcome)| *outcome);
    match outcomes.next() {
        Some(Some(first)) => first != Errno::ENOTCONN && outcomes.all(|outcome| outcome == Some(first)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(indices: &[usize]) -> ChildSet {
        indices.iter().copied().collect()
    }

    /// Three children; what those said that were locked.
    fn facts(outcomes: &[(usize, Option<Errno>)], noted: Option<&[usize]>) -> Facts {
        Facts {
            count: 3,
            quorum: Quorum::Auto,
            locked: outcomes.iter().map(|(index, _)| *index).collect(),
            noted: noted.map(set),
            accused: Accused::default(),
            early: ChildSet::EMPTY,
            unasked: ChildSet::EMPTY,
            outcomes: outcomes.iter().copied().collect(),
        }
    }

    fn marks(on: &[usize], pending: Option<&[usize]>, dirty: i32, name: NameIndex) -> Option<Marks> {
        Some(Marks { on: set(on), pending: pending.map(set), early: ChildSet::EMPTY, dirty, name })
    }

    fn verdict(
        success: Option<&[usize]>,
        failed: &[usize],
        marks: Option<Marks>,
        missed: &[usize],
        answer_first: bool,
    ) -> Verdict {
        Verdict { success: success.map(set), failed: set(failed), marks, missed: set(missed), answer_first }
    }

    const OK: Option<Errno> = None;
    const EPERM: Option<Errno> = Some(Errno::EPERM);
    const ENOSPC: Option<Errno> = Some(Errno::ENOSPC);
    const GONE: Option<Errno> = Some(Errno::ENOTCONN);
    const FULL: Option<Errno> = Some(Errno::ENOTEMPTY);

    #[test]
    fn table() {
        use NameIndex::{Add, Leave, Remove};
        let here: Option<&[usize]> = Some(&[0, 1, 2]);
        let two: Option<&[usize]> = Some(&[0, 1]);
        let cases = [
            ("healthy", facts(&[(0, OK), (1, OK), (2, OK)], None), verdict(here, &[], None, &[], true)),
            (
                "healthy, with changelogs that are not optimistic",
                facts(&[(0, OK), (1, OK), (2, OK)], here),
                verdict(here, &[], marks(&[0, 1, 2], Some(&[]), -1, Remove), &[], true),
            ),
            (
                "one down from the start",
                facts(&[(0, OK), (1, OK)], two),
                verdict(two, &[], marks(&[0, 1], Some(&[2]), -1, Add), &[2], true),
            ),
            (
                "one fails in the operation",
                facts(&[(0, OK), (1, OK), (2, EPERM)], None),
                verdict(two, &[2], marks(&[0, 1], Some(&[2]), 0, Add), &[2], false),
            ),
            (
                "one fails in the operation that was noted",
                facts(&[(0, OK), (1, OK), (2, GONE)], here),
                verdict(two, &[2], marks(&[0, 1], Some(&[2]), -1, Add), &[2], false),
            ),
            (
                "one could not be noted, and was not asked",
                Facts { locked: set(&[0, 1, 2]), ..facts(&[(0, OK), (1, OK)], two) },
                verdict(two, &[2], marks(&[0, 1], Some(&[2]), -1, Add), &[2], false),
            ),
            (
                "two go away in the operation: dirty, and nobody is accused",
                facts(&[(0, OK), (1, GONE), (2, GONE)], None),
                verdict(None, &[1, 2], marks(&[0], None, 1, Add), &[], false),
            ),
            (
                "the same with a note from before, which stays",
                facts(&[(0, OK), (1, GONE)], two),
                verdict(None, &[1], None, &[], false),
            ),
            ("all full", facts(&[(0, ENOSPC), (1, ENOSPC), (2, ENOSPC)], None), verdict(None, &[], None, &[], true)),
            (
                "both full, one down",
                facts(&[(0, ENOSPC), (1, ENOSPC)], two),
                verdict(None, &[], marks(&[0, 1], Some(&[]), -1, Leave), &[], true),
            ),
            (
                "all gone: nobody knows, nobody can say so",
                facts(&[(0, GONE), (1, GONE), (2, GONE)], None),
                verdict(None, &[0, 1, 2], None, &[], false),
            ),
            (
                "a quorum has it already, and one made it",
                facts(&[(0, OK), (1, EPERM), (2, EPERM)], None),
                verdict(None, &[0], marks(&[1, 2], Some(&[0]), 0, Add), &[], false),
            ),
            (
                "a quorum is full, and one went away",
                facts(&[(0, ENOSPC), (1, ENOSPC), (2, GONE)], here),
                verdict(None, &[2], marks(&[0, 1], Some(&[2]), -1, Add), &[], false),
            ),
            (
                "all failed, each in its way",
                facts(&[(0, ENOSPC), (1, EPERM), (2, EPERM)], None),
                verdict(None, &[0, 1, 2], None, &[], false),
            ),
            ("not empty on one copy", facts(&[(0, OK), (1, OK), (2, FULL)], None), verdict(two, &[], None, &[], true)),
            (
                "removed on one copy only: all look again",
                facts(&[(0, OK), (1, FULL), (2, FULL)], None),
                verdict(None, &[], marks(&[0, 1, 2], None, 1, Add), &[], false),
            ),
            (
                "not empty anywhere",
                facts(&[(0, FULL), (1, FULL), (2, FULL)], None),
                verdict(None, &[], None, &[], true),
            ),
            (
                "not empty on one, two gone: they may have removed it",
                facts(&[(0, FULL), (1, GONE), (2, GONE)], None),
                verdict(None, &[1, 2], marks(&[0], None, 1, Add), &[], false),
            ),
        ];
        for (name, facts, expected) in cases {
            assert_eq!(judge(&facts), expected, "{name}");
        }
    }

    /// An accusation that was made before counts when it was done, and is taken back when it was not, or nobody knows;
    /// but not while a copy is gone that keeps it.
    #[test]
    fn early_accusations() {
        use NameIndex::{Add, Leave};
        let early = set(&[2]);
        let marks = |pending: &[usize], dirty, name| Marks {
            on: set(&[0, 1]),
            pending: Some(set(pending)),
            early,
            dirty,
            name,
        };
        for (outcomes, expected) in [
            ([(0, OK), (1, OK)], Some(marks(&[2], -1, Add))),
            ([(0, OK), (1, ENOSPC)], Some(marks(&[], 0, Leave))),
            ([(0, OK), (1, GONE)], None),
            ([(0, ENOSPC), (1, ENOSPC)], Some(marks(&[], -1, Leave))),
        ] {
            let verdict = judge(&Facts { early, ..facts(&outcomes, Some(&[0, 1])) });
            assert_eq!(verdict.marks, expected, "{outcomes:?}");
        }
        let unasked = judge(&Facts { early, unasked: set(&[1]), ..facts(&[(0, GONE)], Some(&[0, 1])) });
        assert_eq!(unasked.marks, Some(Marks { on: set(&[1]), ..marks(&[2], -1, Add) }), "the other one keeps it");
    }

    #[test]
    fn without_quorum_the_survivor_accuses() {
        let mut facts = facts(&[(0, GONE), (1, OK)], None);
        (facts.count, facts.quorum) = (2, Quorum::None);
        let expected = verdict(Some(&[1]), &[0], marks(&[1], Some(&[0]), 0, NameIndex::Add), &[0], false);
        assert_eq!(judge(&facts), expected);
    }

    #[test]
    fn nobody_is_accused_by_fewer_than_the_quorum() {
        let outcomes = [OK, EPERM, ENOSPC, GONE, FULL];
        for (a, b, c) in (0..125).map(|case| (case / 25, case / 5 % 5, case % 5)) {
            for noted in [None, Some(&[0, 1, 2][..])] {
                let facts = facts(&[(0, outcomes[a]), (1, outcomes[b]), (2, outcomes[c])], noted);
                let verdict = judge(&facts);
                let Some(marks) = verdict.marks else { continue };
                if marks.pending.is_some_and(|pending| !pending.is_empty()) {
                    assert!(marks.on.len() >= 2, "{facts:?}: {verdict:?}");
                    assert!(!verdict.answer_first, "{facts:?}");
                }
            }
        }
    }
}
