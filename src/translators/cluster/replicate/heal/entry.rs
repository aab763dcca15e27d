//! Heal of the names in a directory (`afr-self-heal-entry.c`).
//!
//! Which names are looked at: those that the bricks noted while a copy was away (`entry-changes`), or all of them. Each is
//! judged anew under the lock of the directory, so users create and remove names in between.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::super::changelog::Kind;
use super::super::child_set::ChildSet;
use super::super::core::Core;
use super::super::lock::{Lockee, Locks};
use super::Conclusion;
use super::object::Healed;
use super::recreate::NameView;
use super::source::{Copy, Plan, of_entries};
use crate::{Context, Fd, FopError, FopResult, Inode, Loc};

/// Memory that a brick may use for one answer of READDIR.
const LISTING: u32 = 128 * 1024;
const O_DIRECTORY: i32 = 0o200_000;

/// A list of names on one brick.
struct List {
    child: usize,
    fd: Arc<Fd>,
    /// The brick's note of changed names: names are taken out of it when they are healed.
    is_index: bool,
}

impl Core {
    /// Heals the names of a directory.
    pub(super) async fn heal_entries(self: &Arc<Self>, context: &Context, directory: &Arc<Inode>) -> Healed {
        let fd = self.open_directory_everywhere(context, directory).await?;
        let lockee = Lockee::all_names(directory);
        let mine = self.lock_for_heal_alone(context, &self.heal_domain, lockee, self.all()).await;
        let mine = self.insist_on_all(mine).await?;
        let result = self.heal_entries_alone(context, &fd, &mine).await;
        mine.unlock().await;
        result
    }

    async fn heal_entries_alone(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, mine: &Locks) -> Healed {
        let directory = &fd.inode;
        let locks = self.lock_names(context, directory).await?;
        let observed = self.copies(context, directory).await;
        locks.unlock().await;
        let observed = observed?;
        let is_marked =
            |copy: &Copy| copy.marks.dirty.get(Kind::Entry) != 0 || !copy.marks.accused(Kind::Entry).is_empty();
        if !observed.iter().any(is_marked) {
            return Ok(false);
        }
        let plan = of_entries(&self.direction(Kind::Entry, &observed), self.setting());
        let sinks = plan.map_or(self.all(), |plan| plan.sinks);
        let whole = self.crawl(context, fd, plan, sinks, &observed).await?;

        let locks = self.lock_names(context, directory).await?;
        let source = plan.map(|plan| plan.source);
        let end = Conclusion { source, sinks, unhealed: ChildSet::EMPTY, observed: &observed, whole };
        // A brick that was away meanwhile lost the lock that keeps other healers out.
        let result = match mine.still_held() == self.all() {
            true => self.conclude(context, directory, Kind::Entry, &end).await,
            false => Err(self.no_quorum(mine.still_held(), "heal names")),
        };
        locks.unlock().await;
        result.map(|()| true)
    }

    async fn lock_names(self: &Arc<Self>, context: &Context, directory: &Arc<Inode>) -> FopResult<Locks> {
        let locks = self.lock_for_heal(context, &self.name, Lockee::all_names(directory), self.all()).await;
        self.insist_on_all(locks).await
    }

    /// Goes through the names on the sinks, to remove what is too much, and then on the source, to make what is missing.
    /// Returns whether all names were seen.
    async fn crawl(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        plan: Option<Plan>,
        sinks: ChildSet,
        observed: &[Copy],
    ) -> FopResult<bool> {
        let source = plan.map(|plan| plan.source);
        let order = || sinks.iter().chain(source);
        let marker = |child: usize| {
            let accused = observed.get(child).map(|copy| copy.marks.accused(Kind::Data));
            accused.is_some_and(|accused| !accused.is_empty())
        };
        let mut lists = Vec::new();
        if self.options.granular_entry_heal && !order().any(marker) {
            for child in order() {
                if let Some(list) = self.open_index(context, child, &fd.inode).await {
                    lists.push(list);
                }
            }
        }
        // Marks without a note of names: only all names will do. Of a source, its own note is needed.
        let enough = |lists: &[List]| match source {
            Some(source) => lists.iter().any(|list| list.child == source),
            None => !lists.is_empty(),
        };
        let whole = !enough(&lists);
        if whole {
            lists = order().map(|child| List { child, fd: fd.clone(), is_index: false }).collect();
        }
        let mut disputed: Option<FopError> = None;
        for list in &lists {
            match self.heal_list(context, &fd.inode, list).await {
                Err(error) if error.errno == Errno::EIO => disputed = Some(error),
                other => other?,
            }
        }
        disputed.map_or(Ok(whole), Err)
    }

    /// Heals the names of a list; goes on after those that are disputed, and tells of the last one.
    async fn heal_list(self: &Arc<Self>, context: &Context, directory: &Arc<Inode>, list: &List) -> FopResult<()> {
        let child = self.child(list.child);
        let mut disputed = Ok(());
        let mut offset = 0;
        loop {
            let page = child.readdir(context, &list.fd, LISTING, offset, Dict::NULL).await?;
            let Some(last) = page.entries.last() else { return disputed };
            offset = last.offset;
            for entry in &page.entries {
                if entry.name == "." || entry.name == ".." || self.is_private(directory, &entry.name) {
                    continue;
                }
                match self.heal_entry(context, directory, &entry.name, list).await {
                    Err(error) if error.errno == Errno::EIO => disputed = Err(error),
                    other => other?,
                }
            }
            if page.end {
                return disputed;
            }
        }
    }

