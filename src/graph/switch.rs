//! The graph that fops go to, and the change to another one (`fuse-bridge.c:fuse_graph_sync`, `fuse_migrate_fd`).
//!
//! A [`Switch`] is what the file system above takes for the top of its graph. When the volfile has changed, a new graph is
//! built and brought up beside the one at work; [`Switch::turn`] then
//!
//! 1. holds new fops back, and waits for those at work. Locks that are waited for may go on waiting: they are granted by
//!    bricks that both graphs share;
//! 2. has the old graph finish what it put off: buffered writes, post-ops;
//! 3. decides for each open file to which graph it belongs from now on;
//! 4. lets fops go on, in the new graph.
//!
//! Open files need no opening: the connections to bricks that stay are the same in both graphs, and with them fds and
//! locks; other bricks open a file when the first fop on it comes. Two kinds stay with the old graph until they are
//! closed: files that have no name any more, for the new graph could not find them, and directories, for the positions
//! in them mean nothing to another graph. The old graph ends with its last user.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rgfs_protocol::{Dict, Errno};
use tokio::sync::Notify;

use super::LiveGraph;
use crate::event::EventSource;
use crate::inode::{ContextKey, KeySpan};
use crate::translators::cluster::join_all;
use crate::{Context, Fd, FopError, FopResult, Inode, Loc, Translator};

mod fops;
mod leaving;
mod repeat;
#[cfg(test)]
mod repeat_tests;

pub(super) use leaving::leaving;

/// Files that are looked for in the new graph at a time.
const BATCH: usize = 64;

/// The way to the graph of the time.
pub struct Switch {
    name: Arc<str>,
    key: ContextKey,
    turn: RwLock<Turn>,
    /// Fops may go on.
    opened: Notify,
    events: Arc<EventSource>,
}

struct Turn {
    current: Arc<Generation>,
    /// Nobody may enter now.
    closed: bool,
}

/// A graph and its users.
pub struct Generation {
    graph: LiveGraph,
    number: u32,
    /// Fops in it, without those that wait for locks.
    at_work: AtomicUsize,
    /// Somebody waits until there are none.
    is_closing: AtomicBool,
    idle: Notify,
    on_end: Mutex<Option<OnEnd>>,
    /// When a fop first failed for want of a brick that leaves the volume.
    bereft: OnceLock<Instant>,
}

type OnEnd = Box<dyn FnOnce() + Send>;

impl Generation {
    /// The graph.
    pub fn graph(&self) -> &LiveGraph {
        &self.graph
    }

    /// Its number in this mount: 0 for the first.
    pub fn number(&self) -> u32 {
        self.number
    }

    fn new(graph: LiveGraph, number: u32) -> Arc<Self> {
        Arc::new(Generation {
            graph,
            number,
            at_work: AtomicUsize::new(0),
            is_closing: AtomicBool::new(false),
            idle: Notify::new(),
            on_end: Mutex::new(None),
            bereft: OnceLock::new(),
        })
    }

    async fn is_idle(&self) {
        while self.at_work.load(Ordering::SeqCst) > 0 {
            self.idle.notified().await;
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        tracing::info!("graph {} has ended", self.number);
        if let Some(on_end) = self.on_end.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            on_end();
        }
    }
}

/// What is open when the graph changes.
#[derive(Debug, Default)]
pub struct OpenFds {
    /// Files.
    pub files: Vec<Arc<Fd>>,
    /// Directories.
    pub directories: Vec<Arc<Fd>>,
}

/// What an fd has from an earlier graph.
#[derive(Default)]
struct Kept {
    /// The graph that it stays with.
    graph: Option<Arc<Generation>>,
    /// The failure of a buffered write that it has to report.
    failure: Mutex<Option<FopError>>,
}

/// A fop's place in a graph, which stays until the fop has ended.
struct Seat {
    generation: Arc<Generation>,
    /// It counts as being at work.
    counted: bool,
    /// The fop is about what stays with this graph.
    kept: bool,
}

impl Seat {
    fn top(&self) -> &Arc<dyn Translator> {
        self.generation.graph.top()
    }

    /// From now on nobody waits for the fop.
    fn sit_back(&mut self) {
        if std::mem::replace(&mut self.counted, false)
            && self.generation.at_work.fetch_sub(1, Ordering::SeqCst) == 1
            && self.generation.is_closing.load(Ordering::SeqCst)
        {
            self.generation.idle.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sit_back();
    }
}

impl Switch {
    /// A switch that leads to `graph`.
    pub fn new(graph: LiveGraph) -> Arc<Self> {
        let events = Arc::new(EventSource::default());
        let switch = Switch {
            name: "switch".into(),
            key: ContextKey::unique(),
            turn: RwLock::new(Turn { current: Generation::new(graph, 0), closed: false }),
            opened: Notify::new(),
            events,
        };
        switch.pass_on(&switch.current());
        Arc::new(switch)
    }

    /// The graph that new fops go to.
    pub fn current(&self) -> Arc<Generation> {
        self.turn.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// Turns to `next`, which should be up. `opened` tells what is open, when nothing more is opened; `forget` is called
    /// when the last user of the old graph is gone, with the keys under which its translators left their state.
    ///
    /// # Errors
    /// Gives `next` back when fops are still at work after `patience`; all goes on in the old graph then.
    pub async fn turn(
        &self,
        next: LiveGraph,
        opened: impl FnOnce() -> OpenFds,
        patience: Duration,
        forget: impl FnOnce(Vec<KeySpan>) + Send + 'static,
    ) -> Result<(), Box<LiveGraph>> {
        let old = self.current();
        // Whatever becomes of this future, fops go on.
        let gate = Closed::gate(self, &old);
        let finished = async {
            old.is_idle().await;
            old.graph.top().drain().await;
        };
        if tokio::time::timeout(patience, finished).await.is_err() {
            return Err(Box::new(next));
        }
        let new = Generation::new(next, old.number.wrapping_add(1));
        self.assign(&old, &new, opened()).await;
        let gone = old.graph.keys_without(&new.graph);
        *old.on_end.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(move || forget(gone)));
        self.pass_on(&new);
        gate.open_into(new);
        Ok(())
    }

