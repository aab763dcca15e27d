//! [`FileSystem`]: what the kernel may ask, answered by the top translator of a graph.
//!
//! One file per family of operations. Methods take the caller and typed arguments, and give typed answers; errors are
//! those of the caller's system call. Errno translation is the C client's (`fuse-resolve.c`): an inode that is gone is
//! ESTALE, so that the kernel walks the path once more; before that the inode is looked up once more here, because a
//! file may have moved to another brick.

mod attributes;
mod data;
mod directories;
mod entries;
mod locking;
mod open;
mod privileges;
#[cfg(test)]
mod tests;
mod xattrs;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rgfs_protocol::{Dict, Errno, Iatt, Value};

pub use attributes::{SetAttributes, SetTime};
pub use directories::{Listed, Listing};
pub use entries::RenameMode;

use super::absent::Absent;
use super::attributes::{Attributes, time_to_live};
use super::caller::Callers;
use super::counters::Counters;
use super::gfid_source;
use super::handles::{Handles, OpenDirectory, OpenFile};
use super::in_flight::InFlight;
use super::inode_table::{InodeTable, Node};
use super::notifications::{Notification, Notifications};
use super::{Caller, Options};
use crate::event::Event;
use crate::graph::OpenFds;
use crate::inode::KeySpan;
use crate::reply::LookupReply;
use crate::{Context, FopError, FopResult, Loc, Translator};

/// Attributes that are younger than this are taken as those of now (close-to-open: an open sees what a close before it wrote,
/// and the kernel's own path walk asked that recently).
const FRESH: Duration = Duration::from_secs(1);

/// Groups that a credential has room for beside an 8-byte lock owner (`protocol::auth`).
const GROUPS_THAT_FIT: usize = 83;

/// An inode that the kernel is told of. It counts as one lookup of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Node.
    pub nodeid: u64,
    /// Generation of the nodeid.
    pub generation: u64,
    /// Attributes.
    pub attributes: Attributes,
    /// How long the name may be believed.
    pub entry_ttl: Duration,
    /// How long the attributes may be believed.
    pub attribute_ttl: Duration,
}

/// Attributes, and how long they may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributed {
    /// Attributes.
    pub attributes: Attributes,
    /// How long they may be believed.
    pub ttl: Duration,
}

/// An open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number from now on.
    pub handle: u64,
    /// The kernel shall not cache its pages.
    pub direct_io: bool,
    /// The kernel may keep the pages that it has.
    pub keep_cache: bool,
}

/// The file system. Shared by all threads.
pub struct FileSystem {
    top: Arc<dyn Translator>,
    options: Options,
    table: Arc<InodeTable>,
    handles: Handles,
    absent: Absent,
    callers: Callers,
    in_flight: Arc<InFlight>,
    notifications: Arc<Notifications>,
    counters: Counters,
    name: Arc<str>,
}

impl std::fmt::Debug for FileSystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSystem").field("top", self.top.name()).field("table", &self.table).finish()
    }
}

/// Asks for an operation on the inode of `$node`, once more after a successful lookup if the inode seems gone. `$loc` is the
/// inode's loc in `$ask`.
macro_rules! on_inode {
    ($self:ident, $context:expr, $node:expr, |$loc:ident| $ask:expr) => {{
        let $loc = &crate::Loc::inode($node.inode.clone());
        match $ask.await {
            Err(error) if $self.is_found_again($context, $node, &error).await => {
                $ask.await.map_err(crate::fuse::file_system::stale)
            }
            result => result.map_err(crate::fuse::file_system::stale),
        }
    }};
}
use on_inode;

/// An inode that does not exist any more is a stale one to whoever still names it.
fn stale(error: FopError) -> FopError {
    if error.errno == Errno::ENOENT { error.with_errno(Errno::ESTALE) } else { error }
}

fn is_gone(error: &FopError) -> bool {
    matches!(error.errno, Errno::ENOENT | Errno::ESTALE)
}

/// A credential has no room for more groups than a few dozen; those at the end are left out. Of a caller with more, the group
/// of `node` comes first if it is one of them: it is what the brick checks. (With the C client such a caller is refused,
/// unless the bricks look groups up by themselves: `server.manage-gids`.)
fn with_group_of(mut context: Context, node: &Node) -> Context {
    if context.groups.len() > GROUPS_THAT_FIT {
        let group = node.state().group;
        let at = context.groups.iter().position(|one| *one == group);
        if let Some(at) = at.filter(|at| *at > 0) {
            let mut groups = context.groups.to_vec();
            groups[..=at].rotate_right(1);
            context.groups = groups.into();
        }
    }
    context
}

