//! `cluster/replicate` (AFR): every child holds a copy.
//!
//! What changes a file is done on all copies that are up, under a lock on each of them, and what a copy missed is noted on
//! the others: see [`changelog`]. The self-heal daemon on the servers reads these notes and repairs the copy; until then it
//! is written to, but not read from.
//!
//! - decisions, without I/O: who is there (`family`, `quorum`), which copy is good (`changelog`, `readable`, `policy`), what
//!   answers add up to (`verdict`, `entry_verdict`, `lookup_choice`), which changes go together (`session`);
//! - a change of content or attributes is in `data`, between `pre_op` and `post_op`; one of names in `entry_transaction`;
//! - repair is in `heal`;
//! - this file: the face of the translator; each fop is in the file of its group.

pub mod changelog;
pub mod child_set;
mod core;
mod data;
#[cfg(test)]
mod data_tests;
mod directories;
mod entry_answer;
pub mod entry_copies;
#[cfg(test)]
mod entry_copies_tests;
mod entry_fops;
mod entry_marks;
mod entry_order;
#[cfg(test)]
mod entry_tests;
mod entry_transaction;
pub mod entry_verdict;
pub mod errors;
mod everywhere;
pub mod family;
pub mod favorite;
mod fd_state;
#[cfg(test)]
mod fd_tests;
pub mod heal;
mod heal_info;
mod health;
mod inode_state;
mod internal_locks;
mod late_open;
mod local_child;
mod lock;
mod lock_order;
#[cfg(test)]
mod lock_tests;
mod lookup;
mod lookup_choice;
mod member;
#[cfg(test)]
mod member_tests;
mod metadata_fops;
mod new_entry;
mod open;
pub mod options;
#[cfg(test)]
pub(crate) mod planted;
pub mod policy;
mod posix_locks;
mod post_op;
mod pre_op;
pub mod private;
pub mod quorum;
mod quota_size;
mod read;
mod read_fops;
#[cfg(test)]
mod read_tests;
pub mod readable;
mod refresh;
#[cfg(test)]
mod rename_tests;
mod requests;
mod session;
#[cfg(test)]
mod session_tests;
mod sessions;
mod split_brain;
mod status;
mod strays;
pub mod super_fast_hash;
mod target;
#[cfg(test)]
mod testing;
mod thin_arbiter;
mod thin_arbiter_io;
#[cfg(test)]
mod thin_arbiter_tests;
mod verdict;
mod write_fops;
mod xattr_merge;
mod xattr_reads;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Iatt};

use self::child_set::MAX_CHILDREN;
use self::core::Core;
use crate::event::EventSource;
use crate::graph::{BuildError, Environment};
use crate::reply::*;
use crate::volfile::Volume;
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

/// The live translator.
pub struct Replicate {
    core: Arc<Core>,
    /// The copies, and the thin arbiter if there is one.
    children: Vec<Arc<dyn Translator>>,
}

impl Replicate {
    /// Builds the translator of a volume.
    ///
    /// # Errors
    /// When there are too few or too many children, or an option cannot be used.
    pub fn new(
        volume: &Volume,
        children: Vec<Arc<dyn Translator>>,
        environment: &Environment,
    ) -> Result<Arc<Self>, BuildError> {
        if !(2..=MAX_CHILDREN).contains(&children.len()) {
            let text = format!("it has {} subvolumes; 2 to {MAX_CHILDREN} can be replicated", children.len());
            return Err(BuildError::refused(volume, text));
        }
        let thin_arbiter = usize::from(volume.options.text("thin-arbiter").is_some_and(|text| !text.is_empty()));
        let options = options::Options::read(&volume.options, children.len() - thin_arbiter)?;
        if options.thin_arbiter.is_some() && children.len() != 3 {
            let text =
                format!("it has {} subvolumes; with a thin arbiter it must have two and the arbiter", children.len());
            return Err(BuildError::refused(volume, text));
        }
        if !options.pending_ids.is_empty() && options.pending_ids.len() < children.len() {
            return Err(volume.options.refuse("afr-pending-xattr", "a list of one id for each subvolume").into());
        }
        let core = Arc::new(Core::new(volume.name.clone(), children.clone(), options, environment.clock.clone()));
        status::watch(&core);
        Ok(Arc::new(Replicate { core, children }))
    }

    /// Heals an object as the self-heal daemon does, whatever the options of clients say.
    ///
    /// # Errors
    /// EIO for a split-brain; ESTALE when the object is gone; ENOTCONN and EAGAIN when it must wait.
    pub async fn heal(&self, inode: &Arc<Inode>) -> FopResult<heal::HealOutcome> {
        self.core.heal_inode(inode).await
    }
}

#[async_trait]
impl Translator for Replicate {
    fn name(&self) -> &Arc<str> {
        &self.core.name
    }

