//! GETATTR, SETATTR, ACCESS and STATFS.

use std::time::Instant;

use rgfs_protocol::types::{Statfs, set_attr};
use rgfs_protocol::{Dict, Errno, Iatt, Time};

use super::super::caller;
use super::super::inode_table::{Node, ROOT};
use super::super::page_cache::Version;
use super::privileges::without_privileges;
use super::{Attributed, Caller, FRESH, FileSystem, is_gone, on_inode, stale};
use crate::reply::PrePostReply;
use crate::{Context, FopResult};

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the request.
    Now,
    /// That one.
    At(Time),
}

/// What SETATTR shall change. Nothing at all means: note the change and drop privileges (chown(2) to -1, -1).
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Content time.
    pub mtime: Option<SetTime>,
    /// The open file through which.
    pub handle: Option<u64>,
}

impl SetAttributes {
    /// Everything but the size, in the form of the wire. Bricks want the clock's time beside a NOW bit.
    fn to_wire(self, now: Time) -> (Iatt, u32) {
        let mut stat = Iatt::default();
        let mut valid = 0;
        if let Some(mode) = self.mode {
            stat.mode = mode & 0o7777;
            valid |= set_attr::MODE;
        }
        if let Some(uid) = self.uid {
            stat.uid = uid;
            valid |= set_attr::UID;
        }
        if let Some(gid) = self.gid {
            stat.gid = gid;
            valid |= set_attr::GID;
        }
        if let Some(atime) = self.atime {
            stat.atime = if let SetTime::At(time) = atime { time } else { now };
            valid |= set_attr::ATIME | if atime == SetTime::Now { set_attr::ATIME_NOW } else { 0 };
        }
        if let Some(mtime) = self.mtime {
            stat.mtime = if let SetTime::At(time) = mtime { time } else { now };
            valid |= set_attr::MTIME | if mtime == SetTime::Now { set_attr::MTIME_NOW } else { 0 };
        }
        (stat, valid)
    }
}

impl FileSystem {
    /// Attributes of a node, as an open file shows them if one is at hand.
    ///
    /// # Errors
    /// Those of stat(2).
    pub async fn getattr(&self, caller: &Caller, nodeid: u64, handle: Option<u64>) -> FopResult<Attributed> {
        let node = self.node(nodeid, "getattr")?;
        if let Some(known) = self.recent(&node) {
            return Ok(known);
        }
        let context = self.context(caller);
        let stat = self.fetch_attributes(&context, &node, handle).await?;
        Ok(self.attributed(&node, &stat))
    }

    /// Attributes that an answer just brought, as `md-cache` gives them; what the kernel gets ages from when it came. The
    /// kernel asks again after each change in a directory, to check the next one; that would be a round trip per created or
    /// removed file. Of a large listing it drops attributes just brought whenever it evicts any inode meanwhile.
    /// Not for files that this mount has open or changed: writes are answered in any order, and an older size would cut a
    /// file off.
    fn recent(&self, node: &Node) -> Option<Attributed> {
        let (stat, seen) = {
            let state = node.state();
            let untouched = state.changed.is_none() && state.opened.is_empty();
            state.attributes.filter(|(stat, _)| stat.is_dir() || untouched)?
        };
        let age = seen.elapsed();
        let mut known = self.attributed(node, &stat);
        known.ttl = known.ttl.checked_sub(age).filter(|left| !left.is_zero() && age < FRESH)?;
        Some(known)
    }

