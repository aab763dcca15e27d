//! UNLINK and RMDIR (`dht_unlink`, `dht_rmdir`).
//!
//! A file goes before its linkto: the other way round would hide a file whose removal fails. A directory goes from its
//! hashed subvolume last: until then nobody can make the name anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rgfs_protocol::types::set_attr;
use rgfs_protocol::{Dict, Errno, Iatt, Value};

use super::core::{Core, DirectoryState, as_root, to_the_end};
use super::layout::Share;
use super::locks::Transaction;
use super::{keys, linkto, merge};
use crate::reply::{EntryPlus, RemoveReply};
use crate::translators::cluster::join_all;
use crate::{Context, Fd, FopError, FopResult, Inode, Loc};

/// Size of the listings that look for leftovers, in bytes.
const LISTING_SIZE: u32 = 4096;
/// A directory with more linktos than this many listings hold is being filled faster than it is emptied.
const MAX_LISTINGS: u32 = 100_000;
/// How often an unlink follows a file that moves.
const ATTEMPTS: u32 = 3;

impl Core {
    pub(super) async fn unlink(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xflags: u32,
        xdata: Dict,
    ) -> FopResult<RemoveReply> {
        if let Some(only) = self.only() {
            return only.unlink(context, loc, xflags, xdata).await;
        }
        let (inode, mut parent) = self.parent(context, loc).await?;
        let mut known = self.file(&loc.inode).map(|file| file.cached);
        let mut hashed = self.hashed(&parent, &loc.name);
        if let (Some(cached), Some(home)) = (known, hashed)
            && cached == home
        {
            let unlink = self.child(cached).unlink(context, loc, xflags, xdata.clone());
            let (removed, changed) = self.beside(context, &inode, &parent, home, unlink).await;
            match removed {
                Ok(reply) => {
                    if let Some(home) = changed.as_ref().and_then(|changed| self.hashed(changed, &loc.name))
                        && home != cached
                    {
                        self.remove_linkto_of(context, loc, home).await;
                    }
                    self.clear_strays(context, loc, &[cached]).await;
                    return Ok(normalised(reply));
                }
                // Moved away or removed by others: find it.
                Err(error) if error.errno == Errno::ENOENT => {}
                Err(error) => return Err(error),
            }
            let now = match changed {
                Some(changed) => Some(changed),
                None => self.read_again(context, &inode, &parent).await,
            };
            parent = now.unwrap_or(parent);
            known = None;
        } else if let Some(home) = hashed {
            let ((), changed) = self.beside(context, &inode, &parent, home, async {}).await;
            parent = changed.unwrap_or(parent);
        }
        hashed = self.hashed(&parent, &loc.name).or(hashed);
        let (core, context, loc) = (self.clone(), context.clone(), loc.clone());
        let known = known.filter(|cached| Some(*cached) != hashed);
        let transaction = async move { core.unlink_with_linkto(&context, &loc, xflags, xdata, hashed, known).await };
        to_the_end(self, "unlink", transaction).await
    }

    /// Removes the linktos that earlier layouts have left of a name, on all subvolumes but `except`. While the volume grew, each
    /// layout gave the name another home. What is left there would lead nowhere; and it is one inode with the linkto that the
    /// same file gets there under its next name: when rebalance moves the file to that subvolume, the old name would be back.
    pub(super) async fn clear_strays(&self, context: &Context, loc: &Loc, except: &[usize]) {
        // No layout has changed before the volume was rebalanced.
        if self.commit_hash.load(Ordering::Relaxed) == 0 {
            return;
        }
        let others = (0..self.children.len()).filter(|at| !except.contains(at));
        join_all(others.map(|at| Box::pin(self.remove_linkto_of(context, loc, at)))).await;
    }

    /// Removes the linkto of a name that is gone.
    async fn remove_linkto_of(&self, context: &Context, loc: &Loc, at: usize) {
        let guard = Dict::empty().with(keys::UNLINK_ONLY_LINKTO, Value::Int(1));
        match self.child(at).unlink(&as_root(context), loc, 0, guard).await {
            Err(error) if !matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => {
                tracing::info!(%error, "the linkto of a removed file stays");
            }
            _ => {}
        }
    }

