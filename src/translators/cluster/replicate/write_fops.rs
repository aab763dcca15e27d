//! Fops that change the content of a file: each is a transaction on all copies.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Value};

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::core::{ARBITER, Core};
use super::data::Change;
use super::requests;
use super::session::Range;
use super::target::Target;
use crate::reply::{CopyFileRangeReply, Payload, PrePostReply, WriteReply};
use crate::{Context, Fd, FopResult, Loc};

/// What an arbiter gets to write: it keeps no data, but its locks and times must move like those of the others.
const ARBITER_BYTE: &[u8] = &[0xff];

struct Write {
    context: Context,
    fd: Arc<Fd>,
    data: Payload,
    size: usize,
    offset: u64,
    flags: u32,
    xdata: Dict,
    arbiter: bool,
}

/// Arguments of the fops that have a range and no data.
struct OnFd {
    context: Context,
    fd: Arc<Fd>,
    offset: u64,
    len: u64,
    flag: bool,
    xdata: Dict,
}

impl Core {
    /// Readies an fd for a change: opens it where it is not yet.
    fn make_ready(self: &Arc<Self>, fd: &Arc<Fd>) {
        self.open_late(fd, self.snapshot().up);
    }

    fn on_fd(&self, context: &Context, fd: &Arc<Fd>, range: Range, step: &'static str) -> Change {
        let target = Target::Fd(fd.clone());
        let (kind, context) = (Kind::Data, context.clone());
        Change { kind, target, range, linger: false, stable: true, syncs: false, needless: None, context, step }
    }

    pub(super) async fn writev(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        self.make_ready(fd);
        let size = data.iter().map(Bytes::len).sum::<usize>();
        let all_flags = fd.flags | flags.cast_signed();
        // The brick puts it where the file ends then, wherever that is.
        let range = if all_flags & libc::O_APPEND != 0 { Range::ALL } else { Range::new(offset, (size as u64).max(1)) };
        let change = Change {
            linger: true,
            stable: all_flags & (libc::O_SYNC | libc::O_DSYNC) != 0,
            ..self.on_fd(context, fd, range, "WRITE")
        };
        let request = self.requests.write(xdata);
        let (context, fd, arbiter) = (context.clone(), fd.clone(), self.options.arbiter);
        let write = Write { context, fd, data, size, offset, flags, xdata: request, arbiter };
        self.change(change, write, |write, index, child| {
            let xdata = write.xdata.clone();
            if write.arbiter && index == ARBITER {
                return Box::pin(async move {
                    let byte = Payload::from_elem(Bytes::from_static(ARBITER_BYTE), 1);
                    let sent = child.writev(&write.context, &write.fd, byte, write.offset, write.flags, xdata).await;
                    // One byte stands for all of them.
                    sent.map(|reply| WriteReply { written: if reply.written == 1 { write.size } else { 0 }, ..reply })
                });
            }
            child.writev(&write.context, &write.fd, write.data.clone(), write.offset, write.flags, xdata)
        })
        .await
    }

    pub(super) async fn truncate(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let change = Change {
            kind: Kind::Data,
            target: Target::Inode(loc.inode.clone()),
            range: Range::new(offset, 0),
            linger: false,
            stable: true,
            syncs: false,
            needless: None,
            context: context.clone(),
            step: "TRUNCATE",
        };
        self.change(change, (context.clone(), loc.clone(), offset, xdata), |(context, loc, offset, xdata), _, child| {
            child.truncate(context, loc, *offset, xdata.clone())
        })
        .await
    }

    pub(super) async fn ftruncate(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.make_ready(fd);
        let change = self.on_fd(context, fd, Range::new(offset, 0), "FTRUNCATE");
        self.change(change, arguments(context, fd, offset, 0, false, xdata), |on, _, child| {
            child.ftruncate(&on.context, &on.fd, on.offset, on.xdata.clone())
        })
        .await
    }

