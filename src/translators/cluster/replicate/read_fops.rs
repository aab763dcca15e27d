//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn stat(self: &Arc<Self>, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        let _ = (context, loc, xdata);
        Err(self.error(Errno::ENOSYS, "stat"))
    }

    pub(super) async fn fstat(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        let _ = (context, fd, xdata);
        Err(self.error(Errno::ENOSYS, "fstat"))
    }

    pub(super) async fn access(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mask: u32,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, loc, mask, xdata);
        Err(self.error(Errno::ENOSYS, "access"))
    }

    pub(super) async fn readlink(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        size: u32,
        xdata: Dict,
    ) -> FopResult<ReadlinkReply> {
        let _ = (context, loc, size, xdata);
        Err(self.error(Errno::ENOSYS, "readlink"))
    }

    pub(super) async fn readv(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<ReadReply> {
        let _ = (context, fd, size, offset, flags, xdata);
        Err(self.error(Errno::ENOSYS, "readv"))
    }

    pub(super) async fn seek(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        what: SeekWhat,
        xdata: Dict,
    ) -> FopResult<SeekReply> {
        let _ = (context, fd, offset, what, xdata);
        Err(self.error(Errno::ENOSYS, "seek"))
    }

    pub(super) async fn rchecksum(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        let _ = (context, fd, offset, len, xdata);
        Err(self.error(Errno::ENOSYS, "rchecksum"))
    }
}
