//! The changelog: what each copy knows of operations that others missed, in extended attributes on the bricks.
//!
//! Every copy has one value per child, `trusted.afr.<id>`, and one `trusted.afr.dirty`. A value is three counters: data,
//! metadata, entry. A counter of the copy at child `i` for child `j` that is not zero accuses `j` of having missed
//! something; a dirty counter says that an operation began and was not confirmed to have ended. They change by XATTROP
//! only, which adds on the brick: never by absolute values, for others add to them at the same time.

use bytes::Bytes;
use rgfs_protocol::{Dict, Value};
use smallvec::SmallVec;

use super::child_set::ChildSet;

/// What an operation changes, and which counter notes it (`afr_transaction_type`). Renames count as `Entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Content of a file. On a directory: its entry heal must look at everything.
    Data,
    /// Attributes and extended attributes.
    Metadata,
    /// Names in a directory.
    Entry,
}

impl Kind {
    /// Index of the counter.
    pub fn index(self) -> usize {
        match self {
            Kind::Data => 0,
            Kind::Metadata => 1,
            Kind::Entry => 2,
        }
    }
}

/// The counters of one changelog value: data, metadata, entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Counters(pub [i32; 3]);

impl Counters {
    /// All zero: asks for the value without changing it.
    pub const ZERO: Counters = Counters([0; 3]);

    /// `amount` at the counter of `kind`.
    pub fn of(kind: Kind, amount: i32) -> Self {
        let mut counters = Self::ZERO;
        counters.0[kind.index()] = amount;
        counters
    }

    /// The counter of `kind`.
    pub fn get(self, kind: Kind) -> i32 {
        self.0[kind.index()]
    }

    /// True when nothing is counted.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 3]
    }

    /// As on disk and on the wire: big-endian.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (slot, counter) in bytes.chunks_exact_mut(4).zip(self.0) {
            slot.copy_from_slice(&counter.to_be_bytes());
        }
        bytes
    }

    /// From disk or wire. A value of another length is none of ours, and counts as zero as it does upstream.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut counters = Self::ZERO;
        if bytes.len() == 12 {
            for (counter, slot) in counters.0.iter_mut().zip(bytes.chunks_exact(4)) {
                *counter = slot.try_into().map_or(0, i32::from_be_bytes);
            }
        }
        counters
    }
}

/// The changelog of one copy: a row of the matrix "who accuses whom".
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Marks {
    /// Counters for each child, by index.
    pub pending: SmallVec<[Counters; 3]>,
    /// Begun and not confirmed.
    pub dirty: Counters,
}

impl Marks {
    /// The children that this copy accuses for `kind`.
    pub fn accused(&self, kind: Kind) -> ChildSet {
        let accused = self.pending.iter().enumerate().filter(|(_, counters)| counters.get(kind) != 0);
        accused.map(|(index, _)| index).collect()
    }

    /// True when any child is accused of anything.
    pub fn accuses(&self) -> bool {
        self.pending.iter().any(|counters| !counters.is_zero())
    }
}

/// The names of a replicate's changelog values.
#[derive(Clone, Debug)]
pub struct Keys {
    /// One per child, in the order of children (`trusted.afr.<id>`).
    pub pending: Vec<Bytes>,
    /// `trusted.afr.dirty`.
    pub dirty: Bytes,
}

impl Keys {
    /// `ids` as of the option `afr-pending-xattr`, one per child.
    pub fn new<'a>(ids: impl IntoIterator<Item = &'a str>, dirty: &str) -> Self {
        Keys {
            pending: ids.into_iter().map(|id| Bytes::from(format!("trusted.afr.{id}"))).collect(),
            dirty: Bytes::copy_from_slice(dirty.as_bytes()),
        }
    }

    /// Asks a LOOKUP or FSTAT for all values. The brick ignores what is asked with.
    pub fn request(&self, mut xdata: Dict) -> Dict {
        for key in self.pending.iter().chain([&self.dirty]) {
            xdata.set(key.clone(), Value::Uint(12));
        }
        xdata
    }

    /// The argument of an XATTROP. Every pending key is in it, with zeros where nothing changes: the brick's index would
    /// forget the file if the keys that it sees were all zero. Without `dirty` that key is left out.
    pub fn delta(&self, pending: impl Fn(usize) -> Counters, dirty: Option<Counters>) -> Dict {
        let mut dict = Dict::empty();
        if let Some(dirty) = dirty {
            dict.push(self.dirty.clone(), Value::Ptr(Bytes::copy_from_slice(&dirty.to_bytes())));
        }
        for (index, key) in self.pending.iter().enumerate() {
            #[cfg(test)]
            if index == 1 && super::planted::is_planted(super::planted::Fault::DropPendingKey) {
                continue;
            }
            dict.push(key.clone(), Value::Ptr(Bytes::copy_from_slice(&pending(index).to_bytes())));
        }
        dict
    }

    /// The argument of an XATTROP that accuses nobody and only says that something was begun. No pending key is in it, not
    /// even with zeros: the index would forget the file if all that it sees were zero.
    pub fn only_dirty(&self, dirty: Counters) -> Dict {
        let mut dict = Dict::empty();
        dict.push(self.dirty.clone(), Value::Ptr(Bytes::copy_from_slice(&dirty.to_bytes())));
        dict
    }

    /// The changelog in the answer of a LOOKUP, FSTAT or XATTROP.
    pub fn read(&self, answer: &Dict) -> Marks {
        let mut marks =
            Marks { pending: smallvec::smallvec![Counters::ZERO; self.pending.len()], dirty: Counters::ZERO };
        for (key, value) in answer.iter() {
            let Value::Ptr(bytes) = value else { continue };
            if *key == self.dirty {
                marks.dirty = Counters::from_bytes(bytes);
            } else if let Some(index) = self.pending.iter().position(|pending| pending == key)
                && let Some(slot) = marks.pending.get_mut(index)
            {
                *slot = Counters::from_bytes(bytes);
            }
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_endian_on_the_wire() {
        let counters = Counters([1, -2, 256]);
        assert_eq!(counters.to_bytes(), [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0, 0, 1, 0]);
        assert_eq!(Counters::from_bytes(&counters.to_bytes()), counters);
        assert_eq!(Counters::from_bytes(b"short"), Counters::ZERO);
    }

    #[test]
    fn a_delta_names_every_child() {
        let keys = Keys::new(["v-client-0", "v-client-1", "v-client-2"], "trusted.afr.dirty");
        let pending = |index| if index == 2 { Counters::of(Kind::Data, 1) } else { Counters::ZERO };
        let delta = keys.delta(pending, Some(Counters::of(Kind::Data, -1)));
        assert_eq!(delta.len(), 4);
        let marks = keys.read(&delta);
        assert_eq!(marks.accused(Kind::Data), ChildSet::one(2));
        assert_eq!(marks.accused(Kind::Metadata), ChildSet::EMPTY);
        assert_eq!(marks.dirty, Counters([-1, 0, 0]));
        assert_eq!(keys.delta(pending, None).len(), 3);
        assert_eq!(keys.request(Dict::NULL).len(), 4);
    }
}
