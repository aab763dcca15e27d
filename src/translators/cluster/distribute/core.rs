//! What all fops of distribute share: the children, the options, and what is remembered of inodes and of the volume.

use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rgfs_protocol::types::LockOwner;
use rgfs_protocol::{Dict, Errno, Gfid, Value};
use tokio::sync::oneshot;

use super::cookie::CookieCoder;
use super::freshness::ReadAt;
use super::keys;
use super::layout::Layout;
use super::options::Options;
use super::preference::Preference;
use super::space::{Limits, Usage};
use crate::clock::Clock;
use crate::event::EventSource;
use crate::inode::{ContextKey, Inode};
use crate::translators::cluster::join_all;
use crate::{Context, FopError, FopResult, Loc, Translator, task};

/// Free space is asked for at most this often.
const USAGE_AGE: Duration = Duration::from_secs(1);
/// The pid of internal fops (`GF_CLIENT_PID_NO_ROOT_SQUASH`): bricks do not map root to nobody for it.
const INTERNAL_PID: i32 = -4;

/// State on the inode of anything but a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileState {
    /// Index of the subvolume that has it.
    pub(super) cached: usize,
    /// Index of the subvolume that it is being moved to, as far as known.
    pub(super) moving_to: Option<usize>,
}

/// State on the inode of a directory.
#[derive(Debug)]
pub(super) struct DirectoryState {
    /// Who takes which hashes.
    pub(super) layout: Layout,
    /// Index of the subvolume that is authoritative for attributes and xattrs.
    pub(super) mds: Option<usize>,
    /// When this was read.
    pub(super) read: ReadAt,
}

impl DirectoryState {
    /// What was just read.
    pub(super) fn new(layout: Layout, mds: Option<usize>) -> Self {
        DirectoryState { layout, mds, read: ReadAt::now() }
    }
}

/// The translator without its face.
pub(super) struct Core {
    pub(super) name: Arc<str>,
    pub(super) children: Vec<Arc<dyn Translator>>,
    /// Indices of the children in the order of their names, byte by byte: the order of locks.
    pub(super) by_name: Vec<usize>,
    pub(super) options: Options,
    /// Where new files go rather than to their homes.
    pub(super) preference: Preference,
    pub(super) limits: Limits,
    pub(super) cookies: CookieCoder,
    pub(super) events: EventSource,
    pub(super) clock: Arc<dyn Clock>,
    /// Commit hash of the volume; 0 until a root lookup tells one.
    pub(super) commit_hash: AtomicU32,
    /// When that was read.
    pub(super) commit_hash_read: ReadAt,
    pub(super) key: ContextKey,
    /// For so long a layout counts as just read.
    pub(super) trust: Duration,
    /// On directories in which a listing showed a name off its home.
    off_home: ContextKey,
    /// One per child, so that remembering a file allocates nothing.
    file_states: Vec<Arc<FileState>>,
    usage: Mutex<KnownUsage>,
}

struct KnownUsage {
    asked: Option<Duration>,
    of: Vec<Option<Usage>>,
}

impl Core {
    pub(super) fn new(
        name: Arc<str>,
        children: Vec<Arc<dyn Translator>>,
        options: Options,
        preference: Preference,
        trust: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut by_name: Vec<usize> = (0..children.len()).collect();
        by_name.sort_by_key(|index| children.get(*index).map(|child| child.name().clone()));
        Core {
            name,
            by_name,
            limits: Limits { disk: options.min_free_disk, inodes: options.min_free_inodes },
            options,
            preference,
            cookies: CookieCoder::new(children.len()),
            events: EventSource::default(),
            clock,
            commit_hash: AtomicU32::new(0),
            commit_hash_read: ReadAt::now(),
            key: ContextKey::unique(),
            trust,
            off_home: ContextKey::unique(),
            file_states: (0..children.len()).map(|cached| Arc::new(FileState { cached, moving_to: None })).collect(),
            usage: Mutex::new(KnownUsage { asked: None, of: vec![None; children.len()] }),
            children,
        }
    }

