//! The old serialized dictionary (`dict.c:dict_serialize`): untyped pairs, nothing aligned inside. The handshake, GETSPEC
//! and callbacks use it.
//!
//! On the wire the whole is one XDR opaque. Texts carry a NUL that their length counts; numbers are decimal text.

use bytes::Bytes;

use crate::xdr::{DecodeError, Decoder, Encoder, MAX_OPAQUE};

/// A dictionary, in the order of the wire (the C sender puts the newest first; the order means nothing).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OldDict {
    pairs: Vec<(Bytes, Bytes)>,
}

impl OldDict {
    /// True when there is no pair. On the wire that is the NULL dictionary, an opaque of length 0.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Sets `key` to exact bytes, replacing an older value.
    pub fn set(&mut self, key: &str, value: impl Into<Bytes>) {
        let value = value.into();
        match self.pairs.iter_mut().find(|(name, _)| name.as_ref() == key.as_bytes()) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((Bytes::copy_from_slice(key.as_bytes()), value)),
        }
    }

    /// Sets `key` to a text: adds the NUL that the wire wants.
    pub fn set_text(&mut self, key: &str, text: &str) {
        let mut value = Vec::with_capacity(text.len() + 1);
        value.extend_from_slice(text.as_bytes());
        value.push(0);
        self.set(key, value);
    }

    /// [`OldDict::set_text`] for building in one expression.
    #[must_use]
    pub fn with(mut self, key: &str, text: &str) -> Self {
        self.set_text(key, text);
        self
    }

    /// The exact bytes of `key`.
    pub fn get(&self, key: &str) -> Option<&Bytes> {
        self.pairs.iter().find(|(name, _)| name.as_ref() == key.as_bytes()).map(|(_, value)| value)
    }

    /// The text of `key`, up to its NUL; `None` when it is missing or not UTF-8.
    pub fn text(&self, key: &str) -> Option<&str> {
        let value = self.get(key)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok()
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.pairs.iter().map(|(key, value)| (key, value))
    }

    /// Appends the dictionary as an opaque.
    pub fn encode(&self, encoder: &mut Encoder) {
        if self.pairs.is_empty() {
            return encoder.u32(0);
        }
        let start = encoder.len();
        encoder.u32(0);
        encoder.u32(self.pairs.len() as u32);
        for (key, value) in &self.pairs {
            encoder.u32(key.len() as u32);
            encoder.u32(value.len() as u32);
            encoder.raw(key);
            encoder.raw(&[0]);
            encoder.raw(value);
        }
        let length = encoder.len() - start - 4;
        encoder.patch_u32(start, length as u32);
        encoder.raw(&[0; 3][..crate::xdr::padding(length)]);
    }

    /// Decodes the opaque and what is in it. Memory is bounded by the bytes that are there.
    ///
    /// # Errors
    /// When a length leads outside, or bytes are left over.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let blob = decoder.opaque("dictionary", MAX_OPAQUE)?;
        if blob.is_empty() {
            return Ok(OldDict::default());
        }
        let mut reader = Reader { blob, at: 0 };
        let count = reader.length("pairs of the dictionary")?;
        // Every pair takes at least its two lengths and a NUL.
        let limit = reader.blob.len() / 9;
        if count > limit {
            return Err(DecodeError::TooLong { what: "pairs of the dictionary", length: count, limit, at: reader.at });
        }
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let key = reader.length("dictionary key")?;
            let value = reader.length("dictionary value")?;
            let name = reader.take("dictionary key", key)?;
            reader.take("dictionary key", 1)?;
            pairs.push((name, reader.take("dictionary value", value)?));
        }
        // What is behind the last pair is ignored, as C does.
        Ok(OldDict { pairs })
    }
}

/// Unaligned reading, which XDR does not know.
struct Reader {
    blob: Bytes,
    at: usize,
}

impl Reader {
    fn take(&mut self, what: &'static str, length: usize) -> Result<Bytes, DecodeError> {
        if self.blob.len() - self.at < length {
            return Err(DecodeError::Truncated { what, at: self.at });
        }
        self.at += length;
        Ok(self.blob.slice(self.at - length..self.at))
    }

    fn length(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        match self.blob[self.at..].first_chunk::<4>() {
            Some(bytes) => {
                self.at += 4;
                Ok(u32::from_be_bytes(*bytes) as usize)
            }
            None => Err(DecodeError::Truncated { what, at: self.at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(pairs in prop::collection::btree_map("[a-z.-]{1,20}", prop::collection::vec(any::<u8>(), 0..50), 0..12)) {
            let mut dict = OldDict::default();
            for (key, value) in &pairs {
                dict.set(key, value.clone());
            }
            let mut encoder = Encoder::default();
            dict.encode(&mut encoder);
            prop_assert_eq!(encoder.len() % 4, 0);
            let mut decoder = Decoder::new(encoder.finish().freeze());
            prop_assert_eq!(OldDict::decode(&mut decoder).unwrap(), dict);
            prop_assert!(decoder.finish().is_ok());
        }

        #[test]
        fn noise_is_no_panic(noise: Vec<u8>) {
            let mut encoder = Encoder::default();
            encoder.opaque(&noise);
            let _ = OldDict::decode(&mut Decoder::new(encoder.finish().freeze()));
            let _ = OldDict::decode(&mut Decoder::new(noise.into()));
        }
    }

    #[test]
    fn a_count_is_not_trusted() {
        let blob = Bytes::from_static(&[0, 0, 0, 8, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert!(matches!(OldDict::decode(&mut Decoder::new(blob)), Err(DecodeError::TooLong { .. })));
    }

    #[test]
    fn texts_lose_their_nul() {
        let mut dict = OldDict::default().with("child_up", "1");
        dict.set("raw", &b"\xff"[..]);
        assert_eq!((dict.text("child_up"), dict.get("child_up").unwrap().as_ref()), (Some("1"), &b"1\0"[..]));
        assert_eq!((dict.text("raw"), dict.text("none")), (None, None));
        assert_eq!(dict.with("child_up", "0").text("child_up"), Some("0"));
    }
}
