//! `performance/write-behind`: writes are acknowledged before the bricks have them (`write-behind.c`).
//!
//! A write is acknowledged at once while the window of its inode has room, and sent in the background at once. Whoever
//! may see the difference waits: a read of the range, anything that returns or changes attributes, FSYNC, and FLUSH,
//! so that a file is on its bricks when close(2) returns. An acknowledged write that fails is reported by the next FSYNC
//! or FLUSH of the fd that it was made on. What users may rely on is in `docs/SEMANTICS.md`, "Buffered writes".
//!
//! Beyond the C client, operations that it does not order wait too: unlocking, SEEK, COPY_FILE_RANGE, xattrs, OPEN with
//! `O_TRUNC`. Failed data is dropped once and reported, never repeated behind the back of later operations. FLUSH
//! reaches the bricks even when a write failed, because it releases the owner's posix locks.
//!
//! - `queue`: what may be sent, what melts, what waits; pure;
//! - `job`: a write on its way, short answers among them;
//! - `file`: the state of an inode that was written;
//! - `lost`: failures that an fd has to report;
//! - `engine`: the asynchronous part of it all;
//! - here: each fop, and what it depends on.

mod engine;
mod file;
mod job;
mod lost;
mod options;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use rgfs_protocol::types::{Flock, Lease, LkCmd, LockType, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Iatt};

use self::engine::Engine;
use self::options::Settings;
use self::queue::Extent;
use crate::graph::{BuildError, Environment};
use crate::reply::*;
use crate::volfile::Volume;
use crate::{Context, Fd, FopError, FopResult, Inode, Loc, Translator};

/// A live `performance/write-behind`.
pub struct WriteBehind {
    child: [Arc<dyn Translator>; 1],
    engine: Arc<Engine>,
}

impl WriteBehind {
    /// Builds it over its one child.
    ///
    /// # Errors
    /// When an option has a value that cannot be used, or the number of children is not one.
    pub fn new(
        volume: &Volume,
        children: Vec<Arc<dyn Translator>>,
        _environment: &Environment,
    ) -> Result<Arc<Self>, BuildError> {
        let settings = Settings::read(volume)?;
        let [child] = BuildError::only_child(volume, children)?;
        let engine = Engine::new(volume.name.clone(), child.clone(), settings);
        Ok(Arc::new(WriteBehind { child: [child], engine }))
    }

    /// Waits for all writes of `inode` so far.
    async fn settle(&self, inode: &Inode) {
        self.engine.settle(inode, Extent::EVERYTHING).await;
    }
}

#[async_trait]
impl Translator for WriteBehind {
    fn name(&self) -> &Arc<str> {
        &self.engine.name
    }

