//! Operations on names: LOOKUP, MKNOD, MKDIR, SYMLINK, LINK, UNLINK, RMDIR, RENAME, READLINK.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Iatt, Value};

use super::super::attributes::library_device;
use super::super::inode_table::{Node, ROOT};
use super::{Caller, Entry, FileSystem, is_gone, on_inode, stale};
use crate::reply::EntryReply;
use crate::{Context, FopResult, Inode, Loc};

/// What RENAME2 may ask beside the move (`renameat2(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// The new name may be there; it is replaced.
    Replace,
    /// The new name must not be there.
    NoReplace,
    /// Swap two names, or leave a whiteout: GlusterFS cannot.
    Unsupported,
}

/// Longest name, in bytes.
const NAME_MAX: usize = 255;

impl FileSystem {
    /// Finds a name. `None` when it does not exist and the kernel may remember that.
    ///
    /// # Errors
    /// ENOENT when the kernel may not; ESTALE when the directory is gone.
    pub async fn lookup(&self, caller: &Caller, parent: u64, name: Bytes) -> FopResult<Option<Entry>> {
        let (context, directory) = self.on_behalf_at(caller, parent, "lookup")?;
        match self.find(&context, &directory, &name).await {
            Ok((node, stat)) => Ok(Some(self.entry(&node, &stat, Instant::now()))),
            Err(error) if error.errno == Errno::ENOENT => {
                self.absent.note(parent, name, Instant::now());
                if self.options.negative_timeout.is_zero() { Err(error) } else { Ok(None) }
            }
            Err(error) => Err(error),
        }
    }

    /// Looks a name up and links what it finds; the caller owes the kernel one lookup of the node.
    pub(super) async fn find(&self, context: &Context, directory: &Node, name: &Bytes) -> FopResult<(Arc<Node>, Iatt)> {
        if name.as_ref() == b"." || name.as_ref() == b".." {
            return self.find_dots(context, directory, name).await;
        }
        if let Some(known) = self.table.find_name(directory.nodeid, name) {
            // With the known inode translators may spare themselves a search.
            let loc = Loc::entry(directory.inode.clone(), name.clone(), known.inode.clone());
            match self.top.lookup(context, &loc, Dict::NULL).await {
                Ok(reply) if reply.stat.gfid == known.gfid() => {
                    let node = self.table.link(&known.inode, &reply.stat, Instant::now());
                    self.name(&node, directory.nodeid, name);
                    directory.note_beside(&reply.postparent, Instant::now());
                    return Ok((node, reply.stat));
                }
                // The name leads elsewhere now: as if it had never been known.
                Ok(_) => self.table.forget_name(&known),
                Err(error) if is_gone(&error) => self.table.forget_name(&known),
                Err(error) => return Err(error),
            }
        }
        let inode = Inode::fresh();
        let loc = Loc::entry(directory.inode.clone(), name.clone(), inode.clone());
        let reply = self.top.lookup(context, &loc, self.identity("lookup")?).await?;
        if reply.stat.is_absent() {
            return Err(self.error(Errno::EIO, "lookup").with_detail("an answer without attributes"));
        }
        let node = self.table.link(&inode, &reply.stat, Instant::now());
        self.name(&node, directory.nodeid, name);
        directory.note_beside(&reply.postparent, Instant::now());
        Ok((node, reply.stat))
    }

    /// Notes that `name` in the directory `parent` is a name of `node`.
    pub(super) fn name(&self, node: &Node, parent: u64, name: &Bytes) {
        self.table.name(node, parent, name);
        // Whatever was said before: it is there now.
        self.absent.take(parent, name, Instant::now());
    }

    async fn find_dots(&self, context: &Context, directory: &Node, name: &Bytes) -> FopResult<(Arc<Node>, Iatt)> {
        let parent = directory.state().name.as_ref().map(|(parent, _)| *parent);
        let nodeid = match (name.len(), directory.nodeid, parent) {
            (1, nodeid, _) => nodeid,
            (_, ROOT, _) => ROOT,
            (_, _, Some(parent)) => parent,
            (_, _, None) => return Err(self.error(Errno::ESTALE, "lookup")),
        };
        let node = self.node(nodeid, "lookup")?;
        let reply = self.lookup_inode(context, &node).await?;
        Ok((self.table.link(&node.inode, &reply.stat, Instant::now()), reply.stat))
    }

