//! Changes of content and attributes: the transaction around a fop that is sent to every copy (`afr-transaction.c`).
//!
//! Lock and mark (or join a [session](super::session) that has), send the fop to all copies, judge the answers
//! ([`super::verdict`]), answer the application, and in the end note what was missed, and unlock.
//!
//! The application hears of success right after the fop when no copy missed it. When one did, the others note that first,
//! unless they did so before: a client that dies in between would leave an acknowledged write that nobody knows to be
//! missing somewhere. The C client waits only for copies that failed in the fop, not for those that were away already.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rgfs_protocol::{Dict, Errno};
use tokio::sync::oneshot;

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::core::{ARBITER, Call, Core, Reply, to_the_end};
use super::errors::{final_error, symmetric_error};
use super::inode_state::InodeState;
use super::member::Member;
use super::pre_op::{Shared, lock, session_of, wake};
use super::requests;
use super::session::{Leaving, Range};
use super::target::Target;
use super::verdict::{self, Facts, Verdict};
use crate::reply::{PrePostReply, WriteReply, XattrReply};
use crate::translators::cluster::distribute::migration::{self, Seen};
use crate::{Context, FopError, FopResult, Translator};

/// A change to be made.
pub(super) struct Change {
    /// `Data` or `Metadata`.
    pub(super) kind: Kind,
    /// What is changed.
    pub(super) target: Target,
    /// Which part of it.
    pub(super) range: Range,
    /// Others of its kind will probably follow: the lock may be kept for a while.
    pub(super) linger: bool,
    /// Written data is on disk when the fop is answered, or nothing is written.
    pub(super) stable: bool,
    /// It brings to disk what was written before.
    pub(super) syncs: bool,
    /// The error by which a copy says that it is as the others will be: there is nothing that it could miss.
    pub(super) needless: Option<Errno>,
    /// Who changes it.
    pub(super) context: Context,
    /// Name of the fop.
    pub(super) step: &'static str,
}

/// An answer of a fop that changes content or attributes.
pub(super) trait Answer: Seen + Send + 'static {
    /// What the brick said besides.
    fn xdata(&self) -> &Dict;

    /// Bytes that were written, for fops that may do less than they were told.
    fn size(&self) -> usize {
        0
    }
}

fn shows_move<T: Answer>(reply: &FopResult<T>) -> bool {
    reply.is_ok() && migration::step(migration::Family::Change, reply) != migration::Step::Answer
}

impl Answer for WriteReply {
    fn xdata(&self) -> &Dict {
        &self.xdata
    }

    fn size(&self) -> usize {
        self.written
    }
}

impl Answer for PrePostReply {
    fn xdata(&self) -> &Dict {
        &self.xdata
    }
}

impl Answer for XattrReply {
    fn xdata(&self) -> &Dict {
        &self.xdata
    }
}

impl Answer for Dict {
    fn xdata(&self) -> &Dict {
        self
    }
}

/// Sends the fop with the arguments `A` to a child.
pub(super) type SendTo<A, T> = for<'a> fn(&'a A, usize, &'a Arc<dyn Translator>) -> Call<'a, T>;

