//! Requests on their way into a socket.
//!
//! One thread at a time writes; it is usually the caller's own, and then nothing is queued. Requests that come meanwhile
//! are queued, and the writing thread takes them along in its next system call. When the socket is full the rest waits for
//! the writer task of the connection.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use smallvec::SmallVec;

use crate::reply::Payload;

/// Most requests that leave in one system call.
const BATCH: usize = 32;

/// A request: record word, headers and arguments in one buffer, then the file data as it is.
#[derive(Debug, Default)]
pub struct Message {
    /// What is left of the first part.
    pub head: BytesMut,
    /// What is left of the data.
    pub payload: Payload,
    /// Where it is counted.
    pub slot: usize,
    /// Since when it waits; `None` when it was written at once.
    pub queued: Option<Instant>,
}

impl Message {
    /// Bytes that are left to write.
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.iter().map(|slice| slice.len()).sum::<usize>()
    }

    /// True when all is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes up to `count` written bytes off; returns those that belong to the next message.
    fn advance(&mut self, mut count: usize) -> usize {
        let step = count.min(self.head.len());
        self.head.advance(step);
        count -= step;
        for slice in &mut self.payload {
            let step = count.min(slice.len());
            slice.advance(step);
            count -= step;
        }
        count
    }
}

/// Requests that one thread writes together.
pub type Batch = SmallVec<[Message; 1]>;

/// The slices of `batch` for one system call.
pub fn slices(batch: &[Message]) -> SmallVec<[IoSlice<'_>; 8]> {
    batch
        .iter()
        .flat_map(|message| std::iter::once(&message.head[..]).chain(message.payload.iter().map(|slice| &slice[..])))
        .filter(|slice| !slice.is_empty())
        // Far below IOV_MAX; what does not fit goes with the next call.
        .take(4 * BATCH)
        .map(IoSlice::new)
        .collect()
}

/// `count` bytes of `batch` were written: `done` gets each message that is out completely.
pub fn advance(batch: &mut Batch, mut count: usize, mut done: impl FnMut(&Message)) {
    let mut finished = 0;
    for message in batch.iter_mut() {
        count = message.advance(count);
        if !message.is_empty() {
            break;
        }
        done(message);
        finished += 1;
    }
    batch.drain(..finished);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Busy {
    #[default]
    Free,
    /// A thread writes; it looks into the queue before it goes.
    Writing,
    /// The socket is full; the writer task waits for it.
    Full,
    /// The connection is gone.
    Gone,
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub struct Outgoing {
    queue: VecDeque<Message>,
    busy: Busy,
}

impl Outgoing {
    /// A request leaves. `Some`: the caller shall write it. `None`: it was queued for whoever writes now.
    pub fn push(&mut self, mut message: Message, now: Instant) -> Option<Message> {
        match self.busy {
            Busy::Free => {
                self.busy = Busy::Writing;
                Some(message)
            }
            Busy::Writing | Busy::Full => {
                message.queued = Some(now);
                self.queue.push_back(message);
                None
            }
            Busy::Gone => None,
        }
    }

    /// The writing thread has written all: what next? An empty batch means that it is done.
    pub fn next(&mut self, batch: &mut Batch) {
        let count = self.queue.len().min(BATCH);
        batch.extend(self.queue.drain(..count));
        if batch.is_empty() && self.busy == Busy::Writing {
            self.busy = Busy::Free;
        }
    }

    /// The socket is full: what is left waits for the writer task.
    pub fn full(&mut self, batch: Batch) {
        if self.busy == Busy::Gone {
            return;
        }
        self.busy = Busy::Full;
        for message in batch.into_iter().rev() {
            self.queue.push_front(message);
        }
    }

    /// The socket takes bytes again: the writer task becomes the writing thread. False when nothing waits.
    pub fn resume(&mut self, batch: &mut Batch) -> bool {
        if self.busy != Busy::Full {
            return false;
        }
        self.busy = Busy::Writing;
        self.next(batch);
        !batch.is_empty()
    }

    /// The connection is gone: nothing leaves any more.
    pub fn abandon(&mut self) -> VecDeque<Message> {
        self.busy = Busy::Gone;
        std::mem::take(&mut self.queue)
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True when none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn message(text: &'static str, data: &'static [&'static str]) -> Message {
        Message {
            head: BytesMut::from(text),
            payload: data.iter().map(|slice| Bytes::from_static(slice.as_bytes())).collect(),
            ..Message::default()
        }
    }

    #[test]
    fn one_writes_and_takes_the_others_along() {
        let (mut outgoing, now) = (Outgoing::default(), Instant::now());
        let first = outgoing.push(message("a", &[]), now).unwrap();
        assert!(outgoing.push(message("b", &[]), now).is_none());
        assert!(outgoing.push(message("c", &[]), now).is_none());
        let mut batch = Batch::new();
        batch.push(first);
        advance(&mut batch, 1, |_| {});
        outgoing.next(&mut batch);
        assert_eq!(batch.len(), 2);
        // The socket takes one byte and is full.
        advance(&mut batch, 1, |_| {});
        outgoing.full(batch);
        assert!(outgoing.push(message("d", &[]), now).is_none());
        let mut batch = Batch::new();
        assert!(outgoing.resume(&mut batch));
        let left: Vec<_> = batch.iter().map(|message| message.head.clone()).collect();
        assert_eq!(left, ["c", "d"]);
        advance(&mut batch, 2, |_| {});
        outgoing.next(&mut batch);
        assert!(batch.is_empty() && !outgoing.resume(&mut batch));
        assert!(outgoing.push(message("e", &[]), now).is_some());
    }

    #[test]
    fn nothing_leaves_when_the_connection_is_gone() {
        let (mut outgoing, now) = (Outgoing::default(), Instant::now());
        let first = outgoing.push(message("a", &[]), now).unwrap();
        outgoing.push(message("b", &[]), now);
        assert_eq!(outgoing.abandon().len(), 1);
        outgoing.full(Batch::from_iter([first]));
        assert!(outgoing.push(message("c", &[]), now).is_none() && outgoing.is_empty());
    }

    proptest! {
        #[test]
        fn any_sequence_of_short_writes_gives_the_same_bytes(steps in prop::collection::vec(0usize..9, 1..60)) {
            let mut batch: Batch =
                [message("head1", &["data", "", "more"]), message("h2", &[]), message("head3", &["x"])].into_iter().collect();
            let (mut written, mut done) = (Vec::new(), 0);
            for step in steps {
                let all: Vec<u8> = slices(&batch).iter().flat_map(|slice| slice.to_vec()).collect();
                let step = step.min(all.len());
                written.extend_from_slice(&all[..step]);
                advance(&mut batch, step, |_| done += 1);
            }
            let rest: Vec<u8> = slices(&batch).iter().flat_map(|slice| slice.to_vec()).collect();
            written.extend(rest);
            prop_assert_eq!(written, b"head1datamoreh2head3x");
            prop_assert_eq!(done + batch.len(), 3);
        }
    }
}