    /// The only child of a distribute that has nothing to distribute.
    pub(super) fn only(&self) -> Option<&Arc<dyn Translator>> {
        match self.children.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Child by index. Indices come from this translator's own state; a bad one is the first child's.
    pub(super) fn child(&self, index: usize) -> &Arc<dyn Translator> {
        self.children.get(index).unwrap_or(&self.children[0])
    }

    /// The child of that name; `None` for a name that an older or newer volfile has.
    pub(super) fn index_of(&self, name: &[u8]) -> Option<usize> {
        self.children.iter().position(|child| child.name().as_bytes() == name)
    }

    /// True for a child that is leaving the volume.
    pub(super) fn is_leaving(&self, index: usize) -> bool {
        self.options.decommissioned.contains(&**self.child(index).name())
    }

    /// An error of this translator.
    pub(super) fn error(&self, errno: Errno, step: &'static str) -> FopError {
        FopError::new(errno, &self.name, step)
    }

    pub(super) fn file(&self, inode: &Inode) -> Option<Arc<FileState>> {
        inode.contexts.get(self.key)
    }

    pub(super) fn directory(&self, inode: &Inode) -> Option<Arc<DirectoryState>> {
        inode.contexts.get(self.key)
    }

    pub(super) fn remember_file(&self, inode: &Inode, cached: usize) {
        if let Some(state) = self.file_states.get(cached) {
            inode.contexts.set(self.key, state.clone());
        }
    }

    /// Remembers where a file is being moved to, until the next lookup.
    pub(super) fn remember_moving(&self, inode: &Inode, cached: usize, to: usize) {
        inode.contexts.set(self.key, Arc::new(FileState { cached, moving_to: Some(to) }));
    }

    /// Notes that a directory has names off their homes.
    pub(super) fn remember_off_home(&self, directory: &Inode) {
        directory.contexts.set(self.off_home, Arc::new(()));
    }

    /// True when a listing showed a name of the directory off its home.
    pub(super) fn has_names_off_home(&self, directory: &Inode) -> bool {
        directory.contexts.get::<()>(self.off_home).is_some()
    }

    pub(super) fn remember_directory(&self, inode: &Inode, state: DirectoryState) -> Arc<DirectoryState> {
        let state = Arc::new(state);
        inode.contexts.set(self.key, state.clone());
        state
    }

    /// The subvolume of a file; asks by gfid when no lookup told it yet.
    pub(super) async fn cached(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>) -> FopResult<usize> {
        if self.only().is_some() {
            return Ok(0);
        }
        if let Some(file) = self.file(inode) {
            return Ok(file.cached);
        }
        if inode.gfid().is_null() {
            return Err(self.error(Errno::EINVAL, "find the file").with_detail("it was never looked up"));
        }
        self.discover(context, &Loc::inode(inode.clone()), Dict::NULL).await?;
        self.file(inode).map(|file| file.cached).ok_or_else(|| self.error(Errno::EISDIR, "find the file"))
    }

    /// The layout of a directory; asks by gfid when no lookup told it yet.
    pub(super) async fn layout_of(
        self: &Arc<Self>,
        context: &Context,
        inode: &Arc<Inode>,
    ) -> FopResult<Arc<DirectoryState>> {
        if let Some(directory) = self.directory(inode) {
            return Ok(directory);
        }
        if inode.gfid().is_null() {
            return Err(self.error(Errno::EINVAL, "read the layout").with_detail("the directory was never looked up"));
        }
        self.discover(context, &Loc::inode(inode.clone()), Dict::NULL).await?;
        self.directory(inode).ok_or_else(|| self.error(Errno::ENOTDIR, "read the layout"))
    }

    /// The parent of an entry's loc, with its layout.
    pub(super) async fn parent(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
    ) -> FopResult<(Arc<Inode>, Arc<DirectoryState>)> {
        let parent = loc.parent.clone().ok_or_else(|| self.error(Errno::EINVAL, "find the parent"))?;
        let directory = self.layout_of(context, &parent).await?;
        Ok((parent, directory))
    }

    /// Where a name belongs. `None` in a hole of the layout.
    pub(super) fn hashed(&self, directory: &DirectoryState, name: &[u8]) -> Option<usize> {
        directory.layout.search(self.options.names.hash(name))
    }

    /// Where a new name goes. Nothing is made where this is unknown: it could appear twice.
    pub(super) fn home(&self, directory: &DirectoryState, name: &[u8]) -> FopResult<usize> {
        self.hashed(directory, name).ok_or_else(|| {
            self.error(Errno::EIO, "place a new name")
                .with_detail("the layout of its directory has a hole there; look the directory up with all bricks up")
        })
    }

    /// What is known of the children's space.
    pub(super) fn usages(&self) -> Vec<Option<Usage>> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).of.clone()
    }

    /// True when a child is below the limits of free space.
    pub(super) fn is_filled(&self, index: usize) -> bool {
        let known = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        self.limits.is_filled(known.of.get(index).and_then(Option::as_ref))
    }

    /// Asks all children for their space in the background, unless that was done a moment ago.
    pub(super) fn refresh_usage(self: &Arc<Self>) {
        {
            let mut known = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            if known.asked.is_some_and(|asked| now.saturating_sub(asked) < USAGE_AGE) {
                return;
            }
            known.asked = Some(now);
        }
        let core = self.clone();
        task::spawn(async move { core.ask_usage().await });
    }

    /// Asks one child that has just come up for its space, in the background.
    pub(super) fn ask_usage_of(self: &Arc<Self>, index: usize) {
        let core = self.clone();
        task::spawn(async move { core.ask(&[index]).await });
    }

    /// Asks all children for their space.
    pub(super) async fn ask_usage(&self) {
        self.ask(&self.by_name).await;
    }

    async fn ask(&self, which: &[usize]) {
        let context = Context { pid: INTERNAL_PID, ..Context::internal() };
        let root = Loc::inode(Inode::known(Gfid::ROOT, rgfs_protocol::FileType::Directory));
        let raw = Dict::empty().with(keys::IGNORE_DEEM_STATFS, Value::Int(1));
        let asks = which.iter().map(|index| self.child(*index).statfs(&context, &root, raw.clone()));
        let replies = join_all(asks).await;
        let mut known = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, reply) in which.iter().zip(replies) {
            if let (Some(slot), Ok(reply)) = (known.of.get_mut(*index), reply) {
                *slot = Some(Usage::new(&reply.statfs));
            }
        }
    }
}

/// The same operation, done by the client itself as root (`FRAME_SU_DO`).
pub(super) fn as_root(context: &Context) -> Context {
    Context { uid: 0, gid: 0, groups: Arc::from([]), pid: INTERNAL_PID, ..context.clone() }
}

/// The same operation, with a lock owner of its own: two transactions that share an owner do not exclude each other.
pub(super) fn with_own_locks(context: &Context) -> Context {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut owner = *b"rgfs-dht........";
    owner[8..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Context { lock_owner: LockOwner(owner.as_slice().into()), ..context.clone() }
}

/// Runs a transaction of several steps to its end, even when the caller stops waiting: a request that the user
/// interrupts must not leave locks and half-made names behind.
pub(super) async fn to_the_end<T: Send + 'static>(
    core: &Arc<Core>,
    step: &'static str,
    transaction: impl Future<Output = FopResult<T>> + Send + 'static,
) -> FopResult<T> {
    let (sender, receiver) = oneshot::channel();
    task::spawn(async move {
        let _ = sender.send(transaction.await);
    });
    receiver.await.unwrap_or_else(|_| Err(core.error(Errno::EIO, step).with_detail("the transaction was abandoned")))
}
