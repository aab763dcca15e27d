//! Extended attributes. `namelen` 0 asks for all of them.

use bytes::Bytes;

use crate::types::XattropFlags;
use crate::{Dict, Gfid};

messages! {
    /// Sets; `flags` 1 only new ones, 2 only old ones.
    Setxattr { gfid: Gfid, flags: u32, dict: Dict, xdata: Dict }

    /// Gets one or all.
    Getxattr { gfid: Gfid, namelen: u32, name: Bytes, xdata: Dict }

    /// Removes one.
    Removexattr { gfid: Gfid, name: Bytes, xdata: Dict }

    /// Sets on an open file.
    Fsetxattr { gfid: Gfid, fd: i64, flags: u32, dict: Dict, xdata: Dict }

    /// Gets of an open file.
    Fgetxattr { gfid: Gfid, fd: i64, namelen: u32, name: Bytes, xdata: Dict }

    /// Removes one of an open file.
    Fremovexattr { gfid: Gfid, fd: i64, name: Bytes, xdata: Dict }

    /// Atomic arithmetic.
    Xattrop { gfid: Gfid, flags: XattropFlags, dict: Dict, xdata: Dict }

    /// Atomic arithmetic on an open file.
    Fxattrop { gfid: Gfid, fd: i64, flags: XattropFlags, dict: Dict, xdata: Dict }
}
