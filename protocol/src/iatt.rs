//! Attributes of an inode as they travel on the wire (`gfx_iattx`, `struct iatt`).

use crate::gfid::Gfid;

/// A point in time: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub sec: i64,
    /// Nanoseconds, 0..1e9.
    pub nsec: u32,
}

/// What an inode is. On the wire only the `S_IFMT` bits of the mode say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FileType {
    /// Type bits that mean nothing, or an absent stat.
    #[default]
    Unknown,
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Block device.
    Block,
    /// Character device.
    Character,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
}

impl FileType {
    /// From the `S_IFMT` bits of a mode.
    pub fn from_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => FileType::Regular,
            0o040_000 => FileType::Directory,
            0o120_000 => FileType::Symlink,
            0o060_000 => FileType::Block,
            0o020_000 => FileType::Character,
            0o010_000 => FileType::Fifo,
            0o140_000 => FileType::Socket,
            _ => FileType::Unknown,
        }
    }

    /// From a directory entry's `d_type` (Linux `DT_*`).
    pub fn from_dirent(d_type: u32) -> Self {
        Self::from_mode((d_type & 0xf) << 12)
    }

    /// The Linux `DT_*` number of a directory entry.
    pub fn to_dirent(self) -> u32 {
        self.to_mode() >> 12
    }

    /// The `S_IFMT` bits.
    pub fn to_mode(self) -> u32 {
        match self {
            FileType::Unknown => 0,
            FileType::Regular => 0o100_000,
            FileType::Directory => 0o040_000,
            FileType::Symlink => 0o120_000,
            FileType::Block => 0o060_000,
            FileType::Character => 0o020_000,
            FileType::Fifo => 0o010_000,
            FileType::Socket => 0o140_000,
        }
    }
}

/// Attributes of an inode: `gfx_iattx`, 148 bytes on the wire.
///
/// A failed fop, an omitted parent and xattr replies carry an all-zero one; see [`Iatt::is_absent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Iatt {
    /// Identity.
    pub gfid: Gfid,
    /// Validity mask (`IATT_*` of `iatt.h`); a brick sends 0x17ff for a real stat.
    pub flags: u64,
    /// Low half of the gfid.
    pub ino: u64,
    /// The brick's own device number; never shown to users.
    pub dev: u64,
    /// Device nodes only: `major << 32 | minor`.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// statx attribute bits.
    pub attributes: u64,
    /// Which attribute bits are known.
    pub attributes_mask: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Birth; zero when the brick does not know it.
    pub btime: Time,
    /// Names of the inode; for a directory the brick's own count.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Preferred size of I/O in bytes.
    pub blksize: u32,
    /// Full `st_mode`, type bits included.
    pub mode: u32,
}

impl Iatt {
    /// The mask that a brick sends with a real stat: everything but the birth time.
    pub const FLAGS_BRICK: u64 = 0x17ff;

    /// True when the sender had no attributes to give.
    pub fn is_absent(&self) -> bool {
        self.gfid.is_null() || self.flags == 0
    }

    /// What the inode is.
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode)
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }
}
