//! Between `fuser`'s values and ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo, Request, TimeOrNow};
use rgfs_protocol::{Errno, FileType, Time};

use crate::fuse::Caller;
use crate::fuse::attributes::Attributes;
use crate::fuse::file_system::SetTime;

pub(super) fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
        unique: request.unique().0,
        ..Caller::default()
    }
}

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw())
}

pub(super) fn kind(kind: FileType) -> fuser::FileType {
    match kind {
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Block => fuser::FileType::BlockDevice,
        FileType::Character => fuser::FileType::CharDevice,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::Regular | FileType::Unknown => fuser::FileType::RegularFile,
    }
}

pub(super) fn attributes(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.ino),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: system_time(attributes.atime),
        mtime: system_time(attributes.mtime),
        ctime: system_time(attributes.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(attributes.kind),
        perm: attributes.permissions,
        nlink: attributes.nlink,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
        blksize: attributes.block_size,
        flags: 0,
    }
}

/// A time that `SystemTime` cannot hold becomes 1970.
fn system_time(time: Time) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(time.nsec.min(999_999_999)));
    let whole = Duration::from_secs(time.sec.unsigned_abs());
    let seconds = if time.sec < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    seconds.and_then(|time| time.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

/// The seconds and nanoseconds of the kernel's request. `fuser` 0.18 subtracts both from 1970 for times before it
/// (`system_time_from_time`), though nanoseconds always count forward; this takes it back.
fn time(given: SystemTime) -> Time {
    match given.duration_since(UNIX_EPOCH) {
        Ok(since) => Time { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).map_or(i64::MIN, |seconds| -seconds);
            Time { sec: seconds, nsec: before.subsec_nanos() }
        }
    }
}

pub(super) fn set_time(given: TimeOrNow) -> SetTime {
    match given {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(time(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_convert() {
        let after = Time { sec: 5, nsec: 7 };
        assert_eq!(time(system_time(after)), after);
        // -1.2 s is sec -2, nsec 800000000.
        let before = system_time(Time { sec: -2, nsec: 800_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(before).unwrap(), Duration::from_millis(1200));
        let from_fuser = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(time(from_fuser), Time { sec: -2, nsec: 800_000_000 });
        assert!(system_time(Time { sec: i64::MIN, nsec: 0 }).elapsed().is_ok());
    }
}