    /// Removes a file that is, or may be, off its hashed subvolume, and the linkto there.
    async fn unlink_with_linkto(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xflags: u32,
        xdata: Dict,
        hashed: Option<usize>,
        known: Option<usize>,
    ) -> FopResult<RemoveReply> {
        let mut cached = known;
        let mut removed: Option<RemoveReply> = None;
        for _ in 0..ATTEMPTS {
            let at = match cached.take() {
                Some(at) => at,
                None => {
                    let fresh = Loc { inode: Inode::fresh(), ..loc.clone() };
                    match self.lookup(&as_root(context), &fresh, Dict::NULL).await {
                        Ok(found) if found.stat.is_dir() => return Err(self.error(Errno::EISDIR, "unlink")),
                        Ok(found) if !loc.gfid().is_null() && found.stat.gfid != loc.gfid() && removed.is_some() => {
                            break;
                        }
                        Ok(_) => self.cached(context, &fresh.inode).await?,
                        Err(error) if error.errno == Errno::ENOENT && removed.is_some() => break,
                        Err(error) => return Err(error),
                    }
                }
            };
            match self.child(at).unlink(context, loc, xflags, xdata.clone()).await {
                Ok(reply) => removed = Some(normalised(reply)),
                Err(error) if error.errno == Errno::ENOENT => continue,
                Err(error) => return Err(error),
            }
            let Some(hashed) = hashed.filter(|hashed| *hashed != at) else { break };
            // Not "unless it is open": rebalance holds it open, and would bring the file back.
            let guard = Dict::empty().with(keys::UNLINK_ONLY_LINKTO, Value::Int(1));
            match self.child(hashed).unlink(&as_root(context), loc, xflags, guard).await {
                // It has just become the file: look again and remove that.
                Err(error) if error.errno == Errno::EBUSY => {}
                Err(error) if !matches!(error.errno, Errno::ENOENT | Errno::ENOTCONN) => return Err(error),
                _ => break,
            }
        }
        if removed.is_some() {
            self.clear_strays(context, loc, hashed.as_slice()).await;
        }
        removed.ok_or_else(|| self.error(Errno::ENOENT, "unlink"))
    }

