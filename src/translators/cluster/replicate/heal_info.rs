//! What `gluster volume heal info` asks of an object (`afr-common.c:afr_get_heal_info`).

use std::sync::Arc;

use rgfs_protocol::{Dict, FileType, Value};

use super::changelog::Kind;
use super::core::Core;
use super::heal::direction::Direction;
use super::heal::inspect::needs;
use super::heal::source::Copy;
use super::heal::{healer, lock_count_key};
use crate::reply::XattrReply;
use crate::{FopResult, Inode};

/// The name of the virtual xattr.
pub(super) const HEAL_INFO: &str = "glusterfs.heal-info";

impl Core {
    /// Looks at an object without locks, and says in a word what it needs.
    pub(super) async fn heal_info(self: &Arc<Self>, inode: &Arc<Inode>) -> FopResult<XattrReply> {
        let replies = self.look_at(&healer(), inode, self.snapshot().up).await;
        let answers = replies.into_iter().filter_map(|(index, reply)| Some((index, self.copy(reply.ok()?))));
        let copies: Vec<(usize, Copy)> = answers.collect();
        let seen: Vec<(usize, &Copy)> = copies.iter().map(|(index, copy)| (*index, copy)).collect();
        let locks = |domain: &str| {
            let key = lock_count_key(domain);
            seen.iter().any(|(_, copy)| copy.xdata.int(&key).is_some_and(|count| count > 0))
        };
        let held = Held { by_users: locks(&self.name), by_healers: locks(&self.heal_domain) };
        let quorum = self.options.quorum.number(self.count());
        let word = word(&seen, self.count(), self.setting().arbiter, quorum, held);
        let mut dict = Dict::empty();
        if let Some(word) = word {
            // Tools look for the one, getfattr for the other.
            dict.set("heal-info", Value::str(&word));
            dict.set(HEAL_INFO, Value::str(&word));
        }
        Ok(XattrReply { dict, xdata: Dict::NULL })
    }
}

/// Who holds locks on the inode.
#[derive(Clone, Copy, Debug)]
struct Held {
    by_users: bool,
    by_healers: bool,
}

/// The word, of the copies that could be seen; `None` when there is nothing to say.
fn word(seen: &[(usize, &Copy)], count: usize, arbiter: Option<usize>, quorum: usize, held: Held) -> Option<String> {
    let (_, first) = seen.first()?;
    let Some(needs) = needs(seen, arbiter) else { return Some("split-brain".to_owned()) };
    let kinds = [(needs.metadata, Kind::Metadata), (needs.data, Kind::Data), (needs.entry, Kind::Entry)];
    let needed = || kinds.iter().filter(|(needed, _)| *needed).map(|(_, kind)| *kind);
    let pending = needed().any(|kind| seen.iter().any(|(_, copy)| !copy.marks.accused(kind).is_empty()));
    let with_suffix = |word: &str| Some(format!("{word}{}", if pending { "-pending" } else { "" }));
    if seen.len() < count {
        // Too little is seen to judge, but marks are marks. Of one copy alone nothing is said.
        return needed().next().and_then(|_| with_suffix("heal")).or(if seen.len() < 2 {
            None
        } else {
            Some("no-heal".into())
        });
    }
    let marks: Vec<_> = seen.iter().map(|(_, copy)| copy.marks.clone()).collect();
    if needed().any(|kind| Direction::find(kind, &marks, quorum).sources.is_empty()) {
        return with_suffix("split-brain");
    }
    // A user's transaction has a dirty count of one, and its lock.
    let counted = |kind: Kind| match kind {
        Kind::Data => first.stat.file_type() == FileType::Regular,
        Kind::Metadata => true,
        Kind::Entry => first.stat.is_dir(),
    };
    let under_way = held.by_users
        && marks.iter().all(|marks| {
            [Kind::Data, Kind::Metadata, Kind::Entry]
                .into_iter()
                .filter(|kind| counted(*kind))
                .all(|kind| marks.dirty.get(kind) <= 1)
        });
    match (needs.any(), pending) {
        (false, _) => Some("no-heal".to_owned()),
        (true, false) if under_way => Some("no-heal".to_owned()),
        (true, true) if held.by_healers => with_suffix("possibly-healing"),
        (true, _) => with_suffix("heal"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::changelog::{Counters, Marks};
    use super::*;
    use rgfs_protocol::Iatt;

    fn copy(pending: [i32; 3], dirty: i32) -> Copy {
        let marks = Marks {
            pending: pending.iter().map(|count| Counters::of(Kind::Data, *count)).collect(),
            dirty: Counters::of(Kind::Data, dirty),
        };
        Copy { stat: Iatt { mode: 0o100_644, ..Iatt::default() }, marks, ..Copy::default() }
    }

    #[test]
    fn words() {
        let (idle, busy) = (Held { by_users: false, by_healers: false }, Held { by_users: true, by_healers: false });
        let healing = Held { by_users: false, by_healers: true };
        let clean = || copy([0; 3], 0);
        let accuser = || copy([0, 0, 1], 0);
        for (name, copies, held, expected) in [
            ("healthy", vec![clean(), clean(), clean()], idle, Some("no-heal")),
            ("being written", vec![copy([0; 3], 1), copy([0; 3], 1), copy([0; 3], 1)], busy, Some("no-heal")),
            ("dirty without a lock", vec![copy([0; 3], 1), clean(), clean()], idle, Some("heal")),
            ("dirty twice", vec![copy([0; 3], 2), clean(), clean()], busy, Some("heal")),
            ("accused", vec![accuser(), accuser(), clean()], idle, Some("heal-pending")),
            ("being healed", vec![accuser(), accuser(), clean()], healing, Some("possibly-healing-pending")),
            ("one away", vec![accuser(), accuser()], idle, Some("heal-pending")),
            ("two away", vec![clean()], idle, None),
            (
                "split-brain",
                vec![copy([0, 1, 1], 0), copy([1, 0, 1], 0), copy([1, 1, 0], 0)],
                idle,
                Some("split-brain-pending"),
            ),
        ] {
            let seen: Vec<(usize, &Copy)> = copies.iter().enumerate().collect();
            assert_eq!(word(&seen, 3, None, 2, held).as_deref(), expected, "{name}");
        }
    }
}
