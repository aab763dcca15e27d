//! Asks all copies of an inode how they are (`afr_inode_refresh`), when what is remembered is too old to go by.

use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::{Dict, Errno, Iatt};

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::core::{Call, Core, Replies, successes};
use super::errors::final_error;
use super::family::Snapshot;
use super::favorite;
use super::inode_state::{InodeState, Readable};
use super::readable::{Verdict, View, Views, usable};
use super::requests::LINK_COUNT;
use super::target::Target;
use crate::reply::StatReply;
use crate::{Context, FopError, FopResult, Loc, Translator};

/// When bricks were asked whether they have heals pending.
#[derive(Clone, Copy)]
pub(super) struct AskedForHeals {
    doubts: u32,
    at: Duration,
}

/// What all copies said.
pub(super) struct Refreshed {
    readable: Readable,
    replies: Replies<StatReply>,
    up: ChildSet,
}

impl Core {
    /// The copies that an operation of a kind may use: by what is remembered, else by what the copies say.
    ///
    /// # Errors
    /// EIO when none is good (split-brain), and what most copies said when fewer answer well than the quorum needs.
    pub(super) async fn readable_for(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        kind: Kind,
        snapshot: Snapshot,
    ) -> FopResult<ChildSet> {
        let is_dir = target.inode().is_dir();
        let known = self.known(&self.inode(target.inode()), snapshot);
        if let Some(copies) = known.and_then(|known| usable(&known, kind, is_dir, false, snapshot.up)) {
            return Ok(copies);
        }
        let refreshed = self.ask_copies_for(context, target, kind, false, snapshot).await?;
        refreshed.usable(target, kind, false).ok_or_else(|| self.split_brain(&refreshed))
    }

    /// What is remembered of an inode, if that was learned from the children as they are now.
    pub(super) fn known(&self, state: &InodeState, snapshot: Snapshot) -> Option<Readable> {
        state.readable().filter(|known| known.generation == snapshot.generation && !state.is_stale())
    }

