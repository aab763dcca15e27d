//! Fops that change attributes and extended attributes: each is a transaction on all copies.

use std::sync::Arc;

use rgfs_protocol::types::XattropFlags;
use rgfs_protocol::{Dict, Errno, Iatt};

use super::changelog::Kind;
use super::core::Core;
use super::data::Change;
use super::session::Range;
use super::target::Target;
use crate::reply::{PrePostReply, XattrReply};
use crate::{Context, Fd, FopResult, Loc};

/// Prefixes of names that are this translator's own, on the bricks.
const PRIVATE_PREFIXES: [&[u8]; 2] = [b"trusted.afr.", b"trusted.glusterfs.afr."];
/// A copy without the xattr that is removed is as the others are then. The C client has them accuse it; and when the bricks set the xattr by
/// themselves while two clients remove it (`trusted.glusterfs.protect.writes`), each copy may lack it once: that would be a split-brain.
const LACKING: Option<Errno> = Some(Errno::ENODATA);

impl Core {
    fn metadata(&self, context: &Context, target: Target, step: &'static str) -> Change {
        let (kind, range, context) = (Kind::Metadata, Range::ALL, context.clone());
        Change { kind, target, range, linger: false, stable: true, syncs: false, needless: None, context, step }
    }

    /// [`Core::metadata`] of an open file, which is opened where it is not yet.
    fn metadata_of_fd(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, step: &'static str) -> Change {
        self.open_late(fd, self.snapshot().up);
        self.metadata(context, Target::Fd(fd.clone()), step)
    }

    /// Refuses names that only transactions may change: who could set them could make a copy look good.
    fn check_name(&self, name: &[u8], step: &'static str) -> FopResult<()> {
        if PRIVATE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let detail = format!("{} belongs to cluster/replicate", String::from_utf8_lossy(name));
            return Err(self.error(Errno::EPERM, step).with_detail(detail));
        }
        Ok(())
    }

    pub(super) async fn setattr(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let change = self.metadata(context, Target::Inode(loc.inode.clone()), "SETATTR");
        let arguments = (context.clone(), loc.clone(), *stat, valid, xdata);
        self.change(change, arguments, |(context, loc, stat, valid, xdata), _, child| {
            child.setattr(context, loc, stat, *valid, xdata.clone())
        })
        .await
    }

    pub(super) async fn fsetattr(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let change = self.metadata_of_fd(context, fd, "FSETATTR");
        let arguments = (context.clone(), fd.clone(), *stat, valid, xdata);
        self.change(change, arguments, |(context, fd, stat, valid, xdata), _, child| {
            child.fsetattr(context, fd, stat, *valid, xdata.clone())
        })
        .await
    }

    pub(super) async fn setxattr(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        dict: Dict,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<Dict> {
        for (name, _) in dict.iter() {
            self.check_name(name, "SETXATTR")?;
        }
        let target = Target::Inode(loc.inode.clone());
        if let Some(done) = self.virtual_setxattr(context, &target, &dict).await {
            return done;
        }
        let change = self.metadata(context, Target::Inode(loc.inode.clone()), "SETXATTR");
        let arguments = (context.clone(), loc.clone(), dict, flags, xdata);
        self.change(change, arguments, |(context, loc, dict, flags, xdata), _, child| {
            child.setxattr(context, loc, dict.clone(), *flags, xdata.clone())
        })
        .await
    }

    pub(super) async fn fsetxattr(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        dict: Dict,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<Dict> {
        for (name, _) in dict.iter() {
            self.check_name(name, "FSETXATTR")?;
        }
        let target = Target::Inode(fd.inode.clone());
        if let Some(done) = self.virtual_setxattr(context, &target, &dict).await {
            return done;
        }
        let change = self.metadata_of_fd(context, fd, "FSETXATTR");
        let arguments = (context.clone(), fd.clone(), dict, flags, xdata);
        self.change(change, arguments, |(context, fd, dict, flags, xdata), _, child| {
            child.fsetxattr(context, fd, dict.clone(), *flags, xdata.clone())
        })
        .await
    }

    pub(super) async fn removexattr(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        name: &str,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.check_name(name.as_bytes(), "REMOVEXATTR")?;
        let target = Target::Inode(loc.inode.clone());
        let change = Change { needless: LACKING, ..self.metadata(context, target, "REMOVEXATTR") };
        let arguments = (context.clone(), loc.clone(), name.to_owned(), xdata);
        self.change(change, arguments, |(context, loc, name, xdata), _, child| {
            child.removexattr(context, loc, name, xdata.clone())
        })
        .await
    }

    pub(super) async fn fremovexattr(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        name: &str,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.check_name(name.as_bytes(), "FREMOVEXATTR")?;
        let change = Change { needless: LACKING, ..self.metadata_of_fd(context, fd, "FREMOVEXATTR") };
        let arguments = (context.clone(), fd.clone(), name.to_owned(), xdata);
        self.change(change, arguments, |(context, fd, name, xdata), _, child| {
            child.fremovexattr(context, fd, name, xdata.clone())
        })
        .await
    }

    pub(super) async fn xattrop(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let change = self.metadata(context, Target::Inode(loc.inode.clone()), "XATTROP");
        let arguments = (context.clone(), loc.clone(), flags, dict, xdata);
        self.change(change, arguments, |(context, loc, flags, dict, xdata), _, child| {
            child.xattrop(context, loc, *flags, dict.clone(), xdata.clone())
        })
        .await
    }

    pub(super) async fn fxattrop(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let change = self.metadata_of_fd(context, fd, "FXATTROP");
        let arguments = (context.clone(), fd.clone(), flags, dict, xdata);
        self.change(change, arguments, |(context, fd, flags, dict, xdata), _, child| {
            child.fxattrop(context, fd, *flags, dict.clone(), xdata.clone())
        })
        .await
    }
}
