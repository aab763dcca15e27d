//! One brick: what it stores and locks, who is connected to it, and the requests that are on their way to it.
//!
//! A request waits in the inbox until the schedule lets it happen. When a connection breaks, the seed decides which of
//! the waiting ones still happen; their answers never arrive.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::types::LockOwner;
use rgfs_protocol::{Dict, Errno, Gfid, Time};

use super::connection::Connection;
use super::index::Index;
use super::locks::{Contention, Granted, Holder, LockTable};
use super::posix_locks::PosixLocks;
use super::storage::Storage;
use super::trace::World;

/// A request, as rules and traces see it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Name of the fop, as GlusterFS writes it on the wire: `LOOKUP`, `FXATTROP`, `WRITE`.
    pub(crate) fop: &'static str,
    /// Which client asks.
    pub(crate) client: usize,
    /// The object; the parent for a fop on a name.
    pub(crate) gfid: Gfid,
    /// The name, for a fop on one.
    pub(crate) name: Option<Bytes>,
    /// First byte of a fop on data.
    pub(crate) offset: u64,
    /// Bytes of a fop on data.
    pub(crate) size: u64,
    /// xattrs of SETXATTR and XATTROP.
    pub(crate) dict: Dict,
    /// What was asked besides.
    pub(crate) xdata: Dict,
    /// A release, in lock fops.
    pub(crate) unlock: bool,
    /// Owner in the credential.
    pub(crate) owner: LockOwner,
    /// Process in the credential.
    pub(crate) pid: i32,
    /// Further arguments as text; only with the trace switched on.
    pub(crate) detail: String,
}

/// What a rule says about a request that a brick is about to carry out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing.
    Pass,
    /// It fails, and nothing is done.
    Fail(Errno),
    /// It is done, and the answer says that it failed.
    FailAfter(Errno),
    /// A write takes so many bytes at most.
    Short(usize),
    /// It has to wait.
    Wait(Duration),
    /// It is done, and the answer has to wait.
    AnswerLate(Duration),
}

/// Decides about requests; asked once for each.
pub(crate) type Rule = Box<dyn FnMut(&Call) -> Verdict + Send>;

/// A failed request: errno, and what the answer says besides.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) errno: Errno,
    pub(super) xdata: Dict,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure { errno, xdata: Dict::NULL }
    }
}

/// Outcome of a request at the brick.
pub(super) type Done<T> = Result<T, Failure>;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) session: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) owner: LockOwner,
    pub(super) time: Time,
}

impl Caller {
    pub(super) fn holder(&self) -> Holder {
        Holder { session: self.session, owner: self.owner.clone() }
    }
}

/// The number that names an inode instead of an open file.
pub(super) const ANONYMOUS: i64 = -2;

/// How a request names its object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Inode(Gfid),
    /// An open file: its inode and its number, or [`ANONYMOUS`].
    File(Gfid, i64),
}

#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    pub(super) gfid: Gfid,
    pub(super) flags: i32,
}

struct Session {
    client: usize,
    connection: Weak<Connection>,
    files: BTreeMap<i64, OpenFile>,
}

/// Carries a request out as a rule demands.
pub(super) type Work = Box<dyn FnOnce(&mut Brick, Verdict) + Send>;

struct Request {
    session: u64,
    call: Call,
    work: Work,
    judged: bool,
}

/// State of a brick.
pub(crate) struct Brick {
    pub(super) index_number: usize,
    pub(super) arbiter: bool,
    /// It is a thin arbiter.
    pub(super) thin: bool,
    pub(super) alive: bool,
    pub(super) now: Duration,
    /// What fops on an unknown gfid answer: real bricks say either, depending on where it is noticed.
    pub(super) missing: Errno,
    /// Bytes that the running write may take.
    pub(super) room: usize,
    pub(super) storage: Storage,
    pub(super) index: Index,
    pub(super) inodelks: LockTable,
    pub(super) entrylks: LockTable,
    pub(super) posix_locks: PosixLocks,
    pub(super) contentions: Vec<Contention>,
    /// How often a directory was made with the gfid of another one: a real brick lets both share it, and then leads
    /// whoever asks by gfid to the younger one.
    pub(super) shared_gfids: usize,
    sessions: BTreeMap<u64, Session>,
    next_file: i64,
    inbox: BTreeMap<u64, Request>,
    rules: Vec<Rule>,
}

