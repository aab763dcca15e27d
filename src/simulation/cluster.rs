//! A cluster: its bricks, its clients, and what can go wrong with them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, Weak};
use std::task::{Context as PollContext, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::{Errno, Gfid};
use tokio::sync::oneshot;

use super::brick::{Brick, Call, Host, Rule, Verdict};
use super::connection::Connection;
use super::schedule::{Random, Schedule, VirtualClock};
use super::storage::Object;
use super::trace::{Entry, World, merged};
use crate::Translator;
use crate::clock::Clock;

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// No time at all, in the order in which they were begun: for tests of one thing.
    Instant,
    /// As the seed says.
    Random,
}

/// The bricks of a cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// How many there are, the arbiter among them.
    pub(crate) replicas: usize,
    /// The last one is an arbiter.
    pub(crate) arbiter: bool,
}

/// How long a client takes to notice that a brick's process died.
const NOTICE_KILL: Duration = Duration::from_millis(2);
/// How long a client takes to connect again.
const CONNECT: Duration = Duration::from_millis(500);
/// How long a brick takes to notice that a client is gone.
const NOTICE_CLIENT: Duration = Duration::from_secs(3);

/// Bricks, clients and the schedule of what happens to them. Everything runs on the thread of the test.
pub(crate) struct Cluster {
    world: Arc<World>,
    hosts: Vec<Arc<Host>>,
    clients: Vec<Client>,
}

struct Client {
    alive: Arc<AtomicBool>,
    connections: Vec<Arc<Connection>>,
}

impl Cluster {
    /// A cluster for a test of one thing: nothing takes time, and every request is recorded. All clients are connected.
    pub(crate) fn new(seed: u64, layout: Layout, clients: usize) -> Self {
        Self::with_timing(seed, layout, clients, Timing::Instant)
    }

    /// The same with two copies and a thin arbiter, which is brick 2.
    pub(crate) fn with_thin_arbiter(seed: u64, clients: usize) -> Self {
        let layout = Layout { replicas: 3, arbiter: false };
        let cluster = Self::with_timing(seed, layout, clients, Timing::Instant);
        cluster.brick(2).thin = true;
        cluster
    }

    /// A cluster in which the seed says how long things take. Nothing is recorded before [`Cluster::record`].
    pub(crate) fn random(seed: u64, layout: Layout, clients: usize) -> Self {
        Self::with_timing(seed, layout, clients, Timing::Random)
    }

    fn with_timing(seed: u64, layout: Layout, clients: usize, timing: Timing) -> Self {
        let world = World::new(seed, timing);
        let hosts: Vec<_> = (0..layout.replicas)
            .map(|brick| Host::new(&world, brick, layout.arbiter && brick + 1 == layout.replicas))
            .collect();
        let clients = (0..clients).map(|client| {
            let alive = Arc::new(AtomicBool::new(true));
            let connections = hosts.iter().enumerate();
            let connections = connections.map(|(brick, host)| Connection::new(&world, host, (client, brick), &alive));
            Client { connections: connections.collect(), alive }
        });
        let cluster = Cluster { clients: clients.collect(), world, hosts };
        for client in &cluster.clients {
            client.connections.iter().for_each(|connection| connection.connect());
        }
        cluster
    }

    /// What replicate of a client has as children.
    pub(crate) fn children(&self, client: usize) -> Vec<Arc<dyn Translator>> {
        let connections = self.clients[client].connections.iter();
        connections.map(|connection| connection.clone() as Arc<dyn Translator>).collect()
    }

    /// The clock of a client; it stops when the client crashes.
    pub(crate) fn clock(&self, client: usize) -> Arc<dyn Clock> {
        let alive = self.clients[client].alive.clone();
        Arc::new(VirtualClock { schedule: self.world.schedule.clone(), alive })
    }

    /// The queue of events.
    pub(crate) fn schedule(&self) -> &Arc<Schedule> {
        &self.world.schedule
    }

