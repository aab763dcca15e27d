//! The size of a directory tree as quota counts it: the largest of all copies is told (`afr_handle_quota_size`).
//!
//! Each brick adds up in the background, at its own pace. A smaller number would let users write more than they may.

use bytes::Bytes;
use rgfs_protocol::{Dict, Value};

/// Bytes, files and directories, 64-bit big-endian each; old bricks tell the bytes only (`quota_meta_t`).
pub(super) const QUOTA_SIZE: &str = "trusted.glusterfs.quota.size";

/// The largest of each number; `None` when no answer has any.
pub(super) fn largest<'a>(answers: impl Iterator<Item = &'a Dict>) -> Option<Value> {
    let sizes = answers.filter_map(|answer| answer.bytes(QUOTA_SIZE)).map(|bytes| numbers(&bytes));
    let largest = sizes.reduce(|a, b| [a[0].max(b[0]), a[1].max(b[1]), a[2].max(b[2])])?;
    let bytes: Vec<u8> = largest.iter().flat_map(|number| number.to_be_bytes()).collect();
    Some(Value::Ptr(Bytes::from(bytes)))
}

fn numbers(bytes: &[u8]) -> [i64; 3] {
    let mut numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *number = i64::from_be_bytes(*bytes);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_each() {
        let size = |numbers: &[i64]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
            Dict::empty().with(QUOTA_SIZE, Value::Ptr(bytes.into()))
        };
        let answers = [size(&[4096, 1, 9]), size(&[8192]), Dict::NULL];
        let largest = Dict::empty().with(QUOTA_SIZE, largest(answers.iter()).unwrap());
        assert_eq!(numbers(&largest.bytes(QUOTA_SIZE).unwrap()), [8192, 1, 9]);
        assert_eq!(super::largest([Dict::NULL].iter()), None);
    }
}
