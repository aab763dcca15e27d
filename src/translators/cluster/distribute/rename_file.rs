//! RENAME of anything but a directory (`dht_rename`): locks, a second look, the steps of the [plan](super::rename_plan),
//! and what to undo when one fails.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use rgfs_protocol::types::LockType;
use rgfs_protocol::{Dict, Errno, Value};

use super::core::{Core, as_root, to_the_end};
use super::locks::Transaction;
use super::rename_plan::{self, Move, Places, Plan};
use super::{keys, linkto, merge, migration};
use crate::reply::{LookupReply, RenameReply};
use crate::translators::cluster::join_all;
use crate::{Context, FopResult, Inode, Loc};

/// How often a rename goes after a file that moves.
const ATTEMPTS: u32 = 5;

impl Core {
    pub(super) async fn rename(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        xdata: Dict,
    ) -> FopResult<RenameReply> {
        if let Some(only) = self.only() {
            let xdata = xdata.with(keys::CHANGELOG_RENAME, changelog(old, new));
            return only.rename(context, old, new, xdata).await;
        }
        let (core, context, old, new) = (self.clone(), context.clone(), old.clone(), new.clone());
        let transaction = async move {
            if core.file(&old.inode).is_none() && core.directory(&old.inode).is_none() {
                core.discover(&context, &Loc::inode(old.inode.clone()), Dict::NULL).await?;
            }
            match core.directory(&old.inode) {
                Some(_) => core.rename_directory(&context, &old, &new).await,
                None => core.rename_file_that_moves(&context, &old, &new).await,
            }
        };
        to_the_end(self, "rename", transaction).await
    }

    /// Takes the namespace locks of both names, in the order that all clients share: by name of the hashed subvolume,
    /// then by the text of the parent's gfid and the name. Answers the two hashed subvolumes.
    pub(super) async fn lock_both_names(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
    ) -> FopResult<(Transaction, (usize, usize))> {
        let mut transaction = Transaction::new(self, context);
        let homes = self.lock_names(&mut transaction, context, old, new).await?;
        Ok((transaction, homes))
    }

    async fn lock_names(
        self: &Arc<Self>,
        transaction: &mut Transaction,
        context: &Context,
        old: &Loc,
        new: &Loc,
    ) -> FopResult<(usize, usize)> {
        let (old_parent, from) = self.parent(context, old).await?;
        let (new_parent, to) = self.parent(context, new).await?;
        let (old_home, _) = self.settled_home(context, &old_parent, from, &old.name).await?;
        let (new_home, _) = self.settled_home(context, &new_parent, to, &new.name).await?;
        let homes = (old_home, new_home);
        let key = |child: usize, loc: &Loc| {
            let mut text = loc.parent_gfid().to_string().into_bytes();
            text.extend_from_slice(&loc.name);
            (self.child(child).name().clone(), text)
        };
        let mut both = [(homes.0, &old_parent, old), (homes.1, &new_parent, new)];
        both.sort_by_key(|(child, _, loc)| key(*child, loc));
        for (child, parent, loc) in both {
            transaction.namespace(child, parent, &loc.name).await?;
        }
        Ok(homes)
    }

    /// While a rename waits for its locks, rebalance may finish moving the file: then it is done where the file is now.
    async fn rename_file_that_moves(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
    ) -> FopResult<RenameReply> {
        let (mut attempts, mut outlasted) = (0, false);
        loop {
            let cached = self.cached(context, &old.inode).await?;
            let error = match self.rename_file(context, old, new, &mut outlasted).await {
                Ok(Some(renamed)) => return Ok(renamed),
                Ok(None) if attempts < ATTEMPTS => {
                    attempts += 1;
                    continue;
                }
                Ok(None) => {
                    return Err(self.error(Errno::EIO, "rename").with_detail("the layouts change all the time"));
                }
                Err(error) if migration::is_missing(error.errno) && attempts < ATTEMPTS => error,
                Err(error) => return Err(error),
            };
            attempts += 1;
            let by_gfid = Loc::inode(old.inode.clone());
            match self.discover(&as_root(context), &by_gfid, Dict::NULL).await {
                Ok(_) if self.file(&old.inode).is_some_and(|file| file.cached != cached) => {}
                _ => return Err(error),
            }
        }
    }

