//! The small structures of fops on the wire: locks, leases, file system figures, and the chained lists.
//!
//! A list is a chain of XDR optionals: a word 1 before each element and a word 0 at the end (`gfx_dirlist`,
//! `gfs3_locklist`). Chains are read by iteration: the peer decides how long they are, so recursion would hand it our stack.

use bytes::Bytes;

use super::wire::Wire;
use crate::types::{ActiveLock, Dirent, DirentPlus, Flock, Lease, LockOwner, LockType, Statfs};
use crate::xdr::{DecodeError, Decoder, Encoder};
use crate::{Dict, Iatt};

/// Longest lock owner in bytes (`GF_MAX_LOCK_OWNER_LEN`).
pub const MAX_LOCK_OWNER: usize = 1024;
/// Most elements of a list. A brick clamps a directory listing to about 600 entries.
pub const MAX_LIST: usize = 1 << 18;

impl Wire for LockOwner {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.opaque(&self.0);
    }

    fn decode(decoder: &mut Decoder, what: &'static str) -> Result<Self, DecodeError> {
        Ok(LockOwner(decoder.opaque(what, MAX_LOCK_OWNER)?.as_ref().into()))
    }

    fn encoded_len(&self) -> usize {
        4 + self.0.len().next_multiple_of(4)
    }
}

/// Declares the wire form of a structure: its fields, in order.
macro_rules! structure {
    ($type:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        impl Wire for $type {
            fn encode(&self, encoder: &mut Encoder) {
                $(self.$field.encode(encoder);)*
            }

            fn decode(decoder: &mut Decoder, _what: &'static str) -> Result<Self, DecodeError> {
                $(let $field = <$kind as Wire>::decode(decoder, concat!(stringify!($type), ".", stringify!($field)))?;)*
                Ok($type { $($field),* })
            }

            fn encoded_len(&self) -> usize {
                0 $(+ self.$field.encoded_len())*
            }
        }
    };
}

structure! { Flock { kind: LockType, whence: u32, start: u64, len: u64, pid: u32, owner: LockOwner } }
structure! { Lease { cmd: u32, kind: u32, id: [u8; 16], flags: u32 } }
structure! { Statfs {
    bsize: u64, frsize: u64, blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, favail: u64, fsid: u64,
    flag: u64, namemax: u64,
} }
structure! { DirentPlus { entry: Dirent, stat: Iatt, xdata: Dict } }
structure! { ActiveLock { flock: Flock, client_uid: Bytes, lk_flags: u32 } }

impl Wire for Dirent {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.u64(self.ino);
        encoder.u64(self.offset);
        encoder.u32(self.name.len() as u32);
        encoder.u32(self.kind);
        encoder.opaque(&self.name);
    }

    fn decode(decoder: &mut Decoder, _what: &'static str) -> Result<Self, DecodeError> {
        let ino = decoder.u64("Dirent.ino")?;
        let offset = decoder.u64("Dirent.offset")?;
        // The name's own length word counts; `d_len` repeats it.
        decoder.u32("Dirent.len")?;
        let kind = decoder.u32("Dirent.kind")?;
        let name = Bytes::decode(decoder, "Dirent.name")?;
        Ok(Dirent { ino, offset, kind, name })
    }

    fn encoded_len(&self) -> usize {
        24 + self.name.encoded_len()
    }
}

/// A chain of elements.
impl<T: Wire> Wire for Vec<T> {
    fn encode(&self, encoder: &mut Encoder) {
        for element in self {
            encoder.u32(1);
            element.encode(encoder);
        }
        encoder.u32(0);
    }

    fn decode(decoder: &mut Decoder, what: &'static str) -> Result<Self, DecodeError> {
        let mut elements = Vec::new();
        loop {
            match decoder.u32(what)? {
                0 => return Ok(elements),
                1 if elements.len() < MAX_LIST => elements.push(T::decode(decoder, what)?),
                1 => {
                    let at = decoder.position();
                    return Err(DecodeError::TooLong { what, length: MAX_LIST + 1, limit: MAX_LIST, at });
                }
                other => return Err(decoder.unknown(what, i64::from(other))),
            }
        }
    }

    fn encoded_len(&self) -> usize {
        4 + self.iter().map(|element| 4 + element.encoded_len()).sum::<usize>()
    }
}

impl Flock {
    /// No lock: what a failed LK carries.
    pub fn none() -> Self {
        Flock { kind: LockType::Unlock, whence: 0, start: 0, len: 0, pid: 0, owner: LockOwner::default() }
    }
}