    /// Names of the root that belong to bricks.
    fn is_private(&self, directory: &Inode, name: &Bytes) -> bool {
        directory.gfid().is_root()
            && (name == ".landfill" || self.trash_identity().is_some_and(|(trash, _)| *name == trash))
    }

    async fn heal_entry(
        self: &Arc<Self>,
        context: &Context,
        directory: &Arc<Inode>,
        name: &Bytes,
        list: &List,
    ) -> FopResult<()> {
        let locks = self.lock_names(context, directory).await?;
        let mut result = self.heal_entry_locked(context, directory, name).await;
        if result.is_ok() && list.is_index {
            let loc = Loc::entry(list.fd.inode.clone(), name.clone(), Inode::fresh());
            // A note too much costs a look.
            let _ = self.child(list.child).unlink(context, &loc, 0, Dict::NULL).await;
        }
        if locks.still_held() != self.all() {
            result = result.and(Err(self.no_quorum(locks.still_held(), "heal names")));
        }
        locks.unlock().await;
        result
    }

    async fn heal_entry_locked(&self, context: &Context, directory: &Arc<Inode>, name: &Bytes) -> FopResult<()> {
        let copies = self.copies(context, directory).await?;
        let direction = self.direction(Kind::Entry, &copies);
        let mut view = self.view(context, directory, name).await;
        match of_entries(&direction, self.setting()) {
            Some(plan) => self.follow(context, &mut view, plan, direction.sources).await,
            None => self.merge(context, &mut view, direction.sources).await,
        }
    }

    /// Makes the sinks as the source is.
    async fn follow(&self, context: &Context, view: &mut NameView<'_>, plan: Plan, sources: ChildSet) -> FopResult<()> {
        if let Some(trouble) = view.trouble(plan.source) {
            return Err(trouble.clone());
        }
        let Some(stat) = view.stat(plan.source).copied() else {
            for sink in plan.sinks.iter() {
                if let Some(trouble) = view.trouble(sink) {
                    return Err(trouble.clone());
                }
                if let Some(stat) = view.stat(sink) {
                    self.remove_name(context, view.directory, view.name, sink, stat).await?;
                }
            }
            return Ok(());
        };
        self.give_gfid(context, view, stat.file_type(), &Value::Gfuuid(stat.gfid)).await?;
        let has_it = |child: &usize| view.stat(*child).is_some_and(|other| other.gfid == stat.gfid);
        let right: ChildSet = sources.iter().filter(has_it).collect();
        for sink in plan.sinks.iter().filter(|sink| !has_it(sink)) {
            self.recreate(context, view, plan.source, right, sink).await?;
        }
        Ok(())
    }

    /// Gives all copies what any of them has: nobody knows what was removed, and losing is worse than keeping.
    async fn merge(&self, context: &Context, view: &mut NameView<'_>, sources: ChildSet) -> FopResult<()> {
        let Some(stat) = view.present().first().and_then(|first| view.stat(first)).copied() else { return Ok(()) };
        if view.present().iter().any(|child| view.stat(child).map(|stat| stat.file_type()) != Some(stat.file_type())) {
            return Err(self.disputed(view, "type"));
        }
        let gfids = view.present().iter().filter_map(|child| view.stat(child)).map(|stat| stat.gfid);
        let mut gfids: Vec<Gfid> = gfids.filter(|gfid| !gfid.is_null()).collect();
        gfids.sort();
        gfids.dedup();
        let gfid = match gfids.as_slice() {
            [gfid] => *gfid,
            [] => return Err(self.error(Errno::EIO, "heal names").with_detail("an entry has no gfid anywhere")),
            _ => {
                let winner = self.settle_gfids(view, sources, None)?;
                view.stat(winner).map(|stat| stat.gfid).unwrap_or_default()
            }
        };
        self.give_gfid(context, view, stat.file_type(), &Value::Gfuuid(gfid)).await?;
        let has_it = |child: &usize| view.stat(*child).is_some_and(|other| other.gfid == gfid);
        let right: ChildSet = self.all().iter().filter(has_it).collect();
        let Some(source) = right.first() else { return Ok(()) };
        for child in self.all().minus(right).iter() {
            self.recreate(context, view, source, right, child).await?;
        }
        Ok(())
    }

    /// The note of names of a directory that changed while a copy was away, if the brick has one.
    async fn open_index(&self, context: &Context, child: usize, directory: &Arc<Inode>) -> Option<List> {
        const KEY: &str = "glusterfs.xattrop_entry_changes_gfid";
        let brick = self.child(child);
        let root = Loc::inode(Inode::known(Gfid::ROOT, FileType::Directory));
        let answer = brick.getxattr(context, &root, Some(KEY), Dict::NULL).await.ok()?;
        let index = Gfid(answer.dict.bytes(KEY)?.as_ref().try_into().ok()?);
        let index = Inode::known(index, FileType::Directory);
        let loc = Loc::entry(index, directory.gfid().to_string(), Inode::fresh());
        let found = brick.lookup(context, &loc, Dict::NULL).await.ok()?.stat.gfid;
        let inode = Inode::known(found, FileType::Directory);
        let fd = Fd::new(inode.clone(), O_DIRECTORY, context.pid);
        brick.opendir(context, &Loc::inode(inode), &fd, Dict::NULL).await.ok()?;
        Some(List { child, fd, is_index: true })
    }
}
