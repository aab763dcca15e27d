//! Reads: from one good copy, and from another when that one fails (`afr-read-txn.c`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rgfs_protocol::Errno;

use super::changelog::Kind;
use super::child_set::ChildSet;
use super::core::{Call, Core};
use super::options::ReadHash;
use super::policy::{Load, Policy};
use super::target::Target;
use crate::{Context, FopResult, Translator};

/// What sort of read it is.
#[derive(Clone, Copy)]
pub(super) struct Read {
    /// The fop, for errors.
    pub(super) step: &'static str,
    /// Which copies will do when there is no copy that is good for everything.
    pub(super) kind: Kind,
    /// It tells the attributes of the inode: on a directory these must be good too.
    pub(super) attributes: bool,
    /// Errors that every copy would answer with: no other is asked.
    pub(super) is_final: fn(Errno) -> bool,
}

impl Read {
    /// A read of content.
    pub(super) fn data(step: &'static str) -> Self {
        Read { step, kind: Kind::Data, attributes: false, is_final: |_| false }
    }

    /// A read of attributes.
    pub(super) fn metadata(step: &'static str) -> Self {
        Read { kind: Kind::Metadata, ..Self::data(step) }
    }
}

impl Core {
    /// Calls the child with the copy to be read. When it fails all copies are asked how they are, once, and then the good
    /// ones are tried, each once.
    ///
    /// # Errors
    /// That of the last copy tried; EIO when no copy is good; ENOTCONN without quorum.
    pub(super) async fn read<'a, T: Send>(
        self: &'a Arc<Self>,
        context: &Context,
        target: &Target,
        read: Read,
        call: impl Fn(usize, &'a Arc<dyn Translator>) -> Call<'a, T>,
    ) -> FopResult<T> {
        let snapshot = self.snapshot();
        self.check_quorum(snapshot, read.step)?;
        if let Some(index) = self.lone_copy(snapshot.up) {
            self.check_lone_copy(context, target, index, read.step).await?;
            return self.call(index, &call).await;
        }
        let state = self.inode(target.inode());
        let candidates = match self.known(&state, snapshot) {
            Some(known) => known.both().and(snapshot.up),
            None if target.inode().is_dir() && self.found_well(&state, snapshot) => snapshot.up,
            None => ChildSet::EMPTY,
        };
        let mut tried = ChildSet::EMPTY;
        let mut last = None;
        if let Some(index) = self.choose(target, candidates) {
            match self.call(index, &call).await {
                Ok(reply) => return Ok(reply),
                Err(error) if (read.is_final)(error.errno) => return Err(error),
                Err(error) => last = Some(error),
            }
            tried.insert(index);
        }
        let refreshed = self.ask_copies_for(context, target, read.kind, read.attributes, snapshot).await?;
        if let Some(index) = self.lone_copy(refreshed.answered()) {
            self.check_lone_copy(context, target, index, read.step).await?;
            return self.call(index, &call).await;
        }
        let Some(mut untried) = refreshed.usable(target, read.kind, read.attributes) else {
            let chosen = *state.split_brain_choice.lock().unwrap_or_else(PoisonError::into_inner);
            return match chosen.or_else(|| self.favorite(refreshed.stats())) {
                Some(index) => self.call(index, &call).await,
                None => Err(self.split_brain(&refreshed)),
            };
        };
        // A copy whose content is good may have missed attributes, and the other way round.
        let good = refreshed.good().and(untried);
        if read.attributes && !good.is_empty() {
            untried = good;
        }
        let first = if good.is_empty() { untried } else { good };
        let mut next = self.choose(target, first).filter(|index| !tried.contains(*index));
        untried = untried.minus(tried);
        while let Some(index) = next.or_else(|| untried.first()) {
            next = None;
            untried.remove(index);
            match self.call(index, &call).await {
                Ok(reply) => return Ok(reply),
                Err(error) if (read.is_final)(error.errno) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.error(Errno::EIO, read.step).with_detail("no other copy is good")))
    }

    /// The copy to read, by this client's policy.
    pub(super) fn choose(&self, target: &Target, candidates: ChildSet) -> Option<usize> {
        let inode = target.inode();
        self.policy().choose(candidates, &inode.gfid(), inode.is_dir(), |child| self.load(child))
    }

    /// This client's policy.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            preferred: Some(self.preferred.load(Ordering::Relaxed)).filter(|index| *index != usize::MAX),
            hash: self.options.read_hash,
            count: self.count(),
            arbiter: self.options.arbiter,
            // A system call: not where it does not count.
            pid: if self.options.read_hash == ReadHash::GfidAndPid { std::process::id() } else { 0 },
        }
    }

    /// How busy a child is.
    pub(super) fn load(&self, child: usize) -> Load {
        Load {
            reads: self.reads.get(child).map_or(0, |reads| reads.load(Ordering::Relaxed) as u64),
            latency: self.latencies.get(child).map_or(0, |latency| latency.load(Ordering::Relaxed)),
        }
    }

    async fn call<'a, T: Send>(
        &'a self,
        index: usize,
        call: &impl Fn(usize, &'a Arc<dyn Translator>) -> Call<'a, T>,
    ) -> FopResult<T> {
        let timed = matches!(self.options.read_hash, ReadHash::LeastLatency | ReadHash::LatencyAndRequests);
        let started = timed.then(|| self.clock.now());
        let running = self.reads.get(index).map(Running::new);
        let result = call(index, self.child(index)).await;
        drop(running);
        if let (Some(started), true) = (started, result.is_ok()) {
            self.note_latency(index, self.clock.now().saturating_sub(started));
        }
        result
    }

    /// Takes a measured read into the average, as an eighth of it.
    fn note_latency(&self, index: usize, took: Duration) {
        let Some(latency) = self.latencies.get(index) else { return };
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Another read may note its own at the same time; then one of the two is lost, and nothing is by that.
        let average = match latency.load(Ordering::Relaxed) {
            0 => took,
            old => old - old / 8 + took / 8,
        };
        latency.store(average, Ordering::Relaxed);
    }
}

/// Counts a read as under way while it lives; also when nobody waits for it any more.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn new(reads: &'a AtomicUsize) -> Self {
        reads.fetch_add(1, Ordering::Relaxed);
        Running(reads)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
