//! Calls from bricks: what decodes must encode, and decode again to the same bytes. The first byte is the procedure.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rgfs_protocol::callback::Callback;
use rgfs_protocol::xdr::{Decoder, Encoder};

fn encode(callback: &Callback) -> Bytes {
    let mut encoder = Encoder::default();
    callback.encode(&mut encoder);
    encoder.finish().freeze()
}

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let procedure = u32::from(*first % 16);
    let Ok(callback) = Callback::decode(procedure, &mut Decoder::new(Bytes::copy_from_slice(body))) else { return };
    let wire = encode(&callback);
    let again = Callback::decode(procedure, &mut Decoder::new(wire.clone())).expect("what was encoded decodes");
    assert_eq!(encode(&again), wire);
});
