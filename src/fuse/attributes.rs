//! From a brick's stat to what stat(2) shows.

use std::time::Duration;

use rgfs_protocol::{FileType, Iatt, Time};

/// Preferred I/O size that files show, in bytes: as much as one request carries, so that `cp` and `dd` fill requests.
/// (The C client shows 128 KiB, which is all that its requests carry.)
pub const BLOCK_SIZE: u32 = 1 << 20;

/// Attributes of an inode, in the shape of stat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// What it is.
    pub kind: FileType,
    /// Permission bits with suid, sgid and sticky.
    pub permissions: u16,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number in the kernel's 32-bit form.
    pub rdev: u32,
    /// Preferred I/O size in bytes.
    pub block_size: u32,
}

impl Attributes {
    /// What the kernel gets for `stat`, under the inode number `ino`.
    pub fn new(stat: &Iatt, ino: u64) -> Self {
        Attributes {
            ino,
            size: stat.size,
            blocks: stat.blocks,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            kind: stat.file_type(),
            permissions: (stat.mode & 0o7777) as u16,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            rdev: kernel_device((stat.rdev >> 32) as u32, stat.rdev as u32),
            block_size: BLOCK_SIZE,
        }
    }
}

/// How long the kernel may believe `stat`. A zero ctime marks attributes that a translator knows to be doubtful
/// (`fuse-bridge.c`): the kernel asks again at once.
pub fn time_to_live(stat: &Iatt, timeout: Duration) -> Duration {
    if stat.ctime == Time::default() { Duration::ZERO } else { timeout }
}

/// The kernel's 32-bit device number (`new_encode_dev`).
pub fn kernel_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// The C library's `dev_t` of the kernel's 32-bit device number; what MKNOD wants.
pub fn library_device(kernel: u32) -> u64 {
    let major = u64::from((kernel >> 8) & 0xfff);
    let minor = u64::from((kernel & 0xff) | ((kernel >> 12) & 0xf_ff00));
    ((major & 0xffff_f000) << 32) | ((major & 0xfff) << 8) | ((minor & 0xffff_ff00) << 12) | (minor & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_convert() {
        assert_eq!(kernel_device(8, 1), 0x801);
        assert_eq!(library_device(0x801), 0x801);
        for (major, minor) in [(0, 0), (5, 1), (259, 3), (4095, 1_048_575), (10, 256)] {
            assert_eq!(library_device(kernel_device(major, minor)), libc::makedev(major, minor));
        }
    }

    #[test]
    fn a_stat_becomes_attributes() {
        let stat = Iatt { mode: 0o104_755, rdev: 5 << 32 | 1, size: 7, blksize: 4096, ..Iatt::default() };
        let shown = Attributes::new(&stat, 42);
        assert_eq!((shown.ino, shown.permissions, shown.kind), (42, 0o4755, FileType::Regular));
        assert_eq!((shown.rdev, shown.size, shown.block_size), (0x501, 7, BLOCK_SIZE));
        assert_eq!(time_to_live(&stat, Duration::from_secs(1)), Duration::ZERO);
        let dated = Iatt { ctime: Time { sec: 1, nsec: 0 }, ..stat };
        assert_eq!(time_to_live(&dated, Duration::from_secs(1)), Duration::from_secs(1));
    }
}
