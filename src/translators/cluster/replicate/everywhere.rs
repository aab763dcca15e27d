//! Fops that go to all children, and need no lock and no quorum: any success is a success.

use std::sync::Arc;

use rgfs_protocol::types::Lease;
use rgfs_protocol::{Dict, Errno, Value};

use super::child_set::ChildSet;
use super::core::{Core, Replies};
use super::errors::final_error;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

/// The message that says changes of which xattrs this client wants to hear of (`GF_IPC_TARGET_UPCALL`).
const REGISTER_XATTRS: i32 = 2;

impl Core {
    /// The figures of the copy with the least room: what is written must fit on all (`afr_statfs_cbk`).
    pub(super) async fn statfs(self: &Arc<Self>, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatfsReply> {
        let asked = self.up("statfs")?.and(self.data_children());
        let replies = self.ask(asked, |_, child| child.statfs(context, loc, xdata.clone())).await;
        let error = final_error(&replies);
        let answers = replies.into_iter().filter_map(|(_, reply)| reply.ok());
        let fullest = answers.min_by_key(|reply| reply.statfs.bavail);
        fullest.ok_or_else(|| error.unwrap_or_else(|| self.no_quorum(asked, "statfs")))
    }

    /// The delayed changelog of this fd is written, and the owner's posix locks are dropped, wherever they are held. Children
    /// that are away hear it too: they would take the locks again when they come back.
    pub(super) async fn flush(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.flush_session(fd);
        let replies = self.ask(self.all(), |_, child| child.flush(context, fd, xdata.clone())).await;
        self.any(replies, "flush")
    }

    /// Nobody above a replicate asks for leases: to hold one, all copies would have to agree when it is recalled.
    pub(super) async fn lease(
        self: &Arc<Self>,
        _context: &Context,
        _loc: &Loc,
        _lease: Lease,
        _xdata: Dict,
    ) -> FopResult<LeaseReply> {
        Err(self.error(Errno::EOPNOTSUPP, "lease").with_detail("leases are not supported on replicated volumes"))
    }

    /// Unlike elsewhere a failure counts more than a success: every brick must have heard it, unless it is away
    /// (`afr_ipc_cbk`).
    pub(super) async fn ipc(self: &Arc<Self>, context: &Context, op: i32, mut xdata: Dict) -> FopResult<Dict> {
        if op == REGISTER_XATTRS {
            // Caches above must hear of it when a copy is accused.
            for key in &self.keys.pending {
                xdata.set(key.clone(), Value::Int(0));
            }
        }
        let asked = self.up("ipc")?;
        let replies = self.ask(asked, |_, child| child.ipc(context, op, xdata.clone())).await;
        let refused = |(_, reply): &(usize, FopResult<Dict>)| match reply {
            Err(error) if error.errno != Errno::ENOTCONN => Some(error.clone()),
            _ => None,
        };
        match replies.iter().find_map(refused) {
            Some(error) => Err(error),
            None => self.any(replies, "ipc"),
        }
    }

    /// The children that are up; an error when there is none.
    pub(super) fn up(&self, step: &'static str) -> FopResult<ChildSet> {
        let up = self.snapshot().up;
        if up.is_empty() { Err(self.no_quorum(up, step)) } else { Ok(up) }
    }

    /// The first success, or else the error that tells most.
    pub(super) fn any<T>(&self, replies: Replies<T>, step: &'static str) -> FopResult<T> {
        let error = final_error(&replies);
        let success = replies.into_iter().find_map(|(_, reply)| reply.ok());
        success.ok_or_else(|| error.unwrap_or_else(|| self.no_quorum(ChildSet::EMPTY, step)))
    }
}
