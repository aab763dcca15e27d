//! Locks for writing that are kept for a while: one *session* is the time from lock to unlock of one inode
//! (`afr_lock_t`, eager locks).
//!
//! A session takes the lock once, marks the copies dirty once, lets many changes through, notes on the copies what others
//! missed, and unlocks. Changes whose ranges overlap are never under way together: copies could apply them in different
//! orders. A session ends when it has been idle for a while, when somebody else wants the lock, when a copy failed, or when
//! a child came or went: what waits then belongs to the next session, with a lock of its own on the children of then.
//!
//! This file decides only; `data.rs` locks, marks, and wakes. `W` is whatever wakes a waiting change.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use super::child_set::{ChildSet, MAX_CHILDREN};

/// How long changes that hand the lock on to each other may keep other clients waiting.
const LONGEST_TURN: Duration = Duration::from_secs(1);

/// Bytes of a file that a change touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    start: u64,
    /// First byte behind.
    end: u64,
}

impl Range {
    /// Everything.
    pub(super) const ALL: Range = Range { start: 0, end: u64::MAX };
    /// Nothing: conflicts with nobody.
    pub(super) const NONE: Range = Range { start: 0, end: 0 };

    /// `len` bytes from `start`; 0 is to the end.
    pub(super) fn new(start: u64, len: u64) -> Self {
        Range { start, end: if len == 0 { u64::MAX } else { start.saturating_add(len) } }
    }

    fn overlaps(self, other: Range) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What the changes of a session did to the copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// A change was done by a quorum of copies.
    pub(super) done: bool,
    /// A change left the copies in a state that only heal can tell: the dirty mark stays.
    pub(super) unclear: bool,
    /// Copies that did a change which is unclear.
    pub(super) half_done: ChildSet,
    /// By copy: the copies that missed a change which it did.
    pub(super) missed: [ChildSet; MAX_CHILDREN],
    /// Data was written that a power cut may take away unnoticed.
    pub(super) unstable: bool,
}

impl Ledger {
    /// A change was done by `done` and missed by `failed`.
    pub(super) fn note_done(&mut self, done: ChildSet, failed: ChildSet) {
        self.done = true;
        for index in done.iter() {
            if let Some(missed) = self.missed.get_mut(index) {
                *missed = missed.union(failed);
            }
        }
    }

    /// Too few copies can note who missed what: nobody is accused, and the dirty marks stay.
    pub(super) fn give_up(&mut self) {
        let did_something = self.missed.iter().enumerate().filter(|(_, missed)| !missed.is_empty());
        self.half_done = did_something.map(|(index, _)| index).collect::<ChildSet>().union(self.half_done);
        self.missed = [ChildSet::EMPTY; MAX_CHILDREN];
        (self.done, self.unclear) = (false, true);
    }

    /// Copies that missed anything.
    pub(super) fn failed(&self) -> ChildSet {
        self.missed.iter().fold(ChildSet::EMPTY, |all, missed| all.union(*missed))
    }
}

/// What a change wants from its session when it leaves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leaving {
    /// A copy failed: nobody new comes in.
    pub(super) end: bool,
    /// Somebody else waits for the lock.
    pub(super) contended: bool,
    /// The session may stay open for the next change.
    pub(super) linger: bool,
}

/// Where a change that wants in finds itself.
#[derive(Debug)]
pub(super) enum Entry {
    /// It opens the session: lock, mark, and say [`Session::opened`].
    Open,
    /// It is in.
    Join,
    /// It waits to be woken. When `close` is set, the caller must end the session first.
    Wait {
        /// The session must be closed now, by the caller.
        close: bool,
    },
}

/// How a waiting change is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// It is in.
    Join,
    /// It must enter again: the session that it waited for is over.
    Again,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Opening,
    Open,
    Closing,
}

struct Queued<W> {
    number: u64,
    range: Range,
    waker: W,
}

