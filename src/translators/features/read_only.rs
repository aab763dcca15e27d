//! `features/read-only`: whatever would change the volume answers EROFS (`read-only-common.c`).
//!
//! Snapshots and volumes with `features.read-only` have it. Internal clients (negative pid) pass: healing must go on.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::XattropFlags;
use rgfs_protocol::{Dict, Errno, Iatt};

use crate::graph::{BuildError, Environment};
use crate::reply::*;
use crate::volfile::Volume;
use crate::{Context, Fd, FopError, FopResult, Loc, Translator};

/// The translator; see the module.
pub struct ReadOnly {
    name: Arc<str>,
    children: [Arc<dyn Translator>; 1],
    enabled: bool,
}

impl ReadOnly {
    /// Builds it from its volume; option `read-only` (default off, as in C) turns it on.
    ///
    /// # Errors
    /// When the option is no boolean, or there is not exactly one child.
    pub fn new(volume: &Volume, children: Vec<Arc<dyn Translator>>, _: &Environment) -> Result<Arc<Self>, BuildError> {
        let enabled = volume.options.boolean("read-only")?.unwrap_or(false);
        Ok(Arc::new(ReadOnly {
            name: volume.name.clone(),
            children: BuildError::only_child(volume, children)?,
            enabled,
        }))
    }

    /// Refuses a change.
    fn check(&self, context: &Context, fop: &'static str) -> FopResult<()> {
        if self.enabled && context.pid >= 0 {
            return Err(FopError::new(Errno::EROFS, &self.name, fop).with_detail("the volume is read-only"));
        }
        Ok(())
    }
}

/// True when open(2) flags ask for more than reading.
fn opens_for_writing(flags: i32) -> bool {
    flags & (libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC) != 0
}

#[async_trait]
impl Translator for ReadOnly {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "features/read-only"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &self.children
    }

    fn dump(&self, out: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {
        out("read-only", &self.enabled);
    }

    async fn truncate(&self, context: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.check(context, "truncate")?;
        self.child().truncate(context, loc, offset, xdata).await
    }

    async fn ftruncate(&self, context: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.check(context, "ftruncate")?;
        self.child().ftruncate(context, fd, offset, xdata).await
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
        self.check(context, "mknod")?;
        self.child().mknod(context, loc, mode, rdev, umask, xdata).await
    }

    async fn mkdir(&self, context: &Context, loc: &Loc, mode: u32, umask: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.check(context, "mkdir")?;
        self.child().mkdir(context, loc, mode, umask, xdata).await
    }

    async fn unlink(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.check(context, "unlink")?;
        self.child().unlink(context, loc, xflags, xdata).await
    }

    async fn rmdir(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.check(context, "rmdir")?;
        self.child().rmdir(context, loc, xflags, xdata).await
    }

    async fn symlink(
        &self,
        context: &Context,
        loc: &Loc,
        target: Bytes,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.check(context, "symlink")?;
        self.child().symlink(context, loc, target, umask, xdata).await
    }

    async fn rename(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<RenameReply> {
        self.check(context, "rename")?;
        self.child().rename(context, old, new, xdata).await
    }

    async fn link(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        self.check(context, "link")?;
        self.child().link(context, old, new, xdata).await
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
        self.check(context, "create")?;
        self.child().create(context, loc, flags, mode, umask, fd, xdata).await
    }

    async fn open(&self, context: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        if opens_for_writing(flags) {
            self.check(context, "open")?;
        }
        self.child().open(context, loc, flags, fd, xdata).await
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
        self.check(context, "writev")?;
        self.child().writev(context, fd, data, offset, flags, xdata).await
    }

    async fn setxattr(&self, context: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.check(context, "setxattr")?;
        self.child().setxattr(context, loc, dict, flags, xdata).await
    }

    async fn fsetxattr(&self, context: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.check(context, "fsetxattr")?;
        self.child().fsetxattr(context, fd, dict, flags, xdata).await
    }

    async fn removexattr(&self, context: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.check(context, "removexattr")?;
        self.child().removexattr(context, loc, name, xdata).await
    }

    async fn fremovexattr(&self, context: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.check(context, "fremovexattr")?;
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
        self.check(context, "xattrop")?;
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
        self.check(context, "fxattrop")?;
        self.child().fxattrop(context, fd, flags, dict, xdata).await
    }

    async fn setattr(
        &self,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.check(context, "setattr")?;
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
        self.check(context, "fsetattr")?;
        self.child().fsetattr(context, fd, stat, valid, xdata).await
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
        self.check(context, "fallocate")?;
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
        self.check(context, "discard")?;
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
        self.check(context, "zerofill")?;
        self.child().zerofill(context, fd, offset, len, xdata).await
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
        self.check(context, "copy_file_range")?;
        self.child()
            .copy_file_range(context, source, source_offset, destination, destination_offset, len, flags, xdata)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{environment, volume};
    use crate::translators::testing::Recorder;
    use crate::{Inode, task};

    /// Runs all kinds of fops; returns the names of those that the child got.
    fn passed(option: &str, pid: i32) -> Vec<&'static str> {
        let child = Recorder::new("child");
        let volume = volume("features/read-only", &[("read-only", option)]);
        let top = ReadOnly::new(&volume, vec![child.clone()], &environment()).unwrap();
        task::spawn(async move {
            let context = Context { pid, ..Context::internal() };
            let (loc, none) = (Loc::inode(Inode::fresh()), || Dict::NULL);
            let fd = Fd::new(Inode::fresh(), 0, pid);
            let _ = top.lookup(&context, &loc, none()).await;
            let _ = top.open(&context, &loc, libc::O_RDONLY, &fd, none()).await;
            for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_TRUNC] {
                let opened = top.open(&context, &loc, flags, &fd, none()).await;
                assert!(opened.map_err(|error| error.errno).err().is_none_or(|errno| errno == Errno::EROFS));
            }
            let _ = top.mkdir(&context, &loc, 0, 0, none()).await;
            let _ = top.rename(&context, &loc, &loc, none()).await;
            let _ = top.writev(&context, &fd, Payload::new(), 0, 0, none()).await;
            let _ = top.fsetxattr(&context, &fd, none(), 0, none()).await;
            let _ = top.readv(&context, &fd, 1, 0, 0, none()).await;
            let _ = top.flush(&context, &fd, none()).await;
        });
        child.fops()
    }

    #[test]
    fn only_what_changes_nothing_passes() {
        assert_eq!(passed("on", 100), ["lookup", "open", "readv", "flush"]);
    }

    #[test]
    fn everything_passes_for_internal_clients_and_when_off() {
        assert_eq!(passed("on", -6).len(), 11);
        assert_eq!(passed("off", 100).len(), 11);
    }
}
