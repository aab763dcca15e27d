//! Heal of the content of a file (`afr-self-heal-data.c`).
//!
//! Two locks: one in the domain of healers for the whole time, so that one healer works on a file; and one in the domain
//! of users, on everything while source and sinks are chosen and at the end, and on block after block in between. Users
//! write between the blocks, to source and sinks alike, so that what was healed stays equal.

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno, Iatt, Value};

use super::super::changelog::Kind;
use super::super::child_set::ChildSet;
use super::super::core::{ARBITER, Core};
use super::super::lock::{Lockee, Locks};
use super::super::options::HealAlgorithm;
use super::super::target::Target;
use super::Conclusion;
use super::object::Healed;
use super::source::{Copy, Judge, Plan, Undecided, of_data};
use crate::reply::Payload;
use crate::{Context, Fd, FopResult};

/// The unit of the heal window, in bytes.
const BLOCK: u64 = 128 * 1024;

/// What one heal works on.
struct Heal<'a> {
    context: &'a Context,
    fd: &'a Arc<Fd>,
    plan: Plan,
    copies: Vec<Copy>,
}

impl Heal<'_> {
    fn stat(&self, index: usize) -> Iatt {
        self.copies.get(index).map(|copy| copy.stat).unwrap_or_default()
    }

    /// The source has parts that are not on disk.
    fn has_holes(&self) -> bool {
        let stat = self.stat(self.plan.source);
        stat.blocks.saturating_mul(512) < stat.size
    }
}

impl Core {
    /// Heals the content of a file that is open for reading and writing on all children.
    pub(super) async fn heal_data(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, judge: Judge) -> Healed {
        let target = Target::Inode(fd.inode.clone());
        let mine = self.lock_for_heal_alone(context, &self.heal_domain, Lockee::content(target), self.all()).await;
        let mine = self.insist_on_all(mine).await?;
        let result = self.heal_data_alone(context, fd, judge, &mine).await;
        mine.unlock().await;
        result
    }

    async fn heal_data_alone(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, judge: Judge, mine: &Locks) -> Healed {
        let locks = self.lock_content(context, fd, 0, 0).await;
        let locks = self.insist_on_all(locks).await?;
        let prepared = self.prepare_data(context, fd, judge).await;
        let (heal, sinks) = match prepared {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                locks.unlock().await;
                return Ok(false);
            }
            Err(error) => {
                locks.unlock().await;
                return Err(error);
            }
        };
        // There is nothing to copy to an arbiter, and nothing of files that are empty.
        let to_copy = if self.options.arbiter { sinks.without(ARBITER) } else { sinks };
        if to_copy.is_empty() || heal.stat(heal.plan.source).size == 0 {
            let result = self.end_data(&heal, sinks).await;
            locks.unlock().await;
            return result.map(|()| true);
        }
        locks.unlock().await;

