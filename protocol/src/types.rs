//! Small structures and code numbers that several fops share: locks, leases, file system figures, directory entries.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{Dict, Iatt};

/// Who holds a lock. Opaque, compared byte by byte; eight bytes for a FUSE owner, four (the pid) when there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct LockOwner(pub SmallVec<[u8; 16]>);

impl LockOwner {
    /// The kernel's 64-bit FUSE lock owner, little-endian as the C client sends it.
    pub fn from_fuse(owner: u64) -> Self {
        LockOwner(SmallVec::from_slice(&owner.to_le_bytes()))
    }

    /// What the C client sends when a request has no owner: the pid, four bytes, little-endian.
    pub fn from_pid(pid: i32) -> Self {
        LockOwner(SmallVec::from_slice(&pid.to_le_bytes()))
    }
}

/// Read or write lock, or the release of either (`gf_lk_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockType {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// Release, or "no lock" in an answer.
    Unlock,
}

/// Commands of the posix lock fop LK (`gf_lk_cmd`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LkCmd {
    /// Ask who holds a conflicting lock.
    GetLk,
    /// Set or release without waiting.
    SetLk,
    /// Set and wait.
    SetLkW,
    /// Reserve a lock (used while locks are healed).
    ReserveLock,
    /// Reserve and wait.
    ReserveLockW,
    /// Undo a reservation.
    ReserveUnlock,
    /// Fetch the locks of an fd.
    GetLkFd,
}

/// Commands of the internal lock fops INODELK and FINODELK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InodelkCmd {
    /// Do not wait; also used to release.
    SetLk,
    /// Wait.
    SetLkW,
}

/// Commands of the internal lock fops ENTRYLK and FENTRYLK (`entrylk_cmd`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntrylkCmd {
    /// Wait.
    Lock,
    /// Release.
    Unlock,
    /// Do not wait.
    LockNonBlocking,
}

/// Kind of an entry lock (`entrylk_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntrylkType {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
}

/// A range of a file with a lock on it (`gf_proto_flock`). Offsets are absolute (`whence` is always `SEEK_SET`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flock {
    /// Kind.
    pub kind: LockType,
    /// How `start` is meant: 0 (`SEEK_SET`) in all that this client sends.
    pub whence: u32,
    /// First byte.
    pub start: u64,
    /// Bytes; 0 means to the end of the file.
    pub len: u64,
    /// Process that asks, or that holds (in answers).
    pub pid: u32,
    /// Copy of the owner; matching uses the one of the credential.
    pub owner: LockOwner,
}

/// Arithmetic of XATTROP and FXATTROP (`gf_xattrop_flags_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XattropFlags {
    /// Element-wise sum of i32.
    AddArray,
    /// Element-wise sum of i64.
    AddArray64,
    /// Element-wise or of u32.
    OrArray,
    /// Element-wise and of u32.
    AndArray,
    /// Replace and return the old value.
    GetAndSet,
    /// Sum of i32; the second half of the value holds defaults.
    AddArrayWithDefault,
    /// Sum of i64; the second half of the value holds defaults.
    AddArray64WithDefault,
}

/// What SEEK looks for (`gf_seek_what_t`; not the numbers of lseek(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeekWhat {
    /// Next byte that holds data.
    Data,
    /// Next hole.
    Hole,
}

/// Figures of a file system (`gf_statfs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Statfs {
    /// Block size in bytes.
    pub bsize: u64,
    /// Fragment size in bytes; unit of the block counts.
    pub frsize: u64,
    /// Total blocks.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for unprivileged users.
    pub bavail: u64,
    /// Total inodes.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Free inodes for unprivileged users.
    pub favail: u64,
    /// File system id of the brick.
    pub fsid: u64,
    /// Mount flags.
    pub flag: u64,
    /// Longest name in bytes.
    pub namemax: u64,
}

/// An entry of READDIR (`gfx_dirlist`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirent {
    /// Inode number as the sender sees it; for READDIR the backend's own.
    pub ino: u64,
    /// Opaque cookie of the position behind this entry.
    pub offset: u64,
    /// Linux `DT_*`.
    pub kind: u32,
    /// Name.
    pub name: Bytes,
}

/// An entry of READDIRP (`gfx_dirplist`).
#[derive(Clone, Debug, PartialEq)]
pub struct DirentPlus {
    /// Name, cookie and type.
    pub entry: Dirent,
    /// Attributes; absent (all zero) when the brick could not stat the entry.
    pub stat: Iatt,
    /// Values asked for in the request's xdata.
    pub xdata: Dict,
}

/// A lease (`gf_proto_lease`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lease {
    /// 1 get, 2 set, 3 unlock.
    pub cmd: u32,
    /// 0 none, 1 read, 2 read-write.
    pub kind: u32,
    /// Chosen by the client.
    pub id: [u8; 16],
    /// 0.
    pub flags: u32,
}

/// One lock of GETACTIVELK and SETACTIVELK (`gfs3_locklist`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveLock {
    /// Range and kind.
    pub flock: Flock,
    /// Identity of the client that holds it.
    pub client_uid: Bytes,
    /// Flags.
    pub lk_flags: u32,
}

/// Bits of `valid` in SETATTR and FSETATTR (`GF_SET_ATTR_*`).
pub mod set_attr {
    /// Permission bits of `mode`.
    pub const MODE: u32 = 0x1;
    /// `uid`.
    pub const UID: u32 = 0x2;
    /// `gid`.
    pub const GID: u32 = 0x4;
    /// Ignored by bricks: truncate instead.
    pub const SIZE: u32 = 0x8;
    /// `atime`.
    pub const ATIME: u32 = 0x10;
    /// `mtime`.
    pub const MTIME: u32 = 0x20;
    /// `ctime`; ignored by the storage.
    pub const CTIME: u32 = 0x40;
    /// The access time is "now"; the client fills in its clock too.
    pub const ATIME_NOW: u32 = 0x80;
    /// The content time is "now"; the client fills in its clock too.
    pub const MTIME_NOW: u32 = 0x100;
}

/// Time bits of the v3 credential: which times of the inode, and of its parent, a fop updates
/// (`posix-metadata.c`, `utime-helpers.c`).
pub mod time_update {
    /// ctime.
    pub const CTIME: u32 = 1;
    /// mtime.
    pub const MTIME: u32 = 2;
    /// atime.
    pub const ATIME: u32 = 4;
    /// ctime of the parent.
    pub const PARENT_CTIME: u32 = 8;
    /// mtime of the parent.
    pub const PARENT_MTIME: u32 = 16;
    /// atime of the parent.
    pub const PARENT_ATIME: u32 = 32;
}
