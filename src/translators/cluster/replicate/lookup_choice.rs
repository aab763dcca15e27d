//! What the answers of a LOOKUP add up to (`afr_lookup_entry_heal`, `afr_lookup_done`, `afr_discover_unwind`).
//!
//! Bricks that disagree over a name need not be damaged: another client may be creating, renaming or removing it just now,
//! and some bricks did it already. So before a disagreement is told, the name's lock is waited for, and the bricks are asked
//! again.

use rgfs_protocol::{Dict, Errno, Gfid};

use super::child_set::ChildSet;
use super::core::{Replies, successes};
use super::quorum::Quorum;
use super::requests::PARENT_ENTRYLK;
use crate::FopResult;
use crate::reply::LookupReply;

/// The brick found the entry with another gfid than it had.
const GFID_CHANGED: &str = "gfid-changed";

/// Answers of the children that were asked.
pub(super) type Answers = Replies<LookupReply>;

/// How many are enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) quorum: Quorum,
    /// Number of children.
    pub(super) count: usize,
}

impl Rules {
    pub(super) fn enough(&self, children: ChildSet) -> bool {
        self.quorum.met(children, self.count)
    }
}

/// True when the name's lock must be waited for, and the name be healed if that is possible, before the answers are
/// believed. `good_parents` are the copies of the directory with good entries; empty when none are known.
pub(super) fn needs_name_heal(answers: &Answers, good_parents: ChildSet, rules: Rules) -> bool {
    let good_parents = if good_parents.is_empty() { ChildSet::all(rules.count) } else { good_parents };
    let mut found: Option<Gfid> = None;
    let (mut missing, mut other_failure, mut missing_where_it_should_be) = (false, false, false);
    for (index, answer) in answers {
        match answer {
            Ok(reply) if *found.get_or_insert(reply.stat.gfid) != reply.stat.gfid => return true,
            Ok(_) => {}
            // An entry without gfid.
            Err(error) if error.errno == Errno::ENODATA => return true,
            Err(error) => {
                missing = true;
                other_failure |= !matches!(error.errno, Errno::ENOTCONN | Errno::ENOENT | Errno::ESTALE);
                missing_where_it_should_be |= error.errno != Errno::ENOTCONN && good_parents.contains(*index);
            }
        }
    }
    let disagreement = missing && found.is_some();
    disagreement
        && (!rules.quorum.is_on() || other_failure || missing_where_it_should_be || !rules.enough(successes(answers)))
}

/// True when a name was something else before, or somebody is about to change it.
pub(super) fn is_changing(before: &Answers, now: &Answers) -> bool {
    let object = |(index, answer): &(usize, FopResult<LookupReply>)| match answer {
        Ok(reply) => (*index, Ok(reply.stat.gfid)),
        Err(error) => (*index, Err(error.errno)),
    };
    !before.iter().map(object).eq(now.iter().map(object)) || now.iter().any(|(_, answer)| is_locked(answer))
}

/// What the answers say about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It fails, with a reason.
    Fails(Errno, &'static str),
    /// No child found it.
    Absent,
    /// All that found it found the same object, and they are enough.
    Agreed,
    /// Nothing can be said of the copies: they are too few, or not all of the same object.
    Doubtful,
}

/// Judges the answers of a named lookup.
pub(super) fn judge_name(answers: &Answers, good_parents: ChildSet, rules: Rules) -> Judgement {
    let changed = |answer: &FopResult<LookupReply>| told(answer).is_some_and(|xdata| xdata.contains(GFID_CHANGED));
    if answers.iter().any(|(_, answer)| changed(answer)) {
        return Judgement::Fails(Errno::ESTALE, "the gfid changed");
    }
    let found = successes(answers);
    let locked = answers.iter().any(|(_, answer)| is_locked(answer));
    let missing = |answer: &FopResult<LookupReply>| answer.as_ref().is_err_and(|error| error.errno == Errno::ENOENT);
    if locked && !rules.enough(found) && answers.iter().any(|(_, answer)| missing(answer)) {
        return Judgement::Fails(Errno::ENOENT, "it is being made");
    }
    let objects = || answers.iter().filter_map(|(index, answer)| Some((*index, answer.as_ref().ok()?.stat.gfid)));
    // The first with a good parent, else the last.
    let chosen = objects().find(|(index, _)| good_parents.contains(*index)).or_else(|| objects().next_back());
    let Some((chosen, gfid)) = chosen else { return Judgement::Absent };
    let mut agreed = true;
    for (index, _) in objects().filter(|(_, other)| *other != gfid) {
        agreed = false;
        let excused = locked || (good_parents.contains(chosen) && !good_parents.contains(index));
        if !excused {
            return Judgement::Fails(Errno::EIO, "the bricks have different files of that name");
        }
    }
    if agreed && rules.enough(found) { Judgement::Agreed } else { Judgement::Doubtful }
}

