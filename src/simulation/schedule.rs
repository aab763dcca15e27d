//! Virtual time: a queue of events, ordered by time and then by the order in which they were made, and the clock that
//! translators see. All chance comes from one seed; nothing happens but through this queue, so a seed is a schedule.

use std::any::Any;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering as Memory};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::{Clock, Sleep};

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of that seed.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635_dcf2_4b1d)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// A time from `least` to just below `most`.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let room = most.saturating_sub(least).as_nanos() as u64;
        if room == 0 { least } else { least + Duration::from_nanos(self.below(room)) }
    }
}

enum Action {
    Run(Box<dyn FnOnce() + Send>),
    /// The end of a sleep of a client; a crashed one sleeps for ever.
    Wake(oneshot::Sender<()>, Arc<AtomicBool>),
}

struct Event {
    key: Reverse<(Duration, u64)>,
    action: Action,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

struct State {
    now: Duration,
    made: u64,
    happened: u64,
    events: BinaryHeap<Event>,
    random: Random,
    /// What tasks of crashed clients wait for: kept, so that they wait on.
    graveyard: Vec<Box<dyn Any + Send>>,
}

/// The queue.
pub(crate) struct Schedule(Mutex<State>);

impl Schedule {
    /// An empty queue at time 0.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Schedule(Mutex::new(State {
            now: Duration::ZERO,
            made: 0,
            happened: 0,
            events: BinaryHeap::new(),
            random: Random::new(seed),
            graveyard: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.state().now
    }

    /// How many events have happened: two things with the same number happened in one go.
    pub(crate) fn happened(&self) -> u64 {
        self.state().happened
    }

    /// Asks the seed.
    pub(crate) fn random<T>(&self, ask: impl FnOnce(&mut Random) -> T) -> T {
        ask(&mut self.state().random)
    }

    fn push(&self, delay: Duration, action: Action) {
        let mut state = self.state();
        state.made += 1;
        let key = Reverse((state.now + delay, state.made));
        state.events.push(Event { key, action });
    }

    /// Lets `action` happen after `delay`.
    pub(crate) fn after(&self, delay: Duration, action: impl FnOnce() + Send + 'static) {
        self.push(delay, Action::Run(Box::new(action)));
    }

    /// Keeps what a crashed client waits for.
    pub(crate) fn bury(&self, waited_for: impl Any + Send) {
        self.state().graveyard.push(Box::new(waited_for));
    }

    /// Lets the next event happen, if it is not later than `until`. False when there is none.
    pub(crate) fn step_until(&self, until: Duration) -> bool {
        loop {
            let mut state = self.state();
            let Some(next) = state.events.peek() else { return false };
            let time = next.key.0.0;
            if time > until {
                return false;
            }
            let action = match state.events.pop() {
                None => return false,
                // Nobody waits for this timer any more.
                Some(Event { action: Action::Wake(sender, _), .. }) if sender.is_closed() => continue,
                Some(event) => event.action,
            };
            state.now = time;
            state.happened += 1;
            drop(state);
            match action {
                Action::Run(action) => action(),
                Action::Wake(sender, alive) if alive.load(Memory::Relaxed) => drop(sender.send(())),
                Action::Wake(sender, _) => self.bury(sender),
            }
            return true;
        }
    }

    /// Lets the next event happen. False when there is none.
    pub(crate) fn step(&self) -> bool {
        self.step_until(Duration::MAX)
    }

    /// Lets time pass.
    pub(crate) fn run_for(&self, duration: Duration) {
        let until = self.now() + duration;
        while self.step_until(until) {}
        self.state().now = until;
    }

    /// Lets everything happen that is due now.
    pub(crate) fn settle(&self) {
        self.run_for(Duration::ZERO);
    }

    /// Runs until nothing is left to happen.
    ///
    /// # Panics
    /// When there is no end to it.
    pub(crate) fn run_until_idle(&self) {
        let start = self.happened();
        while self.step() {
            assert!(self.happened() - start < 5_000_000, "it never comes to rest");
        }
    }

    /// Runs until `done`. False when nothing is left to happen before.
    pub(crate) fn run_until(&self, mut done: impl FnMut() -> bool) -> bool {
        while !done() {
            if !self.step() {
                return false;
            }
        }
        true
    }

    /// Forgets all that was to happen: the end of a cluster.
    pub(crate) fn clear(&self) {
        // Dropping wakes tasks, which may look here again.
        loop {
            let mut state = self.state();
            let events = std::mem::take(&mut state.events);
            let graveyard = std::mem::take(&mut state.graveyard);
            drop(state);
            if events.is_empty() && graveyard.is_empty() {
                return;
            }
        }
    }
}

/// The clock of one client.
#[derive(Clone)]
pub(crate) struct VirtualClock {
    pub(super) schedule: Arc<Schedule>,
    pub(super) alive: Arc<AtomicBool>,
}

impl std::fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VirtualClock({:?})", self.schedule.now())
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        self.schedule.now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let (sender, receiver) = oneshot::channel();
        self.schedule.push(duration, Action::Wake(sender, self.alive.clone()));
        Box::pin(async move {
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_happen_in_the_order_of_time_then_of_their_making() {
        let schedule = Schedule::new(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        for (name, delay) in [("late", 20), ("first", 10), ("second", 10)] {
            let order = order.clone();
            schedule.after(Duration::from_millis(delay), move || order.lock().unwrap().push(name));
        }
        schedule.run_for(Duration::from_millis(15));
        assert_eq!(*order.lock().unwrap(), ["first", "second"]);
        assert_eq!(schedule.now(), Duration::from_millis(15));
        schedule.run_until_idle();
        assert_eq!(*order.lock().unwrap(), ["first", "second", "late"]);
    }

    #[test]
    fn a_sleep_ends_in_its_time_unless_its_client_crashed() {
        let schedule = Schedule::new(1);
        let alive = Arc::new(AtomicBool::new(true));
        let clock = VirtualClock { schedule: schedule.clone(), alive: alive.clone() };
        let woken = Arc::new(Mutex::new(Vec::new()));
        for seconds in [1, 3] {
            let (sleep, woken) = (clock.sleep(Duration::from_secs(seconds)), woken.clone());
            crate::task::spawn(async move {
                sleep.await;
                woken.lock().unwrap().push(seconds);
            });
        }
        drop(clock.sleep(Duration::from_secs(9)));
        schedule.run_for(Duration::from_secs(2));
        alive.store(false, Memory::Relaxed);
        schedule.run_until_idle();
        assert_eq!(*woken.lock().unwrap(), [1]);
        assert_eq!(schedule.now(), Duration::from_secs(3), "a timer that nobody waits for takes no time");
    }

    #[test]
    fn one_seed_gives_one_row_of_numbers() {
        let row = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(row(7), row(7));
        assert_ne!(row(7), row(8));
    }
}
