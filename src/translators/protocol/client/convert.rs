//! From the shapes of the wire to the replies that translators hand up.

use bytes::Bytes;
use rgfs_protocol::fops::{ReplyStatus, reply};
use rgfs_protocol::types::DirentPlus;
use smallvec::smallvec;

use crate::reply::*;

/// Declares a conversion: `field` where both sides call it so, `field = theirs` where not.
macro_rules! conversions {
    ($($from:ident => $into:ident { $($field:ident $(= $theirs:ident)?),* })*) => {
        $(impl From<reply::$from> for $into {
            fn from(reply: reply::$from) -> Self {
                $into { $($field: conversions!(@ reply $field $($theirs)?)),* }
            }
        })*
    };
    (@ $reply:ident $field:ident) => { $reply.$field };
    (@ $reply:ident $field:ident $theirs:ident) => { $reply.$theirs };
}

conversions! {
    Lookup => LookupReply { stat, postparent, xdata }
    Stat => StatReply { stat, xdata }
    PrePost => PrePostReply { pre, post, xdata }
    PrePost => RemoveReply { preparent = pre, postparent = post, xdata }
    Entry => EntryReply { stat, preparent, postparent, xdata }
    Create => EntryReply { stat, preparent, postparent, xdata }
    Rename => RenameReply { stat, pre_old_parent, post_old_parent, pre_new_parent, post_new_parent, xdata }
    Readlink => ReadlinkReply { stat, target, xdata }
    Statfs => StatfsReply { statfs, xdata }
    Xattr => XattrReply { dict, xdata }
    Lk => LkReply { flock, xdata }
    Seek => SeekReply { offset, xdata }
    Rchecksum => RchecksumReply { weak, strong, xdata }
    Lease => LeaseReply { lease, xdata }
}

/// Bytes that a successful answer counts.
fn counted(reply: &impl ReplyStatus) -> usize {
    usize::try_from(reply.op_ret()).unwrap_or(0)
}

impl From<reply::PrePost> for WriteReply {
    fn from(reply: reply::PrePost) -> Self {
        WriteReply { written: counted(&reply), pre: reply.pre, post: reply.post, xdata: reply.xdata }
    }
}

impl From<reply::CopyFileRange> for CopyFileRangeReply {
    fn from(reply: reply::CopyFileRange) -> Self {
        CopyFileRangeReply {
            copied: counted(&reply),
            source: reply.source_stat,
            pre: reply.pre,
            post: reply.post,
            xdata: reply.xdata,
        }
    }
}

impl From<reply::Readdir> for ReaddirReply {
    fn from(reply: reply::Readdir) -> Self {
        ReaddirReply { end: reply.at_end(), entries: reply.entries, xdata: reply.xdata }
    }
}

impl From<reply::Readdirp> for ReaddirpReply {
    fn from(reply: reply::Readdirp) -> Self {
        let end = reply.at_end();
        let entry = |DirentPlus { entry, stat, xdata }| EntryPlus { entry, stat, xdata, inode: None };
        ReaddirpReply { entries: reply.entries.into_iter().map(entry).collect(), end, next: None, xdata: reply.xdata }
    }
}

/// A READ answer and its data, a slice of the record. `None` when the brick sent other data than it says, or more than
/// was asked for.
pub(super) fn read(reply: reply::Read, data: Bytes, asked: u32) -> Option<ReadReply> {
    if data.len() != counted(&reply) || data.len() > asked as usize {
        return None;
    }
    let end_of_file = reply.at_end();
    let data = if data.is_empty() { Payload::new() } else { smallvec![data] };
    Some(ReadReply { data, stat: reply.stat, end_of_file, xdata: reply.xdata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::{Dict, Iatt};

    fn answer(op_ret: i32, op_errno: i32) -> reply::Read {
        reply::Read { op_ret, op_errno, stat: Iatt::default(), size: op_ret as u32, xdata: Dict::NULL }
    }

    #[test]
    fn a_read_says_how_much_and_whether_the_end_was_seen() {
        let reply = read(answer(3, 2), Bytes::from_static(b"abc"), 10).unwrap();
        assert_eq!((reply.data[0].as_ref(), reply.end_of_file), (&b"abc"[..], true));
        let reply = read(answer(0, 2), Bytes::new(), 10).unwrap();
        assert!(reply.data.is_empty() && reply.end_of_file);
        assert!(!read(answer(3, 0), Bytes::from_static(b"abc"), 10).unwrap().end_of_file);
    }

    #[test]
    fn a_read_that_lies_about_its_data_is_refused() {
        assert!(read(answer(3, 0), Bytes::from_static(b"ab"), 10).is_none());
        assert!(read(answer(3, 0), Bytes::from_static(b"abc"), 2).is_none());
    }
}