    /// `None` when a name has another home, or the file to be replaced another place, than was known: it must be done again.
    /// `outlasted` tells whether rebalance was waited for.
    async fn rename_file(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        outlasted: &mut bool,
    ) -> FopResult<Option<RenameReply>> {
        let old_cached = self.cached(context, &old.inode).await?;
        let replaced = match new.gfid().is_null() {
            true => None,
            false => self.cached(context, &new.inode).await.ok(),
        };
        let mut transaction = Transaction::new(self, context);
        self.lock_files(&mut transaction, old, old_cached, new, replaced).await?;
        let (old_hashed, new_hashed) = self.lock_names(&mut transaction, context, old, new).await?;

        // While the locks were waited for, the file may have moved or been replaced.
        let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
        let by_name = Loc { inode: Inode::fresh(), ..old.clone() };
        let root = as_root(context);
        let ask = self.child(old_cached).lookup(&root, &by_name, request);
        let ((there, old_changed), new_changed) = tokio::join!(self.at_home(context, old, old_hashed, ask), async {
            self.at_home(context, new, new_hashed, async {}).await.1
        },);
        if old_changed || new_changed {
            transaction.give_back().await;
            return Ok(None);
        }
        let there = match there {
            Ok(there) => there,
            Err(error) => {
                transaction.give_back().await;
                return Err(error);
            }
        };
        if linkto::is_linkto(&there.stat, &there.xdata) || there.stat.gfid != old.gfid() {
            transaction.give_back().await;
            return Err(self.error(Errno::ENOENT, "rename").with_detail("the file moved or was replaced; try again"));
        }
        let there = self.cached_of_name(context, new).await?;
        let new_cached = there.as_ref().map(|(cached, _)| *cached);
        if let Some((cached, inode)) = there
            && inode.gfid() == new.gfid()
            && replaced != Some(cached)
        {
            // It has moved, and is locked where it was: rebalance could move it again at any time.
            transaction.give_back().await;
            self.remember_file(&new.inode, cached);
            return Ok(None);
        }

        let names = Names { core: self, context, old, new };
        let mut places = Places { old_hashed, old_cached, new_hashed, new_cached };
        let mut plan = rename_plan::plan(places);
        let mut reply = match names.make_new(places, plan.step).await {
            // A file beside it has the name, and no lookup told. Rebalance has just moved that away, and is about to remove it
            // by its name: what had this name by then would go with it.
            Err(error) if error.errno == Errno::EEXIST && new_cached != Some(old_cached) && !*outlasted => {
                transaction.give_back().await;
                self.outlast_migration(context, new, old_cached).await;
                *outlasted = true;
                return Ok(None);
            }
            // It was not that: the linkto of the file beside it is missing.
            Err(error) if error.errno == Errno::EEXIST && new_cached != Some(old_cached) => {
                places.new_cached = Some(old_cached);
                plan = Plan { unlink_replaced: plan.unlink_replaced, ..rename_plan::plan(places) };
                names.make_new(places, plan.step).await?
            }
            result => result?,
        };
        let file = Box::pin(names.remove(plan.unlink_old_file, old, names.internal(true)));
        let replaced = Box::pin(names.remove(plan.unlink_replaced, new, names.internal(false)));
        let removed = join_all([file, replaced]).await;
        if let Some(Err(error)) = removed.into_iter().next() {
            // The C client calls that a success, and the file has two names.
            return Err(error.with_detail("the file has its new name, and the old one could not be removed"));
        }
        // After its file: a crash in between must not leave a name that is listed and not found.
        let _ = names.remove(plan.unlink_old_linkto, old, names.quiet()).await;
        self.clear_strays(context, old, &[old_cached, old_hashed]).await;
        if new_cached.is_some() {
            self.clear_strays(context, new, &[old_cached, new_hashed]).await;
        }
        if new_hashed != old_cached {
            self.own_linkto(context, new, new_hashed, &reply.stat, old_cached).await;
        }
        transaction.release();
        self.remember_file(&old.inode, old_cached);
        linkto::strip_migration_marks(&mut reply.stat);
        for parent in [
            &mut reply.pre_old_parent,
            &mut reply.post_old_parent,
            &mut reply.pre_new_parent,
            &mut reply.post_new_parent,
        ] {
            merge::normalise_directory(parent);
        }
        Ok(Some(reply))
    }

