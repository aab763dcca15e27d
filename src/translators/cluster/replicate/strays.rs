//! Copies that did a change of names to another object than the others.
//!
//! A RENAME names what it moves, and a CREATE opens what has its name. A copy that missed earlier changes may have another object of that
//! name: it succeeds, and has missed this change too. What counts are the copies that missed nothing in the directory.
//! Upstream takes such an answer for a success; afterwards the copies have different files of one name, and no mark says which is right.

use rgfs_protocol::{Errno, Gfid};
use smallvec::SmallVec;

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::core::Replies;
use super::entry_transaction::{Name, Operation, Transaction};
use super::family::Snapshot;
use super::target::Target;
use crate::{Context, FopError, FopResult};

/// The objects that copies had of one name, by child.
type Found = SmallVec<[(usize, Gfid); 3]>;

/// The right one of several objects: the one that most of the `good` copies have, those that missed nothing; of equally many the
/// `expected` one, else the first. Where no good copy has any, all copies are asked.
fn choose(found: &[(usize, Gfid)], good: ChildSet, expected: Gfid) -> Option<Gfid> {
    let known = found.iter().filter(|(index, _)| good.contains(*index)).count() > 0;
    let candidates = || found.iter().filter(|(index, _)| !known || good.contains(*index)).map(|(_, gfid)| *gfid);
    let weight = |gfid: &Gfid| (candidates().filter(|other| other == gfid).count(), *gfid == expected);
    // Of equals `max_by_key` takes the last: the first, from behind.
    let mut candidates: SmallVec<[Gfid; 3]> = candidates().collect();
    candidates.reverse();
    candidates.into_iter().max_by_key(weight)
}

impl<O: Operation> Transaction<O> {
    /// Turns the answers of copies that did it to the wrong object into failures. True when there were such.
    pub(super) async fn refuse_strays(
        &self,
        context: &Context,
        replies: &mut Replies<O::Answer>,
        snapshot: Snapshot,
    ) -> bool {
        let object = |(index, reply): &(usize, FopResult<O::Answer>)| {
            Some((*index, self.operation.object(reply.as_ref().ok()?)?))
        };
        let found: Found = replies.iter().filter_map(object).collect();
        if found.iter().all(|(_, gfid)| Some(gfid) == found.first().map(|(_, first)| first)) {
            return false;
        }
        let Some(name) = self.names.last() else { return false };
        let Some(chosen) =
            choose(&found, self.good_copies(context, name, snapshot).await, self.operation.inode().gfid())
        else {
            return false;
        };
        for (index, reply) in replies {
            if found.iter().any(|(other, gfid)| other == index && *gfid != chosen) {
                let error = FopError::new(Errno::EEXIST, self.core.child(*index).name(), self.step);
                *reply = Err(error.with_detail("this brick has another object of that name"));
            }
        }
        true
    }

    /// The copies of the directory that missed no change of names. None, when they do not tell.
    async fn good_copies(&self, context: &Context, name: &Name, snapshot: Snapshot) -> ChildSet {
        let target = Target::Inode(name.parent.clone());
        match self.core.ask_copies(context, &target, snapshot).await {
            Ok(refreshed) => refreshed.usable(&target, Kind::Entry, false).unwrap_or_default(),
            Err(_) => ChildSet::EMPTY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Gfid = Gfid([1; 16]);
    const TWO: Gfid = Gfid([2; 16]);

    #[test]
    fn copies_that_missed_nothing_are_right() {
        let good = |index| ChildSet::one(index);
        assert_eq!(choose(&[(0, ONE), (1, TWO)], good(1), ONE), Some(TWO));
        assert_eq!(choose(&[(0, ONE), (1, TWO), (2, TWO)], good(0), TWO), Some(ONE));
        assert_eq!(choose(&[(0, ONE), (1, TWO)], good(0).union(good(1)), TWO), Some(TWO), "what was meant");
    }

    #[test]
    fn else_most_of_them_are() {
        let all = ChildSet::all(3);
        assert_eq!(choose(&[(0, ONE), (1, TWO), (2, TWO)], all, ONE), Some(TWO));
        assert_eq!(choose(&[(0, ONE), (1, TWO)], ChildSet::EMPTY, Gfid([3; 16])), Some(ONE), "the first of equals");
        assert_eq!(choose(&[(1, ONE), (2, TWO)], ChildSet::one(0), TWO), Some(TWO), "the good one failed");
        assert_eq!(choose(&[], all, ONE), None);
    }
}
