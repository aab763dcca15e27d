//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn statfs(self: &Arc<Self>, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatfsReply> {
        let _ = (context, loc, xdata);
        Err(self.error(Errno::ENOSYS, "statfs"))
    }

    pub(super) async fn flush(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let _ = (context, fd, xdata);
        Err(self.error(Errno::ENOSYS, "flush"))
    }

    pub(super) async fn lease(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        lease: Lease,
        xdata: Dict,
    ) -> FopResult<LeaseReply> {
        let _ = (context, loc, lease, xdata);
        Err(self.error(Errno::ENOSYS, "lease"))
    }

    pub(super) async fn ipc(self: &Arc<Self>, context: &Context, op: i32, xdata: Dict) -> FopResult<Dict> {
        let _ = (context, op, xdata);
        Err(self.error(Errno::ENOSYS, "ipc"))
    }
}
