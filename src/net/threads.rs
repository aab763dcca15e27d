//! The network threads: each runs a single-threaded runtime with its own poller.
//!
//! A connection lives on one thread for all its life. The thread that reads an answer also runs the request that waited
//! for it, so more threads means more requests at work at the same time; `event-threads` of the C client is the same.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The network threads of this process. Cheap to clone; the threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Network {
    threads: Arc<Threads>,
}

struct Threads {
    handles: Vec<Handle>,
    next: AtomicUsize,
    // Dropping the sender ends the thread's runtime.
    stop: Vec<oneshot::Sender<()>>,
    joins: Vec<JoinHandle<()>>,
}

impl Network {
    /// Starts `count` threads (at least one).
    ///
    /// # Errors
    /// When the system gives no thread or no poller.
    pub fn start(count: usize) -> std::io::Result<Self> {
        let mut threads =
            Threads { handles: Vec::new(), next: AtomicUsize::new(0), stop: Vec::new(), joins: Vec::new() };
        for number in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (stop, stopped) = oneshot::channel::<()>();
            threads.handles.push(runtime.handle().clone());
            threads.stop.push(stop);
            let join = std::thread::Builder::new().name(format!("net-{number}")).spawn(move || {
                let _ = runtime.block_on(stopped);
                // Name resolution may hang in a helper thread: do not wait for it.
                runtime.shutdown_background();
            })?;
            threads.joins.push(join);
        }
        Ok(Network { threads: Arc::new(threads) })
    }

    /// The thread for the next connection: they take turns.
    pub fn handle(&self) -> &Handle {
        let turn = self.threads.next.fetch_add(1, Ordering::Relaxed);
        &self.threads.handles[turn % self.threads.handles.len()]
    }
}

impl From<Handle> for Network {
    /// Runs all connections on a runtime that exists already.
    fn from(handle: Handle) -> Self {
        Network {
            threads: Arc::new(Threads {
                handles: vec![handle],
                next: AtomicUsize::new(0),
                stop: Vec::new(),
                joins: Vec::new(),
            }),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.clear();
        for join in self.joins.drain(..) {
            // The last clone may be dropped by a task of a network thread itself, which cannot wait for its own end.
            if join.thread().id() != std::thread::current().id() {
                let _ = join.join();
            }
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("threads", &self.threads.handles.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_and_the_threads_end() {
        let network = Network::start(2).unwrap();
        let name = |handle: &Handle| {
            let (sender, receiver) = std::sync::mpsc::channel();
            handle.spawn(async move {
                sender.send(std::thread::current().name().unwrap().to_owned()).unwrap();
            });
            receiver.recv().unwrap()
        };
        let names = [name(network.handle()), name(network.handle()), name(network.handle())];
        assert_eq!(names, ["net-0", "net-1", "net-0"]);
        drop(network);
    }
}
