//! Changes of content and attributes: the transaction around a fop that is sent to every copy (`afr-transaction.c`).
//!
//! Lock and mark (or join a [session](super::session) that has), send the fop to all copies, judge the answers
//! ([`super::verdict`]), answer the application, and in the end note what was missed, and unlock.
//!
//! The application hears of success right after the fop when no copy missed it. When one did, the others note that first,
//! unless they did so before: a client that dies in between would leave an acknowledged write that nobody knows to be
//! missing somewhere. The C client waits only for copies that failed in the fop, not for those that were away already.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rgfs_protocol::{Dict, Errno};
use smallvec::smallvec;
use tokio::sync::oneshot;

use super::changelog::{Counters, Kind};
use super::child_set::ChildSet;
use super::core::{ARBITER, Call, Core, Replies, Reply, in_background, successes, to_the_end, with_own_locks};
use super::errors::{final_error, symmetric_error};
use super::inode_state::InodeState;
use super::lock::{Lockee, Locks, METADATA_START};
use super::requests;
use super::session::{Entry, Leaving, Ledger, Range, Session, Sessions, Wake};
use super::target::Target;
use super::verdict::{self, Facts, Verdict};
use crate::reply::{PrePostReply, WriteReply, XattrReply};
use crate::{Context, Fd, FopError, FopResult, Translator, task};

/// The sessions of an inode.
pub(super) type InodeSessions = Sessions<oneshot::Sender<Wake>, Held>;
pub(super) type DataSession = Session<oneshot::Sender<Wake>, Held>;

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
    /// Who changes it.
    pub(super) context: Context,
    /// Name of the fop.
    pub(super) step: &'static str,
}

/// What a session holds.
pub(super) struct Held {
    locks: Locks,
    /// The fd of the last change, or the inode.
    target: Target,
    shared: Arc<Shared>,
}

/// What all changes of a session know.
pub(super) struct Shared {
    /// With the lock owner of the session.
    context: Context,
    /// Generation of the children in which it was locked.
    generation: u32,
    /// Copies that were locked. What is not done on all of them counts as missed by the others.
    locked: ChildSet,
    /// Those that were also marked, where that was needed.
    usable: ChildSet,
    /// The dirty mark is on them.
    dirty: bool,
    /// A child is missing, and not every copy has accused it before: what is done must be noted before it is answered. If
    /// a copy went before that, the missing child would come back beside it and look as good.
    unsettled: bool,
    /// Copies that were good when they were marked, minus those that failed since.
    good: AtomicU16,
    /// The arbiter is not the only good copy.
    arbiter_allows: bool,
    /// Why marking failed on the others.
    cause: Option<FopError>,
    /// Who wants to know where the session's notes were written.
    after_close: Mutex<Vec<oneshot::Sender<FopResult<ChildSet>>>>,
}

