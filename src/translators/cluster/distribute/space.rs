//! Free space of the subvolumes, and where a new file goes when its place is full (`dht-diskusage.c`).

use rgfs_protocol::types::Statfs;

use super::new_layout;
use super::options::Limit;

/// What is known of one subvolume's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Free bytes for users.
    pub free_bytes: u64,
    /// Free space in percent.
    pub free_percent: u64,
    /// Free inodes.
    pub free_inodes: u64,
    /// Free inodes in percent; 100 on file systems that do not count them.
    pub inode_percent: u64,
    /// Size in chunks of 1 MiB.
    pub chunks: Option<u64>,
}

impl Usage {
    /// From a brick's own figures.
    pub fn new(statfs: &Statfs) -> Self {
        let percent = |part: u64, whole: u64| u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(100);
        let (free_inodes, inode_percent) =
            if statfs.files == 0 { (u64::MAX, 100) } else { (statfs.ffree, percent(statfs.ffree, statfs.files)) };
        Usage {
            free_bytes: statfs.bavail.saturating_mul(statfs.frsize),
            free_percent: if statfs.blocks == 0 { 0 } else { percent(statfs.bavail, statfs.blocks) },
            free_inodes,
            inode_percent,
            chunks: new_layout::chunks(statfs.blocks, statfs.bsize),
        }
    }

    fn space(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Percent(_) => self.free_percent,
            Limit::Amount(_) => self.free_bytes,
        }
    }

    fn inodes(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Percent(_) => self.inode_percent,
            Limit::Amount(_) => self.free_inodes,
        }
    }
}

/// The two limits of the volume.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `min-free-disk`.
    pub disk: Limit,
    /// `min-free-inodes`.
    pub inodes: Limit,
}

fn bound(limit: Limit) -> u64 {
    match limit {
        Limit::Percent(value) | Limit::Amount(value) => value,
    }
}

impl Limits {
    /// True when the subvolume is below either limit. Unknown space is taken for enough.
    pub fn is_filled(&self, usage: Option<&Usage>) -> bool {
        usage.is_some_and(|usage| {
            usage.space(self.disk) < bound(self.disk) || usage.inodes(self.inodes) < bound(self.inodes)
        })
    }

    /// Where a new file goes whose `hashed` subvolume is filled. `usable` tells of each subvolume whether it has the parent
    /// directory and is not leaving.
    pub fn divert(&self, hashed: usize, usages: &[Option<Usage>], usable: impl Fn(usize) -> bool) -> usize {
        let known = || {
            let known = usages.iter().enumerate().filter_map(|(index, usage)| Some((index, usage.as_ref()?)));
            known.filter(|(index, _)| usable(*index))
        };
        let mut best: Option<(usize, u64, u64)> = None;
        for (index, usage) in known() {
            let (space, inodes) = (usage.space(self.disk), usage.inodes(self.inodes));
            let above = space > bound(self.disk) && inodes > bound(self.inodes);
            if above && best.is_none_or(|(_, most, most_inodes)| space > most || inodes > most_inodes) {
                best = Some((index, space, inodes));
            }
        }
        let roomiest = || known().filter(|(_, usage)| usage.free_inodes > 0).max_by_key(|(_, usage)| usage.free_bytes);
        best.map(|(index, ..)| index).or_else(|| roomiest().map(|(index, _)| index)).unwrap_or(hashed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { disk: Limit::Percent(10), inodes: Limit::Percent(5) };

    fn usage(free_percent: u64, inode_percent: u64) -> Option<Usage> {
        let statfs = Statfs {
            bsize: 1 << 20,
            frsize: 1 << 20,
            blocks: 100,
            bavail: free_percent,
            files: 100,
            ffree: inode_percent,
            ..Statfs::default()
        };
        Some(Usage::new(&statfs))
    }

    #[test]
    fn filled() {
        assert!(!LIMITS.is_filled(None), "unknown");
        assert!(!LIMITS.is_filled(usage(10, 5).as_ref()));
        assert!(LIMITS.is_filled(usage(9, 50).as_ref()));
        assert!(LIMITS.is_filled(usage(50, 4).as_ref()));
        let bytes = Limits { disk: Limit::Amount(20 << 20), ..LIMITS };
        assert!(bytes.is_filled(usage(19, 50).as_ref()));
        assert!(!bytes.is_filled(usage(20, 50).as_ref()));
    }

    #[test]
    fn the_roomiest_takes_over() {
        let all = |_| true;
        assert_eq!(LIMITS.divert(0, &[usage(1, 50), usage(20, 50), usage(30, 50)], all), 2);
        assert_eq!(LIMITS.divert(0, &[usage(1, 50), usage(20, 50), usage(30, 50)], |index| index != 2), 1);
        assert_eq!(LIMITS.divert(0, &[usage(1, 50), usage(9, 50), usage(2, 50)], all), 1, "all filled");
        assert_eq!(LIMITS.divert(0, &[usage(1, 50), None], all), 0, "unknown space is no target");
        assert_eq!(LIMITS.divert(1, &[None, None], all), 1);
    }

    #[test]
    fn no_inode_count_is_plenty() {
        let statfs = Statfs { bsize: 1, frsize: 1, blocks: 10, bavail: 5, ..Statfs::default() };
        let usage = Usage::new(&statfs);
        assert_eq!((usage.inode_percent, usage.free_percent), (100, 50));
        assert!(!LIMITS.is_filled(Some(&usage)));
    }
}
