//! Paul Hsieh's SuperFastHash (`hashfn.c`): spreads files over the copies, in every client alike.

/// The hash of some bytes; 1 for a single byte or none. Words are little-endian, as on the machines that clients run on.
pub fn super_fast_hash(data: &[u8]) -> u32 {
    if data.len() <= 1 {
        return 1;
    }
    let (blocks, rest) = data.as_chunks::<4>();
    // Upstream adds the length as a 32-bit number.
    let mut hash = data.len() as u32;
    for [a, b, c, d] in blocks {
        hash = hash.wrapping_add(word(*a, *b));
        hash = hash << 16 ^ (word(*c, *d) << 11 ^ hash);
        hash = hash.wrapping_add(hash >> 11);
    }
    match *rest {
        [a, b, c] => {
            hash = hash.wrapping_add(word(a, b));
            hash ^= hash << 16;
            hash ^= signed(c) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        [a, b] => {
            hash = hash.wrapping_add(word(a, b));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [a] => {
            hash = hash.wrapping_add(signed(a));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

fn word(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}

/// Upstream's odd bytes are of C's signed `char`.
fn signed(byte: u8) -> u32 {
    i32::from(byte as i8) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_c_client_hashes() {
        let mut root = [0; 16];
        root[15] = 1;
        let mixed = [0xd1, 0x2b, 0x7c, 0xa4, 0x55, 0x90, 0x4f, 0x3e, 0x8a, 0x11, 0xfe, 0x63, 0x07, 0xc9, 0xb8, 0x20];
        let cases: [(&[u8], u32); 9] = [
            (&root, 0xfe51_3317),
            (&mixed, 0x906e_9ece),
            (&[0xff; 16], 0x1919_323f),
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], 0x5f8e_7c97),
            (b"abc", 0xd2be_198a),
            (b"abcd", 0xdad8_b8db),
            (b"abcde", 0x51ed_072e),
            (b"abcdef", 0x963b_9dda),
            (b"a", 1),
        ];
        for (data, hash) in cases {
            assert_eq!(super_fast_hash(data), hash, "{data:x?}");
        }
    }
}
