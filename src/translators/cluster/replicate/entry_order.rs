//! A change of names on the copies: the good ones first, the others when these could do it; and what few made in vain is
//! taken back.

use rgfs_protocol::Errno;

use super::child_set::ChildSet;
use super::core::{Replies, in_background, successes};
use super::entry_copies::Accused;
use super::entry_transaction::{Operation, Transaction};
use super::lock::Locks;
use crate::{Context, FopError, FopResult};

/// What the copies answered.
pub(super) struct Done<T> {
    pub(super) replies: Replies<T>,
    /// Copies that were not asked, because those went away that should have done it first. Their answers are made up.
    pub(super) unasked: ChildSet,
    /// What the application is told instead of the answers.
    pub(super) told: Option<FopError>,
}

impl<O: Operation> Transaction<O> {
    /// A copy that missed names may not know that a name is taken, and would make another object of that name, which no
    /// heal can put away; or it may have a name that is none any more. So the copies that know are asked first, and the
    /// others only when they could do it.
    pub(super) async fn do_it_where_it_fits(
        &self,
        here: ChildSet,
        accused: &Accused,
        locks: &Locks,
    ) -> Done<O::Answer> {
        let first = accused.first(here);
        let mut replies = self.do_it(first, locks).await;
        let others = here.minus(first);
        if others.is_empty() {
            return Done { replies, unasked: others, told: None };
        }
        let core = &self.core;
        let taken = match self.operation.makes() {
            true => replies.iter_mut().filter_map(|(_, reply)| self.operation.finds_taken(core, reply)).last(),
            false => None,
        };
        let failed = taken.or_else(|| match successes(&replies).is_empty() {
            true => replies.iter().filter_map(|(_, reply)| reply.as_ref().err()).next_back().cloned(),
            false => None,
        });
        let Some(error) = failed else {
            replies.extend(self.do_it(others, locks).await);
            replies.sort_by_key(|(index, _)| *index);
            return Done { replies, unasked: ChildSet::EMPTY, told: None };
        };
        // Of a rename between directories, a copy that is good in one of them may not know what is in the other.
        let told = (!first.and(accused.anywhere()).is_empty()).then(|| {
            let detail = format!("no copy is good in both directories, and {error}; they must be healed first");
            core.error(Errno::EIO, self.step).with_detail(detail)
        });
        let gone = replies.iter().any(|(_, reply)| reply.as_ref().is_err_and(|error| error.errno == Errno::ENOTCONN));
        let unasked = if gone { others } else { ChildSet::EMPTY };
        replies.extend(others.iter().map(|index| (index, Err(error.clone()))));
        replies.sort_by_key(|(index, _)| *index);
        Done { replies, unasked, told }
    }

    /// The copies that made something new.
    pub(super) fn new_ones(&self, replies: &Replies<O::Answer>) -> ChildSet {
        let is_new = |reply: &FopResult<O::Answer>| reply.as_ref().is_ok_and(|answer| self.operation.is_new(answer));
        replies.iter().filter(|(_, reply)| is_new(reply)).map(|(index, _)| *index).collect()
    }

    /// Takes back what few copies made while others refused: a heal could not tell it from what was made since, and of
    /// different objects of one name none can be chosen. Upstream leaves it.
    pub(super) async fn take_back(&self, new: ChildSet, accused: &Accused, replies: &mut Replies<O::Answer>) {
        let core = &self.core;
        let stays = core.has_quorum(new) && !accused.lacks_good(new, core.all());
        if !core.options.quorum.is_on() || new.is_empty() || stays {
            return;
        }
        let errors = replies.iter().filter_map(|(_, reply)| reply.as_ref().err());
        let Some(refused) = errors.filter(|error| error.errno != Errno::ENOTCONN).last().cloned() else { return };
        let context = Context { uid: 0, gid: 0, ..in_background(&self.application) };
        for (index, taken) in core.ask(new, |_, child| self.operation.take_back(child, &context)).await {
            let slot = replies.iter_mut().find(|(of, _)| *of == index).map(|(_, reply)| reply);
            match (taken, slot) {
                (Ok(_), Some(reply)) => *reply = Err(refused.clone()),
                (Err(error), _) => tracing::warn!(child = index, "what was made there in vain stays: {error}"),
                _ => {}
            }
        }
    }

    async fn do_it(&self, good: ChildSet, locks: &Locks) -> Replies<O::Answer> {
        let core = &self.core;
        let mut replies = core.ask(good, |_, child| self.operation.call(child, &self.application)).await;
        let held = locks.still_held();
        for (index, reply) in &mut replies {
            let gone = reply.as_ref().is_err_and(|error| error.errno == Errno::ENOTCONN);
            if !gone && !held.contains(*index) {
                let error = FopError::new(Errno::ENOTCONN, core.child(*index).name(), self.step);
                *reply = Err(error.with_detail("the connection broke, and with it the lock under which it was done"));
            }
        }
        replies
    }
}
