//! Answers of fops, as translators hand them up. An absent stat (`Iatt::is_absent`) means "not told".

use bytes::Bytes;
use rgfs_protocol::types::{Dirent, Flock, Lease, Statfs};
use rgfs_protocol::{Dict, Iatt};
use smallvec::SmallVec;
use std::sync::Arc;

use crate::inode::Inode;

/// File data on its way: slices of the buffers that a socket filled. One slice in the common case.
pub type Payload = SmallVec<[Bytes; 1]>;

/// Answer of LOOKUP.
#[derive(Clone, Debug, Default)]
pub struct LookupReply {
    /// The object.
    pub stat: Iatt,
    /// Its directory; absent for a nameless lookup.
    pub postparent: Iatt,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of STAT and FSTAT.
#[derive(Clone, Debug, Default)]
pub struct StatReply {
    /// The object.
    pub stat: Iatt,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of fops that change one inode: TRUNCATE, SETATTR, FSYNC, FALLOCATE...
#[derive(Clone, Debug, Default)]
pub struct PrePostReply {
    /// Before.
    pub pre: Iatt,
    /// After.
    pub post: Iatt,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of fops that make a name: MKNOD, MKDIR, SYMLINK, LINK, CREATE.
#[derive(Clone, Debug, Default)]
pub struct EntryReply {
    /// The object.
    pub stat: Iatt,
    /// Directory before.
    pub preparent: Iatt,
    /// Directory after.
    pub postparent: Iatt,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of UNLINK and RMDIR.
#[derive(Clone, Debug, Default)]
pub struct RemoveReply {
    /// Directory before.
    pub preparent: Iatt,
    /// Directory after.
    pub postparent: Iatt,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of RENAME.
#[derive(Clone, Debug, Default)]
pub struct RenameReply {
    /// The moved object.
    pub stat: Iatt,
    /// Old directory before.
    pub pre_old_parent: Iatt,
    /// Old directory after.
    pub post_old_parent: Iatt,
    /// New directory before.
    pub pre_new_parent: Iatt,
    /// New directory after.
    pub post_new_parent: Iatt,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of READLINK.
#[derive(Clone, Debug, Default)]
pub struct ReadlinkReply {
    /// The link.
    pub stat: Iatt,
    /// Target, without NUL.
    pub target: Bytes,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of READV.
#[derive(Clone, Debug, Default)]
pub struct ReadReply {
    /// The data: as much as was asked for, less only at the end of the file.
    pub data: Payload,
    /// The file.
    pub stat: Iatt,
    /// The brick saw the end of the file.
    pub end_of_file: bool,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of WRITEV.
#[derive(Clone, Debug, Default)]
pub struct WriteReply {
    /// Bytes that were written.
    pub written: usize,
    /// Before.
    pub pre: Iatt,
    /// After.
    pub post: Iatt,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of READDIR.
#[derive(Clone, Debug, Default)]
pub struct ReaddirReply {
    /// Entries, `.` and `..` among them, in the order of the sender.
    pub entries: Vec<Dirent>,
    /// Nothing comes after these.
    pub end: bool,
    /// Values asked for.
    pub xdata: Dict,
}

/// An entry of READDIRP.
#[derive(Clone, Debug)]
pub struct EntryPlus {
    /// Name, cookie and type.
    pub entry: Dirent,
    /// Attributes; absent when the caller must LOOKUP the name to learn them.
    pub stat: Iatt,
    /// Values asked for in the request's xdata.
    pub xdata: Dict,
    /// A fresh inode on which translators left their state, for the table to link; `None` when none had any.
    pub inode: Option<Arc<Inode>>,
}

/// Answer of READDIRP.
#[derive(Clone, Debug, Default)]
pub struct ReaddirpReply {
    /// Entries, `.` and `..` among them, in the order of the sender.
    pub entries: Vec<EntryPlus>,
    /// Nothing comes after these.
    pub end: bool,
    /// The offset at which the listing goes on, when that is not the last entry's: this part of it had none.
    pub next: Option<u64>,
    /// Values asked for.
    pub xdata: Dict,
}

impl ReaddirpReply {
    /// The offset at which the listing goes on; `None` at its end.
    pub fn goes_on_at(&self) -> Option<u64> {
        let behind_last = || self.entries.last().map(|entry| entry.entry.offset);
        if self.end { None } else { self.next.or_else(behind_last) }
    }
}

/// Answer of STATFS.
#[derive(Clone, Debug, Default)]
pub struct StatfsReply {
    /// The figures.
    pub statfs: Statfs,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of GETXATTR, FGETXATTR, XATTROP and FXATTROP.
#[derive(Clone, Debug, Default)]
pub struct XattrReply {
    /// The values, by name. A missing name means ENODATA even when the fop succeeded.
    pub dict: Dict,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of LK.
#[derive(Clone, Debug)]
pub struct LkReply {
    /// The conflicting lock (GETLK), or an echo that means nothing.
    pub flock: Flock,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of SEEK.
#[derive(Clone, Debug, Default)]
pub struct SeekReply {
    /// Where it is, in bytes.
    pub offset: u64,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of RCHECKSUM.
#[derive(Clone, Debug, Default)]
pub struct RchecksumReply {
    /// rsync's rolling sum.
    pub weak: u32,
    /// SHA-256, or MD5 and zeros, as xdata `fips-mode-rchecksum` says.
    pub strong: Bytes,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of LEASE.
#[derive(Clone, Debug, Default)]
pub struct LeaseReply {
    /// The lease.
    pub lease: Lease,
    /// Values asked for.
    pub xdata: Dict,
}

/// Answer of COPY_FILE_RANGE.
#[derive(Clone, Debug, Default)]
pub struct CopyFileRangeReply {
    /// Bytes that were copied.
    pub copied: usize,
    /// The source.
    pub source: Iatt,
    /// Destination before.
    pub pre: Iatt,
    /// Destination after.
    pub post: Iatt,
    /// Values asked for.
    pub xdata: Dict,
}
