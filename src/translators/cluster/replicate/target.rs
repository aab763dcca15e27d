//! What a lock, a changelog value or a change is on: an inode, by an open file where the fop has one.

use std::sync::Arc;

use rgfs_protocol::Dict;
use rgfs_protocol::types::{Flock, InodelkCmd, XattropFlags};

use crate::reply::XattrReply;
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

/// An inode, or a file that is open. A file that has no name any more is reached through its fd alone.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// By gfid.
    Inode(Arc<Inode>),
    /// By fd.
    Fd(Arc<Fd>),
}

impl Target {
    /// The inode, either way.
    pub(super) fn inode(&self) -> &Arc<Inode> {
        match self {
            Target::Inode(inode) => inode,
            Target::Fd(fd) => &fd.inode,
        }
    }

    /// INODELK or FINODELK.
    pub(super) async fn inodelk(
        &self,
        child: &Arc<dyn Translator>,
        context: &Context,
        domain: &str,
        cmd: InodelkCmd,
        flock: Flock,
    ) -> FopResult<Dict> {
        match self {
            Target::Inode(inode) => {
                let loc = Loc::inode(inode.clone());
                child.inodelk(context, domain, &loc, cmd, flock, Dict::NULL).await
            }
            Target::Fd(fd) => child.finodelk(context, domain, fd, cmd, flock, Dict::NULL).await,
        }
    }

    /// XATTROP or FXATTROP with `AddArray`.
    pub(super) async fn xattrop(
        &self,
        child: &Arc<dyn Translator>,
        context: &Context,
        delta: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        match self {
            Target::Inode(inode) => {
                let loc = Loc::inode(inode.clone());
                child.xattrop(context, &loc, XattropFlags::AddArray, delta, xdata).await
            }
            Target::Fd(fd) => child.fxattrop(context, fd, XattropFlags::AddArray, delta, xdata).await,
        }
    }
}
