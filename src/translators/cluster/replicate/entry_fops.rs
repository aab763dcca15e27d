//! Fops that change names: what each of them locks, asks of the copies, and leaves behind. How they run is in
//! [`entry_transaction`](super::entry_transaction).

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Gfid};
use smallvec::{SmallVec, smallvec};

use super::child_set::ChildSet;
use super::core::{Call, Core, Replies, to_the_end};
use super::entry_transaction::{Name, Operation, Transaction};
use super::family::Snapshot;
use super::new_entry::requested_gfid;
use super::private::is_private;
use crate::reply::*;
use crate::{Context, Fd, FopError, FopResult, Inode, Loc, Translator};

/// CREATE, MKNOD, MKDIR, SYMLINK, LINK.
struct Make {
    loc: Loc,
    xdata: Dict,
    what: What,
}

enum What {
    File { flags: i32, mode: u32, umask: u32, fd: Arc<Fd> },
    Node { mode: u32, rdev: u64, umask: u32 },
    Directory { mode: u32, umask: u32 },
    Symlink { target: Bytes, umask: u32 },
    Link { old: Loc },
}

impl Operation for Make {
    type Answer = EntryReply;

    fn call<'a>(&'a self, child: &'a Arc<dyn Translator>, context: &'a Context) -> Call<'a, EntryReply> {
        let (loc, xdata) = (&self.loc, self.xdata.clone());
        match &self.what {
            What::File { flags, mode, umask, fd } => child.create(context, loc, *flags, *mode, *umask, fd, xdata),
            What::Node { mode, rdev, umask } => child.mknod(context, loc, *mode, *rdev, *umask, xdata),
            What::Directory { mode, umask } => child.mkdir(context, loc, *mode, *umask, xdata),
            What::Symlink { target, umask } => child.symlink(context, loc, target.clone(), *umask, xdata),
            What::Link { old } => child.link(context, old, loc, xdata),
        }
    }

    fn inode(&self) -> &Arc<Inode> {
        match &self.what {
            What::Link { old } => &old.inode,
            _ => &self.loc.inode,
        }
    }

    fn makes(&self) -> bool {
        true
    }

    /// CREATE opens what is there. Where that is looked for, the caller looks again, and opens it.
    fn finds_taken(&self, core: &Core, reply: &mut FopResult<EntryReply>) -> Option<FopError> {
        if let (What::File { .. }, Ok(found), Some(wanted)) = (&self.what, &*reply, requested_gfid(&self.xdata))
            && found.stat.gfid != wanted
        {
            *reply = Err(core.error(Errno::ESTALE, "create").with_detail("a file of that name was made meanwhile"));
            return reply.as_ref().err().cloned();
        }
        reply.as_ref().err().filter(|error| error.errno == Errno::EEXIST).cloned()
    }

    fn object(&self, answer: &EntryReply) -> Option<Gfid> {
        matches!(self.what, What::File { .. }).then_some(answer.stat.gfid)
    }

    /// CREATE opens what is there. A copy that missed a rename may have another file of that name, and would write to that
    /// one through this fd. So the fd is not used: the caller looks the name up again, and opens what that finds.
    fn stray_answer(&self, core: &Core) -> Option<FopError> {
        Some(core.error(Errno::ESTALE, "create").with_detail("the bricks had different files of that name"))
    }

    fn is_new(&self, answer: &EntryReply) -> bool {
        matches!(self.what, What::Link { .. }) || requested_gfid(&self.xdata) == Some(answer.stat.gfid)
    }

    fn take_back<'a>(&'a self, child: &'a Arc<dyn Translator>, context: &'a Context) -> Call<'a, RemoveReply> {
        match self.what {
            What::Directory { .. } => child.rmdir(context, &self.loc, 0, Dict::NULL),
            _ => child.unlink(context, &self.loc, 0, Dict::NULL),
        }
    }

    fn done(&self, core: &Core, replies: &Replies<EntryReply>, success: ChildSet, snapshot: Snapshot) {
        if let What::File { fd, .. } = &self.what {
            core.fd(fd).set_opened(success);
        }
        if !matches!(self.what, What::Link { .. }) {
            core.note_new_inode(&self.loc, &self.xdata, replies, snapshot);
        }
    }

    fn made(&self, answer: &EntryReply) -> Option<Arc<Inode>> {
        let filled_later = matches!(self.what, What::File { .. } | What::Node { .. } | What::Directory { .. });
        // A file that others made meanwhile was only opened: who does not have it is their word to give.
        let is_made = requested_gfid(&self.xdata).is_none_or(|gfid| gfid == answer.stat.gfid);
        (filled_later && is_made).then(|| Inode::known(answer.stat.gfid, answer.stat.file_type()))
    }
}

