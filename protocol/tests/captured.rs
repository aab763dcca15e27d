//! Messages of the real C client and real bricks, decoded and encoded again: the bytes are the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "here a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use rgfs_protocol::auth::Credential;
use rgfs_protocol::callback::Callback;
use rgfs_protocol::fops::{Procedure, Reply, Request};
use rgfs_protocol::old_dict::OldDict;
use rgfs_protocol::rpc::{CALLBACK, CallHeader, FOPS, HANDSHAKE, Message, Program};
use rgfs_protocol::xdr::{Decoder, Encoder};
use rgfs_protocol::{dump, handshake};

/// Records of `fixtures/wire` whose names end so, by name.
fn records(ending: &str) -> Vec<(String, Bytes)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/wire");
    let mut records: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| {
            let stem = entry.file_name().to_str()?.strip_suffix(ending)?.to_owned();
            Some((stem, std::fs::read(entry.path()).unwrap().into()))
        })
        .collect();
    records.sort();
    records
}

/// Cuts the RPC header off a record.
fn message(record: &Bytes) -> (Message, Bytes) {
    let mut decoder = Decoder::new(record.clone());
    (Message::decode(&mut decoder).unwrap(), decoder.rest())
}

/// Calls of a program: stem, header, body.
fn calls(program: Program) -> Vec<(String, CallHeader, Bytes)> {
    let of_program = |(stem, record): (String, Bytes)| match message(&record) {
        (Message::Call(header), body) => (header.program == program).then_some((stem, header, body)),
        other => panic!("{stem}: {other:?}"),
    };
    records(".call.bin").into_iter().filter_map(of_program).collect()
}

fn reply(stem: &str) -> Bytes {
    let (_, record) = records(".reply.bin").into_iter().find(|(name, _)| name == stem).unwrap();
    let (Message::Reply(header), body) = message(&record) else { panic!("{stem} is no reply") };
    assert_eq!(header.outcome, Ok(()), "{stem}");
    body
}

fn encoded(encode: impl FnOnce(&mut Encoder)) -> Bytes {
    let mut encoder = Encoder::default();
    encode(&mut encoder);
    encoder.finish().freeze()
}

#[test]
fn headers_and_credentials_of_the_c_client_are_understood() {
    for (stem, record) in records(".call.bin") {
        let (Message::Call(header), body) = message(&record) else { panic!("{stem} is no call") };
        let again = encoded(|encoder| {
            header.encode(encoder);
            encoder.raw(&body);
        });
        assert_eq!(again, record, "{stem}");
        let credential = Credential::decode(&header.credential).unwrap();
        assert!(credential.owner.0.len() == 4 || credential.owner.0.len() == 8, "{stem}: {credential:?}");
    }
}

#[test]
fn calls_of_the_c_client_round_trip() {
    let mut seen = BTreeSet::new();
    for (stem, header, body) in calls(FOPS) {
        let procedure = Procedure::from_number(header.procedure).unwrap();
        assert_eq!(stem.split('.').next().unwrap(), procedure.name().to_lowercase());
        let (request, data) =
            Request::decode(procedure, body.clone()).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let again = encoded(|encoder| {
            request.encode(encoder);
            encoder.raw(&data);
        });
        assert_eq!(again, body, "{stem}: {request:?}");
        seen.insert(procedure);
    }
    assert!(seen.len() >= 30, "only {} fops have captured calls", seen.len());
}

#[test]
fn replies_of_real_bricks_round_trip() {
    let mut seen = BTreeSet::new();
    for (stem, header, _) in calls(FOPS) {
        let procedure = Procedure::from_number(header.procedure).unwrap();
        let body = reply(&stem);
        let (reply, data) = Reply::decode(procedure, body.clone()).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let again = encoded(|encoder| {
            reply.encode(encoder);
            encoder.raw(&data);
        });
        assert_eq!(again, body, "{stem}: {reply:?}");
        seen.insert(procedure);
    }
    assert!(seen.len() >= 30, "only {} fops have captured replies", seen.len());
}

#[test]
fn a_read_reply_holds_the_data_and_a_write_call_too() {
    let (_, _, body) = calls(FOPS).into_iter().find(|(stem, ..)| stem == "write.1").unwrap();
    let (Request::Write(write), data) = Request::decode(Procedure::Write, body).unwrap() else { panic!("not a WRITE") };
    assert_eq!(write.size as usize, data.len());
    let (Reply::Read(read), data) = Reply::decode(Procedure::Read, reply("read.1")).unwrap() else {
        panic!("not a READ")
    };
    assert_eq!((read.size as usize, read.op_ret as usize), (data.len(), data.len()));
}

#[test]
fn callbacks_of_real_bricks_round_trip() {
    let stems = ["callback.5.1", "callback.5.2", "callback.5.3", "callback.10.1", "callback.10.2"];
    let all = records(".bin");
    for stem in stems {
        let (_, record) = all.iter().find(|(name, _)| name == stem).unwrap();
        let (Message::Call(header), body) = message(record) else { panic!("{stem} is no call") };
        assert_eq!(header.program, CALLBACK);
        let callback = Callback::decode(header.procedure, &mut Decoder::new(body.clone())).unwrap();
        assert_eq!(encoded(|encoder| callback.encode(encoder)), body, "{stem}: {callback:?}");
    }
}

#[test]
fn the_handshake_of_a_real_brick_is_understood() {
    let (stem, _, body) = calls(HANDSHAKE).remove(0);
    let options = OldDict::decode(&mut Decoder::new(body)).unwrap();
    assert_eq!(options.text("fops-version"), Some("1298437"));
    let answer = handshake::DictReply::decode(&mut Decoder::new(reply(&stem))).unwrap();
    assert_eq!(answer.op_ret, 0);
    let programs = dump::DumpReply::decode(&mut Decoder::new(reply("dump.dump.1"))).unwrap();
    assert!(programs.has(FOPS), "{programs:?}");
}
