//! Who asks: the identity in a FUSE request, completed by the caller's supplementary groups.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use rgfs_protocol::Time;
use rgfs_protocol::types::LockOwner;

use crate::Context;
use crate::context::Rounds;

/// Process number 1 means "NFS server" to a brick, which then skips permission checks; a caller with that number (the
/// init of a container) is reported under this one.
const INSTEAD_OF_PID_1: i32 = i32::MAX;

/// Remembered callers at most.
const CACHE_LIMIT: usize = 1024;

/// Identity in the header of a request.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// File-system uid.
    pub uid: u32,
    /// File-system gid.
    pub gid: u32,
    /// Thread that asks; 0 when it is not visible from here (another pid namespace) or the kernel itself asks.
    pub pid: u32,
    /// The kernel's number of the request.
    pub unique: u64,
    /// Round trips made for the request.
    pub rounds: Arc<Rounds>,
}

/// pid, uid and gid.
type Who = (u32, u32, u32);

/// What is known of callers: their supplementary groups, remembered for `gid-timeout`.
#[derive(Debug)]
pub struct Callers {
    known: DashMap<Who, (Arc<[u32]>, Instant)>,
    timeout: Option<Duration>,
    none: Arc<[u32]>,
    client_pid: Option<i32>,
}

impl Callers {
    /// Groups are believed for `timeout`, so that changes of a running process show after that; `None`: no groups are
    /// sent. `client_pid` stands for every caller's process.
    pub fn new(timeout: Option<Duration>, client_pid: Option<i32>) -> Self {
        Callers { known: DashMap::new(), timeout, none: Arc::from([]), client_pid }
    }

    /// The groups of `caller`. Unlike the C client, which then grants group 0, a caller that cannot be asked has no group
    /// but the one of the request.
    pub fn groups(&self, caller: &Caller, now: Instant) -> Arc<[u32]> {
        let Some(timeout) = self.timeout.filter(|_| caller.pid != 0) else { return self.none.clone() };
        let key = (caller.pid, caller.uid, caller.gid);
        if let Some(known) = self.known.get(&key)
            && now.saturating_duration_since(known.1) < timeout
        {
            return known.0.clone();
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", caller.pid));
        let groups = status.ok().and_then(|status| parse_groups(&status)).unwrap_or_else(|| self.none.clone());
        if !timeout.is_zero() {
            if self.known.len() >= CACHE_LIMIT {
                self.known.retain(|_, (_, since)| now.saturating_duration_since(*since) < timeout / 4);
            }
            if self.known.len() >= CACHE_LIMIT {
                self.known.clear();
            }
            self.known.insert(key, (groups.clone(), now));
        }
        groups
    }

    /// The context of a request by `caller`. Without `lock_owner` the process owns, as in the C client.
    pub fn context(&self, caller: &Caller, lock_owner: Option<u64>) -> Context {
        let pid = match (self.client_pid, caller.pid) {
            (Some(pid), _) => pid,
            (None, 1) => INSTEAD_OF_PID_1,
            (None, pid) => i32::try_from(pid).unwrap_or(INSTEAD_OF_PID_1),
        };
        Context {
            uid: caller.uid,
            gid: caller.gid,
            groups: self.groups(caller, Instant::now()),
            pid,
            lock_owner: lock_owner.map_or_else(|| LockOwner::from_pid(pid), LockOwner::from_fuse),
            deadline: None,
            request_id: caller.unique,
            time_flags: 0,
            time: now(),
            rounds: caller.rounds.clone(),
        }
    }
}

/// The moment that the bricks shall note.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nsec: since.subsec_nanos() }
}

/// The `Groups:` line of `/proc/PID/status`.
fn parse_groups(status: &str) -> Option<Arc<[u32]>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    line.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_status() {
        assert_eq!(parse_groups("Name:\tx\nGroups:\t4 20 1000 \nFoo: 1").as_deref(), Some(&[4, 20, 1000][..]));
        assert_eq!(parse_groups("Groups:\t\n").as_deref(), Some(&[][..]));
        assert_eq!(parse_groups("Name: x\n"), None);
    }

    #[test]
    fn invisible_and_vanished_callers_have_no_groups() {
        let callers = Callers::new(Some(Duration::from_secs(1)), None);
        for pid in [0, 0x7fff_fff0] {
            let caller = Caller { uid: 1, gid: 2, pid, unique: 3, ..Caller::default() };
            assert!(callers.groups(&caller, Instant::now()).is_empty());
        }
    }

    #[test]
    fn process_1_is_disguised_and_lock_owners_are_kept() {
        let callers = Callers::new(Some(Duration::ZERO), None);
        let caller = Caller { uid: 1, gid: 2, pid: 1, unique: 3, ..Caller::default() };
        let context = callers.context(&caller, Some(7));
        assert!(context.pid > 1);
        assert_eq!(context.lock_owner, LockOwner::from_fuse(7));
        assert_eq!(callers.context(&caller, None).lock_owner, LockOwner::from_pid(context.pid));
    }

    #[test]
    fn the_cache_is_bounded() {
        let callers = Callers::new(Some(Duration::from_secs(300)), None);
        for uid in 0..3000 {
            callers.groups(&Caller { uid, gid: 0, pid: std::process::id(), ..Caller::default() }, Instant::now());
        }
        assert!(callers.known.len() <= CACHE_LIMIT);
    }
}
