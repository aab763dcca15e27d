//! The locks of transactions, in the domain that all clients and the self-heal daemon share (`afr-lk-common.c`).
//!
//! First all locks are asked of all children at once, without waiting. When any child refuses, everything that was granted
//! is given back, and then the locks are waited for one after the other: lockee after lockee in the order of gfids and
//! names, and each of them child after child. All clients wait in that order, and so never for each other in a circle.
//!
//! Ask for locks inside [`to_the_end`](super::core::to_the_end), or another task that nobody drops: nobody can take back
//! a request that waits in a brick.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, LockType};
use rgfs_protocol::{Dict, Errno};
use smallvec::SmallVec;

use super::child_set::ChildSet;
use super::core::{Call, Core, in_background};
use super::lock_order;
use super::target::Target;
use crate::translators::cluster::join_all;
use crate::{Context, FopError, FopResult, Inode, Loc, Translator, task};

/// Start of the range that stands for the attributes of an inode (`LLONG_MAX - 1`); the brick moves it into a domain of its own.
pub(super) const METADATA_START: u64 = 0x7fff_ffff_ffff_fffe;

/// Something to be locked.
#[derive(Clone, Debug)]
pub(super) enum Lockee {
    /// A range of an inode; length 0 is to the end.
    Range {
        /// The inode.
        target: Target,
        /// First byte.
        start: u64,
        /// Bytes.
        len: u64,
    },
    /// A name in a directory; `None` for all names.
    Entry {
        /// The directory.
        parent: Arc<Inode>,
        /// The name.
        name: Option<Bytes>,
    },
}

impl Lockee {
    /// The content of a file, all of it.
    pub(super) fn content(target: Target) -> Self {
        Lockee::Range { target, start: 0, len: 0 }
    }

    /// The attributes of an inode.
    pub(super) fn metadata(target: Target) -> Self {
        Lockee::Range { target, start: METADATA_START, len: 0 }
    }

    /// A name in a directory.
    pub(super) fn name(parent: &Arc<Inode>, name: &Bytes) -> Self {
        Lockee::Entry { parent: parent.clone(), name: Some(name.clone()) }
    }

    /// All names in a directory.
    pub(super) fn all_names(directory: &Arc<Inode>) -> Self {
        Lockee::Entry { parent: directory.clone(), name: None }
    }

    /// The inode that the brick hangs the lock on.
    pub(super) fn inode(&self) -> &Arc<Inode> {
        match self {
            Lockee::Range { target, .. } => target.inode(),
            Lockee::Entry { parent, .. } => parent,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    /// Now, or not at all.
    Try,
    /// When it is free.
    Wait,
    /// Give it back.
    Release,
}

/// What is held of one lockee.
struct Held {
    lockee: Lockee,
    /// By gfid alone: a name could lead the brick to another object.
    loc: Loc,
    /// Children that granted it.
    granted: ChildSet,
    /// Children that must be told to give it back: they granted it, or may have without being able to say so.
    owed: ChildSet,
}

impl Held {
    fn call<'a>(
        &'a self,
        child: &'a Arc<dyn Translator>,
        context: &'a Context,
        domain: &'a str,
        request: Request,
    ) -> Call<'a, Dict> {
        match &self.lockee {
            Lockee::Range { target, start, len } => {
                let cmd = if request == Request::Wait { InodelkCmd::SetLkW } else { InodelkCmd::SetLk };
                let kind = if request == Request::Release { LockType::Unlock } else { LockType::Write };
                let (pid, owner) = (context.pid.cast_unsigned(), context.lock_owner.clone());
                let flock = Flock { kind, whence: 0, start: *start, len: *len, pid, owner };
                match target {
                    Target::Inode(_) => child.inodelk(context, domain, &self.loc, cmd, flock, Dict::NULL),
                    Target::Fd(fd) => child.finodelk(context, domain, fd, cmd, flock, Dict::NULL),
                }
            }
            Lockee::Entry { name, .. } => {
                let cmd = match request {
                    Request::Try => EntrylkCmd::LockNonBlocking,
                    Request::Wait => EntrylkCmd::Lock,
                    Request::Release => EntrylkCmd::Unlock,
                };
                child.entrylk(context, domain, &self.loc, name.as_deref(), cmd, EntrylkType::Write, Dict::NULL)
            }
        }
    }
}

