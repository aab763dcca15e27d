//! A write on its way to the child, and how two become one.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno};

use super::queue::Payload;
use crate::reply::{Payload as Data, WriteReply};
use crate::{Context, Fd, FopError, FopResult, Translator};

/// Slices that one write gathers at most: fewer than one `writev(2)` takes (IOV_MAX is 1024).
const MOST_SLICES: usize = 256;

/// A WRITEV as its caller made it, or several that continue one another.
pub(super) struct Job {
    /// The open file. Holding it keeps it open on the bricks.
    pub(super) fd: Arc<Fd>,
    /// Who writes. Mandatory locks, quotas and permissions are checked for the real writer, so background writes carry
    /// its uid, gid, groups, pid and lock owner.
    pub(super) context: Context,
    /// The data.
    pub(super) data: Data,
    /// Bytes of data.
    pub(super) len: usize,
    /// Where it goes.
    pub(super) offset: u64,
    /// Flags of the fop.
    pub(super) flags: u32,
    /// Dictionary of the fop.
    pub(super) xdata: Dict,
    /// A short write is continued: its caller may have been told that all is written.
    pub(super) complete: bool,
}

impl Payload for Job {
    fn len(&self) -> usize {
        self.len
    }

    fn accepts(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.fd, &next.fd)
            && self.offset.checked_add(self.len as u64) == Some(next.offset)
            && self.flags == next.flags
            && self.xdata.is_empty()
            && next.xdata.is_empty()
            && self.data.len() + next.data.len() <= MOST_SLICES
            && same_writer(&self.context, &next.context)
    }

    fn append(&mut self, next: Self) {
        self.len += next.len;
        self.data.extend(next.data);
        self.context.time = next.context.time;
    }
}

fn same_writer(a: &Context, b: &Context) -> bool {
    (a.uid, a.gid, a.pid, a.time_flags) == (b.uid, b.gid, b.pid, b.time_flags)
        && a.lock_owner == b.lock_owner
        && (Arc::ptr_eq(&a.groups, &b.groups) || a.groups == b.groups)
}

impl Job {
    /// Writes all of it. A short answer of the child is continued where it ended; when that fails, the reply counts what
    /// was written and the error says why it ended.
    pub(super) async fn run(self, child: &Arc<dyn Translator>, name: &Arc<str>) -> (FopResult<WriteReply>, usize) {
        let Job { fd, context, data, len, mut offset, flags, xdata, complete } = self;
        if !complete {
            let result = child.writev(&context, &fd, data, offset, flags, xdata).await;
            let written = result.as_ref().map_or(0, |reply| reply.written);
            return (result, written);
        }
        let mut rest = data;
        let mut written = 0;
        loop {
            // The slices are counted references: the copy is for a short answer, which is rare.
            let sent = child.writev(&context, &fd, rest.clone(), offset, flags, xdata.clone()).await;
            let step = match sent {
                Ok(reply) if reply.written == len - written => return (Ok(WriteReply { written: len, ..reply }), len),
                Ok(reply) if reply.written > 0 && reply.written < len - written => reply.written,
                Ok(reply) => {
                    let detail = format!("the child wrote {} of {} bytes", reply.written, len - written);
                    return (Err(FopError::new(Errno::EIO, name, "writev").with_detail(detail)), written);
                }
                Err(error) => return (Err(error), written),
            };
            written += step;
            offset += step as u64;
            skip(&mut rest, step);
        }
    }
}

/// Drops the first `bytes` of `data`.
fn skip(data: &mut Data, mut bytes: usize) {
    let whole = data
        .iter()
        .take_while(|slice| {
            let gone = slice.len() <= bytes;
            bytes -= if gone { slice.len() } else { 0 };
            gone
        })
        .count();
    data.drain(..whole);
    if let Some(first) = data.first_mut() {
        let _: Bytes = first.split_to(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Inode;

    fn job(fd: &Arc<Fd>, offset: u64, text: &'static [u8]) -> Job {
        let data = Data::from_iter([Bytes::from_static(text)]);
        let context = Context::internal();
        Job { fd: fd.clone(), context, data, len: text.len(), offset, flags: 0, xdata: Dict::NULL, complete: true }
    }

    #[test]
    fn only_neighbours_of_one_writer_melt() {
        let fd = Fd::new(Inode::fresh(), libc::O_RDWR, 1);
        let first = job(&fd, 0, b"abc");
        assert!(first.accepts(&job(&fd, 3, b"d")));
        assert!(!first.accepts(&job(&fd, 4, b"d")));
        assert!(!first.accepts(&job(&fd, 0, b"d")));
        assert!(!first.accepts(&job(&Fd::new(fd.inode.clone(), fd.flags, 1), 3, b"d")));
        let changes: [fn(&mut Job); 7] = [
            |job| job.context.uid = 1,
            |job| job.context.gid = 1,
            |job| job.context.pid = 1,
            |job| job.context.groups = Arc::from([5]),
            |job| job.context.lock_owner = rgfs_protocol::types::LockOwner::from_fuse(9),
            |job| job.flags = 1,
            |job| job.xdata.set("key", rgfs_protocol::Value::str("value")),
        ];
        for change in changes {
            let mut other = job(&fd, 3, b"d");
            change(&mut other);
            assert!(!first.accepts(&other));
        }
    }

    #[test]
    fn melting_copies_nothing() {
        let fd = Fd::new(Inode::fresh(), libc::O_RDWR, 1);
        let mut first = job(&fd, 0, b"abc");
        let second = job(&fd, 3, b"def");
        let place = second.data[0].as_ptr();
        first.append(second);
        assert_eq!((first.len, first.data.len(), first.data[1].as_ptr()), (6, 2, place));
    }

    #[test]
    fn skips_slices_and_parts() {
        let data = Data::from_iter([Bytes::from_static(b"abc"), Bytes::from_static(b"def"), Bytes::from_static(b"g")]);
        for (bytes, left) in [(0, "abcdefg"), (2, "cdefg"), (3, "defg"), (5, "fg"), (7, "")] {
            let mut rest = data.clone();
            skip(&mut rest, bytes);
            assert_eq!(rest.concat(), left.as_bytes());
        }
    }
}
