//! CREATE, MKNOD and SYMLINK: new names that are no directories.
//!
//! The brick is told which layout the client expects on the parent; when rebalance has changed it meanwhile, the brick
//! refuses, and the client reads the layout again under a lock and tries once more. A full subvolume gets a linkto, and
//! the file goes where there is room; so does the home of a file that the volume wants elsewhere (`preference`).

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::LockType;
use rgfs_protocol::{Dict, Errno, Gfid, Value};

use super::core::{Core, DirectoryState, to_the_end};
use super::layout::Share;
use super::locks::{Transaction, ignore_missing};
use super::{keys, linkto, merge};
use crate::reply::EntryReply;
use crate::{Context, Fd, FopResult, Inode, Loc};

/// What is to be made.
#[derive(Clone)]
pub(super) enum Making {
    /// CREATE.
    File { flags: i32, mode: u32, umask: u32, fd: Arc<Fd> },
    /// MKNOD.
    Node { mode: u32, rdev: u64, umask: u32 },
}

impl Core {
    pub(super) async fn make(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        making: Making,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        if self.only().is_some() {
            return self.make_at(context, loc, &making, 0, xdata).await;
        }
        self.refresh_usage();
        let (parent, directory) = self.parent(context, loc).await?;
        let (hashed, directory) = self.settled_home(context, &parent, directory, &loc.name).await?;
        if self.is_leaving(hashed) {
            return self.make_with_fresh_layout(context, loc, making, xdata, &parent, directory, hashed).await;
        }
        let preferred = self.preferred(context, &parent, &directory, &loc.name, hashed).await;
        let target = self.place(preferred, &directory);
        if target != hashed {
            return self.make_diverted(context, loc, making, xdata, hashed, target).await;
        }
        let expected = match (&making, directory.layout.disk(hashed)) {
            (Making::File { .. }, Some(disk)) => disk,
            _ => {
                let make = self.make_at(context, loc, &making, hashed, xdata);
                let (made, changed) = self.beside(context, &parent, &directory, hashed, make).await;
                let made = self.made(context, loc, &making, hashed, made?).await?;
                if let Some(changed) = changed {
                    self.lead_from_home(context, loc, made.stat.gfid, &changed).await;
                }
                return Ok(made);
            }
        };
        let request = expecting(xdata.clone(), &expected.encode());
        match self.make_at(context, loc, &making, hashed, request).await {
            Ok(made) => self.made(context, loc, &making, hashed, made).await,
            // Perhaps the layout changed; reading it again shows whether it was that.
            Err(error) if error.errno == Errno::EIO => {
                let retried =
                    self.make_with_fresh_layout(context, loc, making, xdata, &parent, directory, hashed).await;
                retried.map_err(|second| if second.errno == Errno::EIO { error } else { second })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn symlink(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        target: Bytes,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        if let Some(only) = self.only() {
            return only.symlink(context, loc, target, umask, xdata).await;
        }
        let (parent, directory) = self.parent(context, loc).await?;
        let (hashed, directory) = self.settled_home(context, &parent, directory, &loc.name).await?;
        let make = self.child(hashed).symlink(context, loc, target, umask, xdata);
        let (reply, changed) = self.beside(context, &parent, &directory, hashed, make).await;
        let mut reply = reply?;
        self.remember_file(&loc.inode, hashed);
        if let Some(changed) = changed {
            self.lead_from_home(context, loc, reply.stat.gfid, &changed).await;
        }
        tidy(&mut reply);
        Ok(reply)
    }

    /// Where a new file is really put that shall go to `preferred`, its home as a rule.
    fn place(&self, preferred: usize, directory: &DirectoryState) -> usize {
        if !self.is_filled(preferred) {
            return preferred;
        }
        self.limits.divert(preferred, &self.usages(), |index| self.may_take(index, directory))
    }

    /// Whether files off their homes may go to a subvolume: it has their directory, and stays in the volume.
    pub(super) fn may_take(&self, index: usize, directory: &DirectoryState) -> bool {
        let share = directory.layout.shares().get(index);
        !matches!(share, None | Some(Share::Absent(_))) && !self.is_leaving(index)
    }

    async fn make_at(
        &self,
        context: &Context,
        loc: &Loc,
        making: &Making,
        at: usize,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let child = self.child(at);
        match making {
            Making::File { flags, mode, umask, fd } => {
                child.create(context, loc, *flags, *mode, *umask, fd, xdata).await
            }
            Making::Node { mode, rdev, umask } => child.mknod(context, loc, *mode, *rdev, *umask, xdata).await,
        }
    }

    /// It is made: remembers where. A CREATE without `O_EXCL` may have opened a linkto that another client has just
    /// left there; then the file itself is opened instead.
    async fn made(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        making: &Making,
        at: usize,
        mut reply: EntryReply,
    ) -> FopResult<EntryReply> {
        if let Making::File { flags, fd, .. } = making
            && linkto::has_linkto_mode(&reply.stat)
        {
            let fresh = Loc { inode: Inode::fresh(), ..loc.clone() };
            let found = self.lookup(context, &fresh, Dict::NULL).await?;
            let cached = self.cached(context, &fresh.inode).await?;
            if cached != at {
                let known = Inode::known(found.stat.gfid, found.stat.file_type());
                let target = Loc { inode: known, ..loc.clone() };
                self.child(cached)
                    .open(context, &target, flags & !(libc::O_CREAT | libc::O_EXCL), fd, Dict::NULL)
                    .await?;
                self.remember_file(&loc.inode, cached);
                reply.stat = found.stat;
                tidy(&mut reply);
                return Ok(reply);
            }
        }
        self.remember_file(&loc.inode, at);
        tidy(&mut reply);
        Ok(reply)
    }

    /// Reads the parent's layout again, under a lock that keeps it from changing, and makes the name where it says.
    async fn make_with_fresh_layout(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        making: Making,
        xdata: Dict,
        parent: &Arc<Inode>,
        known: Arc<DirectoryState>,
        hashed: usize,
    ) -> FopResult<EntryReply> {
        let (core, context, loc, parent) = (self.clone(), context.clone(), loc.clone(), parent.clone());
        let transaction = async move {
            let mut transaction = Transaction::new(&core, &context);
            ignore_missing(transaction.inode(hashed, keys::LAYOUT_DOMAIN, &parent, LockType::Read).await)?;
            let layout = core.read_layout(&context, &parent).await?;
            let unchanged = layout.disk(hashed) == known.layout.disk(hashed);
            let directory = core.remember_directory(&parent, DirectoryState::new(layout, known.mds));
            let home = core.home(&directory, &loc.name)?;
            if unchanged && home == hashed && !core.is_leaving(hashed) {
                return Err(core
                    .error(Errno::EIO, "make a name")
                    .with_detail("the brick failed, the layout is unchanged"));
            }
            let made = core.make_at(&context, &loc, &making, home, xdata).await?;
            transaction.release();
            core.made(&context, &loc, &making, home, made).await
        };
        to_the_end(self, "make a name after the layout changed", transaction).await
    }

    /// The name's home is full, or the volume wants the file elsewhere: a linkto there, the file elsewhere. A linkto without file does no harm.
    ///
    /// When another client has come first, its linkto counts: the file goes where that says, with the gfid that it has, or
    /// two clients that see different free space would make two files, and one with another gfid than its linkto's could
    /// never be looked up.
    async fn make_diverted(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        making: Making,
        xdata: Dict,
        hashed: usize,
        target: usize,
    ) -> FopResult<EntryReply> {
        let gfid = requested_gfid(&xdata).ok_or_else(|| self.error(Errno::EINVAL, "make a name without gfid-req"))?;
        let (core, context, loc) = (self.clone(), context.clone(), loc.clone());
        let transaction = async move {
            let (mut target, mut xdata) = (target, xdata);
            match core.make_linkto(&context, &loc, gfid, hashed, target, Dict::NULL).await? {
                Some(first) if linkto::is_linkto(&first.stat, &first.xdata) => {
                    let theirs = linkto::target(&first.xdata).and_then(|name| core.index_of(&name));
                    target = theirs.filter(|theirs| *theirs != hashed).unwrap_or(target);
                    xdata.set(keys::GFID_REQ.as_bytes(), Value::Gfuuid(first.stat.gfid));
                }
                // The name is taken, at its home after all.
                Some(_) => {
                    let made = core.make_at(&context, &loc, &making, hashed, xdata).await?;
                    return core.made(&context, &loc, &making, hashed, made).await;
                }
                None => {}
            }
            let made = core.make_at(&context, &loc, &making, target, xdata).await?;
            core.own_linkto(&context, &loc, hashed, &made.stat, target).await;
            core.made(&context, &loc, &making, target, made).await
        };
        to_the_end(self, "make a name off its home", transaction).await
    }
}

/// Adds what the brick shall find on the parent, or else refuse.
pub(super) fn expecting(xdata: Dict, layout: &[u8; 16]) -> Dict {
    let value = Value::Ptr(Bytes::copy_from_slice(layout));
    xdata.with(keys::PREOP_PARENT, Value::str(keys::LAYOUT)).with(keys::LAYOUT, value)
}

/// The gfid that the new object shall get.
pub(super) fn requested_gfid(xdata: &Dict) -> Option<Gfid> {
    match xdata.get(keys::GFID_REQ)? {
        Value::Gfuuid(gfid) => Some(*gfid),
        other => Some(Gfid(other.as_bytes()?.as_ref().try_into().ok()?)),
    }
}

/// Shows a new name's attributes as users see them.
pub(super) fn tidy(reply: &mut EntryReply) {
    linkto::strip_migration_marks(&mut reply.stat);
    merge::normalise_directory(&mut reply.preparent);
    merge::normalise_directory(&mut reply.postparent);
}