/// An answer of a fop that changes content or attributes.
pub(super) trait Answer: Send + 'static {
    /// What the brick said besides.
    fn xdata(&self) -> &Dict;

    /// Bytes that were written, for fops that may do less than they were told.
    fn size(&self) -> usize {
        0
    }
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
        let (number, shared) = match self.enter(&state, &change).await {
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
        self.finish(&state, number, change, shared, outcome, reply).await;
    }

    /// Opens a session or joins one.
    async fn enter(self: &Arc<Self>, state: &Arc<InodeState>, change: &Change) -> FopResult<(u64, Arc<Shared>)> {
        let session = session_of(state, change.kind);
        loop {
            let snapshot = self.snapshot();
            self.check_quorum(snapshot, change.step)?;
            if change.kind == Kind::Metadata {
                self.readable_for(&change.context, &change.target, Kind::Metadata, snapshot).await?;
            }
            let mut woken = None;
            let (number, entry, shared) = {
                let mut session = lock(session);
                let (number, entry) = session.enter(change.range, snapshot.generation, || {
                    let (sender, receiver) = oneshot::channel();
                    woken = Some(receiver);
                    sender
                });
                if matches!(entry, Entry::Open) && !self.options.eager_lock {
                    session.end_soon();
                }
                (number, entry, session.lock.as_ref().map(|held| held.shared.clone()))
            };
            match (entry, shared) {
                (Entry::Open, _) => return self.open_session(state, change, number, snapshot).await,
                (Entry::Join, Some(shared)) => return Ok((number, shared)),
                (Entry::Join, None) => return Err(self.error(Errno::EIO, change.step)),
                (Entry::Wait { close }, _) => {
                    if close {
                        self.close(state, change.kind).await;
                    }
                    let Some(woken) = woken else { continue };
                    if woken.await == Ok(Wake::Join)
                        && let Some(shared) = lock(session).lock.as_ref().map(|held| held.shared.clone())
                    {
                        return Ok((number, shared));
                    }
                }
            }
        }
    }

    /// Locks the copies and marks them dirty.
    async fn open_session(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        change: &Change,
        number: u64,
        snapshot: super::family::Snapshot,
    ) -> FopResult<(u64, Arc<Shared>)> {
        let context = with_own_locks(&change.context);
        let contended = lock(session_of(state, change.kind)).take_contended();
        let locked = self.lock_for_change(&context, change, snapshot.up, contended).await;
        let locks = match locked {
            Ok(locks) => locks,
            Err(error) => {
                self.opened(state, change.kind, None);
                return Err(error);
            }
        };
        let children = locks.children();
        // Attributes are marked only when somebody is missing: otherwise they are marked if somebody fails.
        let optimistic = self.options.optimistic_changelog && children == self.all();
        let marks = change.kind == Kind::Data || !optimistic;
        let marked = match marks {
            true => self.mark(&context, change, children).await,
            false => Marked {
                usable: children,
                good: self.good_so_far(state, change.kind, children),
                known_to_miss: ChildSet::EMPTY,
                accused: ChildSet::EMPTY,
                cause: None,
            },
        };
        // A copy that could be read, and will not get what is written now.
        let left_out = snapshot.up.minus(marked.usable);
        if !left_out.is_empty() {
            state.forget_copy(change.kind, left_out);
        }
        // A thin arbiter must agree each time: what it said before may be forgotten by now.
        let settled = if self.thin_arbiter.is_some() { ChildSet::EMPTY } else { marked.known_to_miss };
        let shared = Arc::new(Shared {
            locked: children,
            context: in_background(&context),
            generation: snapshot.generation,
            usable: marked.usable,
            unsettled: !self.all().minus(children).minus(settled).is_empty(),
            dirty: marks,
            good: AtomicU16::new(marked.good.0),
            arbiter_allows: !self.options.arbiter || verdict::arbiter_allows(marked.usable, marked.accused, ARBITER),
            cause: marked.cause,
            after_close: Mutex::default(),
        });
        self.sessions.register(change.target.inode().gfid(), change.kind, state);
        self.opened(state, change.kind, Some(Held { locks, target: change.target.clone(), shared: shared.clone() }));
        Ok((number, shared))
    }

    async fn lock_for_change(
        self: &Arc<Self>,
        context: &Context,
        change: &Change,
        up: ChildSet,
        contended: bool,
    ) -> FopResult<Locks> {
        let (start, len) = if change.kind == Kind::Metadata { (METADATA_START, 0) } else { (0, 0) };
        let lockee = Lockee::Range { target: change.target.clone(), start, len };
        let locks = match contended {
            true => self.wait_for_locks(context, &self.name, smallvec![lockee], up).await?,
            false => self.lock(context, &self.name, smallvec![lockee], up).await?,
        };
        let children = locks.children();
        if self.has_quorum(children) {
            return Ok(locks);
        }
        locks.unlock().await;
        Err(self.no_quorum(children, change.step))
    }

    /// Tells the session that it is open, or that it could not be opened.
    fn opened(&self, state: &Arc<InodeState>, kind: Kind, held: Option<Held>) {
        let (behind, now) = (held.as_ref().map(|held| self.all().minus(held.shared.usable)), self.clock.now());
        let after = {
            let mut session = lock(session_of(state, kind));
            session.behind = behind.unwrap_or_default();
            session.opened(held, now)
        };
        wake(after.wake);
    }

    /// Adds the dirty mark, and reads what the copies say of each other.
    async fn mark(self: &Arc<Self>, context: &Context, change: &Change, children: ChildSet) -> Marked {
        let dirty = Counters::of(change.kind, 1);
        let delta = self.keys.delta(|_| Counters::ZERO, Some(dirty));
        let replies = self.add_to_changelog(context, &change.target, children, |_| Some(delta.clone())).await;
        let usable = successes(&replies);
        let (mut accused, mut known_to_miss) = (ChildSet::EMPTY, self.all());
        for reply in replies.iter().filter_map(|(_, reply)| reply.as_ref().ok()) {
            let by_this = self.keys.read(&reply.dict).accused(change.kind);
            (accused, known_to_miss) = (accused.union(by_this), known_to_miss.and(by_this));
        }
        let good = usable.minus(accused).and(self.data_children());
        Marked { usable, good, accused, known_to_miss, cause: final_error(&replies) }
    }

    /// The good copies by what is remembered; all that were locked if nothing is.
    fn good_so_far(&self, state: &InodeState, kind: Kind, locked: ChildSet) -> ChildSet {
        state.readable().map_or(locked, |readable| readable.of(kind))
    }

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
        let answers = crate::translators::cluster::join_all(calls).await;
        deltas.iter().map(|(index, _)| *index).zip(answers).collect()
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
        let done = replies.iter().filter(|(_, reply)| reply.is_ok() && written(reply) == most);
        let done: ChildSet = done.map(|(index, _)| *index).collect();
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
                        if let Err(error) = reply {
                            tracing::warn!(gfid = %change.target.inode().gfid(), child = index, "missed by a copy: {error}");
                        }
                    }
                    state.forget_copy(change.kind, failed);
                }
                let chosen = self.answering_child(state, done);
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

    /// The child whose answer the application gets: one that may be read, and has data.
    pub(super) fn answering_child(&self, state: &InodeState, done: ChildSet) -> Option<usize> {
        let readable = state.readable().map_or(done, |readable| readable.both().and(done));
        let with_data = done.and(self.data_children());
        readable.and(with_data).first().or(with_data.first()).or(done.first())
    }

    /// Leaves the session, answers, and closes the session if that is due.
    async fn finish<T: Answer>(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        number: u64,
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
            let after = session.leave(number, leaving, now);
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

    /// Closes a session: what is written becomes durable, what copies missed is noted on the others, the dirty marks go,
    /// and the lock is given back (`afr_changelog_post_op`).
    pub(super) async fn close(self: &Arc<Self>, state: &Arc<InodeState>, kind: Kind) {
        let session = session_of(state, kind);
        let (held, ledger) = {
            let mut session = lock(session);
            (session.lock.take(), std::mem::take(&mut session.ledger))
        };
        if let Some(Held { locks, target, shared }) = held {
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
            self.sessions.forget(target.inode().gfid(), kind, state);
        }
        let woken = lock(session).closed();
        wake(woken);
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
        let reach = shared.usable.and(self.snapshot().up).and(self.unchanged_since(shared.generation));
        if ledger.unstable && shared.dirty && self.options.ensure_durability && !ledger.unclear {
            self.make_durable(target, shared, reach, &mut ledger).await;
        }
        let absent = if ledger.done { self.all().minus(shared.locked) } else { ChildSet::EMPTY };
        let accused = ledger.failed().union(absent);
        if !accused.is_empty() && !self.has_quorum(reach) {
            // Elsewhere another client may see just the other copies, and accuse ours. Then nobody would be good.
            ledger.give_up();
        }
        let failed = ledger.failed();
        let absent = if ledger.done { absent } else { ChildSet::EMPTY };
        let accuse = Counters::of(kind, 1);
        let agreement = self.ask_thin_arbiter(failed.union(absent), accuse).await?;
        let delta = |index: usize| {
            let missed = ledger.missed.get(index).copied().unwrap_or_default().union(absent);
            let clears = shared.dirty && !ledger.unclear && !failed.contains(index);
            // Changes of attributes begin without a mark. One that few copies did is marked now: nobody is accused, for
            // elsewhere others may have done another one.
            let begun = !shared.dirty && ledger.half_done.contains(index);
            if missed.is_empty() && !clears {
                return begun.then(|| self.keys.only_dirty(Counters::of(kind, 1)));
            }
            let pending = |other| if missed.contains(other) { accuse } else { Counters::ZERO };
            let dirty = Counters::of(kind, i32::from(begun) - i32::from(clears));
            Some(self.keys.delta(pending, Some(dirty)))
        };
        let replies = self.add_to_changelog(&shared.context, target, reach, delta).await;
        for error in replies.iter().filter_map(|(_, reply)| reply.as_ref().err()) {
            tracing::warn!(gfid = %target.inode().gfid(), "the changelog could not be written: {error}");
        }
        self.end_agreement(agreement)?;
        Ok((successes(&replies), failed.union(absent)))
    }

    /// FSYNC before the changelog says that all is well. A copy that cannot do it, or that was away since it took a write,
    /// may have lost what was written.
    async fn make_durable(self: &Arc<Self>, target: &Target, shared: &Shared, reach: ChildSet, ledger: &mut Ledger) {
        let Target::Fd(fd) = target else { return };
        let xdata = requests::internal_fsync();
        let replies = self.ask(reach, |_, child| child.fsync(&shared.context, fd, true, xdata.clone())).await;
        let durable = successes(&replies);
        let lost = shared.usable.minus(durable);
        if lost.is_empty() {
            return;
        }
        // The only good copy is not accused: none would be left.
        let good = ChildSet(shared.good.load(Ordering::Acquire));
        if self.has_quorum(durable) && !durable.and(good).is_empty() {
            ledger.note_done(durable, lost);
        } else {
            ledger.unclear = true;
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

/// What marking told.
struct Marked {
    usable: ChildSet,
    good: ChildSet,
    /// Accused by any copy.
    accused: ChildSet,
    /// Accused by every copy.
    known_to_miss: ChildSet,
    cause: Option<FopError>,
}

/// The session of an inode for a kind of change.
pub(super) fn session_of(state: &InodeState, kind: Kind) -> &Mutex<DataSession> {
    let sessions = state.sessions();
    if kind == Kind::Metadata { &sessions.metadata } else { &sessions.data }
}

fn lock(session: &Mutex<DataSession>) -> std::sync::MutexGuard<'_, DataSession> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes changes; no lock is held here, for they run at once.
fn wake(woken: Vec<(oneshot::Sender<Wake>, Wake)>) {
    for (sender, wake) in woken {
        let _ = sender.send(wake);
    }
}
