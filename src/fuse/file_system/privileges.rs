//! suid and sgid go when somebody without the right to keep them changes a file.
//!
//! HANDLE_KILLPRIV_V2 is negotiated, so the kernel leaves this to us and does not ask for `security.capability` before
//! every write. Bricks write as root, and a local file system leaves suid and sgid alone when root writes; so they are
//! cleared here, by a SETATTR that is sent only when the attributes show the bits: a normal write costs nothing more.
//! `security.capability` is dropped by the brick's local file system itself, whoever writes, truncates or changes owners.

use rgfs_protocol::types::set_attr;
use rgfs_protocol::{Errno, Iatt};

use super::super::inode_table::Node;
use super::FileSystem;
use crate::reply::PrePostReply;
use crate::{Context, FopResult};

/// The permission bits of `mode` without the privileges that go, or `None` when there are none: suid, and sgid of what
/// the group may execute (on others it means mandatory locking). Directories keep theirs.
pub(super) fn without_privileges(mode: u32) -> Option<u32> {
    if mode & libc::S_IFMT == libc::S_IFDIR {
        return None;
    }
    let mut gone = mode & libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 {
        gone |= mode & libc::S_ISGID;
    }
    (gone != 0).then_some(mode & !gone)
}

impl FileSystem {
    /// Sets the mode without privileges, as root: who may write need not own the file.
    pub(super) async fn clear_privileges(&self, context: &Context, node: &Node, mode: u32) -> FopResult<PrePostReply> {
        let root = Context { uid: 0, gid: 0, ..context.clone() };
        let wanted = Iatt { mode: mode & 0o7777, ..Iatt::default() };
        let reply = self.set_on_brick(&root, node, None, &wanted, set_attr::MODE).await?;
        self.note_change(node, &reply.pre, &reply.post);
        Ok(reply)
    }

    /// Before a write by somebody who may not keep them: clears the privileges that the last mode seen shows. Buffered
    /// writes leave no attributes behind, so the mode is remembered apart from them. Since then another client may have
    /// changed it, and its other bits must not come back: it is asked for anew.
    ///
    /// # Errors
    /// EIO or worse when they cannot be cleared; then nothing may be written.
    pub(super) async fn before_write(&self, context: &Context, node: &Node) -> FopResult<()> {
        let known = node.state().mode;
        if without_privileges(known).is_none() {
            return Ok(());
        }
        let now = self.fetch_attributes(context, node, None).await?.mode;
        if let Some(mode) = without_privileges(now) {
            self.clear_privileges(context, node, mode)
                .await
                .map_err(|error| if error.errno == Errno::EPERM { error.with_errno(Errno::EIO) } else { error })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes() {
        for (mode, expected) in [
            (0o100_644, None),
            (0o104_755, Some(0o100_755)),
            (0o102_755, Some(0o100_755)),
            (0o102_745, None),
            (0o106_711, Some(0o100_711)),
            (0o106_701, Some(0o102_701)),
            (0o042_755, None),
        ] {
            assert_eq!(without_privileges(mode), expected, "{mode:o}");
        }
    }
}
