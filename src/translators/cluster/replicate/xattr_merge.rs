//! xattrs whose value is made of what all copies say (`afr_is_special_xattr`).

use bytes::Bytes;
use rgfs_protocol::old_dict::OldDict;
use rgfs_protocol::xdr::{Decoder, Encoder};
use rgfs_protocol::{Dict, Value};

use super::quota_size::{self, QUOTA_SIZE};

/// Where the copies are.
const PATHINFO: [&str; 2] = ["trusted.glusterfs.pathinfo", "glusterfs.pathinfo"];
/// The nodes of all copies; of each brick its [`NODE_UUID`] is asked for.
const LIST_NODE_UUIDS: &str = "trusted.glusterfs.list-node-uuids";
/// The node of a copy.
pub(super) const NODE_UUID: &str = "trusted.glusterfs.node-uuid";
/// Locks of an open file, as a dictionary inside a value.
const LOCK_INFO: &str = "trusted.glusterfs.lockinfo";
/// Commands to give back the locks of somebody who does not; every brick obeys and reports.
const CLEAR_LOCKS: [&str; 2] = ["glusterfs.clrlk", "glusterfs.intrlk"];
/// What stands for the node of a copy that cannot be asked.
const NO_NODE: &str = "00000000-0000-0000-0000-000000000000";

/// How the values of all copies become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// A list within `(<REPLICATE:name> ...)`.
    PathInfo,
    /// A list, with zeros for copies that do not answer.
    NodeUuids,
    /// One dictionary of all.
    LockInfo,
    /// A line for each.
    Reports,
    /// The latest time until which a geo-replication is done.
    SyncTime,
    /// The largest of each number.
    QuotaSize,
}

impl Merge {
    /// How to merge the values of this xattr; `None` when one copy's value is the answer.
    pub(super) fn of(name: &str) -> Option<Self> {
        let between = |prefix: &str, suffix: &str| name.starts_with(prefix) && name.ends_with(suffix);
        if PATHINFO.contains(&name) {
            Some(Merge::PathInfo)
        } else if name == LIST_NODE_UUIDS {
            Some(Merge::NodeUuids)
        } else if name.starts_with(LOCK_INFO) {
            Some(Merge::LockInfo)
        } else if CLEAR_LOCKS.iter().any(|command| name.starts_with(command)) {
            Some(Merge::Reports)
        } else if between("trusted.glusterfs.", ".stime") {
            Some(Merge::SyncTime)
        } else if name == QUOTA_SIZE {
            Some(Merge::QuotaSize)
        } else {
            None
        }
    }

    /// What to ask the bricks for.
    pub(super) fn ask(self, name: &str) -> &str {
        if self == Merge::NodeUuids { NODE_UUID } else { name }
    }

    /// The value of `name`, from the answers of all `count` children to [`Merge::ask`], by index. `replicate` is the name
    /// of the translator. `None` when there is nothing to be told.
    pub(super) fn value(self, name: &str, replicate: &str, count: usize, answers: &[(usize, Dict)]) -> Option<Value> {
        let texts = || answers.iter().filter_map(|(_, answer)| text(answer, self.ask(name)));
        let list = |separator| texts().collect::<Vec<String>>().join(separator);
        match self {
            Merge::PathInfo => Some(Value::str(&format!("(<REPLICATE:{replicate}> {})", list(" ")))),
            Merge::NodeUuids => {
                let node = |index| {
                    let answer = answers.iter().find(|(child, _)| *child == index);
                    answer.and_then(|(_, answer)| text(answer, NODE_UUID)).unwrap_or_else(|| NO_NODE.to_owned())
                };
                Some(Value::str(&(0..count).map(node).collect::<Vec<String>>().join(" ")))
            }
            Merge::Reports if texts().next().is_none() => Some(Value::str("No locks cleared.")),
            Merge::Reports => Some(Value::str(&list("\n"))),
            Merge::LockInfo => lock_info(answers.iter().filter_map(|(_, answer)| answer.bytes(name))),
            Merge::SyncTime => {
                let times = answers.iter().filter_map(|(_, answer)| answer.bytes(name));
                // Seconds and nanoseconds, both big-endian: as bytes they compare as times do.
                times.filter(|time| time.len() == 8).max().map(Value::Ptr)
            }
            Merge::QuotaSize => quota_size::largest(answers.iter().map(|(_, answer)| answer)),
        }
    }
}

