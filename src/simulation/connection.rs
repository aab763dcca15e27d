//! What a client's replicate has as child: a connection to one brick, through all its lives, in the place of
//! `protocol/client`. Every call becomes a request that arrives some time later, and an answer that arrives later again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rgfs_protocol::open_flags::host;
use rgfs_protocol::{Dict, Errno, Gfid};
use tokio::sync::oneshot;

use super::brick::{ANONYMOUS, Brick, Call, Caller, Done, Failure, Host, Target, Verdict, Work};
use super::locks::{Contention, Granted};
use super::trace::World;
use crate::event::{Event, EventSource, Status};
use crate::inode::ContextKey;
use crate::translators::protocol::client::locks::LockTable;
use crate::{Context, Fd, FopError, FopResult};

/// A connection of one client to one brick.
pub(crate) struct Connection {
    pub(super) world: Arc<World>,
    pub(super) host: Arc<Host>,
    pub(super) client: usize,
    pub(super) brick: usize,
    pub(super) name: Arc<str>,
    pub(super) events: EventSource,
    pub(super) key: ContextKey,
    pub(super) me: Weak<Self>,
    /// False once the client crashed: then nothing is answered any more.
    pub(super) alive: Arc<AtomicBool>,
    /// Posix locks that the brick granted; see [`super::held_locks`].
    pub(super) locks: Mutex<LockTable>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Number of the connection that serves fops.
    session: Option<u64>,
    /// The network to the brick is cut.
    cut: bool,
    in_flight: BTreeMap<u64, Arc<dyn Pending>>,
    files: BTreeMap<u64, Weak<RemoteFile>>,
}

/// A request without answer.
trait Pending: Send + Sync {
    fn fail(&self, error: FopError);
    fn bury(self: Arc<Self>, world: &World);
}

type Slot<R> = Mutex<Option<oneshot::Sender<FopResult<R>>>>;

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl<R: Send + 'static> Pending for Slot<R> {
    fn fail(&self, error: FopError) {
        if let Some(sender) = take(self) {
            let _ = sender.send(Err(error));
        }
    }

    fn bury(self: Arc<Self>, world: &World) {
        world.schedule.bury(self);
    }
}

/// The way back of one answer.
pub(super) struct Answer<R> {
    connection: Arc<Connection>,
    id: u64,
    fop: &'static str,
    slot: Arc<Slot<R>>,
    late: Duration,
}

impl<R: Send + 'static> Answer<R> {
    pub(super) fn send(self, outcome: Done<R>) {
        let (connection, delay) = (self.connection.clone(), self.connection.host.delay() + self.late);
        self.connection.world.schedule.after(delay, move || {
            let mut state = connection.state();
            // Nobody waits for it when its connection broke meanwhile.
            if !connection.alive.load(Ordering::Relaxed) || state.in_flight.remove(&self.id).is_none() {
                return;
            }
            drop(state);
            if let Err(failure) = &outcome {
                connection.world.record_failure(self.id, failure.errno);
            }
            let outcome = outcome.map_err(|failure| connection.error(failure, self.fop));
            if let Some(sender) = take(&self.slot) {
                let _ = sender.send(outcome);
            }
        });
    }
}

/// What the client knows of an open file on the brick.
pub(super) struct RemoteFile {
    id: u64,
    gfid: Gfid,
    flags: i32,
    state: Mutex<FileState>,
    connection: Weak<Connection>,
}

#[derive(Clone, Copy, Debug)]
enum FileState {
    Open {
        session: u64,
        number: i64,
    },
    /// It could not be opened again.
    Closed,
    /// The file is gone.
    Bad,
}

impl RemoteFile {
    fn state(&self) -> MutexGuard<'_, FileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        let Some(connection) = self.connection.upgrade() else { return };
        connection.locks().release_fd(self.gfid, self.id);
        let mut state = connection.state();
        state.files.remove(&self.id);
        let now = state.session;
        drop(state);
        if let FileState::Open { session, number } = *self.state()
            && now == Some(session)
        {
            connection.host.release(session, number);
        }
    }
}