/// The session of one inode, and what waits for it or the next.
pub(super) struct Session<W, L> {
    phase: Phase,
    /// Generation of the children in which it was locked.
    generation: u32,
    owners: Vec<(u64, Range)>,
    waiting: VecDeque<Queued<W>>,
    next: VecDeque<Queued<W>>,
    ending: bool,
    numbers: u64,
    /// Since when nobody is in.
    idle_since: Duration,
    /// Somebody will look at it when it has been idle for long enough.
    pub(super) watched: bool,
    /// What is held; there while it is open or closing.
    pub(super) lock: Option<L>,
    /// What its changes did.
    pub(super) ledger: Ledger,
    /// Copies that missed changes of it, which the others do not say yet: the bricks call them good.
    pub(super) behind: ChildSet,
    /// Since when the lock is held.
    since: Duration,
    /// Somebody else wanted the lock when it was given back, and mostly has it now.
    contended: bool,
}

impl<W, L> Default for Session<W, L> {
    fn default() -> Self {
        Session {
            phase: Phase::Idle,
            generation: 0,
            owners: Vec::new(),
            waiting: VecDeque::new(),
            next: VecDeque::new(),
            ending: false,
            numbers: 0,
            idle_since: Duration::ZERO,
            watched: false,
            lock: None,
            ledger: Ledger::default(),
            behind: ChildSet::EMPTY,
            since: Duration::ZERO,
            contended: false,
        }
    }
}

/// What follows from a change's leaving or a session's opening.
#[derive(Debug)]
pub(super) struct After<W> {
    /// Changes to wake, without any lock held.
    pub(super) wake: Vec<(W, Wake)>,
    /// The session must be closed now, by the caller.
    pub(super) close: bool,
}

impl<W, L> Session<W, L> {
    /// A change wants in. `waker` is used only when it must wait. Returns its number, for [`Session::leave`].
    pub(super) fn enter(&mut self, range: Range, generation: u32, waker: impl FnOnce() -> W) -> (u64, Entry) {
        self.numbers += 1;
        let number = self.numbers;
        let queue = |waker| Queued { number, range, waker };
        match self.phase {
            Phase::Idle => {
                self.phase = Phase::Opening;
                self.generation = generation;
                self.ending = false;
                self.owners.push((number, range));
                (number, Entry::Open)
            }
            Phase::Opening => {
                self.waiting.push_back(queue(waker()));
                (number, Entry::Wait { close: false })
            }
            Phase::Open if !self.ending && self.generation == generation => {
                let free = self.owners.iter().all(|(_, held)| !held.overlaps(range))
                    && self.waiting.iter().all(|waiting| !waiting.range.overlaps(range));
                if free {
                    self.owners.push((number, range));
                    return (number, Entry::Join);
                }
                self.waiting.push_back(queue(waker()));
                (number, Entry::Wait { close: false })
            }
            Phase::Open => {
                self.end();
                self.next.push_back(queue(waker()));
                (number, Entry::Wait { close: self.try_close() })
            }
            Phase::Closing => {
                self.next.push_back(queue(waker()));
                (number, Entry::Wait { close: false })
            }
        }
    }

    /// The opener has the lock, and the session begins; or it has not, and everybody tries again.
    pub(super) fn opened(&mut self, lock: Option<L>, now: Duration) -> After<W> {
        match lock {
            Some(lock) => {
                self.since = now;
                self.phase = Phase::Open;
                self.lock = Some(lock);
                self.ledger = Ledger::default();
                // Somebody may have asked for its end already.
                let wake = if self.ending { Vec::new() } else { self.admit() };
                if self.ending {
                    self.end();
                }
                After { wake, close: false }
            }
            None => {
                self.owners.clear();
                After { wake: self.closed(), close: false }
            }
        }
    }

    /// A change is over.
    pub(super) fn leave(&mut self, number: u64, leaving: Leaving, now: Duration) -> After<W> {
        self.owners.retain(|(owner, _)| *owner != number);
        // A change that may linger is told when others wait; of the rest nobody tells.
        self.contended |= leaving.contended;
        if leaving.end || leaving.contended || (!leaving.linger && now >= self.since + LONGEST_TURN) {
            self.end();
        }
        let wake = if self.ending { Vec::new() } else { self.admit() };
        if self.owners.is_empty() {
            self.idle_since = now;
            if !leaving.linger {
                self.end();
            }
        }
        After { wake, close: self.try_close() }
    }