        let copied = self.copy_blocks(&heal, to_copy, mine).await?;
        let healed = copied.union(sinks.minus(to_copy));
        let locks = self.lock_content(context, fd, 0, 0).await;
        let locks = self.insist_on_all(locks).await?;
        // A brick that was away meanwhile lost the lock that keeps other healers out.
        let result = match mine.still_held() == self.all() {
            true => self.end_data(&heal, healed).await,
            false => Err(self.no_quorum(mine.still_held(), "heal")),
        };
        locks.unlock().await;
        result.map(|()| true)
    }

    async fn lock_content(self: &Arc<Self>, context: &Context, fd: &Arc<Fd>, start: u64, len: u64) -> Locks {
        let lockee = Lockee::Range { target: Target::Inode(fd.inode.clone()), start, len };
        self.lock_for_heal(context, &self.name, lockee, self.all()).await
    }

    /// Chooses source and sinks, and gives the sinks the source's size. `None`: there is nothing to do, or nothing that can
    /// be done.
    async fn prepare_data<'a>(
        &self,
        context: &'a Context,
        fd: &'a Arc<Fd>,
        judge: Judge,
    ) -> FopResult<Option<(Heal<'a>, ChildSet)>> {
        let mut copies = self.copies(context, &fd.inode).await?;
        let direction = self.direction(Kind::Data, &copies);
        let setting = self.setting();
        let plan = match of_data(&direction, &copies, setting, judge) {
            Err(Undecided::NotSplit) => return Ok(None),
            plan => plan.map_err(|undecided| self.undecided(&fd.inode, undecided))?,
        };
        if plan.sinks.is_empty() {
            return Ok(None);
        }
        let empty = copies.iter().all(|copy| copy.stat.size == 0);
        if setting.arbiter == Some(plan.source) && !empty {
            // The arbiter knows that the others are wrong, but not what is right.
            return Ok(None);
        }
        if plan.by_policy {
            self.acquit(context, &fd.inode, Kind::Data, &plan, &mut copies).await?;
        }
        let heal = Heal { context, fd, plan, copies };
        let size = heal.stat(plan.source).size;
        let mut sinks = plan.sinks;
        if !empty {
            let cut = self.ask(sinks, |_, child| child.ftruncate(context, fd, size, Dict::NULL)).await;
            sinks = super::super::core::successes(&cut);
        }
        Ok(Some((heal, sinks)))
    }

    async fn end_data(&self, heal: &Heal<'_>, healed: ChildSet) -> FopResult<()> {
        let end = Conclusion {
            source: Some(heal.plan.source),
            sinks: heal.plan.sinks,
            unhealed: heal.plan.sinks.minus(healed),
            observed: &heal.copies,
            whole: false,
        };
        self.conclude(heal.context, &heal.fd.inode, Kind::Data, &end).await?;
        match healed.is_empty() {
            true => Err(self.error(Errno::EIO, "heal data").with_detail("no copy could be written")),
            false => Ok(()),
        }
    }

    /// Copies block after block; returns the sinks that have all of them, safely on disk.
    async fn copy_blocks(self: &Arc<Self>, heal: &Heal<'_>, mut sinks: ChildSet, mine: &Locks) -> FopResult<ChildSet> {
        let size = heal.stat(heal.plan.source).size;
        // Small blocks find more holes.
        let block = if heal.has_holes() { BLOCK } else { BLOCK * self.options.heal_window as u64 };
        let somewhere = |index: usize| heal.stat(index).size != 0;
        let compare = match self.options.heal_algorithm {
            HealAlgorithm::Diff => true,
            HealAlgorithm::Full => false,
            HealAlgorithm::Dynamic => sinks.with(heal.plan.source).iter().any(somewhere),
        };
        let mut offset = 0;
        while offset < size {
            if sinks.is_empty() {
                return Ok(sinks);
            }
            let locks = self.lock_content(heal.context, heal.fd, offset, block).await;
            // A source that went and came back between two blocks may be the one that missed something now.
            let held = locks.still_held().and(mine.still_held());
            let result = match held.contains(heal.plan.source) {
                // A sink without the lock misses this block.
                true => self.copy_block(heal, sinks.and(held), offset, block, compare).await,
                false => Err(self.no_quorum(held, "heal data")),
            };
            locks.unlock().await;
            sinks = result?;
            offset += block;
        }
        if self.options.ensure_durability {
            let synced = self.ask(sinks, |_, child| child.fsync(heal.context, heal.fd, false, Dict::NULL)).await;
            sinks = super::super::core::successes(&synced);
        }
        Ok(sinks)
    }

    /// Copies one block; returns the sinks that have it.
    async fn copy_block(
        &self,
        heal: &Heal<'_>,
        sinks: ChildSet,
        offset: u64,
        len: u64,
        compare: bool,
    ) -> FopResult<ChildSet> {
        let differing = if compare { self.differing(heal, sinks, offset, len).await } else { sinks };
        if differing.is_empty() {
            return Ok(sinks);
        }
        let (context, fd) = (heal.context, heal.fd);
        let read = |index: usize| {
            let child = self.child(index);
            child.readv(context, fd, u32::try_from(len).unwrap_or(u32::MAX), offset, 0, Dict::NULL)
        };
        let data = read(heal.plan.source).await?.data;
        let written = data.iter().map(|part| part.len()).sum::<usize>();
        if written == 0 {
            return Ok(sinks);
        }
        let zeros = heal.has_holes() && is_zero(&data);
        let last = offset + len >= heal.stat(heal.plan.source).size;
        let mut targets = ChildSet::EMPTY;
        for sink in differing.iter() {
            let size = heal.stat(sink).size;
            // The file has its size already, so what was never written reads as zeros: a hole stays one.
            let beyond = offset >= size && !last;
            let within = !compare && offset + len <= size;
            let skip = zeros && (beyond || within && read(sink).await.is_ok_and(|reply| is_zero(&reply.data)));
            if !skip {
                targets.insert(sink);
            }
        }
        let data = &data;
        let replies =
            self.ask(targets, |_, child| child.writev(context, fd, data.clone(), offset, 0, Dict::NULL)).await;
        let failed = replies.iter().filter(|(_, reply)| !reply.as_ref().is_ok_and(|reply| reply.written == written));
        Ok(failed.fold(sinks, |sinks, (index, _)| sinks.without(*index)))
    }

    /// The sinks whose block may differ from the source's.
    async fn differing(&self, heal: &Heal<'_>, sinks: ChildSet, offset: u64, len: u64) -> ChildSet {
        let source = heal.plan.source;
        let xdata = &Dict::empty().with("check-zero-filled", Value::Int(1));
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let sums = self
            .ask(sinks.with(source), |_, child| child.rchecksum(heal.context, heal.fd, offset, len, xdata.clone()))
            .await;
        let of_source = sums.iter().find(|(index, _)| *index == source).and_then(|(_, sum)| sum.as_ref().ok());
        let Some(of_source) = of_source else { return sinks };
        // Zeros that the source has on disk are written: the copies shall take the same space.
        if !heal.has_holes() && is_true(&of_source.xdata, "buf-has-zeroes") {
            return sinks;
        }
        let same = |sum: &crate::reply::RchecksumReply| sum.strong == of_source.strong && sum.weak == of_source.weak;
        let equal = sums.iter().filter(|(_, sum)| sum.as_ref().is_ok_and(same)).map(|(index, _)| *index);
        sinks.minus(equal.collect())
    }
}

fn is_zero(data: &Payload) -> bool {
    data.iter().all(|part| part.iter().all(|byte| *byte == 0))
}

/// A truth as the C dictionary spells them.
fn is_true(dict: &Dict, key: &str) -> bool {
    match dict.get(key) {
        Some(value) => {
            value.as_int().is_some_and(|number| number != 0)
                || value.as_bytes().is_some_and(|text| {
                    [&b"on"[..], b"yes", b"true", b"enable", b"1"].iter().any(|word| text.eq_ignore_ascii_case(word))
                })
        }
        None => false,
    }
}
