//! The typed dictionary `gfx_dict`: named values that travel with every fop, both ways (`xdata`).

use bytes::Bytes;

use crate::xdr::{DecodeError, Decoder, Encoder, MAX_OPAQUE, padding};
use crate::{Gfid, Iatt, Time};

/// A value of a dictionary, with the type numbers of `dict.h`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Type 1: untyped bytes that came from an old peer.
    StrOld(Bytes),
    /// Type 2: any signed integer.
    Int(i64),
    /// Type 3: any unsigned integer.
    Uint(u64),
    /// Type 4.
    Double(f64),
    /// Type 5: text. On the wire with a trailing NUL, here exactly the bytes of the wire; see [`Value::str`].
    Str(Bytes),
    /// Type 6: exact bytes; every xattr value is one.
    Ptr(Bytes),
    /// Type 7.
    Gfuuid(Gfid),
    /// Type 8.
    Iatt(Box<Iatt>),
    /// Type 9: the three times of `set-ctime-mdata`.
    Mdata(Mdata),
}

/// Times of the `set-ctime-mdata` request (type 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Mdata {
    /// Access time.
    pub atime: Time,
    /// Content change time.
    pub mtime: Time,
    /// Inode change time.
    pub ctime: Time,
}

impl Value {
    /// A text value: adds the NUL that the wire wants.
    pub fn str(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        Value::Str(bytes.into())
    }

    /// The bytes of a text or binary value, without the NUL of a text. `None` for other types.
    pub fn as_bytes(&self) -> Option<Bytes> {
        match self {
            Value::Ptr(bytes) => Some(bytes.clone()),
            Value::Str(bytes) | Value::StrOld(bytes) => {
                Some(bytes.strip_suffix(b"\0").map_or_else(|| bytes.clone(), |text| bytes.slice_ref(text)))
            }
            Value::Gfuuid(gfid) => Some(Bytes::copy_from_slice(&gfid.0)),
            _ => None,
        }
    }

    /// An integer, whatever its width or sign; decimal text counts, as it does for the C dictionary.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Uint(number) => i64::try_from(*number).ok(),
            Value::Str(_) | Value::StrOld(_) => std::str::from_utf8(&self.as_bytes()?).ok()?.trim().parse().ok(),
            _ => None,
        }
    }
}

/// A dictionary: pairs in the order of the wire. The default one is NULL, which is not the same as empty on the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Dict {
    pairs: Vec<(Bytes, Value)>,
    null: bool,
}

impl Default for Dict {
    fn default() -> Self {
        Self::NULL
    }
}

impl Dict {
    /// The NULL dictionary: what to send when there is nothing to say. Allocates nothing.
    pub const NULL: Dict = Dict { pairs: Vec::new(), null: true };

    /// An empty dictionary that is not NULL.
    pub fn empty() -> Self {
        Dict { pairs: Vec::new(), null: false }
    }

    /// True for the NULL dictionary.
    pub fn is_null(&self) -> bool {
        self.null
    }

    /// True when there is no pair.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Sets `key`, replacing an older value.
    pub fn set(&mut self, key: impl Into<Bytes>, value: Value) {
        let key = key.into();
        self.null = false;
        match self.pairs.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((key, value)),
        }
    }

    /// [`Dict::set`] for building in one expression.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: Value) -> Self {
        self.set(Bytes::from_static(key.as_bytes()), value);
        self
    }

    /// Adds a pair without looking for an older one; for decoders.
    pub fn push(&mut self, key: Bytes, value: Value) {
        self.null = false;
        self.pairs.push((key, value));
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|(name, _)| name.as_ref() == key.as_bytes()).map(|(_, value)| value)
    }

    /// True when `key` is there.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.pairs.iter().position(|(name, _)| name.as_ref() == key.as_bytes())?;
        Some(self.pairs.remove(at).1)
    }

    /// Keeps the pairs for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &Value) -> bool) {
        self.pairs.retain(|(name, value)| keep(name, value));
    }

    /// The pairs, in order. Keys have no NUL here.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Value)> {
        self.pairs.iter().map(|(name, value)| (name, value))
    }

    /// The bytes of a text or binary value; see [`Value::as_bytes`].
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        self.get(key)?.as_bytes()
    }

    /// An integer value; see [`Value::as_int`].
    pub fn int(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_int()
    }
}

