//! What all fops of replicate share: the children, the options, and what is remembered of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rgfs_protocol::Errno;
use rgfs_protocol::types::LockOwner;
use tokio::sync::oneshot;

use super::changelog::{Keys, Kind};
use super::child_set::ChildSet;
use super::family::{Family, Snapshot};
use super::fd_state::FdState;
use super::heal::background::Queue;
use super::health::Health;
use super::inode_state::InodeState;
use super::options::Options;
use super::requests::Requests;
use super::sessions::OpenSessions;
use super::split_brain::Choices;
use super::thin_arbiter_io::ThinArbiter;
use crate::clock::Clock;
use crate::event::EventSource;
use crate::inode::{ContextKey, Inode};
use crate::translators::cluster::{JoinAll, join_all};
use crate::{Context, Fd, FopError, FopResult, Translator, task};

/// Index of the arbiter, in volumes that have one (`ARBITER_BRICK_INDEX`).
pub(super) const ARBITER: usize = 2;

/// A call to one child, on its way.
pub(super) type Call<'a, T> = Pin<Box<dyn Future<Output = FopResult<T>> + Send + 'a>>;

/// The translator without its face.
pub(super) struct Core {
    /// Name in the volfile; also the domain of all locks, which every client must spell alike.
    pub(super) name: Arc<str>,
    /// The copies (arbiter included, thin arbiter not).
    pub(super) children: Vec<Arc<dyn Translator>>,
    /// Who knows which of two copies is the good one, in volumes that have it.
    pub(super) thin_arbiter: Option<Arc<ThinArbiter>>,
    /// Domain of healers' locks.
    pub(super) heal_domain: Arc<str>,
    pub(super) options: Options,
    pub(super) keys: Keys,
    pub(super) events: EventSource,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) family: Mutex<Family>,
    /// The family's snapshot, packed, for readers in a hurry.
    snapshot: AtomicU64,
    /// Whether bricks say that copies missed something.
    pub(super) health: Health,
    /// The child to read from if it may be (option `read-subvolume`, or found to be on this machine); `usize::MAX` for none.
    pub(super) preferred: AtomicUsize,
    /// Copies that users chose to look at, although they may be wrong.
    pub(super) choices: Choices,
    /// Heals in the background.
    pub(super) heals: Queue,
    /// Reads under way on each child.
    pub(super) reads: Vec<AtomicUsize>,
    /// What reads of each child took lately, in nanoseconds; 0 while unknown.
    pub(super) latencies: Vec<AtomicU64>,
    /// Generation in which a child on this machine was looked for last.
    pub(super) discovered: AtomicU32,
    pub(super) requests: Requests,
    /// Files that are locked for writing.
    pub(super) sessions: OpenSessions,
    key: ContextKey,
}

impl Core {
    /// With a thin arbiter in the options, that is the last child.
    pub(super) fn new(
        name: Arc<str>,
        mut children: Vec<Arc<dyn Translator>>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut ids: Vec<String> = match options.pending_ids.is_empty() {
            true => children.iter().map(|child| child.name().to_string()).collect(),
            false => options.pending_ids.iter().take(children.len()).cloned().collect(),
        };
        let thin_arbiter = options.thin_arbiter.as_ref().and_then(|_| {
            let (child, id) = (children.pop()?, ids.pop()?);
            Some(Arc::new(ThinArbiter::new(child, &id)))
        });
        let named = options.read_child.as_ref();
        let named = named.and_then(|name| children.iter().position(|child| **child.name() == **name));
        let preferred = options.read_child_index.or(named).unwrap_or(usize::MAX);
        let keys = Keys::new(ids.iter().map(String::as_str), &options.dirty_key);
        Core {
            requests: Requests::new(&keys, &name),
            heal_domain: format!("{name}:self-heal").into(),
            keys,
            options,
            events: EventSource::default(),
            clock,
            family: Mutex::new(Family::new(children.len(), thin_arbiter.is_some())),
            snapshot: AtomicU64::new(0),
            health: Health::default(),
            preferred: AtomicUsize::new(preferred),
            choices: Choices::default(),
            heals: Queue::default(),
            reads: children.iter().map(|_| AtomicUsize::new(0)).collect(),
            latencies: children.iter().map(|_| AtomicU64::new(0)).collect(),
            discovered: AtomicU32::new(0),
            sessions: OpenSessions::default(),
            key: ContextKey::unique(),
            name,
            children,
            thin_arbiter,
        }
    }

    /// Copies failed at what others did: they are not read until all were asked again.
    pub(super) fn forget_copy(&self, state: &InodeState, kind: Kind, failed: ChildSet) {
        state.forget_copy(kind, failed);
        self.health.doubt();
    }

    /// Copies may have missed something: they must be asked before the next use.
    pub(super) fn doubt_copies(&self, state: &InodeState) {
        state.set_stale();
        self.health.doubt();
    }

    /// Number of copies.
    pub(super) fn count(&self) -> usize {
        self.children.len()
    }

    /// All children.
    pub(super) fn all(&self) -> ChildSet {
        ChildSet::all(self.count())
    }

    /// The children that hold data: all but the arbiter.
    pub(super) fn data_children(&self) -> ChildSet {
        if self.options.arbiter { self.all().without(ARBITER) } else { self.all() }
    }

    /// Child by index. Indices come from this translator's own state; a bad one is the first child's.
    pub(super) fn child(&self, index: usize) -> &Arc<dyn Translator> {
        self.children.get(index).unwrap_or(&self.children[0])
    }

