//! Writing the layout of a directory (`dht-selfheal.c:dht_selfheal_layout_lock` and what follows it).
//!
//! The layout of a directory is only written under the write lock of all subvolumes, after reading it again: otherwise
//! a client with old news would overwrite what rebalance has just written.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::LockType;
use rgfs_protocol::{Dict, Errno, Value};

use super::core::Core;
use super::layout::{COMMIT_INVALID, DiskLayout, Layout, Share};
use super::locks::Transaction;
use super::lookup::standard_request;
use super::new_layout::{self, Candidate, Rules};
use super::{directory_view, hash, keys};
use crate::inode::Inode;
use crate::translators::cluster::join_all;
use crate::{Context, FopResult, Loc};

impl Core {
    /// Makes the ranges cover the ring once, and gives an empty one to subvolumes that have none. Both are judged by what
    /// the subvolumes have under the lock, not by what was seen before.
    ///
    /// # Errors
    /// When a subvolume does not answer: the ranges stay as they are.
    pub(super) async fn heal_layout(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>) -> FopResult<Layout> {
        let mut transaction = Transaction::new(self, context);
        transaction.whole_layout(inode).await?;
        let seen = self.read_layout(context, inode).await?;
        let anomalies = seen.anomalies();
        if anomalies.is_unknown() {
            return Err(self.error(Errno::ENOTCONN, "read the layout again").with_detail("a child does not answer"));
        }
        let healed = if anomalies.is_broken_ring() {
            let start = self.start_of(context, inode, &seen).await;
            self.write_new_layout(context, inode, &seen, COMMIT_INVALID, start).await
        } else if anomalies.unwritten > 0 {
            self.write_layout(context, inode, &seen, &seen.filled()).await
        } else {
            Ok(seen)
        };
        transaction.release();
        healed
    }

    /// Reads the layout of a directory from all children, by its gfid.
    pub(super) async fn read_layout(&self, context: &Context, inode: &Arc<Inode>) -> FopResult<Layout> {
        let loc = Loc::inode(inode.clone());
        let request = standard_request(Dict::NULL, false);
        let replies = join_all(self.children.iter().map(|child| child.lookup(context, &loc, request.clone()))).await;
        match directory_view::aggregate(replies, Some(inode.gfid())) {
            Ok(view) => Ok(view.layout),
            Err(directory_view::NoDirectory::Failed(error)) => Err(error),
            Err(directory_view::NoDirectory::Mixed(_)) => Err(self.error(Errno::ENOTDIR, "read the layout")),
        }
    }

    /// What decides who gets the first range of a directory: its path, so that ranges which were lost come back as they were,
    /// and names need not be looked for off their homes. Its gfid when no child tells the path, or the options say so.
    pub(super) async fn start_of(&self, context: &Context, inode: &Arc<Inode>, seen: &Layout) -> u32 {
        if inode.gfid().is_root() {
            return hash::hash(b"/");
        }
        let there = seen.shares().iter().position(|share| !matches!(share, Share::Absent(_)));
        self.start_by(self.path_unless_random(context, inode, there.unwrap_or(0)).await, inode)
    }

    /// The same for a directory that was just made. Its parent is asked for its path: a child knows that one already.
    async fn start_of_new(&self, context: &Context, place: &Loc, inode: &Arc<Inode>, child: usize) -> u32 {
        let mut path = match &place.parent {
            Some(parent) if parent.gfid().is_root() => Some(Vec::new()),
            Some(parent) => self.path_unless_random(context, parent, child).await,
            None => None,
        };
        if let Some(path) = &mut path {
            path.push(b'/');
            path.extend_from_slice(&place.name);
        }
        self.start_by(path, inode)
    }