impl Connection {
    pub(super) fn new(
        world: &Arc<World>,
        host: &Arc<Host>,
        (client, brick): (usize, usize),
        alive: &Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Connection {
            world: world.clone(),
            host: host.clone(),
            client,
            brick,
            name: format!("v-client-{brick}").into(),
            events: EventSource::default(),
            key: ContextKey::unique(),
            me: me.clone(),
            alive: alive.clone(),
            locks: Mutex::default(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Number of the connection that serves fops now.
    pub(super) fn session(&self) -> Option<u64> {
        self.state().session
    }

    pub(super) fn error(&self, failure: Failure, step: &'static str) -> FopError {
        FopError::new(failure.errno, &self.name, step).with_xdata(failure.xdata)
    }

    /// Sends a request that the brick answers as soon as it is done.
    pub(super) fn ask<R: Send + 'static>(
        &self,
        context: &Context,
        call: Call,
        work: impl FnOnce(&mut Brick, &Caller) -> Done<R> + Send + 'static,
    ) -> impl Future<Output = FopResult<R>> + Send {
        self.send(context, call, move |brick, caller, answer: Answer<R>, instead| {
            let done = work(brick, caller);
            answer.send(match instead {
                Some(errno) => Err(errno.into()),
                None => done,
            });
        })
    }

    /// Sends a request for a lock, which may have to wait at the brick.
    pub(super) fn ask_lock<R: Send + 'static>(
        &self,
        context: &Context,
        call: Call,
        granted: R,
        work: impl FnOnce(&mut Brick, &Caller, Granted) + Send + 'static,
    ) -> impl Future<Output = FopResult<R>> + Send {
        self.send(context, call, move |brick, caller, answer: Answer<R>, instead| {
            let outcome: Granted = Box::new(move |outcome| {
                answer.send(match (outcome, instead) {
                    (Ok(()), None) => Ok(granted),
                    (Err(errno), None) | (_, Some(errno)) => Err(errno.into()),
                });
            });
            work(brick, caller, outcome);
        })
    }

    fn send<R: Send + 'static>(
        &self,
        context: &Context,
        call: Call,
        work: impl FnOnce(&mut Brick, &Caller, Answer<R>, Option<Errno>) + Send + 'static,
    ) -> impl Future<Output = FopResult<R>> + Send {
        let depth = context.rounds.sent();
        let (rounds, fop) = (context.rounds.clone(), call.fop);
        let (sender, receiver) = oneshot::channel();
        let slot: Arc<Slot<R>> = Arc::new(Mutex::new(Some(sender)));
        let mut state = self.state();
        match (self.is_alive(), state.session, self.me.upgrade()) {
            (true, Some(session), Some(connection)) => {
                let id = self.world.number();
                state.in_flight.insert(id, slot.clone());
                drop(state);
                self.world.record(id, self.brick, &call);
                let caller = Caller {
                    session,
                    uid: context.uid,
                    gid: context.gid,
                    owner: context.lock_owner.clone(),
                    time: context.time,
                };
                let mut answer = Answer { connection, id, fop, slot, late: Duration::ZERO };
                let work: Work = Box::new(move |brick, verdict| {
                    let mut instead = None;
                    match verdict {
                        Verdict::Pass | Verdict::Wait(_) => {}
                        Verdict::Fail(errno) => return answer.send(Err(errno.into())),
                        Verdict::FailAfter(errno) => instead = Some(errno),
                        Verdict::Short(room) => brick.room = room,
                        Verdict::AnswerLate(late) => answer.late = late,
                    }
                    work(brick, &caller, answer, instead);
                    brick.room = usize::MAX;
                });
                self.host.post(id, session, call, work);
            }
            (true, ..) => {
                drop(state);
                slot.fail(self.down(fop));
            }
            // A crashed client hears nothing any more.
            (false, ..) => drop(state),
        }
        async move {
            match receiver.await {
                Ok(outcome) => {
                    rounds.answered(depth);
                    outcome
                }
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn down(&self, step: &'static str) -> FopError {
        FopError::new(Errno::ENOTCONN, &self.name, step).with_detail("the brick is not connected")
    }

    /// Remembers that the brick opened `fd` as `number`.
    pub(super) fn opened(&self, fd: &Fd, gfid: Gfid, flags: i32, number: i64) {
        let mut state = self.state();
        let Some(session) = state.session else { return };
        let file = Arc::new(RemoteFile {
            id: self.world.number(),
            gfid,
            flags: flags & !(host::O_CREAT | host::O_EXCL | host::O_TRUNC),
            state: Mutex::new(FileState::Open { session, number }),
            connection: self.me.clone(),
        });
        state.files.insert(file.id, Arc::downgrade(&file));
        drop(state);
        fd.contexts.set(self.key, file);
    }

    /// Closes an open file.
    pub(super) fn close(&self, fd: &Fd) {
        let file = fd.contexts.get::<RemoteFile>(self.key);
        fd.contexts.remove(self.key);
        drop(file);
    }

    /// How `fop` names an open file to the brick (`client_get_remote_fd`).
    pub(super) fn target(&self, fd: &Fd, fop: &'static str) -> FopResult<Target> {
        let Some(session) = self.session() else { return Err(self.down(fop)) };
        let file = fd.contexts.get::<RemoteFile>(self.key);
        let state = file.as_ref().map(|file| *file.state());
        let gfid = file.as_ref().map_or(fd.gfid(), |file| file.gfid);
        let flags = file.as_ref().map_or(fd.flags, |file| file.flags);
        match state {
            Some(FileState::Open { session: of, number }) if of == session => Ok(Target::File(gfid, number)),
            Some(FileState::Bad) => Err(self.not_open(fop)),
            _ if anonymous_will_do(fop, flags) => Ok(Target::File(gfid, ANONYMOUS)),
            _ => Err(self.not_open(fop)),
        }
    }

    fn not_open(&self, fop: &'static str) -> FopError {
        FopError::new(Errno::EBADFD, &self.name, fop).with_detail("the file is not open on this brick")
    }

    /// The brick said that somebody waits for a lock of this client.
    pub(super) fn contended(&self, news: Contention) {
        if self.is_alive() && self.session() == Some(news.holder) {
            let domain = news.domain.as_str().into();
            self.events.announce(&Event::InodelkContention { gfid: news.gfid, flock: news.flock, domain });
        }
    }

    /// The connection `session` broke: what is in flight fails, and everybody hears it.
    pub(super) fn lost(&self, session: u64) {
        let mut state = self.state();
        if state.session != Some(session) {
            return;
        }
        state.session = None;
        let in_flight = std::mem::take(&mut state.in_flight);
        drop(state);
        if !self.is_alive() {
            return in_flight.into_values().for_each(|pending| pending.bury(&self.world));
        }
        let announce = || self.events.announce(&Event::Status(Status::Down("the connection broke".into())));
        // In either order: the two are noticed in different places.
        let early = self.world.toss();
        if early {
            announce();
        }
        for (id, pending) in in_flight {
            self.world.record_failure(id, Errno::ENOTCONN);
            pending.fail(FopError::new(Errno::ENOTCONN, &self.name, "wait").with_detail("the connection broke"));
        }
        if !early {
            announce();
        }
    }

    /// Breaks now at this end; returns the connection that the brick has yet to notice.
    pub(super) fn cut(&self) -> Option<u64> {
        let mut state = self.state();
        state.cut = true;
        let session = state.session?;
        drop(state);
        self.host.cut(session);
        self.lost(session);
        Some(session)
    }

    /// The network works again.
    pub(super) fn heal(&self) {
        self.state().cut = false;
    }

    /// Connects, opens again what was open, and announces it.
    pub(super) fn connect(&self) {
        if let Some(session) = self.session() {
            if self.host.knows(session) {
                return;
            }
            // The brick died and came back before anybody noticed.
            self.lost(session);
        }
        let session = self.world.number();
        if self.state().cut || !self.is_alive() || !self.host.connect(session, self.client, &self.me) {
            let down = Event::Status(Status::Down("nobody listens".into()));
            if self.is_alive() {
                self.events.announce(&down);
            }
            return;
        }
        let files: Vec<_> = self.state().files.values().filter_map(Weak::upgrade).collect();
        for file in &files {
            if matches!(*file.state(), FileState::Bad) {
                continue;
            }
            *file.state() = match self.host.reopen(session, file.gfid, file.flags) {
                Ok(number) => self.with_locks(file, session, number),
                Err(Errno::ENOENT | Errno::ESTALE) => FileState::Bad,
                Err(_) => FileState::Closed,
            };
        }
        drop(files);
        self.state().session = Some(session);
        self.events.announce(&Event::Status(Status::Up));
    }

    /// Takes the locks of a file again that is open on a new connection.
    fn with_locks(&self, file: &RemoteFile, session: u64, number: i64) -> FileState {
        let held = self.locks().of_fd(file.gfid, file.id);
        if self.host.lock_again(session, (file.gfid, number), &held) {
            return FileState::Open { session, number };
        }
        self.locks().release_fd(file.gfid, file.id);
        self.host.release(session, number);
        FileState::Bad
    }

    /// Number of an open file.
    pub(super) fn file_number(&self, fd: &Fd) -> Option<u64> {
        fd.contexts.get::<RemoteFile>(self.key).map(|file| file.id)
    }

    /// Whether an fd is open on the connection that serves fops.
    pub(super) fn is_open(&self, fd: &Fd) -> bool {
        let state = fd.contexts.get::<RemoteFile>(self.key).map(|file| *file.state());
        self.is_alive() && matches!(state, Some(FileState::Open { session, .. }) if self.session() == Some(session))
    }

    /// The client crashed: `alive` is false already. Returns the connection that the brick has yet to notice.
    pub(super) fn crashed(&self) -> Option<u64> {
        let session = self.session()?;
        self.host.cut(session);
        self.lost(session);
        Some(session)
    }

    /// A request to be recorded and judged.
    pub(super) fn call(&self, fop: &'static str, context: &Context, gfid: Gfid, xdata: &Dict) -> Call {
        Call {
            fop,
            client: self.client,
            gfid,
            name: None,
            offset: 0,
            size: 0,
            dict: Dict::NULL,
            xdata: xdata.clone(),
            unlock: false,
            owner: context.lock_owner.clone(),
            pid: context.pid,
            detail: String::new(),
        }
    }
}

/// True for the fops that may go through the anonymous fd when the real one is not open on the brick; `flags` are those
/// of the open.
fn anonymous_will_do(fop: &str, flags: i32) -> bool {
    match fop {
        "WRITE" => flags & (host::O_APPEND | host::O_SYNC | host::O_DIRECT) == 0,
        "READ" => flags & host::O_DIRECT == 0,
        "FSYNC" | "FINODELK" | "FXATTROP" => true,
        _ => false,
    }
}
