//! What bricks keep in extended attributes and rgfs reads itself: layouts, targets of linkto files, the MDS marker, the
//! commit hash, gfids as text, and the cookies of listings. Values decode alone, and together as the answers of three
//! bricks to the lookup of one directory.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rgfs::reply::LookupReply;
use rgfs::translators::cluster::distribute::cookie::CookieCoder;
use rgfs::translators::cluster::distribute::directory_view::aggregate;
use rgfs::translators::cluster::distribute::layout::{Anomalies, DiskLayout};
use rgfs::translators::cluster::distribute::{keys, linkto};
use rgfs_protocol::{Dict, Gfid, Iatt, Value};

/// A value that says its length in its first byte, and how the brick typed it in the two highest bits of that.
fn value(input: &mut &[u8]) -> Option<Value> {
    let (head, rest) = input.split_first()?;
    let length = usize::from(head & 0x3f).min(rest.len());
    let (bytes, rest) = rest.split_at(length);
    *input = rest;
    let bytes = Bytes::copy_from_slice(bytes);
    match head >> 6 {
        0 => None,
        1 => Some(Value::Ptr(bytes)),
        2 => Some(Value::Str(bytes)),
        _ => Some(Value::Int(bytes.first().map_or(-1, |byte| i64::from(*byte)))),
    }
}

fn alone(input: &[u8]) {
    if let Some(disk) = DiskLayout::decode(input) {
        assert_eq!(disk.encode(), input);
    }
    let xdata = Dict::empty().with(keys::LINKTO, Value::Ptr(Bytes::copy_from_slice(input)));
    let target = linkto::target(&xdata).expect("the value is there");
    assert!(input.starts_with(&target) && !target.contains(&0));
    if let Some(gfid) = std::str::from_utf8(input).ok().and_then(Gfid::parse) {
        assert_eq!(Gfid::parse(&gfid.to_string()), Some(gfid));
    }
    if let [count, cookie @ ..] = input
        && let Some(cookie) = cookie.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
    {
        let count = usize::from(*count).max(1);
        assert!(CookieCoder::new(count).decode(cookie).0 < count);
    }
}

fn together(mut input: &[u8]) {
    let answers = [(); 3].map(|()| {
        let mut xdata = Dict::empty();
        for key in [keys::LAYOUT, keys::MDS, keys::COMMIT_HASH, keys::LINKTO] {
            if let Some(value) = value(&mut input) {
                xdata = xdata.with(key, value);
            }
        }
        let stat = Iatt { gfid: Gfid::ROOT, flags: 1, mode: 0o040_755, ..Iatt::default() };
        Ok(LookupReply { stat, postparent: stat, xdata })
    });
    let view = aggregate(answers.into()).expect("three directories are a directory");
    assert!(view.mds.is_none_or(|mds| mds < 3));
    // Nobody but distribute sees its marker.
    assert!(!view.reply.xdata.contains(keys::MDS));
    for share in 0..3 {
        let Some(disk) = view.layout.disk(share) else { continue };
        for hash in [disk.start, disk.stop, disk.stop.wrapping_add(1), 0, u32::MAX] {
            let home = view.layout.search(hash);
            assert!(home.is_some() || view.layout.anomalies() != Anomalies::default(), "a whole ring has no hole");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    alone(input);
    together(input);
});
