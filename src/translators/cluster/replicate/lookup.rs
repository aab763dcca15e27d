//! To be written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::core::Core;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn lookup(self: &Arc<Self>, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        let _ = (context, loc, xdata);
        Err(self.error(Errno::ENOSYS, "lookup"))
    }
}
