//! The handshake, portmap and dump programs, and the untyped dictionary that they carry; the first byte chooses.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rgfs_protocol::old_dict::OldDict;
use rgfs_protocol::xdr::{Decoder, Encoder};
use rgfs_protocol::{dump, handshake, portmap};

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let mut decoder = Decoder::new(Bytes::copy_from_slice(body));
    match first % 9 {
        0 => drop(handshake::GetspecRequest::decode(&mut decoder)),
        1 => drop(handshake::GetspecReply::decode(&mut decoder)),
        2 => drop(handshake::DictReply::decode(&mut decoder)),
        3 => drop(handshake::InfoReply::decode(&mut decoder)),
        4 => drop(portmap::PortByBrickRequest::decode(&mut decoder)),
        5 => drop(portmap::PortByBrickReply::decode(&mut decoder)),
        6 => drop(dump::DumpReply::decode(&mut decoder)),
        7 => drop(dump::PingReply::decode(&mut decoder)),
        _ => {
            let Ok(dict) = OldDict::decode(&mut decoder) else { return };
            let mut encoder = Encoder::default();
            dict.encode(&mut encoder);
            OldDict::decode(&mut Decoder::new(encoder.finish().freeze())).expect("what was encoded decodes");
        }
    }
});