    /// Waits until rebalance has done with the file that has this name on a subvolume, if it is at work on it.
    async fn outlast_migration(self: &Arc<Self>, context: &Context, loc: &Loc, at: usize) {
        let there = Loc { inode: Inode::fresh(), ..loc.clone() };
        let Ok(found) = self.child(at).lookup(&as_root(context), &there, Dict::NULL).await else { return };
        let inode = Inode::known(found.stat.gfid, found.stat.file_type());
        let mut transaction = Transaction::new(self, context);
        if let Err(error) = transaction.inode(at, keys::MIGRATE_DOMAIN, &inode, LockType::Write).await {
            tracing::debug!(%error, "a file that rebalance moved away is gone");
        }
        transaction.give_back().await;
    }

    /// [`Core::beside`] for a name that is locked at its home: the layout cannot change any more. Whether it had changed.
    async fn at_home<T>(
        &self,
        context: &Context,
        loc: &Loc,
        hashed: usize,
        fop: impl Future<Output = T> + Send,
    ) -> (T, bool) {
        let (Some(parent), Some(directory)) =
            (&loc.parent, loc.parent.as_ref().and_then(|inode| self.directory(inode)))
        else {
            return (fop.await, false);
        };
        let (answer, changed) = self.beside(context, parent, &directory, hashed, fop).await;
        (answer, self.hashed(&changed.unwrap_or(directory), &loc.name) != Some(hashed))
    }

