//! OPENDIR, READDIR, READDIRP and FSYNCDIR (`afr-dir-read.c`).
//!
//! A listing is one child's: where it goes on (the cookie of the last entry) means nothing to another.

use std::sync::Arc;

use rgfs_protocol::{Dict, Iatt};

use super::core::{Call, Core, successes};
use super::errors::final_error;
use super::family::Snapshot;
use super::inode_state::InodeState;
use super::private::is_private;
use super::read::Read;
use super::target::Target;
use crate::reply::*;
use crate::translators::cluster::distribute::linkto::is_linkto;
use crate::{Context, Fd, FopResult, Loc, Translator};

impl Core {
    pub(super) async fn opendir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let snapshot = self.snapshot();
        self.check_quorum(snapshot, "opendir")?;
        // Whoever opens a directory is going to list it. One that was itself found in a listing is not known to have good
        // copies: the C client asks when it lists, and waits for that once more.
        let state = self.inode(&fd.inode);
        let known = self.known(&state, snapshot).is_some() || self.found_well(&state, snapshot);
        let ask = !known && self.lone_copy(snapshot.up).is_none();
        let target = Target::Inode(fd.inode.clone());
        let learn = async {
            if ask && let Err(error) = self.ask_copies(context, &target, snapshot).await {
                tracing::debug!(%error, "a directory is asked for again when it is listed");
            }
        };
        let open = self.ask(snapshot.up, |_, child| child.opendir(context, loc, fd, xdata.clone()));
        let (replies, ()) = tokio::join!(open, learn);
        let opened = successes(&replies);
        self.fd(fd).set_opened(opened);
        if opened.is_empty() || !self.has_quorum(opened) {
            return Err(final_error(&replies).unwrap_or_else(|| self.no_quorum(opened, "opendir")));
        }
        self.any(replies, "opendir")
    }

    pub(super) async fn readdir(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirReply> {
        let mut reply = self
            .list(context, fd, offset, "readdir", |child| child.readdir(context, fd, size, offset, xdata.clone()))
            .await?;
        reply.entries.retain(|entry| !is_private(&fd.gfid(), &entry.name, context.pid));
        Ok(reply)
    }

    pub(super) async fn readdirp(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        let mut reply = self
            .list(context, fd, offset, "readdirp", |child| child.readdirp(context, fd, size, offset, xdata.clone()))
            .await?;
        reply.entries.retain(|entry| !is_private(&fd.gfid(), &entry.entry.name, context.pid));
        if self.attributes_need_care() {
            reply.entries.iter_mut().for_each(forget_attributes);
        }
        Ok(reply)
    }

    /// Asks the child that lists this directory. A listing from the start may choose another one, and may fail over; one
    /// that goes on may not: it would leave out names, or tell them twice.
    async fn list<'a, T: Send>(
        self: &'a Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        step: &'static str,
        call: impl Fn(&'a Arc<dyn Translator>) -> Call<'a, T>,
    ) -> FopResult<T> {
        let state = self.fd(fd);
        if offset != 0
            && let Some(lister) = state.lister()
        {
            return call(self.child(lister)).await;
        }
        let target = Target::Inode(fd.inode.clone());
        let ask = |index, child| {
            // The last one that is asked is the one that answers.
            state.set_lister(index);
            call(child)
        };
        self.read(context, &target, Read::data(step), ask).await
    }

    /// Whether the attributes in a listing may be those of a stale copy: some brick has heals pending, or is away and so
    /// does not tell (`afr_readdir_transform_entries`).
    fn attributes_need_care(&self) -> bool {
        let healthy = self.snapshot().up == self.all() && self.health.was_well();
        self.options.consistent_metadata || !healthy
    }

    /// Whether a directory of which nothing is known but that a listing told of it has good copies alone: no brick has
    /// heals pending.
    pub(super) fn found_well(&self, state: &InodeState, snapshot: Snapshot) -> bool {
        state.readable().is_none()
            && !state.is_stale()
            && snapshot.up == self.all()
            && self.health.is_well(self.clock.now())
    }

    /// Any success is a success, as with FLUSH.
    pub(super) async fn fsyncdir(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        datasync: bool,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let asked = self.up("fsyncdir")?;
        let replies = self.ask(asked, |_, child| child.fsyncdir(context, fd, datasync, xdata.clone())).await;
        self.any(replies, "fsyncdir")
    }
}

/// The directory was read from a good copy, but that says nothing about what is in it: the caller must look the name up.
/// Only distribute's link files keep what tells them from files; they are not shown.
fn forget_attributes(entry: &mut EntryPlus) {
    if !is_linkto(&entry.stat, &entry.xdata) {
        entry.stat = Iatt::default();
        entry.inode = None;
    }
}
