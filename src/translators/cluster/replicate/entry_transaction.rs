//! How a name changes on all copies (`afr_transaction`, types ENTRY and ENTRY_RENAME).
//!
//! Lock the names; when a copy is missing, note on the others that something begins; do it; note who missed it; unlock.
//! While all copies are there nothing is noted: two rounds, and the second one answers the application.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Errno, Gfid};
use smallvec::SmallVec;

use super::changelog::{Counters, Kind};
use super::child_set::ChildSet;
use super::core::{ARBITER, Call, Core, Replies, Reply, in_background, successes, with_own_locks};
use super::entry_answer::{Answer, combine};
use super::entry_copies::Accused;
use super::entry_verdict::{Facts, Verdict, doubt, judge};
use super::errors::final_error;
use super::family::Snapshot;
use super::lock::Lockee;
use super::new_entry;
use super::target::Target;
use crate::reply::RemoveReply;
use crate::translators::cluster::join_all;
use crate::{Context, FopError, FopResult, Inode, Translator};

/// A name in a directory.
#[derive(Clone)]
pub(super) struct Name {
    pub(super) parent: Arc<Inode>,
    pub(super) name: Bytes,
}

/// A fop that changes names.
pub(super) trait Operation: Send + Sync + 'static {
    /// Its answer.
    type Answer: Answer;

    /// Does it on one copy.
    fn call<'a>(&'a self, child: &'a Arc<dyn Translator>, context: &'a Context) -> Call<'a, Self::Answer>;

    /// The inode whose name it is; fresh when it is being made.
    fn inode(&self) -> &Arc<Inode>;

    /// True when it makes an object.
    fn makes(&self) -> bool {
        false
    }

    /// Whether the answer of a copy says that the name is taken: the answer becomes that failure, which is returned.
    fn finds_taken(&self, core: &Core, reply: &mut FopResult<Self::Answer>) -> Option<FopError> {
        let _ = core;
        reply.as_ref().err().filter(|error| error.errno == Errno::EEXIST).cloned()
    }

    /// The object that a copy did it to, where copies may have different ones of that name.
    fn object(&self, answer: &Self::Answer) -> Option<Gfid> {
        let _ = answer;
        None
    }

    /// What the application is told when copies did it to different objects, whatever comes of it. `None`: what the right ones said.
    fn stray_answer(&self, core: &Core) -> Option<FopError> {
        let _ = core;
        None
    }

    /// Notes what was learned from the copies that did it.
    fn done(&self, core: &Core, replies: &Replies<Self::Answer>, success: ChildSet, snapshot: Snapshot) {
        let _ = (core, replies, success, snapshot);
    }

    /// Whether this copy made something new, and did not find it.
    fn is_new(&self, answer: &Self::Answer) -> bool {
        let _ = answer;
        false
    }

    /// Removes from a copy what it made.
    fn take_back<'a>(&'a self, child: &'a Arc<dyn Translator>, context: &'a Context) -> Call<'a, RemoveReply> {
        let error = FopError::new(Errno::EOPNOTSUPP, child.name(), "take back");
        let _ = context;
        Box::pin(async move { Err(error) })
    }

    /// What was made, where other copies are to be accused of not having it.
    fn made(&self, answer: &Self::Answer) -> Option<Arc<Inode>> {
        let _ = answer;
        None
    }
}

/// One change of names.
pub(super) struct Transaction<O> {
    pub(super) core: Arc<Core>,
    /// Who asks.
    pub(super) application: Context,
    /// Name of the fop.
    pub(super) step: &'static str,
    pub(super) operation: O,
    /// The names that change; of a rename the new one first.
    pub(super) names: SmallVec<[Name; 2]>,
    /// A directory that goes: nobody may make a name in it meanwhile.
    pub(super) victim: Option<Arc<Inode>>,
}

