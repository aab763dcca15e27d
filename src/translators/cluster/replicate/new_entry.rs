//! What is known, and must be noted, of an inode that was just made.

use rgfs_protocol::{Dict, FileType, Gfid, Value};

use super::changelog::Counters;
use super::core::{Core, Replies};
use super::family::Snapshot;
use super::inode_state::Readable;
use crate::Loc;
use crate::reply::EntryReply;

/// What copies that have the new inode say of those that do not (`afr_mark_new_entry_changelog`). A heal will make it
/// there, empty: without these marks that empty copy would look as good as any. The data counter of a directory says that
/// heal must look at all its names.
pub(super) fn accusation(kind: FileType, granular_entry_heal: bool) -> Counters {
    match kind {
        FileType::Regular => Counters([1, 1, 0]),
        FileType::Directory => Counters([i32::from(granular_entry_heal), 1, 1]),
        _ => Counters([0, 1, 0]),
    }
}

/// The gfid that the caller wants a new inode to have.
pub(super) fn requested_gfid(xdata: &Dict) -> Option<Gfid> {
    match xdata.get("gfid-req")? {
        Value::Gfuuid(gfid) => Some(*gfid),
        other => Some(Gfid(other.as_bytes()?.as_ref().try_into().ok()?)),
    }
}

impl Core {
    /// A new inode that all children made, under our lock, is as good on one as on the other: nobody has to ask them
    /// before the first use. CREATE may have found a file that was there, and MKNOD of distribute may have linked one;
    /// these are not new.
    pub(super) fn note_new_inode(&self, loc: &Loc, xdata: &Dict, replies: &Replies<EntryReply>, snapshot: Snapshot) {
        let Some(requested) = requested_gfid(xdata) else { return };
        let made = |reply: &EntryReply| reply.stat.gfid == requested;
        let by_all = replies.len() == self.count()
            && replies.iter().all(|(_, reply)| reply.as_ref().is_ok_and(made))
            && !xdata.contains("glusterfs-internal-fop");
        if by_all {
            let (generation, data) = (snapshot.generation, self.data_children());
            self.inode(&loc.inode).set_readable(Readable { generation, data, metadata: data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accusations_of_the_absent() {
        for (kind, granular, counters) in [
            (FileType::Regular, true, [1, 1, 0]),
            (FileType::Regular, false, [1, 1, 0]),
            (FileType::Directory, true, [1, 1, 1]),
            (FileType::Directory, false, [0, 1, 1]),
            (FileType::Fifo, true, [0, 1, 0]),
        ] {
            assert_eq!(accusation(kind, granular), Counters(counters), "{kind:?}");
        }
    }

    #[test]
    fn gfids_are_read_in_both_forms() {
        let gfid = Gfid([7; 16]);
        assert_eq!(requested_gfid(&Dict::NULL), None);
        assert_eq!(requested_gfid(&Dict::empty().with("gfid-req", Value::Gfuuid(gfid))), Some(gfid));
        let bytes = Value::Ptr(bytes::Bytes::copy_from_slice(&gfid.0));
        assert_eq!(requested_gfid(&Dict::empty().with("gfid-req", bytes)), Some(gfid));
    }
}
