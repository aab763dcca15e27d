//! Where a file is that rebalance moves, and how it stays there for a moment.
//!
//! What is done to the data of a file while it moves may be done at the source, and be copied or not; on what the file has left, and be lost;
//! and through a descriptor of the past at the destination, and be overwritten by the copy or not. Doing it at the destination as well, as
//! the C client does (`dht_rebalance_in_progress_check`), may be too early, too late, or be overtaken by what rebalance was just writing
//! there. So the end of the move is awaited, and then is done what is to be done:
//!
//! - the destination is protected from rebalance: what it copies from now on is refused, and then it gives up. So that is soon;
//! - rebalance has a lock on the source from before its first step until after its last one (`dht_migrate_file`). If it dies, the brick takes
//!   it away. We take the same lock where the file is then. Nothing moves while we have it.

use std::sync::Arc;

use rgfs_protocol::types::LockType;
use rgfs_protocol::{Dict, Errno, Iatt, Value};

use super::core::{Core, as_root, to_the_end};
use super::follow::Target;
use super::locks::Transaction;
use super::migration::is_missing;
use super::settled::Presence;
use super::{keys, linkto};
use crate::reply::{Payload, StatReply};
use crate::{Context, Fd, FopError, FopResult, Inode, Loc};

/// How often the file may be elsewhere by the time we are where it was.
const MOVES: u32 = 10;

/// The file at a subvolume that it does not leave.
pub(super) struct Home {
    /// Index of the subvolume.
    pub(super) at: usize,
    /// Opened for reading and appending, by us: an fd that is kept may lead to what an earlier move left.
    pub(super) file: Arc<Fd>,
    /// Attributes, without marks.
    pub(super) stat: Iatt,
    lock: Transaction,
    /// It was a destination that we have protected.
    is_protected: bool,
    core: Arc<Core>,
}

/// Where a file was found.
pub(super) enum Found {
    /// It stays there until it is [given up](Home::leave).
    Home(Box<Home>),
    /// It has no name any more, and is open at the subvolume of that index.
    Nameless(usize),
    /// It was removed.
    Removed(FopError),
}

/// What one subvolume has.
enum Here {
    Home(Box<Home>),
    Nameless,
    /// A linkto, or nothing.
    Elsewhere,
}

/// The search for a file.
struct Search {
    core: Arc<Core>,
    root: Context,
    inode: Arc<Inode>,
    /// Through which it is changed; `None` when that goes by name.
    fd: Option<Arc<Fd>>,
    /// Indices of destinations that we have protected.
    protected: Vec<usize>,
}

impl Core {
    /// Finds a file that is at a subvolume, or has left it, and makes it stay where it is.
    ///
    /// # Errors
    /// Those of the subvolumes that have to be asked; EIO when the file does not come to rest.
    pub(super) async fn settle(self: &Arc<Self>, context: &Context, target: Target<'_>, at: usize) -> FopResult<Found> {
        let fd = match target {
            Target::Fd(fd) => Some(fd.clone()),
            Target::Loc(_) => None,
        };
        let (root, inode) = (as_root(context), target.inode().clone());
        let search = Search { core: self.clone(), root, inode, fd, protected: Vec::new() };
        to_the_end(self, "wait for the end of a move", search.run(at)).await
    }

    /// Opens a file on a subvolume, as root.
    pub(super) async fn open_anew(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        index: usize,
        flags: i32,
    ) -> FopResult<Arc<Fd>> {
        let anew = Fd::new(inode.clone(), flags, context.pid);
        self.child(index).open(&as_root(context), &Loc::inode(inode.clone()), flags, &anew, Dict::NULL).await?;
        Ok(anew)
    }
}

impl Home {
    /// Makes an fd lead to the file, and lets all fops know where it is. `stranded` tells that the fd led to what an earlier move has left.
    pub(super) async fn lead(&self, context: &Context, fd: &Arc<Fd>, was_at: usize, stranded: bool) -> FopResult<()> {
        self.core.remember_file(&fd.inode, self.at);
        if stranded {
            self.core.forget_opened(fd, self.at);
        }
        match self.at != was_at || stranded {
            true => self.core.open_there(context, fd, self.at).await,
            false => Ok(()),
        }
    }

    /// Lets rebalance go on.
    pub(super) async fn leave(self) {
        if self.is_protected {
            self.unprotect().await;
        }
        self.lock.give_back().await;
    }