    /// Asks the seed.
    pub(crate) fn random_choice<T>(&self, ask: impl FnOnce(&mut Random) -> T) -> T {
        self.world.schedule.random(ask)
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.world.schedule.now()
    }

    /// Lets everything happen that is due now.
    pub(crate) fn settle(&self) {
        self.world.schedule.settle();
    }

    /// Lets time pass.
    pub(crate) fn run_for(&self, duration: Duration) {
        self.world.schedule.run_for(duration);
    }

    /// Runs until nothing is left to happen.
    pub(crate) fn run_until_idle(&self) {
        self.world.schedule.run_until_idle();
    }

    /// Runs the cluster until `future` is done.
    ///
    /// # Panics
    /// When nothing is left to happen before.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.try_block_on(future).expect("nothing is left to happen, and it still waits")
    }

    /// Runs the cluster until `future` is done; `None` when nothing is left to happen before.
    pub(crate) fn try_block_on<F: Future>(&self, future: F) -> Option<F::Output> {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut PollContext::from_waker(&waker)) {
                return Some(output);
            }
            while !woken.0.swap(false, Ordering::Relaxed) {
                if !self.world.schedule.step() {
                    return None;
                }
            }
        }
    }

    /// Starts something that goes on beside the test.
    pub(crate) fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Running<T> {
        let (sender, receiver) = oneshot::channel();
        crate::task::spawn(async move {
            let _ = sender.send(future.await);
        });
        Running(receiver)
    }

    /// The process of a brick dies.
    pub(crate) fn kill_brick(&self, brick: usize) {
        self.stop(brick, false);
    }

    /// The machine of a brick loses power: data that was not synced may be gone.
    pub(crate) fn power_cut_brick(&self, brick: usize) {
        self.stop(brick, true);
    }

    fn stop(&self, brick: usize, power_cut: bool) {
        for (session, connection) in self.hosts[brick].kill(power_cut) {
            self.world.soon(NOTICE_KILL, move || {
                if let Some(connection) = connection.upgrade() {
                    connection.lost(session);
                }
            });
        }
    }

    /// The brick starts again, and the clients come back.
    pub(crate) fn restart_brick(&self, brick: usize) {
        self.hosts[brick].start();
        for client in &self.clients {
            self.connect(&client.connections[brick]);
        }
    }

    fn connect(&self, connection: &Arc<Connection>) {
        let connection: Weak<Connection> = Arc::downgrade(connection);
        self.world.soon(CONNECT, move || {
            if let Some(connection) = connection.upgrade() {
                connection.connect();
            }
        });
    }

    /// True when the process of a brick runs.
    pub(crate) fn is_running(&self, brick: usize) -> bool {
        self.hosts[brick].brick().alive
    }

    /// True when a client's connection to a brick serves fops.
    pub(crate) fn is_connected(&self, client: usize, brick: usize) -> bool {
        self.clients[client].connections[brick].session().is_some()
    }

    /// The network between a client and a brick breaks. The client knows at once, the brick later: until then it keeps
    /// the locks, and may carry out what was under way.
    pub(crate) fn cut(&self, client: usize, brick: usize) {
        let session = self.clients[client].connections[brick].cut();
        self.notice_later(brick, session);
    }

    /// The network works again: the client connects as somebody new.
    pub(crate) fn heal_cut(&self, client: usize, brick: usize) {
        let connection = &self.clients[client].connections[brick];
        connection.heal();
        self.connect(connection);
    }

    fn notice_later(&self, brick: usize, session: Option<u64>) {
        let (Some(session), host) = (session, self.hosts[brick].clone()) else { return };
        self.world.soon(NOTICE_CLIENT, move || host.disconnect(session));
    }

    /// A client dies: its tasks go no further.
    pub(crate) fn crash_client(&self, client: usize) {
        let client = &self.clients[client];
        client.alive.store(false, Ordering::Relaxed);
        for (brick, connection) in client.connections.iter().enumerate() {
            self.notice_later(brick, connection.crashed());
        }
    }

    /// True when the client did not crash.
    pub(crate) fn is_alive(&self, client: usize) -> bool {
        self.clients[client].alive.load(Ordering::Relaxed)
    }

    /// Messages of a brick take `times` as long from now on.
    pub(crate) fn slow_down(&self, brick: usize, times: u64) {
        self.hosts[brick].slowness.store(times, Ordering::Relaxed);
    }

    /// Asks `rule` about every request that the brick is about to carry out.
    pub(crate) fn add_rule(&self, brick: usize, rule: impl FnMut(&Call) -> Verdict + Send + 'static) {
        self.hosts[brick].add_rule(Box::new(rule) as Rule);
    }

    /// Forgets the rules of a brick.
    pub(crate) fn clear_rules(&self, brick: usize) {
        self.hosts[brick].clear_rules();
    }

    /// The next `fop` at the brick fails, and nothing is done.
    pub(crate) fn fail_next(&self, brick: usize, fop: &'static str, errno: Errno) {
        self.next(brick, fop, Verdict::Fail(errno));
    }

    /// The next `fop` at the brick meets with `verdict`.
    pub(crate) fn next(&self, brick: usize, fop: &'static str, verdict: Verdict) {
        let mut left = Some(verdict);
        self.add_rule(
            brick,
            move |call| {
                if call.fop == fop { left.take().unwrap_or(Verdict::Pass) } else { Verdict::Pass }
            },
        );
    }

    /// Switches the record on or off.
    pub(crate) fn record(&self, record: bool) {
        self.world.record_from_now_on(record);
    }

    /// What was sent since the last time.
    pub(crate) fn take_trace(&self) -> Vec<Entry> {
        self.world.take_trace()
    }

    /// What was sent since the last time, each request with its time, client and brick.
    pub(crate) fn take_timed_lines(&self) -> Vec<String> {
        let names = self.names();
        let name_of = |gfid| names.get(&gfid).cloned().unwrap_or_else(|| format!("{gfid}"));
        let line = |entry: &Entry| {
            let (at, client, brick) = (entry.at, entry.call.client, entry.brick);
            let failure = entry.failure.map_or_else(String::new, |errno| format!(" => {errno}"));
            format!("{at:?} c{client} -> {brick}: {}{failure}", entry.line(&name_of))
        };
        self.take_trace().iter().map(line).collect()
    }

    /// What was sent since the last time, equal requests to several bricks as one line, objects by their paths.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        let names = self.names();
        merged(&self.take_trace(), &|gfid| names.get(&gfid).cloned().unwrap_or_else(|| gfid.to_string()))
    }

    /// Paths by gfid, of all bricks; with the beginning of the gfid where bricks have different things at a path.
    fn names(&self) -> BTreeMap<Gfid, String> {
        let mut names = BTreeMap::from([(Gfid::ROOT, "/".to_owned())]);
        let mut known: BTreeMap<String, Gfid> = BTreeMap::new();
        for host in &self.hosts {
            for (path, gfid) in host.brick().storage.tree() {
                let same = *known.entry(path.clone()).or_insert(gfid) == gfid;
                let short = gfid.to_string().chars().take(4).collect::<String>();
                names.entry(gfid).or_insert(if same { path } else { format!("{path}#{short}") });
            }
        }
        names
    }

    /// Number of bricks.
    pub(crate) fn bricks(&self) -> usize {
        self.hosts.len()
    }

    /// Number of clients.
    pub(crate) fn client_count(&self) -> usize {
        self.clients.len()
    }

    fn brick(&self, brick: usize) -> MutexGuard<'_, Brick> {
        self.hosts[brick].brick()
    }

    /// The gfid of a path (`/a/b`) on a brick.
    pub(crate) fn gfid(&self, brick: usize, path: &str) -> Option<Gfid> {
        self.brick(brick).storage.resolve(path)
    }

    /// A copy of the object at a path of a brick.
    pub(crate) fn object(&self, brick: usize, path: &str) -> Option<Object> {
        let brick = self.brick(brick);
        brick.storage.get(brick.storage.resolve(path)?).cloned()
    }

    /// A copy of an object of a brick.
    pub(crate) fn object_of(&self, brick: usize, gfid: Gfid) -> Option<Object> {
        self.brick(brick).storage.get(gfid).cloned()
    }

    /// Data of a file.
    pub(crate) fn data(&self, brick: usize, path: &str) -> Option<Vec<u8>> {
        self.object(brick, path).map(|object| object.data)
    }

    /// An xattr of the object at a path.
    pub(crate) fn xattr(&self, brick: usize, path: &str, key: &str) -> Option<Bytes> {
        self.object(brick, path)?.xattrs.get(key).cloned()
    }

    /// A changelog of the object at a path: `who` is `dirty` or `v-client-N`. Zeros when there is none.
    pub(crate) fn changelog(&self, brick: usize, path: &str, who: &str) -> [i32; 3] {
        self.object(brick, path).map(|object| super::trace::changelog(&object, who)).unwrap_or_default()
    }

    /// Writes or removes an xattr.
    pub(crate) fn put_xattr(&self, brick: usize, path: &str, key: &str, value: Option<&[u8]>) {
        let gfid = self.gfid(brick, path).expect("the path is there");
        let mut brick = self.brick(brick);
        let xattrs = &mut brick.storage.object_mut(gfid).expect("the object is there").xattrs;
        match value {
            Some(value) => xattrs.insert(key.into(), Bytes::copy_from_slice(value)),
            None => xattrs.remove(key),
        };
    }

    /// Changes an object.
    pub(crate) fn tamper(&self, brick: usize, path: &str, change: impl FnOnce(&mut Object)) {
        let gfid = self.gfid(brick, path).expect("the path is there");
        change(self.brick(brick).storage.object_mut(gfid).expect("the object is there"));
    }

    /// Removes a name, and what is below it.
    pub(crate) fn lose(&self, brick: usize, path: &str) {
        let (parent, name) = path.rsplit_once('/').expect("an absolute path");
        let parent = self.gfid(brick, parent).expect("the parent is there");
        let mut brick = self.brick(brick);
        if brick.storage.unlink(parent, name.as_bytes()) == Err(Errno::EISDIR) {
            brick.storage.rmdir(parent, name.as_bytes(), true).expect("it can be removed");
        }
        brick.sweep();
    }

    /// Every name of a brick: path and gfid.
    pub(crate) fn tree(&self, brick: usize) -> BTreeMap<String, Gfid> {
        self.brick(brick).storage.tree()
    }

    /// All locks of a brick as text, sorted: kind, inode, domain, what, and `waits` for those that are not granted.
    pub(crate) fn locks(&self, brick: usize) -> Vec<String> {
        let brick = self.brick(brick);
        let internal = brick.inodelks.all().map(|lock| ("inodelk", lock));
        let internal = internal.chain(brick.entrylks.all().map(|lock| ("entrylk", lock)));
        let internal = internal.map(|(kind, (gfid, domain, lock, granted))| {
            let waits = if granted { "" } else { " waits" };
            format!("{kind} {gfid} {domain} {:?} {:?}{waits}", lock.scope, lock.holder)
        });
        let posix = brick.posix_locks.all();
        let posix = posix.map(|(gfid, holder, start, end, _)| format!("lk {gfid} {start}..{end} {holder:?}"));
        internal.chain(posix).collect()
    }

    /// Checks that no two owners hold locks of a brick that exclude each other.
    pub(crate) fn check_exclusion(&self) -> Result<(), String> {
        for (number, host) in self.hosts.iter().enumerate() {
            let brick = host.brick();
            brick.check_exclusion().map_err(|error| format!("brick {number}: {error}"))?;
        }
        Ok(())
    }

    /// Objects that the index of a brick says need heal: pending and dirty ones.
    pub(crate) fn pending_gfids(&self, brick: usize) -> Vec<Gfid> {
        let brick = self.brick(brick);
        let mut all: Vec<Gfid> = brick.index.pending.union(&brick.index.dirty).copied().collect();
        all.retain(|gfid| brick.storage.get(*gfid).is_some());
        all
    }

    /// A copy of the index of a brick.
    pub(crate) fn index(&self, brick: usize) -> super::index::Index {
        self.brick(brick).index.clone()
    }

    /// Every changelog that is not zero: brick, path, key and value.
    pub(crate) fn marks(&self) -> Vec<String> {
        let mut marks = Vec::new();
        for (number, host) in self.hosts.iter().enumerate() {
            let brick = host.brick();
            let mut tree = brick.storage.tree();
            tree.insert("/".to_owned(), Gfid::ROOT);
            for (path, gfid) in tree {
                let Some(object) = brick.storage.get(gfid) else { continue };
                for (key, value) in object.xattrs.iter().filter(|(key, _)| key.starts_with("trusted.afr.")) {
                    if let Some(counters) = super::trace::counters(&rgfs_protocol::Value::Ptr(value.clone()))
                        && counters != [0; 3]
                    {
                        marks.push(format!("{number}: {path} {key} {counters:?}"));
                    }
                }
            }
        }
        marks
    }

    /// How the bricks differ from the first one: names, types, modes, owners, data (but for an arbiter's), link targets and
    /// xattrs other than changelogs. Empty when they are equal.
    pub(crate) fn compare_bricks(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let first = self.brick(0).comparable();
        for (number, host) in self.hosts.iter().enumerate().skip(1) {
            let brick = host.brick();
            let other = brick.comparable();
            let paths: std::collections::BTreeSet<_> = first.keys().chain(other.keys()).collect();
            for path in paths {
                let (here, there) = (first.get(path), other.get(path));
                let same = match (here, there) {
                    (Some(here), Some(there)) if brick.arbiter => here.0 == there.0,
                    (here, there) => here == there,
                };
                if !same {
                    differences.push(format!("{path}: brick 0 {here:?}, brick {number} {there:?}"));
                }
            }
        }
        differences
    }
}

