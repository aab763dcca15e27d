//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn setattr(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let _ = (context, loc, stat, valid, xdata);
        Err(self.error(Errno::ENOSYS, "setattr"))
    }

    pub(super) async fn fsetattr(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let _ = (context, fd, stat, valid, xdata);
        Err(self.error(Errno::ENOSYS, "fsetattr"))
    }

    pub(super) async fn setxattr(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        dict: Dict,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, loc, dict, flags, xdata);
        Err(self.error(Errno::ENOSYS, "setxattr"))
    }

    pub(super) async fn fsetxattr(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        dict: Dict,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, fd, dict, flags, xdata);
        Err(self.error(Errno::ENOSYS, "fsetxattr"))
    }

    pub(super) async fn removexattr(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        name: &str,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, loc, name, xdata);
        Err(self.error(Errno::ENOSYS, "removexattr"))
    }

    pub(super) async fn fremovexattr(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        name: &str,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, fd, name, xdata);
        Err(self.error(Errno::ENOSYS, "fremovexattr"))
    }

    pub(super) async fn xattrop(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let _ = (context, loc, flags, dict, xdata);
        Err(self.error(Errno::ENOSYS, "xattrop"))
    }

    pub(super) async fn fxattrop(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let _ = (context, fd, flags, dict, xdata);
        Err(self.error(Errno::ENOSYS, "fxattrop"))
    }
}
