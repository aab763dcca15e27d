//! Heal of attributes and extended attributes (`afr-self-heal-metadata.c`).

use std::sync::Arc;

use rgfs_protocol::types::set_attr;
use rgfs_protocol::{Dict, Errno};

use super::super::changelog::{Counters, Kind};
use super::super::child_set::ChildSet;
use super::super::core::{Core, Replies, successes, to_the_end};
use super::super::lock::Lockee;
use super::super::target::Target;
use super::inspect::differs_silently;
use super::object::Healed;
use super::source::{Copy, Judge, Plan, Undecided, is_healed, of_metadata};
use super::{Conclusion, healer};
use crate::reply::LookupReply;
use crate::{Context, FopResult, Inode, Loc, Translator};

impl Core {
    /// Heals attributes during a lookup that saw them differ on all copies although none accuses another (option
    /// `metadata-self-heal`). Returns whether the copies must be asked again.
    pub(in super::super) async fn heal_silent_difference(self: &Arc<Self>, answers: &Replies<LookupReply>) -> bool {
        let answered = answers.iter().filter_map(|(_, answer)| Some(self.copy(answer.as_ref().ok()?.clone())));
        let copies: Vec<Copy> = answered.collect();
        let Some(first) = copies.first().filter(|_| copies.len() == self.count() && differs_silently(&copies)) else {
            return false;
        };
        let inode = Inode::known(first.stat.gfid, first.stat.file_type());
        match self.heal_metadata_now(&inode).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "attributes stay different");
                false
            }
        }
    }

    async fn heal_metadata_now(self: &Arc<Self>, inode: &Arc<Inode>) -> FopResult<()> {
        let (core, inode, judge) = (self.clone(), inode.clone(), self.judge());
        to_the_end(self, "heal metadata", |reply| async move {
            reply.send(core.heal_metadata(&healer(), &inode, judge).await.map(|_| ()));
        })
        .await
    }

    /// Heals attributes. Users do not change them meanwhile: their lock is held.
    pub(super) async fn heal_metadata(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>, judge: Judge) -> Healed {
        let lockee = Lockee::metadata(Target::Inode(inode.clone()));
        let locks = self.lock_for_heal_alone(context, &self.name, lockee, self.all()).await;
        let locks = self.insist_on_all(locks).await?;
        let result = self.heal_metadata_locked(context, inode, judge).await;
        locks.unlock().await;
        result
    }

    async fn heal_metadata_locked(&self, context: &Context, inode: &Arc<Inode>, judge: Judge) -> Healed {
        let mut copies = self.copies(context, inode).await?;
        let direction = self.direction(Kind::Metadata, &copies);
        let plan = match of_metadata(&direction, &copies, self.setting(), judge) {
            Ok(Some(plan)) => plan,
            Ok(None) | Err(Undecided::NotSplit) => return Ok(false),
            Err(undecided) => return Err(self.undecided(inode, undecided)),
        };
        if direction.sources == self.all() {
            // Nobody is accused: a heal that is cut short must not look like a healthy copy.
            self.accuse(context, inode, &plan).await?;
            copies = self.copies(context, inode).await?;
        } else if plan.by_policy {
            self.acquit(context, inode, Kind::Metadata, &plan, &mut copies).await?;
        }
        let healed = self.copy_metadata(context, inode, &plan, &copies).await?;
        let end = Conclusion {
            source: Some(plan.source),
            sinks: plan.sinks,
            unhealed: plan.sinks.minus(healed),
            observed: &copies,
            whole: false,
        };
        self.conclude(context, inode, Kind::Metadata, &end).await?;
        match healed.is_empty() {
            true => Err(self.error(Errno::EIO, "heal metadata").with_detail("no copy could be changed")),
            false => Ok(true),
        }
    }

    /// Notes on all good copies that the sinks are not.
    async fn accuse(&self, context: &Context, inode: &Arc<Inode>, plan: &Plan) -> FopResult<()> {
        let of = |index| if plan.sinks.contains(index) { Counters::of(Kind::Metadata, 1) } else { Counters::ZERO };
        let (target, delta) = (&Target::Inode(inode.clone()), &self.keys.delta(of, None));
        let sources = self.all().minus(plan.sinks);
        let call = |child| Box::pin(target.xattrop(child, context, delta.clone(), Dict::NULL));
        let replies = self.ask(sources, |_, child| call(child)).await;
        replies.into_iter().try_for_each(|(_, reply)| reply.map(|_| ()))
    }

    /// Makes the sinks equal to the source; returns those for which that worked.
    async fn copy_metadata(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        plan: &Plan,
        copies: &[Copy],
    ) -> FopResult<ChildSet> {
        let loc = &Loc::inode(inode.clone());
        let Some(source) = copies.get(plan.source) else { return Ok(ChildSet::EMPTY) };
        let mut xattrs = self.child(plan.source).getxattr(context, loc, None, Dict::NULL).await?.dict;
        xattrs.retain(|key, _| is_healed(key));
        let valid = set_attr::MODE | set_attr::UID | set_attr::GID;
        let xattrs = &xattrs;
        let replies = self
            .ask(plan.sinks, |_, child| {
                Box::pin(async move {
                    child.setattr(context, loc, &source.stat, valid, Dict::NULL).await?;
                    replace_xattrs(child, context, loc, xattrs).await
                })
            })
            .await;
        Ok(successes(&replies))
    }
}

/// Gives an inode these xattrs and no others. Those that stay are never away.
async fn replace_xattrs(child: &Arc<dyn Translator>, context: &Context, loc: &Loc, xattrs: &Dict) -> FopResult<()> {
    let old = match child.getxattr(context, loc, None, Dict::NULL).await {
        Ok(reply) => reply.dict,
        Err(error) if error.errno == Errno::ENODATA => Dict::empty(),
        Err(error) => return Err(error),
    };
    let mut surplus = old;
    surplus.retain(|key, _| is_healed(key) && !xattrs.iter().any(|(kept, _)| kept.as_ref() == key));
    if !surplus.is_empty() {
        // Without a name: all that xdata names (`posix_removexattr`).
        child.removexattr(context, loc, "", surplus).await?;
    }
    if !xattrs.is_empty() {
        child.setxattr(context, loc, xattrs.clone(), 0, Dict::NULL).await?;
    }
    Ok(())
}
