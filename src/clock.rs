//! Time for translators: the real clock, or one under the control of a test.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::net::Network;

/// A wait that ends when its time has come; dropping it ends it early.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tells the time and waits. Everything in the graph that depends on time asks the one of the
/// [`Environment`](crate::graph::Environment), so that a simulation can run days in seconds.
pub trait Clock: Debug + Send + Sync {
    /// Time since a moment in the past that stays the same; never goes back.
    fn now(&self) -> Duration;

    /// Waits. The future may be polled on any thread.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The clock of this machine; its timers run on the network threads.
#[derive(Clone, Debug)]
pub struct RealClock {
    start: Instant,
    network: Network,
}

impl RealClock {
    /// A clock that starts now.
    pub fn new(network: &Network) -> Self {
        RealClock { start: Instant::now(), network: network.clone() }
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        // A timer belongs to the runtime in which it was made; that one wakes whoever polls it.
        let _runtime = self.network.handle().enter();
        Box::pin(tokio::time::sleep(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_outside_of_the_runtime_too() {
        let network = Network::start(1).unwrap();
        let clock = RealClock::new(&network);
        let (sender, receiver) = std::sync::mpsc::channel();
        let sleep = clock.sleep(Duration::from_millis(5));
        crate::task::spawn(async move {
            sleep.await;
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(clock.now() >= Duration::from_millis(5));
    }
}