/// UNLINK and RMDIR.
struct Remove {
    loc: Loc,
    is_dir: bool,
    xflags: u32,
    xdata: Dict,
}

impl Operation for Remove {
    type Answer = RemoveReply;

    fn call<'a>(&'a self, child: &'a Arc<dyn Translator>, context: &'a Context) -> Call<'a, RemoveReply> {
        let xdata = self.xdata.clone();
        match self.is_dir {
            true => child.rmdir(context, &self.loc, self.xflags, xdata),
            false => child.unlink(context, &self.loc, self.xflags, xdata),
        }
    }

    fn inode(&self) -> &Arc<Inode> {
        &self.loc.inode
    }
}

/// RENAME.
struct Move {
    old: Loc,
    new: Loc,
    xdata: Dict,
}

impl Operation for Move {
    type Answer = RenameReply;

    fn call<'a>(&'a self, child: &'a Arc<dyn Translator>, context: &'a Context) -> Call<'a, RenameReply> {
        child.rename(context, &self.old, &self.new, self.xdata.clone())
    }

    fn object(&self, answer: &RenameReply) -> Option<Gfid> {
        Some(answer.stat.gfid)
    }

    fn inode(&self) -> &Arc<Inode> {
        &self.old.inode
    }
}

impl Core {
    pub(super) async fn create(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        flags: i32,
        mode: u32,
        umask: u32,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.make(context, "create", loc, xdata, What::File { flags, mode, umask, fd: fd.clone() }).await
    }

    pub(super) async fn mknod(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mode: u32,
        rdev: u64,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.make(context, "mknod", loc, xdata, What::Node { mode, rdev, umask }).await
    }

    pub(super) async fn mkdir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mode: u32,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        if requested_gfid(&xdata).is_none() {
            return Err(self.error(Errno::EPERM, "mkdir without gfid-req"));
        }
        self.make(context, "mkdir", loc, xdata, What::Directory { mode, umask }).await
    }

    pub(super) async fn symlink(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        target: Bytes,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.make(context, "symlink", loc, xdata, What::Symlink { target, umask }).await
    }

    pub(super) async fn link(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.make(context, "link", new, xdata, What::Link { old: old.clone() }).await
    }

    pub(super) async fn unlink(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xflags: u32,
        xdata: Dict,
    ) -> FopResult<RemoveReply> {
        let names = smallvec![self.name(loc, "unlink")?];
        let operation = Remove { loc: loc.clone(), is_dir: false, xflags, xdata };
        self.change_names(context, "unlink", operation, names, None).await
    }

    pub(super) async fn rmdir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xflags: u32,
        xdata: Dict,
    ) -> FopResult<RemoveReply> {
        let names = smallvec![self.name(loc, "rmdir")?];
        let operation = Remove { loc: loc.clone(), is_dir: true, xflags, xdata };
        self.change_names(context, "rmdir", operation, names, Some(loc.inode.clone())).await
    }

    pub(super) async fn rename(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        xdata: Dict,
    ) -> FopResult<RenameReply> {
        let names = smallvec![self.new_name(context, new, "rename")?, self.name(old, "rename")?];
        let victim = new.inode.is_dir().then(|| new.inode.clone());
        let operation = Move { old: old.clone(), new: new.clone(), xdata };
        self.change_names(context, "rename", operation, names, victim).await
    }

    async fn make(
        self: &Arc<Self>,
        context: &Context,
        step: &'static str,
        loc: &Loc,
        xdata: Dict,
        what: What,
    ) -> FopResult<EntryReply> {
        let names = smallvec![self.new_name(context, loc, step)?];
        self.change_names(context, step, Make { loc: loc.clone(), xdata, what }, names, None).await
    }

    async fn change_names<O: Operation>(
        self: &Arc<Self>,
        context: &Context,
        step: &'static str,
        operation: O,
        names: SmallVec<[Name; 2]>,
        victim: Option<Arc<Inode>>,
    ) -> FopResult<O::Answer> {
        let (core, application) = (self.clone(), context.clone());
        let transaction = Transaction { core, application, step, operation, names, victim };
        to_the_end(self, step, |reply| transaction.run(reply)).await
    }

    fn name(&self, loc: &Loc, step: &'static str) -> FopResult<Name> {
        match &loc.parent {
            Some(parent) if !loc.name.is_empty() => Ok(Name { parent: parent.clone(), name: loc.name.clone() }),
            _ => Err(self.error(Errno::EINVAL, step).with_detail("it needs a name in a directory")),
        }
    }

    fn new_name(&self, context: &Context, loc: &Loc, step: &'static str) -> FopResult<Name> {
        let name = self.name(loc, step)?;
        if is_private(&name.parent.gfid(), &name.name, context.pid) {
            return Err(self.error(Errno::EPERM, step).with_detail("the volume keeps this name for itself"));
        }
        Ok(name)
    }
}
