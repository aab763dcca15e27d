//! Messages of the real C client and real bricks, decoded and encoded again: the bytes are the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "here a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use rgfs_protocol::fops::{PROGRAM, Procedure, Reply, Request, VERSION};
use rgfs_protocol::xdr::Encoder;

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

fn word(record: &[u8], index: usize) -> u32 {
    u32::from_be_bytes(record[index * 4..][..4].try_into().unwrap())
}

/// Calls of the file-operation program: stem, procedure, body behind the credential and the verifier.
fn calls() -> Vec<(String, Procedure, Bytes)> {
    let mut calls = Vec::new();
    for (stem, record) in records(".call.bin") {
        if word(&record, 3) != PROGRAM {
            continue;
        }
        assert_eq!((word(&record, 1), word(&record, 4)), (0, VERSION), "{stem}");
        let procedure = Procedure::from_number(word(&record, 5)).unwrap();
        assert_eq!(stem.split('.').next().unwrap(), procedure.name().to_lowercase());
        let credential = (word(&record, 7) as usize).next_multiple_of(4);
        calls.push((stem, procedure, record.slice(32 + credential + 8..)));
    }
    calls
}

#[test]
fn calls_of_the_c_client_round_trip() {
    let mut seen = BTreeSet::new();
    for (stem, procedure, body) in calls() {
        let (request, data) =
            Request::decode(procedure, body.clone()).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let mut encoder = Encoder::default();
        request.encode(&mut encoder);
        encoder.raw(&data);
        assert_eq!(encoder.finish().freeze(), body, "{stem}: {request:?}");
        seen.insert(procedure);
    }
    assert!(seen.len() >= 30, "only {} fops have captured calls", seen.len());
}

#[test]
fn replies_of_real_bricks_round_trip() {
    let procedures: std::collections::BTreeMap<_, _> =
        calls().into_iter().map(|(stem, procedure, _)| (stem, procedure)).collect();
    let mut seen = BTreeSet::new();
    for (stem, record) in records(".reply.bin") {
        let Some(procedure) = procedures.get(&stem).copied() else { continue };
        assert_eq!((word(&record, 1), word(&record, 2), word(&record, 5)), (1, 0, 0), "{stem}");
        let body = record.slice(24..);
        let (reply, data) = Reply::decode(procedure, body.clone()).unwrap_or_else(|error| panic!("{stem}: {error}"));
        let mut encoder = Encoder::default();
        reply.encode(&mut encoder);
        encoder.raw(&data);
        assert_eq!(encoder.finish().freeze(), body, "{stem}: {reply:?}");
        seen.insert(procedure);
    }
    assert!(seen.len() >= 30, "only {} fops have captured replies", seen.len());
}

#[test]
fn a_read_reply_holds_the_data_and_a_write_call_too() {
    let (_, procedure, body) = calls().into_iter().find(|(stem, ..)| stem == "write.1").unwrap();
    let (Request::Write(write), data) = Request::decode(procedure, body).unwrap() else { panic!("not a WRITE") };
    assert_eq!(write.size as usize, data.len());
    let (_, record) = records(".reply.bin").into_iter().find(|(stem, _)| stem == "read.1").unwrap();
    let (Reply::Read(read), data) = Reply::decode(Procedure::Read, record.slice(24..)).unwrap() else {
        panic!("not a READ")
    };
    assert_eq!((read.size as usize, read.op_ret as usize), (data.len(), data.len()));
}
