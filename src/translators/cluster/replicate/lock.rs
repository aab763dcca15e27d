//! The locks of transactions, in the domain that all clients and the self-heal daemon share (`afr-lk-common.c`).
//!
//! First all locks are asked of all children at once, without waiting. When any child refuses, everything that was granted
//! is given back, and then the locks are waited for one after the other: lockee after lockee in the order of gfids and
//! names, and each of them child after child. All clients wait in that order, and so never for each other in a circle.
//! (Nobody waits when he holds a lock that comes later in that order; without waiting any may be asked for.)
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

/// One lock on one child.
#[derive(Clone, Copy)]
struct Turn {
    /// Index of the lockee.
    lockee: usize,
    child: usize,
}

type Turns = SmallVec<[Turn; 3]>;

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
        self.insist_on_any(locks, errors).await
    }

    /// As [`Core::lock`], for locks that somebody else is known to want: they are waited for from the beginning. To try them
    /// first would take two rounds, and stand in the way of who is to have them before.
    pub(super) async fn wait_for_locks(
        self: &Arc<Self>,
        context: &Context,
        domain: &Arc<str>,
        lockees: SmallVec<[Lockee; 3]>,
        on: ChildSet,
    ) -> FopResult<Locks> {
        let mut locks = Locks::none(self, context, domain, lockees);
        let errors = locks.wait_for_all(on).await;
        self.insist_on_any(locks, errors).await
    }

    async fn insist_on_any(&self, mut locks: Locks, mut errors: Vec<FopError>) -> FopResult<Locks> {
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

    /// All locks on these children, in locking order.
    fn turns(&self, on: ChildSet) -> Turns {
        (0..self.held.len()).flat_map(|lockee| on.iter().map(move |child| Turn { lockee, child })).collect()
    }

    /// Asks all children for all locks at once; returns the errors.
    async fn try_all(&mut self, on: ChildSet) -> Vec<FopError> {
        self.try_these(&self.turns(on)).await
    }

    async fn try_these(&mut self, turns: &[Turn]) -> Vec<FopError> {
        for turn in turns {
            if let Some(held) = self.held.get_mut(turn.lockee) {
                // Until the answers say otherwise.
                held.owed.insert(turn.child);
            }
        }
        let answers = self.call_all(&self.held, turns, Request::Try).await;
        let mut errors = Vec::new();
        for (turn, answer) in turns.iter().zip(answers) {
            let Some(held) = self.held.get_mut(turn.lockee) else { continue };
            match answer {
                Ok(_) => held.granted.insert(turn.child),
                Err(error) => {
                    // Without an answer, but with the connection alive, the brick may grant it later.
                    let may_come = error.errno == Errno::ENOTCONN
                        && self.core.unchanged_since(self.generation).contains(turn.child);
                    if !may_come {
                        held.owed.remove(turn.child);
                    }
                    errors.push(error);
                }
            }
        }
        errors
    }

    /// Waits for the locks one after the other; returns the errors.
    ///
    /// Who has the first one is mostly alone then, for the others wait for it too. So the rest is asked for at once. Only
    /// when one of them is refused are they all given back, and waited for in their turn.
    async fn wait_for_all(&mut self, on: ChildSet) -> Vec<FopError> {
        let mut errors = Vec::new();
        let mut turns = self.turns(on).into_iter();
        for turn in turns.by_ref() {
            match self.wait_for(turn).await {
                Ok(()) => break,
                Err(error) => errors.push(error),
            }
        }
        let rest: Turns = turns.collect();
        let failures = self.try_these(&rest).await;
        if !failures.iter().any(is_refusal) {
            errors.extend(failures);
            return errors;
        }
        self.give_back_these(&rest).await;
        for turn in rest {
            errors.extend(self.wait_for(turn).await.err());
        }
        errors
    }

    async fn wait_for(&mut self, turn: Turn) -> FopResult<()> {
        let Some(held) = self.held.get_mut(turn.lockee) else { return Ok(()) };
        held.owed.insert(turn.child);
        let answer = held.call(self.core.child(turn.child), &self.context, &self.domain, Request::Wait).await;
        match answer {
            Ok(_) => held.granted.insert(turn.child),
            // A request that waits has no time limit: it was refused, or its connection broke.
            Err(_) => held.owed.remove(turn.child),
        }
        answer.map(drop)
    }

    async fn give_back(&mut self) {
        self.give_back_these(&self.turns(self.core.all())).await;
    }

    /// Gives back what is held, or may be, of these.
    async fn give_back_these(&mut self, turns: &[Turn]) {
        // Out of reach of `drop`: what was sent once needs not be sent again.
        let mut held = std::mem::take(&mut self.held);
        let owed = |turn: &&Turn| held.get(turn.lockee).is_some_and(|held| held.owed.contains(turn.child));
        let turns: Turns = turns.iter().filter(owed).copied().collect();
        // Errors do not matter: a lock that cannot be given back went with its connection.
        self.call_all(&held, &turns, Request::Release).await;
        for turn in turns {
            if let Some(held) = held.get_mut(turn.lockee) {
                held.granted.remove(turn.child);
                held.owed.remove(turn.child);
            }
        }
        self.held = held;
    }

    async fn call_all(&self, held: &[Held], turns: &[Turn], request: Request) -> Vec<FopResult<Dict>> {
        let call = |turn: &Turn| {
            let held = held.get(turn.lockee)?;
            Some(held.call(self.core.child(turn.child), &self.context, &self.domain, request))
        };
        join_all(turns.iter().filter_map(call)).await
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
