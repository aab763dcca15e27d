//! Locks of applications on one brick (`features/locks: common.c`): a new lock of an owner replaces what it had in that
//! range, an unlock cuts pieces out.

use std::collections::BTreeMap;

use rgfs_protocol::types::{Flock, LockType};
use rgfs_protocol::{Errno, Gfid};

use super::locks::{Granted, Holder, end};

#[derive(Clone, Debug)]
struct Piece {
    holder: Holder,
    start: u64,
    /// First byte behind it.
    end: u64,
    exclusive: bool,
    pid: u32,
    /// The fd through which it was taken; closing that one drops it.
    fd: i64,
}

impl Piece {
    fn new(holder: Holder, flock: &Flock, fd: i64) -> Self {
        let exclusive = flock.kind == LockType::Write;
        Piece { holder, start: flock.start, end: end(flock.start, flock.len), exclusive, pid: flock.pid, fd }
    }

    fn conflicts(&self, other: &Piece) -> bool {
        self.holder != other.holder
            && (self.exclusive || other.exclusive)
            && self.start < other.end
            && other.start < self.end
    }
}

/// All posix locks of a brick.
#[derive(Default)]
pub(super) struct PosixLocks {
    held: BTreeMap<Gfid, Vec<Piece>>,
    waiting: Vec<(Gfid, Piece, Granted)>,
}

impl PosixLocks {
    /// The lock that stands in the way, or an echo that says "none" (F_GETLK).
    pub(super) fn test(&self, gfid: Gfid, holder: Holder, flock: &Flock) -> Flock {
        let wanted = Piece::new(holder, flock, 0);
        match self.held.get(&gfid).and_then(|held| held.iter().find(|held| held.conflicts(&wanted))) {
            None => Flock { kind: LockType::Unlock, ..flock.clone() },
            Some(held) => Flock {
                kind: if held.exclusive { LockType::Write } else { LockType::Read },
                whence: 0,
                start: held.start,
                len: if held.end == u64::MAX { 0 } else { held.end - held.start },
                pid: held.pid,
                owner: held.holder.owner.clone(),
            },
        }
    }

    /// Takes, changes or drops locks of an owner in a range (F_SETLK, F_SETLKW).
    pub(super) fn set(
        &mut self,
        gfid: Gfid,
        holder: Holder,
        flock: &Flock,
        fd: i64,
        wait: bool,
        granted: Granted,
        ready: &mut Vec<Granted>,
    ) {
        let piece = Piece::new(holder, flock, fd);
        if flock.kind == LockType::Unlock {
            self.cut(gfid, &piece);
            granted(Ok(()));
        } else if !self.free(gfid, &piece) {
            if wait {
                self.waiting.push((gfid, piece, granted));
            } else {
                granted(Err(Errno::EAGAIN));
            }
            return;
        } else {
            self.cut(gfid, &piece);
            self.held.entry(gfid).or_default().push(piece);
            granted(Ok(()));
        }
        self.grant(ready);
    }

    fn free(&self, gfid: Gfid, piece: &Piece) -> bool {
        !self.held.get(&gfid).is_some_and(|held| held.iter().any(|held| held.conflicts(piece)))
    }

    /// Cuts the range of `piece` out of what its owner holds.
    fn cut(&mut self, gfid: Gfid, piece: &Piece) {
        let Some(held) = self.held.get_mut(&gfid) else { return };
        for old in std::mem::take(held) {
            if old.holder != piece.holder || old.start >= piece.end || piece.start >= old.end {
                held.push(old);
                continue;
            }
            if old.start < piece.start {
                held.push(Piece { end: piece.start, ..old.clone() });
            }
            if old.end > piece.end {
                held.push(Piece { start: piece.end, ..old });
            }
        }
        if held.is_empty() {
            self.held.remove(&gfid);
        }
    }

    fn grant(&mut self, ready: &mut Vec<Granted>) {
        for (gfid, piece, granted) in std::mem::take(&mut self.waiting) {
            if self.free(gfid, &piece) {
                self.cut(gfid, &piece);
                self.held.entry(gfid).or_default().push(piece);
                ready.push(granted);
            } else {
                self.waiting.push((gfid, piece, granted));
            }
        }
    }

