//! Repair of copies that missed something (`afr-self-heal-*.c`).
//!
//! The self-heal daemon on the servers repairs; a client must repair names that it looks up (`name`), and may do the rest
//! in the background when the volume's options ask for it (`background`). Both follow the same rules:
//!
//! - a heal looks at *all* copies, under locks on all of them, or does nothing: a copy out of sight may be the only good one;
//! - [`direction`] tells from their changelogs who is good, `source` who is copied from and onto which ones;
//! - `data`, `metadata`, `entry` copy, and [`undo`] then subtracts from the changelogs what was seen at the beginning.
//!
//! The fops of a heal go to the children directly, as root and with the pid of healers, by which the bricks tell them from
//! the users' changes.

mod acquit;
pub(super) mod background;
mod data;
pub mod direction;
mod entry;
pub(super) mod inspect;
mod metadata;
mod name;
mod object;
mod recreate;
pub(super) mod source;
mod trash;
pub mod undo;

use std::sync::Arc;

use rgfs_protocol::types::set_attr;
use rgfs_protocol::{Dict, Errno, Iatt, Value};

use self::direction::Direction;
use self::source::{Copy, Judge, Setting, Undecided};
use super::changelog::{Counters, Kind};
use super::child_set::ChildSet;
use super::core::{ARBITER, Core, Replies, with_own_locks};
use super::lock::Locks;
use super::target::Target;
use crate::reply::LookupReply;
use crate::{Context, FopError, FopResult, Inode, Loc};

pub use self::object::HealOutcome;

/// The pid of healers (`GF_CLIENT_PID_SELF_HEALD`).
pub(super) const HEAL_PID: i32 = -6;

/// The step of a heal command that makes no sense for the object: its detail is what upstream's tools show.
pub(super) const REFUSED: &str = "follow a heal command";

/// Who heals: root, with locks of its own.
pub(super) fn healer() -> Context {
    with_own_locks(&Context { pid: HEAL_PID, ..Context::internal() })
}

impl Core {
    /// What decisions about sources depend on.
    pub(super) fn setting(&self) -> Setting {
        use std::sync::atomic::Ordering;
        Setting { arbiter: self.options.arbiter.then_some(ARBITER), preferred: self.preferred.load(Ordering::Relaxed) }
    }

    /// Who ends split-brains without being asked.
    pub(super) fn judge(&self) -> Judge {
        Judge::Options { favorite: self.options.favorite_child, force_metadata: self.options.force_metadata_heal }
    }

    /// The keys with which healers look things up. `inodelk-dom-prefix` asks who holds locks: users, and healers.
    pub(super) fn heal_request(&self) -> Dict {
        let mut xdata = self.keys.request(Dict::empty());
        xdata.set("list-xattr", Value::Int(1));
        xdata.set("glusterfs.multi-dom-lk-cnt-req", Value::Uint(1));
        for domain in [&self.name, &self.heal_domain] {
            xdata.set(lock_count_key(domain), Value::Uint(1));
        }
        xdata
    }

    /// Looks an inode up by its gfid on these children.
    pub(super) async fn look_at(&self, context: &Context, inode: &Arc<Inode>, on: ChildSet) -> Replies<LookupReply> {
        let loc = Loc::inode(inode.clone());
        let request = self.heal_request();
        let (loc, request) = (&loc, &request);
        self.ask(on, |_, child| {
            let request = request.clone();
            Box::pin(async move { child.lookup(context, loc, request).await })
        })
        .await
    }

    /// What all children know of an inode; call it under locks.
    ///
    /// # Errors
    /// ENOTCONN when any child does not answer well: then nothing may be healed.
    pub(super) async fn copies(&self, context: &Context, inode: &Arc<Inode>) -> FopResult<Vec<Copy>> {
        let replies = self.look_at(context, inode, self.all()).await;
        replies
            .into_iter()
            .map(|(index, reply)| Ok(self.copy(reply.map_err(|error| self.unseen(index, &error))?)))
            .collect()
    }

    pub(super) fn copy(&self, reply: LookupReply) -> Copy {
        Copy { stat: reply.stat, marks: self.keys.read(&reply.xdata), xdata: reply.xdata }
    }

    fn unseen(&self, index: usize, error: &FopError) -> FopError {
        let text = format!("a heal must see all copies, but {}: {error}", self.child(index).name());
        self.error(Errno::ENOTCONN, "heal").with_detail(text)
    }

