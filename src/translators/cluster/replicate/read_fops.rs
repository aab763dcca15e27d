//! Reads of one copy: STAT, FSTAT, ACCESS, READLINK, READV, SEEK, RCHECKSUM (`afr-inode-read.c`).

use std::sync::Arc;

use rgfs_protocol::types::SeekWhat;
use rgfs_protocol::{Dict, Errno};

use super::core::Core;
use super::read::Read;
use super::target::Target;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn stat(self: &Arc<Self>, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        let read = Read { attributes: true, ..Read::data("stat") };
        let target = Target::Inode(loc.inode.clone());
        self.read(context, &target, read, |_, child| child.stat(context, loc, xdata.clone())).await
    }

    pub(super) async fn fstat(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        let read = Read { attributes: true, ..Read::data("fstat") };
        let target = self.open_file(fd);
        self.read(context, &target, read, |_, child| child.fstat(context, fd, xdata.clone())).await
    }

    pub(super) async fn access(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mask: u32,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let read = Read { is_final: |errno| errno == Errno::EACCES, ..Read::metadata("access") };
        let target = Target::Inode(loc.inode.clone());
        self.read(context, &target, read, |_, child| child.access(context, loc, mask, xdata.clone())).await
    }

    pub(super) async fn readlink(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        size: u32,
        xdata: Dict,
    ) -> FopResult<ReadlinkReply> {
        let read = Read { is_final: |errno| errno == Errno::EINVAL, ..Read::data("readlink") };
        let target = Target::Inode(loc.inode.clone());
        self.read(context, &target, read, |_, child| child.readlink(context, loc, size, xdata.clone())).await
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
        let read = Read::data("readv");
        let target = self.open_file(fd);
        self.read(context, &target, read, |_, child| child.readv(context, fd, size, offset, flags, xdata.clone())).await
    }

    pub(super) async fn seek(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        what: SeekWhat,
        xdata: Dict,
    ) -> FopResult<SeekReply> {
        // There is nothing of that sort after the offset.
        let read = Read { is_final: |errno| errno == Errno::ENXIO, ..Read::data("seek") };
        let target = self.open_file(fd);
        self.read(context, &target, read, |_, child| child.seek(context, fd, offset, what, xdata.clone())).await
    }

    pub(super) async fn rchecksum(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        let read = Read::data("rchecksum");
        let target = self.open_file(fd);
        self.read(context, &target, read, |_, child| child.rchecksum(context, fd, offset, len, xdata.clone())).await
    }

    /// The target of a read of an open file. Where a child came up since it was opened, it is opened there in the
    /// background.
    pub(super) fn open_file(self: &Arc<Self>, fd: &Arc<Fd>) -> Target {
        let state = self.fd(fd);
        let up = self.snapshot().up;
        if !up.minus(state.opened()).is_empty() {
            self.open_late(fd, up);
        }
        Target::Fd(fd.clone())
    }
}
