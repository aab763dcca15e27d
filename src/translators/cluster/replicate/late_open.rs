//! Files that were opened while a child was away are opened there when it is back (`afr_fix_open`).
//!
//! Nobody waits for it: until then `protocol/client` reaches the file through the brick's anonymous fd, or opens it itself
//! for a fop that the anonymous fd does not serve.

use std::sync::Arc;

use rgfs_protocol::Dict;
use rgfs_protocol::open_flags::host::{O_CREAT, O_EXCL, O_TRUNC};

use super::child_set::ChildSet;
use super::core::{Core, successes};
use crate::{Context, Fd, Loc, task};

impl Core {
    /// Opens `fd`, in the background, on those children of `up` where it is neither open nor being opened. Call it before
    /// fops on an fd that use it; it costs one atomic load when nothing is missing.
    pub(super) fn open_late(self: &Arc<Self>, fd: &Arc<Fd>, up: ChildSet) {
        let state = self.fd(fd);
        let claimed = state.begin_late_open(up);
        if claimed.is_empty() {
            return;
        }
        let (core, fd) = (self.clone(), fd.clone());
        task::spawn(async move {
            // Who opened it was checked then; now it is opened as root.
            let context = &Context::internal();
            let (loc, fd) = (&Loc::inode(fd.inode.clone()), &fd);
            let flags = fd.flags & !(O_CREAT | O_EXCL | O_TRUNC);
            let replies = match fd.inode.is_dir() {
                true => core.ask(claimed, |_, child| child.opendir(context, loc, fd, Dict::NULL)).await,
                false => core.ask(claimed, |_, child| child.open(context, loc, flags, fd, Dict::NULL)).await,
            };
            state.late_open_ended(claimed, successes(&replies));
            for error in replies.into_iter().filter_map(|(_, reply)| reply.err()) {
                tracing::debug!(%error, gfid = %fd.gfid(), "a file could not be opened on a brick that came back");
            }
        });
    }
}
