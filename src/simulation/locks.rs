//! Locks of one brick, as `features/locks` keeps them: internal locks of ranges (`inodelk.c`) and of names
//! (`entrylk.c`). Their rules differ only in what conflicts, so one table serves both. Posix locks are in `posix_locks`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::types::{Flock, LockOwner, LockType};
use rgfs_protocol::{Errno, Gfid};

/// Who holds a lock: a connection and the owner that it named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Number of the connection.
    pub(crate) session: u64,
    /// Owner in the credential.
    pub(crate) owner: LockOwner,
}

/// What a lock covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `len` bytes from `start`; 0 means to the end.
    Range { start: u64, len: u64 },
    /// A name of a directory, or all of them.
    Name(Option<Bytes>),
}

impl Scope {
    /// The range of `flock`.
    pub(crate) fn range(flock: &Flock) -> Self {
        Scope::Range { start: flock.start, len: flock.len }
    }

    fn overlaps(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::Range { start: a, len: m }, Scope::Range { start: b, len: n }) => {
                *a < end(*b, *n) && *b < end(*a, *m)
            }
            (Scope::Name(a), Scope::Name(b)) => a.is_none() || b.is_none() || a == b,
            _ => false,
        }
    }
}

/// First byte behind a range.
pub(super) fn end(start: u64, len: u64) -> u64 {
    if len == 0 { u64::MAX } else { start.saturating_add(len) }
}

/// Called when a waiting lock is granted, or will never be.
pub(super) type Granted = Box<dyn FnOnce(Result<(), Errno>) + Send>;

/// A lock, held or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Who.
    pub(crate) holder: Holder,
    /// What.
    pub(crate) scope: Scope,
    /// Nobody else may have it.
    pub(crate) exclusive: bool,
}

impl Lock {
    fn conflicts(&self, other: &Lock) -> bool {
        self.holder != other.holder && (self.exclusive || other.exclusive) && self.scope.overlaps(&other.scope)
    }
}

struct Held {
    lock: Lock,
    /// When its holder was last told that somebody waits.
    told: Option<Duration>,
}

#[derive(Default)]
struct Domain {
    held: Vec<Held>,
    waiting: Vec<(Lock, Granted)>,
}

impl Domain {
    /// Whether the lock must wait. An older waiting one goes first, unless the owner has a lock here already: it could
    /// never give that one up otherwise (`__blocked_lock_conflict`, `__owner_has_lock`).
    fn must_wait(&self, lock: &Lock) -> bool {
        let has_one = self.held.iter().any(|held| held.lock.holder == lock.holder);
        self.held.iter().any(|held| held.lock.conflicts(lock))
            || (!has_one && self.waiting.iter().any(|(older, _)| older.conflicts(lock)))
    }

    /// Grants what can be granted now, oldest first.
    fn grant(&mut self, ready: &mut Vec<Granted>) {
        for (lock, granted) in std::mem::take(&mut self.waiting) {
            if self.must_wait(&lock) {
                self.waiting.push((lock, granted));
            } else {
                self.held.push(Held { lock, told: None });
                ready.push(granted);
            }
        }
    }
}

/// Somebody waits for a lock that another connection holds.
#[derive(Debug)]
pub(super) struct Contention {
    pub(super) holder: u64,
    pub(super) gfid: Gfid,
    pub(super) domain: String,
    pub(super) flock: Flock,
}

/// How long a holder is not told again (`features.lock-notify-contention-delay`).
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// All locks of one kind on a brick.
#[derive(Default)]
pub(super) struct LockTable(BTreeMap<(Gfid, String), Domain>, Option<String>);

impl LockTable {
    /// Takes a lock at `now`. When it must wait, `granted` is kept for later, or comes back at once with EAGAIN when the
    /// caller does not want to wait. The holders that should hear of it are appended to `contentions`.
    pub(super) fn lock(
        &mut self,
        (gfid, domain): (Gfid, &str),
        lock: Lock,
        wait: bool,
        now: Duration,
        granted: Granted,
        contentions: &mut Vec<Contention>,
    ) {
        if nobody(&lock.holder.owner) {
            return granted(Err(Errno::EINVAL));
        }
        let locks = self.0.entry((gfid, domain.to_owned())).or_default();
        for held in &mut locks.held {
            if held.lock.conflicts(&lock) && held.told.is_none_or(|told| now >= told + TELL_AGAIN) {
                held.told = Some(now);
                contentions.push(contention(gfid, domain, &held.lock));
            }
        }
        match (locks.must_wait(&lock), wait) {
            (false, _) => {
                // A brick grants it to the same owner again: two operations that should exclude each other do not.
                let overlaps = |held: &&Held| held.lock.exclusive && held.lock.scope.overlaps(&lock.scope);
                if let Some(held) = locks.held.iter().find(overlaps) {
                    self.1 = Some(format!("{gfid} {domain}: {:?} is held twice", held.lock));
                }
                locks.held.push(Held { lock, told: None });
                granted(Ok(()));
            }
            (true, true) => locks.waiting.push((lock, granted)),
            (true, false) => granted(Err(Errno::EAGAIN)),
        }
    }

