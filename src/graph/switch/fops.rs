//! The table of fops of a [`Switch`]: each goes to the graph of the time, or to the one that its fd stayed with.

use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::Switch;
use super::repeat::{Change, Repeated, requested};
use crate::event::EventSource;
use crate::reply::*;
use crate::{Context, Fd, FopResult, ListingParts, Loc, Translator};

/// Writes the fops that are passed on as they are: `by_name` and `once` to the graph of the time, `by_fd` to that of the fd. In a graph
/// that a brick leaves they may have to be done [again](super::leaving); with those of `once` that needs [care](super::repeat).
macro_rules! switched {
    (
        by_name { $($name:ident($($argument:ident: $type:ty),*) -> $reply:ty;)* }
        once { $($once:ident($($once_argument:ident: $once_type:ty),*) -> $once_reply:ty, $change:expr;)* }
        by_fd { $($fd_name:ident($($fd_argument:ident: $fd_type:ty),*) -> $fd_reply:ty;)* }
        $($others:tt)*
    ) => {
        #[async_trait]
        impl Translator for Switch {
            $(
                async fn $name(&self, context: &Context, $($argument: $type),*) -> FopResult<$reply> {
                    let seat = self.seat().await;
                    if !seat.is_shrinking() {
                        return seat.top().$name(context, $($argument),*).await;
                    }
                    let first = seat.top().$name(context, $(Clone::clone(&$argument)),*).await;
                    match self.outlasts(seat, &first).await {
                        true => self.seat().await.top().$name(context, $($argument),*).await,
                        false => first,
                    }
                }
            )*
            $(
                async fn $once(&self, context: &Context, $($once_argument: $once_type),*) -> FopResult<$once_reply> {
                    let seat = self.seat().await;
                    if !seat.is_shrinking() {
                        return seat.top().$once(context, $($once_argument),*).await;
                    }
                    let first = seat.top().$once(context, $(Clone::clone(&$once_argument)),*).await;
                    if !self.outlasts(seat, &first).await {
                        return first;
                    }
                    let seat = self.seat().await;
                    if let Some(done) = Repeated::before(seat.top(), context, &$change).await {
                        return Ok(done);
                    }
                    let error = match seat.top().$once(context, $(Clone::clone(&$once_argument)),*).await {
                        Err(error) => error,
                        done => return done,
                    };
                    Repeated::instead(seat.top(), context, &$change, &error).await.ok_or(error)
                }
            )*
            $(
                async fn $fd_name(
                    &self,
                    context: &Context,
                    fd: &Arc<Fd>,
                    $($fd_argument: $fd_type),*
                ) -> FopResult<$fd_reply> {
                    let seat = self.seat_of(fd).await;
                    if !seat.is_shrinking() {
                        return seat.top().$fd_name(context, fd, $($fd_argument),*).await;
                    }
                    let first = seat.top().$fd_name(context, fd, $(Clone::clone(&$fd_argument)),*).await;
                    match self.outlasts(seat, &first).await {
                        true => self.seat_of(fd).await.top().$fd_name(context, fd, $($fd_argument),*).await,
                        false => first,
                    }
                }
            )*
            $($others)*
        }
    };
}

fn made<'a>(loc: &'a Loc, xdata: &Dict) -> Change<'a> {
    Change::Made { loc, gfid: requested(xdata), open: None }
}