    pub(super) async fn rmdir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xflags: u32,
        xdata: Dict,
    ) -> FopResult<RemoveReply> {
        if let Some(only) = self.only() {
            return only.rmdir(context, loc, xflags, xdata).await;
        }
        let (core, context, loc) = (self.clone(), context.clone(), loc.clone());
        let transaction = async move {
            if xflags & 1 == 0 {
                core.clear_leftovers(&context, &loc).await?;
            }
            core.remove_directory(&context, &loc, xflags, xdata).await
        };
        to_the_end(self, "rmdir", transaction).await
    }

    /// Fails unless the directory holds nothing but linktos that lead nowhere; removes those.
    async fn clear_leftovers(self: &Arc<Self>, context: &Context, loc: &Loc) -> FopResult<()> {
        let root = as_root(context);
        let fd = Fd::new(loc.inode.clone(), libc::O_DIRECTORY, root.pid);
        let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
        let opens = self.children.iter().map(|child| child.opendir(&root, loc, &fd, request.clone()));
        let mut opened = Vec::new();
        for (index, result) in join_all(opens).await.into_iter().enumerate() {
            match result {
                Ok(_) => opened.push(index),
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => {}
                Err(error) => return Err(error),
            }
        }
        let list = |index: usize| self.child(index).readdirp(&root, &fd, LISTING_SIZE, 0, request.clone());
        let first = join_all(opened.iter().map(|index| list(*index))).await;
        for (index, listing) in opened.into_iter().zip(first) {
            let mut entries = listing?.entries;
            for _ in 0..MAX_LISTINGS {
                entries.retain(|entry| !matches!(entry.entry.name.as_ref(), b"." | b".."));
                if entries.is_empty() {
                    break;
                }
                for entry in &entries {
                    self.clear_leftover(&root, loc, index, entry).await?;
                }
                entries = list(index).await?.entries;
            }
        }
        Ok(())
    }

    /// Removes one entry of a subvolume if it is a linkto whose file is not there.
    async fn clear_leftover(&self, root: &Context, loc: &Loc, at: usize, entry: &EntryPlus) -> FopResult<()> {
        let full = || self.error(Errno::ENOTEMPTY, "rmdir");
        if !linkto::is_linkto(&entry.stat, &entry.xdata) {
            return Err(full());
        }
        let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
        let inside = Loc::entry(loc.inode.clone(), entry.entry.name.clone(), Inode::fresh());
        let target = linkto::target(&entry.xdata).and_then(|name| self.index_of(&name)).filter(|target| *target != at);
        if let Some(target) = target {
            match self.child(target).lookup(root, &inside, request.clone()).await {
                Ok(_) => return Err(full()),
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => {}
                Err(error) => return Err(error),
            }
        }
        match self.child(at).lookup(root, &inside, request).await {
            Ok(there) if linkto::is_linkto(&there.stat, &there.xdata) => {}
            Ok(_) => return Err(full()),
            Err(error) if error.errno == Errno::ENOENT => return Ok(()),
            Err(error) => return Err(error),
        }
        match self.child(at).unlink(root, &inside, 0, linkto::guarded_unlink_xdata()).await {
            Err(error) if error.errno == Errno::EBUSY => Err(error.with_errno(Errno::ENOTEMPTY)),
            Err(error) if error.errno != Errno::ENOENT => Err(error),
            _ => Ok(()),
        }
    }

    async fn remove_directory(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xflags: u32,
        xdata: Dict,
    ) -> FopResult<RemoveReply> {
        let (parent, directory) = self.parent(context, loc).await?;
        let hashed = self.hashed(&directory, &loc.name).unwrap_or(0);
        let doomed = self.directory(&loc.inode);
        let mut transaction = Transaction::new(self, context);
        transaction.namespace(hashed, &parent, &loc.name).await?;

        let others: Vec<usize> = (0..self.children.len()).filter(|index| *index != hashed).collect();
        let removals = others.iter().map(|index| self.child(*index).rmdir(context, loc, xflags, xdata.clone()));
        let mut gone = Vec::new();
        let mut failure: Option<FopError> = None;
        let mut merged = RemoveReply::default();
        for (index, result) in others.iter().zip(join_all(removals).await) {
            match result {
                Ok(reply) => {
                    gone.push(*index);
                    merge::merge_directory(&mut merged.preparent, &reply.preparent);
                    merge::merge_directory(&mut merged.postparent, &reply.postparent);
                }
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => {}
                Err(error) => failure = Some(error),
            }
        }
        let error = match failure {
            Some(error) => error,
            None => match self.child(hashed).rmdir(context, loc, xflags, xdata).await {
                Ok(reply) => {
                    merge::merge_directory(&mut merged.preparent, &reply.preparent);
                    merge::merge_directory(&mut merged.postparent, &reply.postparent);
                    merged.xdata = reply.xdata;
                    transaction.release();
                    return Ok(merged);
                }
                Err(error) if error.errno == Errno::ENOENT && !gone.is_empty() => return Ok(merged),
                Err(error) => error,
            },
        };
        if !gone.is_empty() {
            let (root, by_gfid) = (as_root(context), Loc::inode(loc.inode.clone()));
            match self.child(hashed).stat(&root, &by_gfid, Dict::NULL).await {
                Ok(there) => self.restore(context, loc, &there.stat, hashed, doomed.as_deref(), &gone).await,
                Err(error) => {
                    tracing::warn!(%error, "a directory that could not be removed is missing on some children")
                }
            }
        }
        Err(error)
    }

    /// Makes the directory again where it was removed, because it stays elsewhere. The caller holds the namespace lock.
    async fn restore(
        &self,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        hashed: usize,
        state: Option<&DirectoryState>,
        gone: &[usize],
    ) {
        let root = &as_root(context);
        let entry = Loc { inode: Inode::fresh(), ..loc.clone() };
        let inode = Inode::known(stat.gfid, stat.file_type());
        let by_gfid = Loc::inode(inode.clone());
        let xattrs = self.custom_xattrs(root, &inode, hashed).await.unwrap_or_default();
        for index in gone {
            let child = self.child(*index);
            if let Err(error) = self.make_again(root, &entry, stat, &xattrs, *index).await {
                tracing::warn!(%error, "a directory that could not be removed is missing on one child now");
                continue;
            }
            let valid = set_attr::UID | set_attr::GID | set_attr::MODE;
            let owned = child.setattr(root, &by_gfid, stat, valid, Dict::NULL).await.map(|_| ());
            let written = match state.and_then(|state| state.layout.shares().get(*index)) {
                Some(Share::Written(disk)) => {
                    let value = Value::Ptr(Bytes::copy_from_slice(&disk.encode()));
                    let internal = Dict::empty().with(keys::INTERNAL_FOP, Value::str("yes"));
                    let dict = Dict::empty().with(keys::LAYOUT, value);
                    child.setxattr(root, &by_gfid, dict, 0, internal).await.map(|_| ())
                }
                _ => Ok(()),
            };
            if let Err(error) = owned.and(written) {
                tracing::warn!(%error, "a directory that could not be removed lacks attributes on one child");
            }
        }
    }
}

fn normalised(mut reply: RemoveReply) -> RemoveReply {
    merge::normalise_directory(&mut reply.preparent);
    merge::normalise_directory(&mut reply.postparent);
    reply
}
