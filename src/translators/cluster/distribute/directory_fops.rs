//! Fops on directories that concern all subvolumes: attributes, xattrs, free space (`dht-inode-write.c`, `dht_statfs`).

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::XattropFlags;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::core::Core;
use super::keys;
use super::merge::{self, StatfsSum};
use super::readdir::first_success;
use super::virtual_xattrs::is_custom;
use crate::reply::{PrePostReply, StatReply, StatfsReply};
use crate::translators::cluster::join_all;
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

/// A directory by name and gfid, or an open one.
#[derive(Clone, Copy)]
pub(super) enum Directory<'a> {
    /// A loc.
    Loc(&'a Loc),
    /// An open directory.
    Fd(&'a Arc<Fd>),
}

/// A change of xattrs.
pub(super) enum XattrChange<'a> {
    /// SETXATTR of these, with flags.
    Set(&'a Dict, u32),
    /// REMOVEXATTR of this name.
    Remove(&'a str),
}

impl Directory<'_> {
    fn inode(&self) -> &Arc<Inode> {
        match self {
            Directory::Loc(loc) => &loc.inode,
            Directory::Fd(fd) => &fd.inode,
        }
    }
}

impl XattrChange<'_> {
    fn is_custom(&self) -> bool {
        match self {
            XattrChange::Set(dict, _) => dict.iter().any(|(name, _)| is_custom(name)),
            XattrChange::Remove(name) => is_custom(name.as_bytes()),
        }
    }

    async fn on(
        &self,
        child: &Arc<dyn Translator>,
        c: &Context,
        target: Directory<'_>,
        xdata: Dict,
    ) -> FopResult<Dict> {
        match (self, target) {
            (XattrChange::Set(dict, flags), Directory::Loc(loc)) => {
                child.setxattr(c, loc, (*dict).clone(), *flags, xdata).await
            }
            (XattrChange::Set(dict, flags), Directory::Fd(fd)) => {
                child.fsetxattr(c, fd, (*dict).clone(), *flags, xdata).await
            }
            (XattrChange::Remove(name), Directory::Loc(loc)) => child.removexattr(c, loc, name, xdata).await,
            (XattrChange::Remove(name), Directory::Fd(fd)) => child.fremovexattr(c, fd, name, xdata).await,
        }
    }
}

impl Core {
    pub(super) async fn stat_directory(
        self: &Arc<Self>,
        context: &Context,
        target: Directory<'_>,
        xdata: Dict,
    ) -> FopResult<StatReply> {
        let stats = self.children.iter().map(|child| match target {
            Directory::Loc(loc) => child.stat(context, loc, xdata.clone()),
            Directory::Fd(fd) => child.fstat(context, fd, xdata.clone()),
        });
        let replies = join_all(stats).await;
        let mds = self.directory(target.inode()).and_then(|directory| directory.mds);
        let authority = mds.and_then(|mds| replies.get(mds)?.as_ref().ok()).map(|reply| reply.stat);
        let mut merged = Iatt::default();
        for reply in replies.iter().flatten() {
            merge::merge_directory(&mut merged, &reply.stat);
        }
        if let Some(known) = authority.filter(|stat| !stat.is_absent()) {
            (merged.uid, merged.gid, merged.mode) = (known.uid, known.gid, known.mode);
        }
        let mut reply = first_success(replies).unwrap_or_else(|| Ok(StatReply::default()))?;
        reply.stat = merged;
        Ok(reply)
    }

