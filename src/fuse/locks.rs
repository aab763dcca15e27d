//! Lock ranges: the kernel counts from the first to the last byte, GlusterFS from the first byte for a length.

use rgfs_protocol::types::{Flock, LockOwner, LockType};

/// The last byte of a range without end (`OFFSET_MAX`).
pub const OFFSET_MAX: u64 = i64::MAX as u64;

/// A lock as the kernel's requests and answers describe it; flock(2) comes as a range over the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRange {
    /// First byte.
    pub start: u64,
    /// Last byte; [`OFFSET_MAX`] for no end.
    pub end: u64,
    /// Kind.
    pub kind: LockType,
    /// Process that asks, or that holds (in an answer).
    pub pid: u32,
}

impl LockRange {
    /// Kind from fcntl's `F_RDLCK`, `F_WRLCK`, `F_UNLCK`.
    pub fn kind_from_fcntl(number: i32) -> Option<LockType> {
        match i16::try_from(number).ok()?.into() {
            libc::F_RDLCK => Some(LockType::Read),
            libc::F_WRLCK => Some(LockType::Write),
            libc::F_UNLCK => Some(LockType::Unlock),
            _ => None,
        }
    }

    /// fcntl's number of the kind.
    pub fn kind_to_fcntl(self) -> i32 {
        match self.kind {
            LockType::Read => libc::F_RDLCK,
            LockType::Write => libc::F_WRLCK,
            LockType::Unlock => libc::F_UNLCK,
        }
    }

    /// The lock for the wire. `None` when the range is none: it ends before it starts, or starts beyond all files.
    pub fn to_flock(self, owner: LockOwner) -> Option<Flock> {
        if self.end < self.start || self.start > OFFSET_MAX {
            return None;
        }
        let len = if self.end >= OFFSET_MAX { 0 } else { self.end - self.start + 1 };
        Some(Flock { kind: self.kind, whence: 0, start: self.start, len, pid: self.pid, owner })
    }

    /// The lock of an answer.
    pub fn from_flock(flock: &Flock) -> Self {
        let end = match flock.len {
            0 => OFFSET_MAX,
            len => flock.start.saturating_add(len - 1).min(OFFSET_MAX),
        };
        LockRange { start: flock.start, end, kind: flock.kind, pid: flock.pid }
    }
}

/// The virtual xattr that makes a brick drop the waiting lock `flock` of the asking process (`posix.c` of features/locks).
pub fn cancel_name(flock: &Flock) -> String {
    format!("glusterfs.intrlk.tposix.kblocked.{},{}-{}", flock.whence, flock.start, flock.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_convert() {
        for (start, end, len) in [(0, OFFSET_MAX, 0), (0, 0, 1), (10, 19, 10), (5, OFFSET_MAX, 0), (0, u64::MAX, 0)] {
            let range = LockRange { start, end, kind: LockType::Write, pid: 9 };
            let flock = range.to_flock(LockOwner::from_fuse(3)).unwrap();
            assert_eq!((flock.start, flock.len, flock.whence), (start, len, 0));
            let back = LockRange::from_flock(&flock);
            assert_eq!((back.start, back.end), (start, end.min(OFFSET_MAX)));
        }
        let backward = LockRange { start: 5, end: 4, kind: LockType::Read, pid: 0 };
        assert_eq!(backward.to_flock(LockOwner::default()), None);
    }

    #[test]
    fn kinds_convert() {
        for number in [libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK] {
            let kind = LockRange::kind_from_fcntl(number).unwrap();
            assert_eq!(LockRange { start: 0, end: 0, kind, pid: 0 }.kind_to_fcntl(), number);
        }
        assert_eq!(LockRange::kind_from_fcntl(77), None);
    }

    #[test]
    fn the_cancel_name_has_the_numbers_of_the_request() {
        let range = LockRange { start: 10, end: 19, kind: LockType::Write, pid: 9 };
        let flock = range.to_flock(LockOwner::default()).unwrap();
        assert_eq!(cancel_name(&flock), "glusterfs.intrlk.tposix.kblocked.0,10-10");
    }
}
