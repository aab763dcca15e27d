//! Chained lists, whose length the peer decides: directory entries with and without attributes, and locks.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rgfs_protocol::fops::Wire;
use rgfs_protocol::types::{ActiveLock, Dirent, DirentPlus};
use rgfs_protocol::xdr::{Decoder, Encoder};

fn round_trip<T: Wire>(input: &[u8]) {
    let Ok(list) = Vec::<T>::decode(&mut Decoder::new(Bytes::copy_from_slice(input)), "list") else { return };
    let mut encoder = Encoder::with_capacity(list.encoded_len());
    list.encode(&mut encoder);
    assert_eq!(encoder.len(), list.encoded_len());
    let wire = encoder.finish().freeze();
    let again = Vec::<T>::decode(&mut Decoder::new(wire), "list").expect("what was encoded decodes");
    assert_eq!(again.len(), list.len());
}

fuzz_target!(|input: &[u8]| {
    round_trip::<Dirent>(input);
    round_trip::<DirentPlus>(input);
    round_trip::<ActiveLock>(input);
});
