//! Which posix locks this client holds on a brick, so that they can be taken again on a new connection.
//!
//! The brick knows locks by (connection, owner, inode), and so does this table: an owner's later lock replaces the earlier
//! one where they overlap, whatever fd it came through, as fcntl(2) has it.

use std::collections::HashMap;

use rgfs_protocol::Gfid;
use rgfs_protocol::types::{Flock, LockOwner, LockType};

/// A lock that the brick granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) owner: LockOwner,
    /// Never `Unlock`.
    pub(crate) kind: LockType,
    pub(crate) start: u64,
    /// Last byte; `u64::MAX` for "to the end".
    pub(crate) end: u64,
    pub(crate) pid: u32,
    /// The fd through which it was taken, by [`RemoteFd`](super::fd::RemoteFd)'s id.
    pub(crate) fd: u64,
}

impl Held {
    /// The lock as a request for it.
    pub(crate) fn flock(&self) -> Flock {
        let len = if self.end == u64::MAX { 0 } else { self.end - self.start + 1 };
        Flock { kind: self.kind, whence: 0, start: self.start, len, pid: self.pid, owner: self.owner.clone() }
    }
}

/// Last byte of a range; length 0 is "to the end".
fn last_byte(flock: &Flock) -> u64 {
    match flock.len {
        0 => u64::MAX,
        len => flock.start.saturating_add(len - 1),
    }
}

/// All posix locks held on one brick, and the inodes on which the brick may know one.
#[derive(Debug, Default)]
pub(crate) struct LockTable {
    inodes: HashMap<Gfid, Vec<Held>>,
    asked: HashMap<Gfid, Asked>,
}

/// Requests for locks of an inode.
#[derive(Debug, Default)]
struct Asked {
    /// Without an answer yet.
    pending: usize,
    /// One ended in a way that leaves open whether the brick granted it.
    unknown: bool,
}

impl LockTable {
    /// The brick granted `flock` to `owner`, or released it.
    pub(crate) fn apply(&mut self, gfid: Gfid, fd: u64, owner: &LockOwner, flock: &Flock) {
        let (start, end) = (flock.start, last_byte(flock));
        let held = self.inodes.remove(&gfid).unwrap_or_default();
        let mut left = Vec::with_capacity(held.len() + 1);
        for lock in held {
            if lock.owner != *owner || lock.end < start || lock.start > end {
                left.push(lock);
                continue;
            }
            if lock.start < start {
                left.push(Held { end: start - 1, ..lock.clone() });
            }
            if lock.end > end {
                left.push(Held { start: end + 1, ..lock });
            }
        }
        if flock.kind != LockType::Unlock {
            left.push(Held { owner: owner.clone(), kind: flock.kind, start, end, pid: flock.pid, fd });
        }
        self.put(gfid, left);
    }

    /// A request for a lock leaves for the brick.
    pub(crate) fn ask(&mut self, gfid: Gfid) {
        self.asked.entry(gfid).or_default().pending += 1;
    }

    /// A request for a lock ended; `known` when it is certain what the brick did.
    pub(crate) fn answered(&mut self, gfid: Gfid, known: bool) {
        if let Some(asked) = self.asked.get_mut(&gfid) {
            asked.pending = asked.pending.saturating_sub(1);
            asked.unknown |= !known;
        }
    }

    /// Whether the brick may know a lock of this client on the inode. If not, a FLUSH has nothing to do there: dropping
    /// the owner's locks is all that bricks do for it (`posix.c:pl_flush`).
    pub(crate) fn may_be_locked(&self, gfid: Gfid) -> bool {
        self.asked.contains_key(&gfid)
    }

    /// The brick answered a FLUSH: the inode is as if never locked, unless somebody else holds or wants a lock.
    pub(crate) fn flushed(&mut self, gfid: Gfid) {
        let idle = self.asked.get(&gfid).is_some_and(|asked| asked.pending == 0 && !asked.unknown);
        if idle && !self.inodes.contains_key(&gfid) {
            self.asked.remove(&gfid);
        }
    }

    /// FLUSH released everything that `owner` had on the inode.
    pub(crate) fn release_owner(&mut self, gfid: Gfid, owner: &LockOwner) {
        if let Some(mut held) = self.inodes.remove(&gfid) {
            held.retain(|lock| lock.owner != *owner);
            self.put(gfid, held);
        }
    }

    /// RELEASE closed an fd, and with it ended the locks that were taken through it.
    pub(crate) fn release_fd(&mut self, gfid: Gfid, fd: u64) {
        if let Some(mut held) = self.inodes.remove(&gfid) {
            held.retain(|lock| lock.fd != fd);
            self.put(gfid, held);
        }
    }

    /// What was taken through an fd.
    pub(crate) fn of_fd(&self, gfid: Gfid, fd: u64) -> Vec<Held> {
        self.inodes.get(&gfid).into_iter().flatten().filter(|lock| lock.fd == fd).cloned().collect()
    }

