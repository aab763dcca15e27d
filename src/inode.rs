//! Inodes as translators see them (`inode_t`, `loc_t`): an identity and, per translator, whatever that translator wants
//! to remember about it.
//!
//! As in the C client, a LOOKUP or a creating fop gets a *fresh* inode whose gfid is not known yet; translators hang
//! their state on it while the answer passes; then the FUSE layer sets the gfid and puts it into its table, or drops it
//! in favour of the one that the table has already.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use bytes::Bytes;
use rgfs_protocol::{FileType, Gfid};

/// Key of a translator's private state: one number per live translator, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextKey(u64);

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

impl ContextKey {
    /// A key that nobody else has.
    pub fn unique() -> Self {
        ContextKey(NEXT_KEY.fetch_add(1, Ordering::Relaxed))
    }
}

/// The keys that were made while something was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpan(Range<u64>);

impl KeySpan {
    /// Notes the keys that `make` makes. Keys that other threads make meanwhile are among them.
    pub fn of<T>(make: impl FnOnce() -> T) -> (T, KeySpan) {
        let first = NEXT_KEY.load(Ordering::Relaxed);
        let made = make();
        (made, KeySpan(first..NEXT_KEY.load(Ordering::Relaxed)))
    }

    fn contains(&self, key: ContextKey) -> bool {
        self.0.contains(&key.0)
    }
}

/// State of translators on an inode or an fd (`inode_ctx`, `fd_ctx`). Dropped with its owner.
#[derive(Default)]
pub struct Contexts(RwLock<Slots>);

type Slots = smallvec::SmallVec<[(ContextKey, Arc<dyn Any + Send + Sync>); 2]>;

impl Contexts {
    /// What the translator `key` left here.
    pub fn get<T: Any + Send + Sync>(&self, key: ContextKey) -> Option<Arc<T>> {
        let slots = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (_, value) = slots.iter().find(|(owner, _)| *owner == key)?;
        value.clone().downcast().ok()
    }

    /// Leaves `value`, replacing what was there.
    pub fn set<T: Any + Send + Sync>(&self, key: ContextKey, value: Arc<T>) {
        let mut slots = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match slots.iter_mut().find(|(owner, _)| *owner == key) {
            Some((_, old)) => *old = value,
            None => slots.push((key, value)),
        }
    }

    /// What is there, or else what `make` makes; `make` runs at most once even under contention.
    pub fn get_or_insert_with<T: Any + Send + Sync>(&self, key: ContextKey, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(found) = self.get(key) {
            return found;
        }
        let mut slots = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, value)) = slots.iter().find(|(owner, _)| *owner == key)
            && let Ok(found) = value.clone().downcast()
        {
            return found;
        }
        let made = Arc::new(make());
        slots.retain(|(owner, _)| *owner != key);
        slots.push((key, made.clone()));
        made
    }

    /// Removes what the translator `key` left here.
    pub fn remove(&self, key: ContextKey) {
        let mut slots = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        slots.retain(|(owner, _)| *owner != key);
    }

    /// Removes what the translators of `spans` left here: they are gone.
    pub fn forget(&self, spans: &[KeySpan]) {
        let is_gone = |key: ContextKey| spans.iter().any(|span| span.contains(key));
        let gone: Slots = {
            let mut slots = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            if !slots.iter().any(|(owner, _)| is_gone(*owner)) {
                return;
            }
            let (gone, left) = std::mem::take(&mut *slots).into_iter().partition(|(owner, _)| is_gone(*owner));
            *slots = left;
            gone
        };
        // What is dropped may look here.
        drop(gone);
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contexts")
    }
}

/// An inode: identity, type, and translators' state.
#[derive(Debug, Default)]
pub struct Inode {
    identity: OnceLock<(Gfid, FileType)>,
    /// State of translators.
    pub contexts: Contexts,
}

impl Inode {
    /// An inode whose identity an answer will tell.
    pub fn fresh() -> Arc<Self> {
        Arc::default()
    }

    /// An inode of known identity.
    pub fn known(gfid: Gfid, kind: FileType) -> Arc<Self> {
        let inode = Inode::default();
        inode.identify(gfid, kind);
        Arc::new(inode)
    }

    /// Tells a fresh inode who it is. The first word counts; a later one is ignored.
    pub fn identify(&self, gfid: Gfid, kind: FileType) {
        // An inode's gfid and type never change: GlusterFS makes a new gfid for a new file.
        let _ = self.identity.set((gfid, kind));
    }

    /// The gfid; [`Gfid::NULL`] while fresh.
    pub fn gfid(&self) -> Gfid {
        self.identity.get().map_or(Gfid::NULL, |(gfid, _)| *gfid)
    }

    /// The type; `Unknown` while fresh.
    pub fn file_type(&self) -> FileType {
        self.identity.get().map_or(FileType::Unknown, |(_, kind)| *kind)
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }
}

/// Where a fop goes (`loc_t`): an inode, or a name in a parent, or both.
#[derive(Clone, Debug)]
pub struct Loc {
    /// The object; fresh when it is still to be found or made.
    pub inode: Arc<Inode>,
    /// Directory that holds `name`; absent for a nameless loc.
    pub parent: Option<Arc<Inode>>,
    /// Name in `parent`; empty for a nameless loc.
    pub name: Bytes,
}

impl Loc {
    /// An inode known by its gfid alone.
    pub fn inode(inode: Arc<Inode>) -> Self {
        Loc { inode, parent: None, name: Bytes::new() }
    }

    /// A name in a directory, and the inode behind it (fresh when not known).
    pub fn entry(parent: Arc<Inode>, name: impl Into<Bytes>, inode: Arc<Inode>) -> Self {
        Loc { inode, parent: Some(parent), name: name.into() }
    }

    /// gfid of the inode; NULL while fresh.
    pub fn gfid(&self) -> Gfid {
        self.inode.gfid()
    }

    /// gfid of the parent; NULL when there is none.
    pub fn parent_gfid(&self) -> Gfid {
        self.parent.as_ref().map_or(Gfid::NULL, |parent| parent.gfid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_span_made_is_forgotten() {
        let contexts = Contexts::default();
        let before = ContextKey::unique();
        let ((one, two), span) = KeySpan::of(|| (ContextKey::unique(), ContextKey::unique()));
        let after = ContextKey::unique();
        for key in [before, one, two, after] {
            contexts.set(key, Arc::new(1_u8));
        }
        contexts.forget(&[span]);
        let left = [before, one, two, after].map(|key| contexts.get::<u8>(key).is_some());
        assert_eq!(left, [true, false, false, true]);
    }
}
