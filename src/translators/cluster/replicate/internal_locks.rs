//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn inodelk(
        self: &Arc<Self>,
        context: &Context,
        volume: &str,
        loc: &Loc,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, volume, loc, cmd, flock, xdata);
        Err(self.error(Errno::ENOSYS, "inodelk"))
    }

    pub(super) async fn finodelk(
        self: &Arc<Self>,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, volume, fd, cmd, flock, xdata);
        Err(self.error(Errno::ENOSYS, "finodelk"))
    }

    pub(super) async fn entrylk(
        self: &Arc<Self>,
        context: &Context,
        volume: &str,
        loc: &Loc,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, volume, loc, name, cmd, kind, xdata);
        Err(self.error(Errno::ENOSYS, "entrylk"))
    }

    pub(super) async fn fentrylk(
        self: &Arc<Self>,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, volume, fd, name, cmd, kind, xdata);
        Err(self.error(Errno::ENOSYS, "fentrylk"))
    }
}