    /// Keeps rebalance away from both files.
    async fn lock_files(
        &self,
        transaction: &mut Transaction,
        old: &Loc,
        old_cached: usize,
        new: &Loc,
        replaced: Option<usize>,
    ) -> FopResult<()> {
        let mut files = vec![(old_cached, &old.inode, true)];
        // Two names of one file are one lock.
        if let Some(cached) = replaced.filter(|_| new.gfid() != old.gfid()) {
            files.push((cached, &new.inode, false));
        }
        files.sort_by_key(|(child, inode, _)| (self.child(*child).name().clone(), inode.gfid()));
        for (child, inode, required) in files {
            match transaction.inode(child, keys::MIGRATE_DOMAIN, inode, LockType::Write).await {
                Err(error) if !required && matches!(error.errno, Errno::ENOENT | Errno::ESTALE | Errno::EIO) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Where the file is that has the name now, asked anew; the name is locked.
    async fn cached_of_name(self: &Arc<Self>, context: &Context, loc: &Loc) -> FopResult<Option<(usize, Arc<Inode>)>> {
        let fresh = Loc { inode: Inode::fresh(), ..loc.clone() };
        match self.lookup_locked(&as_root(context), &fresh).await {
            Ok(found) if found.stat.is_dir() => Err(self.error(Errno::EISDIR, "rename")),
            Ok(found) => {
                let cached = self.cached(context, &fresh.inode).await?;
                Ok(Some((cached, Inode::known(found.stat.gfid, found.stat.file_type()))))
            }
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The two names of one rename.
struct Names<'a> {
    core: &'a Core,
    context: &'a Context,
    old: &'a Loc,
    new: &'a Loc,
}

impl Names<'_> {
    /// Makes the new name.
    async fn make_new(&self, places: Places, step: Move) -> FopResult<RenameReply> {
        match step {
            Move::Rename => self.rename_file(places.old_cached).await,
            Move::RelinkAndRename { make_linkto } => self.relink_and_rename(places, make_linkto).await,
            Move::LinkAtHome => self.link_at_home(places).await,
            Move::LinkAndRename { make_linkto } => self.link_and_rename(places, make_linkto).await,
        }
    }

    async fn rename_file(&self, at: usize) -> FopResult<RenameReply> {
        let xdata = Dict::empty().with(keys::CHANGELOG_RENAME, changelog(self.old, self.new));
        self.core.child(at).rename(self.context, self.old, self.new, xdata).await
    }

    async fn relink_and_rename(&self, places: Places, make_linkto: bool) -> FopResult<RenameReply> {
        let Places { old_cached, new_hashed, .. } = places;
        let (home, root) = (self.core.child(new_hashed), as_root(self.context));
        #[cfg(test)]
        if super::planted::is_planted(super::planted::Fault::LinktoLast) {
            home.unlink(&root, self.new, 0, self.quiet()).await?;
            let renamed = self.rename_file(old_cached).await?;
            self.link_new_name(new_hashed, old_cached).await;
            return Ok(renamed);
        }
        if make_linkto {
            self.make_old_linkto(new_hashed, old_cached).await?;
            self.lead_home(new_hashed, old_cached).await?;
            return self.rename_file(old_cached).await;
        }
        // The linkto of the old name stays until the file has gone from it.
        let replacing = self.quiet().with(keys::FORCE_REPLACE, Value::str("yes"));
        if let Err(error) = home.link(&root, self.old, self.new, replacing).await {
            // A brick refuses that at once for a name that it has seen lately (`server-resolve.c:resolve_entry_simple`); and there
            // may be no linkto yet.
            tracing::debug!(%error, "the linkto of a file gets its new name in two steps");
            self.lead_home(new_hashed, old_cached).await?;
            self.make_old_linkto(new_hashed, old_cached).await?;
        }
        self.rename_file(old_cached).await
    }

    async fn link_at_home(&self, places: Places) -> FopResult<RenameReply> {
        let Places { old_hashed, old_cached, new_hashed, .. } = places;
        let gfid = self.old.gfid();
        let there = self.core.make_linkto(self.context, self.new, gfid, new_hashed, old_cached, Dict::NULL).await?;
        let linked = |there: &LookupReply| there.stat.gfid == gfid && linkto::is_linkto(&there.stat, &there.xdata);
        if there.as_ref().is_some_and(|there| !linked(there)) {
            // Somebody was faster: that is replaced.
            return self.link_and_rename(places, new_hashed != old_hashed).await;
        }
        match self.link_file(old_cached).await {
            Err(error) => {
                if there.is_none() && !matches!(error.errno, Errno::EEXIST | Errno::ENOTCONN) {
                    self.undo_linkto(self.new, new_hashed).await;
                }
                Err(error)
            }
            linked => linked,
        }
    }

    async fn link_and_rename(&self, places: Places, make_linkto: bool) -> FopResult<RenameReply> {
        let Places { old_cached, new_hashed, .. } = places;
        if make_linkto {
            self.make_old_linkto(new_hashed, old_cached).await?;
        }
        let linked = match self.link_file(old_cached).await {
            Ok(linked) => linked,
            Err(error) => {
                if make_linkto {
                    self.undo_linkto(self.old, new_hashed).await;
                }
                return Err(error);
            }
        };
        if let Err(error) = self.lead_home(new_hashed, old_cached).await {
            self.undo_link(old_cached).await;
            return Err(error);
        }
        Ok(linked)
    }

    /// Gives the linkto of the file, which has the old name at the home of the new one, the new name there. What had it is
    /// replaced: the other file, or the linkto of that. If it stayed, the new name would still be that file.
    async fn lead_home(&self, home: usize, cached: usize) -> FopResult<()> {
        let (core, root) = (self.core, as_root(self.context));
        let rename = || core.child(home).rename(&root, self.old, self.new, self.quiet());
        match rename().await {
            // That has just become the home of the old name too, and nobody has looked it up there since.
            Err(error) if migration::is_missing(error.errno) => {
                self.make_old_linkto(home, cached).await?;
                rename().await.map(drop)
            }
            result => result.map(drop),
        }
    }

    /// Takes the new name away from the file if it still has its old one: another client may have seen two hard links, and
    /// removed that.
    async fn undo_link(&self, at: usize) {
        let (child, root) = (self.core.child(at), as_root(self.context));
        let by_name = Loc { inode: Inode::fresh(), ..self.old.clone() };
        let there = child.lookup(&root, &by_name, Dict::NULL).await;
        if there.is_ok_and(|there| there.stat.gfid == self.old.gfid())
            && let Err(error) = child.unlink(&root, self.new, 0, self.internal(false)).await
        {
            tracing::warn!(%error, "a rename that failed left the file with both names");
        }
    }

    /// Gives the file its new name beside the old one. That may be there already: a rename that was interrupted left it.
    ///
    /// # Errors
    /// EEXIST when another file has the name there.
    async fn link_file(&self, at: usize) -> FopResult<RenameReply> {
        let xdata = self.internal(false).with(keys::FORCE_REPLACE, Value::str("yes"));
        let child = self.core.child(at);
        match child.link(self.context, self.old, self.new, xdata).await {
            Ok(linked) => Ok(RenameReply {
                stat: linked.stat,
                pre_new_parent: linked.preparent,
                post_new_parent: linked.postparent,
                ..RenameReply::default()
            }),
            Err(error) if error.errno == Errno::EEXIST => {
                let by_name = Loc { inode: Inode::fresh(), ..self.new.clone() };
                match child.lookup(&as_root(self.context), &by_name, Dict::NULL).await {
                    Ok(there) if there.stat.gfid == self.old.gfid() => {
                        let (pre_new_parent, post_new_parent) = (there.postparent, there.postparent);
                        Ok(RenameReply { stat: there.stat, pre_new_parent, post_new_parent, ..RenameReply::default() })
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a linkto of the file under its old name, to be renamed.
    ///
    /// # Errors
    /// ESTALE when something else has that name there: a directory, or another file, would be renamed instead.
    async fn make_old_linkto(&self, at: usize, cached: usize) -> FopResult<()> {
        let make = || {
            let force = Dict::empty().with(keys::FORCE_REPLACE, Value::str("yes"));
            self.core.make_linkto(self.context, self.old, self.old.gfid(), at, cached, force)
        };
        let mut there = make().await?;
        let is_other = |there: &LookupReply| there.stat.gfid != self.old.gfid();
        if there.as_ref().is_some_and(|there| linkto::is_linkto(&there.stat, &there.xdata) && is_other(there)) {
            // Of a file that had the name long ago.
            self.undo_linkto(self.old, at).await;
            there = make().await?;
        }
        match there {
            Some(there) if is_other(&there) || !linkto::is_linkto(&there.stat, &there.xdata) => {
                let error = self.core.error(Errno::ESTALE, "rename");
                Err(error.with_detail("something else has the old name on the home of the new one"))
            }
            _ => Ok(()),
        }
    }

    /// Removes what the rename leaves behind, if there is something.
    async fn remove(&self, at: Option<usize>, name: &Loc, xdata: Dict) -> FopResult<()> {
        let Some(at) = at else { return Ok(()) };
        match self.core.child(at).unlink(&as_root(self.context), name, 0, xdata).await {
            Err(error) if !migration::is_missing(error.errno) => {
                tracing::info!(%error, "a leftover of a rename stays");
                Err(error)
            }
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    async fn link_new_name(&self, at: usize, cached: usize) {
        let made = self.core.make_linkto(self.context, self.new, self.old.gfid(), at, cached, Dict::NULL);
        if let Err(error) = made.await {
            tracing::warn!(%error, "a rename left the new name without a linkto");
        }
    }

    async fn undo_linkto(&self, name: &Loc, at: usize) {
        let (child, root) = (self.core.child(at), as_root(self.context));
        if let Err(error) = child.unlink(&root, name, 0, linkto::guarded_unlink_xdata()).await {
            tracing::info!(%error, "the linkto of a failed rename stays");
        }
    }

    /// xdata of an internal step; `records` tells changelog that this step is the rename.
    fn internal(&self, records: bool) -> Dict {
        let mut xdata = Dict::empty().with(keys::INTERNAL_FOP, Value::str("yes"));
        if records {
            xdata = xdata.with(keys::CHANGELOG_RENAME, changelog(self.old, self.new));
        }
        if self.old.parent_gfid() == self.new.parent_gfid() {
            xdata = xdata.with(keys::DO_NOT_ACCOUNT, Value::str("yes"));
        }
        xdata
    }

    /// xdata of a step on a linkto, which quota does not count.
    fn quiet(&self) -> Dict {
        Dict::empty().with(keys::INTERNAL_FOP, Value::str("yes")).with(keys::DO_NOT_ACCOUNT, Value::str("yes"))
    }
}

/// Tells changelog what the two names were: the C structure as it lies in memory (`dht_changelog_rename_info_t`), which
/// the brick reads back: parents' gfids, lengths with NUL in little-endian, names with NUL, and the structure's padding.
fn changelog(old: &Loc, new: &Loc) -> Value {
    const PADDING: [u8; 4] = [0; 4];
    let mut bytes = BytesMut::with_capacity(44 + old.name.len() + new.name.len() + 2);
    for loc in [old, new] {
        bytes.put_slice(&loc.parent_gfid().0);
    }
    for loc in [old, new] {
        bytes.put_u32_le(u32::try_from(loc.name.len() + 1).unwrap_or(u32::MAX));
    }
    for loc in [old, new] {
        bytes.put_slice(&loc.name);
        bytes.put_u8(0);
    }
    bytes.put_slice(&PADDING);
    Value::Ptr(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::{FileType, Gfid};

    #[test]
    fn changelog_reads_a_c_structure() {
        let parent = Inode::known(Gfid::ROOT, FileType::Directory);
        let loc = |name: &'static str| Loc::entry(parent.clone(), name, Inode::fresh());
        let bytes = changelog(&loc("a"), &loc("bcd")).as_bytes().unwrap();
        assert_eq!(&bytes[..16], &Gfid::ROOT.0);
        assert_eq!(&bytes[32..40], &[2, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(&bytes[40..46], b"a\0bcd\0");
        assert_eq!(bytes.len(), 44 + 6);
    }
}
