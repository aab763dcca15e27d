//! The locks that translators above take through this one: distribute's, in its own domains (`afr_fop_handle_lock`).
//!
//! They are asked of all children at once, without waiting, whatever was asked for. When one child refuses, all is given
//! back and asked for again as it was asked for, child after child: two clients that each got one copy would otherwise both
//! fail, or wait for each other.
//!
//! As with distribute's own calls: a future that is dropped while it waits leaves its lock held.

use std::sync::Arc;

use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, LockType};
use rgfs_protocol::{Dict, Errno};

use super::child_set::ChildSet;
use super::core::{Call, Core, Replies, successes};
use super::errors::final_error;
use crate::{Context, Fd, FopResult, Loc, Translator};

/// How a child is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// Without waiting.
    Try,
    /// As the caller asked.
    AsAsked,
    /// To give the lock back.
    Unlock,
}

impl Core {
    pub(super) async fn inodelk(
        self: &Arc<Self>,
        context: &Context,
        volume: &str,
        loc: &Loc,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.lock_copies("inodelk", flock.kind == LockType::Unlock, |child, ask| {
            let (cmd, flock) = inode_request(ask, cmd, &flock);
            child.inodelk(context, volume, loc, cmd, flock, xdata.clone())
        })
        .await
    }

    pub(super) async fn finodelk(
        self: &Arc<Self>,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.lock_copies("finodelk", flock.kind == LockType::Unlock, |child, ask| {
            let (cmd, flock) = inode_request(ask, cmd, &flock);
            child.finodelk(context, volume, fd, cmd, flock, xdata.clone())
        })
        .await
    }

    pub(super) async fn entrylk(
        self: &Arc<Self>,
        context: &Context,
        volume: &str,
        loc: &Loc,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.lock_copies("entrylk", cmd == EntrylkCmd::Unlock, |child, ask| {
            child.entrylk(context, volume, loc, name, entry_request(ask, cmd), kind, xdata.clone())
        })
        .await
    }

    pub(super) async fn fentrylk(
        self: &Arc<Self>,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.lock_copies("fentrylk", cmd == EntrylkCmd::Unlock, |child, ask| {
            child.fentrylk(context, volume, fd, name, entry_request(ask, cmd), kind, xdata.clone())
        })
        .await
    }

    /// Locks enough copies for the quorum, or none. A release is sent to all, and any success will do.
    async fn lock_copies<'a>(
        &'a self,
        step: &'static str,
        releases: bool,
        call: impl Fn(&'a Arc<dyn Translator>, Ask) -> Call<'a, Dict> + Send + Sync,
    ) -> FopResult<Dict> {
        let up = self.up(step)?;
        if releases {
            let replies = self.ask(up, |_, child| call(child, Ask::AsAsked)).await;
            return self.any(replies, step);
        }
        let mut replies = self.ask(up, |_, child| call(child, Ask::Try)).await;
        if replies.iter().any(|(_, reply)| refused(reply)) {
            self.give_back(successes(&replies), &call).await;
            replies.clear();
            for index in up.iter() {
                let reply = call(self.child(index), Ask::AsAsked).await;
                if refused(&reply) {
                    self.give_back(successes(&replies), &call).await;
                    return reply;
                }
                replies.push((index, reply));
            }
        }
        let locked = successes(&replies);
        if !locked.is_empty() && self.has_quorum(locked) {
            return self.any(replies, step);
        }
        self.give_back(locked, &call).await;
        Err(final_error(&replies).unwrap_or_else(|| self.no_quorum(locked, step)))
    }

    async fn give_back<'a>(
        &'a self,
        children: ChildSet,
        call: &(impl Fn(&'a Arc<dyn Translator>, Ask) -> Call<'a, Dict> + Sync),
    ) {
        let replies: Replies<Dict> = self.ask(children, |_, child| call(child, Ask::Unlock)).await;
        for error in replies.into_iter().filter_map(|(_, reply)| reply.err()) {
            tracing::warn!(%error, "a lock could not be given back; the brick drops it with the connection");
        }
    }
}

fn refused(reply: &FopResult<Dict>) -> bool {
    matches!(reply, Err(error) if error.errno == Errno::EAGAIN)
}

fn inode_request(ask: Ask, cmd: InodelkCmd, flock: &Flock) -> (InodelkCmd, Flock) {
    match ask {
        Ask::Try => (InodelkCmd::SetLk, flock.clone()),
        Ask::AsAsked => (cmd, flock.clone()),
        Ask::Unlock => (InodelkCmd::SetLk, Flock { kind: LockType::Unlock, ..flock.clone() }),
    }
}

fn entry_request(ask: Ask, cmd: EntrylkCmd) -> EntrylkCmd {
    match ask {
        Ask::Try => EntrylkCmd::LockNonBlocking,
        Ask::AsAsked => cmd,
        Ask::Unlock => EntrylkCmd::Unlock,
    }
}