    /// Rebalance may have taken its protection away before it was set. It would be copied with the file when that moves on, and forbid that.
    async fn unprotect(&self) {
        let (child, root) = (self.core.child(self.at), as_root(&Context::internal()));
        match child.fremovexattr(&root, &self.file, keys::PROTECT_WRITES, Dict::NULL).await {
            Err(error) if error.errno != Errno::ENODATA => {
                tracing::info!(%error, "a file that has moved stays protected from rebalance");
            }
            _ => {}
        }
    }
}

impl Search {
    async fn run(mut self, mut at: usize) -> FopResult<Found> {
        let core = self.core.clone();
        for _ in 0..MOVES {
            match self.look_at(at).await? {
                Here::Home(home) => return Ok(Found::Home(home)),
                Here::Nameless => return Ok(Found::Nameless(at)),
                Here::Elsewhere => {}
            }
            let loc = Loc::inode(self.inode.clone());
            let target = self.fd.as_ref().map_or(Target::Loc(&loc), Target::Fd);
            at = match core.new_home(&self.root, target, at, true).await {
                Ok(new) => new.unwrap_or(at),
                Err(error) if is_missing(error.errno) => return Ok(Found::Removed(error)),
                Err(error) => return Err(error),
            };
        }
        let detail = "rebalance moves the file faster than it can be followed; try again";
        Err(core.error(Errno::EIO, "wait for the end of a move").with_detail(detail))
    }

    async fn look_at(&mut self, at: usize) -> FopResult<Here> {
        let core = self.core.clone();
        let promised = self.fd.as_ref().map_or(0, |fd| fd.flags & (libc::O_SYNC | libc::O_DSYNC));
        let flags = libc::O_RDWR | libc::O_APPEND | promised;
        let file = match core.open_anew(&self.root, &self.inode, at, flags).await {
            Err(error) if is_missing(error.errno) => return Ok(self.without_name(at).await),
            opened => opened?,
        };
        match self.presence(at, &file).await?.0 {
            Presence::Left => return Ok(Here::Elsewhere),
            Presence::Source(name) => self.protect(at, &name).await,
            Presence::Whole | Presence::Unknown => {}
        }
        let mut lock = Transaction::new(&core, &self.root);
        match lock.inode(at, keys::MIGRATE_DOMAIN, &self.inode, LockType::Write).await {
            Err(error) if is_missing(error.errno) => return Ok(Here::Elsewhere),
            locked => locked?,
        }
        let (presence, mut stat) = self.presence(at, &file).await?;
        match presence {
            Presence::Left => {
                lock.give_back().await;
                return Ok(Here::Elsewhere);
            }
            // Whoever moved it has died: all of the file is here.
            Presence::Source(_) => linkto::strip_migration_marks(&mut stat),
            Presence::Whole | Presence::Unknown => {}
        }
        let is_protected = self.protected.contains(&at);
        Ok(Here::Home(Box::new(Home { at, file, stat, lock, is_protected, core })))
    }

    /// What a subvolume has; fails when it does not tell.
    async fn presence(&self, at: usize, file: &Arc<Fd>) -> FopResult<(Presence, Iatt)> {
        let answer = self.core.look(&self.root, Target::Fd(file), at).await;
        match Presence::of(&answer) {
            Presence::Left => Ok((Presence::Left, Iatt::default())),
            presence => answer.map(|StatReply { stat, .. }| (presence, stat)),
        }
    }

    async fn without_name(&self, at: usize) -> Here {
        let Some(fd) = self.fd.as_ref().filter(|fd| self.core.is_open_there(fd, at)) else { return Here::Elsewhere };
        match self.core.child(at).fstat(&self.root, fd, Dict::NULL).await {
            Ok(reply) if !linkto::has_linkto_mode(&reply.stat) => Here::Nameless,
            _ => Here::Elsewhere,
        }
    }

    /// Protects the destination from what rebalance would copy there, unless the file is there already. When that fails, we wait longer.
    async fn protect(&mut self, source: usize, name: &[u8]) {
        let Some(aim) = self.core.index_of(name).filter(|aim| *aim != source) else { return };
        let child = self.core.child(aim);
        let Ok(there) = self.core.open_anew(&self.root, &self.inode, aim, libc::O_RDWR).await else { return };
        if child.fgetxattr(&self.root, &there, Some(keys::LINKTO), Dict::NULL).await.is_err() {
            return;
        }
        // A write of nothing: over replicas that is in one order with the writes of rebalance everywhere, as an xattr would not be.
        let protection = Dict::empty().with(keys::PROTECT_WRITES, Value::Uint(1));
        self.protected.push(aim);
        if let Err(error) = child.writev(&self.root, &there, Payload::new(), 0, 0, protection).await {
            tracing::debug!(%error, "the destination of a move could not be protected");
        }
    }
}
