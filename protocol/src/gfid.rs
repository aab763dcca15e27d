//! The gfid: the 128-bit identity of an inode, the same on every brick of a volume.

use std::fmt;

/// Identity of an inode in a volume: a UUID in RFC 4122 byte order (`uuid_t gfid` of GlusterFS).
///
/// The client invents the gfid of everything that it creates (`gfid-req`), and sends the same one to every brick.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Gfid(pub [u8; 16]);

impl Gfid {
    /// The absent gfid: all zero.
    pub const NULL: Gfid = Gfid([0; 16]);
    /// The root of every volume: `00000000-0000-0000-0000-000000000001`.
    pub const ROOT: Gfid = Gfid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// True for the absent gfid.
    pub fn is_null(&self) -> bool {
        self.0 == [0; 16]
    }

    /// True for the root of the volume.
    pub fn is_root(&self) -> bool {
        *self == Self::ROOT
    }

    /// The inode number that every GlusterFS client shows: the last eight bytes, big-endian
    /// (`common-utils.c:gfid_to_ino`). Not an identity: two gfids may share it.
    pub fn ino(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// A random (version 4) gfid made from 16 random bytes.
    pub fn from_random(mut random: [u8; 16]) -> Self {
        random[6] = (random[6] & 0x0f) | 0x40;
        random[8] = (random[8] & 0x3f) | 0x80;
        Gfid(random)
    }

    /// Reads the usual text form, 36 characters with dashes. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut out = [0u8; 16];
        let mut nibbles = 0usize;
        for (position, byte) in bytes.iter().enumerate() {
            if matches!(position, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return None;
                }
                continue;
            }
            let digit = (*byte as char).to_digit(16)? as u8;
            out[nibbles / 2] = (out[nibbles / 2] << 4) | digit;
            nibbles += 1;
        }
        Some(Gfid(out))
    }
}

impl fmt::Display for Gfid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Gfid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let gfid = Gfid::from_random([7; 16]);
        assert_eq!(Gfid::parse(&gfid.to_string()), Some(gfid));
        assert_eq!(Gfid::ROOT.to_string(), "00000000-0000-0000-0000-000000000001");
        assert_eq!(Gfid::parse("00000000-0000-0000-0000_000000000001"), None);
        assert_eq!(Gfid::parse(""), None);
    }

    #[test]
    fn ino_is_the_low_half() {
        assert_eq!(Gfid::ROOT.ino(), 1);
        assert_eq!(Gfid([0xff; 16]).ino(), u64::MAX);
    }
}