    /// Decides to which graph each fd belongs.
    async fn assign(&self, old: &Arc<Generation>, new: &Arc<Generation>, opened: OpenFds) {
        for fd in &opened.directories {
            if self.kept_graph(fd).is_none() {
                self.keep(fd, |kept| kept.graph = Some(old.clone()));
            }
        }
        let files: Vec<_> = opened.files.into_iter().filter(|fd| self.kept_graph(fd).is_none()).collect();
        for batch in files.chunks(BATCH) {
            let found = join_all(batch.iter().map(|fd| Box::pin(is_there(new, &fd.inode)))).await;
            for (fd, found) in batch.iter().zip(found) {
                if !found {
                    tracing::info!(gfid = %fd.gfid(), "an open file without a name stays with graph {}", old.number);
                    self.keep(fd, |kept| kept.graph = Some(old.clone()));
                } else if let Some(failure) = old.graph.top().take_failure(fd) {
                    self.keep(fd, |kept| kept.failure = Mutex::new(Some(failure)));
                }
            }
        }
    }

    /// Takes a place in the graph of the time; waits while the graph changes.
    async fn seat(&self) -> Seat {
        if let Some(seat) = self.try_seat() {
            return seat;
        }
        loop {
            let opened = self.opened.notified();
            if let Some(seat) = self.try_seat() {
                return seat;
            }
            opened.await;
        }
    }

    fn try_seat(&self) -> Option<Seat> {
        let turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
        if turn.closed {
            return None;
        }
        turn.current.at_work.fetch_add(1, Ordering::SeqCst);
        Some(Seat { generation: turn.current.clone(), counted: true, kept: false })
    }

    /// Takes a place in the graph that `fd` belongs to.
    async fn seat_of(&self, fd: &Fd) -> Seat {
        match self.kept_graph(fd) {
            Some(generation) => Seat { generation, counted: false, kept: true },
            None => {
                let seat = self.seat().await;
                // It may have been assigned while we waited.
                match self.kept_graph(fd) {
                    Some(generation) => Seat { generation, counted: false, kept: true },
                    None => seat,
                }
            }
        }
    }

    /// [`Switch::seat_of`] for listing a directory. From its beginning it may as well be listed by the new graph.
    async fn seat_of_listing(&self, fd: &Arc<Fd>, offset: u64) -> Seat {
        let seat = self.seat_of(fd).await;
        if offset != 0 || self.kept_graph(fd).is_none() {
            return seat;
        }
        let current = self.seat().await;
        let opened = current.top().opendir(&Context::internal(), &Loc::inode(fd.inode.clone()), fd, Dict::NULL).await;
        match opened {
            Ok(_) => {
                fd.contexts.remove(self.key);
                current
            }
            Err(_) => seat,
        }
    }

    fn kept_graph(&self, fd: &Fd) -> Option<Arc<Generation>> {
        fd.contexts.get::<Kept>(self.key)?.graph.clone()
    }

    fn keep(&self, fd: &Fd, change: impl FnOnce(&mut Kept)) {
        let before = fd.contexts.get::<Kept>(self.key);
        let mut kept = Kept::default();
        if let Some(before) = before {
            kept.graph = before.graph.clone();
            kept.failure = Mutex::new(before.failure.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        change(&mut kept);
        fd.contexts.set(self.key, Arc::new(kept));
    }

    /// What FSYNC and FLUSH of `fd` answer: once the failure that an earlier graph left to report.
    fn with_failure<T>(&self, fd: &Fd, reply: FopResult<T>) -> FopResult<T> {
        let kept = fd.contexts.get::<Kept>(self.key);
        match kept.and_then(|kept| kept.failure.lock().unwrap_or_else(PoisonError::into_inner).take()) {
            Some(failure) => Err(failure),
            None => reply,
        }
    }

    fn error(&self, errno: Errno, step: &'static str) -> FopError {
        FopError::new(errno, &self.name, step)
    }

    /// What a graph announces, this announces.
    fn pass_on(&self, generation: &Generation) {
        generation.graph.top().events().subscribe_for(&self.events, |events, event| events.announce(event));
    }
}

/// Whether the new graph finds an open file. In doubt it does: a brick that is away says nothing about the file.
async fn is_there(new: &Generation, inode: &Arc<Inode>) -> bool {
    let lookup = new.graph.top().lookup(&Context::internal(), &Loc::inode(inode.clone()), Dict::NULL).await;
    !matches!(lookup, Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE))
}

/// Nobody enters while this is there.
struct Closed<'a> {
    switch: &'a Switch,
    old: &'a Generation,
}

impl<'a> Closed<'a> {
    fn gate(switch: &'a Switch, old: &'a Generation) -> Self {
        old.is_closing.store(true, Ordering::SeqCst);
        switch.turn.write().unwrap_or_else(PoisonError::into_inner).closed = true;
        Closed { switch, old }
    }

    fn open_into(self, new: Arc<Generation>) {
        let old = std::mem::replace(&mut self.switch.turn.write().unwrap_or_else(PoisonError::into_inner).current, new);
        drop(old);
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.old.is_closing.store(false, Ordering::SeqCst);
        self.switch.turn.write().unwrap_or_else(PoisonError::into_inner).closed = false;
        // Not under the lock: those who waited run inside this call.
        self.switch.opened.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
