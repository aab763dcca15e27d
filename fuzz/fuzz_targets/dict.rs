//! The typed dictionary: what decodes must encode to as many bytes as foretold, and decode again to the same bytes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rgfs_protocol::Dict;
use rgfs_protocol::xdr::{Decoder, Encoder};

fn encode(dict: &Dict) -> Bytes {
    let mut encoder = Encoder::default();
    dict.encode(&mut encoder);
    assert_eq!(encoder.len(), dict.encoded_len());
    encoder.finish().freeze()
}

fuzz_target!(|input: &[u8]| {
    let Ok(dict) = Dict::decode(&mut Decoder::new(Bytes::copy_from_slice(input))) else { return };
    for (_, value) in dict.iter() {
        let _ = (value.as_bytes(), value.as_int());
    }
    let wire = encode(&dict);
    let again = Dict::decode(&mut Decoder::new(wire.clone())).expect("what was encoded decodes");
    assert_eq!(encode(&again), wire);
});
