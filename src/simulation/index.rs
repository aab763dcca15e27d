//! What `features/index` notes of changelogs, for the self-heal daemon (`index.c`): the objects with pending marks, those
//! with a dirty mark, and the names that changed in a directory while a brick was away.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rgfs_protocol::types::XattropFlags;
use rgfs_protocol::{Dict, Gfid};

const DIRTY: &str = "trusted.afr.dirty";
const PENDING: &str = "trusted.afr.";

/// The index of one brick.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Index {
    /// Objects that accuse somebody (`xattrop`).
    pub(crate) pending: BTreeSet<Gfid>,
    /// Objects with a change under way, or one that was never finished (`dirty`).
    pub(crate) dirty: BTreeSet<Gfid>,
    /// Names by directory (`entry-changes`).
    pub(crate) entry_changes: BTreeMap<Gfid, BTreeSet<Bytes>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Pending,
    Dirty,
}

fn class(key: &[u8]) -> Option<Class> {
    if key == DIRTY.as_bytes() {
        Some(Class::Dirty)
    } else {
        key.starts_with(PENDING.as_bytes()).then_some(Class::Pending)
    }
}

fn zero(value: &rgfs_protocol::Value) -> bool {
    value.as_bytes().is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0))
}

impl Index {
    /// A request is about to be carried out.
    pub(super) fn before(&mut self, gfid: Gfid, flags: XattropFlags, dict: &Dict, xdata: &Dict) {
        if let Some(name) = xdata.bytes("glusterfs.xattrop-entry-create") {
            self.entry_changes.entry(gfid).or_default().insert(name);
        }
        if flags == XattropFlags::AddArray {
            for (key, value) in dict.iter() {
                match class(key) {
                    Some(Class::Pending) if !zero(value) => drop(self.pending.insert(gfid)),
                    Some(Class::Dirty) if !zero(value) => drop(self.dirty.insert(gfid)),
                    _ => {}
                }
            }
        }
    }

    /// It was carried out, with this outcome. Only what was asked for is judged: a request with some of the keys may
    /// remove an object that is still needed.
    pub(super) fn after(&mut self, gfid: Gfid, flags: XattropFlags, outcome: &Dict, xdata: &Dict) {
        if let Some(name) = xdata.bytes("glusterfs.xattrop-entry-delete")
            && let Some(names) = self.entry_changes.get_mut(&gfid)
        {
            names.remove(&name);
            if names.is_empty() {
                self.entry_changes.remove(&gfid);
            }
        }
        if flags != XattropFlags::AddArray {
            return;
        }
        let all_zero = |of| {
            let mut any = false;
            let zero = outcome.iter().filter(|(key, _)| class(key) == Some(of)).all(|(_, value)| {
                any = true;
                zero(value)
            });
            any && zero
        };
        if all_zero(Class::Pending) {
            self.pending.remove(&gfid);
            // Without xdata the question whether to purge is not even asked.
            if xdata.is_null() || xdata.int("glusterfs.xattrop-purge-index").is_some_and(|purge| purge != 0) {
                self.entry_changes.remove(&gfid);
            }
        }
        if all_zero(Class::Dirty) {
            self.dirty.remove(&gfid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::Value;

    fn dict(pairs: &[(&'static str, u8)]) -> Dict {
        pairs.iter().fold(Dict::empty(), |dict, (key, last)| {
            let mut value = [0; 12];
            value[3] = *last;
            dict.with(key, Value::Ptr(Bytes::copy_from_slice(&value)))
        })
    }

    #[test]
    fn a_request_with_some_of_the_keys_loses_what_is_pending() {
        let mut index = Index::default();
        let both = dict(&[("trusted.afr.v-client-0", 0), ("trusted.afr.v-client-1", 1)]);
        index.before(Gfid::ROOT, XattropFlags::AddArray, &both, &Dict::NULL);
        index.after(Gfid::ROOT, XattropFlags::AddArray, &both, &Dict::NULL);
        assert!(index.pending.contains(&Gfid::ROOT));
        let dirty = dict(&[("trusted.afr.dirty", 0)]);
        index.after(Gfid::ROOT, XattropFlags::AddArray, &dirty, &Dict::NULL);
        assert!(index.pending.contains(&Gfid::ROOT), "no pending key, no judgement");
        let one = dict(&[("trusted.afr.v-client-0", 0)]);
        index.after(Gfid::ROOT, XattropFlags::AddArray, &one, &Dict::NULL);
        assert!(!index.pending.contains(&Gfid::ROOT));
    }

    #[test]
    fn no_xdata_purges_the_names_of_a_directory_that_accuses_nobody() {
        let create = Dict::empty().with("glusterfs.xattrop-entry-create", Value::str("f"));
        for (last, xdata, kept) in [(0, Dict::NULL, false), (0, Dict::empty(), true), (1, Dict::NULL, true)] {
            let mut index = Index::default();
            let outcome = dict(&[("trusted.afr.v-client-0", last)]);
            index.before(Gfid::ROOT, XattropFlags::AddArray, &Dict::empty(), &create);
            index.after(Gfid::ROOT, XattropFlags::AddArray, &outcome, &xdata);
            assert_eq!(index.entry_changes.contains_key(&Gfid::ROOT), kept, "{last} {xdata:?}");
        }
    }

    #[test]
    fn names_come_and_go_in_xdata() {
        let mut index = Index::default();
        let create = Dict::empty().with("glusterfs.xattrop-entry-create", Value::str("f"));
        index.before(Gfid::ROOT, XattropFlags::AddArray, &Dict::empty(), &create);
        assert_eq!(index.entry_changes[&Gfid::ROOT].len(), 1);
        let delete = Dict::empty().with("glusterfs.xattrop-entry-delete", Value::str("f"));
        index.after(Gfid::ROOT, XattropFlags::AddArray, &Dict::empty(), &delete);
        assert!(index.entry_changes.is_empty());
    }
}