    /// Gives up exactly one granted lock. Those that can be granted now are appended to `ready`.
    pub(super) fn unlock(
        &mut self,
        (gfid, domain): (Gfid, &str),
        holder: &Holder,
        scope: &Scope,
        ready: &mut Vec<Granted>,
    ) -> Result<(), Errno> {
        let key = (gfid, domain.to_owned());
        let locks = self.0.get_mut(&key).ok_or(Errno::EINVAL)?;
        let at = locks.held.iter().position(|held| held.lock.holder == *holder && held.lock.scope == *scope);
        locks.held.remove(at.ok_or(Errno::EINVAL)?);
        locks.grant(ready);
        if locks.held.is_empty() && locks.waiting.is_empty() {
            self.0.remove(&key);
        }
        Ok(())
    }

    /// Drops all of a connection.
    pub(super) fn disconnect(&mut self, session: u64, ready: &mut Vec<Granted>) {
        for locks in self.0.values_mut() {
            locks.held.retain(|held| held.lock.holder.session != session);
            locks.waiting.retain(|(lock, _)| lock.holder.session != session);
            locks.grant(ready);
        }
        self.0.retain(|_, locks| !(locks.held.is_empty() && locks.waiting.is_empty()));
    }

    /// Held and waiting locks of an inode that `counts` accepts, by domain.
    pub(super) fn count(&self, gfid: Gfid, mut counts: impl FnMut(&str, &Lock) -> bool) -> i64 {
        let all = self.all().filter(|(of, domain, lock, _)| *of == gfid && counts(domain, lock));
        all.count() as i64
    }

    /// Two granted locks that exclude each other; there never are any.
    pub(super) fn conflict(&self) -> Option<String> {
        self.0.iter().find_map(|((gfid, domain), locks)| {
            let pairs = locks.held.iter().enumerate().flat_map(|(at, a)| locks.held[..at].iter().map(move |b| (a, b)));
            let (a, b) = pairs.into_iter().find(|(a, b)| a.lock.conflicts(&b.lock))?;
            Some(format!("{gfid} {domain}: {:?} and {:?}", a.lock, b.lock))
        })
    }

    /// An exclusive lock that one owner got twice at once.
    pub(super) fn held_twice(&self) -> Option<String> {
        self.1.clone()
    }

    /// Every lock: inode, domain, lock, and whether it is granted.
    pub(super) fn all(&self) -> impl Iterator<Item = (Gfid, &str, &Lock, bool)> {
        self.0.iter().flat_map(|((gfid, domain), locks)| {
            let held = locks.held.iter().map(|held| (&held.lock, true));
            let waiting = locks.waiting.iter().map(|(lock, _)| (lock, false));
            held.chain(waiting).map(|(lock, granted)| (*gfid, domain.as_str(), lock, granted))
        })
    }
}

/// The brick refuses internal locks of an owner that is all zero.
fn nobody(owner: &LockOwner) -> bool {
    owner.0.iter().all(|byte| *byte == 0)
}

fn contention(gfid: Gfid, domain: &str, held: &Lock) -> Contention {
    let (start, len) = match held.scope {
        Scope::Range { start, len } => (start, len),
        Scope::Name(_) => (0, 0),
    };
    let kind = if held.exclusive { LockType::Write } else { LockType::Read };
    let flock = Flock { kind, whence: 0, start, len, pid: 0, owner: held.holder.owner.clone() };
    Contention { holder: held.holder.session, gfid, domain: domain.to_owned(), flock }
}