/// Most pairs of a dictionary. A file's xattrs, listed in one reply, stay far below.
pub const MAX_PAIRS: usize = 1 << 16;
/// Longest key in bytes, its NUL included. An xattr's name has at most 255.
pub const MAX_KEY: usize = 1 << 12;

impl Dict {
    /// Bytes on the wire.
    pub fn encoded_len(&self) -> usize {
        12 + self.pairs.iter().map(|(key, value)| opaque_len(key.len() + 1) + 4 + value.encoded_len()).sum::<usize>()
    }

    /// Appends a `gfx_dict`: size of the pairs in bytes, count (−1 for NULL), number of pairs, pairs.
    ///
    /// The size must be right: a brick cuts a WRITE into header and payload with it.
    pub fn encode(&self, encoder: &mut Encoder) {
        let size_at = encoder.len();
        encoder.u32(0);
        encoder.i32(if self.null { -1 } else { self.pairs.len() as i32 });
        encoder.u32(self.pairs.len() as u32);
        let start = encoder.len();
        for (key, value) in &self.pairs {
            encoder.opaque_with_nul(key);
            value.encode(encoder);
        }
        encoder.patch_u32(size_at, (encoder.len() - start) as u32);
    }

    /// Takes a `gfx_dict`. Its size word is not needed and not believed; a negative count makes it NULL whatever follows.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        decoder.u32("dict.xdr_size")?;
        let count = decoder.i32("dict.count")?;
        let length = decoder.u32("dict.pairs")? as usize;
        if length > MAX_PAIRS {
            let at = decoder.position();
            return Err(DecodeError::TooLong { what: "dict.pairs", length, limit: MAX_PAIRS, at });
        }
        // A pair has at least 16 bytes: what the record cannot hold is not allocated.
        let mut pairs = Vec::with_capacity(length.min(decoder.remaining() / 16));
        for _ in 0..length {
            let mut key = decoder.opaque("dict.key", MAX_KEY)?;
            if key.last() == Some(&0) {
                key.truncate(key.len() - 1);
            }
            pairs.push((key, Value::decode(decoder)?));
        }
        if count < 0 {
            return Ok(Dict::NULL);
        }
        Ok(Dict { pairs, null: false })
    }
}

/// Bytes of an XDR opaque of `length` bytes.
fn opaque_len(length: usize) -> usize {
    4 + length + padding(length)
}

impl Value {
    fn encoded_len(&self) -> usize {
        match self {
            Value::Int(_) | Value::Uint(_) | Value::Double(_) => 8,
            Value::StrOld(bytes) | Value::Str(bytes) | Value::Ptr(bytes) => opaque_len(bytes.len()),
            Value::Gfuuid(_) => 16,
            Value::Iatt(_) => Iatt::ENCODED_LEN,
            Value::Mdata(_) => 36,
        }
    }

    /// Appends type number and value.
    fn encode(&self, encoder: &mut Encoder) {
        match self {
            Value::StrOld(bytes) => {
                encoder.i32(1);
                encoder.opaque(bytes);
            }
            Value::Int(number) => {
                encoder.i32(2);
                encoder.i64(*number);
            }
            Value::Uint(number) => {
                encoder.i32(3);
                encoder.u64(*number);
            }
            Value::Double(number) => {
                encoder.i32(4);
                encoder.u64(number.to_bits());
            }
            Value::Str(bytes) => {
                encoder.i32(5);
                encoder.opaque(bytes);
            }
            Value::Ptr(bytes) => {
                encoder.i32(6);
                encoder.opaque(bytes);
            }
            Value::Gfuuid(gfid) => {
                encoder.i32(7);
                encoder.gfid(gfid);
            }
            Value::Iatt(iatt) => {
                encoder.i32(8);
                iatt.encode(encoder);
            }
            Value::Mdata(mdata) => {
                encoder.i32(9);
                mdata.encode(encoder);
            }
        }
    }