    fn drop_where(&mut self, ready: &mut Vec<Granted>, gone: impl Fn(Gfid, &Piece) -> bool) {
        for (gfid, held) in &mut self.held {
            held.retain(|piece| !gone(*gfid, piece));
        }
        self.held.retain(|_, held| !held.is_empty());
        self.grant(ready);
    }

    /// FLUSH: drops the locks of that owner on the inode.
    pub(super) fn flush(&mut self, gfid: Gfid, holder: &Holder, ready: &mut Vec<Granted>) {
        self.drop_where(ready, |of, piece| of == gfid && piece.holder == *holder);
    }

    /// RELEASE: drops what was locked through that fd, and who waits for it.
    pub(super) fn release(&mut self, session: u64, fd: i64, ready: &mut Vec<Granted>) {
        let is_of_it = |(_, piece, _): &mut (Gfid, Piece, Granted)| piece.holder.session == session && piece.fd == fd;
        for (_, _, granted) in self.waiting.extract_if(.., is_of_it) {
            granted(Err(Errno::EINTR));
        }
        self.drop_where(ready, |_, piece| piece.holder.session == session && piece.fd == fd);
    }

    /// Drops all of a connection.
    pub(super) fn disconnect(&mut self, session: u64, ready: &mut Vec<Granted>) {
        self.waiting.retain(|(_, piece, _)| piece.holder.session != session);
        self.drop_where(ready, |_, piece| piece.holder.session == session);
    }

    /// Answers EINTR to a waiting request of exactly that range (`glusterfs.intrlk`).
    pub(super) fn interrupt(&mut self, gfid: Gfid, holder: &Holder, start: u64, len: u64) {
        let found = self.waiting.iter().position(|(of, piece, _)| {
            *of == gfid && piece.holder == *holder && piece.start == start && piece.end == end(start, len)
        });
        if let Some(at) = found {
            let (_, _, granted) = self.waiting.remove(at);
            granted(Err(Errno::EINTR));
        }
    }

    /// Held locks: inode, connection, first byte, first byte behind, exclusive.
    pub(super) fn all(&self) -> impl Iterator<Item = (Gfid, &Holder, u64, u64, bool)> {
        let pieces = self.held.iter().flat_map(|(gfid, held)| held.iter().map(move |piece| (gfid, piece)));
        pieces.map(|(gfid, piece)| (*gfid, &piece.holder, piece.start, piece.end, piece.exclusive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::types::LockOwner;
    use std::sync::{Arc, Mutex};

    fn holder(owner: u64) -> Holder {
        Holder { session: 1, owner: LockOwner::from_fuse(owner) }
    }

    fn set(locks: &mut PosixLocks, owner: u64, kind: LockType, start: u64, len: u64, wait: bool) -> Vec<Option<Errno>> {
        let flock = Flock { kind, whence: 0, start, len, pid: 7, owner: LockOwner::default() };
        let answers = Arc::new(Mutex::new(Vec::new()));
        let noted = answers.clone();
        let granted: Granted = Box::new(move |answer| noted.lock().unwrap().push(answer.err()));
        let mut ready = Vec::new();
        locks.set(Gfid::ROOT, holder(owner), &flock, 1, wait, granted, &mut ready);
        ready.into_iter().for_each(|granted| granted(Ok(())));
        std::mem::take(&mut *answers.lock().unwrap())
    }

    #[test]
    fn ranges_are_split_and_waiters_get_what_becomes_free() {
        let mut locks = PosixLocks::default();
        assert_eq!(set(&mut locks, 1, LockType::Write, 0, 100, false), [None]);
        assert_eq!(set(&mut locks, 2, LockType::Write, 40, 10, false), [Some(Errno::EAGAIN)]);
        assert_eq!(set(&mut locks, 2, LockType::Write, 40, 10, true), []);
        assert_eq!(set(&mut locks, 1, LockType::Unlock, 30, 30, false), [None]);
        let held: Vec<_> = locks.all().map(|(_, holder, start, end, _)| (holder.owner.0[0], start, end)).collect();
        assert_eq!(held, [(1, 0, 30), (1, 60, 100), (2, 40, 50)]);
        locks.flush(Gfid::ROOT, &holder(1), &mut Vec::new());
        assert_eq!(locks.all().count(), 1);
    }
}
