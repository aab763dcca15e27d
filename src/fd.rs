//! Open files and directories as translators see them (`fd_t`).

use std::sync::Arc;

use rgfs_protocol::Gfid;

use crate::inode::{Contexts, Inode};

/// An open file or directory. A translator keeps what it needs (a leaf: the brick's fd number) in `contexts`; when the
/// last reference is dropped those are dropped too, and the leaf then sends RELEASE. There is no release fop.
#[derive(Debug)]
pub struct Fd {
    /// What is open.
    pub inode: Arc<Inode>,
    /// Linux open(2) flags of the opener; `O_DIRECTORY` for a directory.
    pub flags: i32,
    /// Process that opened it.
    pub pid: i32,
    /// State of translators.
    pub contexts: Contexts,
}

impl Fd {
    /// An fd that no translator knows yet; open, create or opendir makes it usable.
    pub fn new(inode: Arc<Inode>, flags: i32, pid: i32) -> Arc<Self> {
        Arc::new(Fd { inode, flags, pid, contexts: Contexts::default() })
    }

    /// gfid of what is open.
    pub fn gfid(&self) -> Gfid {
        self.inode.gfid()
    }
}