impl Core {
    /// Makes a change on all copies.
    pub(super) async fn change<A: Send + Sync + 'static, T: Answer>(
        self: &Arc<Self>,
        change: Change,
        arguments: A,
        send: SendTo<A, T>,
    ) -> FopResult<T> {
        let (core, step) = (self.clone(), change.step);
        to_the_end(self, step, move |reply| async move { core.transact(change, arguments, send, reply).await }).await
    }

    async fn transact<A: Send + Sync + 'static, T: Answer>(
        self: &Arc<Self>,
        change: Change,
        arguments: A,
        send: SendTo<A, T>,
        reply: Reply<T>,
    ) {
        let state = self.inode(change.target.inode());
        let (member, shared) = match self.enter(&state, &change).await {
            Ok(entered) => entered,
            Err(error) => return reply.send(Err(error)),
        };
        let outcome = match self.gate(&change, &shared, &state) {
            Ok(copies) => {
                if change.syncs {
                    // What was answered until now; what is answered after this counts as unstable again.
                    lock(session_of(&state, change.kind)).ledger.unstable = false;
                }
                self.send_to(copies, &change, &shared, &state, &arguments, send).await
            }
            Err(error) => Outcome {
                result: Err(error),
                verdict: Verdict::Refused,
                contended: true,
                appended: true,
                done: ChildSet::EMPTY,
            },
        };
        self.finish(&state, member, change, shared, outcome, reply).await;
    }

    /// The copies to which the fop goes, or why it goes nowhere (`afr_transaction_fop`).
    fn gate(&self, change: &Change, shared: &Shared, state: &InodeState) -> FopResult<ChildSet> {
        let copies = shared.usable.and(self.unchanged_since(shared.generation));
        if !shared.arbiter_allows {
            return Err(self.error(Errno::ENOTCONN, change.step).with_detail("only the arbiter is up to date"));
        }
        if copies.is_empty() || !self.has_quorum(copies) {
            return Err(shared.cause.clone().unwrap_or_else(|| self.no_quorum(copies, change.step)));
        }
        if change.kind == Kind::Data && copies.and(ChildSet(shared.good.load(Ordering::Acquire))).is_empty() {
            state.set_stale();
            let detail = "no copy is good: the copies accuse each other (split-brain)";
            return Err(self.error(Errno::EIO, change.step).with_detail(detail));
        }
        Ok(copies)
    }

    /// Sends the fop to the copies, and judges the answers.
    async fn send_to<A: Send + Sync + 'static, T: Answer>(
        self: &Arc<Self>,
        copies: ChildSet,
        change: &Change,
        shared: &Shared,
        state: &InodeState,
        arguments: &A,
        send: SendTo<A, T>,
    ) -> Outcome<T> {
        let mut replies = self.ask(copies, |index, child| send(arguments, index, child)).await;
        let held = self.unchanged_since(shared.generation);
        for (index, reply) in &mut replies {
            if !held.contains(*index) {
                let error = FopError::new(Errno::ENOTCONN, self.child(*index).name(), change.step);
                *reply = Err(error.with_detail("the connection broke, and the lock with it"));
            }
        }
        let written = |reply: &FopResult<T>| reply.as_ref().ok().map(Answer::size);
        let most = replies.iter().filter_map(|(_, reply)| written(reply)).max();
        // A copy that took less than another one failed.
        let made = replies.iter().filter(|(_, reply)| reply.is_ok() && written(reply) == most);
        let made: ChildSet = made.map(|(index, _)| *index).collect();
        let needless = |reply: &FopResult<T>| {
            !made.is_empty() && reply.as_ref().is_err_and(|error| Some(error.errno) == change.needless)
        };
        let done: ChildSet = replies.iter().filter(|(_, reply)| needless(reply)).map(|(index, _)| *index).collect();
        let done = done.union(made);
        // An arbiter has no data that could have changed, and says yes to everything.
        let silent = Some(ARBITER).filter(|_| self.options.arbiter && change.kind == Kind::Data);
        let symmetric = symmetric_error(replies.iter().filter(|(index, _)| Some(*index) != silent)).is_some();
        let verdict = self.verdict(shared, done, symmetric);
        let answers = || replies.iter().filter_map(|(_, reply)| reply.as_ref().ok());
        let contended =
            answers().any(|answer| answer.xdata().int(requests::INODELK_COUNT).is_some_and(|count| count > 1));
        let appended = answers().all(|answer| answer.xdata().int(requests::WRITE_IS_APPEND).is_some_and(|is| is != 0));
        let result = match verdict {
            Verdict::Done { failed } => {
                if !failed.is_empty() {
                    for (index, reply) in &replies {
                        if let (true, Err(error)) = (failed.contains(*index), reply) {
                            tracing::warn!(gfid = %change.target.inode().gfid(), child = index, "missed by a copy: {error}");
                        }
                    }
                    self.forget_copy(state, change.kind, failed);
                }
                let moves = replies.iter().filter(|(_, reply)| shows_move(reply)).map(|(index, _)| *index).collect();
                let chosen = self.answering_child(state, made, moves);
                let chosen = replies.into_iter().find(|(index, _)| Some(*index) == chosen);
                chosen.map_or_else(|| Err(self.error(Errno::EIO, change.step)), |(_, reply)| reply)
            }
            Verdict::Refused | Verdict::Unclear => {
                if verdict == Verdict::Unclear {
                    state.set_stale();
                }
                let error = final_error(&replies).filter(|error| error.errno != Errno::ENOTCONN);
                Err(error.unwrap_or_else(|| self.no_quorum(done, change.step)))
            }
        };
        Outcome { result, verdict, contended, appended, done }
    }

    /// Judges a change. Of the copies that were good those that missed it are good no more: changes that are answered at
    /// the same time must not each lose another one of them, until none is left.
    fn verdict(&self, shared: &Shared, done: ChildSet, symmetric: bool) -> Verdict {
        let mut good = shared.good.load(Ordering::Acquire);
        loop {
            let verdict = verdict::judge(&Facts {
                count: self.count(),
                quorum: self.options.quorum,
                sent: shared.locked,
                done,
                symmetric,
                good: Some(ChildSet(good)),
            });
            let Verdict::Done { failed } = verdict else { return verdict };
            let left = good & !failed.0;
            match shared.good.compare_exchange_weak(good, left, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return verdict,
                Err(other) => good = other,
            }
        }
    }

    /// The child whose answer the application gets: one that may be read, and has data. If some of those show that the file moves, one of
    /// these. Rebalance marks the copies one by one, and reads any of them: what came to one copy before its mark may not be copied.
    pub(super) fn answering_child(&self, state: &InodeState, done: ChildSet, moves: ChildSet) -> Option<usize> {
        let readable = state.readable().map_or(done, |readable| readable.both().and(done));
        let with_data = done.and(self.data_children());
        let best = [readable.and(with_data), with_data, done].into_iter().find(|children| !children.is_empty())?;
        best.and(moves).first().or(best.first())
    }

    /// Leaves the session, answers, and closes the session if that is due.
    async fn finish<T: Answer>(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        member: Member,
        change: Change,
        shared: Arc<Shared>,
        outcome: Outcome<T>,
        reply: Reply<T>,
    ) {
        let note_first = match outcome.verdict {
            Verdict::Done { failed } => shared.unsettled || !failed.is_empty(),
            _ => false,
        };
        #[cfg(test)]
        let note_first = note_first && !super::planted::is_planted(super::planted::Fault::AnswerBeforeNote);
        let broken = note_first || outcome.verdict == Verdict::Unclear;
        let leaving = Leaving {
            end: broken,
            contended: outcome.contended,
            linger: change.linger && self.options.eager_lock && !self.options.post_op_delay.is_zero(),
        };
        let now = self.clock.now();
        let mut noted = None;
        let (after, due) = {
            let mut session = lock(session_of(state, change.kind));
            match outcome.verdict {
                Verdict::Done { failed } => {
                    session.ledger.note_done(outcome.done, failed);
                    session.behind = session.behind.union(failed);
                }
                Verdict::Unclear => {
                    session.ledger.unclear = true;
                    session.ledger.half_done = session.ledger.half_done.union(outcome.done);
                }
                Verdict::Refused => {}
            }
            session.ledger.unstable |= !change.stable && !outcome.appended && !outcome.done.is_empty();
            session.ledger.unstable |= change.syncs && outcome.result.is_err();
            if let (Some(held), Target::Fd(_)) = (&mut session.lock, &change.target) {
                held.target = change.target.clone();
            }
            if note_first {
                let (sender, receiver) = oneshot::channel();
                shared.after_close.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
                noted = Some(receiver);
            }
            let after = session.leave(member.leave(), leaving, now);
            let due = session.due(self.options.post_op_delay).filter(|_| !session.is_busy() && !session.watched);
            session.watched |= due.is_some();
            (after, due)
        };
        if let Some(due) = due {
            self.sessions.watch(self, due, state);
        }
        wake(after.wake);
        match noted {
            None => {
                reply.send(outcome.result);
                // As a task of its own: the application's task runs first.
                if after.close {
                    self.close_in_background(state, change.kind);
                }
            }
            Some(noted) => {
                if after.close {
                    self.close_in_background(state, change.kind);
                }
                let accusers = noted.await.unwrap_or_else(|_| Ok(ChildSet::EMPTY));
                reply.send(accusers.and_then(|accusers| {
                    let enough = self.has_quorum(accusers.and(outcome.done)) && !accusers.is_empty();
                    if enough { outcome.result } else { Err(self.no_quorum(accusers, change.step)) }
                }));
            }
        }
    }
}

/// What became of a change.
struct Outcome<T> {
    result: FopResult<T>,
    verdict: Verdict,
    /// Somebody else wants the lock.
    contended: bool,
    /// All copies say that data was added at the end: heal can tell by the size if it is lost.
    appended: bool,
    /// Copies that did it.
    done: ChildSet,
}
