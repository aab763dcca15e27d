//! What may happen when, for the writes of one inode: a state machine without I/O.
//!
//! Writes stand in a queue in the order of their arrival until the child has answered them. The queue says which of
//! them are acknowledged before that, which may be sent now, which melt into one, and what has to wait for them:
//!
//! - A write is acknowledged at once while the acknowledged bytes that the child has not answered are within the
//!   window. The check is made before adding, so one write may overshoot. Others are acknowledged, oldest first, when
//!   the window opens, or answered when the child has answered, whichever comes first.
//! - A write is sent when no earlier one that it overlaps is left. So two writes in flight never overlap, which
//!   replicate's eager lock and disperse rely on, and the later of two overlapping ones wins.
//! - The newest acknowledged write is held back while something else is in flight, and grows by the writes that
//!   continue it, until it has the aggregate size, another write follows, or somebody waits for it. There is no timer.
//! - A dependent operation waits for the writes that came before it and that it overlaps, never for later ones.
//!
//! The payload of a write, and the handles by which waiting callers are told, are the user's types.

use std::collections::VecDeque;

use smallvec::SmallVec;

/// The least that a write counts in the window, in bytes: what its bookkeeping takes. It bounds the number of writes.
pub(super) const MINIMUM_WEIGHT: usize = 512;

/// A half-open range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    start: u64,
    end: u64,
}

impl Extent {
    /// The whole file and all it may grow to: attributes depend on it, and an append may go anywhere.
    pub(super) const EVERYTHING: Extent = Extent { start: 0, end: u64::MAX };

    /// `len` bytes from `offset`.
    pub(super) fn new(offset: u64, len: u64) -> Self {
        Extent { start: offset, end: offset.saturating_add(len) }
    }

