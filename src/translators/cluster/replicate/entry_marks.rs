//! The marks that a change of names makes on the directories: that it begins, who missed it, and that it has ended
//! (`afr_changelog_pre_op`, `afr_changelog_post_op`).
//!
//! To accuse copies is to say that others are good. Clients that see different bricks, at work in one directory at the same
//! time, may say so of different copies, and together leave none that nobody accuses. A brick adds marks one after the
//! other, and any two quorums share one: of two such clients one sees the marks of the other in the answer to its own. It
//! takes its own back, and tells the application of a failure. Upstream does not look.

use std::sync::Arc;

use bytes::BytesMut;
use rgfs_protocol::{Dict, Errno, Value};

use super::changelog::{Counters, Kind};
use super::child_set::ChildSet;
use super::core::{Call, in_background};
use super::entry_copies::Accused;
use super::entry_transaction::{Name, Operation, Transaction};
use super::entry_verdict::{Marks, NameIndex, Verdict};
use super::new_entry;
use super::target::Target;
use crate::reply::XattrReply;
use crate::translators::cluster::join_all;
use crate::{Context, FopError, FopResult, Inode};

/// What the copies answered to marks.
pub(super) struct Marked {
    /// Copies that made all of them.
    pub(super) on: ChildSet,
    /// Copies that are accused of having missed names, with these marks.
    pub(super) accused: Accused,
    error: Option<FopError>,
}

impl Marked {
    fn none() -> Self {
        Marked { on: ChildSet::EMPTY, accused: Accused::default(), error: None }
    }

    fn and(self, others: Self) -> Self {
        let (on, accused) = (self.on.union(others.on), self.accused.and(&others.accused));
        Marked { on, accused, error: self.error.or(others.error) }
    }
}

impl<O: Operation> Transaction<O> {
    /// Notes on the copies that names begin to change.
    pub(super) async fn note_begin(&self, context: &Context, locked: ChildSet) -> FopResult<Marked> {
        let delta = self.core.keys.delta(|_| Counters::ZERO, Some(Counters::of(Kind::Entry, 1)));
        self.enough(self.mark(context, locked, &delta, NameIndex::Add, Vec::new()).await)
    }

    /// Accuses the copies that are away before anything is done, when others missed names of a directory before: what is
    /// left may be the last good copy. `None` where it can wait, and the application need not.
    ///
    /// # Errors
    /// ENOTCONN, and nothing is left of it, when others accused what is left meanwhile.
    pub(super) async fn accuse_absent(
        &self,
        context: &Context,
        here: ChildSet,
        accused: &Accused,
    ) -> FopResult<Option<Marked>> {
        let core = &self.core;
        let absent = core.all().minus(here);
        if !self.keeps_a_good_copy() || !accused.grows_with(absent) {
            return Ok(None);
        }
        let accuse = |index| Counters::of(Kind::Entry, i32::from(absent.contains(index)));
        let delta = core.keys.delta(accuse, None);
        let marked = self.mark(context, here, &delta, NameIndex::Leave, Vec::new()).await;
        let on = marked.on;
        // What a copy keeps that has just gone, the others must not take back (`entry_verdict::judge`).
        let all_can = if on == here { absent } else { ChildSet::EMPTY };
        let (refused, taken_back) = match self.enough(marked) {
            Ok(marked) if marked.accused.lost_good(accused, core.all()) => (self.accused_meanwhile(), absent),
            Ok(marked) => match self.refusal(marked.on, true, &marked.accused) {
                None => return Ok(Some(marked)),
                Some(why) => (why, all_can),
            },
            Err(error) => (error, all_can),
        };
        let _ = self.note_end(context, &Verdict::of_nothing(on, taken_back), accused, None).await;
        Err(refused)
    }

    /// Who missed what was done, in the changelogs of the directories and of what was made. `accused` is what is known of
    /// the directories.
    pub(super) async fn note_end(
        &self,
        context: &Context,
        verdict: &Verdict,
        accused: &Accused,
        made: Option<Arc<Inode>>,
    ) -> Marked {
        let (core, application) = (&self.core, in_background(&self.application));
        let mut of_made: Vec<Call<'_, XattrReply>> = Vec::new();
        if let Some(made) = &made {
            let accusation = new_entry::accusation(made.file_type(), core.options.granular_entry_heal);
            let pending = |index| if verdict.missed.contains(index) { accusation } else { Counters::ZERO };
            let delta = core.keys.delta(pending, None);
            let on = verdict.success.unwrap_or_default();
            of_made.extend(on.iter().map(|index| self.xattrop(made, index, &application, &delta, Dict::NULL)));
        }
        let Some(marks) = &verdict.marks else {
            join_all(of_made).await;
            return Marked::none();
        };
        let taken_back = marks.early.minus(marks.pending.unwrap_or(marks.early));
        let first = if taken_back.is_empty() { marks.on } else { accused.first(marks.on) };
        let marked = self.mark(context, first, &self.delta(marks), marks.name, of_made).await;
        let others = marks.on.minus(first);
        if others.is_empty() {
            return marked;
        }
        // Of an accusation that the last good copies keep, the others must not lose the memory: without these they would
        // accuse them.
        let kept = if marked.on == first { ChildSet::EMPTY } else { taken_back };
        let marks = Marks { pending: marks.pending.map(|pending| pending.union(kept)), ..*marks };
        let more = self.mark(context, others, &self.delta(&marks), marks.name, Vec::new()).await;
        marked.and(more)
    }

