//! A cluster: its bricks, its clients, and what can go wrong with them.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context as PollContext, Poll, Wake, Waker};
use std::time::Duration;

use rgfs_protocol::Errno;
use rgfs_protocol::types::Flock;
use tokio::sync::oneshot;

use super::brick::{Call, Host, Rule, Verdict};
use super::connection::Connection;
use super::schedule::{Random, Schedule, VirtualClock};
use super::trace::World;
use crate::clock::Clock;
use crate::{Fd, Translator};

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
    pub(super) world: Arc<World>,
    pub(super) hosts: Vec<Arc<Host>>,
    pub(super) clients: Vec<Client>,
}

pub(super) struct Client {
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

    /// Tells how many bricks keep a lock for an fd of a client that can use it there.
    pub(crate) fn lock_keepers(&self) -> impl Fn(usize, &Fd, &Flock) -> usize + Send + Sync + 'static {
        let clients: Vec<Vec<Weak<Connection>>> =
            self.clients.iter().map(|client| client.connections.iter().map(Arc::downgrade).collect()).collect();
        move |client, fd, flock| {
            let connections = clients[client].iter().filter_map(Weak::upgrade);
            connections.filter(|connection| connection.keeps(fd, flock)).count()
        }
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