    /// [`Core::ask_copies`]. When no copy is good for operations of a kind, the favorite-child policy ends that first if it
    /// can: not only to read the favorite, but also so that it can be written to.
    pub(super) async fn ask_copies_for(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        kind: Kind,
        attributes: bool,
        snapshot: Snapshot,
    ) -> FopResult<Refreshed> {
        let refreshed = self.ask_copies(context, target, snapshot).await?;
        if self.options.favorite_child.is_some() && refreshed.usable(target, kind, attributes).is_none() {
            match self.end_split_brain_by_policy(target.inode()).await {
                Ok(true) => return self.ask_copies(context, target, snapshot).await,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "a split-brain stays"),
            }
        }
        Ok(refreshed)
    }

    /// Asks the copies, and remembers which are good.
    pub(super) async fn ask_copies(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        snapshot: Snapshot,
    ) -> FopResult<Refreshed> {
        if snapshot.up.is_empty() {
            return Err(self.no_quorum(snapshot.up, "refresh"));
        }
        let state = self.inode(target.inode());
        let (doubts, behind) = (state.doubts(), state.behind());
        let heals = self.ask_for_heals();
        // A file that has no name any more is reached through its fd only; where that is not open, through its gfid.
        let opened = match target {
            Target::Inode(_) => ChildSet::EMPTY,
            Target::Fd(fd) => self.fd(fd).opened(),
        };
        let loc = Loc::inode(target.inode().clone());
        let request = self.requests.refresh();
        let replies = self
            .ask(snapshot.up, |index, child| match target {
                Target::Fd(fd) if opened.contains(index) => child.fstat(context, fd, request.clone()),
                _ => look_up(context, child, &loc, request.clone()),
            })
            .await;
        let answered = successes(&replies);
        if answered.is_empty() || !self.has_quorum(answered) {
            return Err(final_error(&replies).unwrap_or_else(|| self.no_quorum(answered, "refresh")));
        }
        self.note_heals(heals, replies.iter().map(|(_, reply)| reply.as_ref().ok().map(|reply| &reply.xdata)));
        let verdict = Verdict::of(&self.views(&replies), self.options.arbiter);
        let readable = verdict.readable(snapshot.generation).without(behind);
        state.settle(readable, doubts);
        if !verdict.accused.and(snapshot.up).is_empty() {
            self.heal_in_background(target.inode());
        }
        Ok(Refreshed { readable, replies, up: snapshot.up })
    }

    fn views(&self, replies: &Replies<StatReply>) -> Views {
        let answers = replies.iter().filter_map(|(index, reply)| Some((*index, reply.as_ref().ok()?)));
        answers.map(|(index, reply)| View::read(&self.keys, index, &reply.stat, &reply.xdata)).collect()
    }

    /// Of a directory, the copies that another one says have missed names.
    pub(super) fn accused_of_names(&self, refreshed: &Refreshed) -> ChildSet {
        let marks = refreshed.replies.iter().filter_map(|(_, reply)| Some(self.keys.read(&reply.as_ref().ok()?.xdata)));
        marks.fold(ChildSet::EMPTY, |all, marks| all.union(marks.accused(Kind::Entry)))
    }

    /// The copy that the option `favorite-child-policy` prefers when they disagree; all must have answered.
    pub(super) fn favorite<'a>(&self, stats: impl Iterator<Item = &'a Iatt>) -> Option<usize> {
        let policy = self.options.favorite_child?;
        let stats: Vec<Iatt> = stats.copied().collect();
        if stats.len() != self.count() {
            return None;
        }
        favorite::of_content(policy, &stats, self.data_children())
    }

    /// Take this before bricks are asked, for [`Core::note_heals`].
    pub(super) fn ask_for_heals(&self) -> AskedForHeals {
        AskedForHeals { doubts: self.health.doubts(), at: self.clock.now() }
    }

    /// Remembers whether bricks have heals pending. One that does not tell may have (`afr_set_need_heal`).
    pub(super) fn note_heals<'a>(&self, asked: AskedForHeals, mut answers: impl Iterator<Item = Option<&'a Dict>>) {
        let pending = answers.any(|answer| answer.and_then(|answer| answer.int(LINK_COUNT)) != Some(0));
        self.health.note(pending, asked.doubts, asked.at);
    }

    /// EIO, with who accuses whom.
    pub(super) fn split_brain(&self, refreshed: &Refreshed) -> FopError {
        let mut accusations: Vec<String> = Vec::new();
        for view in self.views(&refreshed.replies) {
            let accused = view.accuses.iter().fold(ChildSet::EMPTY, |all, set| all.union(*set));
            let name = |index: usize| &**self.child(index).name();
            accusations.extend(accused.iter().map(|index| format!("{} accuses {}", name(view.child), name(index))));
            if view.bad {
                accusations.push(format!("{} is damaged", name(view.child)));
            }
        }
        let why = match accusations.is_empty() {
            true => "no copy holds data".to_owned(),
            false => format!("split-brain: {}", accusations.join(", ")),
        };
        self.error(Errno::EIO, "choose a copy").with_detail(why)
    }
}

impl Refreshed {
    /// The copies that an operation may use; see [`usable`].
    pub(super) fn usable(&self, target: &Target, kind: Kind, attributes: bool) -> Option<ChildSet> {
        // The type as the bricks tell it: an inode that is on its way to the table does not know its own yet.
        let is_dir = self.stats().next().map_or(target.inode().is_dir(), Iatt::is_dir);
        usable(&self.readable, kind, is_dir, attributes, self.up)
    }

    /// The copies that answered.
    pub(super) fn answered(&self) -> ChildSet {
        successes(&self.replies)
    }

    /// The copies that are good for everything.
    pub(super) fn good(&self) -> ChildSet {
        self.readable.both()
    }

    /// The attributes of the copies that answered, in their order.
    pub(super) fn stats(&self) -> impl Iterator<Item = &Iatt> {
        self.replies.iter().filter_map(|(_, reply)| reply.as_ref().ok()).map(|reply| &reply.stat)
    }
}

fn look_up<'a>(
    context: &'a Context,
    child: &'a Arc<dyn Translator>,
    loc: &'a Loc,
    request: Dict,
) -> Call<'a, StatReply> {
    let looked_up = child.lookup(context, loc, request);
    Box::pin(async move { looked_up.await.map(|reply| StatReply { stat: reply.stat, xdata: reply.xdata }) })
}