    fn kind(&self) -> &'static str {
        "performance/write-behind"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &self.child
    }

    fn dump(&self, out: &mut dyn FnMut(&str, &dyn Display)) {
        out("window-size", &self.engine.settings.limits.window);
        out("aggregate-size", &self.engine.settings.limits.aggregate);
        out("unanswered-bytes", &self.engine.unanswered());
    }

    fn take_failure(&self, fd: &Fd) -> Option<FopError> {
        lost::take(fd, self.engine.key).or_else(|| self.child().take_failure(fd))
    }

    async fn drain(&self) {
        for file in self.engine.files.all() {
            self.engine.settle_file(&file, Extent::EVERYTHING).await;
        }
        self.child().drain().await;
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
        self.engine.write(context, fd, data, offset, flags, xdata).await
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
        let Some(file) = self.engine.file(&fd.inode) else {
            return self.child().readv(context, fd, size, offset, flags, xdata).await;
        };
        self.engine.settle_file(&file, self.engine.extent(0, offset, size as usize)).await;
        let moment = self.engine.files.moment();
        let again = xdata.clone();
        let mut reply = self.child().readv(context, fd, size, offset, flags, xdata).await?;
        let stale = file.is_stale_since(moment);
        if stale && reply.data.iter().map(bytes::Bytes::len).sum::<usize>() < size as usize {
            // The end of the file that the child saw may lie before an acknowledged write: then this is a hole of zeros.
            self.engine.settle_file(&file, Extent::EVERYTHING).await;
            reply = self.child().readv(context, fd, size, offset, flags, again).await?;
        }
        if stale {
            reply.stat = Iatt::default();
        }
        Ok(reply)
    }

    async fn flush(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let Some(file) = self.engine.file(&fd.inode) else { return self.child().flush(context, fd, xdata).await };
        self.engine.settle_file(&file, Extent::EVERYTHING).await;
        file.queue().shrink();
        let reply = self.child().flush(context, fd, xdata).await;
        match self.engine.take_lost(&file, fd) {
            Some(error) => Err(error),
            None => reply,
        }
    }

    async fn fsync(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        let Some(file) = self.engine.file(&fd.inode) else {
            return self.child().fsync(context, fd, datasync, xdata).await;
        };
        self.engine.settle_file(&file, Extent::EVERYTHING).await;
        let reply = self.child().fsync(context, fd, datasync, xdata).await;
        match self.engine.take_lost(&file, fd) {
            Some(error) => Err(error),
            None => reply,
        }
    }

    async fn lookup(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        let files = &self.engine.files;
        if let Some(file) = self.engine.file(&loc.inode) {
            self.engine.settle_file(&file, Extent::EVERYTHING).await;
        } else if !files.is_empty() {
            // The name may turn out to be another one of a file with buffered writes.
            let moment = files.moment();
            let reply = self.child().lookup(context, loc, xdata.clone()).await?;
            let Some(file) = files.find(reply.stat.gfid).filter(|file| file.is_stale_since(moment)) else {
                return Ok(reply);
            };
            self.engine.settle_file(&file, Extent::EVERYTHING).await;
        }
        self.child().lookup(context, loc, xdata).await
    }

    async fn readdirp(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        let files = &self.engine.files;
        let moment = files.moment();
        let mut reply = self.child().readdirp(context, fd, size, offset, xdata).await?;
        if files.is_empty() {
            return Ok(reply);
        }
        for entry in reply.entries.iter_mut().filter(|entry| !entry.stat.is_absent()) {
            if files.find(entry.stat.gfid).is_some_and(|file| file.is_stale_since(moment)) {
                entry.stat = Iatt::default();
                entry.inode = None;
            }
        }
        Ok(reply)
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
        self.settle(&loc.inode).await;
        let files = &self.engine.files;
        let moment = files.moment();
        let mut reply = self.child().create(context, loc, flags, mode, umask, fd, xdata).await?;
        // Without O_EXCL it may have opened a file that has buffered writes under another name.
        if let Some(file) = files.find(reply.stat.gfid).filter(|file| file.is_stale_since(moment)) {
            self.engine.settle_file(&file, Extent::EVERYTHING).await;
            // The file is open: a failure to ask once more must not fail the fop.
            if let Ok(fresh) = self.child().fstat(context, fd, Dict::NULL).await {
                reply.stat = fresh.stat;
            }
        }
        Ok(reply)
    }

    async fn open(&self, context: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        if flags & libc::O_TRUNC != 0 {
            self.settle(&loc.inode).await;
        }
        self.child().open(context, loc, flags, fd, xdata).await
    }

    async fn stat(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        self.settle(&loc.inode).await;
        self.child().stat(context, loc, xdata).await
    }

    async fn fstat(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        self.settle(&fd.inode).await;
        self.child().fstat(context, fd, xdata).await
    }

    async fn truncate(&self, context: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.settle(&loc.inode).await;
        self.child().truncate(context, loc, offset, xdata).await
    }

    async fn ftruncate(&self, context: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.settle(&fd.inode).await;
        self.child().ftruncate(context, fd, offset, xdata).await
    }

    async fn setattr(
        &self,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.settle(&loc.inode).await;
        self.child().setattr(context, loc, stat, valid, xdata).await
    }

    async fn fsetattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.settle(&fd.inode).await;
        self.child().fsetattr(context, fd, stat, valid, xdata).await
    }

    async fn rename(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<RenameReply> {
        self.settle(&old.inode).await;
        self.settle(&new.inode).await;
        self.child().rename(context, old, new, xdata).await
    }

    async fn link(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        self.settle(&old.inode).await;
        self.child().link(context, old, new, xdata).await
    }

    async fn setxattr(&self, context: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.settle(&loc.inode).await;
        self.child().setxattr(context, loc, dict, flags, xdata).await
    }

    async fn getxattr(&self, context: &Context, loc: &Loc, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        self.settle(&loc.inode).await;
        self.child().getxattr(context, loc, name, xdata).await
    }

    async fn removexattr(&self, context: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.settle(&loc.inode).await;
        self.child().removexattr(context, loc, name, xdata).await
    }

    async fn fsetxattr(&self, context: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.settle(&fd.inode).await;
        self.child().fsetxattr(context, fd, dict, flags, xdata).await
    }

    async fn fgetxattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.settle(&fd.inode).await;
        self.child().fgetxattr(context, fd, name, xdata).await
    }

    async fn fremovexattr(&self, context: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.settle(&fd.inode).await;
        self.child().fremovexattr(context, fd, name, xdata).await
    }

    async fn xattrop(
        &self,
        context: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.settle(&loc.inode).await;
        self.child().xattrop(context, loc, flags, dict, xdata).await
    }

    async fn fxattrop(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.settle(&fd.inode).await;
        self.child().fxattrop(context, fd, flags, dict, xdata).await
    }

    async fn lk(&self, context: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, xdata: Dict) -> FopResult<LkReply> {
        // Whoever is let in by this must find what was written under the lock.
        if flock.kind != LockType::Write && cmd != LkCmd::GetLk {
            self.settle(&fd.inode).await;
        }
        self.child().lk(context, fd, cmd, flock, xdata).await
    }

    async fn lease(&self, context: &Context, loc: &Loc, lease: Lease, xdata: Dict) -> FopResult<LeaseReply> {
        self.settle(&loc.inode).await;
        self.child().lease(context, loc, lease, xdata).await
    }

    async fn rchecksum(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        self.settle(&fd.inode).await;
        self.child().rchecksum(context, fd, offset, len, xdata).await
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
        self.settle(&fd.inode).await;
        self.child().fallocate(context, fd, keep_size, offset, len, xdata).await
    }

    async fn discard(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.settle(&fd.inode).await;
        self.child().discard(context, fd, offset, len, xdata).await
    }

    async fn zerofill(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.settle(&fd.inode).await;
        self.child().zerofill(context, fd, offset, len, xdata).await
    }

    async fn seek(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        what: SeekWhat,
        xdata: Dict,
    ) -> FopResult<SeekReply> {
        self.settle(&fd.inode).await;
        self.child().seek(context, fd, offset, what, xdata).await
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
        self.settle(&source.inode).await;
        self.settle(&destination.inode).await;
        self.child()
            .copy_file_range(context, source, source_offset, destination, destination_offset, len, flags, xdata)
            .await
    }
}
