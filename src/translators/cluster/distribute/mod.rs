//! `cluster/distribute`: every name has one home among the children, found by a hash of the name.
//!
//! A directory is on all children; each of them takes a range of the hashes of its names ([`layout`]). A file is on the
//! child that takes its [`hash`], or elsewhere, and then that child has a [`linkto`] file that says where.
//!
//! - decisions, without I/O: [`hash`], [`name`], [`layout`], [`new_layout`], [`space`], [`linkto`], [`everywhere`],
//!   [`directory_view`], [`heal_plan`], [`rename_plan`], [`migration`], [`merge`], [`cookie`], [`status`], [`options`];
//! - `preference`: where new files of `cluster/nufa` and `cluster/switch` go; in all else these are distribute;
//! - fops: `lookup`, `create`, `mkdir`, `remove`, `rename_file`, `rename_directory`, `link`, `readdir`,
//!   `directory_fops`, `virtual_xattrs`; what they share is in `core`, `freshness`, `locks`,
//!   `link_file`, `discover` and `heal`;
//! - this file: the face of the translator. Fops on files go straight to the child that has the file, and after it when it moves
//!   (`follow`, `settled`, `home`, `append`, `whereabouts`, `opened`).
//!
//! A distribute with one child has nothing to decide and passes nearly everything through (`dht_pt_fops`).

mod append;
pub mod cookie;
mod core;
mod create;
mod directory_fops;
pub mod directory_view;
mod discover;
pub mod everywhere;
mod fix_layout;
mod follow;
mod freshness;
pub mod hash;
mod heal;
mod heal_layout;
pub mod heal_plan;
mod heal_rename;
#[cfg(test)]
mod heal_tests;
mod home;
pub mod keys;
pub mod layout;
mod link;
mod link_file;
pub mod linkto;
mod locks;
mod lookup;
pub mod merge;
pub mod migration;
mod mkdir;
pub mod name;
pub mod new_layout;
mod opened;
pub mod options;
mod path_pattern;
#[cfg(test)]
pub(crate) mod planted;
mod posix_regex;
mod preference;
mod readdir;
mod remove;
mod rename_directory;
mod rename_file;
pub mod rename_plan;
#[cfg(test)]
mod rename_tests;
mod settled;
pub mod space;
pub mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod virtual_xattrs;
mod whereabouts;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt, Value};

use self::core::Core;
use self::create::Making;
use self::directory_fops::{Directory, XattrChange};
use self::follow::Target;
use self::migration::Family;
use self::preference::Preference;
use self::readdir::first_success;
use crate::event::EventSource;
use crate::graph::{BuildError, Environment};
use crate::reply::*;
use crate::translators::cluster::join_all;
use crate::volfile::Volume;
use crate::{Context, Fd, FopResult, Inode, ListingParts, Loc, Translator};

/// The live translator.
pub struct Distribute {
    core: Arc<Core>,
}

impl Distribute {
    /// Builds the translator of a volume.
    ///
    /// # Errors
    /// When there is no child, or an option cannot be used.
    pub fn new(
        volume: &Volume,
        children: Vec<Arc<dyn Translator>>,
        environment: &Environment,
    ) -> Result<Arc<Self>, BuildError> {
        Self::over(volume, children, freshness::TRUST, environment)
    }

    fn over(
        volume: &Volume,
        children: Vec<Arc<dyn Translator>>,
        trust: Duration,
        environment: &Environment,
    ) -> Result<Arc<Self>, BuildError> {
        if children.is_empty() {
            return Err(BuildError::refused(volume, "it has no subvolumes; add a `subvolumes` line"));
        }
        let options = options::Options::read(&volume.options)?;
        let clock = environment.clock.clone();
        let preference = Preference::read(volume, &children)?;
        let core = Arc::new(Core::new(volume.name.clone(), children, options, preference, trust, clock));
        status::watch(&core);
        Ok(Arc::new(Distribute { core }))
    }

    /// The child that has a file.
    async fn of_file(&self, context: &Context, inode: &Arc<Inode>) -> FopResult<&Arc<dyn Translator>> {
        Ok(self.core.child(self.core.cached(context, inode).await?))
    }

    /// The child that keeps an inode's locks: of a file the one that has it, of a directory the first.
    async fn of_locks(&self, context: &Context, inode: &Arc<Inode>) -> FopResult<&Arc<dyn Translator>> {
        if self.is_spread(inode) { Ok(self.core.child(0)) } else { self.of_file(context, inode).await }
    }