    /// The mode, umask and xdata of a creating fop. Without ACLs the umask is applied here; with ACLs the brick does it,
    /// for a default ACL overrides the umask.
    pub(super) fn creation(&self, mode: u32, umask: u32, step: &'static str) -> FopResult<(u32, u32, Dict)> {
        let xdata = self.identity(step)?;
        if !self.options.acl {
            return Ok((mode & !umask, 0, xdata));
        }
        let xdata = xdata.with("umask", Value::Int(i64::from(umask))).with("mode", Value::Int(i64::from(mode)));
        Ok((mode, umask, xdata))
    }

    /// Links what a creating fop made.
    pub(super) fn made(
        &self,
        directory: &Node,
        name: &Bytes,
        inode: &Arc<Inode>,
        reply: &EntryReply,
    ) -> FopResult<(Arc<Node>, Entry)> {
        if reply.stat.is_absent() {
            return Err(self.error(Errno::EIO, "create").with_detail("an answer without attributes"));
        }
        let seen = Instant::now();
        let node = self.table.link(inode, &reply.stat, seen);
        self.name(&node, directory.nodeid, name);
        directory.note_inside(&reply.postparent, seen);
        let entry = self.entry(&node, &reply.stat, seen);
        Ok((node, entry))
    }

    /// Makes a file, device node, fifo or socket. `device` is in the kernel's 32-bit form.
    ///
    /// # Errors
    /// Those of mknod(2).
    pub async fn mknod(
        &self,
        caller: &Caller,
        parent: u64,
        name: Bytes,
        mode: u32,
        umask: u32,
        device: u32,
    ) -> FopResult<Entry> {
        self.check_new_name(&name, "mknod")?;
        let (context, directory) = self.on_behalf_at(caller, parent, "mknod")?;
        let (mode, umask, xdata) = self.creation(mode, umask, "mknod")?;
        let inode = Inode::fresh();
        let place = Loc::entry(directory.inode.clone(), name.clone(), inode.clone());
        let device = library_device(device);
        let reply = on_inode!(self, &context, &directory, |_loc| self.top.mknod(
            &context,
            &place,
            mode,
            device,
            umask,
            xdata.clone()
        ))?;
        Ok(self.made(&directory, &name, &inode, &reply)?.1)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub async fn mkdir(&self, caller: &Caller, parent: u64, name: Bytes, mode: u32, umask: u32) -> FopResult<Entry> {
        self.check_new_name(&name, "mkdir")?;
        let (context, directory) = self.on_behalf_at(caller, parent, "mkdir")?;
        let (mode, umask, xdata) = self.creation(mode, umask, "mkdir")?;
        let inode = Inode::fresh();
        let place = Loc::entry(directory.inode.clone(), name.clone(), inode.clone());
        let reply =
            on_inode!(self, &context, &directory, |_loc| self.top.mkdir(&context, &place, mode, umask, xdata.clone()))?;
        Ok(self.made(&directory, &name, &inode, &reply)?.1)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Those of symlink(2).
    pub async fn symlink(&self, caller: &Caller, parent: u64, name: Bytes, target: Bytes) -> FopResult<Entry> {
        self.check_new_name(&name, "symlink")?;
        let (context, directory) = self.on_behalf_at(caller, parent, "symlink")?;
        let xdata = self.identity("symlink")?;
        let inode = Inode::fresh();
        let place = Loc::entry(directory.inode.clone(), name.clone(), inode.clone());
        let reply = on_inode!(self, &context, &directory, |_loc| self.top.symlink(
            &context,
            &place,
            target.clone(),
            0,
            xdata.clone()
        ))?;
        Ok(self.made(&directory, &name, &inode, &reply)?.1)
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// Those of readlink(2).
    pub async fn readlink(&self, caller: &Caller, nodeid: u64) -> FopResult<Bytes> {
        let (context, node) = self.on_behalf_at(caller, nodeid, "readlink")?;
        let reply = on_inode!(self, &context, &node, |loc| self.top.readlink(
            &context,
            loc,
            libc::PATH_MAX as u32,
            Dict::NULL
        ))?;
        Ok(reply.target)
    }

    /// Gives a file a further name.
    ///
    /// # Errors
    /// Those of link(2).
    pub async fn link(&self, caller: &Caller, nodeid: u64, new_parent: u64, new_name: Bytes) -> FopResult<Entry> {
        self.check_new_name(&new_name, "link")?;
        let (context, node) = self.on_behalf_at(caller, nodeid, "link")?;
        let directory = self.node(new_parent, "link")?;
        let context = super::with_group_of(context, &directory);
        let reply = self.link_node(&context, &node, &directory, &new_name).await.map_err(stale)?;
        let seen = Instant::now();
        node.forget_attributes();
        let linked = self.table.link(&node.inode, &reply.stat, seen);
        self.name(&linked, directory.nodeid, &new_name);
        directory.note_inside(&reply.postparent, seen);
        Ok(self.entry(&linked, &reply.stat, seen))
    }

    async fn link_node(&self, context: &Context, node: &Node, directory: &Node, name: &Bytes) -> FopResult<EntryReply> {
        let old = self.named(node);
        let new = Loc::entry(directory.inode.clone(), name.clone(), node.inode.clone());
        let reply = match self.top.link(context, &old, &new, Dict::NULL).await {
            Err(error) if self.is_found_again(context, node, &error).await => {
                self.top.link(context, &old, &new, Dict::NULL).await?
            }
            result => result?,
        };
        if reply.stat.gfid != node.gfid() {
            return Err(self.error(Errno::EIO, "link").with_detail("an answer for another inode"));
        }
        Ok(reply)
    }

    /// The loc of a node under the name that it was looked up by.
    fn named(&self, node: &Node) -> Loc {
        let name = node.state().name.clone();
        match name.and_then(|(parent, name)| Some((self.table.get(parent)?, name))) {
            Some((parent, name)) => Loc::entry(parent.inode.clone(), name, node.inode.clone()),
            None => Loc::inode(node.inode.clone()),
        }
    }

    /// The node behind a name that is about to be removed or moved. The kernel has looked it up, so it is known as a rule;
    /// a further hard link may have to be looked up again. Owes the kernel no lookup.
    async fn resolve(&self, context: &Context, directory: &Node, name: &Bytes) -> FopResult<Arc<Node>> {
        if let Some(node) = self.table.find_name(directory.nodeid, name) {
            return Ok(node);
        }
        let (node, _) = self.find(context, directory, name).await?;
        // The operation holds the node by itself.
        self.table.forget(node.nodeid, 1);
        Ok(node)
    }

    /// Removes a name of something that is not a directory.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub async fn unlink(&self, caller: &Caller, parent: u64, name: Bytes) -> FopResult<()> {
        self.remove(caller, parent, name, false).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Those of rmdir(2).
    pub async fn rmdir(&self, caller: &Caller, parent: u64, name: Bytes) -> FopResult<()> {
        self.remove(caller, parent, name, true).await
    }

    async fn remove(&self, caller: &Caller, parent: u64, name: Bytes, is_dir: bool) -> FopResult<()> {
        let step = if is_dir { "rmdir" } else { "unlink" };
        self.check_writable(step)?;
        let (context, directory) = self.on_behalf_at(caller, parent, step)?;
        let node = self.resolve(&context, &directory, &name).await?;
        let loc = Loc::entry(directory.inode.clone(), name.clone(), node.inode.clone());
        let result = if is_dir {
            self.top.rmdir(&context, &loc, 0, Dict::NULL).await
        } else {
            self.top.unlink(&context, &loc, 0, Dict::NULL).await
        };
        let gone = result.as_ref().map_or_else(is_gone, |_| true);
        if gone && matches!(&node.state().name, Some((at, known)) if *at == parent && *known == name) {
            self.table.forget_name(&node);
        }
        if gone {
            // Names and times of what is left have changed.
            node.forget_attributes();
        }
        let reply = result?;
        directory.note_gone();
        directory.note_inside(&reply.postparent, Instant::now());
        Ok(())
    }

    /// Moves a name.
    ///
    /// # Errors
    /// Those of rename(2); EINVAL for what GlusterFS cannot do.
    pub async fn rename(
        &self,
        caller: &Caller,
        (old_parent, old_name): (u64, Bytes),
        (new_parent, new_name): (u64, Bytes),
        mode: RenameMode,
    ) -> FopResult<()> {
        self.check_new_name(&new_name, "rename")?;
        let (context, old_directory) = self.on_behalf_at(caller, old_parent, "rename")?;
        let new_directory = self.node(new_parent, "rename")?;
        let context = super::with_group_of(context, &new_directory);
        let node = self.resolve(&context, &old_directory, &old_name).await?;
        let old = Loc::entry(old_directory.inode.clone(), old_name.clone(), node.inode.clone());
        match mode {
            RenameMode::Replace => {}
            // ENOSYS would make the kernel never ask again, also for what works.
            RenameMode::Unsupported => return Err(self.error(Errno::EINVAL, "rename")),
            RenameMode::NoReplace if node.inode.file_type() != FileType::Regular => {
                return Err(self.error(Errno::EINVAL, "rename"));
            }
            RenameMode::NoReplace => {
                self.rename_by_link(&context, &node, &old, &new_directory, &new_name).await?;
                old_directory.forget_attributes();
                old_directory.note_gone();
                new_directory.forget_attributes();
                return Ok(());
            }
        }
        let target = if self.absent.take(new_parent, &new_name, Instant::now()) {
            None
        } else {
            match self.resolve(&context, &new_directory, &new_name).await {
                Ok(target) => Some(target),
                Err(error) if error.errno == Errno::ENOENT => None,
                Err(error) => return Err(error),
            }
        };
        let replaced = target.as_ref().map_or_else(Inode::fresh, |target| target.inode.clone());
        let new = Loc::entry(new_directory.inode.clone(), new_name.clone(), replaced);
        let reply = self.top.rename(&context, &old, &new, Dict::NULL).await?;
        let seen = Instant::now();
        // Renaming one name of a file over another of the same file changes nothing.
        if let Some(target) = &target
            && !Arc::ptr_eq(target, &node)
        {
            self.table.forget_name(target);
            let known = target.state().attributes;
            target.forget_attributes();
            if known.is_some_and(|(stat, _)| !stat.is_dir() && stat.nlink > 1) {
                self.note_lost_link(&context, target).await;
            }
        }
        self.name(&node, new_parent, &new_name);
        node.forget_attributes();
        node.note(&reply.stat, seen);
        old_directory.note_gone();
        new_directory.note_gone();
        old_directory.note_inside(&reply.post_old_parent, seen);
        new_directory.note_inside(&reply.post_new_parent, seen);
        Ok(())
    }

    /// A rename took one of several names of `node` away. Bricks that keep times by themselves (`features/utime`) note that
    /// for the file that moved, not for the one that lost a name (`posix-entry-ops.c:posix_rename`): a SETATTR of nothing
    /// moves its ctime. The rename is done whether or not that works.
    async fn note_lost_link(&self, context: &Context, node: &Node) {
        // Who may rename need not own the file.
        let context = Context { uid: 0, gid: 0, ..context.clone() };
        let place = Loc::inode(node.inode.clone());
        if let Err(error) = self.top.setattr(&context, &place, &Iatt::default(), 0, Dict::NULL).await {
            tracing::debug!(gfid = %node.gfid(), %error, "the ctime of a file that lost a name stays");
        }
    }

    /// The wire has no "unless it exists"; for a file, LINK and UNLINK make one.
    async fn rename_by_link(
        &self,
        context: &Context,
        node: &Node,
        old: &Loc,
        new_directory: &Node,
        new_name: &Bytes,
    ) -> FopResult<()> {
        self.link_node(context, node, new_directory, new_name).await?;
        if let Err(error) = self.top.unlink(context, old, 0, Dict::NULL).await {
            let new = Loc::entry(new_directory.inode.clone(), new_name.clone(), node.inode.clone());
            let undone = self.top.unlink(context, &new, 0, Dict::NULL).await;
            if let Err(left) = undone {
                tracing::warn!(name = ?new_name, error = %left, "a failed rename left a second name of the file");
            }
            return Err(error);
        }
        self.name(node, new_directory.nodeid, new_name);
        node.forget_attributes();
        Ok(())
    }

    fn check_new_name(&self, name: &[u8], step: &'static str) -> FopResult<()> {
        self.check_writable(step)?;
        if name.len() > NAME_MAX { Err(self.error(Errno::ENAMETOOLONG, step)) } else { Ok(()) }
    }
}