impl FileSystem {
    /// A file system over the translator `top`.
    pub fn new(top: Arc<dyn Translator>, options: Options) -> Arc<Self> {
        let table = Arc::new(InodeTable::new(options.ino32));
        let notifications = Arc::new(Notifications::default());
        let (known, told) = (Arc::downgrade(&table), Arc::downgrade(&notifications));
        top.events().subscribe(move |event| {
            let (Some(known), Some(told)) = (known.upgrade(), told.upgrade()) else { return };
            if let Event::CacheInvalidation { gfid, .. } = event
                && let Some(node) = known.find(*gfid)
            {
                // The kernel asks again, and shall not get what it has.
                node.state().attributes = None;
                told.send(Notification::Inode(node.nodeid));
            }
        });
        Arc::new(FileSystem {
            callers: Callers::new(options.gid_timeout, options.client_pid),
            top,
            options,
            table,
            handles: Handles::default(),
            absent: Absent::default(),
            in_flight: Arc::default(),
            notifications,
            counters: Counters::default(),
            name: Arc::from("fuse"),
        })
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The inodes that the kernel knows.
    pub fn table(&self) -> &Arc<InodeTable> {
        &self.table
    }

    /// The requests that wait.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// Where the kernel is told things unasked.
    pub fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    /// State for a statedump: lines of `key=value`.
    pub fn dump(&self, out: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {
        for (key, value) in self.counters.snapshot() {
            out(key, &value);
        }
        self.counters.operations.dump(out);
        let (files, directories) = self.handles.count();
        out("fuse.inodes", &self.table.len());
        out("fuse.open-files", &files);
        out("fuse.open-directories", &directories);
        let waiting = self.in_flight.list();
        out("fuse.waiting-requests", &waiting.len());
        for parked in waiting.iter().take(100) {
            let line = format!(
                "{} unique {} pid {} since {:?}",
                parked.name,
                parked.unique,
                parked.pid,
                parked.since.elapsed()
            );
            out("fuse.waiting", &line);
        }
    }

    /// The translators' side of all that is open.
    pub fn open_fds(&self) -> OpenFds {
        self.handles.open_fds()
    }

    /// Removes what the translators of a graph that has ended left on inodes and fds.
    pub fn forget_contexts(&self, keys: &[KeySpan]) {
        for node in self.table.all() {
            node.inode.contexts.forget(keys);
        }
        let OpenFds { files, directories } = self.open_fds();
        for fd in files.iter().chain(&directories) {
            fd.contexts.forget(keys);
        }
    }

    /// The kernel forgets `count` lookups of a node.
    pub fn forget(&self, nodeid: u64, count: u64) {
        self.table.forget(nodeid, count);
    }

    fn error(&self, errno: Errno, step: &'static str) -> FopError {
        FopError::new(errno, &self.name, step)
    }

    fn context(&self, caller: &Caller) -> Context {
        self.callers.context(caller, None)
    }

    /// The context for an operation on a node, and the node.
    fn on_behalf_at(&self, caller: &Caller, nodeid: u64, step: &'static str) -> FopResult<(Context, Arc<Node>)> {
        let node = self.node(nodeid, step)?;
        Ok((with_group_of(self.context(caller), &node), node))
    }

    fn node(&self, nodeid: u64, step: &'static str) -> FopResult<Arc<Node>> {
        self.table.get(nodeid).ok_or_else(|| self.error(Errno::ESTALE, step))
    }

    fn file(&self, handle: u64, step: &'static str) -> FopResult<Arc<OpenFile>> {
        self.handles.file(handle).ok_or_else(|| self.error(Errno::EBADF, step))
    }

    fn directory(&self, handle: u64, step: &'static str) -> FopResult<Arc<OpenDirectory>> {
        self.handles.directory(handle).ok_or_else(|| self.error(Errno::EBADF, step))
    }

    fn check_writable(&self, step: &'static str) -> FopResult<()> {
        if self.options.read_only { Err(self.error(Errno::EROFS, step)) } else { Ok(()) }
    }

    /// What a lookup or a creating fop carries: the gfid for what has none yet.
    fn identity(&self, step: &'static str) -> FopResult<Dict> {
        let gfid = gfid_source::fresh().map_err(|error| self.error(Errno::EIO, step).with_detail(error.to_string()))?;
        Ok(Dict::NULL.with("gfid-req", Value::Gfuuid(gfid)))
    }

    /// Tells the kernel of `node`, which was just linked under the attributes `stat`, `seen` then.
    fn entry(&self, node: &Node, stat: &Iatt, seen: Instant) -> Entry {
        // A program that walks through a large tree once is not slowed down for what can be done when it has ended.
        if self.options.lru_limit != 0 && self.table.len() / 2 > self.options.lru_limit {
            self.notifications.prune();
        }
        let age = seen.elapsed();
        // Less than a millisecond is the time since the answer, not age.
        let age = if age < Duration::from_millis(1) { Duration::ZERO } else { age };
        Entry {
            nodeid: node.nodeid,
            generation: node.generation,
            attributes: Attributes::new(stat, node.nodeid),
            entry_ttl: self.options.entry_timeout.saturating_sub(age),
            attribute_ttl: time_to_live(stat, self.options.attribute_timeout).saturating_sub(age),
        }
    }

    fn attributed(&self, node: &Node, stat: &Iatt) -> Attributed {
        Attributed {
            attributes: Attributes::new(stat, node.nodeid),
            ttl: time_to_live(stat, self.options.attribute_timeout),
        }
    }

    /// Looks an inode up by its gfid.
    async fn lookup_inode(&self, context: &Context, node: &Node) -> FopResult<LookupReply> {
        let reply = self.top.lookup(context, &Loc::inode(node.inode.clone()), Dict::NULL).await?;
        if reply.stat.gfid != node.gfid() {
            return Err(self.error(Errno::ESTALE, "lookup").with_detail("another gfid answered"));
        }
        node.note(&reply.stat, Instant::now());
        Ok(reply)
    }

    /// After `error`: whether the inode exists all the same, so that the operation may be tried once more.
    async fn is_found_again(&self, context: &Context, node: &Node, error: &FopError) -> bool {
        is_gone(error) && self.lookup_inode(context, node).await.is_ok()
    }
}