    fn kind(&self) -> &'static str {
        "cluster/replicate"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &self.children
    }

    fn events(&self) -> &EventSource {
        &self.core.events
    }

    fn abandon(&self, fd: &Fd) {
        for child in self.children() {
            child.abandon(fd);
        }
        self.core.forget_fd(fd);
    }

    fn dump(&self, out: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {
        let snapshot = self.core.snapshot();
        out("children", &self.core.count());
        out("children-up", &format!("{:?}", snapshot.up));
        out("event-generation", &snapshot.generation);
        out("open-sessions", &self.core.sessions.len());
        out("quorum-met", &self.core.has_quorum(snapshot.up));
        if let Some(arbiter) = &self.core.thin_arbiter {
            out("thin-arbiter-up", &arbiter.is_up());
        }
    }

    async fn drain(&self) {
        self.core.end_sessions().await;
        for child in self.children() {
            child.drain().await;
        }
    }

    async fn lookup(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        self.core.lookup(context, loc, xdata).await
    }

    async fn stat(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        self.core.stat(context, loc, xdata).await
    }

    async fn fstat(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        self.core.fstat(context, fd, xdata).await
    }

    async fn truncate(&self, context: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.core.truncate(context, loc, offset, xdata).await
    }

    async fn ftruncate(&self, context: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.core.ftruncate(context, fd, offset, xdata).await
    }

    async fn access(&self, context: &Context, loc: &Loc, mask: u32, xdata: Dict) -> FopResult<Dict> {
        self.core.access(context, loc, mask, xdata).await
    }

    async fn readlink(&self, context: &Context, loc: &Loc, size: u32, xdata: Dict) -> FopResult<ReadlinkReply> {
        self.core.readlink(context, loc, size, xdata).await
    }

    async fn mknod(
        &self,
        context: &Context,
        loc: &Loc,
        mode: u32,
        rdev: u64,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.core.mknod(context, loc, mode, rdev, umask, xdata).await
    }

    async fn mkdir(&self, context: &Context, loc: &Loc, mode: u32, umask: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.core.mkdir(context, loc, mode, umask, xdata).await
    }

    async fn unlink(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.core.unlink(context, loc, xflags, xdata).await
    }

    async fn rmdir(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.core.rmdir(context, loc, xflags, xdata).await
    }

    async fn symlink(
        &self,
        context: &Context,
        loc: &Loc,
        target: Bytes,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.core.symlink(context, loc, target, umask, xdata).await
    }

    async fn rename(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<RenameReply> {
        self.core.rename(context, old, new, xdata).await
    }

    async fn link(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        self.core.link(context, old, new, xdata).await
    }

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
        self.core.create(context, loc, flags, mode, umask, fd, xdata).await
    }

    async fn open(&self, context: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.core.open(context, loc, flags, fd, xdata).await
    }

    async fn readv(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<ReadReply> {
        self.core.readv(context, fd, size, offset, flags, xdata).await
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
        self.core.writev(context, fd, data, offset, flags, xdata).await
    }

    async fn flush(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.core.flush(context, fd, xdata).await
    }

    async fn fsync(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        self.core.fsync(context, fd, datasync, xdata).await
    }

    async fn opendir(&self, context: &Context, loc: &Loc, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.core.opendir(context, loc, fd, xdata).await
    }

    async fn fsyncdir(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<Dict> {
        self.core.fsyncdir(context, fd, datasync, xdata).await
    }

    async fn readdir(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirReply> {
        self.core.readdir(context, fd, size, offset, xdata).await
    }

    async fn readdirp(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        self.core.readdirp(context, fd, size, offset, xdata).await
    }

    async fn statfs(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatfsReply> {
        self.core.statfs(context, loc, xdata).await
    }

    async fn setxattr(&self, context: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.core.setxattr(context, loc, dict, flags, xdata).await
    }

    async fn getxattr(&self, context: &Context, loc: &Loc, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        self.core.getxattr(context, loc, name, xdata).await
    }

    async fn removexattr(&self, context: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.core.removexattr(context, loc, name, xdata).await
    }

    async fn fsetxattr(&self, context: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.core.fsetxattr(context, fd, dict, flags, xdata).await
    }

    async fn fgetxattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.core.fgetxattr(context, fd, name, xdata).await
    }

    async fn fremovexattr(&self, context: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.core.fremovexattr(context, fd, name, xdata).await
    }

    async fn lk(&self, context: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, xdata: Dict) -> FopResult<LkReply> {
        self.core.lk(context, fd, cmd, flock, xdata).await
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
        self.core.inodelk(context, volume, loc, cmd, flock, xdata).await
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
        self.core.finodelk(context, volume, fd, cmd, flock, xdata).await
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
        self.core.entrylk(context, volume, loc, name, cmd, kind, xdata).await
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
        self.core.fentrylk(context, volume, fd, name, cmd, kind, xdata).await
    }

    async fn xattrop(
        &self,
        context: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.core.xattrop(context, loc, flags, dict, xdata).await
    }

    async fn fxattrop(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.core.fxattrop(context, fd, flags, dict, xdata).await
    }

    async fn rchecksum(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        self.core.rchecksum(context, fd, offset, len, xdata).await
    }

    async fn setattr(
        &self,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.core.setattr(context, loc, stat, valid, xdata).await
    }

    async fn fsetattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.core.fsetattr(context, fd, stat, valid, xdata).await
    }

    async fn fallocate(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        keep_size: bool,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.core.fallocate(context, fd, keep_size, offset, len, xdata).await
    }

    async fn discard(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.core.discard(context, fd, offset, len, xdata).await
    }

    async fn zerofill(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.core.zerofill(context, fd, offset, len, xdata).await
    }

    async fn ipc(&self, context: &Context, op: i32, xdata: Dict) -> FopResult<Dict> {
        self.core.ipc(context, op, xdata).await
    }

    async fn seek(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        what: SeekWhat,
        xdata: Dict,
    ) -> FopResult<SeekReply> {
        self.core.seek(context, fd, offset, what, xdata).await
    }

    async fn lease(&self, context: &Context, loc: &Loc, lease: Lease, xdata: Dict) -> FopResult<LeaseReply> {
        self.core.lease(context, loc, lease, xdata).await
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
        self.core
            .copy_file_range(context, source, source_offset, destination, destination_offset, len, flags, xdata)
            .await
    }
}
