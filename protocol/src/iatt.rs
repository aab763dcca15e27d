//! Attributes of an inode as they travel on the wire (`gfx_iattx`, `struct iatt`).

use crate::gfid::Gfid;
use crate::xdr::{DecodeError, Decoder, Encoder};

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

impl Iatt {
    /// Bytes on the wire.
    pub const ENCODED_LEN: usize = 148;

    /// Appends the 148 bytes of `gfx_iattx`. The four nanosecond fields come after all four seconds.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.gfid(&self.gfid);
        for field in
            [self.flags, self.ino, self.dev, self.rdev, self.size, self.blocks, self.attributes, self.attributes_mask]
        {
            encoder.u64(field);
        }
        let times = [self.atime, self.mtime, self.ctime, self.btime];
        for time in times {
            encoder.i64(time.sec);
        }
        for time in times {
            encoder.u32(time.nsec);
        }
        for field in [self.nlink, self.uid, self.gid, self.blksize, self.mode] {
            encoder.u32(field);
        }
    }

    /// Takes the 148 bytes of `gfx_iattx`.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let mut iatt = Iatt { gfid: decoder.gfid("iatt.gfid")?, ..Iatt::default() };
        iatt.flags = decoder.u64("iatt.flags")?;
        iatt.ino = decoder.u64("iatt.ino")?;
        iatt.dev = decoder.u64("iatt.dev")?;
        iatt.rdev = decoder.u64("iatt.rdev")?;
        iatt.size = decoder.u64("iatt.size")?;
        iatt.blocks = decoder.u64("iatt.blocks")?;
        iatt.attributes = decoder.u64("iatt.attributes")?;
        iatt.attributes_mask = decoder.u64("iatt.attributes_mask")?;
        iatt.atime.sec = decoder.i64("iatt.atime")?;
        iatt.mtime.sec = decoder.i64("iatt.mtime")?;
        iatt.ctime.sec = decoder.i64("iatt.ctime")?;
        iatt.btime.sec = decoder.i64("iatt.btime")?;
        iatt.atime.nsec = decoder.u32("iatt.atime_nsec")?;
        iatt.mtime.nsec = decoder.u32("iatt.mtime_nsec")?;
        iatt.ctime.nsec = decoder.u32("iatt.ctime_nsec")?;
        iatt.btime.nsec = decoder.u32("iatt.btime_nsec")?;
        iatt.nlink = decoder.u32("iatt.nlink")?;
        iatt.uid = decoder.u32("iatt.uid")?;
        iatt.gid = decoder.u32("iatt.gid")?;
        iatt.blksize = decoder.u32("iatt.blksize")?;
        iatt.mode = decoder.u32("iatt.mode")?;
        Ok(iatt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_captured_lookup() {
        // The stat of wire.md's root LOOKUP, field by field.
        let stat = Iatt {
            gfid: Gfid::ROOT,
            flags: Iatt::FLAGS_BRICK,
            ino: 1,
            dev: 0xfe00,
            size: 4096,
            blocks: 8,
            atime: Time { sec: 0x6b02_d47b, nsec: 0x2298_ed31 },
            mtime: Time { sec: 0x6b02_d4fe, nsec: 0x280c_46f3 },
            ctime: Time { sec: 0x6b02_d4fe, nsec: 0x280c_46f3 },
            nlink: 20,
            blksize: 4096,
            mode: 0o040_755,
            ..Iatt::default()
        };
        let mut encoder = Encoder::default();
        stat.encode(&mut encoder);
        let bytes = encoder.finish().freeze();
        assert_eq!(bytes.len(), Iatt::ENCODED_LEN);
        assert_eq!(bytes[16..24], [0, 0, 0, 0, 0, 0, 0x17, 0xff]);
        assert_eq!(bytes[112..120], [0x22, 0x98, 0xed, 0x31, 0x28, 0x0c, 0x46, 0xf3]);
        assert_eq!(bytes[144..], [0, 0, 0x41, 0xed]);
        assert_eq!(Iatt::decode(&mut Decoder::new(bytes)).unwrap(), stat);
    }
}