fn lock_info(parts: impl Iterator<Item = Bytes>) -> Option<Value> {
    let mut all = OldDict::default();
    for part in parts {
        let mut encoder = Encoder::with_capacity(256);
        encoder.opaque(&part);
        let dict = OldDict::decode(&mut Decoder::new(encoder.finish().freeze())).ok()?;
        for (key, value) in dict.iter() {
            all.set(std::str::from_utf8(key).ok()?, value.clone());
        }
    }
    let mut encoder = Encoder::with_capacity(256);
    all.encode(&mut encoder);
    // As the value of an xattr it has no length of its own in front, and nothing behind.
    let value = Decoder::new(encoder.finish().freeze()).opaque(LOCK_INFO, usize::MAX).ok()?;
    Some(Value::Ptr(value))
}

fn text(answer: &Dict, name: &str) -> Option<String> {
    let bytes = answer.bytes(name)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(name: &'static str, values: [Option<&str>; 3]) -> Vec<(usize, Dict)> {
        let answer = |text: &str| Dict::empty().with(name, Value::str(text));
        let values = values.into_iter().enumerate();
        values.filter_map(|(index, value)| Some((index, answer(value?)))).collect()
    }

    fn merged(name: &str, answers: &[(usize, Dict)]) -> Option<String> {
        let value = Merge::of(name)?.value(name, "v-replicate-0", 3, answers)?;
        value.as_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn lists() {
        let paths = answers("trusted.glusterfs.pathinfo", [Some("<a>"), None, Some("<c>")]);
        let expected = "(<REPLICATE:v-replicate-0> <a> <c>)";
        assert_eq!(merged("trusted.glusterfs.pathinfo", &paths).as_deref(), Some(expected));
        let nodes = answers(NODE_UUID, [Some("n0"), None, Some("n2")]);
        assert_eq!(merged(LIST_NODE_UUIDS, &nodes), Some(format!("n0 {NO_NODE} n2")));
        let command = "glusterfs.clrlk.tinode.kblocked";
        let reports = answers(command, [Some("one"), Some("two"), None]);
        assert_eq!(merged(command, &reports).as_deref(), Some("one\ntwo"));
        assert_eq!(merged(command, &[]).as_deref(), Some("No locks cleared."));
    }

    #[test]
    fn times() {
        let name = "trusted.glusterfs.5a.6b.stime";
        let time = |seconds: u8, nanoseconds: u8| {
            Dict::empty().with(name, Value::Ptr(Bytes::from(vec![0, 0, 0, seconds, 0, 0, 0, nanoseconds])))
        };
        let answers = [(0, time(7, 9)), (1, time(8, 1)), (2, time(8, 0))];
        let value = Merge::of(name).unwrap().value(name, "r", 3, &answers);
        assert_eq!(value.as_ref(), answers[1].1.get(name));
    }

    #[test]
    fn locks_of_all_bricks() {
        let locks = |brick: &str| {
            let mut encoder = Encoder::with_capacity(256);
            OldDict::default().with(brick, "held").encode(&mut encoder);
            let bytes = Decoder::new(encoder.finish().freeze()).opaque("", 100).unwrap();
            Dict::empty().with(LOCK_INFO, Value::Ptr(bytes))
        };
        let value = Merge::LockInfo.value(LOCK_INFO, "r", 3, &[(0, locks("brick-0")), (1, locks("brick-1"))]);
        let mut encoder = Encoder::with_capacity(256);
        encoder.opaque(&value.unwrap().as_bytes().unwrap());
        let all = OldDict::decode(&mut Decoder::new(encoder.finish().freeze())).unwrap();
        assert_eq!((all.text("brick-0"), all.text("brick-1")), (Some("held"), Some("held")));
    }

    #[test]
    fn ordinary_names_are_read_from_one_copy() {
        for name in ["user.x", "trusted.glusterfs.node-uuid", "trusted.stime", "security.capability"] {
            assert_eq!(Merge::of(name), None, "{name}");
        }
    }
}
