//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn create(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        flags: i32,
        mode: u32,
        umask: u32,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let _ = (context, loc, flags, mode, umask, fd, xdata);
        Err(self.error(Errno::ENOSYS, "create"))
    }

    pub(super) async fn mknod(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mode: u32,
        rdev: u64,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let _ = (context, loc, mode, rdev, umask, xdata);
        Err(self.error(Errno::ENOSYS, "mknod"))
    }

    pub(super) async fn mkdir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mode: u32,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let _ = (context, loc, mode, umask, xdata);
        Err(self.error(Errno::ENOSYS, "mkdir"))
    }

    pub(super) async fn symlink(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        target: Bytes,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let _ = (context, loc, target, umask, xdata);
        Err(self.error(Errno::ENOSYS, "symlink"))
    }

    pub(super) async fn link(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let _ = (context, old, new, xdata);
        Err(self.error(Errno::ENOSYS, "link"))
    }

    pub(super) async fn unlink(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xflags: u32,
        xdata: Dict,
    ) -> FopResult<RemoveReply> {
        let _ = (context, loc, xflags, xdata);
        Err(self.error(Errno::ENOSYS, "unlink"))
    }

    pub(super) async fn rmdir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xflags: u32,
        xdata: Dict,
    ) -> FopResult<RemoveReply> {
        let _ = (context, loc, xflags, xdata);
        Err(self.error(Errno::ENOSYS, "rmdir"))
    }

    pub(super) async fn rename(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        xdata: Dict,
    ) -> FopResult<RenameReply> {
        let _ = (context, old, new, xdata);
        Err(self.error(Errno::ENOSYS, "rename"))
    }
}