    /// What `owner` has within the range of `flock`, cut to it.
    pub(crate) fn within(&self, gfid: Gfid, owner: &LockOwner, flock: &Flock) -> Vec<Held> {
        let (start, end) = (flock.start, last_byte(flock));
        let held = self.inodes.get(&gfid).into_iter().flatten();
        held.filter(|lock| lock.owner == *owner && lock.start <= end && lock.end >= start)
            .map(|lock| Held { start: lock.start.max(start), end: lock.end.min(end), ..lock.clone() })
            .collect()
    }

    /// Number of locks.
    pub(crate) fn len(&self) -> usize {
        self.inodes.values().map(Vec::len).sum()
    }

    fn put(&mut self, gfid: Gfid, held: Vec<Held>) {
        if !held.is_empty() {
            self.inodes.insert(gfid, held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockType::{Read, Unlock, Write};

    const GFID: Gfid = Gfid::ROOT;

    fn flock(kind: LockType, start: u64, len: u64) -> Flock {
        Flock { kind, whence: 0, start, len, pid: 9, owner: LockOwner::default() }
    }

    /// Ranges of an owner after a sequence of grants, sorted: (kind, start, end).
    fn after(steps: &[(u64, LockType, u64, u64)], owner: u64) -> Vec<(LockType, u64, u64)> {
        let mut table = LockTable::default();
        for (owner, kind, start, len) in steps {
            table.apply(GFID, 1, &LockOwner::from_fuse(*owner), &flock(*kind, *start, *len));
        }
        let all = table.within(GFID, &LockOwner::from_fuse(owner), &flock(Read, 0, 0));
        let mut ranges: Vec<_> = all.into_iter().map(|held| (held.kind, held.start, held.end)).collect();
        ranges.sort_by_key(|(_, start, _)| *start);
        ranges
    }

    #[test]
    fn later_locks_of_an_owner_replace_earlier_ones_where_they_overlap() {
        const END: u64 = u64::MAX;
        type Case = (&'static [(u64, LockType, u64, u64)], &'static [(LockType, u64, u64)]);
        let cases: &[Case] = &[
            (&[(1, Write, 0, 0)], &[(Write, 0, END)]),
            (&[(1, Write, 0, 0), (1, Unlock, 10, 10)], &[(Write, 0, 9), (Write, 20, END)]),
            (&[(1, Read, 0, 100), (1, Write, 50, 100)], &[(Read, 0, 49), (Write, 50, 149)]),
            (&[(1, Write, 50, 50), (1, Unlock, 0, 0)], &[]),
            (&[(1, Write, 5, 5), (1, Unlock, 0, 5)], &[(Write, 5, 9)]),
            (&[(1, Write, 5, 5), (2, Unlock, 0, 0)], &[(Write, 5, 9)]),
            (&[(1, Write, 5, 1), (1, Unlock, 5, 1)], &[]),
        ];
        for (steps, expected) in cases {
            assert_eq!(after(steps, 1), *expected, "{steps:?}");
        }
    }

    #[test]
    fn flush_and_release_forget() {
        let mut table = LockTable::default();
        let (one, two) = (LockOwner::from_fuse(1), LockOwner::from_fuse(2));
        table.apply(GFID, 7, &one, &flock(Write, 0, 10));
        table.apply(GFID, 8, &two, &flock(Write, 10, 10));
        assert_eq!((table.of_fd(GFID, 7).len(), table.of_fd(GFID, 8).len()), (1, 1));
        table.release_owner(GFID, &one);
        assert!(table.of_fd(GFID, 7).is_empty());
        table.release_fd(GFID, 8);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn only_a_flush_after_the_last_lock_ends_the_need_for_flushes() {
        let mut table = LockTable::default();
        let (one, two) = (LockOwner::from_fuse(1), LockOwner::from_fuse(2));
        assert!(!table.may_be_locked(GFID));
        for owner in [&one, &two] {
            table.ask(GFID);
            assert!(table.may_be_locked(GFID), "the brick may have granted it already");
            table.answered(GFID, true);
            table.apply(GFID, 1, owner, &flock(Write, 0, 10));
        }
        for (owner, needed) in [(&one, true), (&two, false)] {
            table.release_owner(GFID, owner);
            table.flushed(GFID);
            assert_eq!(table.may_be_locked(GFID), needed);
        }
        table.ask(GFID);
        table.flushed(GFID);
        assert!(table.may_be_locked(GFID), "a request is on its way");
        table.answered(GFID, false);
        table.flushed(GFID);
        assert!(table.may_be_locked(GFID), "nobody knows what became of it");
    }

    #[test]
    fn a_held_lock_asks_for_what_was_granted() {
        let mut table = LockTable::default();
        let owner = LockOwner::from_fuse(1);
        for (start, len) in [(0, 10), (20, 0)] {
            table.apply(GFID, 1, &owner, &flock(Write, start, len));
        }
        let ranges: Vec<_> = table.of_fd(GFID, 1).iter().map(|held| (held.flock().start, held.flock().len)).collect();
        assert_eq!(ranges, [(0, 10), (20, 0)]);
    }
}
