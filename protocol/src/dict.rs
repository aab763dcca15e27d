//! The typed dictionary `gfx_dict`: named values that travel with every fop, both ways (`xdata`).

use bytes::Bytes;

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
