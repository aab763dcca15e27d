//! How a name changes on all copies (`afr_transaction`, types ENTRY and ENTRY_RENAME).
//!
//! Lock the names; when a copy is missing, note on the others that something begins; do it; note who missed it; unlock.
//! While all copies are there nothing is noted: two rounds, and the second one answers the application.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rgfs_protocol::{Dict, Errno, Gfid, Value};
use smallvec::SmallVec;

use super::changelog::{Counters, Kind};
use super::child_set::ChildSet;
use super::core::{ARBITER, Call, Core, Replies, Reply, in_background, successes, with_own_locks};
use super::entry_answer::{Answer, combine};
use super::entry_verdict::{Facts, Marks, NameIndex, Verdict, doubt, judge};
use super::errors::final_error;
use super::family::Snapshot;
use super::lock::{Lockee, Locks};
use super::new_entry;
use super::target::Target;
use crate::reply::XattrReply;
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
        let (noted, accused) = if core.options.optimistic_changelog && locked == core.all() {
            (None, ChildSet::EMPTY)
        } else {
            match self.note_begin(&context, locked).await {
                Ok((noted, accused)) => (Some(noted), accused),
                Err(error) => return reply.send(Err(error)),
            }
        };
        let good = noted.unwrap_or(locked).and(locks.still_held());
        if good.is_empty() || !core.has_quorum(good) {
            return reply.send(Err(core.no_quorum(good, self.step)));
        }
        let mut replies = self.do_it_where_it_fits(good, accused, &locks).await;
        let stray = match self.refuse_strays(&context, &mut replies, snapshot).await {
            true => self.operation.stray_answer(core),
            false => None,
        };
        let outcomes = replies.iter().map(|(index, reply)| (*index, reply.as_ref().err().map(|error| error.errno)));
        let facts =
            Facts { count: core.count(), quorum: core.options.quorum, locked, noted, outcomes: outcomes.collect() };
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
                let _ = self.note_end(&context, &Verdict { marks, ..verdict }, None).await;
                self.names.iter().for_each(|name| core.inode(&name.parent).set_stale());
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
            if let Err(error) = self.note_end(&in_background(&context), &verdict, made).await {
                tracing::warn!("after the answer: {error}");
            }
            self.distrust(verdict.missed.and(core.snapshot().up));
        } else {
            let marked = self.note_end(&context, &verdict, made).await;
            // Who asked the copies meanwhile heard nothing of it.
            self.distrust(verdict.missed.and(core.snapshot().up));
            let agreed = core.end_agreement(agreement);
            reply.send(answer.and_then(|answer| marked.and(agreed).map(|()| answer)));
        }
        locks.unlock_in_background();
    }

    fn lockees(&self) -> SmallVec<[Lockee; 3]> {
        let names = self.names.iter().map(|name| Lockee::name(&name.parent, &name.name));
        names.chain(self.victim.iter().map(Lockee::all_names)).collect()
    }

    /// Notes on the copies that names begin to change; returns those that could note it, and those that missed names.
    async fn note_begin(&self, context: &Context, locked: ChildSet) -> FopResult<(ChildSet, ChildSet)> {
        let core = &self.core;
        let delta = core.keys.delta(|_| Counters::ZERO, Some(Counters::of(Kind::Entry, 1)));
        let mut calls: Vec<Call<'_, XattrReply>> = Vec::new();
        let mut callees = Vec::new();
        for name in &self.names {
            for index in locked.iter() {
                let xdata = self.index_key(NameIndex::Add, name);
                calls.push(self.xattrop(&name.parent, index, context, &delta, xdata));
                callees.push(index);
            }
        }
        let (mut noted, mut accused, mut last_error) = (locked, ChildSet::EMPTY, None);
        for (index, reply) in callees.into_iter().zip(join_all(calls).await) {
            match reply {
                Ok(reply) => accused = accused.union(core.keys.read(&reply.dict).accused(Kind::Entry)),
                Err(error) => {
                    noted.remove(index);
                    last_error = Some(error);
                }
            }
        }
        let sources = noted.minus(accused);
        if core.options.arbiter && sources == ChildSet::one(ARBITER) {
            let detail = "the only good copy of the directory here is the arbiter's, which has no data";
            return Err(core.error(Errno::ENOTCONN, self.step).with_detail(detail));
        }
        match last_error {
            Some(error) if noted.is_empty() || !core.has_quorum(noted) => Err(error),
            _ => Ok((noted, accused)),
        }
    }

    /// A copy that missed names may not know that a name is taken, and would make another object of that name, which no
    /// heal can put away. So where something is made, the copies that know are asked first, and the others only when it is
    /// free there.
    async fn do_it_where_it_fits(&self, good: ChildSet, accused: ChildSet, locks: &Locks) -> Replies<O::Answer> {
        let knowing = good.minus(accused);
        if !self.operation.makes() || knowing == good || knowing.is_empty() {
            return self.do_it(good, locks).await;
        }
        let mut replies = self.do_it(knowing, locks).await;
        let taken =
            replies.iter_mut().filter_map(|(_, reply)| self.operation.finds_taken(self.core.as_ref(), reply)).last();
        let others = good.minus(knowing);
        match taken {
            Some(error) => replies.extend(others.iter().map(|index| (index, Err(error.clone())))),
            None => replies.extend(self.do_it(others, locks).await),
        }
        replies.sort_by_key(|(index, _)| *index);
        replies
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

    /// A copy that failed is not read until the copies were asked again.
    fn distrust(&self, failed: ChildSet) {
        if failed.is_empty() {
            return;
        }
        self.core.inode(self.operation.inode()).set_stale();
        for name in &self.names {
            self.core.inode(&name.parent).forget_copy(Kind::Entry, failed);
        }
    }

    /// Who missed what was done, in the changelogs of the directories and of what was made.
    async fn note_end(&self, context: &Context, verdict: &Verdict, made: Option<Arc<Inode>>) -> FopResult<()> {
        if verdict.marks.is_none() && made.is_none() {
            return Ok(());
        }
        let (core, application) = (&self.core, in_background(&self.application));
        let mut calls: Vec<Call<'_, XattrReply>> = Vec::new();
        if let Some(made) = &made {
            let accusation = new_entry::accusation(made.file_type(), core.options.granular_entry_heal);
            let pending = |index| if verdict.missed.contains(index) { accusation } else { Counters::ZERO };
            let delta = core.keys.delta(pending, None);
            let on = verdict.success.unwrap_or_default();
            calls.extend(on.iter().map(|index| self.xattrop(made, index, &application, &delta, Dict::NULL)));
        }
        let ignored = calls.len();
        let mut callees = Vec::new();
        if let Some(marks) = &verdict.marks {
            let delta = self.delta(marks);
            for name in &self.names {
                for index in marks.on.iter() {
                    let xdata = self.index_key(marks.name, name);
                    calls.push(self.xattrop(&name.parent, index, context, &delta, xdata));
                    callees.push(index);
                }
            }
        }
        let mut marked = verdict.marks.map_or(ChildSet::EMPTY, |marks| marks.on);
        let mut last_error = None;
        for (index, reply) in callees.into_iter().zip(join_all(calls).await.into_iter().skip(ignored)) {
            if let Err(error) = reply {
                marked.remove(index);
                last_error = Some(error);
            }
        }
        match last_error {
            Some(error) if marked.is_empty() || !core.has_quorum(marked) => Err(error),
            _ => Ok(()),
        }
    }

    fn delta(&self, marks: &Marks) -> Dict {
        let dirty = Counters::of(Kind::Entry, marks.dirty);
        let Some(pending) = marks.pending else { return self.core.keys.only_dirty(dirty) };
        let accuse = |index| if pending.contains(index) { Counters::of(Kind::Entry, 1) } else { Counters::ZERO };
        self.core.keys.delta(accuse, Some(dirty))
    }

    /// What the index of missed names on the bricks does with a name. The bricks' self-heal daemon looks there only where
    /// the volume says so.
    fn index_key(&self, index: NameIndex, name: &Name) -> Dict {
        let key = match index {
            NameIndex::Add => "glusterfs.xattrop-entry-create",
            NameIndex::Remove => "glusterfs.xattrop-entry-delete",
            NameIndex::Leave => return Dict::NULL,
        };
        if !self.core.options.granular_entry_heal {
            return Dict::NULL;
        }
        let mut text = BytesMut::with_capacity(name.name.len() + 1);
        text.extend_from_slice(&name.name);
        text.extend_from_slice(&[0]);
        Dict::empty().with(key, Value::Str(text.freeze()))
    }

    fn xattrop<'a>(
        &'a self,
        inode: &Arc<Inode>,
        index: usize,
        context: &'a Context,
        delta: &Dict,
        xdata: Dict,
    ) -> Call<'a, XattrReply> {
        let (child, target, delta) = (self.core.child(index), Target::Inode(inode.clone()), delta.clone());
        Box::pin(async move { target.xattrop(child, context, delta, xdata).await })
    }
}