/// Locks that are held. Dropping them gives them back in the background.
pub(super) struct Locks {
    core: Arc<Core>,
    context: Context,
    domain: Arc<str>,
    /// Of the children, when the locks were asked for.
    generation: u32,
    /// In locking order.
    held: SmallVec<[Held; 1]>,
    /// Why the last child that did not grant a lock did not.
    refusal: Option<FopError>,
}

impl Core {
    /// Takes the locks of a transaction on these children. `context` carries the owner of the transaction, see
    /// [`with_own_locks`](super::core::with_own_locks). What is returned is held by at least one child.
    ///
    /// # Errors
    /// The last one of the children, when none of them granted all locks.
    pub(super) async fn lock(
        self: &Arc<Self>,
        context: &Context,
        domain: &Arc<str>,
        lockees: SmallVec<[Lockee; 3]>,
        on: ChildSet,
    ) -> FopResult<Locks> {
        let mut locks = Locks::none(self, context, domain, lockees);
        let mut errors = locks.try_all(on).await;
        if errors.is_empty() && !on.is_empty() {
            return Ok(locks);
        }
        locks.give_back().await;
        if !errors.iter().any(is_unsupported) {
            errors = locks.wait_for_all(on).await;
        }
        let unsupported = errors.iter().position(is_unsupported);
        let error = match unsupported {
            None => errors.pop(),
            Some(index) => Some(errors.swap_remove(index)),
        };
        if unsupported.is_none() && !locks.children().is_empty() {
            locks.refusal = error;
            return Ok(locks);
        }
        locks.give_back().await;
        Err(error.unwrap_or_else(|| self.no_quorum(ChildSet::EMPTY, "lock")))
    }

    /// Takes the lock of a healer on as many of these children as possible: where another client holds it, by waiting for
    /// it (`afr_selfheal_inodelk`, `afr_selfheal_entrylk`). Look at [`Locks::children`].
    pub(super) async fn lock_for_heal(
        self: &Arc<Self>,
        context: &Context,
        domain: &Arc<str>,
        lockee: Lockee,
        on: ChildSet,
    ) -> Locks {
        let mut locks = Locks::none(self, context, domain, SmallVec::from_iter([lockee]));
        if locks.try_all(on).await.iter().any(is_refusal) {
            locks.give_back().await;
            locks.wait_for_all(on).await;
        }
        locks
    }

    /// As [`Core::lock_for_heal`], but only the healer that got most of the children waits for the others, so that of
    /// several healers one goes on (`afr_selfheal_tie_breaker_inodelk`).
    pub(super) async fn lock_for_heal_alone(
        self: &Arc<Self>,
        context: &Context,
        domain: &Arc<str>,
        lockee: Lockee,
        on: ChildSet,
    ) -> Locks {
        let mut locks = Locks::none(self, context, domain, SmallVec::from_iter([lockee]));
        let refused = locks.try_all(on).await.iter().any(is_refusal);
        if refused && locks.children().len() > self.count() / 2 {
            locks.give_back().await;
            locks.wait_for_all(on).await;
        }
        locks
    }
}

fn is_unsupported(error: &FopError) -> bool {
    error.errno == Errno::ENOSYS
}

fn is_refusal(error: &FopError) -> bool {
    error.errno == Errno::EAGAIN
}

