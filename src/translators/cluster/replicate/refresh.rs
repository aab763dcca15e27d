//! Asks all copies of an inode how they are (`afr_inode_refresh`), when what is remembered is too old to go by.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rgfs_protocol::{Dict, Errno};

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::core::{Call, Core, Replies, successes};
use super::errors::final_error;
use super::family::Snapshot;
use super::inode_state::{InodeState, Readable};
use super::readable::{Verdict, View, Views, usable};
use super::requests::LINK_COUNT;
use super::target::Target;
use crate::reply::StatReply;
use crate::{Context, FopError, FopResult, Loc, Translator};

impl Core {
    /// Asks the copies, and remembers which are good.
    ///
    /// # Errors
    /// When fewer answer well than the quorum needs: what most of them said.
    pub(super) async fn refresh(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        snapshot: Snapshot,
    ) -> FopResult<Readable> {
        self.ask_copies(context, target, snapshot).await.map(|(readable, _)| readable)
    }

    /// The copies that an operation of a kind may use: by what is remembered, else by what the copies say.
    ///
    /// # Errors
    /// EIO when none is good (split-brain), and the errors of [`Core::refresh`].
    pub(super) async fn readable_for(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        kind: Kind,
        snapshot: Snapshot,
    ) -> FopResult<ChildSet> {
        let is_dir = target.inode().is_dir();
        let known = self.known(&self.inode(target.inode()), snapshot);
        match known.and_then(|known| usable(&known, kind, is_dir, false, snapshot.up)) {
            Some(copies) => Ok(copies),
            None => self.readable_after_refresh(context, target, kind, false, snapshot).await,
        }
    }

    /// What is remembered of an inode, if that was learned from the children as they are now.
    pub(super) fn known(&self, state: &InodeState, snapshot: Snapshot) -> Option<Readable> {
        state.readable().filter(|known| known.generation == snapshot.generation && !state.is_stale())
    }

    /// [`Core::readable_for`], without going by what is remembered. `attributes` is as for [`usable`].
    pub(super) async fn readable_after_refresh(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        kind: Kind,
        attributes: bool,
        snapshot: Snapshot,
    ) -> FopResult<ChildSet> {
        let (readable, views) = self.ask_copies(context, target, snapshot).await?;
        // The type as the bricks tell it: an inode that is on its way to the table does not know its own yet.
        let is_dir =
            views.first().map_or(target.inode().is_dir(), |view| view.kind == rgfs_protocol::FileType::Directory);
        usable(&readable, kind, is_dir, attributes, snapshot.up).ok_or_else(|| self.split_brain(&views))
    }

    async fn ask_copies(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        snapshot: Snapshot,
    ) -> FopResult<(Readable, Views)> {
        if snapshot.up.is_empty() {
            return Err(self.no_quorum(snapshot.up, "refresh"));
        }
        let state = self.inode(target.inode());
        let doubts = state.doubts();
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
        self.note_heals(replies.iter().map(|(_, reply)| reply.as_ref().ok().map(|reply| &reply.xdata)));
        let views = self.views(&replies);
        let verdict = Verdict::of(&views, self.options.arbiter);
        let readable = verdict.readable(snapshot.generation);
        state.settle(readable, doubts);
        Ok((readable, views))
    }

    fn views(&self, replies: &Replies<StatReply>) -> Views {
        let answers = replies.iter().filter_map(|(index, reply)| Some((*index, reply.as_ref().ok()?)));
        answers.map(|(index, reply)| View::read(&self.keys, index, &reply.stat, &reply.xdata)).collect()
    }

    /// Remembers whether bricks have heals pending. One that does not tell may have (`afr_set_need_heal`).
    pub(super) fn note_heals<'a>(&self, mut answers: impl Iterator<Item = Option<&'a Dict>>) {
        let pending = answers.any(|answer| answer.and_then(|answer| answer.int(LINK_COUNT)) != Some(0));
        if self.heals_pending.load(Ordering::Relaxed) != pending {
            self.heals_pending.store(pending, Ordering::Relaxed);
        }
    }

    /// EIO, with who accuses whom.
    fn split_brain(&self, views: &[View]) -> FopError {
        let mut accusations: Vec<String> = Vec::new();
        for view in views {
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

fn look_up<'a>(
    context: &'a Context,
    child: &'a Arc<dyn Translator>,
    loc: &'a Loc,
    request: Dict,
) -> Call<'a, StatReply> {
    let looked_up = child.lookup(context, loc, request);
    Box::pin(async move { looked_up.await.map(|reply| StatReply { stat: reply.stat, xdata: reply.xdata }) })
}