impl Brick {
    /// Attributes and content of every name, as text.
    fn comparable(&self) -> BTreeMap<String, (String, String)> {
        let mut tree = self.storage.tree();
        tree.insert("/".to_owned(), Gfid::ROOT);
        let all = tree.into_iter().filter_map(|(path, gfid)| {
            let object = self.storage.get(gfid)?;
            let xattrs: Vec<_> = object.xattrs.iter().filter(|(key, _)| !key.starts_with("trusted.afr.")).collect();
            let stat = object.stat;
            let nlink = if stat.is_dir() { 0 } else { stat.nlink };
            let attributes = format!(
                "{gfid} {:o} {}:{} links={nlink} {xattrs:?} {:?}",
                stat.mode, stat.uid, stat.gid, object.target
            );
            Some((path, (attributes, String::from_utf8_lossy(&object.data).into_owned())))
        });
        all.collect()
    }

    fn check_exclusion(&self) -> Result<(), String> {
        for table in [&self.inodelks, &self.entrylks] {
            if let Some(conflict) = table.conflict().or_else(|| table.held_twice()) {
                return Err(conflict);
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What still waits shall wait for ever, instead of hearing that the world ends.
        for client in &self.clients {
            client.alive.store(false, Ordering::Relaxed);
            for connection in &client.connections {
                if let Some(session) = connection.session() {
                    connection.lost(session);
                }
            }
        }
        for host in &self.hosts {
            host.kill(false);
        }
        self.world.schedule.clear();
    }
}

/// Something that goes on beside the test; awaits what it makes.
pub(crate) struct Running<T>(oneshot::Receiver<T>);

impl<T> Future for Running<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut PollContext<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context).map(|output| output.expect("the task panicked"))
    }
}

impl<T> Running<T> {
    /// What it made, if it is done.
    pub(crate) fn result(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