impl<O: Operation> Transaction<O> {
    /// Runs it from beginning to end.
    pub(super) async fn run(self, reply: Reply<O::Answer>) {
        let (core, snapshot) = (&self.core, self.core.snapshot());
        if let Err(error) = core.check_quorum(snapshot, self.step) {
            return reply.send(Err(error));
        }
        let context = with_own_locks(&self.application);
        let locks = match core.lock(&context, &core.name, self.lockees(), snapshot.up).await {
            Ok(locks) => locks,
            Err(error) => return reply.send(Err(error)),
        };
        let locked = locks.children();
        if !core.has_quorum(locked) {
            let error = locks.refusal().cloned().unwrap_or_else(|| core.no_quorum(locked, self.step));
            return reply.send(Err(error));
        }
        let unmarked = core.options.optimistic_changelog && locked == core.all();
        let seem_whole = !unmarked || self.seem_whole(snapshot);
        #[cfg(test)]
        let unmarked = unmarked && (seem_whole || !super::planted::is_planted(super::planted::Fault::MarkToLearn));
        let (noted, accused) = if unmarked {
            // No mark is made to learn it: a copy that cannot do it would keep that mark, and then no heal knows which names
            // were removed (`__afr_selfheal_entry_finalize_source`).
            (None, if seem_whole { None } else { self.accused(&context, snapshot).await })
        } else {
            match self.note_begin(&context, locked).await {
                Ok(marked) => (Some(marked.on), Some(marked.accused)),
                Err(error) => return reply.send(Err(error)),
            }
        };
        let here = noted.unwrap_or(locked).and(locks.still_held());
        if here.is_empty() || !core.has_quorum(here) {
            return reply.send(Err(core.no_quorum(here, self.step)));
        }
        if let Some(why) = accused.as_ref().and_then(|accused| self.refusal(here, noted.is_some(), accused)) {
            if let Some(noted) = noted {
                // Nothing was done. A mark that stayed would have the next heal bring removed names back.
                let _ = self
                    .note_end(&context, &Verdict::of_nothing(noted, ChildSet::EMPTY), &Accused::default(), None)
                    .await;
            }
            return reply.send(Err(why));
        }
        let first = match (noted, &accused) {
            (Some(_), Some(accused)) => self.accuse_absent(&context, here, accused).await,
            _ => Ok(None),
        };
        let (here, noted, accused, early) = match first {
            Ok(Some(marked)) => (marked.on, Some(marked.on), Some(marked.accused), core.all().minus(here)),
            Ok(None) => (here, noted, accused, ChildSet::EMPTY),
            Err(error) => return reply.send(Err(error)),
        };
        let mut done = self.do_it_where_it_fits(here, &accused.clone().unwrap_or_default(), &locks).await;
        let new = self.new_ones(&done.replies);
        let stray = match self.refuse_strays(&context, &mut done.replies, snapshot).await {
            true => self.operation.stray_answer(core),
            false => None,
        };
        let stray = stray.or(done.told.take());
        let mut replies = done.replies;
        let outcomes = |replies: &Replies<O::Answer>| {
            replies.iter().map(|(index, reply)| (*index, reply.as_ref().err().map(|error| error.errno))).collect()
        };
        let mut facts = Facts {
            count: core.count(),
            quorum: core.options.quorum,
            locked,
            noted,
            accused: accused.clone().unwrap_or_default(),
            early,
            unasked: done.unasked,
            outcomes: outcomes(&replies),
        };
        if accused.is_none() && core.options.quorum.is_on() && judge(&facts).accuses() {
            // Somebody else may have accused the others meanwhile.
            facts.accused = self.accused(&context, snapshot).await.unwrap_or_default();
        }
        self.take_back(new, &facts.accused, &mut replies).await;
        facts.outcomes = outcomes(&replies);
        let verdict = judge(&facts);
        for (index, reply) in replies.iter().filter(|(index, _)| verdict.failed.contains(*index)) {
            if let Err(error) = reply {
                let gfid = self.names.first().map(|name| name.parent.gfid());
                tracing::warn!(?gfid, child = index, "missed by a copy: {error}");
            }
        }
        self.distrust(verdict.failed);
        if let Some(success) = verdict.success {
            self.operation.done(core, &replies, success, snapshot);
        }
        let parents = self.names.iter().map(|name| &name.parent);
        let answer = match verdict.success {
            Some(_) => combine(core, self.step, &replies, self.operation.inode(), parents),
            None => Err(final_error(&replies).unwrap_or_else(|| core.no_quorum(successes(&replies), self.step))),
        };
        let made = answer.as_ref().ok().filter(|_| !verdict.missed.is_empty());
        let made = made.and_then(|answer| self.operation.made(answer));
        let accusation = match &made {
            Some(made) => new_entry::accusation(made.file_type(), core.options.granular_entry_heal),
            None => Counters::of(Kind::Entry, 1),
        };
        // Where there is a thin arbiter nobody is accused, and nobody hears of success, without its word.
        let agreement = match core.ask_thin_arbiter(verdict.missed, accusation).await {
            Ok(agreement) => agreement,
            Err(error) => {
                let marks = doubt(&facts, verdict.success.unwrap_or_default());
                // The application hears of a failure, whatever comes of this.
                let _ = self.note_end(&context, &Verdict { marks, ..verdict }, &facts.accused, None).await;
                self.names.iter().for_each(|name| core.doubt_copies(&core.inode(&name.parent)));
                reply.send(Err(error));
                return locks.unlock_in_background();
            }
        };
        let answer = stray.map_or(answer, Err);
        let answer_first = verdict.answer_first && agreement.is_none();
        #[cfg(test)]
        let answer_first = answer_first || super::planted::is_planted(super::planted::Fault::AnswerBeforeNote);
        if answer_first {
            reply.send(answer);
            let marked = self.note_end(&in_background(&context), &verdict, &facts.accused, made).await;
            if let Err(error) = self.enough(marked) {
                tracing::warn!("after the answer: {error}");
            }
            self.distrust(verdict.missed.and(core.snapshot().up));
        } else {
            let marked = self.note_end(&context, &verdict, &facts.accused, made).await;
            // Who asked the copies meanwhile heard nothing of it.
            self.distrust(verdict.missed.and(core.snapshot().up));
            let settled = match &verdict.marks {
                Some(marks) if agreement.is_none() => self.settle(&context, marks, &facts.accused, marked).await,
                _ => self.enough(marked).map(drop),
            };
            let agreed = core.end_agreement(agreement);
            reply.send(answer.and_then(|answer| settled.and(agreed).map(|()| answer)));
        }
        locks.unlock_in_background();
    }