    /// True for a directory on several children.
    fn is_spread(&self, inode: &Inode) -> bool {
        self.core.only().is_none() && (inode.is_dir() || self.core.directory(inode).is_some())
    }
}

/// Asks for the attributes and the mode after XATTROP: they show a migration.
fn with_mode(xdata: Dict) -> Dict {
    with_iatt(xdata).with(keys::MODE_IN_XATTR, Value::Int(1))
}

/// Asks for the attributes after a change of xattrs: they show a migration.
fn with_iatt(xdata: Dict) -> Dict {
    xdata.with(keys::IATT_IN_XATTR, Value::Int(1))
}

#[async_trait]
impl Translator for Distribute {
    fn name(&self) -> &Arc<str> {
        &self.core.name
    }

    fn kind(&self) -> &'static str {
        "cluster/distribute"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &self.core.children
    }

    fn events(&self) -> &EventSource {
        &self.core.events
    }

    fn listing_parts(&self, fd: &Fd) -> ListingParts {
        match self.core.only() {
            Some(only) => only.listing_parts(fd),
            None => {
                let begins = (1..self.core.children.len()).map(|index| self.core.cookies.encode(index, 0));
                ListingParts { offsets: begins.collect(), graph: 0 }
            }
        }
    }

    fn dump(&self, out: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {
        out("subvolumes", &self.core.children.len());
        out("commit-hash", &self.core.commit_hash.load(std::sync::atomic::Ordering::Relaxed));
        for (child, usage) in self.core.children.iter().zip(self.core.usages()) {
            if let Some(usage) = usage {
                out(&format!("{}.free-percent", child.name()), &usage.free_percent);
                out(&format!("{}.free-bytes", child.name()), &usage.free_bytes);
            }
        }
    }

    async fn lookup(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        self.core.lookup(context, loc, xdata).await
    }

    async fn stat(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        if self.is_spread(&loc.inode) {
            return self.core.stat_directory(context, Directory::Loc(loc), xdata).await;
        }
        self.core
            .on_file(context, Target::Loc(loc), Family::Attributes, xdata, |child, xdata, _| {
                child.stat(context, loc, xdata)
            })
            .await
    }

    async fn fstat(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        if self.is_spread(&fd.inode) {
            return self.core.stat_directory(context, Directory::Fd(fd), xdata).await;
        }
        self.core
            .on_file(context, Target::Fd(fd), Family::Attributes, xdata, |child, xdata, _| {
                child.fstat(context, fd, xdata)
            })
            .await
    }

    async fn truncate(&self, context: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.core
            .on_file(context, Target::Loc(loc), Family::Data, xdata, |child, xdata, _| {
                child.truncate(context, loc, offset, xdata)
            })
            .await
    }

    async fn ftruncate(&self, context: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.core
            .on_file(context, Target::Fd(fd), Family::Data, xdata, |child, xdata, _| {
                child.ftruncate(context, fd, offset, xdata)
            })
            .await
    }

    async fn access(&self, context: &Context, loc: &Loc, mask: u32, xdata: Dict) -> FopResult<Dict> {
        if !self.is_spread(&loc.inode) {
            return self
                .core
                .on_file(context, Target::Loc(loc), Family::Blind, xdata, |child, xdata, _| {
                    child.access(context, loc, mask, xdata)
                })
                .await;
        }
        let mut last = None;
        for child in self.children() {
            match child.access(context, loc, mask, xdata.clone()).await {
                Err(error) if matches!(error.errno, Errno::ENOTCONN | Errno::ENOENT | Errno::ESTALE) => {
                    last = Some(error);
                }
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| self.core.error(Errno::ENOTCONN, "access")))
    }

    async fn readlink(&self, context: &Context, loc: &Loc, size: u32, xdata: Dict) -> FopResult<ReadlinkReply> {
        self.core
            .on_file(context, Target::Loc(loc), Family::Blind, xdata, |child, xdata, _| {
                child.readlink(context, loc, size, xdata)
            })
            .await
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
        self.core.make(context, loc, Making::Node { mode, rdev, umask }, xdata).await
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
        self.core.make(context, loc, Making::File { flags, mode, umask, fd: fd.clone() }, xdata).await
    }

    async fn open(&self, context: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.core
            .on_file(context, Target::Loc(loc), Family::Blind, xdata, |child, xdata, _| {
                child.open(context, loc, flags, fd, xdata)
            })
            .await
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
        self.core
            .on_file(context, Target::Fd(fd), Family::Read, xdata, |child, xdata, _| {
                child.readv(context, fd, size, offset, flags, xdata)
            })
            .await
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
        match fd.flags & libc::O_APPEND != 0 {
            true => self.core.append(context, fd, data, offset, flags, xdata).await,
            false => self.core.write(context, fd, data, offset, flags, xdata).await,
        }
    }

    async fn flush(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        if self.is_spread(&fd.inode) {
            return self.core.child(0).flush(context, fd, xdata).await;
        }
        self.core.flush(context, fd, xdata).await
    }

    async fn fsync(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        self.core
            .on_file(context, Target::Fd(fd), Family::Change, xdata, |child, xdata, _| {
                child.fsync(context, fd, datasync, xdata)
            })
            .await
    }

    async fn opendir(&self, context: &Context, loc: &Loc, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.core.opendir(context, loc, fd, xdata).await
    }

    async fn fsyncdir(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<Dict> {
        let syncs = self.children().iter().map(|child| child.fsyncdir(context, fd, datasync, xdata.clone()));
        first_success(join_all(syncs).await).unwrap_or_else(|| Ok(Dict::NULL))
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
        if let Some(done) = self.core.command(context, &loc.inode, &dict).await {
            return done;
        }
        for (name, _) in dict.iter() {
            self.core.check_change(name)?;
        }
        if self.is_spread(&loc.inode) {
            let change = XattrChange::Set(&dict, flags);
            return self.core.change_directory_xattrs(context, Directory::Loc(loc), change, with_iatt(xdata)).await;
        }
        self.core
            .on_file(context, Target::Loc(loc), Family::Change, xdata, |child, xdata, is_repeated| {
                let flags = migration::flags_to_repeat(flags, is_repeated);
                child.setxattr(context, loc, dict.clone(), flags, with_iatt(xdata))
            })
            .await
    }

    async fn getxattr(&self, context: &Context, loc: &Loc, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        if self.is_spread(&loc.inode) {
            return self.core.getxattr_directory(context, Directory::Loc(loc), name, xdata).await;
        }
        self.core.getxattr_file(context, Target::Loc(loc), name, xdata).await
    }

    async fn removexattr(&self, context: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.core.check_change(name.as_bytes())?;
        if self.is_spread(&loc.inode) {
            let change = XattrChange::Remove(name);
            return self.core.change_directory_xattrs(context, Directory::Loc(loc), change, with_iatt(xdata)).await;
        }
        self.core
            .on_file(context, Target::Loc(loc), Family::Change, xdata, |child, xdata, is_repeated| async move {
                migration::removed(child.removexattr(context, loc, name, with_iatt(xdata)).await, is_repeated)
            })
            .await
    }

    async fn fsetxattr(&self, context: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        if let Some(done) = self.core.command(context, &fd.inode, &dict).await {
            return done;
        }
        for (name, _) in dict.iter() {
            self.core.check_change(name)?;
        }
        if self.is_spread(&fd.inode) {
            let change = XattrChange::Set(&dict, flags);
            return self.core.change_directory_xattrs(context, Directory::Fd(fd), change, with_iatt(xdata)).await;
        }
        self.core
            .on_file(context, Target::Fd(fd), Family::Change, xdata, |child, xdata, is_repeated| {
                let flags = migration::flags_to_repeat(flags, is_repeated);
                child.fsetxattr(context, fd, dict.clone(), flags, with_iatt(xdata))
            })
            .await
    }

    async fn fgetxattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        if self.is_spread(&fd.inode) {
            return self.core.getxattr_directory(context, Directory::Fd(fd), name, xdata).await;
        }
        self.core.getxattr_file(context, Target::Fd(fd), name, xdata).await
    }

    async fn fremovexattr(&self, context: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.core.check_change(name.as_bytes())?;
        if self.is_spread(&fd.inode) {
            let change = XattrChange::Remove(name);
            return self.core.change_directory_xattrs(context, Directory::Fd(fd), change, with_iatt(xdata)).await;
        }
        self.core
            .on_file(context, Target::Fd(fd), Family::Change, xdata, |child, xdata, is_repeated| async move {
                migration::removed(child.fremovexattr(context, fd, name, with_iatt(xdata)).await, is_repeated)
            })
            .await
    }

    async fn lk(&self, context: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, xdata: Dict) -> FopResult<LkReply> {
        if self.is_spread(&fd.inode) {
            return self.core.child(0).lk(context, fd, cmd, flock, xdata).await;
        }
        self.core
            .on_file(context, Target::Fd(fd), Family::Lock, xdata, |child, xdata, _| {
                child.lk(context, fd, cmd, flock.clone(), xdata)
            })
            .await
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
        self.of_locks(context, &loc.inode).await?.inodelk(context, volume, loc, cmd, flock, xdata).await
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
        self.of_locks(context, &fd.inode).await?.finodelk(context, volume, fd, cmd, flock, xdata).await
    }

    async fn xattrop(
        &self,
        context: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        if self.is_spread(&loc.inode) {
            return self.core.child(0).xattrop(context, loc, flags, dict, with_iatt(xdata)).await;
        }
        self.core
            .on_file(context, Target::Loc(loc), Family::Change, xdata, |child, xdata, _| {
                child.xattrop(context, loc, flags, dict.clone(), with_mode(xdata))
            })
            .await
    }

    async fn fxattrop(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        if self.is_spread(&fd.inode) {
            return self.core.child(0).fxattrop(context, fd, flags, dict, with_iatt(xdata)).await;
        }
        self.core
            .on_file(context, Target::Fd(fd), Family::Change, xdata, |child, xdata, _| {
                child.fxattrop(context, fd, flags, dict.clone(), with_mode(xdata))
            })
            .await
    }

    async fn rchecksum(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        self.core
            .on_file(context, Target::Fd(fd), Family::Blind, xdata, |child, xdata, _| {
                child.rchecksum(context, fd, offset, len, xdata)
            })
            .await
    }

    async fn setattr(
        &self,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        if self.is_spread(&loc.inode) {
            return self.core.setattr_directory(context, Directory::Loc(loc), stat, valid, xdata).await;
        }
        self.core
            .on_file(context, Target::Loc(loc), Family::Attributes, xdata, |child, xdata, _| {
                child.setattr(context, loc, stat, valid, xdata)
            })
            .await
    }

    async fn fsetattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        if self.is_spread(&fd.inode) {
            return self.core.setattr_directory(context, Directory::Fd(fd), stat, valid, xdata).await;
        }
        self.core
            .on_file(context, Target::Fd(fd), Family::Attributes, xdata, |child, xdata, _| {
                child.fsetattr(context, fd, stat, valid, xdata)
            })
            .await
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
        self.core
            .on_file(context, Target::Fd(fd), Family::Data, xdata, |child, xdata, _| {
                child.fallocate(context, fd, keep_size, offset, len, xdata)
            })
            .await
    }

    async fn discard(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.core
            .on_file(context, Target::Fd(fd), Family::Data, xdata, |child, xdata, _| {
                child.discard(context, fd, offset, len, xdata)
            })
            .await
    }

    async fn zerofill(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.core
            .on_file(context, Target::Fd(fd), Family::Data, xdata, |child, xdata, _| {
                child.zerofill(context, fd, offset, len, xdata)
            })
            .await
    }

    async fn ipc(&self, context: &Context, op: i32, xdata: Dict) -> FopResult<Dict> {
        let calls = self.children().iter().map(|child| child.ipc(context, op, xdata.clone()));
        first_success(join_all(calls).await).unwrap_or_else(|| Ok(Dict::NULL))
    }

    async fn seek(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        what: SeekWhat,
        xdata: Dict,
    ) -> FopResult<SeekReply> {
        self.core
            .on_file(context, Target::Fd(fd), Family::Seek, xdata, |child, xdata, _| {
                child.seek(context, fd, offset, what, xdata)
            })
            .await
    }

    async fn lease(&self, context: &Context, loc: &Loc, lease: Lease, xdata: Dict) -> FopResult<LeaseReply> {
        self.of_file(context, &loc.inode).await?.lease(context, loc, lease, xdata).await
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
        let from = self.core.cached(context, &source.inode).await?;
        let to = self.core.cached(context, &destination.inode).await?;
        if from != to {
            // The kernel copies by reading and writing then.
            return Err(self
                .core
                .error(Errno::EXDEV, "copy a range")
                .with_detail("the files are on different children"));
        }
        let child = self.core.child(from);
        let copied = child
            .copy_file_range(context, source, source_offset, destination, destination_offset, len, flags, xdata)
            .await;
        if self.core.only().is_none() && migration::disturbs_copy(&copied) {
            // Reads and writes follow the files.
            return Err(self.core.error(Errno::EXDEV, "copy a range").with_detail("one of the files is being moved"));
        }
        copied
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
        self.core.child(0).entrylk(context, volume, loc, name, cmd, kind, xdata).await
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
        self.core.child(0).fentrylk(context, volume, fd, name, cmd, kind, xdata).await
    }
}
