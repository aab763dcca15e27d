//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn writev(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        let _ = (context, fd, data, offset, flags, xdata);
        Err(self.error(Errno::ENOSYS, "writev"))
    }

    pub(super) async fn truncate(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let _ = (context, loc, offset, xdata);
        Err(self.error(Errno::ENOSYS, "truncate"))
    }

    pub(super) async fn ftruncate(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let _ = (context, fd, offset, xdata);
        Err(self.error(Errno::ENOSYS, "ftruncate"))
    }

    pub(super) async fn fallocate(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        keep_size: bool,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let _ = (context, fd, keep_size, offset, len, xdata);
        Err(self.error(Errno::ENOSYS, "fallocate"))
    }

    pub(super) async fn discard(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let _ = (context, fd, offset, len, xdata);
        Err(self.error(Errno::ENOSYS, "discard"))
    }

    pub(super) async fn zerofill(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let _ = (context, fd, offset, len, xdata);
        Err(self.error(Errno::ENOSYS, "zerofill"))
    }

    pub(super) async fn fsync(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        datasync: bool,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let _ = (context, fd, datasync, xdata);
        Err(self.error(Errno::ENOSYS, "fsync"))
    }

    pub(super) async fn copy_file_range(
        self: &Arc<Self>,
        context: &Context,
        source: &Arc<Fd>,
        source_offset: u64,
        destination: &Arc<Fd>,
        destination_offset: u64,
        len: u32,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<CopyFileRangeReply> {
        let _ = (context, source, source_offset, destination, destination_offset, len, flags, xdata);
        Err(self.error(Errno::ENOSYS, "copy_file_range"))
    }
}