impl Brick {
    /// The object of a request.
    pub(super) fn find(&self, caller: &Caller, target: Target) -> Done<Gfid> {
        match target {
            Target::Inode(gfid) | Target::File(gfid, ANONYMOUS) => {
                self.storage.get(gfid).map(|_| gfid).ok_or_else(|| self.missing.into())
            }
            Target::File(_, number) => Ok(self.file(caller, number).ok_or(Errno::EBADF)?.gfid),
        }
    }

    pub(super) fn file(&self, caller: &Caller, number: i64) -> Option<&OpenFile> {
        self.sessions.get(&caller.session)?.files.get(&number)
    }

    /// Opens an object for a connection; returns the number.
    pub(super) fn open_file(&mut self, session: u64, gfid: Gfid, flags: i32) -> i64 {
        self.next_file += 1;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.files.insert(self.next_file, OpenFile { gfid, flags });
        }
        self.next_file
    }

    /// Open files of an inode, of all connections.
    pub(super) fn open_count(&self, gfid: Gfid) -> usize {
        self.sessions.values().flat_map(|session| session.files.values()).filter(|file| file.gfid == gfid).count()
    }

    /// Forgets objects that have neither a name nor an open file.
    pub(super) fn sweep(&mut self) {
        let open: Vec<Gfid> =
            self.sessions.values().flat_map(|session| session.files.values()).map(|file| file.gfid).collect();
        self.storage.sweep(|gfid| open.contains(&gfid));
    }

    fn close_file(&mut self, session: u64, number: i64) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.files.remove(&number);
        }
        let mut ready = Vec::new();
        self.posix_locks.release(session, number, &mut ready);
        self.grant(ready);
        self.sweep();
    }

    /// Tells those whose locks were granted.
    pub(super) fn grant(&mut self, ready: Vec<Granted>) {
        for granted in ready {
            granted(Ok(()));
        }
    }

    /// The connection is gone, with its files and locks, and with what it sent but was not begun.
    fn disconnect(&mut self, session: u64) {
        if self.sessions.remove(&session).is_none() {
            return;
        }
        self.inbox.retain(|_, request| request.session != session);
        let mut ready = Vec::new();
        self.inodelks.disconnect(session, &mut ready);
        self.entrylks.disconnect(session, &mut ready);
        self.posix_locks.disconnect(session, &mut ready);
        self.grant(ready);
        self.sweep();
    }

    fn judge(&mut self, call: &Call) -> Verdict {
        if self.thin && !["LOOKUP", "CREATE", "INODELK", "XATTROP"].contains(&call.fop) {
            return Verdict::Fail(Errno::EINVAL);
        }
        self.rules.iter_mut().map(|rule| rule(call)).find(|verdict| *verdict != Verdict::Pass).unwrap_or(Verdict::Pass)
    }
}

/// A brick in its place in the cluster.
pub(super) struct Host {
    pub(super) world: Arc<World>,
    /// By how much it is slower than others.
    pub(super) slowness: AtomicU64,
    state: Mutex<Brick>,
}

impl Host {
    pub(super) fn new(world: &Arc<World>, index_number: usize, arbiter: bool) -> Arc<Self> {
        let brick = Brick {
            index_number,
            arbiter,
            thin: false,
            alive: true,
            now: Duration::ZERO,
            missing: Errno::ENOENT,
            room: usize::MAX,
            storage: Storage::new(index_number),
            index: Index::default(),
            inodelks: LockTable::default(),
            entrylks: LockTable::default(),
            posix_locks: PosixLocks::default(),
            contentions: Vec::new(),
            shared_gfids: 0,
            sessions: BTreeMap::new(),
            next_file: 0,
            inbox: BTreeMap::new(),
            rules: Vec::new(),
        };
        Arc::new(Host { world: world.clone(), slowness: AtomicU64::new(1), state: Mutex::new(brick) })
    }

    /// The brick itself, for inspection and for changes behind everybody's back.
    pub(super) fn brick(&self) -> MutexGuard<'_, Brick> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a message takes now.
    pub(super) fn delay(&self) -> Duration {
        self.world.delay() * self.slowness.load(Ordering::Relaxed) as u32
    }

    pub(super) fn add_rule(&self, rule: Rule) {
        self.brick().rules.push(rule);
    }

    pub(super) fn clear_rules(&self) {
        self.brick().rules.clear();
    }