    /// Fails unless all children granted the locks, and still hold them. The locks are given back then.
    pub(super) async fn insist_on_all(&self, locks: Locks) -> FopResult<Locks> {
        if locks.still_held() == self.all() {
            return Ok(locks);
        }
        let held = locks.still_held();
        locks.unlock().await;
        Err(self.no_quorum(held, "lock for a heal").with_errno(Errno::ENOTCONN))
    }

    /// The direction of a heal, from the changelogs of all children.
    pub(super) fn direction(&self, kind: Kind, copies: &[Copy]) -> Direction {
        let marks: Vec<_> = copies.iter().map(|copy| copy.marks.clone()).collect();
        Direction::find(kind, &marks, self.options.quorum.number(self.count()))
    }

    /// The error of a heal without a source.
    pub(super) fn undecided(&self, inode: &Inode, why: Undecided) -> FopError {
        let text = match why {
            Undecided::SplitBrain => {
                format!("{} is in split-brain; choose the copy to keep with `gluster volume heal`", inode.gfid())
            }
            Undecided::NotSplit => "it is not in split-brain".to_owned(),
            Undecided::Refused(text) => return self.error(Errno::EIO, REFUSED).with_detail(text),
        };
        self.error(Errno::EIO, "heal").with_detail(text)
    }

    /// The end of a heal, under locks on all children: the sinks get the times of the source, and the changelogs forget what
    /// was `observed` at the beginning.
    ///
    /// # Errors
    /// ENOTCONN when the source was accused of something since: what was copied from it may be old.
    pub(super) async fn conclude(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        kind: Kind,
        end: &Conclusion<'_>,
    ) -> FopResult<()> {
        let now = self.copies(context, inode).await?;
        let healed = end.sinks.minus(end.unhealed);
        if let Some(source) = end.source {
            let seen = |copies: &[Copy]| -> Vec<i32> {
                let of = |copy: &Copy| copy.marks.pending.get(source).map_or(0, |counters| counters.get(kind));
                copies.iter().map(of).collect()
            };
            if seen(&now) != seen(end.observed) {
                let text = format!("{} missed something meanwhile", self.child(source).name());
                return Err(self.error(Errno::EAGAIN, "heal").with_detail(text));
            }
            if let Some(copy) = now.get(source) {
                self.give_times(context, inode, healed, &copy.stat).await;
            }
        }
        let marks: Vec<_> = end.observed.iter().map(|copy| copy.marks.clone()).collect();
        let xdata = match kind == Kind::Entry && self.options.granular_entry_heal {
            true => Dict::empty().with("glusterfs.xattrop-purge-index", Value::Int(1)),
            false => Dict::NULL,
        };
        let target = Target::Inode(inode.clone());
        for (child, undo) in undo::undo(kind, &marks, end.unhealed, end.whole).into_iter().enumerate() {
            let Some(undo) = undo else { continue };
            let of = |index: usize| undo.pending.get(index).copied().unwrap_or(Counters::ZERO);
            let delta = self.keys.delta(of, Some(undo.dirty));
            // A child that cannot forget is looked at again by the next heal.
            if let Err(error) = target.xattrop(self.child(child), context, delta, xdata.clone()).await {
                tracing::debug!("{}: the changelog of {} was not cleared: {error}", self.name, inode.gfid());
            }
        }
        Ok(())
    }

    async fn give_times(&self, context: &Context, inode: &Arc<Inode>, to: ChildSet, stat: &Iatt) {
        let valid = set_attr::ATIME | set_attr::MTIME | set_attr::CTIME;
        let loc = &Loc::inode(inode.clone());
        // Times alone are not worth a failed heal.
        self.ask(to, |_, child| child.setattr(context, loc, stat, valid, Dict::NULL)).await;
    }
}

/// How a heal ended.
pub(super) struct Conclusion<'a> {
    /// The copy that was copied from.
    pub(super) source: Option<usize>,
    /// The copies that were changed.
    pub(super) sinks: ChildSet,
    /// Those of them that could not be.
    pub(super) unhealed: ChildSet,
    /// What was seen before.
    pub(super) observed: &'a [Copy],
    /// An entry heal that saw all names.
    pub(super) whole: bool,
}

/// The key that asks for, and answers, the number of locks in a domain.
pub(super) fn lock_count_key(domain: &str) -> String {
    format!("glusterfs.inodelk-dom-prefix:{domain}")
}

#[cfg(test)]
mod tests;
