//! An inode's attributes, permissions and size.

use crate::{Dict, Gfid, Iatt};

messages! {
    /// Attributes of an inode.
    Stat { gfid: Gfid, xdata: Dict }

    /// Attributes of an open file.
    Fstat { gfid: Gfid, fd: i64, xdata: Dict }

    /// Sets attributes.
    Setattr { gfid: Gfid, stat: Iatt, valid: i32, xdata: Dict }

    /// Sets attributes of an open file.
    Fsetattr { gfid: Gfid, fd: i64, stat: Iatt, valid: i32, xdata: Dict }

    /// Sets the size.
    Truncate { gfid: Gfid, offset: u64, xdata: Dict }

    /// Sets the size of an open file.
    Ftruncate { gfid: Gfid, fd: i64, offset: u64, xdata: Dict }

    /// Checks permissions.
    Access { gfid: Gfid, mask: u32, xdata: Dict }

    /// Target of a symbolic link.
    Readlink { gfid: Gfid, size: u32, xdata: Dict }

    /// Figures of the file system.
    Statfs { gfid: Gfid, xdata: Dict }
}
