//! Open files and their data.

use crate::types::SeekWhat;
use crate::{Dict, Gfid};

messages! {
    /// Opens a file. Never makes one.
    Open { gfid: Gfid, flags: u32, xdata: Dict }

    /// Reads.
    Read { gfid: Gfid, fd: i64, offset: u64, size: u32, flag: u32, xdata: Dict }

    /// Writes the data that follows, all of it, whatever `size` says.
    Write { gfid: Gfid, fd: i64, offset: u64, size: u32, flag: u32, xdata: Dict }

    /// A descriptor was closed.
    Flush { gfid: Gfid, fd: i64, xdata: Dict }

    /// Brings a file to stable storage.
    Fsync { gfid: Gfid, fd: i64, datasync: u32, xdata: Dict }

    /// Closes the brick's fd.
    Release { gfid: Gfid, fd: i64, xdata: Dict }

    /// Allocates space; `flags` 1 keeps the size.
    Fallocate { gfid: Gfid, fd: i64, flags: u32, offset: u64, size: u64, xdata: Dict }

    /// Punches a hole.
    Discard { gfid: Gfid, fd: i64, offset: u64, size: u64, xdata: Dict }

    /// Writes zeros.
    Zerofill { gfid: Gfid, fd: i64, offset: u64, size: u64, xdata: Dict }

    /// Next data or hole.
    Seek { gfid: Gfid, fd: i64, offset: u64, what: SeekWhat, xdata: Dict }

    /// Checksums of a range.
    Rchecksum { gfid: Gfid, fd: i64, offset: u64, len: u32, flags: u32, xdata: Dict }

    /// Copies between two open files of the brick; both fds are real ones.
    CopyFileRange {
        source: Gfid,
        destination: Gfid,
        source_fd: i64,
        destination_fd: i64,
        source_offset: u64,
        destination_offset: u64,
        size: u32,
        flag: u32,
        xdata: Dict,
    }
}