    pub(super) async fn fallocate(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        keep_size: bool,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.make_ready(fd);
        let change = self.on_fd(context, fd, Range::new(offset, 0), "FALLOCATE");
        self.change(change, arguments(context, fd, offset, len, keep_size, xdata), |on, _, child| {
            child.fallocate(&on.context, &on.fd, on.flag, on.offset, on.len, on.xdata.clone())
        })
        .await
    }

    pub(super) async fn discard(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.make_ready(fd);
        let change = self.on_fd(context, fd, Range::new(offset, 0), "DISCARD");
        self.change(change, arguments(context, fd, offset, len, false, xdata), |on, _, child| {
            child.discard(&on.context, &on.fd, on.offset, on.len, on.xdata.clone())
        })
        .await
    }

    pub(super) async fn zerofill(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.make_ready(fd);
        let change = self.on_fd(context, fd, Range::new(offset, len), "ZEROFILL");
        self.change(change, arguments(context, fd, offset, len, false, xdata), |on, _, child| {
            child.zerofill(&on.context, &on.fd, on.offset, on.len, on.xdata.clone())
        })
        .await
    }

    /// Brings a file to disk on all copies.
    ///
    /// While no session is open nothing of this client is under way, and FSYNC changes nothing that a copy could miss: it
    /// is sent without lock and mark, which saves two rounds. A copy that fails or is away makes it a transaction, in which
    /// the others note that: a power cut may take from it what was written before.
    pub(super) async fn fsync(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        datasync: bool,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.make_ready(fd);
        let last = xdata.int(requests::LAST_FSYNC).is_some_and(|last| last != 0);
        let name = Value::str(&self.name);
        let xdata = xdata.with(requests::INODELK_DOMAIN_COUNT, name);
        let mut failed = Vec::new();
        let snapshot = self.snapshot();
        let all_data = snapshot.up.and(self.data_children()) == self.data_children();
        if all_data && !self.is_session_open(fd) {
            self.check_quorum(snapshot, "FSYNC")?;
            let replies = self.ask(snapshot.up, |_, child| child.fsync(context, fd, datasync, xdata.clone())).await;
            if replies.iter().all(|(_, reply)| reply.is_ok()) {
                let chosen = self.answering_child(&self.inode(&fd.inode), snapshot.up, ChildSet::EMPTY);
                let reply = replies.into_iter().find(|(index, _)| Some(*index) == chosen);
                return reply.map_or_else(|| Err(self.no_quorum(snapshot.up, "FSYNC")), |(_, reply)| reply);
            }
            failed.extend(replies.into_iter().filter_map(|(index, reply)| Some((index, reply.err()?))));
        }
        // It conflicts with no write: those that were answered are on the bricks, and others need not be.
        let change = Change { linger: !last, syncs: true, ..self.on_fd(context, fd, Range::NONE, "FSYNC") };
        let on = (arguments(context, fd, 0, 0, datasync, xdata), failed);
        self.change(change, on, |(on, failed), index, child| {
            // A disk tells once that it lost what was written; asked again, it says that all is well.
            match failed.iter().find(|(of, _)| *of == index) {
                Some((_, error)) => Box::pin(std::future::ready(Err(error.clone()))),
                None => child.fsync(&on.context, &on.fd, on.flag, on.xdata.clone()),
            }
        })
        .await
    }

    /// Not offered: it would have to run on every brick under the locks of both files. Callers copy by reading and writing.
    pub(super) async fn copy_file_range(
        self: &Arc<Self>,
        _: &Context,
        _: &Arc<Fd>,
        _: u64,
        _: &Arc<Fd>,
        _: u64,
        _: u32,
        _: u32,
        _: Dict,
    ) -> FopResult<CopyFileRangeReply> {
        Err(self.error(Errno::EOPNOTSUPP, "COPY_FILE_RANGE"))
    }
}

fn arguments(context: &Context, fd: &Arc<Fd>, offset: u64, len: u64, flag: bool, xdata: Dict) -> OnFd {
    OnFd { context: context.clone(), fd: fd.clone(), offset, len, flag, xdata }
}