    /// True when they have a byte in common.
    pub(super) fn overlaps(self, other: Extent) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    fn and(self, other: Extent) -> Extent {
        Extent { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// Sizes in bytes that govern a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Acknowledged bytes that may wait for the child.
    pub(super) window: usize,
    /// Up to this size small writes are put together.
    pub(super) aggregate: usize,
}

/// What a write carries.
pub(super) trait Payload {
    /// Bytes of data.
    fn len(&self) -> usize;
    /// True when `next` can be written together with this, as if one caller had written both at once.
    fn accepts(&self, next: &Self) -> bool;
    /// Puts `next` behind this.
    fn append(&mut self, next: Self);
}

/// Number of a write, growing in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// What the caller of a write knows.
enum Promise<A> {
    /// It was told that the data is written.
    Given,
    /// It waits, and may be told so when the window opens.
    Wanted(A),
    /// It waits for the answer of the child.
    Answer(A),
}

struct Write<P, A> {
    ticket: Ticket,
    extent: Extent,
    /// What it counts in the window.
    weight: usize,
    /// Earlier writes that it overlaps.
    blockers: usize,
    /// It may be held back and grow. Only the newest write may.
    open: bool,
    /// `None` while in flight.
    payload: Option<P>,
    promise: Promise<A>,
}

struct Dependent<D> {
    after: Ticket,
    extent: Extent,
    blockers: usize,
    handle: D,
}

/// The writes of one inode that the child has not answered, and who waits for them.
pub(super) struct Queue<P, A, D> {
    limits: Limits,
    last: Ticket,
    writes: VecDeque<Write<P, A>>,
    dependents: VecDeque<Dependent<D>>,
    /// Weight of the writes whose promise is given.
    acknowledged: usize,
    /// Writes whose promise is wanted.
    wanted: usize,
    in_flight: usize,
}

/// What follows from the end of a write.
pub(super) struct Completion<A, D> {
    /// The caller that waits for the child's answer; `None` when it was told long ago that all is well.
    pub(super) unanswered: Option<A>,
    /// Callers to be told that their data is written.
    pub(super) acknowledged: SmallVec<[A; 1]>,
    /// Dependent operations that may go on.
    pub(super) released: SmallVec<[D; 1]>,
}

impl<P: Payload, A, D> Queue<P, A, D> {
    /// An empty queue.
    pub(super) fn new(limits: Limits) -> Self {
        Queue {
            limits,
            last: Ticket(0),
            writes: VecDeque::new(),
            dependents: VecDeque::new(),
            acknowledged: 0,
            wanted: 0,
            in_flight: 0,
        }
    }

    /// True when the child has answered all writes.
    pub(super) fn is_idle(&self) -> bool {
        self.writes.is_empty()
    }

    /// Weight of the acknowledged writes that the child has not answered, in bytes.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Takes a write and acknowledges it. `room` says whether the rest of the client has memory for it.
    ///
    /// # Errors
    /// The payload comes back when the window is full: [`Queue::enqueue`] it.
    pub(super) fn accept(&mut self, extent: Extent, payload: P, room: bool) -> Result<(), P> {
        if !room || self.wanted > 0 || self.acknowledged > self.limits.window {
            return Err(payload);
        }
        let weight = weigh(&payload);
        self.acknowledged += weight;
        let Some(payload) = self.melt(extent, payload, weight) else { return Ok(()) };
        self.push(extent, payload, weight, Promise::Given);
        Ok(())
    }

    /// Takes a write whose caller waits. With `may_acknowledge` it is told that all is well when the window opens;
    /// else, and when that comes first, it gets the answer of the child.
    pub(super) fn enqueue(&mut self, extent: Extent, payload: P, caller: A, may_acknowledge: bool) {
        let weight = weigh(&payload);
        self.wanted += usize::from(may_acknowledge);
        let promise = if may_acknowledge { Promise::Wanted(caller) } else { Promise::Answer(caller) };
        self.push(extent, payload, weight, promise);
    }

    /// Puts `payload` into the newest write, when that may grow and the payload goes on where it ended.
    fn melt(&mut self, extent: Extent, payload: P, weight: usize) -> Option<P> {
        let aggregate = self.limits.aggregate;
        let Some(newest) = self.writes.back_mut().filter(|newest| newest.open) else { return Some(payload) };
        let fits = |held: &&mut P| held.len().saturating_add(payload.len()) <= aggregate && held.accepts(&payload);
        let Some(held) = newest.payload.as_mut().filter(fits) else { return Some(payload) };
        held.append(payload);
        newest.weight += weight;
        newest.extent = newest.extent.and(extent);
        let grown = newest.extent;
        let blockers = count(self.writes.range(..self.writes.len() - 1), grown);
        if let Some(newest) = self.writes.back_mut() {
            newest.blockers = blockers;
        }
        None
    }

    fn push(&mut self, extent: Extent, payload: P, weight: usize, promise: Promise<A>) {
        self.close();
        self.last.0 += 1;
        let write = Write {
            ticket: self.last,
            extent,
            weight,
            blockers: count(self.writes.iter(), extent),
            // Only what its caller believes to be written may grow: all of it then has one fate.
            open: matches!(promise, Promise::Given),
            payload: Some(payload),
            promise,
        };
        self.writes.push_back(write);
    }

    /// Ends the growth of the newest write: what comes now comes after it.
    fn close(&mut self) {
        if let Some(newest) = self.writes.back_mut() {
            newest.open = false;
        }
    }

    /// True when nothing that came so far touches `extent`.
    pub(super) fn is_clear(&self, extent: Extent) -> bool {
        !self.writes.iter().any(|write| write.extent.overlaps(extent))
    }

    /// Lets `handle` wait for all writes so far that touch `extent`; there must be one ([`Queue::is_clear`]). They are
    /// not held back any more: call [`Queue::start`].
    pub(super) fn wait(&mut self, extent: Extent, handle: D) {
        self.close();
        let blockers = count(self.writes.iter(), extent);
        self.dependents.push_back(Dependent { after: self.last, extent, blockers, handle });
    }

    /// The next write to be sent, if one may be sent now. It is in flight until [`Queue::complete`].
    pub(super) fn start(&mut self) -> Option<(Ticket, P)> {
        if self.in_flight == self.writes.len() {
            return None;
        }
        for write in &mut self.writes {
            let Some(payload) = write.payload.as_ref().filter(|_| write.blockers == 0) else { continue };
            let held_back = write.open && payload.len() < self.limits.aggregate && self.in_flight > 0;
            if held_back {
                continue;
            }
            self.in_flight += 1;
            return write.payload.take().map(|payload| (write.ticket, payload));
        }
        None
    }

    /// The child has answered a write that was started. `room` as in [`Queue::accept`]. More may be started now.
    pub(super) fn complete(&mut self, ticket: Ticket, room: bool) -> Completion<A, D> {
        let mut completion = Completion { unanswered: None, acknowledged: SmallVec::new(), released: SmallVec::new() };
        let Ok(index) = self.writes.binary_search_by_key(&ticket, |write| write.ticket) else { return completion };
        let Some(done) = self.writes.remove(index) else { return completion };
        self.in_flight -= 1;
        match done.promise {
            Promise::Given => self.acknowledged -= done.weight,
            Promise::Wanted(caller) => {
                self.wanted -= 1;
                completion.unanswered = Some(caller);
            }
            Promise::Answer(caller) => completion.unanswered = Some(caller),
        }
        for later in self.writes.range_mut(index..).filter(|later| later.extent.overlaps(done.extent)) {
            later.blockers -= 1;
        }
        for dependent in &mut self.dependents {
            if dependent.after >= ticket && dependent.extent.overlaps(done.extent) {
                dependent.blockers -= 1;
            }
        }
        self.release(&mut completion.released);
        if room {
            self.open_window(&mut completion.acknowledged);
        }
        completion
    }

    fn release(&mut self, released: &mut SmallVec<[D; 1]>) {
        let mut index = 0;
        while let Some(dependent) = self.dependents.get(index) {
            if dependent.blockers > 0 {
                index += 1;
            } else if let Some(dependent) = self.dependents.remove(index) {
                released.push(dependent.handle);
            }
        }
    }

    fn open_window(&mut self, acknowledged: &mut SmallVec<[A; 1]>) {
        for write in &mut self.writes {
            if self.wanted == 0 || self.acknowledged > self.limits.window {
                return;
            }
            match std::mem::replace(&mut write.promise, Promise::Given) {
                Promise::Wanted(caller) => {
                    self.wanted -= 1;
                    self.acknowledged += write.weight;
                    acknowledged.push(caller);
                }
                other => write.promise = other,
            }
        }
    }

    /// Gives back memory that an idle queue does not need.
    pub(super) fn shrink(&mut self) {
        if self.writes.is_empty() {
            self.writes = VecDeque::new();
        }
        if self.dependents.is_empty() {
            self.dependents = VecDeque::new();
        }
    }
}

fn weigh<P: Payload>(payload: &P) -> usize {
    payload.len().max(MINIMUM_WEIGHT)
}

fn count<'a, P: 'a, A: 'a>(writes: impl Iterator<Item = &'a Write<P, A>>, extent: Extent) -> usize {
    writes.filter(|write| write.extent.overlaps(extent)).count()
}

#[cfg(test)]
mod tests;
