//! What a connection counts, per fop: requests, bytes, waiting and answer times. Fed by `net::connection` without a lock,
//! read by statedumps, io-stats and tests.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rgfs_protocol::fops::Procedure;

use super::Histogram;

/// Procedures of the fop program, by number; one more for everything else (handshake, ping).
const SLOTS: usize = 58;

/// Slot of calls that are no fops.
pub const OTHER: usize = SLOTS - 1;

/// Counters of one fop on one connection.
#[derive(Debug, Default)]
pub struct FopCounters {
    /// Requests that were sent or queued.
    pub requests: AtomicU64,
    /// Requests that got no answer: the connection was lost, the time was up, the RPC layer of the brick refused.
    pub failures: AtomicU64,
    /// Bytes of the requests, payload included.
    pub bytes_out: AtomicU64,
    /// Bytes of the answers, payload included.
    pub bytes_in: AtomicU64,
    /// How long requests waited here for room in the socket; those that did not wait are not counted.
    pub queued: Histogram,
    /// Time from the request to its answer.
    pub answered: Histogram,
}

/// Counters of one brick, over all its connections.
#[derive(Debug)]
pub struct ConnectionCounters {
    fops: Box<[FopCounters]>,
    /// Bytes of answers that were copied in user space after the kernel delivered them. 0 is what READ wants.
    pub copied: AtomicU64,
    /// Connections that passed the handshake.
    pub connections: AtomicU64,
    /// System calls that wrote to the socket.
    pub writes: AtomicU64,
    /// System calls that read from the socket.
    pub reads: AtomicU64,
}

impl fmt::Display for FopCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (requests, failures) = (get(&self.requests), get(&self.failures));
        let (bytes_out, bytes_in) = (get(&self.bytes_out), get(&self.bytes_in));
        write!(f, "requests={requests} failures={failures} bytes-out={bytes_out} bytes-in={bytes_in}")?;
        write!(f, " queued: {}; answered: {}", self.queued, self.answered)
    }
}

impl Default for ConnectionCounters {
    fn default() -> Self {
        ConnectionCounters {
            fops: (0..SLOTS).map(|_| FopCounters::default()).collect(),
            copied: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        }
    }
}

impl ConnectionCounters {
    /// Counters of a slot: a procedure number, or [`OTHER`].
    pub fn slot(&self, slot: usize) -> &FopCounters {
        &self.fops[slot.min(OTHER)]
    }

    /// Counters of a fop.
    pub fn fop(&self, procedure: Procedure) -> &FopCounters {
        self.slot(procedure.number() as usize)
    }

    /// All fops that were asked for at least once.
    pub fn used(&self) -> impl Iterator<Item = (&'static str, &FopCounters)> {
        Procedure::ALL
            .iter()
            .map(|procedure| (procedure.name(), self.fop(*procedure)))
            .chain([("(handshake)", self.slot(OTHER))])
            .filter(|(_, counters)| counters.requests.load(Ordering::Relaxed) > 0)
    }

    /// A request of `bytes` goes out.
    pub fn request(&self, slot: usize, bytes: usize) {
        let counters = self.slot(slot);
        counters.requests.fetch_add(1, Ordering::Relaxed);
        counters.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Its answer of `bytes` came after `time`.
    pub fn answer(&self, slot: usize, bytes: usize, time: Duration) {
        let counters = self.slot(slot);
        counters.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        counters.answered.record(time);
    }

    /// Lines for a statedump: one for each fop that was asked for, and the totals.
    pub fn dump(&self, out: &mut dyn FnMut(&str, &dyn fmt::Display)) {
        let totals =
            [("connections", &self.connections), ("bytes-copied", &self.copied), ("socket-writes", &self.writes)];
        for (name, counter) in totals.into_iter().chain([("socket-reads", &self.reads)]) {
            out(name, &counter.load(Ordering::Relaxed));
        }
        for (name, counters) in self.used() {
            out(&format!("fop.{name}"), counters);
        }
    }

    /// No answer will come.
    pub fn failure(&self, slot: usize) {
        self.slot(slot).failures.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fop_has_its_slot() {
        for procedure in Procedure::ALL {
            assert!((procedure.number() as usize) < OTHER);
        }
        let counters = ConnectionCounters::default();
        counters.request(27, 200);
        counters.answer(27, 300, Duration::from_micros(50));
        counters.request(usize::MAX, 10);
        let used: Vec<_> = counters.used().map(|(name, _)| name).collect();
        assert_eq!(used, [Procedure::Lookup.name(), "(handshake)"]);
        assert_eq!(counters.fop(Procedure::Lookup).bytes_in.load(Ordering::Relaxed), 300);
    }
}