    async fn path_unless_random(&self, context: &Context, inode: &Arc<Inode>, child: usize) -> Option<Vec<u8>> {
        if self.options.start_by_gfid {
            return None;
        }
        match self.path_of(context, inode, child).await {
            Ok(path) if !path.is_empty() => Some(path.to_vec()),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, gfid = %inode.gfid(), "a directory's path is unknown");
                None
            }
        }
    }

    fn start_by(&self, path: Option<Vec<u8>>, inode: &Inode) -> u32 {
        match path.filter(|_| !self.options.start_by_gfid) {
            Some(path) => self.options.names.hash(&path),
            None => hash::hash(inode.gfid().to_string().as_bytes()),
        }
    }

    /// Deals out new ranges among the children that have the directory, and writes them. `start` chooses who gets the first.
    /// The caller holds the lock.
    pub(super) async fn write_new_layout(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        seen: &Layout,
        commit_hash: u32,
        start: u32,
    ) -> FopResult<Layout> {
        let candidates = self.candidates(seen);
        let rules = Rules { spread: self.options.spread, weighted: self.options.weighted, start, commit_hash };
        let dealt = self.deal(seen, &candidates, rules)?;
        self.write_layout(context, inode, seen, &dealt).await
    }

    /// Deals out new ranges so that each child keeps as much of its old one as can be, and writes them (`dht_fix_layout_of_directory`).
    /// `spread` children get one; 0 for all. The caller holds the lock.
    pub(super) async fn write_fixed_layout(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        seen: &Layout,
        start: u32,
        spread: usize,
    ) -> FopResult<Layout> {
        // Also to those whose space is low: their files would move away otherwise.
        let mut candidates = self.candidates(seen);
        candidates.iter_mut().for_each(|candidate| candidate.filled = false);
        // Files stay where they are, without linktos at their new homes: nobody may take one for missing that is not at home.
        let rules = Rules { spread, weighted: self.options.weighted, start, commit_hash: COMMIT_INVALID };
        let mut dealt = self.deal(seen, &candidates, rules)?;
        let alike = candidates.windows(2).all(|pair| matches!(pair, [a, b] if a.chunks == b.chunks));
        if alike || !rules.weighted {
            new_layout::keep_ranges(&mut dealt, seen, &self.by_name);
        }
        if has_ranges(seen, &dealt) {
            dealt.iter_mut().for_each(|disk| disk.commit_hash = seen.commit_hash());
        }
        self.write_layout(context, inode, seen, &dealt).await
    }

    fn candidates(&self, seen: &Layout) -> Vec<Candidate> {
        let usages = self.usages();
        seen.shares()
            .iter()
            .enumerate()
            .map(|(index, share)| Candidate {
                name: self.child(index).name().clone(),
                eligible: !matches!(share, Share::Absent(_)) && !self.is_leaving(index),
                filled: self.is_filled(index),
                chunks: usages.get(index).and_then(Option::as_ref).and_then(|usage| usage.chunks),
            })
            .collect()
    }

    fn deal(&self, seen: &Layout, candidates: &[Candidate], rules: Rules) -> FopResult<Vec<DiskLayout>> {
        let mut dealt = new_layout::deal(candidates, rules)
            .ok_or_else(|| self.error(Errno::EIO, "deal out a layout").with_detail("no child may get a range"))?;
        // Ranges that a user has set are dealt anew only when they are broken; they stay the user's.
        let kind = u32::from(seen.is_set_by_user());
        dealt.iter_mut().for_each(|disk| disk.kind = kind);
        Ok(dealt)
    }

    /// Writes the given ranges to all children that have the directory, except where they are already.
    async fn write_layout(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        seen: &Layout,
        dealt: &[DiskLayout],
    ) -> FopResult<Layout> {
        let loc = &Loc::inode(inode.clone());
        let request =
            Dict::empty().with(keys::IATT_IN_XATTR, Value::Int(1)).with(keys::INTERNAL_FOP, Value::str("yes"));
        let there = || {
            let all = seen.shares().iter().zip(dealt).enumerate();
            all.filter(|(_, (share, disk))| !matches!(share, Share::Absent(_)) && **share != Share::Written(**disk))
        };
        let writes = there().map(|(index, (_, disk))| {
            let value = Value::Ptr(Bytes::copy_from_slice(&disk.encode()));
            let dict = Dict::empty().with(keys::LAYOUT, value);
            self.child(index).setxattr(context, loc, dict, 0, request.clone())
        });
        let results = join_all(writes).await;
        let mut shares = seen.shares().to_vec();
        for ((index, (_, disk)), result) in there().zip(results) {
            if let Some(share) = shares.get_mut(index) {
                *share = match result {
                    Ok(_) => Share::Written(*disk),
                    Err(error) => {
                        tracing::warn!(%error, gfid = %inode.gfid(), "a range could not be written");
                        Share::Absent(error.errno)
                    }
                };
            }
        }
        Ok(Layout::new(shares))
    }

    /// The layout of a directory that mkdir has just made: written unless another client was faster.
    pub(super) async fn give_layout(
        self: &Arc<Self>,
        context: &Context,
        place: &Loc,
        inode: &Arc<Inode>,
        hashed: usize,
        commit_hash: u32,
    ) -> FopResult<Layout> {
        let mut transaction = Transaction::new(self, context);
        transaction.inode(hashed, keys::LAYOUT_DOMAIN, inode, LockType::Write).await?;
        // The path is asked for beside the layout: it costs no round trip.
        let (seen, start) =
            tokio::join!(self.read_layout(context, inode), self.start_of_new(context, place, inode, hashed));
        let seen = seen?;
        let given = if seen.anomalies().is_broken_ring() {
            self.write_new_layout(context, inode, &seen, commit_hash, start).await
        } else {
            Ok(seen)
        };
        transaction.release();
        given
    }
}

/// Whether a layout has exactly these ranges already.
fn has_ranges(seen: &Layout, dealt: &[DiskLayout]) -> bool {
    seen.shares().iter().zip(dealt).all(|(share, new)| match share {
        Share::Written(old) => (old.start, old.stop) == (new.start, new.stop),
        Share::Unwritten | Share::Absent(_) => false,
    })
}