/// Judges the answers of a lookup by gfid.
pub(super) fn judge_gfid(answers: &Answers, rules: Rules) -> Judgement {
    match successes(answers) {
        found if found.is_empty() => Judgement::Absent,
        found if rules.enough(found) => Judgement::Agreed,
        _ => Judgement::Doubtful,
    }
}

/// The answer to give when no copy is known to be good: that of the copy that was `chosen` for a split-brain, if all copies
/// are there; without quorum any; else none (`afr_attempt_readsubvol_set`).
pub(super) fn without_good_copy(found: ChildSet, chosen: Option<usize>, rules: Rules) -> Option<usize> {
    match chosen {
        Some(chosen) if found == ChildSet::all(rules.count) => Some(chosen),
        _ if !rules.quorum.is_on() => found.first(),
        _ => None,
    }
}

/// Whose answer tells the attributes of the directory: the copy from which the directory itself is read, else a good one,
/// else the first (`afr_get_parent_read_subvol`). A stale copy's would make its times go back.
pub(super) fn parent_source(found: ChildSet, read_from: Option<usize>, good_parents: ChildSet) -> Option<usize> {
    let good = || found.and(good_parents).first();
    read_from.filter(|index| found.contains(*index)).or_else(good).or_else(|| found.first())
}

/// True when somebody held or wanted the lock of the name.
fn is_locked(answer: &FopResult<LookupReply>) -> bool {
    told(answer).and_then(|xdata| xdata.int(PARENT_ENTRYLK)).is_some_and(|count| count != 0)
}

