//! Requests of every procedure: the first byte chooses it. What decodes must encode, and decode again to the same bytes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rgfs_protocol::fops::{Procedure, Request};
use rgfs_protocol::xdr::Encoder;

fn encode(request: &Request, data: &[u8]) -> Bytes {
    let mut encoder = Encoder::default();
    request.encode(&mut encoder);
    encoder.raw(data);
    encoder.finish().freeze()
}

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let procedure = Procedure::ALL[usize::from(*first) % Procedure::ALL.len()];
    let Ok((request, data)) = Request::decode(procedure, Bytes::copy_from_slice(body)) else { return };
    let wire = encode(&request, &data);
    let (again, data) = Request::decode(procedure, wire.clone()).expect("what was encoded decodes");
    assert_eq!(encode(&again, &data), wire);
});