    /// Attributes go to the MDS first; what others miss is healed from there.
    pub(super) async fn setattr_directory(
        self: &Arc<Self>,
        context: &Context,
        target: Directory<'_>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let set = |child: &'_ Arc<dyn Translator>| {
            let child = child.clone();
            let xdata = xdata.clone();
            Box::pin(async move {
                match target {
                    Directory::Loc(loc) => child.setattr(context, loc, stat, valid, xdata).await,
                    Directory::Fd(fd) => child.fsetattr(context, fd, stat, valid, xdata).await,
                }
            })
        };
        let root = target.inode().gfid().is_root();
        let mut merged = PrePostReply::default();
        let others: Vec<_> = if root || matches!(target, Directory::Fd(_)) {
            self.children.iter().collect()
        } else {
            let mds = self.mds_of(context, target.inode()).await?;
            merged = set(self.child(mds)).await?;
            merge::normalise_directory(&mut merged.pre);
            merge::normalise_directory(&mut merged.post);
            self.children.iter().enumerate().filter(|(index, _)| *index != mds).map(|(_, child)| child).collect()
        };
        let replies = join_all(others.into_iter().map(set)).await;
        let owner = (merged.post.uid, merged.post.gid, merged.post.mode);
        let authoritative = !merged.post.is_absent();
        for reply in replies.iter().flatten() {
            merge::merge_directory(&mut merged.pre, &reply.pre);
            merge::merge_directory(&mut merged.post, &reply.post);
        }
        if authoritative {
            (merged.post.uid, merged.post.gid, merged.post.mode) = owner;
            for error in replies.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "attributes of a directory differ on one child now");
            }
            return Ok(merged);
        }
        let first = first_success(replies).unwrap_or_else(|| Ok(PrePostReply::default()))?;
        merged.xdata = first.xdata;
        Ok(merged)
    }

    /// Sets or removes xattrs. Those that users set are counted on the MDS while they are not everywhere.
    pub(super) async fn change_directory_xattrs(
        self: &Arc<Self>,
        context: &Context,
        target: Directory<'_>,
        change: XattrChange<'_>,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let change = &change;
        let on = |child: &'_ Arc<dyn Translator>| {
            let (child, xdata) = (child.clone(), xdata.clone());
            Box::pin(async move { change.on(&child, context, target, xdata).await })
        };
        if target.inode().gfid().is_root() || !change.is_custom() {
            let results = join_all(self.children.iter().map(on)).await;
            return first_success(results).unwrap_or_else(|| Ok(Dict::NULL));
        }
        let mds = self.mds_of(context, target.inode()).await?;
        self.count_on_mds(context, target, mds, -1).await?;
        let reply = on(self.child(mds)).await?;
        let others = self.children.iter().enumerate().filter(|(index, _)| *index != mds);
        let results = join_all(others.map(|(_, child)| on(child))).await;
        let mut everywhere = true;
        for error in results.into_iter().filter_map(Result::err) {
            everywhere = false;
            tracing::warn!(%error, "xattrs of a directory differ on one child until it is healed");
        }
        if everywhere && let Err(error) = self.count_on_mds(context, target, mds, 1).await {
            tracing::warn!(%error, "a directory will be healed without need");
        }
        Ok(reply)
    }

    async fn mds_of(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>) -> FopResult<usize> {
        let known = self.layout_of(context, inode).await?.mds;
        known.ok_or_else(|| {
            let error = self.error(Errno::EIO, "find the authority of a directory");
            error.with_detail("it has no MDS marker; look it up by name with all bricks up")
        })
    }

    async fn count_on_mds(&self, context: &Context, target: Directory<'_>, mds: usize, by: i32) -> FopResult<()> {
        let count = Value::Ptr(Bytes::copy_from_slice(&by.to_be_bytes()));
        let dict = Dict::empty().with(keys::MDS, count);
        let (child, add) = (self.child(mds), XattropFlags::AddArray);
        match target {
            Directory::Loc(loc) => child.xattrop(context, loc, add, dict, Dict::NULL).await?,
            Directory::Fd(fd) => child.fxattrop(context, fd, add, dict, Dict::NULL).await?,
        };
        Ok(())
    }

    pub(super) async fn statfs(self: &Arc<Self>, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatfsReply> {
        if let Some(only) = self.only() {
            return only.statfs(context, loc, xdata).await;
        }
        let root = Loc::inode(Inode::known(Gfid::ROOT, FileType::Directory));
        // A file is on one subvolume only; the file system it belongs to is on all.
        let everywhere = if loc.inode.is_dir() { loc } else { &root };
        let replies =
            join_all(self.children.iter().map(|child| child.statfs(context, everywhere, xdata.clone()))).await;
        let mut sum = StatfsSum::default();
        for reply in replies.iter().flatten() {
            sum.add(&reply.statfs, &reply.xdata);
        }
        let first = first_success(replies).unwrap_or_else(|| Ok(StatfsReply::default()))?;
        Ok(StatfsReply { statfs: sum.total().unwrap_or_default(), xdata: first.xdata })
    }
}
