//! The state of one connection's calls, without the connection: which calls are out, when to ping, when to give up
//! (`rpc-clnt.c`, `rpc-clnt-ping.c`). Time is an argument; the owner asks [`Session::poll_timeout`] when to come back.
//!
//! A call that its caller dropped stays here as an *orphan* until its answer has come, so that the answer is told from
//! one that nobody asked for, and its xid is not given away meanwhile.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

/// When a session pings and gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A peer that is silent for so long, with a ping out, is dead. Zero: never ping.
    pub ping: Duration,
    /// A call without an answer for so long fails; blocking locks are exempt.
    pub frame: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing { ping: Duration::from_secs(42), frame: Duration::from_secs(1800) }
    }
}

/// The first xid of a connection, as C has it.
const FIRST_XID: u32 = 2;

/// Quiet time, with calls out, after which the first ping goes.
const QUIET: Duration = Duration::from_secs(1);

/// What became of an answer that came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered<T> {
    /// The caller waits.
    Call(T),
    /// The answer of a ping.
    Ping,
    /// The caller has given up.
    Orphan,
    /// Nobody asked, or the call timed out before.
    Unknown,
}

/// What [`Session::handle_timeout`] wants to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<T> {
    /// Nothing.
    Nothing,
    /// Send a ping with that xid.
    Ping(u32),
    /// These calls waited for the frame timeout: fail them.
    Expired(Vec<T>),
    /// The peer is dead: drop the connection.
    Dead,
}

struct Entry<T> {
    // None for an orphan.
    waiter: Option<T>,
    sent: Instant,
    exempt: bool,
    large: bool,
}

/// Calls in flight, with a `T` for each that completes its caller.
pub struct Session<T> {
    timing: Timing,
    next_xid: u32,
    calls: HashMap<u32, Entry<T>, BuildHasherDefault<XidHasher>>,
    large: usize,
    last_received: Instant,
    last_progress: Instant,
    ping: Ping,
    next_scan: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Ping {
    /// None is out; the last one, if any, was answered then.
    Idle { answered: Option<Instant> },
    /// Sent, not answered.
    Out { xid: u32, sent: Instant },
}

impl<T> Session<T> {
    /// A fresh connection.
    pub fn new(timing: Timing, now: Instant) -> Self {
        Session {
            timing,
            next_xid: FIRST_XID,
            calls: HashMap::default(),
            large: 0,
            last_received: now,
            last_progress: now,
            ping: Ping::Idle { answered: None },
            next_scan: now + scan_interval(timing.frame),
        }
    }

    /// Calls in flight, orphans included.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// True when nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// True when an answer with much data is awaited.
    pub fn large_awaited(&self) -> bool {
        self.large > 0
    }

    /// A call leaves: returns its xid. `exempt` calls may stay out for ever; `large` ones expect much data.
    pub fn handle_call(&mut self, now: Instant, waiter: T, exempt: bool, large: bool) -> u32 {
        let xid = self.fresh_xid();
        self.large += usize::from(large);
        self.calls.insert(xid, Entry { waiter: Some(waiter), sent: now, exempt, large });
        xid
    }

    /// A call leaves whose answer nobody wants.
    pub fn handle_one_way(&mut self, now: Instant) -> u32 {
        let xid = self.fresh_xid();
        self.calls.insert(xid, Entry { waiter: None, sent: now, exempt: false, large: false });
        xid
    }

    /// The caller gave the call up.
    pub fn handle_dropped(&mut self, xid: u32) -> Option<T> {
        self.calls.get_mut(&xid)?.waiter.take()
    }

    /// An answer came in.
    pub fn handle_answer(&mut self, now: Instant, xid: u32) -> Answered<T> {
        self.last_received = now;
        match self.take(xid) {
            Some(Entry { waiter: Some(waiter), .. }) => Answered::Call(waiter),
            Some(_) => Answered::Orphan,
            None => match self.ping {
                Ping::Out { xid: ping, .. } if ping == xid => {
                    self.ping = Ping::Idle { answered: Some(now) };
                    Answered::Ping
                }
                _ => Answered::Unknown,
            },
        }
    }

