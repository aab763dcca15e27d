//! Replies, by shape: several procedures share one.
//!
//! READ's is the only one whose xdata is late; its data follows, to the end of the record.

use bytes::Bytes;

use super::message::Reply;
use crate::types::{ActiveLock, Dirent, DirentPlus, Flock, Lease as LeaseValue, Statfs as StatfsValue};
use crate::{Dict, Iatt};

replies! {
    /// Nothing but success or failure: FLUSH, xattr changes, FSYNCDIR, ACCESS, internal locks, RELEASE, IPC...
    Common { xdata: Dict }

    /// One stat: STAT, FSTAT, ICREATE.
    Stat { xdata: Dict, stat: Iatt }

    /// One inode before and after: TRUNCATE, WRITE, FSYNC, SETATTR, FALLOCATE...; for UNLINK, RMDIR and NAMELINK the
    /// directory.
    PrePost { xdata: Dict, pre: Iatt, post: Iatt }

    /// LOOKUP: an object and its directory (absent for a nameless lookup).
    Lookup { xdata: Dict, stat: Iatt, postparent: Iatt }

    /// A new name: MKNOD, MKDIR, SYMLINK, LINK, PUT.
    Entry { xdata: Dict, stat: Iatt, preparent: Iatt, postparent: Iatt }

    /// COPY_FILE_RANGE: the source, and the destination before and after.
    CopyFileRange { xdata: Dict, source_stat: Iatt, pre: Iatt, post: Iatt }

    /// RENAME: the object, and both directories before and after.
    Rename {
        xdata: Dict,
        stat: Iatt,
        pre_old_parent: Iatt,
        post_old_parent: Iatt,
        pre_new_parent: Iatt,
        post_new_parent: Iatt,
    }

    /// Values of xattrs: GETXATTR, FGETXATTR, XATTROP, FXATTROP.
    Xattr { xdata: Dict, dict: Dict, pre: Iatt, post: Iatt }

    /// OPEN, OPENDIR.
    Open { xdata: Dict, fd: i64 }

    /// CREATE: the fd stands between the stats.
    Create { xdata: Dict, stat: Iatt, fd: i64, preparent: Iatt, postparent: Iatt }

    /// READ. The data follows.
    Read { stat: Iatt, size: u32, xdata: Dict }

    /// READLINK.
    Readlink { xdata: Dict, stat: Iatt, target: Bytes }

    /// STATFS.
    Statfs { xdata: Dict, statfs: StatfsValue }

    /// LK: the conflicting lock for GETLK, else an echo that means nothing.
    Lk { xdata: Dict, flock: Flock }

    /// LEASE.
    Lease { xdata: Dict, lease: LeaseValue }

    /// SEEK.
    Seek { xdata: Dict, offset: u64 }

    /// RCHECKSUM. `flags` is always 1 and says nothing; xdata `fips-mode-rchecksum` says what `strong` is.
    Rchecksum { xdata: Dict, flags: u32, weak: u32, strong: Bytes }

    /// READDIR.
    Readdir { xdata: Dict, entries: Vec<Dirent> }

    /// READDIRP.
    Readdirp { xdata: Dict, entries: Vec<DirentPlus> }

    /// GETACTIVELK.
    ActiveLocks { xdata: Dict, locks: Vec<ActiveLock> }
}

messages! {
    /// The empty reply of NULL.
    Null {}
}

impl Reply for Null {
    fn op_ret(&self) -> i32 {
        0
    }

    fn op_errno(&self) -> i32 {
        0
    }

    fn xdata(&self) -> &Dict {
        static NOTHING: Dict = Dict::NULL;
        &NOTHING
    }
}
