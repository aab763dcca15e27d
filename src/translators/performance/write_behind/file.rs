//! The state of a file that was written, and the search for it by gfid.
//!
//! It hangs on the inode from the first write on: an inode without writes has none, and costs its operations one failed
//! search in its contexts. Answers that name files by gfid alone (a LOOKUP by another name, READDIRP) are checked
//! against [`Files`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use rgfs_protocol::Gfid;
use tokio::sync::oneshot;

use super::job::Job;
use super::queue::{Limits, Queue};
use crate::FopResult;
use crate::inode::{ContextKey, Inode};
use crate::reply::WriteReply;

/// What the caller of a waiting write is told.
pub(super) enum Verdict {
    /// It is as good as written.
    Acknowledged,
    /// The child has answered.
    Answered(Box<FopResult<WriteReply>>),
}

/// The queue of one file.
pub(super) type FileQueue = Queue<Job, oneshot::Sender<Verdict>, oneshot::Sender<()>>;

/// A file that was written through this translator.
pub(super) struct File {
    gfid: Gfid,
    queue: Mutex<FileQueue>,
    /// Some fd of it has, or had, a failure to report.
    pub(super) failed: AtomicBool,
    /// Moment ([`Files::moment`]) of the last answer to a write.
    last_change: AtomicU64,
    files: Arc<Files>,
}

impl File {
    /// The queue. Wake nobody and drop no payload while it is locked.
    pub(super) fn queue(&self) -> MutexGuard<'_, FileQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the brick's attributes have changed.
    pub(super) fn changed(&self) {
        self.last_change.store(self.files.clock.fetch_add(1, Ordering::AcqRel) + 1, Ordering::Release);
    }

    /// True when attributes that the child was asked for at `moment` may lack acknowledged writes.
    pub(super) fn is_stale_since(&self, moment: u64) -> bool {
        !self.queue().is_idle() || self.last_change.load(Ordering::Acquire) > moment
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let mut by_gfid = self.files.by_gfid.write().unwrap_or_else(PoisonError::into_inner);
        // A new inode of the same gfid may have taken the place.
        if by_gfid.get(&self.gfid).is_some_and(|file| file.strong_count() == 0) {
            by_gfid.remove(&self.gfid);
        }
    }
}

/// All files that were written and are not forgotten yet.
#[derive(Default)]
pub(super) struct Files {
    by_gfid: RwLock<HashMap<Gfid, Weak<File>>>,
    /// Counts answers to writes.
    clock: AtomicU64,
}

impl Files {
    /// Now, for [`File::is_stale_since`].
    pub(super) fn moment(&self) -> u64 {
        self.clock.load(Ordering::Acquire)
    }

    /// The file of that gfid, if it was written.
    pub(super) fn find(&self, gfid: Gfid) -> Option<Arc<File>> {
        self.by_gfid.read().unwrap_or_else(PoisonError::into_inner).get(&gfid)?.upgrade()
    }

    /// Every file that was written.
    pub(super) fn all(&self) -> Vec<Arc<File>> {
        self.by_gfid.read().unwrap_or_else(PoisonError::into_inner).values().filter_map(Weak::upgrade).collect()
    }

    /// True when no file was written.
    pub(super) fn is_empty(&self) -> bool {
        self.by_gfid.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The file behind `inode`, made on the first call. Two inodes of one gfid (one may be on its way to be dropped)
    /// share it, because their writes must not cross.
    pub(super) fn of(self: &Arc<Self>, inode: &Inode, key: ContextKey, limits: Limits) -> Arc<File> {
        if let Some(file) = inode.contexts.get(key) {
            return file;
        }
        let gfid = inode.gfid();
        let mut by_gfid = self.by_gfid.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = inode.contexts.get(key) {
            return file;
        }
        let known = by_gfid.get(&gfid).and_then(Weak::upgrade);
        let file = known.unwrap_or_else(|| {
            let file = Arc::new(File {
                gfid,
                queue: Mutex::new(Queue::new(limits)),
                failed: AtomicBool::new(false),
                last_change: AtomicU64::new(0),
                files: self.clone(),
            });
            if !gfid.is_null() {
                by_gfid.insert(gfid, Arc::downgrade(&file));
            }
            file
        });
        inode.contexts.set(key, file.clone());
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::FileType;

    #[test]
    fn inodes_of_one_gfid_share_the_state_and_the_last_takes_it_away() {
        let files = Arc::<Files>::default();
        let key = ContextKey::unique();
        let limits = Limits { window: 1, aggregate: 1 };
        let gfid = Gfid([7; 16]);
        let (a, b) = (Inode::known(gfid, FileType::Regular), Inode::known(gfid, FileType::Regular));
        assert!(files.is_empty());
        assert!(Arc::ptr_eq(&files.of(&a, key, limits), &files.of(&b, key, limits)));
        drop(a);
        assert!(files.find(gfid).is_some());
        drop(b);
        assert!(files.is_empty());
    }

    #[test]
    fn attributes_are_stale_when_a_write_was_answered_after_they_were_asked_for() {
        let files = Arc::<Files>::default();
        let inode = Inode::known(Gfid([7; 16]), FileType::Regular);
        let file = files.of(&inode, ContextKey::unique(), Limits { window: 1, aggregate: 1 });
        let before = files.moment();
        assert!(!file.is_stale_since(before));
        file.changed();
        assert!(file.is_stale_since(before));
        assert!(!file.is_stale_since(files.moment()));
    }
}