fn told(answer: &FopResult<LookupReply>) -> Option<&Dict> {
    match answer {
        Ok(reply) => Some(&reply.xdata),
        Err(error) => error.xdata.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rgfs_protocol::{Iatt, Value};

    use super::*;
    use crate::FopError;

    const AUTO: Rules = Rules { quorum: Quorum::Auto, count: 3 };
    const NONE: Rules = Rules { quorum: Quorum::None, count: 3 };

    fn set(indices: &[usize]) -> ChildSet {
        indices.iter().copied().collect()
    }

    /// One answer per child: a number is a gfid.
    #[derive(Clone, Copy)]
    enum Says {
        Found(u8),
        Locked(u8),
        Errno(Errno),
        LockedErrno(Errno),
        /// It is not up, and was not asked.
        Nothing,
    }
    use Says::{Errno as No, Found, Locked, LockedErrno, Nothing};

    fn answers(says: [Says; 3]) -> Answers {
        let locked = || Dict::empty().with(PARENT_ENTRYLK, Value::Int(1));
        let found = |gfid, xdata| {
            Ok(LookupReply {
                stat: Iatt { gfid: Gfid([gfid; 16]), ..Iatt::default() },
                xdata,
                ..LookupReply::default()
            })
        };
        let failed = |errno| FopError::new(errno, &Arc::from("v"), "lookup");
        let answer = |says| match says {
            Found(gfid) => Some(found(gfid, Dict::NULL)),
            Locked(gfid) => Some(found(gfid, locked())),
            No(errno) => Some(Err(failed(errno))),
            LockedErrno(errno) => Some(Err(failed(errno).with_xdata(locked()))),
            Nothing => None,
        };
        says.into_iter().enumerate().filter_map(|(index, says)| Some((index, answer(says)?))).collect()
    }

    #[test]
    fn when_a_name_is_healed() {
        let (enoent, enotconn) = (No(Errno::ENOENT), No(Errno::ENOTCONN));
        let cases = [
            ("all agree", [Found(1), Found(1), Found(1)], &[][..], AUTO, false),
            ("nobody has it", [enoent, enoent, enoent], &[], AUTO, false),
            ("one is down", [Found(1), Found(1), Nothing], &[], AUTO, false),
            ("one goes down", [Found(1), Found(1), enotconn], &[], AUTO, false),
            ("no gfid", [Found(1), Found(1), No(Errno::ENODATA)], &[0, 1], AUTO, true),
            ("two gfids", [Found(1), Found(2), Nothing], &[0], AUTO, true),
            ("missing on a good parent", [Found(1), Found(1), enoent], &[0, 1, 2], AUTO, true),
            ("missing, parents unknown", [Found(1), Found(1), enoent], &[], AUTO, true),
            ("missing on a bad parent", [Found(1), Found(1), enoent], &[0, 1], AUTO, false),
            ("the same without quorum", [Found(1), Found(1), enoent], &[0, 1], NONE, true),
            ("found by too few", [Found(1), enoent, enoent], &[0], AUTO, true),
            ("another failure", [Found(1), Found(1), No(Errno::EIO)], &[0, 1], AUTO, true),
        ];
        for (name, says, good_parents, rules, heals) in cases {
            assert_eq!(needs_name_heal(&answers(says), set(good_parents), rules), heals, "{name}");
        }
    }

    #[test]
    fn judgements() {
        let enoent = No(Errno::ENOENT);
        let fails = |errno| Some(errno);
        let cases = [
            ("all agree", [Found(1), Found(1), Found(1)], &[][..], Ok(Judgement::Agreed)),
            ("a quorum agrees", [Found(1), Found(1), enoent], &[0, 1], Ok(Judgement::Agreed)),
            ("too few found it", [Found(1), enoent, enoent], &[], Ok(Judgement::Doubtful)),
            ("too few found it while it is made", [Locked(1), enoent, enoent], &[], Err(fails(Errno::ENOENT))),
            (
                "the one without it knows",
                [Found(1), LockedErrno(Errno::ENOENT), enoent],
                &[],
                Err(fails(Errno::ENOENT)),
            ),
            ("made on most", [Locked(1), Found(1), enoent], &[], Ok(Judgement::Agreed)),
            ("nobody has it", [enoent, enoent, Nothing], &[], Ok(Judgement::Absent)),
            ("two files", [Found(1), Found(2), Found(1)], &[], Err(fails(Errno::EIO))),
            ("two files, while it changes", [Found(1), Locked(2), Found(1)], &[], Ok(Judgement::Doubtful)),
            ("the odd one is on a bad parent", [Found(1), Found(2), Found(1)], &[0, 2], Ok(Judgement::Doubtful)),
            ("the odd one is on a good parent", [Found(1), Found(2), Found(1)], &[0, 1], Err(fails(Errno::EIO))),
        ];
        for (name, says, good_parents, expected) in cases {
            let judgement = judge_name(&answers(says), set(good_parents), AUTO);
            let result = match judgement {
                Judgement::Fails(errno, _) => Err(Some(errno)),
                other => Ok(other),
            };
            assert_eq!(result, expected, "{name}");
        }
        assert_eq!(judge_gfid(&answers([Found(1), Nothing, Nothing]), AUTO), Judgement::Doubtful);
        assert_eq!(judge_gfid(&answers([Found(1), Found(1), enoent]), AUTO), Judgement::Agreed);
        assert_eq!(judge_gfid(&answers([enoent, enoent, enoent]), AUTO), Judgement::Absent);
    }

    #[test]
    fn a_changed_gfid_is_looked_up_again() {
        let mut answers = answers([Found(1), Found(1), Found(1)]);
        if let Some((_, Ok(reply))) = answers.last_mut() {
            reply.xdata.set(GFID_CHANGED, Value::Int(1));
        }
        assert!(matches!(judge_name(&answers, ChildSet::EMPTY, AUTO), Judgement::Fails(Errno::ESTALE, _)));
    }

    #[test]
    fn without_a_good_copy() {
        let all = ChildSet::all(3);
        for (found, chosen, rules, expected) in [
            (all, None, AUTO, None),
            (all, Some(2), AUTO, Some(2)),
            (all.without(0), Some(2), AUTO, None),
            (all.without(0), Some(2), NONE, Some(1)),
        ] {
            assert_eq!(without_good_copy(found, chosen, rules), expected);
        }
    }

    #[test]
    fn the_parents_attributes() {
        let cases = [
            (&[0, 1, 2][..], Some(1), &[0, 1, 2][..], Some(1)),
            (&[0, 2], Some(1), &[1, 2], Some(2)),
            (&[0, 2], None, &[], Some(0)),
            (&[0, 2], Some(1), &[1], Some(0)),
            (&[], Some(1), &[1], None),
        ];
        for (found, read_from, good, expected) in cases {
            assert_eq!(parent_source(set(found), read_from, set(good)), expected);
        }
    }
}
