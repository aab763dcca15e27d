//! The hash that decides where a name lives: TEA in a Davies-Meyer construction (`hashfn.c:gf_dm_hashfn`).
//!
//! Every client and the rebalance daemon must agree on it bit by bit, or names vanish.

const SEED: (u32, u32) = (0x9464_a485, 0x542e_1a94);
const DELTA: u32 = 0x9e37_79b9;
const BLOCK_ROUNDS: u32 = 6;
const FINAL_ROUNDS: u32 = 10;

/// Hash of a name, or of a path where a layout starts. Any length, any bytes.
pub fn hash(name: &[u8]) -> u32 {
    let mut state = SEED;
    let (blocks, rest) = name.as_chunks::<16>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        let mut key = [0; 4];
        for (slot, word) in key.iter_mut().zip(words) {
            *slot = u32::from_le_bytes(*word);
        }
        state = mix(state, key, BLOCK_ROUNDS);
    }
    state = mix(state, last_key(name.len(), rest), FINAL_ROUNDS);
    state.0 ^ state.1
}

/// Key of the final block: what is left of the name, padded with its length.
fn last_key(len: usize, rest: &[u8]) -> [u32; 4] {
    // The length is reduced to 32 bits by C's arithmetic; names never get that long.
    let len = len as u32;
    let mut pad = len | (len << 8);
    pad |= pad << 16;
    let (words, tail) = rest.as_chunks::<4>();
    let mut key = [pad; 4];
    for (slot, word) in key.iter_mut().zip(words) {
        *slot = u32::from_le_bytes(*word);
    }
    if let Some(slot) = key.get_mut(words.len()) {
        for byte in tail {
            // The tail byte is a signed `char` in the C client: from 0x80 on it fills the upper bits with ones.
            *slot = (*slot << 8) | (i32::from(byte.cast_signed()).cast_unsigned());
        }
    }
    key
}

fn mix((h0, h1): (u32, u32), key: [u32; 4], rounds: u32) -> (u32, u32) {
    let (mut a, mut b, mut sum) = (h0, h1, 0u32);
    for _ in 0..rounds {
        sum = sum.wrapping_add(DELTA);
        a = a.wrapping_add(half_round(b, sum, key[0], key[1]));
        b = b.wrapping_add(half_round(a, sum, key[2], key[3]));
    }
    (h0.wrapping_add(a), h1.wrapping_add(b))
}

fn half_round(half: u32, sum: u32, left: u32, right: u32) -> u32 {
    (half << 4).wrapping_add(left) ^ half.wrapping_add(sum) ^ (half >> 5).wrapping_add(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_final_block() {
        assert_eq!(last_key(3, b"abc"), [0x0361_6263, 0x0303_0303, 0x0303_0303, 0x0303_0303]);
        assert_eq!(last_key(5, b"abcde"), [0x6463_6261, 0x0505_0565, 0x0505_0505, 0x0505_0505]);
        assert_eq!(last_key(2, "é".as_bytes()), [0xffff_ffa9, 0x0202_0202, 0x0202_0202, 0x0202_0202]);
        assert_eq!(last_key(0, b""), [0; 4]);
    }

    #[test]
    fn agrees_with_libglusterfs() {
        let long = "a".repeat(255);
        let vectors: &[(&str, u32)] = &[
            ("", 0x8847_74a2),
            ("a", 0x3a17_e4e6),
            ("b", 0x6f55_8edc),
            ("ab", 0xc3af_40d9),
            ("abc", 0xba8b_d29a),
            ("abcd", 0xd896_27f6),
            ("abcde", 0x0a45_ccec),
            ("file", 0xc40e_c480),
            ("file1", 0xa787_fa82),
            ("file10", 0x0613_e786),
            ("hello.txt", 0xe68d_61cc),
            ("README.md", 0x4962_4ce6),
            ("0123456789abcde", 0x9fc1_c536),
            ("0123456789abcdef", 0x6ecb_5ada),
            ("0123456789abcdef0", 0x795e_f9c7),
            ("0123456789abcdef0123", 0x677a_5c65),
            ("naïve", 0x9c88_eecf),
            ("xÿ", 0xc7f1_1469),
            ("0123456789abcdef0123456789abcdef", 0xf1ed_7304),
            ("dir", 0x200f_d811),
            (".", 0xd3d1_43b3),
            ("..", 0xe169_6c98),
            ("Makefile", 0x19b6_84ab),
            ("vm.qcow2", 0x2499_8db8),
            (&long, 0x1371_7738),
            ("/dir", 0x93e5_ca0a),
            ("/dir/sub", 0xf337_ff76),
            ("/", 0x8619_bd58),
            ("00000000-0000-0000-0000-000000000001", 0x6a96_3703),
            ("be318638-e8a0-4c6d-977d-7a937aa84806.1", 0x8aea_0806),
            (".shard", 0xde70_c9dd),
            (".remove_me", 0x0772_5889),
            ("é", 0x65cf_caa1),
            ("日本語", 0xeecb_aa7d),
            ("файл.txt", 0x39d4_ac96),
            ("big1", 0x17e9_8549),
        ];
        for (name, expected) in vectors {
            assert_eq!(hash(name.as_bytes()), *expected, "hash of {name:?}");
        }
    }
}
