//! Open directories.

use crate::{Dict, Gfid};

messages! {
    /// Opens a directory.
    Opendir { gfid: Gfid, xdata: Dict }

    /// Lists names. `size` bounds the brick's memory, not the answer.
    Readdir { gfid: Gfid, fd: i64, offset: u64, size: u32, xdata: Dict }

    /// Lists names with attributes and the values that xdata asks for.
    Readdirp { gfid: Gfid, fd: i64, offset: u64, size: u32, xdata: Dict }

    /// Brings a directory to stable storage.
    Fsyncdir { gfid: Gfid, fd: i64, datasync: i32, xdata: Dict }

    /// Closes the brick's fd.
    Releasedir { gfid: Gfid, fd: i64, xdata: Dict }
}
