//! The end of a split-brain by the favorite-child policy: the copies that the policy does not choose take back what they
//! say against the one that it does. That one can be read from then on, and is copied to the others by the next heal
//! (`_afr_fav_child_reset_sink_xattrs`).

use std::sync::Arc;

use rgfs_protocol::Dict;

use super::super::changelog::{Counters, Kind};
use super::super::core::{Core, to_the_end};
use super::super::lock::Lockee;
use super::super::target::Target;
use super::healer;
use super::source::{Copy, Plan, of_data, of_metadata};
use crate::{Context, FopResult, Inode};

impl Core {
    /// Ends the split-brain of an inode, if the policy has a favorite. Returns whether a copy can be read now that could not
    /// before: ask the copies again.
    ///
    /// # Errors
    /// When not all children could be locked and seen: then nothing is changed.
    pub(in super::super) async fn end_split_brain_by_policy(self: &Arc<Self>, inode: &Arc<Inode>) -> FopResult<bool> {
        if self.options.favorite_child.is_none() {
            return Ok(false);
        }
        let (core, inode) = (self.clone(), inode.clone());
        to_the_end(self, "end a split-brain", |reply| async move {
            let context = healer();
            let data = core.acquit_one(&context, &inode, Kind::Data).await;
            let metadata = core.acquit_one(&context, &inode, Kind::Metadata).await;
            reply.send(data.and_then(|data| Ok(data | metadata?)));
        })
        .await
    }

    async fn acquit_one(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>, kind: Kind) -> FopResult<bool> {
        if kind == Kind::Data && inode.is_dir() {
            return Ok(false);
        }
        let target = Target::Inode(inode.clone());
        let lockee = if kind == Kind::Data { Lockee::content(target) } else { Lockee::metadata(target) };
        let locks = self.lock_for_heal(context, &self.name, lockee, self.all()).await;
        let locks = self.insist_on_all(locks).await?;
        let result = self.acquit_locked(context, inode, kind).await;
        locks.unlock().await;
        result
    }

    async fn acquit_locked(&self, context: &Context, inode: &Arc<Inode>, kind: Kind) -> FopResult<bool> {
        let mut copies = self.copies(context, inode).await?;
        let direction = self.direction(kind, &copies);
        if !direction.is_split_brain() {
            return Ok(false);
        }
        let (setting, judge) = (self.setting(), self.judge());
        let plan = match kind {
            Kind::Metadata => of_metadata(&direction, &copies, setting, judge),
            _ => of_data(&direction, &copies, setting, judge).map(Some),
        };
        let Ok(Some(plan)) = plan else { return Ok(false) };
        if plan.by_policy {
            self.acquit(context, inode, kind, &plan, &mut copies).await?;
        }
        Ok(plan.by_policy)
    }

    /// Takes the sinks' accusations of a source that a policy chose back, and their dirty marks, so that it can be read at
    /// once (`_afr_fav_child_reset_sink_xattrs`). What was observed is corrected accordingly.
    pub(super) async fn acquit(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        kind: Kind,
        plan: &Plan,
        copies: &mut [Copy],
    ) -> FopResult<()> {
        let target = Target::Inode(inode.clone());
        for sink in plan.sinks.iter() {
            let Some(copy) = copies.get_mut(sink) else { continue };
            let seen = copy.marks.pending.get(plan.source).map_or(0, |counters| counters.get(kind));
            let dirty = copy.marks.dirty.get(kind);
            let of =
                |index| if index == plan.source { Counters::of(kind, seen.wrapping_neg()) } else { Counters::ZERO };
            let delta = self.keys.delta(of, Some(Counters::of(kind, dirty.wrapping_neg())));
            target.xattrop(self.child(sink), context, delta, Dict::NULL).await?;
            copy.marks.dirty.0[kind.index()] = 0;
            if let Some(counters) = copy.marks.pending.get_mut(plan.source) {
                counters.0[kind.index()] = 0;
            }
        }
        Ok(())
    }
}
