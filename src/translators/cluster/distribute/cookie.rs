//! Directory cookies (`d_off`): where a listing stands, as one number that fits a positive `off_t`.
//!
//! A cookie holds the number of a subvolume and that subvolume's own cookie, in the form of `gf-dirent.c:gf_itransform`
//! (upstream numbers the leaves of the graph; the numbers are private to a mount, so the children of distribute serve).
//! Small cookies are kept exactly; large ones (hashes of ext4) lose their lowest bits and may lead a little back.

/// Marks the large form.
const LARGE: u64 = 1 << 62;

/// Coder for a fixed number of subvolumes.
#[derive(Clone, Copy, Debug)]
pub struct CookieCoder {
    count: u64,
    /// Bits that hold the number of a subvolume in the large form.
    bits: u32,
}

impl CookieCoder {
    /// A coder for `count` subvolumes (at least one).
    pub fn new(count: usize) -> Self {
        let count = (count as u64).max(1);
        CookieCoder { count, bits: count.next_power_of_two().trailing_zeros() }
    }

    /// Cookie for the position `cookie` of subvolume `index`. The one of the start of subvolume 0 is 0.
    pub fn encode(&self, index: usize, cookie: u64) -> u64 {
        let index = (index as u64).min(self.count - 1);
        if self.count == 1 {
            return cookie;
        }
        if cookie < 1 << (62 - self.bits) {
            return cookie * self.count + index;
        }
        // Bit 63 of a brick's cookie is never set: it is an off_t.
        LARGE | ((cookie >> 1) & !LARGE & !self.low_bits()) | index
    }

    /// Subvolume and its cookie. A cookie that names no subvolume counts as one of the first.
    pub fn decode(&self, cookie: u64) -> (usize, u64) {
        if self.count == 1 {
            return (0, cookie);
        }
        if cookie & LARGE == 0 {
            return ((cookie % self.count) as usize, cookie / self.count);
        }
        let index = cookie & self.low_bits();
        let inner = (cookie & !LARGE & !self.low_bits()) << 1;
        (if index < self.count { index as usize } else { 0 }, inner)
    }

    fn low_bits(&self) -> u64 {
        (1 << self.bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_the_c_client() {
        // Brick's cookie, subvolumes, subvolume, cookie, decoded.
        let table: &[(u64, usize, usize, u64, u64)] = &[
            (1, 2, 1, 3, 1),
            (1000, 3, 2, 3002, 1000),
            (0x1d61_7312_21c4_925f, 2, 0, 0x3ac2_e624_4389_24be, 0x1d61_7312_21c4_925f),
            (0x7fff_ffff_ffff_ffff, 2, 0, 0x7fff_ffff_ffff_fffe, 0x7fff_ffff_ffff_fffc),
            (0x7fff_ffff_ffff_ffff, 2, 1, 0x7fff_ffff_ffff_ffff, 0x7fff_ffff_ffff_fffc),
            (0x7fff_ffff_ffff_ffff, 3, 2, 0x7fff_ffff_ffff_fffe, 0x7fff_ffff_ffff_fff8),
            (0x4eca_4008_27c1_b03f, 4, 3, 0x6765_2004_13e0_d81f, 0x4eca_4008_27c1_b038),
            (0x0fff_ffff_ffff_ffff, 4, 1, 0x3fff_ffff_ffff_fffd, 0x0fff_ffff_ffff_ffff),
            (0x1000_0000_0000_0000, 4, 1, 0x4800_0000_0000_0001, 0x1000_0000_0000_0000),
            (0x1efc_e248_700a_9a17, 6, 5, 0x4f7e_7124_3805_4d0d, 0x1efc_e248_700a_9a10),
        ];
        for (inner, count, index, cookie, decoded) in table {
            let coder = CookieCoder::new(*count);
            assert_eq!(coder.encode(*index, *inner), *cookie, "{inner:x} of {index}/{count}");
            assert_eq!(coder.decode(*cookie), (*index, *decoded), "{cookie:x}");
        }
        assert_eq!(CookieCoder::new(2).decode(0), (0, 0), "the start");
        assert_eq!(CookieCoder::new(3).decode(CookieCoder::new(3).encode(2, 0)), (2, 0), "start of the last");
        assert_eq!(CookieCoder::new(1).encode(0, u64::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn every_cookie_finds_its_subvolume(count in 1usize..1000, choice: prop::sample::Index, inner in 0..=i64::MAX as u64) {
            let coder = CookieCoder::new(count);
            let index = choice.index(count);
            let cookie = coder.encode(index, inner);
            prop_assert!(i64::try_from(cookie).is_ok());
            let (found, decoded) = coder.decode(cookie);
            prop_assert_eq!(found, index);
            prop_assert!(decoded <= inner, "never leads forward");
            prop_assert!(inner - decoded < (2 * count as u64).next_power_of_two() * 2);
        }

        #[test]
        fn any_number_decodes(count in 1usize..1000, cookie: u64) {
            prop_assert!(CookieCoder::new(count).decode(cookie).0 < count);
        }
    }
}
