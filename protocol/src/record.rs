//! Record marking (RFC 5531, section 11): the byte stream of a connection cut into records.
//!
//! The [`Framer`] decides into which memory the next bytes go; the reader of the socket only fills it. Small records
//! share one receive buffer, several of them per receive, and come out as slices of it. A large record gets a buffer of
//! its own, of exactly its size, and is received straight into it: its payload is never copied.

use bytes::{Bytes, BytesMut};

/// Bit of the record word that marks the last fragment; every GlusterFS sender sends exactly one.
pub const LAST_FRAGMENT: u32 = 0x8000_0000;

/// Largest record that is accepted, in bytes. C peers drop a connection at 1 GiB; nobody sends more than 1 MiB of data
/// and some headers unless asked to.
pub const MAX_RECORD: usize = 64 << 20;

/// Size of the shared receive buffer, in bytes.
pub const SHARED: usize = 64 << 10;

/// Records up to this size, in bytes, stay in the shared buffer.
pub const SMALL: usize = 16 << 10;

/// While large answers are awaited, this much of a record is received before its size is known: the record word, and
/// the headers of a READ answer without xdata. What follows goes straight to its own buffer.
pub const HEAD: usize = 200;

/// The word before a record of `length` bytes in one fragment.
pub fn mark(length: usize) -> u32 {
    // Records above 2 GiB cannot be built: every writer bounds its payload far below.
    LAST_FRAGMENT | length as u32
}

/// The peer does not keep to record marking; the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {length} bytes or more, {limit} are allowed: this is not a GlusterFS peer, or it is broken")]
pub struct RecordError {
    /// What the peer announced.
    pub length: usize,
    /// What is allowed.
    pub limit: usize,
}

/// Gives buffers for large records.
pub trait Buffers {
    /// A buffer; it is filled completely before it becomes [`Bytes`].
    type Buffer: AsMut<[u8]> + Into<Bytes>;

    /// A buffer of exactly `length` bytes, of any content.
    fn take(&mut self, length: usize) -> Self::Buffer;
}

/// Fresh memory for every large record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpooled;

impl Buffers for Unpooled {
    type Buffer = Vec<u8>;

    fn take(&mut self, length: usize) -> Vec<u8> {
        vec![0; length]
    }
}