    /// A change is given up in the middle, and nobody knows what these copies did of it. Says also whether it was in.
    pub(super) fn give_up(&mut self, number: u64, sent_to: ChildSet, now: Duration) -> (After<W>, bool) {
        let was_in = self.owners.iter().any(|(owner, _)| *owner == number);
        self.waiting.retain(|waiting| waiting.number != number);
        self.next.retain(|waiting| waiting.number != number);
        let after = match self.phase {
            Phase::Opening if was_in => self.opened(None, now),
            Phase::Open if was_in => {
                self.ledger.unclear = true;
                self.ledger.half_done = self.ledger.half_done.union(sent_to);
                self.leave(number, Leaving { end: true, ..Leaving::default() }, now)
            }
            // Others may have waited behind it.
            Phase::Open if !self.ending => After { wake: self.admit(), close: false },
            _ => After { wake: Vec::new(), close: false },
        };
        (after, was_in)
    }

    /// Nobody new comes in; when the last one is out, the session must be closed. True when that is now.
    pub(super) fn end_soon(&mut self) -> bool {
        if self.phase == Phase::Opening {
            // Its opener will find out.
            self.ending = true;
            return false;
        }
        if self.phase == Phase::Open {
            self.end();
        }
        self.try_close()
    }

    /// As [`Session::end_soon`], because somebody else waits for the lock.
    pub(super) fn give_way(&mut self) -> bool {
        self.contended |= !self.is_idle();
        self.end_soon()
    }

    /// Whether somebody else is likely to hold the lock, or to wait for it; it is asked by who opens the session, once.
    pub(super) fn take_contended(&mut self) -> bool {
        std::mem::take(&mut self.contended)
    }

    /// Whether a change can join without a lock of its own.
    pub(super) fn is_joinable(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Open) && !self.ending
    }

    /// Ends the session if nobody is in. True when the caller must close it.
    pub(super) fn end_if_idle(&mut self) -> bool {
        self.phase == Phase::Open && self.owners.is_empty() && self.end_soon()
    }

    /// The session is closed: everybody who waits tries again.
    pub(super) fn closed(&mut self) -> Vec<(W, Wake)> {
        self.phase = Phase::Idle;
        self.ending = false;
        self.lock = None;
        self.behind = ChildSet::EMPTY;
        let queued = self.waiting.drain(..).chain(self.next.drain(..));
        queued.map(|queued| (queued.waker, Wake::Again)).collect()
    }

    /// When it will have been idle for `delay`; `None` while it is not open.
    pub(super) fn due(&self, delay: Duration) -> Option<Duration> {
        (self.phase == Phase::Open).then(|| self.idle_since + delay)
    }

    /// True when somebody is in.
    pub(super) fn is_busy(&self) -> bool {
        !self.owners.is_empty()
    }

    /// True when nothing is held or about to be.
    fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    fn end(&mut self) {
        self.ending = true;
        // Who waited for this session goes before those who already wait for the next.
        while let Some(queued) = self.waiting.pop_back() {
            self.next.push_front(queued);
        }
    }

    fn try_close(&mut self) -> bool {
        let now = self.phase == Phase::Open && self.ending && self.owners.is_empty();
        if now {
            self.phase = Phase::Closing;
        }
        now
    }

    /// Lets in who waits and conflicts with nobody, in order, up to the first who does.
    fn admit(&mut self) -> Vec<(W, Wake)> {
        let mut wake = Vec::new();
        while let Some(first) = self.waiting.front() {
            if self.owners.iter().any(|(_, held)| held.overlaps(first.range)) {
                break;
            }
            if let Some(first) = self.waiting.pop_front() {
                self.owners.push((first.number, first.range));
                wake.push((first.waker, Wake::Join));
            }
        }
        wake
    }
}

/// The sessions of one inode: data and attributes are locked apart from each other.
pub(super) struct Sessions<W, L> {
    pub(super) data: Mutex<Session<W, L>>,
    pub(super) metadata: Mutex<Session<W, L>>,
}