    /// Takes type number and value. An unknown type cannot be skipped: its length is not known.
    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        const WHAT: &str = "dict.value";
        Ok(match decoder.i32("dict.type")? {
            1 => Value::StrOld(decoder.opaque(WHAT, MAX_OPAQUE)?),
            2 => Value::Int(decoder.i64(WHAT)?),
            3 => Value::Uint(decoder.u64(WHAT)?),
            4 => Value::Double(f64::from_bits(decoder.u64(WHAT)?)),
            5 => Value::Str(decoder.opaque(WHAT, MAX_OPAQUE)?),
            6 => Value::Ptr(decoder.opaque(WHAT, MAX_OPAQUE)?),
            7 => Value::Gfuuid(decoder.gfid(WHAT)?),
            8 => Value::Iatt(Box::new(Iatt::decode(decoder)?)),
            9 => Value::Mdata(Mdata::decode(decoder)?),
            unknown => return Err(decoder.unknown("dict.type", i64::from(unknown))),
        })
    }
}

impl Mdata {
    fn encode(&self, encoder: &mut Encoder) {
        for time in [self.atime, self.mtime, self.ctime] {
            encoder.i64(time.sec);
        }
        for time in [self.atime, self.mtime, self.ctime] {
            encoder.u32(time.nsec);
        }
    }

    fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        const WHAT: &str = "dict.mdata";
        let [atime, mtime, ctime] = [decoder.i64(WHAT)?, decoder.i64(WHAT)?, decoder.i64(WHAT)?];
        Ok(Mdata {
            atime: Time { sec: atime, nsec: decoder.u32(WHAT)? },
            mtime: Time { sec: mtime, nsec: decoder.u32(WHAT)? },
            ctime: Time { sec: ctime, nsec: decoder.u32(WHAT)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(dict: &Dict) -> Bytes {
        let mut encoder = Encoder::default();
        dict.encode(&mut encoder);
        assert_eq!(encoder.len(), dict.encoded_len());
        encoder.finish().freeze()
    }

    fn decode(bytes: &[u8]) -> Result<Dict, DecodeError> {
        Dict::decode(&mut Decoder::new(Bytes::copy_from_slice(bytes)))
    }

    #[test]
    fn null_and_empty_differ() {
        let null = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(encode(&Dict::NULL).as_ref(), null);
        assert_eq!(encode(&Dict::empty()).as_ref(), [0; 12]);
        assert!(decode(&null).unwrap().is_null());
        assert!(!decode(&[0; 12]).unwrap().is_null());
    }

    #[test]
    fn keys_and_texts_carry_their_nul_and_gfids_no_length() {
        let dict = Dict::NULL.with("gfid-req", Value::Gfuuid(Gfid::ROOT)).with("a", Value::str("yes"));
        let bytes = encode(&dict);
        assert_eq!(bytes[..12], [0, 0, 0, 36 + 20, 0, 0, 0, 2, 0, 0, 0, 2]);
        assert_eq!(bytes[12..28], *b"\0\0\0\x09gfid-req\0\0\0\0");
        assert_eq!(bytes[28..32], [0, 0, 0, 7]);
        assert_eq!(bytes[48..], *b"\0\0\0\x02a\0\0\0\0\0\0\x05\0\0\0\x04yes\0");
        assert_eq!(decode(&bytes).unwrap(), dict);
    }

    #[test]
    fn a_negative_count_makes_null_and_unknown_types_are_refused() {
        let mut bytes = encode(&Dict::NULL.with("a", Value::Int(1))).to_vec();
        bytes[4..8].copy_from_slice(&(-1i32).to_be_bytes());
        assert!(decode(&bytes).unwrap().is_null());
        bytes[20..24].copy_from_slice(&10i32.to_be_bytes());
        assert!(matches!(decode(&bytes), Err(DecodeError::Unknown { what: "dict.type", value: 10, .. })));
    }

    #[test]
    fn a_count_that_the_record_cannot_hold_allocates_nothing() {
        assert!(matches!(decode(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xff, 0xff]), Err(DecodeError::Truncated { .. })));
        assert!(matches!(decode(&[0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0]), Err(DecodeError::TooLong { .. })));
    }
}
