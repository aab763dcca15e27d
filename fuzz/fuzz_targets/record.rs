//! A byte stream cut into records, and the RPC headers and credentials in them. The first byte says in what pieces the
//! stream arrives.
#![no_main]

use bytes::BufMut;
use libfuzzer_sys::fuzz_target;
use rgfs_protocol::auth::Credential;
use rgfs_protocol::record::{Framer, Space, Unpooled};
use rgfs_protocol::rpc::Message;
use rgfs_protocol::xdr::Decoder;

fuzz_target!(|input: &[u8]| {
    let Some((first, mut stream)) = input.split_first() else { return };
    let piece = usize::from(*first) + 1;
    let mut framer = Framer::new(Unpooled, 1 << 20);
    while !stream.is_empty() {
        let count = match framer.space(first % 2 == 0) {
            Space::Shared(buffer, limit) => {
                let count = piece.min(limit).min(stream.len());
                buffer.put_slice(&stream[..count]);
                count
            }
            Space::Own(buffer) => {
                let count = piece.min(buffer.len()).min(stream.len());
                buffer[..count].copy_from_slice(&stream[..count]);
                framer.filled(count);
                count
            }
        };
        assert!(count > 0, "the framer has no room for more");
        stream = &stream[count..];
        loop {
            match framer.next_record() {
                Ok(Some(record)) => {
                    if let Ok(Message::Call(header)) = Message::decode(&mut Decoder::new(record)) {
                        let _ = Credential::decode(&header.credential);
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
