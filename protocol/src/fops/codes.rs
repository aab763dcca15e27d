//! Code numbers: what the wire calls each kind of lock, command and operation.
//!
//! Each is mapped, never cast, so that the order of a Rust enum means nothing.

use super::wire::Wire;
use crate::types::{EntrylkCmd, EntrylkType, InodelkCmd, LkCmd, LockType, SeekWhat, XattropFlags};
use crate::xdr::{DecodeError, Decoder, Encoder};

macro_rules! codes {
    ($($type:ident { $($number:literal = $variant:ident),* $(,)? })*) => {
        $(impl $type {
            /// The number of the wire.
            pub fn to_wire(self) -> u32 {
                match self {
                    $($type::$variant => $number,)*
                }
            }

            /// From the number of the wire; `None` for one that stands for nothing.
            pub fn from_wire(number: u32) -> Option<Self> {
                match number {
                    $($number => Some($type::$variant),)*
                    _ => None,
                }
            }
        }

        impl Wire for $type {
            fn encode(&self, encoder: &mut Encoder) {
                encoder.u32(self.to_wire());
            }

            fn decode(decoder: &mut Decoder, what: &'static str) -> Result<Self, DecodeError> {
                let number = decoder.u32(what)?;
                Self::from_wire(number).ok_or_else(|| decoder.unknown(what, i64::from(number)))
            }

            fn encoded_len(&self) -> usize {
                4
            }
        }

        #[cfg(test)]
        impl $type {
            /// Every variant, in the order of the wire.
            pub(crate) const ALL: &'static [$type] = &[$($type::$variant),*];
        })*
    };
}

codes! {
    LockType { 0 = Read, 1 = Write, 2 = Unlock }
    LkCmd {
        0 = GetLk,
        1 = SetLk,
        2 = SetLkW,
        3 = ReserveLock,
        4 = ReserveLockW,
        5 = ReserveUnlock,
        6 = GetLkFd,
    }
    InodelkCmd { 1 = SetLk, 2 = SetLkW }
    EntrylkCmd { 0 = Lock, 1 = Unlock, 2 = LockNonBlocking }
    EntrylkType { 0 = Read, 1 = Write }
    XattropFlags {
        0 = AddArray,
        1 = AddArray64,
        2 = OrArray,
        3 = AndArray,
        4 = GetAndSet,
        5 = AddArrayWithDefault,
        6 = AddArray64WithDefault,
    }
    SeekWhat { 0 = Data, 1 = Hole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_unknown_ones_are_refused() {
        for kind in LockType::ALL {
            assert_eq!(LockType::from_wire(kind.to_wire()), Some(*kind));
        }
        for flags in XattropFlags::ALL {
            assert_eq!(XattropFlags::from_wire(flags.to_wire()), Some(*flags));
        }
        assert_eq!(LockType::from_wire(3), None);
        assert_eq!(InodelkCmd::from_wire(0), None);
        assert_eq!(SeekWhat::from_wire(4), None);
    }
}
