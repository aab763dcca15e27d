//! The locks that clients and the rebalance daemon agree on (`dht-lock.c`).
//!
//! | domain | taken on | by |
//! |---|---|---|
//! | `dht.layout.heal`, read | the parent, at the hashed subvolume of the name | what makes or removes a name |
//! | `dht.layout.heal`, write | a directory, everywhere or at one subvolume | what writes its layout |
//! | `dht.entry.sync` | a name in its parent, at its hashed subvolume | with the first one |
//! | `dht.file.migrate` | a data file, at its subvolume | rename, rebalance, what was appended while the file moved |
//!
//! Locks are waited for, one after the other, in an order that all clients share. Use them inside
//! [`to_the_end`](super::core::to_the_end) only: a future that is dropped while it waits would leave its lock held.
//!
//! They are taken as an internal process. A brick lets nobody remove an object on which somebody else's process holds an
//! inode lock (`pl_inode_remove_prepare`). Over replicas that is a trap: the rename that holds the lock of a file waits
//! for the name, which the self-heal daemon has locked, to remove that very file from a brick that missed something; and
//! the brick lets it wait for the rename. The C client hangs there, until a connection breaks. For locks of internal
//! processes removals do not wait, and between clients and rebalance they exclude each other all the same.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, LockType};
use rgfs_protocol::{Dict, Errno};

use super::core::{Core, as_root, with_own_locks};
use super::keys;
use crate::inode::Inode;
use crate::{Context, FopResult, Loc, task};

enum Held {
    Inode { child: usize, domain: &'static str, inode: Arc<Inode> },
    Entry { child: usize, parent: Arc<Inode>, name: Bytes },
}

/// The locks of one transaction, with a lock owner of its own.
pub(super) struct Transaction {
    core: Arc<Core>,
    context: Context,
    held: Vec<Held>,
}

impl Transaction {
    /// A transaction that holds nothing yet.
    pub(super) fn new(core: &Arc<Core>, context: &Context) -> Self {
        Transaction { core: core.clone(), context: with_own_locks(&as_root(context)), held: Vec::new() }
    }

    /// Locks a whole inode in a domain.
    pub(super) async fn inode(
        &mut self,
        child: usize,
        domain: &'static str,
        inode: &Arc<Inode>,
        kind: LockType,
    ) -> FopResult<()> {
        let flock = self.flock(kind);
        // By gfid alone: a name could lead the brick to another object.
        let loc = Loc::inode(inode.clone());
        let brick = self.core.child(child);
        brick.inodelk(&self.context, domain, &loc, InodelkCmd::SetLkW, flock, Dict::NULL).await?;
        self.held.push(Held::Inode { child, domain, inode: inode.clone() });
        Ok(())
    }

    /// Locks a name against other makers, removers and healers of it: the parent's layout for reading, then the entry.
    pub(super) async fn namespace(&mut self, child: usize, parent: &Arc<Inode>, name: &Bytes) -> FopResult<()> {
        self.inode(child, keys::LAYOUT_DOMAIN, parent, LockType::Read).await?;
        let loc = Loc::inode(parent.clone());
        let brick = self.core.child(child);
        let (lock, write) = (EntrylkCmd::Lock, EntrylkType::Write);
        brick.entrylk(&self.context, keys::ENTRY_DOMAIN, &loc, Some(name), lock, write, Dict::NULL).await?;
        self.held.push(Held::Entry { child, parent: parent.clone(), name: name.clone() });
        Ok(())
    }

    /// Locks a directory's layout for writing on all children, in the order of names.
    pub(super) async fn whole_layout(&mut self, inode: &Arc<Inode>) -> FopResult<()> {
        for child in self.core.by_name.clone() {
            let locked = self.inode(child, keys::LAYOUT_DOMAIN, inode, LockType::Write).await;
            ignore_missing(locked)?;
        }
        match self.held.is_empty() {
            false => Ok(()),
            true => Err(self.core.error(Errno::ESTALE, "lock the layout").with_detail("no child has the directory")),
        }
    }

    /// Gives all locks back, last one first. Nobody waits for the answers: a brick that does not answer is gone, and its
    /// locks with it.
    pub(super) fn release(self) {
        drop(self);
    }

    /// Gives all locks back and waits until that is done: the same will be locked again.
    pub(super) async fn give_back(mut self) {
        let flock = self.flock(LockType::Unlock);
        for lock in std::mem::take(&mut self.held).into_iter().rev() {
            unlock(&self.core, &self.context, &flock, lock).await;
        }
    }

    fn flock(&self, kind: LockType) -> Flock {
        let owner = self.context.lock_owner.clone();
        Flock { kind, whence: 0, start: 0, len: 0, pid: self.context.pid.cast_unsigned(), owner }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return;
        }
        let (core, flock) = (self.core.clone(), self.flock(LockType::Unlock));
        // Nobody waits for these rounds.
        let context = Context { rounds: Arc::default(), ..self.context.clone() };
        task::spawn(async move {
            for lock in held.into_iter().rev() {
                unlock(&core, &context, &flock, lock).await;
            }
        });
    }
}

async fn unlock(core: &Core, context: &Context, flock: &Flock, lock: Held) {
    let result = match lock {
        Held::Inode { child, domain, inode } => {
            let loc = Loc::inode(inode);
            core.child(child).inodelk(context, domain, &loc, InodelkCmd::SetLk, flock.clone(), Dict::NULL).await
        }
        Held::Entry { child, parent, name } => {
            let loc = Loc::inode(parent);
            let (unlock, write) = (EntrylkCmd::Unlock, EntrylkType::Write);
            let brick = core.child(child);
            brick.entrylk(context, keys::ENTRY_DOMAIN, &loc, Some(&name), unlock, write, Dict::NULL).await
        }
    };
    if let Err(error) = result {
        tracing::warn!(%error, "a lock could not be given back; the brick drops it with the connection");
    }
}

/// Takes "the object is not there" for success: nothing to lock.
pub(super) fn ignore_missing(result: FopResult<()>) -> FopResult<()> {
    match result {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => Ok(()),
        other => other,
    }
}