    /// A connection arrives. `None` when nobody listens.
    pub(super) fn connect(&self, session: u64, client: usize, connection: &Weak<Connection>) -> bool {
        let mut brick = self.brick();
        if brick.alive {
            let connection = connection.clone();
            brick.sessions.insert(session, Session { client, connection, files: BTreeMap::new() });
        }
        brick.alive
    }

    /// Whether a connection is one of the brick's present life.
    pub(super) fn knows(&self, session: u64) -> bool {
        self.brick().sessions.contains_key(&session)
    }

    /// A request is on its way.
    pub(super) fn post(self: &Arc<Self>, id: u64, session: u64, call: Call, work: Work) {
        self.brick().inbox.insert(id, Request { session, call, work, judged: false });
        self.arrive_after(self.delay(), id);
    }

    fn arrive_after(self: &Arc<Self>, delay: Duration, id: u64) {
        let host = self.clone();
        self.world.schedule.after(delay, move || host.arrive(id));
    }

    /// A request arrives; it is gone when its connection is.
    fn arrive(self: &Arc<Self>, id: u64) {
        let mut brick = self.brick();
        if let Some(wait) = self.carry_out(&mut brick, id) {
            drop(brick);
            self.arrive_after(wait, id);
        }
    }

    /// Carries a request out, or says how long it has to wait.
    fn carry_out(&self, brick: &mut Brick, id: u64) -> Option<Duration> {
        let mut request = brick.inbox.remove(&id)?;
        if !brick.sessions.contains_key(&request.session) {
            return None;
        }
        let verdict = if request.judged { Verdict::Pass } else { brick.judge(&request.call) };
        if let Verdict::Wait(wait) = verdict {
            request.judged = true;
            brick.inbox.insert(id, request);
            return Some(wait);
        }
        brick.now = self.world.schedule.now();
        brick.missing = if self.world.toss() { Errno::ESTALE } else { Errno::ENOENT };
        (request.work)(brick, verdict);
        for contention in std::mem::take(&mut brick.contentions) {
            let Some(holder) = brick.sessions.get(&contention.holder) else { continue };
            let connection = holder.connection.clone();
            self.world.schedule.after(self.delay(), move || {
                if let Some(connection) = connection.upgrade() {
                    connection.contended(contention);
                }
            });
        }
        None
    }

    /// Closes a file that a client let go of.
    pub(super) fn release(self: &Arc<Self>, session: u64, number: i64) {
        let host = self.clone();
        self.world.schedule.after(self.delay(), move || host.brick().close_file(session, number));
    }

    /// Opens a file again on a new connection.
    pub(super) fn reopen(&self, session: u64, gfid: Gfid, flags: i32) -> Result<i64, Errno> {
        let mut brick = self.brick();
        brick.storage.get(gfid).ok_or(Errno::ENOENT)?;
        Ok(brick.open_file(session, gfid, flags))
    }

    /// The network between a client and the brick breaks: of what is under way, the seed decides what arrives.
    pub(super) fn cut(&self, session: u64) {
        let mut brick = self.brick();
        brick.inbox.retain(|_, request| request.session != session || self.world.toss());
    }

    /// The brick notices that a connection is gone.
    pub(super) fn disconnect(&self, session: u64) {
        self.brick().disconnect(session);
    }

    /// The process dies: of what is under way, the seed decides what was done. Returns the connections that broke.
    pub(super) fn kill(&self, power_cut: bool) -> Vec<(u64, Weak<Connection>)> {
        let mut brick = self.brick();
        for id in brick.inbox.keys().copied().collect::<Vec<_>>() {
            if self.world.toss() {
                self.carry_out(&mut brick, id);
            }
        }
        brick.alive = false;
        let broken: Vec<_> = brick.sessions.iter().map(|(id, session)| (*id, session.connection.clone())).collect();
        // Nobody hears of a lock that is granted while everything ends.
        brick.inbox.clear();
        brick.inodelks = LockTable::default();
        brick.entrylks = LockTable::default();
        brick.posix_locks = PosixLocks::default();
        brick.sessions.clear();
        brick.sweep();
        if power_cut {
            let sure = !self.world.is_random();
            brick.storage.power_cut(|| sure || self.world.toss());
        }
        broken
    }

    pub(super) fn start(&self) {
        self.brick().alive = true;
    }
}
