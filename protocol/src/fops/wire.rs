//! What a message is made of: fields that know how to write themselves to the wire and read themselves back.

use bytes::Bytes;

use crate::xdr::{DecodeError, Decoder, Encoder, padding};
use crate::{Dict, Gfid, Iatt};

/// Longest name, path or symbolic link target of a message, in bytes. Linux' `PATH_MAX` is far below.
pub const MAX_STRING: usize = 1 << 16;

/// A field of a message, or a whole message: a list of fields.
pub trait Wire: Sized {
    /// Appends the value.
    fn encode(&self, encoder: &mut Encoder);

    /// Takes a value; `what` names it in errors.
    fn decode(decoder: &mut Decoder, what: &'static str) -> Result<Self, DecodeError>;

    /// Bytes that [`Wire::encode`] appends, so that a message is written with one allocation.
    fn encoded_len(&self) -> usize;
}

macro_rules! scalars {
    ($($type:ident: $size:literal),*) => {
        $(impl Wire for $type {
            fn encode(&self, encoder: &mut Encoder) {
                encoder.$type(*self);
            }

            fn decode(decoder: &mut Decoder, what: &'static str) -> Result<Self, DecodeError> {
                decoder.$type(what)
            }

            fn encoded_len(&self) -> usize {
                $size
            }
        })*
    };
}

scalars! { u32: 4, i32: 4, u64: 8, i64: 8 }

impl Wire for Gfid {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.gfid(self);
    }

    fn decode(decoder: &mut Decoder, what: &'static str) -> Result<Self, DecodeError> {
        decoder.gfid(what)
    }

    fn encoded_len(&self) -> usize {
        16
    }
}

/// Sixteen bytes that are no gfid: a lease's id.
impl Wire for [u8; 16] {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.fixed(self);
    }

    fn decode(decoder: &mut Decoder, what: &'static str) -> Result<Self, DecodeError> {
        Ok(decoder.gfid(what)?.0)
    }

    fn encoded_len(&self) -> usize {
        16
    }
}

/// A name, path or short opaque, without NUL.
impl Wire for Bytes {
    fn encode(&self, encoder: &mut Encoder) {
        encoder.opaque(self);
    }

    fn decode(decoder: &mut Decoder, what: &'static str) -> Result<Self, DecodeError> {
        decoder.opaque(what, MAX_STRING)
    }

    fn encoded_len(&self) -> usize {
        4 + self.len() + padding(self.len())
    }
}

impl Wire for Dict {
    fn encode(&self, encoder: &mut Encoder) {
        Dict::encode(self, encoder);
    }

    fn decode(decoder: &mut Decoder, _what: &'static str) -> Result<Self, DecodeError> {
        Dict::decode(decoder)
    }

    fn encoded_len(&self) -> usize {
        Dict::encoded_len(self)
    }
}

impl Wire for Iatt {
    fn encode(&self, encoder: &mut Encoder) {
        Iatt::encode(self, encoder);
    }

    fn decode(decoder: &mut Decoder, _what: &'static str) -> Result<Self, DecodeError> {
        Iatt::decode(decoder)
    }

    fn encoded_len(&self) -> usize {
        Iatt::ENCODED_LEN
    }
}
