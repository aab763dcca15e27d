//! LK: the locks of applications (`afr_lk`).
//!
//! A lock is asked for child after child: all clients ask the first child first, so two that want the same lock meet there
//! and nowhere else, and never wait for each other. It is held when enough children for the quorum granted it. A brick that
//! was away when it was taken does not know it; those that granted it protect it.
//!
//! A child whose connection breaks takes its locks again on the next one. So an unlock goes to all children, also to those
//! that are away: they have to forget the lock, or it would come back with the brick and stay.

use std::sync::Arc;

use rgfs_protocol::types::{Flock, LkCmd, LockType};
use rgfs_protocol::{Dict, Errno};

use super::child_set::ChildSet;
use super::core::{Core, Replies, in_background, successes, to_the_end};
use super::errors::final_error;
use crate::reply::LkReply;
use crate::{Context, Fd, FopError, FopResult, task};

/// Asks for mandatory locks (`GF_LOCK_MODE`).
const LOCK_MODE: &str = "glusterfs.lk.lkmode";

impl Core {
    pub(super) async fn lk(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        cmd: LkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<LkReply> {
        if xdata.contains(LOCK_MODE) {
            let error = self.error(Errno::EOPNOTSUPP, "lk");
            return Err(error.with_detail("mandatory locks are not supported on replicated volumes"));
        }
        match (cmd, flock.kind) {
            (LkCmd::SetLk | LkCmd::SetLkW, LockType::Unlock) => {
                let asked = self.all();
                let (context, fd) = (context.clone(), fd.clone());
                let core = self.clone();
                to_the_end(self, "unlock", |reply| async move {
                    let unlocked =
                        core.ask(asked, |_, child| child.lk(&context, &fd, cmd, flock.clone(), xdata.clone())).await;
                    reply.send(core.with_quorum(unlocked, "unlock"));
                })
                .await
            }
            (LkCmd::GetLk, _) => {
                let asked = self.up("lk")?;
                let replies =
                    self.ask(asked, |_, child| child.lk(context, fd, cmd, flock.clone(), xdata.clone())).await;
                self.conflict(replies)
            }
            (LkCmd::SetLk, _) => {
                let (core, context, fd) = (self.clone(), context.clone(), fd.clone());
                // It does not wait, so it need not be cancelled: nobody would note a grant that comes too late.
                to_the_end(self, "lk", |reply| async move {
                    reply.send(core.lock_in_turn(&context, &fd, cmd, flock, xdata).await);
                })
                .await
            }
            (LkCmd::SetLkW, _) => self.lock_in_turn(context, fd, cmd, flock, xdata).await,
            _ => Err(self.error(Errno::EOPNOTSUPP, "lk").with_detail("this lock command is for bricks only")),
        }
    }

    /// Locks child after child. Dropped while it waits, it gives back what was granted; the child that it waited for does
    /// the same for its part.
    async fn lock_in_turn(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        cmd: LkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<LkReply> {
        let mut granted = Granted {
            core: self.clone(),
            context: context.clone(),
            fd: fd.clone(),
            unlock: Flock { kind: LockType::Unlock, ..flock.clone() },
            children: ChildSet::EMPTY,
        };
        let mut replies: Replies<LkReply> = Vec::with_capacity(self.count());
        let mut asked_in = Vec::with_capacity(self.count());
        for index in self.up("lk")?.iter() {
            asked_in.push(self.snapshot().generation);
            let reply = self.child(index).lk(context, fd, cmd, flock.clone(), xdata.clone()).await;
            match &reply {
                Ok(_) => granted.children.insert(index),
                Err(error) if matches!(error.errno, Errno::EAGAIN | Errno::EINTR) => {
                    granted.give_back().await;
                    return reply;
                }
                Err(_) => {}
            }
            replies.push((index, reply));
        }
        // While others were waited for, somebody else may have got it where the connection broke.
        for ((index, reply), generation) in replies.iter_mut().zip(asked_in) {
            if reply.is_ok() && !self.unchanged_since(generation).contains(*index) {
                let error = FopError::new(Errno::ENOTCONN, self.child(*index).name(), "lk");
                *reply = Err(error.with_detail("the connection broke, and the lock with it"));
            }
        }
        let locked = self.with_quorum(replies, "lk");
        match locked.is_ok() {
            true => granted.keep(),
            false => granted.give_back().await,
        }
        locked
    }

    /// A success of enough children.
    fn with_quorum(&self, replies: Replies<LkReply>, step: &'static str) -> FopResult<LkReply> {
        let good = successes(&replies);
        let enough = self.has_quorum(good);
        #[cfg(test)]
        let enough = enough || super::planted::is_planted(super::planted::Fault::LockOnFew);
        match good.is_empty() || !enough {
            true => Err(final_error(&replies).unwrap_or_else(|| self.no_quorum(good, step))),
            false => self.any(replies, step),
        }
    }

    /// The lock in the way, if any child knows one: a brick that came back knows fewer than the others.
    fn conflict(&self, replies: Replies<LkReply>) -> FopResult<LkReply> {
        let in_the_way =
            |reply: &FopResult<LkReply>| matches!(reply, Ok(reply) if reply.flock.kind != LockType::Unlock);
        match replies.iter().find(|(_, reply)| in_the_way(reply)) {
            Some((_, Ok(reply))) => Ok(reply.clone()),
            _ => self.any(replies, "lk"),
        }
    }
}

/// What was granted so far; given back when it is dropped.
struct Granted {
    core: Arc<Core>,
    context: Context,
    fd: Arc<Fd>,
    unlock: Flock,
    children: ChildSet,
}

impl Granted {
    /// The lock is held.
    fn keep(mut self) {
        self.children = ChildSet::EMPTY;
    }

    /// Unlocks, and waits for it: the caller may ask for the same lock next.
    async fn give_back(mut self) {
        let children = std::mem::replace(&mut self.children, ChildSet::EMPTY);
        unlock(&self.core, &self.context, &self.fd, &self.unlock, children).await;
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if self.children.is_empty() {
            return;
        }
        let (core, context, fd) = (self.core.clone(), in_background(&self.context), self.fd.clone());
        let (flock, children) = (self.unlock.clone(), self.children);
        task::spawn(async move { unlock(&core, &context, &fd, &flock, children).await });
    }
}

async fn unlock(core: &Core, context: &Context, fd: &Arc<Fd>, flock: &Flock, children: ChildSet) {
    let replies = core.ask(children, |_, child| child.lk(context, fd, LkCmd::SetLk, flock.clone(), Dict::NULL)).await;
    for error in replies.into_iter().filter_map(|(_, reply)| reply.err()) {
        // A brick that is gone dropped the lock with the connection.
        tracing::warn!(%error, gfid = %fd.gfid(), "a lock that was not granted everywhere could not be given back");
    }
}