    /// Bytes came in, perhaps not a whole record: the peer lives.
    pub fn handle_received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// A full socket took more bytes: the peer reads. Bytes that went into an empty socket buffer say nothing about the
    /// peer and do not count here; C counts them, and so never gives up on a dead peer that is asked often enough.
    pub fn handle_progress(&mut self, now: Instant) {
        self.last_progress = now;
    }

    /// When [`Session::handle_timeout`] must be called next; `None` while nothing is in flight.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let scan = (!self.calls.is_empty()).then_some(self.next_scan);
        [scan, self.ping_deadline()].into_iter().flatten().min()
    }

    /// When a ping must go, or the peer counts as dead.
    fn ping_deadline(&self) -> Option<Instant> {
        if self.timing.ping.is_zero() {
            return None;
        }
        let active = self.last_received.max(self.last_progress);
        match self.ping {
            Ping::Out { sent, .. } => Some(sent.max(active) + self.timing.ping),
            Ping::Idle { .. } if self.calls.is_empty() => None,
            Ping::Idle { answered } => {
                let oldest = self.calls.values().map(|entry| entry.sent).min()?;
                let quiet = active.max(oldest) + QUIET.min(self.timing.ping);
                // While a blocked lock waits for hours a ping now and then is enough.
                Some(answered.map_or(quiet, |answered| quiet.max(answered + self.timing.ping / 4)))
            }
        }
    }

    /// The time asked for by [`Session::poll_timeout`] has come. Ask again until there is nothing.
    pub fn handle_timeout(&mut self, now: Instant) -> Due<T> {
        if self.ping_deadline().is_some_and(|deadline| now >= deadline) {
            if matches!(self.ping, Ping::Out { .. }) {
                return Due::Dead;
            }
            let xid = self.fresh_xid();
            self.ping = Ping::Out { xid, sent: now };
            return Due::Ping(xid);
        }
        if now < self.next_scan {
            return Due::Nothing;
        }
        self.next_scan = now + scan_interval(self.timing.frame);
        let frame = self.timing.frame;
        let late: Vec<u32> = self
            .calls
            .iter()
            .filter(|(_, entry)| !entry.exempt && now.saturating_duration_since(entry.sent) >= frame)
            .map(|(xid, _)| *xid)
            .collect();
        let expired: Vec<T> = late.into_iter().filter_map(|xid| self.take(xid)?.waiter).collect();
        if expired.is_empty() { Due::Nothing } else { Due::Expired(expired) }
    }

    /// The connection is gone: returns everybody who waits. Nothing may be called afterwards.
    pub fn handle_disconnect(&mut self) -> Vec<T> {
        self.large = 0;
        std::mem::take(&mut self.calls).into_values().filter_map(|entry| entry.waiter).collect()
    }

    fn take(&mut self, xid: u32) -> Option<Entry<T>> {
        let entry = self.calls.remove(&xid)?;
        self.large -= usize::from(entry.large);
        Some(entry)
    }

    /// The next number that no call or ping has: a blocked lock may keep its own while the counter goes round.
    fn fresh_xid(&mut self) -> u32 {
        loop {
            let xid = self.next_xid;
            self.next_xid = self.next_xid.checked_add(1).unwrap_or(FIRST_XID);
            let pinged = matches!(self.ping, Ping::Out { xid: ping, .. } if ping == xid);
            if !pinged && !self.calls.contains_key(&xid) {
                return xid;
            }
        }
    }
}

/// How often calls are looked through for late ones: every 10 s in C, more often for shorter timeouts.
fn scan_interval(frame: Duration) -> Duration {
    (frame / 10).clamp(Duration::from_millis(10), Duration::from_secs(10))
}

/// Spreads xids, which count upwards, over the table.
#[derive(Default)]
struct XidHasher(u64);

impl Hasher for XidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing: the table looks at the top bits and at the bottom bits.
        let mixed = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// How long to wait before connecting again: quick first, then every 3 s as C does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

/// Longest wait between attempts to connect (`rpc-clnt.c`: constant there).
pub const RECONNECT: Duration = Duration::from_secs(3);