/// The domain in which a range lock really is: the range that replicate takes for metadata has one of its own
/// (`_pl_convert_volume_for_special_range`).
pub(super) fn domain_of_range(domain: &str, flock: &Flock) -> String {
    if flock.start == 0x7fff_ffff_ffff_fffe && flock.len == 0 {
        format!("{domain}:metadata")
    } else {
        domain.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    type Answers = Vec<(u8, Result<(), Errno>)>;

    #[derive(Default)]
    struct Bench {
        table: LockTable,
        answers: Arc<Mutex<Answers>>,
        contentions: Vec<Contention>,
    }

    fn holder(owner: u8) -> Holder {
        Holder { session: u64::from(owner), owner: LockOwner::from_fuse(owner.into()) }
    }

    impl Bench {
        fn lock(&mut self, owner: u8, scope: Scope, exclusive: bool, wait: bool) {
            let answers = self.answers.clone();
            let granted: Granted = Box::new(move |answer| answers.lock().unwrap().push((owner, answer)));
            let lock = Lock { holder: holder(owner), scope, exclusive };
            self.table.lock((Gfid::ROOT, "d"), lock, wait, Duration::ZERO, granted, &mut self.contentions);
        }

        fn unlock(&mut self, owner: u8, scope: Scope) -> Result<(), Errno> {
            let mut ready = Vec::new();
            let done = self.table.unlock((Gfid::ROOT, "d"), &holder(owner), &scope, &mut ready);
            ready.into_iter().for_each(|granted| granted(Ok(())));
            done
        }

        fn answers(&self) -> Answers {
            std::mem::take(&mut *self.answers.lock().unwrap())
        }
    }

    const ALL: Scope = Scope::Range { start: 0, len: 0 };

    #[test]
    fn an_older_waiting_lock_goes_first() {
        let mut bench = Bench::default();
        bench.lock(1, Scope::Range { start: 0, len: 10 }, true, false);
        bench.lock(2, ALL, true, true);
        bench.lock(3, Scope::Range { start: 20, len: 5 }, true, false);
        assert_eq!(bench.answers(), [(1, Ok(())), (3, Err(Errno::EAGAIN))], "3 conflicts with nothing that is held");
        bench.lock(1, Scope::Range { start: 20, len: 5 }, true, false);
        assert_eq!(bench.answers(), [(1, Ok(()))], "who has a lock here passes those that wait for it");
        bench.lock(3, Scope::Range { start: 20, len: 5 }, true, true);
        bench.unlock(1, Scope::Range { start: 0, len: 10 }).unwrap();
        assert_eq!(bench.answers(), []);
        bench.unlock(1, Scope::Range { start: 20, len: 5 }).unwrap();
        assert_eq!(bench.answers(), [(2, Ok(()))]);
        bench.unlock(2, ALL).unwrap();
        assert_eq!(bench.answers(), [(3, Ok(()))]);
    }

    #[test]
    fn the_same_owner_is_never_in_its_own_way() {
        let mut bench = Bench::default();
        bench.lock(1, ALL, true, false);
        bench.lock(1, ALL, true, false);
        assert_eq!(bench.answers(), [(1, Ok(())), (1, Ok(()))]);
        assert_eq!(bench.table.count(Gfid::ROOT, |_, _| true), 2);
    }

    #[test]
    fn an_unlock_matches_exactly() {
        let mut bench = Bench::default();
        bench.lock(1, ALL, true, false);
        assert_eq!(bench.unlock(1, Scope::Range { start: 0, len: 5 }), Err(Errno::EINVAL));
        assert_eq!(bench.unlock(2, ALL), Err(Errno::EINVAL));
        assert_eq!(bench.unlock(1, ALL), Ok(()));
        assert_eq!(bench.table.all().count(), 0);
    }

    #[test]
    fn no_name_means_all_names() {
        let name = |name: &'static str| Scope::Name(Some(name.into()));
        let mut bench = Bench::default();
        bench.lock(1, name("a"), true, false);
        bench.lock(2, name("b"), true, false);
        bench.lock(3, Scope::Name(None), true, false);
        assert_eq!(bench.answers(), [(1, Ok(())), (2, Ok(())), (3, Err(Errno::EAGAIN))]);
        bench.lock(3, Scope::Name(None), true, true);
        bench.table.disconnect(1, &mut Vec::new());
        bench.unlock(2, name("b")).unwrap();
        assert_eq!(bench.answers(), [(3, Ok(()))]);
    }

    #[test]
    fn owners_need_a_name_and_holders_hear_of_waiters() {
        let mut bench = Bench::default();
        bench.lock(0, ALL, true, false);
        assert_eq!(bench.answers(), [(0, Err(Errno::EINVAL))]);
        bench.lock(1, ALL, true, false);
        bench.lock(2, ALL, true, true);
        bench.lock(3, ALL, true, true);
        let heard: Vec<u64> = bench.contentions.iter().map(|contention| contention.holder).collect();
        assert_eq!(heard, [1], "once in five seconds");
    }

    #[test]
    fn the_metadata_range_has_a_domain_of_its_own() {
        let flock =
            |start, len| Flock { kind: LockType::Write, whence: 0, start, len, pid: 0, owner: LockOwner::default() };
        assert_eq!(domain_of_range("R", &flock(0x7fff_ffff_ffff_fffe, 0)), "R:metadata");
        assert_eq!(domain_of_range("R", &flock(0, 0)), "R");
        assert_eq!(domain_of_range("R", &flock(0x7fff_ffff_ffff_fffe, 1)), "R");
    }
}
