//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn open(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        flags: i32,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let _ = (context, loc, flags, fd, xdata);
        Err(self.error(Errno::ENOSYS, "open"))
    }
}