impl<W, L> Default for Sessions<W, L> {
    fn default() -> Self {
        Sessions { data: Mutex::default(), metadata: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestSession = Session<u32, &'static str>;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn enter(session: &mut TestSession, name: u32, range: Range, generation: u32) -> (u64, &'static str) {
        let (number, entry) = session.enter(range, generation, || name);
        let entry = match entry {
            Entry::Open => "open",
            Entry::Join => "join",
            Entry::Wait { close: false } => "wait",
            Entry::Wait { close: true } => "wait and close",
        };
        (number, entry)
    }

    fn block(index: u64) -> Range {
        Range::new(index * 10, 10)
    }

    const STAY: Leaving = Leaving { end: false, contended: false, linger: true };
    const GO: Leaving = Leaving { end: false, contended: false, linger: false };
    const END: Leaving = Leaving { end: true, contended: false, linger: true };

    #[test]
    fn ranges() {
        assert!(block(1).overlaps(Range::ALL) && Range::new(15, 0).overlaps(block(1)));
        assert!(!block(1).overlaps(block(2)) && !Range::NONE.overlaps(Range::ALL));
        assert!(Range::new(u64::MAX - 1, 100).overlaps(Range::ALL));
    }

    #[test]
    fn a_change_that_is_given_up_keeps_nobody_waiting() {
        let mut session = TestSession::default();
        let (opener, _) = enter(&mut session, 1, block(1), 1);
        enter(&mut session, 2, block(2), 1);
        let (after, was_in) = session.give_up(opener, ChildSet::EMPTY, at(0));
        assert_eq!((after.wake, was_in), (vec![(2, Wake::Again)], true), "it was to be opened");
        let (first, entry) = enter(&mut session, 3, block(1), 1);
        assert_eq!(entry, "open");
        session.opened(Some("lock"), at(0));
        let (waits, _) = enter(&mut session, 4, block(1), 1);
        enter(&mut session, 5, Range::new(15, 10), 1);
        let (after, was_in) = session.give_up(waits, ChildSet::EMPTY, at(0));
        assert_eq!((after.wake, was_in), (vec![], false), "who waited behind it still waits for the first");
        let (last, _) = enter(&mut session, 6, block(5), 1);
        let (after, was_in) = session.give_up(first, ChildSet::all(2), at(0));
        assert_eq!((after.wake, after.close, was_in), (vec![], false, true));
        assert!(session.ledger.unclear && session.ledger.half_done == ChildSet::all(2));
        assert!(session.leave(last, STAY, at(0)).close);
        assert_eq!(session.closed(), [(5, Wake::Again)]);
    }

    #[test]
    fn changes_of_other_ranges_share_a_session_and_overlapping_ones_take_turns() {
        let mut session = TestSession::default();
        let (first, entry) = enter(&mut session, 1, block(1), 1);
        assert_eq!(entry, "open");
        assert_eq!(enter(&mut session, 2, block(2), 1).1, "wait");
        let (third, entry) = enter(&mut session, 3, block(1), 1);
        assert_eq!(entry, "wait");
        let after = session.opened(Some("lock"), at(0));
        assert_eq!((after.wake, after.close), (vec![(2, Wake::Join)], false));
        let (fourth, entry) = enter(&mut session, 4, block(4), 1);
        assert_eq!(entry, "join");
        // Overlaps with one that waits: must not overtake it.
        assert_eq!(enter(&mut session, 5, Range::new(15, 1), 1).1, "wait");
        let after = session.leave(first, STAY, at(1));
        assert_eq!(after.wake, [(3, Wake::Join)]);
        assert_eq!(session.leave(third, STAY, at(2)).wake, [(5, Wake::Join)]);
        for number in [2, fourth, 5] {
            assert!(!session.leave(number, STAY, at(3)).close);
        }
        assert_eq!((session.due(at(1)), session.is_busy()), (Some(at(4)), false));
        assert!(session.end_if_idle());
        assert!(session.closed().is_empty() && session.is_idle());
    }

    #[test]
    fn what_comes_under_another_generation_waits_for_the_next_session() {
        let mut session = TestSession::default();
        let (first, _) = enter(&mut session, 1, block(1), 1);
        session.opened(Some("lock"), at(0));
        let (_, entry) = enter(&mut session, 2, block(2), 2);
        assert_eq!(entry, "wait");
        assert_eq!(enter(&mut session, 3, block(3), 1).1, "wait", "even one of the old generation: it is ending");
        let after = session.leave(first, STAY, at(1));
        assert!(after.close && after.wake.is_empty());
        assert_eq!(enter(&mut session, 4, block(4), 2).1, "wait");
        assert_eq!(session.closed(), [(2, Wake::Again), (3, Wake::Again), (4, Wake::Again)]);

        let (first, _) = enter(&mut session, 1, block(1), 2);
        session.opened(Some("lock"), at(0));
        session.leave(first, STAY, at(2));
        assert_eq!(enter(&mut session, 2, block(1), 3).1, "wait and close", "it was idle");
    }

    #[test]
    fn the_end_sends_those_who_wait_to_the_next_session_in_order() {
        let mut session = TestSession::default();
        let (first, _) = enter(&mut session, 1, block(1), 1);
        session.opened(Some("lock"), at(0));
        enter(&mut session, 2, block(1), 1);
        enter(&mut session, 3, block(1), 1);
        let after = session.leave(first, END, at(1));
        assert!(after.close && after.wake.is_empty());
        assert_eq!(session.closed(), [(2, Wake::Again), (3, Wake::Again)]);
    }

    #[test]
    fn one_that_may_not_linger_closes_when_it_is_the_last() {
        let mut session = TestSession::default();
        let (first, _) = enter(&mut session, 1, block(1), 1);
        session.opened(Some("lock"), at(1));
        enter(&mut session, 2, block(1), 1);
        let after = session.leave(first, GO, at(1));
        assert_eq!((after.wake, after.close), (vec![(2, Wake::Join)], false), "the lock is passed on");
        assert!(session.leave(2, GO, at(1)).close);
    }

    #[test]
    fn who_passes_the_lock_on_does_so_for_a_while_only() {
        let mut session = TestSession::default();
        let (first, _) = enter(&mut session, 1, Range::ALL, 1);
        session.opened(Some("lock"), at(0));
        let (second, _) = enter(&mut session, 2, Range::ALL, 1);
        enter(&mut session, 3, Range::ALL, 1);
        assert_eq!(session.leave(first, GO, Duration::from_millis(900)).wake, [(2, Wake::Join)]);
        let after = session.leave(second, GO, at(1));
        assert!(after.close && after.wake.is_empty());
        assert_eq!(session.closed(), [(3, Wake::Again)]);
    }

    #[test]
    fn a_failed_opening_lets_all_try_again() {
        let mut session = TestSession::default();
        enter(&mut session, 1, block(1), 1);
        enter(&mut session, 2, block(2), 1);
        assert_eq!(session.opened(None, at(0)).wake, [(2, Wake::Again)]);
        assert!(session.is_idle());
        assert_eq!(enter(&mut session, 2, block(2), 1).1, "open");
    }

    #[test]
    fn an_end_that_is_wanted_during_the_opening_comes_after_the_opener() {
        let mut session = TestSession::default();
        let (first, _) = enter(&mut session, 1, block(1), 1);
        assert!(!session.end_soon());
        enter(&mut session, 2, block(2), 1);
        assert!(session.opened(Some("lock"), at(0)).wake.is_empty());
        assert!(session.leave(first, STAY, at(1)).close);
        assert_eq!(session.closed(), [(2, Wake::Again)]);
    }

    #[test]
    fn who_gave_way_takes_his_turn() {
        let mut session = TestSession::default();
        let (first, _) = enter(&mut session, 1, block(1), 1);
        assert!(!session.take_contended() && session.is_joinable());
        session.opened(Some("lock"), at(0));
        let after = session.leave(first, Leaving { contended: true, ..STAY }, at(0));
        assert!(after.close && !session.is_joinable());
        session.closed();
        let (first, _) = enter(&mut session, 1, block(1), 1);
        assert!(session.take_contended() && !session.take_contended());
        session.opened(Some("lock"), at(0));
        session.leave(first, STAY, at(0));
        assert!(session.give_way() && session.take_contended());
        session.closed();
        assert!(!session.give_way() && !session.take_contended(), "nothing was held");
    }

    #[test]
    fn the_ledger_knows_who_missed_what() {
        let mut ledger = Ledger::default();
        ledger.note_done(ChildSet::all(3), ChildSet::EMPTY);
        assert_eq!(ledger.failed(), ChildSet::EMPTY);
        ledger.note_done(ChildSet(0b011), ChildSet::one(2));
        ledger.note_done(ChildSet(0b101), ChildSet::one(1));
        assert_eq!(ledger.missed[0], ChildSet(0b110));
        assert_eq!((ledger.missed[1], ledger.missed[2]), (ChildSet::one(2), ChildSet::one(1)));
    }
}
