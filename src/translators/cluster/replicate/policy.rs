//! Which of the good copies is read (`afr_read_subvol_select_by_policy`, `afr_hash_child`).
//!
//! First a preferred one, then one by the option `read-hash-mode`, then the first. Every client may have its own policy; but
//! with the default all clients read a file from the same copy, which then has it in its page cache.

use rgfs_protocol::Gfid;

use super::child_set::ChildSet;
use super::core::ARBITER;
use super::options::ReadHash;
use super::super_fast_hash::super_fast_hash;

/// How this client chooses.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Read from this one where possible.
    pub preferred: Option<usize>,
    /// How to choose otherwise.
    pub hash: ReadHash,
    /// Number of children, arbiter included: what hashes are reduced by.
    pub count: usize,
    /// The child at `ARBITER` is one.
    pub arbiter: bool,
    /// This process.
    pub pid: u32,
}

/// How busy a child is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Reads under way.
    pub reads: u64,
    /// What a read took lately, in nanoseconds; 0 when that is not known.
    pub latency: u64,
}

impl Policy {
    /// The child to read from; `None` without candidates.
    pub fn choose(
        &self,
        candidates: ChildSet,
        gfid: &Gfid,
        is_dir: bool,
        load: impl Fn(usize) -> Load,
    ) -> Option<usize> {
        let preferred = self.preferred.filter(|child| candidates.contains(*child));
        let chosen = preferred.or_else(|| {
            let by_mode = self.by_mode(candidates, gfid, is_dir, load);
            by_mode.filter(|child| candidates.contains(*child))
        });
        chosen.or_else(|| candidates.first())
    }

    fn by_mode(&self, candidates: ChildSet, gfid: &Gfid, is_dir: bool, load: impl Fn(usize) -> Load) -> Option<usize> {
        let copies = if self.arbiter { candidates.without(ARBITER) } else { candidates };
        let latency = |child: &usize| load(*child).latency;
        match self.hash {
            ReadHash::First => None,
            ReadHash::Gfid => self.hashed(gfid.0),
            ReadHash::GfidAndPid if is_dir => self.hashed(gfid.0),
            ReadHash::GfidAndPid => {
                let mut mixed = gfid.0;
                for (byte, pid) in mixed.iter_mut().zip(self.pid.to_ne_bytes()) {
                    *byte ^= pid;
                }
                self.hashed(mixed)
            }
            ReadHash::LeastRequests => copies.iter().min_by_key(|child| load(*child).reads),
            // A copy whose latency is not known yet is tried first: else nobody would ever learn it.
            ReadHash::LeastLatency => copies.iter().min_by_key(latency),
            ReadHash::LatencyAndRequests => copies.iter().min_by_key(|child| {
                let load = load(*child);
                (load.reads + 1).saturating_mul(load.latency.max(1))
            }),
        }
    }

    fn hashed(&self, bytes: [u8; 16]) -> Option<usize> {
        (super_fast_hash(&bytes) as usize).checked_rem(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GFID: Gfid = Gfid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

    fn policy(hash: ReadHash) -> Policy {
        Policy { preferred: None, hash, count: 3, arbiter: false, pid: 4660 }
    }

    fn idle(_: usize) -> Load {
        Load::default()
    }

    #[test]
    fn the_hash_counts_only_when_its_copy_is_good() {
        let all = ChildSet::all(3);
        // 0x5f8e7c97 mod 3 = 1; with the pid 0xf566b74e mod 3 = 0.
        let cases = [
            (ReadHash::First, all, false, Some(0)),
            (ReadHash::First, all.without(0), false, Some(1)),
            (ReadHash::Gfid, all, false, Some(0x5f8e_7c97 % 3)),
            (ReadHash::Gfid, ChildSet::one(2), false, Some(2)),
            (ReadHash::Gfid, ChildSet::EMPTY, false, None),
            (ReadHash::GfidAndPid, all, false, Some(0xf566_b74e % 3)),
            (ReadHash::GfidAndPid, all, true, Some(0x5f8e_7c97 % 3)),
        ];
        for (mode, candidates, is_dir, chosen) in cases {
            assert_eq!(policy(mode).choose(candidates, &GFID, is_dir, idle), chosen, "{mode:?} {candidates:?}");
        }
    }

    #[test]
    fn a_preferred_copy_comes_first() {
        let policy = Policy { preferred: Some(2), ..policy(ReadHash::First) };
        assert_eq!(policy.choose(ChildSet::all(3), &GFID, false, idle), Some(2));
        assert_eq!(policy.choose(ChildSet::all(2), &GFID, false, idle), Some(0));
    }

    #[test]
    fn by_load() {
        let loads = [(5, 10), (1, 40), (0, 90)];
        let load = |child: usize| Load { reads: loads[child].0, latency: loads[child].1 };
        let choose = |mode, arbiter| Policy { arbiter, ..policy(mode) }.choose(ChildSet::all(3), &GFID, false, load);
        assert_eq!(choose(ReadHash::LeastRequests, false), Some(2));
        assert_eq!(choose(ReadHash::LeastRequests, true), Some(1));
        assert_eq!(choose(ReadHash::LeastLatency, false), Some(0));
        assert_eq!(choose(ReadHash::LatencyAndRequests, false), Some(0));
    }

    #[test]
    fn the_arbiter_is_the_last_resort() {
        let policy = Policy { arbiter: true, ..policy(ReadHash::LeastRequests) };
        assert_eq!(policy.choose(ChildSet::one(ARBITER), &GFID, true, idle), Some(ARBITER));
    }
}