switched! {
    by_name {
        lookup(loc: &Loc, xdata: Dict) -> LookupReply;
        stat(loc: &Loc, xdata: Dict) -> StatReply;
        truncate(loc: &Loc, offset: u64, xdata: Dict) -> PrePostReply;
        access(loc: &Loc, mask: u32, xdata: Dict) -> Dict;
        readlink(loc: &Loc, size: u32, xdata: Dict) -> ReadlinkReply;
        open(loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> Dict;
        opendir(loc: &Loc, fd: &Arc<Fd>, xdata: Dict) -> Dict;
        statfs(loc: &Loc, xdata: Dict) -> StatfsReply;
        getxattr(loc: &Loc, name: Option<&str>, xdata: Dict) -> XattrReply;
        xattrop(loc: &Loc, flags: XattropFlags, dict: Dict, xdata: Dict) -> XattrReply;
        setattr(loc: &Loc, stat: &Iatt, valid: u32, xdata: Dict) -> PrePostReply;
        ipc(op: i32, xdata: Dict) -> Dict;
        lease(loc: &Loc, lease: Lease, xdata: Dict) -> LeaseReply;
    }
    once {
        mknod(loc: &Loc, mode: u32, rdev: u64, umask: u32, xdata: Dict) -> EntryReply, made(loc, &xdata);
        mkdir(loc: &Loc, mode: u32, umask: u32, xdata: Dict) -> EntryReply, made(loc, &xdata);
        symlink(loc: &Loc, target: Bytes, umask: u32, xdata: Dict) -> EntryReply, made(loc, &xdata);
        create(loc: &Loc, flags: i32, mode: u32, umask: u32, fd: &Arc<Fd>, xdata: Dict) -> EntryReply,
            Change::Made { loc, gfid: requested(&xdata), open: Some((flags, fd)) };
        link(old: &Loc, new: &Loc, xdata: Dict) -> EntryReply, Change::Linked { old, new };
        unlink(loc: &Loc, xflags: u32, xdata: Dict) -> RemoveReply, Change::Removed { loc };
        rmdir(loc: &Loc, xflags: u32, xdata: Dict) -> RemoveReply, Change::Removed { loc };
        rename(old: &Loc, new: &Loc, xdata: Dict) -> RenameReply, Change::Renamed { old, new };
        setxattr(loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> Dict, Change::Set { loc, values: &dict };
        removexattr(loc: &Loc, name: &str, xdata: Dict) -> Dict, Change::Unset;
    }
    by_fd {
        fstat(xdata: Dict) -> StatReply;
        ftruncate(offset: u64, xdata: Dict) -> PrePostReply;
        readv(size: u32, offset: u64, flags: u32, xdata: Dict) -> ReadReply;
        fsyncdir(datasync: bool, xdata: Dict) -> Dict;
        fsetxattr(dict: Dict, flags: u32, xdata: Dict) -> Dict;
        fgetxattr(name: Option<&str>, xdata: Dict) -> XattrReply;
        fremovexattr(name: &str, xdata: Dict) -> Dict;
        fxattrop(flags: XattropFlags, dict: Dict, xdata: Dict) -> XattrReply;
        rchecksum(offset: u64, len: u32, xdata: Dict) -> RchecksumReply;
        fsetattr(stat: &Iatt, valid: u32, xdata: Dict) -> PrePostReply;
        fallocate(keep_size: bool, offset: u64, len: u64, xdata: Dict) -> PrePostReply;
        discard(offset: u64, len: u64, xdata: Dict) -> PrePostReply;
        zerofill(offset: u64, len: u64, xdata: Dict) -> PrePostReply;
        seek(offset: u64, what: SeekWhat, xdata: Dict) -> SeekReply;
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "switch"
    }

    // Those of the time are asked for with `Switch::current`.
    fn children(&self) -> &[Arc<dyn Translator>] {
        &[]
    }

    fn events(&self) -> &EventSource {
        &self.events
    }

    fn listing_parts(&self, fd: &Fd) -> ListingParts {
        let generation = self.kept_graph(fd).unwrap_or_else(|| self.current());
        ListingParts { graph: generation.number(), ..generation.graph().top().listing_parts(fd) }
    }

    fn dump(&self, out: &mut dyn FnMut(&str, &dyn Display)) {
        out("graph", &self.current().number());
    }

    async fn drain(&self) {
        self.current().graph().top().drain().await;
    }

    async fn writev(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        let seat = self.seat_of(fd).await;
        if !seat.is_shrinking() {
            return seat.top().writev(context, fd, data, offset, flags, xdata).await;
        }
        let first = seat.top().writev(context, fd, data.clone(), offset, flags, xdata.clone()).await;
        if !self.outlasts(seat, &first).await {
            return first;
        }
        let seat = self.seat_of(fd).await;
        match &first {
            // It may have the bytes, and come back with them.
            Err(error) if fd.flags & libc::O_APPEND != 0 && seat.knows(&error.origin) => first,
            _ => seat.top().writev(context, fd, data, offset, flags, xdata).await,
        }
    }

    async fn flush(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let seat = self.seat_of(fd).await;
        let mut reply = seat.top().flush(context, fd, xdata.clone()).await;
        if self.outlasts(seat, &reply).await {
            reply = self.seat_of(fd).await.top().flush(context, fd, xdata).await;
        }
        self.with_failure(fd, reply)
    }

    async fn fsync(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        let seat = self.seat_of(fd).await;
        let mut reply = seat.top().fsync(context, fd, datasync, xdata.clone()).await;
        if self.outlasts(seat, &reply).await {
            reply = self.seat_of(fd).await.top().fsync(context, fd, datasync, xdata).await;
        }
        self.with_failure(fd, reply)
    }

    async fn readdir(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirReply> {
        let seat = self.seat_of_listing(fd, offset).await;
        seat.top().readdir(context, fd, size, offset, xdata).await
    }

    async fn readdirp(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        let seat = self.seat_of_listing(fd, offset).await;
        seat.top().readdirp(context, fd, size, offset, xdata).await
    }

    async fn lk(&self, context: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, xdata: Dict) -> FopResult<LkReply> {
        let mut seat = self.seat_of(fd).await;
        if cmd == LkCmd::SetLkW {
            seat.sit_back();
        }
        let first = seat.top().lk(context, fd, cmd, flock.clone(), xdata.clone()).await;
        match self.outlasts(seat, &first).await {
            true => Box::pin(self.lk(context, fd, cmd, flock, xdata)).await,
            false => first,
        }
    }

    async fn inodelk(
        &self,
        context: &Context,
        volume: &str,
        loc: &Loc,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let seat = self.seat().await;
        seat.top().inodelk(context, volume, loc, cmd, flock, xdata).await
    }

    async fn finodelk(
        &self,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let seat = self.seat_of(fd).await;
        seat.top().finodelk(context, volume, fd, cmd, flock, xdata).await
    }

    async fn entrylk(
        &self,
        context: &Context,
        volume: &str,
        loc: &Loc,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let seat = self.seat().await;
        seat.top().entrylk(context, volume, loc, name, cmd, kind, xdata).await
    }

    async fn fentrylk(
        &self,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let seat = self.seat_of(fd).await;
        seat.top().fentrylk(context, volume, fd, name, cmd, kind, xdata).await
    }

    async fn copy_file_range(
        &self,
        context: &Context,
        source: &Arc<Fd>,
        source_offset: u64,
        destination: &Arc<Fd>,
        destination_offset: u64,
        len: u32,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<CopyFileRangeReply> {
        let seat = self.seat_of(destination).await;
        let stays_with = |fd: &Fd| self.kept_graph(fd).map(|graph| graph.number());
        if stays_with(source) != stays_with(destination) {
            // The kernel copies by reading and writing then.
            return Err(self.error(Errno::EXDEV, "copy a range").with_detail("one of the files is of an earlier graph"));
        }
        seat.top()
            .copy_file_range(context, source, source_offset, destination, destination_offset, len, flags, xdata)
            .await
    }
}
