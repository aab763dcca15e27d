//! Dictionaries as text: changelogs with their counters, and the few values of xdata that bricks act upon.

use rgfs_protocol::{Dict, Gfid};

use super::log::Names;

/// Start of every changelog key.
const CHANGELOG: &str = "trusted.afr.";
/// The three counters of a changelog value, in their order.
pub(super) const DATA: usize = 0;
/// See [`DATA`].
pub(super) const METADATA: usize = 1;
/// See [`DATA`].
pub(super) const ENTRY: usize = 2;

/// A changelog key without what all have in common; `None` for other keys.
pub(super) fn short_key(key: &[u8]) -> Option<String> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(CHANGELOG)?;
    // The name of a client translator starts with that of its volume.
    Some(rest.find("client-").map_or(rest, |at| &rest[at..]).to_owned())
}

/// The values of a changelog dictionary by short key, `dirty` first; `None` for a value that is no changelog's.
pub(super) fn values(dict: &Dict) -> Vec<(String, Option<[i32; 3]>)> {
    let mut values: Vec<_> = dict
        .iter()
        .map(|(key, value)| {
            let counters = value.as_bytes().and_then(|bytes| counters(&bytes));
            (short_key(key).unwrap_or_else(|| String::from_utf8_lossy(key).into_owned()), counters)
        })
        .collect();
    values.sort_by_key(|(key, _)| (key != "dirty", key.clone()));
    values
}

/// The three counters of a changelog value: big-endian and signed.
pub(super) fn counters(bytes: &[u8]) -> Option<[i32; 3]> {
    let word = |index: usize| Some(i32::from_be_bytes(bytes.get(4 * index..4 * index + 4)?.try_into().ok()?));
    (bytes.len() == 12).then(|| Some([word(DATA)?, word(METADATA)?, word(ENTRY)?])).flatten()
}

/// A changelog dictionary, zeros too: it matters that a key is there.
pub(super) fn changelog(dict: &Dict) -> String {
    let shown = |(key, value): (String, Option<[i32; 3]>)| match value {
        Some([data, metadata, entry]) => format!("{key}[{data},{metadata},{entry}]"),
        None => format!("{key}(no changelog value)"),
    };
    format!("{{{}}}", values(dict).into_iter().map(shown).collect::<Vec<_>>().join(" "))
}

/// The xdata keys of requests that bricks act upon, under short names. The others are hints.
const REQUEST_KEYS: [(&str, &str); 9] = [
    ("glusterfs.xattrop-entry-create", "entry-create"),
    ("glusterfs.xattrop-entry-delete", "entry-delete"),
    ("glusterfs.xattrop-purge-index", "purge-index"),
    ("glusterfs.inodelk-dom-count", "inodelk-dom-count"),
    ("glusterfs.open-active-fd-count", "open-active-fd-count"),
    ("glusterfs.write-is-append", "write-is-append"),
    ("batch-fsync", "batch-fsync"),
    ("last-fsync", "last-fsync"),
    ("glusterfs-internal-fop", "internal-fop"),
];
/// The counts that they answer with.
const ANSWER_KEYS: [(&str, &str); 3] = [
    ("glusterfs.inodelk-count", "inodelk-count"),
    ("glusterfs.open-active-fd-count", "open-active-fd-count"),
    ("glusterfs.write-is-append", "write-is-append"),
];

fn picked(dict: &Dict, keys: &[(&str, &str)]) -> Vec<String> {
    let shown = |key: &str, name: &str| {
        let value = dict.get(key)?;
        Some(match (value.as_bytes(), value.as_int()) {
            (Some(text), _) => format!("{name}=\"{}\"", String::from_utf8_lossy(&text)),
            (None, Some(number)) => format!("{name}={number}"),
            (None, None) => name.to_owned(),
        })
    };
    keys.iter().filter_map(|(key, name)| shown(key, name)).collect()
}

/// The part of a request's xdata that counts, with a blank before it.
pub(super) fn request_xdata(dict: &Dict, names: &Names) -> String {
    let mut shown = picked(dict, &REQUEST_KEYS);
    if let Some(gfid) = dict.bytes("gfid-req").and_then(|bytes| Some(Gfid(bytes.as_ref().try_into().ok()?))) {
        shown.push(format!("gfid-req={}", names.of(&gfid)));
    }
    braced(shown)
}

/// The counts in an answer's xdata, with a blank before them.
pub(super) fn answer_xdata(dict: &Dict) -> String {
    braced(picked(dict, &ANSWER_KEYS))
}

fn braced(shown: Vec<String>) -> String {
    if shown.is_empty() { String::new() } else { format!(" xdata{{{}}}", shown.join(" ")) }
}
