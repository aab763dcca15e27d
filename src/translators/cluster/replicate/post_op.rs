//! The end of a session: what is written becomes durable, what copies missed is noted on the others, and the lock is given
//! back (`afr_changelog_post_op`).

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rgfs_protocol::Dict;

use super::changelog::{Counters, Kind};
use super::child_set::ChildSet;
use super::core::{ARBITER, Call, Core, Replies, successes};
use super::inode_state::InodeState;
use super::member::Closing;
use super::pre_op::{Held, Shared, lock, session_of};
use super::requests;
use super::session::Ledger;
use super::target::Target;
use crate::reply::XattrReply;
use crate::translators::cluster::join_all;
use crate::{Context, Fd, FopResult, task};

impl Core {
    /// XATTROP on some copies, with what `delta` says for each; copies without a delta are left out.
    pub(super) async fn add_to_changelog(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        children: ChildSet,
        delta: impl Fn(usize) -> Option<Dict>,
    ) -> Replies<XattrReply> {
        let deltas: Vec<(usize, Dict)> = children.iter().filter_map(|index| Some((index, delta(index)?))).collect();
        let calls = deltas.iter().map(|(index, delta)| -> Call<'_, XattrReply> {
            let child = self.child(*index);
            target.xattrop(child, context, delta.clone(), Dict::NULL)
        });
        let answers = join_all(calls).await;
        deltas.iter().map(|(index, _)| *index).zip(answers).collect()
    }

    /// Closes a session: what is written becomes durable, what copies missed is noted on the others, the dirty marks go,
    /// and the lock is given back (`afr_changelog_post_op`).
    pub(super) async fn close(self: &Arc<Self>, state: &Arc<InodeState>, kind: Kind) {
        let mut closing = Closing::new(self, state, kind);
        let (held, ledger) = {
            let mut session = lock(session_of(state, kind));
            (session.lock.take(), std::mem::take(&mut session.ledger))
        };
        if let Some(Held { locks, target, shared }) = held {
            closing.holds(&target, &shared);
            let noted = self.note(kind, &target, &shared, ledger).await;
            if noted.as_ref().map_or(true, |(_, accused)| !accused.and(self.snapshot().up).is_empty()) {
                // Who asked the copies until now heard nothing of it; or which copy is the good one is open again.
                state.set_stale();
            }
            let noted = noted.map(|(noted, _)| noted);
            let waiting = std::mem::take(&mut *shared.after_close.lock().unwrap_or_else(PoisonError::into_inner));
            for waiting in waiting {
                let _ = waiting.send(noted.clone());
            }
            locks.unlock().await;
        }
    }

    /// The post-op. Returns the copies on which everything is noted, and those that are accused.
    ///
    /// # Errors
    /// When a thin arbiter does not agree to what would be noted; then nothing is, and the dirty marks stay.
    async fn note(
        self: &Arc<Self>,
        kind: Kind,
        target: &Target,
        shared: &Shared,
        mut ledger: Ledger,
    ) -> FopResult<(ChildSet, ChildSet)> {
        // Where the lock was lost somebody else may have it, and count on what the marks said until now.
        let reachable = || shared.usable.and(self.snapshot().up).and(self.unchanged_since(shared.generation));
        let mut reach = reachable();
        if ledger.unstable && shared.dirty && self.options.ensure_durability && !ledger.unclear {
            self.make_durable(target, shared, reach, &mut ledger).await;
            // Copies may have gone while that took its time: those that are left must be enough to accuse anybody.
            reach = reachable();
        }
        if !self.accused_by(&ledger, shared).is_empty() && !self.has_quorum(reach) {
            // Elsewhere another client may see just the other copies, and accuse ours. Then nobody would be good.
            ledger.give_up();
        }
        let accused = self.accused_by(&ledger, shared);
        let agreement = self.ask_thin_arbiter(accused, Counters::of(kind, 1)).await?;
        let first = self.accuses_first(kind, shared, &ledger).and(reach);
        let mut replies = self.write_notes(kind, target, shared, &ledger, first).await;
        if !first.is_empty() {
            reach = reachable().minus(first);
            if !self.has_quorum(reach.union(successes(&replies))) {
                ledger.give_up();
            }
        }
        replies.extend(self.write_notes(kind, target, shared, &ledger, reach).await);
        for error in replies.iter().filter_map(|(_, reply)| reply.as_ref().err()) {
            tracing::warn!(gfid = %target.inode().gfid(), "the changelog could not be written: {error}");
        }
        self.end_agreement(agreement)?;
        Ok((successes(&replies), accused))
    }

    /// The copies that missed something of the session.
    fn accused_by(&self, ledger: &Ledger, shared: &Shared) -> ChildSet {
        let absent = if ledger.done { self.all().minus(shared.locked) } else { ChildSet::EMPTY };
        ledger.failed().union(absent)
    }

    /// The arbiter, when it is news that one of the two copies of data missed something. If only the other copy said so, and
    /// then went, those who see the first one would go on with the arbiter and accuse the other: the only good one would be
    /// the arbiter, which has no data. If only the arbiter says so, they are refused until the other copy is back.
    fn accuses_first(&self, kind: Kind, shared: &Shared, ledger: &Ledger) -> ChildSet {
        let is_news = shared.unsettled || !ledger.failed().is_empty();
        let of_data = kind == Kind::Data && !self.accused_by(ledger, shared).and(self.data_children()).is_empty();
        if self.options.arbiter && is_news && of_data { ChildSet::one(ARBITER) } else { ChildSet::EMPTY }
    }

    /// Notes the end of a session on some copies.
    async fn write_notes(
        self: &Arc<Self>,
        kind: Kind,
        target: &Target,
        shared: &Shared,
        ledger: &Ledger,
        on: ChildSet,
    ) -> Replies<XattrReply> {
        let absent = self.accused_by(ledger, shared).minus(shared.locked);
        let accuse = Counters::of(kind, 1);
        let delta = |index: usize| {
            let missed = ledger.missed.get(index).copied().unwrap_or_default().union(absent);
            let clears = shared.dirty && !ledger.unclear && !ledger.failed().contains(index);
            // Changes of attributes begin without a mark. One that few copies did is marked now: nobody is accused, for
            // elsewhere others may have done another one.
            let begun = !shared.dirty && ledger.half_done.contains(index);
            if missed.is_empty() && !clears {
                return begun.then(|| self.keys.only_dirty(accuse));
            }
            let pending = |other| if missed.contains(other) { accuse } else { Counters::ZERO };
            let dirty = Counters::of(kind, i32::from(begun) - i32::from(clears));
            Some(self.keys.delta(pending, Some(dirty)))
        };
        self.add_to_changelog(&shared.context, target, on, delta).await
    }

    /// FSYNC before the changelog says that all is well. A copy that cannot do it, or that was away since it took a write,
    /// may have lost what was written.
    async fn make_durable(self: &Arc<Self>, target: &Target, shared: &Shared, reach: ChildSet, ledger: &mut Ledger) {
        let Target::Fd(fd) = target else { return };
        #[cfg(test)]
        if super::planted::is_planted(super::planted::Fault::SkipSync) {
            return;
        }
        let xdata = requests::internal_fsync();
        let replies = self.ask(reach, |_, child| child.fsync(&shared.context, fd, true, xdata.clone())).await;
        let durable = successes(&replies);
        let lost = shared.usable.minus(durable);
        if lost.is_empty() {
            return;
        }
        // The only good copy is not accused: none would be left. Nor do few copies accuse the others, those that were away
        // from the beginning included: whoever sees just those may have accused ours (`afr_handle_quorum`).
        let good = ChildSet(shared.good.load(Ordering::Acquire));
        if self.has_quorum(durable) && !durable.and(good).is_empty() {
            ledger.note_done(durable, lost);
        } else {
            ledger.give_up();
        }
    }

    /// A descriptor of this fd was closed: no more writes are to be expected through it, so the next one who wants the
    /// lock shall not have to wait for the delay. Does not wait.
    pub(super) fn flush_session(self: &Arc<Self>, fd: &Arc<Fd>) {
        let state = self.inode(&fd.inode);
        let Some(sessions) = state.open_sessions() else { return };
        let close = {
            let mut session = lock(&sessions.data);
            let same = |held: &Held| matches!(&held.target, Target::Fd(last) if Arc::ptr_eq(last, fd));
            session.lock.as_ref().is_some_and(same) && session.end_if_idle()
        };
        if close {
            self.close_in_background(&state, Kind::Data);
        }
    }

    /// Whether a session is open that a change of this fd could join. One that ends does not count: who waits for the next
    /// may have to wait for other clients.
    pub(super) fn is_session_open(&self, fd: &Fd) -> bool {
        let state = self.inode(&fd.inode);
        state.open_sessions().is_some_and(|sessions| lock(&sessions.data).is_joinable())
    }

    /// Closes a session that is ready for it, without waiting.
    pub(super) fn close_in_background(self: &Arc<Self>, state: &Arc<InodeState>, kind: Kind) {
        let (core, state, unfinished) = (self.clone(), state.clone(), self.unfinished());
        task::spawn(async move {
            let _unfinished = unfinished;
            core.close(&state, kind).await;
        });
    }
}