    /// Sees whether a change that some copies missed is noted well enough for the application to hear of success. An
    /// accusation is taken back when it turns out that with it nobody is left whom nobody accuses, and where fewer than a
    /// quorum have it: whoever sees the others only does not know it, and may accuse those that do. It was done, and the
    /// copies may differ: a heal has to look at all. `before` is who was accused already: that stays.
    ///
    /// # Errors
    /// What the application is told then.
    pub(super) async fn settle(
        &self,
        context: &Context,
        marks: &Marks,
        before: &Accused,
        marked: Marked,
    ) -> FopResult<()> {
        let core = &self.core;
        let pending = marks.pending.unwrap_or_default();
        let lost_good = marked.accused.lost_good(before, core.all());
        let unknown_to_most = !core.has_quorum(marked.on);
        if !self.keeps_a_good_copy() || pending.is_empty() || !(lost_good || unknown_to_most) {
            return self.enough(marked).map(drop);
        }
        let added = if lost_good { pending } else { pending.minus(marks.early) };
        let back = |index| Counters::of(Kind::Entry, -i32::from(added.contains(index)));
        let delta = core.keys.delta(back, Some(Counters::of(Kind::Entry, 1)));
        let is_new = |directory| lost_good || before.is_news(directory, added);
        let taken = self.mark_in(is_new, context, marked.on, &delta, NameIndex::Add, Vec::new()).await;
        if let Some(error) = taken.error {
            tracing::warn!("copies of a directory may be left that all accuse each other: {error}");
        }
        self.names.iter().for_each(|name| core.doubt_copies(&core.inode(&name.parent)));
        match lost_good {
            true => Err(self.accused_meanwhile()),
            false => self.enough(marked).map(drop),
        }
    }

    /// A thin arbiter has the last word itself, and without a quorum there is none.
    fn keeps_a_good_copy(&self) -> bool {
        self.core.options.quorum.is_on() && self.core.thin_arbiter.is_none()
    }

    fn accused_meanwhile(&self) -> FopError {
        let detail = "clients that see other bricks changed names in the directory at the same time; bring back the bricks that are away";
        self.core.error(Errno::ENOTCONN, self.step).with_detail(detail)
    }

    /// The marks of which too few copies know are an error.
    pub(super) fn enough(&self, marked: Marked) -> FopResult<Marked> {
        match marked.error {
            Some(error) if marked.on.is_empty() || !self.core.has_quorum(marked.on) => Err(error),
            _ => Ok(marked),
        }
    }

    /// Adds to the changelogs of the directories, while `others` are called as well.
    async fn mark<'a>(
        &'a self,
        context: &'a Context,
        on: ChildSet,
        delta: &Dict,
        index: NameIndex,
        others: Vec<Call<'a, XattrReply>>,
    ) -> Marked {
        self.mark_in(|_| true, context, on, delta, index, others).await
    }

    /// The same in some of the directories.
    async fn mark_in<'a>(
        &'a self,
        chosen: impl Fn(usize) -> bool,
        context: &'a Context,
        on: ChildSet,
        delta: &Dict,
        index: NameIndex,
        others: Vec<Call<'a, XattrReply>>,
    ) -> Marked {
        let (skip, mut calls, mut callees) = (others.len(), others, Vec::new());
        for (directory, name) in self.names.iter().enumerate().filter(|(directory, _)| chosen(*directory)) {
            for child in on.iter() {
                let xdata = self.index_key(index, name);
                calls.push(self.xattrop(&name.parent, child, context, delta, xdata));
                callees.push((directory, child));
            }
        }
        let mut marked = Marked { on, accused: Accused::of(self.names.len()), error: None };
        for ((directory, child), reply) in callees.into_iter().zip(join_all(calls).await.into_iter().skip(skip)) {
            match reply {
                Ok(reply) => marked.accused.add(directory, self.core.keys.read(&reply.dict).accused(Kind::Entry)),
                Err(error) => {
                    marked.on.remove(child);
                    marked.error = Some(error);
                }
            }
        }
        marked
    }

    fn delta(&self, marks: &Marks) -> Dict {
        let dirty = Counters::of(Kind::Entry, marks.dirty);
        let Some(pending) = marks.pending else { return self.core.keys.only_dirty(dirty) };
        let amount = |index| i32::from(pending.contains(index)) - i32::from(marks.early.contains(index));
        self.core.keys.delta(|index| Counters::of(Kind::Entry, amount(index)), Some(dirty))
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
