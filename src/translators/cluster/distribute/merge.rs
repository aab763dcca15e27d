//! How answers of several subvolumes become one: attributes of a directory, figures of the file system
//! (`dht-helper.c:dht_iatt_merge`, `dht-common.c:dht_statfs_cbk`).

use rgfs_protocol::types::Statfs;
use rgfs_protocol::{Dict, Iatt};

use super::keys;

/// Size that every directory shows: a sum over bricks would change with their number.
const DIRECTORY_SIZE: u64 = 4096;
/// Blocks that every directory shows, of 512 bytes.
const DIRECTORY_BLOCKS: u64 = 8;

/// Makes a directory's attributes independent of the brick that told them. Absent ones stay absent.
pub fn normalise_directory(stat: &mut Iatt) {
    if stat.is_dir() && !stat.is_absent() {
        stat.size = DIRECTORY_SIZE;
        stat.blocks = DIRECTORY_BLOCKS;
    }
}

/// Adds one subvolume's attributes of a directory to those of others. The first ones told count, except that the
/// times and owners are the largest ones.
pub fn merge_directory(into: &mut Iatt, from: &Iatt) {
    if from.is_absent() {
        return;
    }
    if into.is_absent() {
        *into = *from;
    } else {
        into.uid = into.uid.max(from.uid);
        into.gid = into.gid.max(from.gid);
        into.nlink = into.nlink.max(from.nlink);
        into.atime = into.atime.max(from.atime);
        into.mtime = into.mtime.max(from.mtime);
        into.ctime = into.ctime.max(from.ctime);
    }
    normalise_directory(into);
}

/// Sum of the figures of several file systems, in units of the largest block size.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatfsSum {
    sum: Option<Statfs>,
    quota: Option<Statfs>,
}

impl StatfsSum {
    /// Adds the figures of one subvolume. Figures of a quota are not summed: all bricks tell the same one, each with what
    /// it knows, and the one with most used space counts.
    pub fn add(&mut self, figures: &Statfs, xdata: &Dict) {
        if xdata.int(keys::QUOTA_DEEM_STATFS).is_some_and(|flag| flag != 0) {
            let used = |statfs: &Statfs| statfs.blocks.saturating_sub(statfs.bfree).saturating_mul(statfs.frsize);
            if self.quota.as_ref().is_none_or(|known| used(known) < used(figures)) {
                self.quota = Some(*figures);
            }
            return;
        }
        let Some(sum) = &mut self.sum else {
            self.sum = Some(*figures);
            return;
        };
        let bsize = sum.bsize.max(figures.bsize);
        let frsize = sum.frsize.max(figures.frsize);
        let total = |a: fn(&Statfs) -> u64| {
            scale(a(sum), sum.frsize, frsize).saturating_add(scale(a(figures), figures.frsize, frsize))
        };
        let count = |a: fn(&Statfs) -> u64| a(sum).saturating_add(a(figures));
        *sum = Statfs {
            bsize,
            frsize,
            blocks: total(|statfs| statfs.blocks),
            bfree: total(|statfs| statfs.bfree),
            bavail: total(|statfs| statfs.bavail),
            files: count(|statfs| statfs.files),
            ffree: count(|statfs| statfs.ffree),
            favail: count(|statfs| statfs.favail),
            fsid: figures.fsid,
            flag: figures.flag,
            namemax: sum.namemax.min(figures.namemax),
        };
    }

    /// The sum, when anything was added.
    pub fn total(&self) -> Option<Statfs> {
        self.quota.or(self.sum)
    }
}

/// Blocks of `from` bytes, counted in blocks of `to` bytes.
fn scale(blocks: u64, from: u64, to: u64) -> u64 {
    if from == to || to == 0 {
        return blocks;
    }
    u64::try_from(u128::from(blocks) * u128::from(from) / u128::from(to)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::{Gfid, Time, Value};

    fn directory(uid: u32, mtime: i64) -> Iatt {
        let mtime = Time { sec: mtime, nsec: 0 };
        Iatt {
            gfid: Gfid::ROOT,
            flags: 1,
            mode: 0o040_755,
            size: 10,
            blocks: 1,
            uid,
            mtime,
            nlink: 3,
            ..Iatt::default()
        }
    }

    #[test]
    fn directories_merge_to_the_largest_times() {
        let mut merged = Iatt::default();
        merge_directory(&mut merged, &directory(0, 5));
        merge_directory(&mut merged, &Iatt::default());
        merge_directory(&mut merged, &directory(7, 3));
        assert_eq!((merged.size, merged.blocks, merged.uid, merged.mtime.sec, merged.nlink), (4096, 8, 7, 5, 3));
    }

    #[test]
    fn statfs_sums_in_the_largest_unit() {
        let figures = |frsize, blocks| Statfs {
            bsize: frsize,
            frsize,
            blocks,
            bfree: blocks / 2,
            files: 10,
            namemax: 255,
            ..Statfs::default()
        };
        let mut sum = StatfsSum::default();
        assert_eq!(sum.total(), None);
        sum.add(&figures(4096, 1000), &Dict::NULL);
        sum.add(&figures(8192, 1000), &Dict::NULL);
        let total = sum.total().unwrap();
        assert_eq!((total.frsize, total.blocks, total.bfree, total.files), (8192, 1500, 750, 20));
    }

    #[test]
    fn quota_is_not_summed() {
        let quota = Dict::empty().with(keys::QUOTA_DEEM_STATFS, Value::Int(1));
        let figures = |bfree| Statfs { frsize: 1, blocks: 100, bfree, ..Statfs::default() };
        let mut sum = StatfsSum::default();
        for bfree in [50, 40, 60] {
            sum.add(&figures(bfree), &quota);
        }
        assert_eq!(sum.total().unwrap().bfree, 40);
    }

    #[test]
    fn nonsense_does_not_overflow() {
        let huge = Statfs { bsize: u64::MAX, frsize: u64::MAX, blocks: u64::MAX, ..Statfs::default() };
        let mut sum = StatfsSum::default();
        sum.add(&huge, &Dict::NULL);
        sum.add(&Statfs { frsize: 1, ..huge }, &Dict::NULL);
        sum.add(&Statfs::default(), &Dict::NULL);
        assert_eq!(sum.total().unwrap().blocks, u64::MAX);
    }
}
