//! Layouts that others change: fix-layout gives ranges to other subvolumes while clients remember the old ones.
//!
//! CREATE and MKDIR tell the brick what they expect of the parent. For all other fops a client that trusts what it
//! remembers does not find names that were moved, and makes names where nobody looks. So what relies on a layout that was
//! not read a moment ago asks *beside* its own request whether one subvolume still stores the same: that costs no round,
//! and because fix-layout comes before any file of the directory moves, the answer is in time.
//!
//! The same goes for the volume's commit hash, which rebalance changes before anything else. With an old one the old hash of
//! a directory with new ranges would still promise that every name is at home.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rgfs_protocol::types::LockType;
use rgfs_protocol::{Dict, FileType, Gfid, Value};

use super::core::{Core, DirectoryState, as_root, to_the_end};
use super::directory_view::{share_of, volume_commit_hash};
use super::keys;
use super::layout::COMMIT_INVALID;
use super::locks::Transaction;
use crate::{Context, FopResult, Inode, Loc};

/// For so long a layout counts as just read.
pub(super) const TRUST: Duration = Duration::from_millis(100);

/// When a layout was read, or confirmed.
#[derive(Debug)]
pub(super) struct ReadAt(Mutex<Instant>);

impl ReadAt {
    /// Just now.
    pub(super) fn now() -> Self {
        ReadAt(Mutex::new(Instant::now()))
    }

    fn age(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn confirm(&self, asked: Instant) {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *read = asked.max(*read);
    }
}

/// For so long after the start of a rebalance the hashes of directories promise nothing.
const SETTLING: u64 = 7 * 86_400;
/// Clocks of servers and clients differ by no more than this.
const SKEW: u64 = 86_400;

/// Whether the rebalance that gave the volume this commit hash may be at work still. Rebalance settles a directory's hash when it
/// has listed the files to be moved, not when they are moved (`gf_defrag_fix_layout`): until then they are neither at home,
/// nor is a linkto of them there. The hash tells when it began: glusterd takes seconds since 1970, times eight, plus flags.
///
/// `now` is in seconds since 1970.
pub(super) fn may_be_settling(commit_hash: u32, now: u64) -> bool {
    const WRAP: u64 = 1 << 29;
    let age = (now % WRAP + WRAP + SKEW - u64::from(commit_hash >> 3)) % WRAP;
    commit_hash > COMMIT_INVALID && age < SETTLING + SKEW
}

impl Core {
    /// Does `fop`, which relies on what `directory` says about the subvolume `at`; and beside it asks whether that is
    /// still so. Answers with the new layout when it is not.
    pub(super) async fn beside<T>(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        directory: &DirectoryState,
        at: usize,
        fop: impl Future<Output = T> + Send,
    ) -> (T, Option<Arc<DirectoryState>>) {
        if directory.read.age() < self.trust {
            return (fop.await, None);
        }
        let (answer, unchanged) = tokio::join!(fop, self.is_unchanged(context, inode, directory, at));
        let changed = match unchanged {
            true => None,
            false => self.read_again(context, inode, directory).await,
        };
        (answer, changed)
    }

    /// Reads the layout of a known directory again. Heals nothing, for locks may be held. `None` when it cannot be read: the
    /// old one must do.
    pub(super) async fn read_again(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        known: &DirectoryState,
    ) -> Option<Arc<DirectoryState>> {
        let layout = self.read_layout(&as_root(context), inode).await.ok()?.remembering(&known.layout);
        Some(self.remember_directory(inode, DirectoryState::new(layout, known.mds)))
    }

    /// [`Core::home`] for those who hold no lock of a layout. Fix-layout writes the ranges of one subvolume after the other: what was read
    /// meanwhile may have a hole. It holds a lock until it has done; then the layout is read again.
    pub(super) async fn settled_home(
        self: &Arc<Self>,
        context: &Context,
        inode: &Arc<Inode>,
        directory: Arc<DirectoryState>,
        name: &[u8],
    ) -> FopResult<(usize, Arc<DirectoryState>)> {
        if let Some(home) = self.hashed(&directory, name) {
            return Ok((home, directory));
        }
        let (core, context, inode, known) = (self.clone(), context.clone(), inode.clone(), directory.clone());
        let read = async move {
            let mut transaction = Transaction::new(&core, &context);
            for child in core.by_name.clone() {
                if transaction.inode(child, keys::LAYOUT_DOMAIN, &inode, LockType::Read).await.is_ok() {
                    break;
                }
            }
            let read = core.read_again(&context, &inode, &known).await;
            transaction.give_back().await;
            Ok(read)
        };
        let directory = to_the_end(self, "read a settled layout", read).await?.unwrap_or(directory);
        self.home(&directory, name).map(|home| (home, directory))
    }

    /// Whether the subvolume `at` has what `directory` says. One that cannot be asked changes nothing.
    async fn is_unchanged(&self, context: &Context, inode: &Arc<Inode>, directory: &DirectoryState, at: usize) -> bool {
        let asked = Instant::now();
        let request = Dict::empty().with(keys::LAYOUT, Value::Uint(16));
        let reply = self.child(at).lookup(&as_root(context), &Loc::inode(inode.clone()), request).await;
        match reply {
            Ok(reply) if Some(&share_of(&reply.xdata)) != directory.layout.shares().get(at) => false,
            Ok(_) => {
                directory.read.confirm(asked);
                true
            }
            Err(_) => true,
        }
    }

    /// Asks the subvolume `at` for the volume's commit hash, unless that was done a moment ago.
    pub(super) async fn confirm_commit_hash(&self, context: &Context, at: usize) {
        if self.commit_hash_read.age() < self.trust {
            return;
        }
        let asked = Instant::now();
        let root = Loc::inode(Inode::known(Gfid::ROOT, FileType::Directory));
        let request = Dict::empty().with(keys::COMMIT_HASH, Value::Uint(4));
        if let Ok(reply) = self.child(at).lookup(&as_root(context), &root, request).await {
            if let Some(hash) = volume_commit_hash(&reply.xdata) {
                self.commit_hash.store(hash, Ordering::Relaxed);
            }
            self.commit_hash_read.confirm(asked);
        }
    }

    /// A name was made where an old layout said: leads to it from its home in the new one.
    pub(super) async fn lead_from_home(&self, context: &Context, loc: &Loc, gfid: Gfid, changed: &DirectoryState) {
        let (Some(home), Some(file)) = (self.hashed(changed, &loc.name), self.file(&loc.inode)) else { return };
        if home != file.cached
            && let Err(error) = self.make_linkto(context, loc, gfid, home, file.cached, Dict::NULL).await
        {
            tracing::warn!(%error, "a new name is without its linkto");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_when_rebalance_began() {
        // Of a rebalance that glusterd started at that second.
        let (hash, start) = (1_478_169_530, 1_795_383_927);
        for (now, expected) in [
            (start, true),
            (start + SETTLING - 1, true),
            (start + SETTLING + 1, false),
            (start - SKEW + 2, true),
            (start - SKEW - 2, false),
        ] {
            assert_eq!(may_be_settling(hash, now), expected, "{now}");
        }
        assert!(!may_be_settling(0, 3) && !may_be_settling(COMMIT_INVALID, 3), "no time");
    }
}