/// Where the next bytes of the stream go.
pub enum Space<'a> {
    /// Append at most that many bytes (the capacity is there), then call [`Framer::next_record`].
    Shared(&'a mut BytesMut, usize),
    /// Fill from the front, then tell [`Framer::filled`] how much.
    Own(&'a mut [u8]),
}

/// Cuts a byte stream into records.
pub struct Framer<B: Buffers> {
    buffers: B,
    limit: usize,
    chunk: usize,
    shared: BytesMut,
    own: Option<Own<B::Buffer>>,
    pieces: Option<Pieces>,
    copied: u64,
}

/// A large record on its way.
struct Own<T> {
    buffer: T,
    length: usize,
    filled: usize,
}

/// A record in several fragments: rare, so it is simply gathered.
struct Pieces {
    gathered: BytesMut,
    left: usize,
    last: bool,
}

impl<B: Buffers> Framer<B> {
    /// A framer at the start of a stream, for records of at most `limit` bytes.
    pub fn new(buffers: B, limit: usize) -> Self {
        // Who expects only small records needs no large buffer for them.
        let chunk = SHARED.min((limit + 4).next_power_of_two());
        Framer { buffers, limit, chunk, shared: BytesMut::new(), own: None, pieces: None, copied: 0 }
    }

    /// Bytes of record bodies that were moved in memory after they were received, headers of large records aside.
    pub fn copied(&self) -> u64 {
        self.copied
    }

    /// Where to receive next. `large_awaited` says that an answer with much data may come: then a record of unknown size
    /// is approached with a short receive.
    pub fn space(&mut self, large_awaited: bool) -> Space<'_> {
        // `ref mut` keeps the borrow to this arm, which `&mut self.own` would not.
        if let Some(ref mut own) = self.own {
            return Space::Own(&mut own.buffer.as_mut()[own.filled..own.length]);
        }
        let have = self.shared.len();
        let rest = match self.announced() {
            Some(length) if length <= SMALL => (4 + length).saturating_sub(have).max(1),
            _ => HEAD.saturating_sub(have).max(4),
        };
        let wanted = if large_awaited { rest } else { rest.max(self.chunk / 4) };
        if self.shared.capacity() - have < wanted {
            let before = self.shared.as_ptr();
            self.shared.reserve(self.chunk.max(wanted));
            if before != self.shared.as_ptr() {
                self.copied += have.saturating_sub(HEAD) as u64;
            }
        }
        let limit = if large_awaited { rest } else { self.shared.capacity() - have };
        Space::Shared(&mut self.shared, limit)
    }

    /// `count` bytes were put into the space of a large record.
    pub fn filled(&mut self, count: usize) {
        if let Some(own) = &mut self.own {
            own.filled = own.length.min(own.filled + count);
        }
    }

    /// The next complete record, without its word; `None` when more must be received.
    ///
    /// # Errors
    /// When the record is larger than allowed. Nothing that follows can be understood.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        loop {
            if let Some(own) = self.own.take() {
                if own.filled < own.length {
                    self.own = Some(own);
                    return Ok(None);
                }
                return Ok(Some(own.buffer.into()));
            }
            if let Some(mut pieces) = self.pieces.take() {
                let moved = pieces.left.min(self.shared.len());
                pieces.gathered.extend_from_slice(&self.shared.split_to(moved));
                pieces.left -= moved;
                self.copied += moved as u64;
                if pieces.left > 0 {
                    self.pieces = Some(pieces);
                    return Ok(None);
                }
                if pieces.last {
                    return Ok(Some(pieces.gathered.freeze()));
                }
                let Some((length, last)) = self.word() else {
                    self.pieces = Some(pieces);
                    return Ok(None);
                };
                self.check(pieces.gathered.len() + length)?;
                self.pieces = Some(Pieces { left: length, last, ..pieces });
                let _ = self.shared.split_to(4);
                continue;
            }
            let Some((length, last)) = self.word() else { return Ok(None) };
            self.check(length)?;
            if !last {
                let _ = self.shared.split_to(4);
                self.pieces = Some(Pieces { gathered: BytesMut::new(), left: length, last });
            } else if self.shared.len() >= 4 + length {
                let _ = self.shared.split_to(4);
                return Ok(Some(self.shared.split_to(length).freeze()));
            } else if length > SMALL {
                let _ = self.shared.split_to(4);
                let head = self.shared.split_to(self.shared.len());
                let mut buffer = self.buffers.take(length);
                buffer.as_mut()[..head.len()].copy_from_slice(&head);
                self.copied += head.len().saturating_sub(HEAD) as u64;
                self.own = Some(Own { buffer, length, filled: head.len() });
            } else {
                return Ok(None);
            }
        }
    }

    /// Length and last-mark of the fragment at the front of the shared buffer.
    fn word(&self) -> Option<(usize, bool)> {
        let word = u32::from_be_bytes(*self.shared.first_chunk::<4>()?);
        Some(((word & !LAST_FRAGMENT) as usize, word & LAST_FRAGMENT != 0))
    }

    /// Length of the record at the front, when it is known and whole in one fragment.
    fn announced(&self) -> Option<usize> {
        if self.pieces.is_some() {
            return None;
        }
        self.word().filter(|(_, last)| *last).map(|(length, _)| length)
    }

    fn check(&self, length: usize) -> Result<(), RecordError> {
        if length > self.limit { Err(RecordError { length, limit: self.limit }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    /// Feeds `stream` in receives of at most `step` bytes.
    fn cut(stream: &[u8], step: usize, large: bool) -> Result<(Vec<Bytes>, u64), RecordError> {
        let mut framer = Framer::new(Unpooled, MAX_RECORD);
        let (mut records, mut rest) = (Vec::new(), stream);
        while !rest.is_empty() {
            let count = match framer.space(large) {
                Space::Shared(buffer, limit) => {
                    assert!(limit > 0 && buffer.capacity() - buffer.len() >= limit);
                    let count = limit.min(step).min(rest.len());
                    buffer.put_slice(&rest[..count]);
                    count
                }
                Space::Own(space) => {
                    let count = space.len().min(step).min(rest.len());
                    assert!(count > 0);
                    space[..count].copy_from_slice(&rest[..count]);
                    framer.filled(count);
                    count
                }
            };
            rest = &rest[count..];
            while let Some(record) = framer.next_record()? {
                records.push(record);
            }
        }
        Ok((records, framer.copied()))
    }

    fn stream(records: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for record in records {
            stream.put_u32(mark(record.len()));
            stream.put_slice(record);
        }
        stream
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_records(
            sizes in prop::collection::vec(prop_oneof![0usize..600, 10_000usize..100_000], 1..12),
            step in prop_oneof![1usize..40, 100usize..70_000],
            large: bool,
        ) {
            let records: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(n, size)| (0..*size).map(|at| (at * 7 + n) as u8).collect()).collect();
            let (got, _) = cut(&stream(&records), step, large).unwrap();
            prop_assert_eq!(got.len(), records.len());
            for (got, sent) in got.iter().zip(&records) {
                prop_assert_eq!(got.as_ref(), &sent[..]);
            }
        }

        #[test]
        fn noise_is_no_panic(noise: Vec<u8>, step in 1usize..300, large: bool) {
            let _ = cut(&noise, step, large);
        }
    }

    #[test]
    fn fragments_are_joined() {
        let mut stream = Vec::new();
        for (word, bytes) in [(3, &b"abc"[..]), (0, b""), (LAST_FRAGMENT | 2, b"de"), (LAST_FRAGMENT | 1, b"f")] {
            stream.put_u32(word);
            stream.put_slice(bytes);
        }
        for step in 1..stream.len() {
            let (records, _) = cut(&stream, step, step % 2 == 0).unwrap();
            assert_eq!(records, [&b"abcde"[..], &b"f"[..]]);
        }
    }

    #[test]
    fn a_record_that_is_too_long_ends_the_stream() {
        assert!(cut(&0x8fff_ffff_u32.to_be_bytes(), 4, false).is_err());
        // Also when it grows fragment by fragment.
        let mut framer = Framer::new(Unpooled, 10);
        let Space::Shared(buffer, _) = framer.space(false) else { unreachable!() };
        buffer.put_slice(b"\0\0\0\x06abcdef\0\0\0\x06abcdef");
        assert_eq!(framer.next_record(), Err(RecordError { length: 12, limit: 10 }));
    }

    #[test]
    fn large_answers_are_not_copied() {
        let records = vec![vec![1; 1 << 20], vec![2; 300], vec![3; 128 << 10], vec![4; 4096 + 200]];
        let (got, copied) = cut(&stream(&records), usize::MAX, true).unwrap();
        assert_eq!((got.len(), copied), (4, 0));
    }
}