    /// The children that are up, and the generation. Take it once per operation.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::unpack(self.snapshot.load(Ordering::Acquire))
    }

    /// Changes the family, and its snapshot with it.
    pub(super) fn with_family<T>(&self, change: impl FnOnce(&mut Family) -> T) -> T {
        let mut family = self.family.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut family);
        self.snapshot.store(family.snapshot().pack(), Ordering::Release);
        result
    }

    /// Children that were neither lost nor regained since `generation`: locks taken then are held there.
    pub(super) fn unchanged_since(&self, generation: u32) -> ChildSet {
        if self.snapshot().generation == generation {
            return self.all();
        }
        self.family.lock().unwrap_or_else(PoisonError::into_inner).unchanged_since(generation)
    }

    /// Whether these children are enough for the client quorum.
    pub(super) fn has_quorum(&self, children: ChildSet) -> bool {
        self.options.quorum.met(children, self.count())
    }

    /// Refuses an operation for which too few children are up (`afr_quorum_errno`).
    pub(super) fn check_quorum(&self, snapshot: Snapshot, step: &'static str) -> FopResult<()> {
        // One of two copies may be the stale one; only the thin arbiter can tell (`afr_ta_has_quorum`).
        let told = self.thin_arbiter.as_ref().is_none_or(|arbiter| snapshot.up == self.all() || arbiter.is_up());
        let enough = !snapshot.up.is_empty() && self.has_quorum(snapshot.up) && told;
        if enough && (!self.options.consistent_io || snapshot.up == self.all()) {
            return Ok(());
        }
        Err(self.no_quorum(snapshot.up, step))
    }

    /// The error of an operation that reached these children only.
    pub(super) fn no_quorum(&self, reached: ChildSet, step: &'static str) -> FopError {
        let missing = self.all().minus(reached);
        let away = self.thin_arbiter.iter().filter(|arbiter| !arbiter.is_up());
        let away = away.map(|arbiter| &**arbiter.child().name());
        let names: Vec<&str> = missing.iter().map(|index| &**self.child(index).name()).chain(away).collect();
        self.error(Errno::ENOTCONN, step).with_detail(format!(
            "{} of {} bricks is too few for the quorum; bring back {}",
            reached.len(),
            self.count(),
            names.join(", ")
        ))
    }

    /// An error of this translator.
    pub(super) fn error(&self, errno: Errno, step: &'static str) -> FopError {
        FopError::new(errno, &self.name, step)
    }

    /// State of an inode; made at first use.
    pub(super) fn inode(&self, inode: &Inode) -> Arc<InodeState> {
        inode.contexts.get_or_insert_with(self.key, InodeState::default)
    }

    /// State of an fd; made at first use.
    pub(super) fn fd(&self, fd: &Fd) -> Arc<FdState> {
        fd.contexts.get_or_insert_with(self.key, FdState::default)
    }

    /// Forgets what is known of an fd.
    pub(super) fn forget_fd(&self, fd: &Fd) {
        fd.contexts.remove(self.key);
    }

    /// Calls some children at once, and waits for all answers: (index, answer), ascending.
    pub(super) async fn ask<'a, T: Send>(
        &'a self,
        children: ChildSet,
        call: impl Fn(usize, &'a Arc<dyn Translator>) -> Call<'a, T>,
    ) -> Replies<T> {
        let calls: JoinAll<Call<'a, T>> = join_all(children.iter().map(|index| call(index, self.child(index))));
        children.iter().zip(calls.await).collect()
    }
}

/// Answers of some children, by index, ascending.
pub(super) type Replies<T> = Vec<(usize, FopResult<T>)>;

/// The children that answered well.
pub(super) fn successes<T>(replies: &Replies<T>) -> ChildSet {
    replies.iter().filter(|(_, reply)| reply.is_ok()).map(|(index, _)| *index).collect()
}

/// The same operation, with a lock owner of its own: two transactions that share an owner do not exclude each other.
pub(super) fn with_own_locks(context: &Context) -> Context {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut owner = *b"rgfs-afr........";
    #[cfg(test)]
    if super::planted::is_planted(super::planted::Fault::OneLockOwner) {
        return Context { lock_owner: LockOwner(owner.as_slice().into()), ..context.clone() };
    }
    owner[8..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Context { lock_owner: LockOwner(owner.as_slice().into()), ..context.clone() }
}

/// The same operation in the background: nobody waits for its rounds.
pub(super) fn in_background(context: &Context) -> Context {
    Context { rounds: Arc::default(), ..context.clone() }
}

/// Runs a transaction to its end, even when the caller stops waiting: a request that the user interrupts must not leave
/// locks and half-made changes behind. The transaction answers through `reply` when the application may go on, and may
/// then still have work to do.
pub(super) async fn to_the_end<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    core: &Arc<Core>,
    step: &'static str,
    transaction: impl FnOnce(Reply<T>) -> F,
) -> FopResult<T> {
    let (sender, receiver) = oneshot::channel();
    let (unfinished, transaction) = (core.unfinished(), transaction(Reply(sender)));
    task::spawn(async move {
        let _unfinished = unfinished;
        transaction.await;
    });
    receiver.await.unwrap_or_else(|_| Err(core.error(Errno::EIO, step).with_detail("the transaction was abandoned")))
}

/// Where a transaction answers.
pub(super) struct Reply<T>(oneshot::Sender<FopResult<T>>);

impl<T> Reply<T> {
    /// Answers; the caller goes on at once, within this call. Hold no lock.
    pub(super) fn send(self, result: FopResult<T>) {
        // A caller that was interrupted does not hear it.
        let _ = self.0.send(result);
    }
}
