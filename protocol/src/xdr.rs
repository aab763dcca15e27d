//! XDR (RFC 4506): everything big-endian, everything a multiple of four bytes.
//!
//! The decoder never trusts a length: it is checked against the bytes that are there before anything is allocated.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Gfid;

/// Why bytes do not decode. `what` names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record ends inside the field.
    #[error("record ends inside {what} (at byte {at})")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Offset in the record.
        at: usize,
    },
    /// A length is beyond what the field allows.
    #[error("{what} says {length} bytes or elements, more than the {limit} allowed (at byte {at})")]
    TooLong {
        /// The field.
        what: &'static str,
        /// What the peer said.
        length: usize,
        /// What is allowed.
        limit: usize,
        /// Offset in the record.
        at: usize,
    },
    /// A number stands for nothing.
    #[error("{what} has the unknown value {value} (at byte {at})")]
    Unknown {
        /// The field.
        what: &'static str,
        /// The number.
        value: i64,
        /// Offset in the record.
        at: usize,
    },
    /// Bytes are left over where the message should end.
    #[error("{left} bytes follow the end of the message (at byte {at})")]
    Trailing {
        /// How many.
        left: usize,
        /// Offset in the record.
        at: usize,
    },
}

/// Longest string or opaque field of a message that is not file data, in bytes.
pub const MAX_OPAQUE: usize = 1 << 24;

/// Appends XDR values to a buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    buffer: BytesMut,
}

impl Encoder {
    /// An encoder with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Encoder { buffer: BytesMut::with_capacity(capacity) }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The bytes.
    pub fn finish(self) -> BytesMut {
        self.buffer
    }

    /// u32.
    pub fn u32(&mut self, value: u32) {
        self.buffer.put_u32(value);
    }

    /// i32.
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// u64.
    pub fn u64(&mut self, value: u64) {
        self.buffer.put_u64(value);
    }

    /// i64.
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// A gfid: 16 bytes, no length.
    pub fn gfid(&mut self, gfid: &Gfid) {
        self.buffer.put_slice(&gfid.0);
    }

    /// Fixed opaque, padded to four bytes.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
        self.buffer.put_bytes(0, padding(bytes.len()));
    }

    /// String or variable opaque: length, bytes, padding.
    pub fn opaque(&mut self, bytes: &[u8]) {
        // Lengths above u32 cannot occur: callers bound names and values far below.
        self.buffer.put_u32(bytes.len() as u32);
        self.fixed(bytes);
    }

    /// An opaque of `bytes` and a NUL, which the length counts: keys and texts of the typed dictionary.
    pub fn opaque_with_nul(&mut self, bytes: &[u8]) {
        let length = bytes.len() + 1;
        self.buffer.put_u32(length as u32);
        self.buffer.put_slice(bytes);
        self.buffer.put_bytes(0, 1 + padding(length));
    }

    /// Raw bytes that are XDR already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Replaces the u32 at byte `at`, written before; for lengths that are known late.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        self.buffer[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
}

/// Zero bytes that pad `length` to a multiple of four.
pub fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// Takes XDR values off the front of a record. Strings and opaques are slices of the record, not copies.
#[derive(Clone, Debug)]
pub struct Decoder {
    record: Bytes,
    at: usize,
}

impl Decoder {
    /// Decodes `record` from its start.
    pub fn new(record: Bytes) -> Self {
        Decoder { record, at: 0 }
    }

    /// Offset in the record.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.record.len() - self.at
    }

    /// All that is left, as it is: the payload of READ and WRITE.
    pub fn rest(self) -> Bytes {
        self.record.slice(self.at..)
    }

    /// Ok when nothing is left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { left, at: self.at }),
        }
    }

    /// An error that names `what` at the current place.
    pub fn unknown(&self, what: &'static str, value: i64) -> DecodeError {
        DecodeError::Unknown { what, value, at: self.at }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        match self.record.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(DecodeError::Truncated { what, at: self.at }),
        }
    }

    /// u32.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// i32.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// u64.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// i64.
    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// A gfid.
    pub fn gfid(&mut self, what: &'static str) -> Result<Gfid, DecodeError> {
        self.array(what).map(Gfid)
    }

    /// Fixed opaque of `length` bytes and its padding.
    pub fn fixed(&mut self, what: &'static str, length: usize) -> Result<Bytes, DecodeError> {
        let padded = length + padding(length);
        if self.remaining() < padded {
            return Err(DecodeError::Truncated { what, at: self.at });
        }
        let bytes = self.record.slice(self.at..self.at + length);
        self.at += padded;
        Ok(bytes)
    }

    /// String or variable opaque of at most `limit` bytes.
    pub fn opaque(&mut self, what: &'static str, limit: usize) -> Result<Bytes, DecodeError> {
        let length = self.u32(what)? as usize;
        if length > limit {
            return Err(DecodeError::TooLong { what, length, limit, at: self.at });
        }
        self.fixed(what, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_round_trip(a: u32, b: i32, c: u64, d: i64, bytes: Vec<u8>, gfid: [u8; 16]) {
            let mut encoder = Encoder::default();
            encoder.u32(a);
            encoder.i32(b);
            encoder.u64(c);
            encoder.i64(d);
            encoder.opaque(&bytes);
            encoder.gfid(&Gfid(gfid));
            prop_assert_eq!(encoder.len() % 4, 0);
            let mut decoder = Decoder::new(encoder.finish().freeze());
            prop_assert_eq!(decoder.u32("a")?, a);
            prop_assert_eq!(decoder.i32("b")?, b);
            prop_assert_eq!(decoder.u64("c")?, c);
            prop_assert_eq!(decoder.i64("d")?, d);
            let decoded = decoder.opaque("bytes", MAX_OPAQUE)?;
            prop_assert_eq!(decoded.as_ref(), &bytes[..]);
            prop_assert_eq!(decoder.gfid("gfid")?, Gfid(gfid));
            prop_assert!(decoder.finish().is_ok());
        }
    }

    #[test]
    fn a_length_is_not_trusted() {
        let mut decoder = Decoder::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]));
        assert!(matches!(decoder.opaque("name", 255), Err(DecodeError::TooLong { .. })));
        let mut decoder = Decoder::new(Bytes::from_static(&[0, 0, 0, 9, 1, 2, 3, 4]));
        assert!(matches!(decoder.opaque("name", 255), Err(DecodeError::Truncated { .. })));
    }
}
