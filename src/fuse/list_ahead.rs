//! What was asked for of an open directory and is not with the kernel yet.
//!
//! A chunk is one answer of the translators. While the kernel and the program digest one, the next is on its way, and the
//! parts of a listing that begin at places known beforehand (one per subvolume of distribute) are fetched side by side. A
//! chunk is found by the cookie that it was asked with: a listing that goes on elsewhere (`seekdir`) just does not find one.

use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::FopResult;
use crate::reply::EntryPlus;

/// Chunks of one open directory at most. Each is what a brick gives at a time: a few hundred entries.
pub const CHUNKS: usize = 8;
/// Chunks that are older are asked for once more: what another client did a second ago shall show.
const AGE: Duration = Duration::from_secs(1);

/// Entries that are not delivered yet.
#[derive(Debug)]
pub struct Chunk {
    /// Cookie of the entry before the first: a READDIR with that offset goes on here.
    pub offset: u64,
    /// The entries, in reverse: the next one is the last.
    pub entries: Vec<EntryPlus>,
    /// Where the next chunk begins; `None` at the end of the listing.
    pub next: Option<u64>,
    /// When they were asked for. What this mount changed later may be missing in them.
    pub asked: Instant,
    /// When they came: their attributes age from then on.
    pub since: Instant,
}

impl Chunk {
    /// Whether it may still be shown. `names_gone`: when this mount last took a name away from the directory.
    pub fn is_current(&self, names_gone: Option<Instant>, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) < AGE && names_gone.is_none_or(|gone| gone < self.asked)
    }
}

/// A chunk that is here, or on its way.
#[derive(Debug)]
pub enum Expected {
    /// Here, or what is left of it.
    Here(Chunk),
    /// On its way.
    Coming(oneshot::Receiver<FopResult<Chunk>>),
}

/// The chunks of one open directory.
#[derive(Debug, Default)]
pub struct ListAhead {
    chunks: SmallVec<[(u64, Expected); 2]>,
    /// Where parts begin that were not asked for yet; the next one is the last.
    parts: Vec<u64>,
}

impl ListAhead {
    /// The listing has further parts, which begin there.
    pub fn set_parts(&mut self, mut parts: Vec<u64>) {
        parts.reverse();
        self.parts = parts;
    }

    /// Takes the chunk that begins at `offset`.
    pub fn take(&mut self, offset: u64) -> Option<Expected> {
        let at = self.chunks.iter().position(|(begin, _)| *begin == offset)?;
        Some(self.chunks.swap_remove(at).1)
    }

    /// Keeps a chunk that begins at `offset`, in place of another one.
    pub fn put(&mut self, offset: u64, chunk: Expected) {
        self.chunks.retain(|(begin, _)| *begin != offset);
        if self.chunks.len() < CHUNKS {
            self.chunks.push((offset, chunk));
        }
    }

    /// Where to ask next, if anywhere: behind the chunk that is being delivered (`next`), then the parts in their order.
    pub fn wanted(&mut self, next: Option<u64>) -> Option<u64> {
        if self.chunks.len() >= CHUNKS {
            return None;
        }
        let known = |offset: &u64| self.chunks.iter().any(|(begin, _)| begin == offset);
        if let Some(next) = next.filter(|next| !known(next) && !self.parts.contains(next)) {
            return Some(next);
        }
        self.parts.pop()
    }

    /// Nothing that is kept may be shown any more.
    pub fn forget(&mut self) {
        self.chunks.clear();
        self.parts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coming() -> Expected {
        Expected::Coming(oneshot::channel().1)
    }

    #[test]
    fn the_next_chunk_comes_first_then_the_parts() {
        let mut ahead = ListAhead::default();
        assert_eq!((ahead.wanted(None), ahead.wanted(Some(40))), (None, Some(40)), "no parts");
        ahead.set_parts(vec![1, 2]);
        assert_eq!(ahead.wanted(None), Some(1));
        ahead.put(1, coming());
        assert_eq!(ahead.wanted(Some(40)), Some(40));
        ahead.put(40, coming());
        assert_eq!(ahead.wanted(Some(40)), Some(2), "40 is on its way");
        ahead.put(2, coming());
        assert_eq!(ahead.wanted(Some(1)), None, "the first part ended where the second begins");
        assert!(ahead.take(40).is_some() && ahead.take(40).is_none());
        ahead.forget();
        assert!(ahead.take(1).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut ahead = ListAhead::default();
        ahead.set_parts((1..100).collect());
        let mut asked = 0;
        while let Some(offset) = ahead.wanted(None) {
            ahead.put(offset, coming());
            asked += 1;
        }
        assert_eq!(asked, CHUNKS);
        assert!(ahead.take(1).is_some());
        assert_eq!(ahead.wanted(None), Some(CHUNKS as u64 + 1), "room for the next part");
    }

    #[test]
    fn old_chunks_and_those_from_before_a_removal_are_not_shown() {
        let asked = Instant::now();
        let chunk = Chunk { offset: 0, entries: Vec::new(), next: None, asked, since: asked };
        let later = asked + Duration::from_millis(1);
        assert!(chunk.is_current(None, asked) && chunk.is_current(None, later));
        assert!(!chunk.is_current(None, asked + AGE));
        assert!(!chunk.is_current(Some(later), later) && !chunk.is_current(Some(asked), later));
    }
}
