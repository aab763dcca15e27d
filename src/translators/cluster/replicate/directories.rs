//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn opendir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, loc, fd, xdata);
        Err(self.error(Errno::ENOSYS, "opendir"))
    }

    pub(super) async fn readdir(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirReply> {
        let _ = (context, fd, size, offset, xdata);
        Err(self.error(Errno::ENOSYS, "readdir"))
    }

    pub(super) async fn readdirp(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        let _ = (context, fd, size, offset, xdata);
        Err(self.error(Errno::ENOSYS, "readdirp"))
    }

    pub(super) async fn fsyncdir(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        datasync: bool,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, fd, datasync, xdata);
        Err(self.error(Errno::ENOSYS, "fsyncdir"))
    }
}
