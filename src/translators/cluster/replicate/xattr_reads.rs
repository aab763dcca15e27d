//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn getxattr(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let _ = (context, loc, name, xdata);
        Err(self.error(Errno::ENOSYS, "getxattr"))
    }

    pub(super) async fn fgetxattr(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let _ = (context, fd, name, xdata);
        Err(self.error(Errno::ENOSYS, "fgetxattr"))
    }
}
