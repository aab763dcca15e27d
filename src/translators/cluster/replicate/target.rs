//! What a lock, a changelog value or a change is on: an inode, by an open file where the fop has one.

use std::sync::Arc;

use rgfs_protocol::Dict;
use rgfs_protocol::types::XattropFlags;

use super::core::Call;
use crate::reply::XattrReply;
use crate::{Context, Fd, Inode, Loc, Translator};

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

    /// XATTROP or FXATTROP with `AddArray`.
    ///
    /// NULL is not what is sent, be there nothing to say: of a directory that accuses nobody the bricks then forget the names
    /// that changed while a copy is away, also those of changes that are under way now (`xattrop_index_action`).
    pub(super) fn xattrop<'a>(
        &'a self,
        child: &'a Arc<dyn Translator>,
        context: &'a Context,
        delta: Dict,
        xdata: Dict,
    ) -> Call<'a, XattrReply> {
        let xdata = if xdata.is_null() { Dict::empty() } else { xdata };
        match self {
            Target::Inode(inode) => {
                let loc = Loc::inode(inode.clone());
                Box::pin(async move { child.xattrop(context, &loc, XattropFlags::AddArray, delta, xdata).await })
            }
            Target::Fd(fd) => child.fxattrop(context, fd, XattropFlags::AddArray, delta, xdata),
        }
    }
}
