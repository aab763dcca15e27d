//! The one trait that every translator implements: one async method per fop, named as GlusterFS names it.
//!
//! Default methods pass the call to the only child, so a translator writes just what it changes. Every call carries a
//! [`Context`] and an `xdata` dictionary; answers carry one back.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Iatt};

use crate::context::Context;
use crate::error::{FopError, FopResult};
use crate::event::EventSource;
use crate::fd::Fd;
use crate::inode::Loc;
use crate::reply::*;
use crate::volfile::Volume;

/// Where parts of a listing begin: see [`Translator::listing_parts`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListingParts {
    /// Offsets for READDIR and READDIRP besides 0. A listing that comes to the end of a part goes on at the next one's.
    pub offsets: Vec<u64>,
    /// The graph that they are of. What was asked for while this was the same before and after is of one graph.
    pub graph: u32,
}

/// A live translator: a `volume` section of the volfile at work.
#[async_trait]
pub trait Translator: Send + Sync + 'static {
    /// Name of the volume section.
    fn name(&self) -> &Arc<str>;

    /// The `type` line, in its canonical spelling (`cluster/distribute`).
    fn kind(&self) -> &'static str;

    /// Children, in the order of the `subvolumes` line. Empty for a leaf.
    fn children(&self) -> &[Arc<dyn Translator>];

    /// The child that default methods pass calls to: the only one, or the first.
    ///
    /// # Panics
    /// A leaf has none and implements every fop itself; the graph builder checks the number of children of all others.
    fn child(&self) -> &Arc<dyn Translator> {
        &self.children()[0]
    }

    /// Where this translator announces that it is up, down, or called back. A pass-through has its child's.
    fn events(&self) -> &EventSource {
        self.child().events()
    }

    /// Where parts of the listing of `fd` begin that can be asked for side by side.
    fn listing_parts(&self, fd: &Fd) -> ListingParts {
        match self.children() {
            [only] => only.listing_parts(fd),
            _ => ListingParts::default(),
        }
    }

    /// State for a statedump: lines of `key=value`.
    fn dump(&self, out: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {
        let _ = out;
    }

    /// Whether this translator can serve the graph that follows its own as well, where `volume` describes it. It then takes
    /// over the options that changed. Only the connection to a brick can (`client.c:reconfigure`).
    fn reconfigure(&self, volume: &Volume) -> bool {
        let _ = volume;
        false
    }

    /// The failure of a buffered write that `fd` has not reported yet. It is forgotten by that.
    fn take_failure(&self, fd: &Fd) -> Option<FopError> {
        self.children().iter().find_map(|child| child.take_failure(fd))
    }

    /// Forgets that `fd` is open: what it leads to is there no more, though a file of that gfid is. The next OPEN counts.
    fn abandon(&self, fd: &Fd) {
        for child in self.children() {
            child.abandon(fd);
        }
    }

    /// Finishes what was put off, when no fop is at work: the mount ends, or another graph takes over.
    async fn drain(&self) {
        for child in self.children() {
            child.drain().await;
        }
    }

    /// Finds a name in a directory, or (nameless loc) an inode by its gfid. `loc.inode` may be fresh.
    async fn lookup(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        self.child().lookup(context, loc, xdata).await
    }

    /// Attributes of an inode.
    async fn stat(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        self.child().stat(context, loc, xdata).await
    }

    /// Attributes of an open file.
    async fn fstat(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        self.child().fstat(context, fd, xdata).await
    }

    /// Sets the size of a file, in bytes.
    async fn truncate(&self, context: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.child().truncate(context, loc, offset, xdata).await
    }

    /// Sets the size of an open file, in bytes.
    async fn ftruncate(&self, context: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.child().ftruncate(context, fd, offset, xdata).await
    }

    /// Checks permissions; `mask` is made of R_OK 4, W_OK 2, X_OK 1. Returns the reply's xdata.
    async fn access(&self, context: &Context, loc: &Loc, mask: u32, xdata: Dict) -> FopResult<Dict> {
        self.child().access(context, loc, mask, xdata).await
    }

    /// Target of a symbolic link, at most `size` bytes.
    async fn readlink(&self, context: &Context, loc: &Loc, size: u32, xdata: Dict) -> FopResult<ReadlinkReply> {
        self.child().readlink(context, loc, size, xdata).await
    }

    /// Makes a file, device node, fifo or socket. `mode` has type bits; `rdev` is a Linux `dev_t`; xdata holds `gfid-req`.
    async fn mknod(
        &self,
        context: &Context,
        loc: &Loc,
        mode: u32,
        rdev: u64,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.child().mknod(context, loc, mode, rdev, umask, xdata).await
    }

    /// Makes a directory; xdata holds `gfid-req`.
    async fn mkdir(&self, context: &Context, loc: &Loc, mode: u32, umask: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.child().mkdir(context, loc, mode, umask, xdata).await
    }

    /// Removes a name of something that is not a directory.
    async fn unlink(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.child().unlink(context, loc, xflags, xdata).await
    }

    /// Removes an empty directory. Bit 0 of `xflags` removes a full one: only for internal use.
    async fn rmdir(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.child().rmdir(context, loc, xflags, xdata).await
    }

    /// Makes a symbolic link to `target`; xdata holds `gfid-req`.
    async fn symlink(
        &self,
        context: &Context,
        loc: &Loc,
        target: Bytes,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.child().symlink(context, loc, target, umask, xdata).await
    }

    /// Moves a name over another. `new.inode` is what the new name held, or fresh.
    async fn rename(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<RenameReply> {
        self.child().rename(context, old, new, xdata).await
    }

    /// Gives the inode of `old` the further name `new`.
    async fn link(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        self.child().link(context, old, new, xdata).await
    }

    /// Makes a file, or without `O_EXCL` opens the one that is there, and opens it as `fd`; xdata holds `gfid-req`.
    async fn create(
        &self,
        context: &Context,
        loc: &Loc,
        flags: i32,
        mode: u32,
        umask: u32,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.child().create(context, loc, flags, mode, umask, fd, xdata).await
    }

    /// Opens a file as `fd`. `flags` as of Linux open(2). Returns the reply's xdata.
    async fn open(&self, context: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.child().open(context, loc, flags, fd, xdata).await
    }

    /// Reads `size` bytes at `offset`.
    async fn readv(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<ReadReply> {
        self.child().readv(context, fd, size, offset, flags, xdata).await
    }

    /// Writes `data` at `offset`.
    async fn writev(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        self.child().writev(context, fd, data, offset, flags, xdata).await
    }

    /// A descriptor was closed: reports errors of earlier writes, and drops the posix locks of the context's lock owner.
    async fn flush(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.child().flush(context, fd, xdata).await
    }

    /// Brings a file to stable storage.
    async fn fsync(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        self.child().fsync(context, fd, datasync, xdata).await
    }

    /// Opens a directory as `fd`. Returns the reply's xdata.
    async fn opendir(&self, context: &Context, loc: &Loc, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.child().opendir(context, loc, fd, xdata).await
    }

    /// Brings a directory to stable storage.
    async fn fsyncdir(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<Dict> {
        self.child().fsyncdir(context, fd, datasync, xdata).await
    }

    /// Lists a directory from `offset` (0, or the cookie of the last entry seen); `size` bounds the answer, in bytes of brick memory.
    async fn readdir(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirReply> {
        self.child().readdir(context, fd, size, offset, xdata).await
    }

    /// [`Translator::readdir`] with attributes; keys of xdata are answered per entry.
    async fn readdirp(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        self.child().readdirp(context, fd, size, offset, xdata).await
    }

    /// Figures of the file system.
    async fn statfs(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatfsReply> {
        self.child().statfs(context, loc, xdata).await
    }

    /// Sets extended attributes. `flags`: 0, `XATTR_CREATE` 1, `XATTR_REPLACE` 2. Returns the reply's xdata.
    async fn setxattr(&self, context: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.child().setxattr(context, loc, dict, flags, xdata).await
    }

    /// One extended attribute, or all with `None`.
    async fn getxattr(&self, context: &Context, loc: &Loc, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        self.child().getxattr(context, loc, name, xdata).await
    }

    /// Removes an extended attribute. Returns the reply's xdata.
    async fn removexattr(&self, context: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.child().removexattr(context, loc, name, xdata).await
    }

    /// [`Translator::setxattr`] on an open file.
    async fn fsetxattr(&self, context: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.child().fsetxattr(context, fd, dict, flags, xdata).await
    }

    /// [`Translator::getxattr`] on an open file.
    async fn fgetxattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.child().fgetxattr(context, fd, name, xdata).await
    }

    /// [`Translator::removexattr`] on an open file.
    async fn fremovexattr(&self, context: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.child().fremovexattr(context, fd, name, xdata).await
    }

    /// Posix locks. A waiting command answers when the lock is granted; dropping the future leaves the request to the brick: cancel it first (`glusterfs.intrlk`).
    async fn lk(&self, context: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, xdata: Dict) -> FopResult<LkReply> {
        self.child().lk(context, fd, cmd, flock, xdata).await
    }

    /// Internal lock of a range, in the domain `volume`.
    async fn inodelk(
        &self,
        context: &Context,
        volume: &str,
        loc: &Loc,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.child().inodelk(context, volume, loc, cmd, flock, xdata).await
    }

    /// [`Translator::inodelk`] on an open file.
    async fn finodelk(
        &self,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.child().finodelk(context, volume, fd, cmd, flock, xdata).await
    }

    /// Internal lock of a name (`None`: of all names) in a directory, in the domain `volume`.
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
        self.child().entrylk(context, volume, loc, name, cmd, kind, xdata).await
    }

    /// [`Translator::entrylk`] on an open directory.
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
        self.child().fentrylk(context, volume, fd, name, cmd, kind, xdata).await
    }

    /// Atomic arithmetic on xattrs of arrays; the reply holds the results.
    async fn xattrop(
        &self,
        context: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.child().xattrop(context, loc, flags, dict, xdata).await
    }

    /// [`Translator::xattrop`] on an open file.
    async fn fxattrop(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.child().fxattrop(context, fd, flags, dict, xdata).await
    }

    /// Checksums of a range.
    async fn rchecksum(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        self.child().rchecksum(context, fd, offset, len, xdata).await
    }

    /// Sets the attributes of `stat` that `valid` (`set_attr::*`) names; never the size.
    async fn setattr(
        &self,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().setattr(context, loc, stat, valid, xdata).await
    }

    /// [`Translator::setattr`] on an open file.
    async fn fsetattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().fsetattr(context, fd, stat, valid, xdata).await
    }

    /// Allocates space; the size grows unless `keep_size`.
    async fn fallocate(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        keep_size: bool,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().fallocate(context, fd, keep_size, offset, len, xdata).await
    }

    /// Punches a hole; the size stays.
    async fn discard(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().discard(context, fd, offset, len, xdata).await
    }

    /// Writes zeros; the size grows where the range passes the end.
    async fn zerofill(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().zerofill(context, fd, offset, len, xdata).await
    }

    /// Messages between translators; op 2 registers xattr names for invalidation.
    async fn ipc(&self, context: &Context, op: i32, xdata: Dict) -> FopResult<Dict> {
        self.child().ipc(context, op, xdata).await
    }

    /// Next data or hole at or after `offset`.
    async fn seek(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        what: SeekWhat,
        xdata: Dict,
    ) -> FopResult<SeekReply> {
        self.child().seek(context, fd, offset, what, xdata).await
    }

    /// Gets, sets or returns a lease.
    async fn lease(&self, context: &Context, loc: &Loc, lease: Lease, xdata: Dict) -> FopResult<LeaseReply> {
        self.child().lease(context, loc, lease, xdata).await
    }

    /// Copies between two open files of one brick.
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
        self.child()
            .copy_file_range(context, source, source_offset, destination, destination_offset, len, flags, xdata)
            .await
    }
}