impl Backoff {
    /// An attempt failed, or a connection ended: how long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let wait = Duration::from_millis(100) * 2u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1).min(8);
        wait.min(RECONNECT)
    }

    /// A connection worked.
    pub fn worked(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timing(ping: u64, frame: u64) -> Timing {
        Timing { ping: Duration::from_secs(ping), frame: Duration::from_secs(frame) }
    }

    /// A session and a clock that tests move by hand.
    struct Clock {
        session: Session<&'static str>,
        start: Instant,
        now: Instant,
    }

    impl Clock {
        fn new(timing: Timing) -> Self {
            let start = Instant::now();
            Clock { session: Session::new(timing, start), start, now: start }
        }

        fn at(&mut self, millis: u64) -> &mut Self {
            self.now = self.start + Duration::from_millis(millis);
            self
        }

        fn call(&mut self, name: &'static str) -> u32 {
            self.session.handle_call(self.now, name, false, false)
        }

        fn answer(&mut self, xid: u32) -> Answered<&'static str> {
            self.session.handle_answer(self.now, xid)
        }

        /// Milliseconds from the start to the next timeout.
        fn due(&self) -> Option<u64> {
            self.session.poll_timeout().map(|due| (due - self.start).as_millis() as u64)
        }

        /// Goes to the next timeout and handles it.
        fn step(&mut self) -> (u64, Due<&'static str>) {
            let due = self.due().unwrap();
            self.at(due);
            (due, self.session.handle_timeout(self.now))
        }
    }

    #[test]
    fn answers_find_their_calls_in_any_order() {
        let mut clock = Clock::new(timing(42, 1800));
        let (a, b) = (clock.call("a"), clock.call("b"));
        assert_eq!((a, b), (2, 3));
        assert_eq!(clock.answer(b), Answered::Call("b"));
        assert_eq!(clock.answer(b), Answered::Unknown);
        assert_eq!(clock.answer(a), Answered::Call("a"));
        assert!(clock.session.is_empty());
        assert_eq!(clock.due(), None);
    }

    #[test]
    fn a_dropped_call_leaves_an_orphan() {
        let mut clock = Clock::new(timing(42, 1800));
        let a = clock.call("a");
        assert_eq!(clock.session.handle_dropped(a), Some("a"));
        assert_eq!(clock.session.handle_dropped(a), None);
        assert_eq!(clock.session.len(), 1);
        assert_eq!(clock.answer(a), Answered::Orphan);
        assert_eq!(clock.answer(a), Answered::Unknown);
        let one_way = clock.session.handle_one_way(clock.now);
        assert_eq!(clock.answer(one_way), Answered::Orphan);
    }

    #[test]
    fn a_silent_peer_is_pinged_and_then_dead() {
        let mut clock = Clock::new(timing(42, 1800));
        clock.at(500).call("a");
        assert_eq!(clock.step(), (1500, Due::Ping(3)));
        while clock.due().unwrap() < 43_500 {
            assert_eq!(clock.step().1, Due::Nothing);
        }
        assert_eq!(clock.step(), (43_500, Due::Dead));
        assert_eq!(clock.session.handle_disconnect(), ["a"]);
    }

    #[test]
    fn any_sign_of_life_puts_death_off() {
        let mut clock = Clock::new(timing(10, 1800));
        clock.call("a");
        assert_eq!(clock.step(), (1000, Due::Ping(3)));
        clock.at(9000);
        clock.session.handle_received(clock.now);
        assert_eq!(clock.due(), Some(10_000), "the scan");
        assert_eq!(clock.step().1, Due::Nothing);
        clock.at(18_500);
        clock.session.handle_progress(clock.now);
        clock.at(19_000);
        assert_eq!(clock.session.handle_timeout(clock.now), Due::Nothing);
        clock.at(28_500);
        assert_eq!(clock.session.handle_timeout(clock.now), Due::Dead);
    }

    #[test]
    fn an_idle_connection_is_left_alone() {
        let mut clock = Clock::new(timing(42, 1800));
        assert_eq!(clock.due(), None);
        let a = clock.call("a");
        assert_eq!(clock.step(), (1000, Due::Ping(3)));
        clock.at(1100);
        assert_eq!(clock.answer(3), Answered::Ping);
        assert_eq!(clock.answer(a), Answered::Call("a"));
        assert_eq!(clock.due(), None);
        // Hours later the silence before the call does not count.
        clock.at(10_000_000).call("b");
        assert_eq!(clock.session.ping_deadline(), Some(clock.now + QUIET));
    }

    #[test]
    fn a_blocked_lock_is_pinged_for_but_does_not_expire() {
        let mut clock = Clock::new(timing(40, 20));
        let lock = clock.session.handle_call(clock.now, "lock", true, false);
        assert_eq!(clock.step(), (1000, Due::Ping(3)));
        assert_eq!(clock.answer(3), Answered::Ping);
        let mut pings = Vec::new();
        while clock.now < clock.start + Duration::from_secs(100) {
            match clock.step() {
                (at, Due::Ping(xid)) => {
                    pings.push(at);
                    clock.answer(xid);
                }
                (_, due) => assert_eq!(due, Due::Nothing),
            }
        }
        assert_eq!(pings[..3], [11_000, 21_000, 31_000]);
        assert_eq!(clock.answer(lock), Answered::Call("lock"));
    }

    #[test]
    fn late_calls_expire_and_their_answers_are_ignored() {
        let mut clock = Clock::new(timing(0, 100));
        let a = clock.call("a");
        let orphan = clock.call("orphan");
        clock.session.handle_dropped(orphan);
        clock.at(50_000).call("b");
        loop {
            match clock.step() {
                (_, Due::Nothing) => {}
                (at, due) => {
                    assert_eq!((at, due), (100_000, Due::Expired(vec!["a"])));
                    break;
                }
            }
        }
        assert_eq!(clock.session.len(), 1, "the orphan is forgotten too");
        assert_eq!(clock.answer(a), Answered::Unknown);
    }

    #[test]
    fn ping_timeout_zero_means_no_pings() {
        let mut clock = Clock::new(timing(0, 1800));
        clock.call("a");
        for _ in 0..100 {
            assert_eq!(clock.step().1, Due::Nothing);
        }
    }

    #[test]
    fn xids_in_use_are_skipped_when_the_counter_goes_round() {
        let mut clock = Clock::new(timing(42, 1800));
        let lock = clock.call("lock");
        clock.session.next_xid = u32::MAX;
        assert_eq!(clock.call("last"), u32::MAX);
        assert_eq!(clock.call("first"), lock + 1);
    }

    #[test]
    fn reconnecting_starts_quickly_and_settles_at_three_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.next_wait().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3000, 3000, 3000]);
        backoff.worked();
        assert_eq!(backoff.next_wait().as_millis(), 100);
    }

    proptest! {
        /// Whatever happens, every call comes back exactly once, and large answers are counted right.
        #[test]
        fn no_call_is_lost(steps in prop::collection::vec((0u8..5, any::<u16>()), 0..200)) {
            let start = Instant::now();
            let mut now = start;
            let mut session = Session::new(timing(10, 30), start);
            let (mut sent, mut back, mut out) = (0u32, 0u32, Vec::<u32>::new());
            for (step, number) in steps {
                let pick = |out: &mut Vec<u32>| (!out.is_empty()).then(|| out.swap_remove(number as usize % out.len()));
                match step {
                    0 | 1 => {
                        out.push(session.handle_call(now, sent, number % 7 == 0, number % 3 == 0));
                        sent += 1;
                    }
                    2 => if let Some(xid) = pick(&mut out) {
                        back += u32::from(matches!(session.handle_answer(now, xid), Answered::Call(_)));
                    },
                    3 => if let Some(xid) = pick(&mut out) {
                        back += u32::from(session.handle_dropped(xid).is_some());
                    },
                    _ => {
                        now += Duration::from_millis(u64::from(number) / 4);
                        while let Due::Expired(waiters) = session.handle_timeout(now) {
                            back += waiters.len() as u32;
                        }
                    }
                }
                prop_assert_eq!(session.large, session.calls.values().filter(|entry| entry.large).count());
            }
            back += session.handle_disconnect().len() as u32;
            prop_assert_eq!(sent, back);
        }
    }
}
