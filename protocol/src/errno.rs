//! Error numbers of the wire.
//!
//! The wire's "GF error code" equals the Linux number for 1..=511 (`compat-errno.c`); everything else becomes `EIO`.

use std::fmt;

/// An error number, always one of Linux' user-visible ones (1..=511).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident = $number:literal;)*) => {
        impl Errno {
            $(#[doc = concat!("Linux `", stringify!($name), "`.")]
            pub const $name: Errno = Errno($number);)*

            /// The symbolic name, where this crate knows one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1;
    ENOENT = 2;
    EINTR = 4;
    EIO = 5;
    ENXIO = 6;
    E2BIG = 7;
    EBADF = 9;
    EAGAIN = 11;
    ENOMEM = 12;
    EACCES = 13;
    EBUSY = 16;
    EEXIST = 17;
    EXDEV = 18;
    ENODEV = 19;
    ENOTDIR = 20;
    EISDIR = 21;
    EINVAL = 22;
    ENFILE = 23;
    EMFILE = 24;
    ENOTTY = 25;
    ETXTBSY = 26;
    EFBIG = 27;
    ENOSPC = 28;
    ESPIPE = 29;
    EROFS = 30;
    EMLINK = 31;
    ERANGE = 34;
    EDEADLK = 35;
    ENAMETOOLONG = 36;
    ENOLCK = 37;
    ENOSYS = 38;
    ENOTEMPTY = 39;
    ELOOP = 40;
    ENODATA = 61;
    EREMOTE = 66;
    EPROTO = 71;
    EOVERFLOW = 75;
    EBADFD = 77;
    EOPNOTSUPP = 95;
    ECONNABORTED = 103;
    ECONNRESET = 104;
    ENOTCONN = 107;
    ETIMEDOUT = 110;
    ECONNREFUSED = 111;
    EHOSTUNREACH = 113;
    ESTALE = 116;
    EDQUOT = 122;
    ECANCELED = 125;
}

impl Errno {
    /// Maps a number from the wire: outside 1..=511 it is `EIO` (kernel-internal numbers, other systems' inventions,
    /// "unknown", and failures that carry 0).
    pub fn from_wire(number: i32) -> Self {
        match u16::try_from(number) {
            Ok(number @ 1..=511) => Errno(number),
            _ => Errno::EIO,
        }
    }

    /// The Linux number.
    pub fn raw(self) -> i32 {
        i32::from(self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_numbers_become_eio() {
        assert_eq!(Errno::from_wire(2), Errno::ENOENT);
        for odd in [0, -1, 512, 1024, i32::MIN, i32::MAX] {
            assert_eq!(Errno::from_wire(odd), Errno::EIO);
        }
    }
}
