//! The beginning of a change: into a session, or to the locks and marks that open one (`afr_changelog_pre_op`).

use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex, PoisonError};

use rgfs_protocol::Errno;
use smallvec::smallvec;
use tokio::sync::oneshot;

use super::changelog::{Counters, Kind};
use super::child_set::ChildSet;
use super::core::{ARBITER, Core, in_background, successes, with_own_locks};
use super::data::Change;
use super::errors::final_error;
use super::inode_state::InodeState;
use super::lock::{Lockee, Locks, METADATA_START};
use super::member::Member;
use super::session::{Entry, Session, Sessions, Wake};
use super::target::Target;
use super::verdict::{self};
use crate::{Context, FopError, FopResult};

/// The sessions of an inode.
pub(super) type InodeSessions = Sessions<oneshot::Sender<Wake>, Held>;
pub(super) type DataSession = Session<oneshot::Sender<Wake>, Held>;

/// What a session holds.
pub(super) struct Held {
    pub(super) locks: Locks,
    /// The fd of the last change, or the inode.
    pub(super) target: Target,
    pub(super) shared: Arc<Shared>,
}

/// What all changes of a session know.
pub(super) struct Shared {
    /// With the lock owner of the session.
    pub(super) context: Context,
    /// Generation of the children in which it was locked.
    pub(super) generation: u32,
    /// Copies that were locked. What is not done on all of them counts as missed by the others.
    pub(super) locked: ChildSet,
    /// Those that were also marked, where that was needed.
    pub(super) usable: ChildSet,
    /// The dirty mark is on them.
    pub(super) dirty: bool,
    /// A child is missing, and not every copy has accused it before: what is done must be noted before it is answered. If
    /// a copy went before that, the missing child would come back beside it and look as good.
    pub(super) unsettled: bool,
    /// Copies that were good when they were marked, minus those that failed since.
    pub(super) good: AtomicU16,
    /// The arbiter is not the only good copy.
    pub(super) arbiter_allows: bool,
    /// Why marking failed on the others.
    pub(super) cause: Option<FopError>,
    /// Who wants to know where the session's notes were written.
    pub(super) after_close: Mutex<Vec<oneshot::Sender<FopResult<ChildSet>>>>,
}

impl Core {
    /// Opens a session or joins one.
    pub(super) async fn enter(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        change: &Change,
    ) -> FopResult<(Member, Arc<Shared>)> {
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
            let member = Member::new(self, state, change.kind, number);
            match (entry, shared) {
                (Entry::Open, _) => {
                    let shared = self.open_session(state, change, snapshot).await?;
                    return Ok((member, shared));
                }
                (Entry::Join, Some(shared)) => return Ok((member, shared)),
                (Entry::Join, None) => return Err(self.error(Errno::EIO, change.step)),
                (Entry::Wait { close }, _) => {
                    if close {
                        self.close(state, change.kind).await;
                    }
                    let Some(woken) = woken else { continue };
                    if woken.await == Ok(Wake::Join)
                        && let Some(shared) = lock(session).lock.as_ref().map(|held| held.shared.clone())
                    {
                        return Ok((member, shared));
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
        snapshot: super::family::Snapshot,
    ) -> FopResult<Arc<Shared>> {
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
            self.forget_copy(state, change.kind, left_out);
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
        Ok(shared)
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

pub(super) fn lock(session: &Mutex<DataSession>) -> std::sync::MutexGuard<'_, DataSession> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes changes; no lock is held here, for they run at once.
pub(super) fn wake(woken: Vec<(oneshot::Sender<Wake>, Wake)>) {
    for (sender, wake) in woken {
        let _ = sender.send(wake);
    }
}