    /// Asks the translators for a node's attributes and notes them.
    pub(super) async fn fetch_attributes(
        &self,
        context: &Context,
        node: &Node,
        handle: Option<u64>,
    ) -> FopResult<Iatt> {
        let opened = handle.and_then(|handle| self.handles.file(handle)).map(|file| file.fd.clone());
        let stat = if node.nodeid == ROOT {
            // A lookup, for it is also what mends the root's layout.
            self.lookup_inode(context, node).await?.stat
        } else if let Some(fd) = opened.or_else(|| node.open_fd(false)) {
            // An open file has attributes even when it has no name any more.
            match self.top.fstat(context, &fd, Dict::NULL).await {
                // One that was lost with its connection fails for whoever uses it, not for the file.
                Err(error) if matches!(error.errno, Errno::EBADFD | Errno::EBADF) => {
                    let by_gfid = on_inode!(self, context, node, |loc| self.top.stat(context, loc, Dict::NULL));
                    by_gfid.map_err(|second| if is_gone(&second) { error } else { second })?.stat
                }
                result => result?.stat,
            }
        } else {
            on_inode!(self, context, node, |loc| self.top.stat(context, loc, Dict::NULL))?.stat
        };
        if stat.is_absent() {
            return Err(self.error(Errno::EIO, "getattr").with_detail("an answer without attributes"));
        }
        node.note(&stat, Instant::now());
        Ok(stat)
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// Those of chmod(2), chown(2), truncate(2), utimensat(2).
    pub async fn setattr(&self, caller: &Caller, nodeid: u64, change: SetAttributes) -> FopResult<Attributed> {
        self.check_writable("setattr")?;
        let (context, node) = self.on_behalf_at(caller, nodeid, "setattr")?;
        let mut stat = Iatt::default();
        if let Some(size) = change.size {
            stat = self.set_size(&context, &node, change.handle, size).await?;
        }
        let (wanted, valid) = change.to_wire(caller::now());
        if valid != 0 || change.size.is_none() {
            let through = change.handle.filter(|_| change.atime.is_none() && change.mtime.is_none());
            let reply = self.set_on_brick(&context, &node, through, &wanted, valid).await?;
            stat = reply.post;
            self.note_change(&node, &reply.pre, &reply.post);
            // A change of owner drops privileges, root's too; bricks do it with a local file system below.
            let drops = valid & (set_attr::UID | set_attr::GID) != 0 || valid == 0;
            if drops && valid & set_attr::MODE == 0 {
                stat = self.drop_privileges(&context, &node, stat).await?;
            }
        }
        if stat.is_absent() {
            stat = self.fetch_attributes(&context, &node, change.handle).await?;
        }
        Ok(self.attributed(&node, &stat))
    }

    async fn set_size(&self, context: &Context, node: &Node, handle: Option<u64>, size: u64) -> FopResult<Iatt> {
        let opened = handle.and_then(|handle| self.handles.file(handle)).map(|file| file.fd.clone());
        let result = match &opened {
            Some(fd) => self.top.ftruncate(context, fd, size, Dict::NULL).await,
            None => on_inode!(self, context, node, |loc| self.top.truncate(context, loc, size, Dict::NULL)),
        };
        let reply = match (result, node.open_fd(true)) {
            // It has no name any more, but it is open here.
            (Err(error), Some(fd)) if opened.is_none() && is_gone(&error) => {
                self.top.ftruncate(context, &fd, size, Dict::NULL).await?
            }
            (result, _) => result?,
        };
        self.note_change(node, &reply.pre, &reply.post);
        if context.uid == 0 { Ok(reply.post) } else { self.drop_privileges(context, node, reply.post).await }
    }

    /// SETATTR through an open file if that is asked for or all that is left, else by gfid.
    pub(super) async fn set_on_brick(
        &self,
        context: &Context,
        node: &Node,
        handle: Option<u64>,
        wanted: &Iatt,
        valid: u32,
    ) -> FopResult<PrePostReply> {
        if let Some(file) = handle.and_then(|handle| self.handles.file(handle)) {
            return self.top.fsetattr(context, &file.fd, wanted, valid, Dict::NULL).await;
        }
        let result = on_inode!(self, context, node, |loc| self.top.setattr(context, loc, wanted, valid, Dict::NULL));
        match (result, node.open_fd(false)) {
            (Err(error), Some(fd)) if is_gone(&error) => {
                self.top.fsetattr(context, &fd, wanted, valid, Dict::NULL).await.map_err(stale)
            }
            (result, _) => result,
        }
    }

    /// Notes what a change through this mount made of the attributes.
    pub(super) fn note_change(&self, node: &Node, before: &Iatt, after: &Iatt) {
        let (mut state, now) = (node.state(), Instant::now());
        state.changed = Some(now);
        if before.is_absent() || after.is_absent() {
            state.attributes = None;
            state.pages.forget();
            return;
        }
        state.attributes = Some((*after, now));
        state.mode = after.mode;
        state.group = after.gid;
        state.pages.changed(Version::from(before), Version::from(after));
    }

    /// Clears suid and sgid if `stat` shows them. Returns the attributes after.
    pub(super) async fn drop_privileges(&self, context: &Context, node: &Node, stat: Iatt) -> FopResult<Iatt> {
        let Some(mode) = without_privileges(stat.mode) else { return Ok(stat) };
        let reply = self.clear_privileges(context, node, mode).await?;
        Ok(if reply.post.is_absent() { Iatt { mode, ..stat } } else { reply.post })
    }

    /// Checks permissions; the kernel asks only when it does not check by itself.
    ///
    /// # Errors
    /// EACCES when they do not suffice.
    pub async fn access(&self, caller: &Caller, nodeid: u64, mask: u32) -> FopResult<()> {
        let (context, node) = self.on_behalf_at(caller, nodeid, "access")?;
        on_inode!(self, &context, &node, |loc| self.top.access(&context, loc, mask, Dict::NULL))?;
        Ok(())
    }

    /// Figures of the volume, as far as it is visible from a node (quotas).
    ///
    /// # Errors
    /// Those of statfs(2).
    pub async fn statfs(&self, caller: &Caller, nodeid: u64) -> FopResult<Statfs> {
        let (context, node) = self.on_behalf_at(caller, nodeid, "statfs")?;
        Ok(on_inode!(self, &context, &node, |loc| self.top.statfs(&context, loc, Dict::NULL))?.statfs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_become_wire_bits() {
        let now = Time { sec: 5, nsec: 6 };
        let then = Time { sec: 1, nsec: 2 };
        let (stat, valid) =
            SetAttributes { mode: Some(0o104_755), uid: Some(3), ..SetAttributes::default() }.to_wire(now);
        assert_eq!((stat.mode, stat.uid, valid), (0o4755, 3, set_attr::MODE | set_attr::UID));
        let times =
            SetAttributes { atime: Some(SetTime::Now), mtime: Some(SetTime::At(then)), ..SetAttributes::default() };
        let (stat, valid) = times.to_wire(now);
        assert_eq!((stat.atime, stat.mtime), (now, then));
        assert_eq!(valid, set_attr::ATIME | set_attr::ATIME_NOW | set_attr::MTIME);
        assert_eq!(SetAttributes { size: Some(9), ..SetAttributes::default() }.to_wire(now).1, 0);
    }
}
