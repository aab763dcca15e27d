//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn lk(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        cmd: LkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<LkReply> {
        let _ = (context, fd, cmd, flock, xdata);
        Err(self.error(Errno::ENOSYS, "lk"))
    }
}