    fn lockees(&self) -> SmallVec<[Lockee; 3]> {
        let names = self.names.iter().map(|name| Lockee::name(&name.parent, &name.name));
        names.chain(self.victim.iter().map(Lockee::all_names)).collect()
    }

    /// False when copies are known to have missed names of the directories, or came back since they were looked at.
    fn seem_whole(&self, snapshot: Snapshot) -> bool {
        let core = &self.core;
        let is_whole = |name: &Name| {
            let state = core.inode(&name.parent);
            let known = core.known(&state, snapshot);
            state.readable().is_none() || known.is_some_and(|known| known.data == core.data_children())
        };
        self.names.iter().all(is_whole)
    }

    /// Asks the directories for the copies that missed names; `None` when they cannot tell.
    async fn accused(&self, context: &Context, snapshot: Snapshot) -> Option<Accused> {
        let mut accused = Accused::of(self.names.len());
        let asked = self.names.iter().map(|name| {
            let (core, target) = (&self.core, Target::Inode(name.parent.clone()));
            Box::pin(async move { core.ask_copies(context, &target, snapshot).await })
        });
        for (directory, refreshed) in join_all(asked).await.into_iter().enumerate() {
            match refreshed {
                Ok(refreshed) => accused.add(directory, self.core.accused_of_names(&refreshed)),
                Err(error) => {
                    tracing::debug!("{}: which copies missed names cannot be told: {error}", self.core.name);
                    return None;
                }
            }
        }
        Some(accused)
    }

    /// Why it must not be done on these copies only, if so.
    pub(super) fn refusal(&self, here: ChildSet, is_noted: bool, accused: &Accused) -> Option<FopError> {
        let core = &self.core;
        let detail = if is_noted && core.options.arbiter && here.minus(accused.anywhere()) == ChildSet::one(ARBITER) {
            "the only good copy of the directory here is the arbiter's, which has no data"
        } else if core.options.quorum.is_on() && accused.lacks_good(here, core.all()) {
            "each copy of the directory that is here missed names; bring back the bricks that are away, or heal it first"
        } else {
            return None;
        };
        Some(core.error(Errno::ENOTCONN, self.step).with_detail(detail))
    }

    /// A copy that failed is not read until the copies were asked again.
    fn distrust(&self, failed: ChildSet) {
        if failed.is_empty() {
            return;
        }
        self.core.inode(self.operation.inode()).set_stale();
        for name in &self.names {
            self.core.forget_copy(&self.core.inode(&name.parent), Kind::Entry, failed);
        }
    }
}