impl Locks {
    fn none(core: &Arc<Core>, context: &Context, domain: &Arc<str>, mut lockees: SmallVec<[Lockee; 3]>) -> Self {
        if lockees.len() > 1 {
            lockees.sort_by(lock_order::compare);
        }
        let none = |lockee: Lockee| Held {
            loc: Loc::inode(lockee.inode().clone()),
            lockee,
            granted: ChildSet::EMPTY,
            owed: ChildSet::EMPTY,
        };
        Locks {
            core: core.clone(),
            context: context.clone(),
            domain: domain.clone(),
            generation: core.snapshot().generation,
            held: lockees.into_iter().map(none).collect(),
            refusal: None,
        }
    }

    /// Why the last child that did not grant a lock did not.
    pub(super) fn refusal(&self) -> Option<&FopError> {
        self.refusal.as_ref()
    }

    /// The children that granted all locks.
    pub(super) fn children(&self) -> ChildSet {
        self.held.iter().fold(self.core.all(), |children, held| children.and(held.granted))
    }

    /// The children that hold all locks now: a brick drops the locks of a connection that breaks.
    pub(super) fn still_held(&self) -> ChildSet {
        self.children().and(self.core.unchanged_since(self.generation))
    }

    /// Gives all locks back, and waits for the answers.
    pub(super) async fn unlock(mut self) {
        self.give_back().await;
    }

    /// Gives all locks back; nobody waits.
    pub(super) fn unlock_in_background(self) {
        drop(self);
    }

    /// Asks all children for all locks at once; returns the errors.
    async fn try_all(&mut self, on: ChildSet) -> Vec<FopError> {
        for held in &mut self.held {
            // Until the answers say otherwise.
            held.owed = on;
        }
        let answers = self.call_all(&self.held, |_| on, Request::Try).await;
        let mut answers = answers.into_iter();
        let mut errors = Vec::new();
        for held in &mut self.held {
            for (child, answer) in on.iter().zip(answers.by_ref()) {
                match answer {
                    Ok(_) => held.granted.insert(child),
                    Err(error) => {
                        // Without an answer, but with the connection alive, the brick may grant it later.
                        let may_come = error.errno == Errno::ENOTCONN
                            && self.core.unchanged_since(self.generation).contains(child);
                        if !may_come {
                            held.owed.remove(child);
                        }
                        errors.push(error);
                    }
                }
            }
        }
        errors
    }

    /// Waits for the locks one after the other; returns the errors.
    async fn wait_for_all(&mut self, on: ChildSet) -> Vec<FopError> {
        let mut errors = Vec::new();
        for held in &mut self.held {
            for child in on.iter() {
                held.owed.insert(child);
                match held.call(self.core.child(child), &self.context, &self.domain, Request::Wait).await {
                    Ok(_) => held.granted.insert(child),
                    Err(error) => {
                        // A request that waits has no time limit: it was refused, or its connection broke.
                        held.owed.remove(child);
                        errors.push(error);
                    }
                }
            }
        }
        errors
    }

    async fn give_back(&mut self) {
        // Out of reach of `drop`: what was sent once needs not be sent again.
        let mut held = std::mem::take(&mut self.held);
        // Errors do not matter: a lock that cannot be given back went with its connection.
        self.call_all(&held, |held| held.owed, Request::Release).await;
        for held in &mut held {
            (held.granted, held.owed) = (ChildSet::EMPTY, ChildSet::EMPTY);
        }
        self.held = held;
    }

    async fn call_all(&self, held: &[Held], on: impl Fn(&Held) -> ChildSet, request: Request) -> Vec<FopResult<Dict>> {
        let pairs = held.iter().flat_map(|held| on(held).iter().map(move |child| (held, child)));
        let calls = pairs.map(|(held, child)| held.call(self.core.child(child), &self.context, &self.domain, request));
        join_all(calls).await
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        if self.held.iter().all(|held| held.owed.is_empty()) {
            return;
        }
        let mut locks = Locks {
            core: self.core.clone(),
            context: in_background(&self.context),
            domain: self.domain.clone(),
            generation: self.generation,
            held: std::mem::take(&mut self.held),
            refusal: None,
        };
        let unfinished = self.core.unfinished();
        task::spawn(async move {
            let _unfinished = unfinished;
            locks.give_back().await;
        });
    }
}
