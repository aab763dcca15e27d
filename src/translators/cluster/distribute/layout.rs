//! Layouts: which subvolume of a directory takes which hashes (`dht-layout.c`).
//!
//! On disk every brick keeps only its own range; in memory a [`Layout`] gathers what all of them answered.

use rgfs_protocol::Errno;

/// Commit hash that says "names may be anywhere": of layouts that were healed, and of subvolumes that disagree.
pub const COMMIT_INVALID: u32 = 1;

/// One brick's xattr `trusted.glusterfs.dht`: 16 bytes, four big-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DiskLayout {
    /// Commit hash of the directory.
    pub commit_hash: u32,
    /// 0: made by GlusterFS; 1: set by a user, never to be rewritten.
    pub kind: u32,
    /// First hash of the range.
    pub start: u32,
    /// Last hash of the range, inclusive.
    pub stop: u32,
}

impl DiskLayout {
    /// Reads the xattr. `None` unless it is 16 bytes of a known kind.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else { return None };
        let [commit_hash, kind, start, stop] = words else { return None };
        let kind = u32::from_be_bytes(*kind);
        (kind <= 1).then(|| DiskLayout {
            commit_hash: u32::from_be_bytes(*commit_hash),
            kind,
            start: u32::from_be_bytes(*start),
            stop: u32::from_be_bytes(*stop),
        })
    }

    /// Writes the xattr.
    pub fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (words, _) = bytes.as_chunks_mut::<4>();
        for (slot, word) in words.iter_mut().zip([self.commit_hash, self.kind, self.start, self.stop]) {
            *slot = word.to_be_bytes();
        }
        bytes
    }

    /// True when the subvolume takes no new names: newly added, leaving, or beyond the spread.
    pub fn is_empty(&self) -> bool {
        self.start == self.stop
    }

    /// True when `hash` belongs here.
    pub fn contains(&self, hash: u32) -> bool {
        !self.is_empty() && (self.start..=self.stop).contains(&hash)
    }
}

/// What one subvolume said about a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The directory is there, with this xattr.
    Written(DiskLayout),
    /// The directory is there, without the xattr.
    Unwritten,
    /// The directory could not be looked up.
    Absent(Errno),
}

/// A directory's layout: one share per subvolume, in the order of the volfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    shares: Box<[Share]>,
    commit_hash: u32,
}

/// What is wrong with a layout (`dht_layout_anomalies`). All zero: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Anomalies {
    /// Stretches of the ring that nobody takes.
    pub holes: u32,
    /// Ranges that lie over others.
    pub overlaps: u32,
    /// Subvolumes without the directory.
    pub missing: u32,
    /// Subvolumes that have the directory, but no xattr.
    pub unwritten: u32,
    /// Subvolumes that could not be reached.
    pub down: u32,
    /// Subvolumes that failed otherwise.
    pub other: u32,
}

impl Layout {
    /// A layout of what the subvolumes said. Its commit hash is the first one that is not zero, or
    /// [`COMMIT_INVALID`] when another one differs from it (`dht_layout_merge`).
    pub fn new(shares: impl Into<Box<[Share]>>) -> Self {
        let shares = shares.into();
        let mut hashes = shares.iter().filter_map(|share| match share {
            Share::Written(disk) if disk.commit_hash != 0 => Some(disk.commit_hash),
            _ => None,
        });
        let first = hashes.next().unwrap_or(0);
        let commit_hash = if hashes.all(|hash| hash == first) { first } else { COMMIT_INVALID };
        Layout { shares, commit_hash }
    }

    /// The subvolumes' shares, by index.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// What subvolume `index` has on disk, if it has something.
    pub fn disk(&self, index: usize) -> Option<DiskLayout> {
        match self.shares.get(index) {
            Some(Share::Written(disk)) => Some(*disk),
            _ => None,
        }
    }

    /// Commit hash of the directory.
    pub fn commit_hash(&self) -> u32 {
        self.commit_hash
    }

    /// The subvolume to which `hash` belongs. `None` in a hole.
    pub fn search(&self, hash: u32) -> Option<usize> {
        self.shares.iter().position(|share| matches!(share, Share::Written(disk) if disk.contains(hash)))
    }

    /// True when a user set the ranges; they must never be computed anew.
    pub fn is_set_by_user(&self) -> bool {
        self.shares.iter().any(|share| matches!(share, Share::Written(disk) if disk.kind == 1))
    }

    /// The same ranges, with an empty one for each subvolume that has none.
    pub fn filled(&self) -> Vec<DiskLayout> {
        let kind = u32::from(self.is_set_by_user());
        let empty = DiskLayout { commit_hash: self.commit_hash, kind, start: 0, stop: 0 };
        self.shares.iter().map(|share| if let Share::Written(disk) = share { *disk } else { empty }).collect()
    }

    /// This layout, with the ranges that unreachable subvolumes had in an `older` one, if the reachable ones have kept
    /// theirs. So names go on hashing to a subvolume that is down, and fail there, instead of falling into a hole.
    pub fn remembering(self, older: &Layout) -> Layout {
        let unreachable = |share: &Share| *share == Share::Absent(Errno::ENOTCONN);
        let same = |(now, then): (&Share, &Share)| unreachable(now) || now == then;
        let down = self.shares.iter().any(unreachable);
        if !down || self.shares.len() != older.shares.len() || !self.shares.iter().zip(&older.shares).all(same) {
            return self;
        }
        Layout::new(older.shares.clone())
    }

    /// Checks that the ranges cover the ring once, and that every subvolume has the directory.
    pub fn anomalies(&self) -> Anomalies {
        let mut anomalies = Anomalies::default();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(self.shares.len());
        for share in &self.shares {
            match share {
                Share::Written(disk) if disk.is_empty() => {}
                Share::Written(disk) => ranges.push((disk.start, disk.stop)),
                Share::Unwritten => anomalies.unwritten += 1,
                Share::Absent(Errno::ENOENT | Errno::ESTALE) => anomalies.missing += 1,
                Share::Absent(Errno::ENOTCONN) => anomalies.down += 1,
                Share::Absent(_) => anomalies.other += 1,
            }
        }
        ranges.sort_unstable();
        let mut next: u64 = 0;
        for (start, stop) in ranges {
            let (start, stop) = (u64::from(start), u64::from(stop));
            // A range that runs backwards covers nothing and cannot have been meant.
            if stop < start || start < next {
                anomalies.overlaps += 1;
            } else if start > next {
                anomalies.holes += 1;
            }
            next = next.max(stop + 1);
        }
        if next <= u64::from(u32::MAX) {
            anomalies.holes += 1;
        }
        anomalies
    }
}

impl Anomalies {
    /// True when the ranges do not cover the ring exactly once.
    pub fn is_broken_ring(&self) -> bool {
        self.holes > 0 || self.overlaps > 0
    }

    /// True when some subvolume did not tell what it has, so that nothing may be rewritten.
    pub fn is_unknown(&self) -> bool {
        self.down > 0 || self.other > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(commit_hash: u32, start: u32, stop: u32) -> Share {
        Share::Written(DiskLayout { commit_hash, kind: 0, start, stop })
    }

    #[test]
    fn bytes_seen_on_a_brick() {
        let bytes = [0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let disk = DiskLayout::decode(&bytes).unwrap();
        assert_eq!(disk, DiskLayout { commit_hash: 1, kind: 0, start: 0x7fff_ffff, stop: 0xffff_ffff });
        assert_eq!(disk.encode(), bytes);
        assert_eq!(DiskLayout::decode(&bytes[..15]), None);
        assert_eq!(DiskLayout::decode(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]), None, "unknown kind");
    }

    #[test]
    fn anomalies_table() {
        let check = |shares: &[Share]| Layout::new(shares).anomalies();
        let clean = Anomalies::default();
        assert_eq!(check(&[written(0, 0, 0x7fff_fffe), written(0, 0x7fff_ffff, u32::MAX)]), clean);
        assert_eq!(check(&[written(0, 0x7fff_ffff, u32::MAX), written(0, 0, 0x7fff_fffe)]), clean, "any order");
        assert_eq!(check(&[written(0, 0, u32::MAX), written(0, 0, 0)]), clean, "a new brick");
        assert_eq!(check(&[Share::Unwritten, Share::Unwritten]), Anomalies { holes: 1, unwritten: 2, ..clean });
        assert_eq!(check(&[written(0, 0, 9), written(0, 11, u32::MAX)]), Anomalies { holes: 1, ..clean });
        assert_eq!(check(&[written(0, 0, 11), written(0, 11, u32::MAX)]), Anomalies { overlaps: 1, ..clean });
        assert_eq!(check(&[written(0, 5, u32::MAX)]), Anomalies { holes: 1, ..clean }, "at the start");
        assert_eq!(check(&[written(0, 0, 5)]), Anomalies { holes: 1, ..clean }, "at the end");
        assert_eq!(check(&[written(0, 9, 5)]), Anomalies { holes: 1, overlaps: 1, ..clean }, "backwards");
        let absent = [Share::Absent(Errno::ENOENT), Share::Absent(Errno::ENOTCONN), Share::Absent(Errno::EIO)];
        assert_eq!(check(&absent), Anomalies { holes: 1, missing: 1, down: 1, other: 1, ..clean });
    }

    #[test]
    fn commit_hash_of_the_whole() {
        let hash = |hashes: [u32; 3]| Layout::new(hashes.map(|hash| written(hash, 0, 1))).commit_hash();
        assert_eq!(hash([0, 0, 0]), 0);
        assert_eq!(hash([0, 7, 7]), 7);
        assert_eq!(hash([7, 0, 7]), 7);
        assert_eq!(hash([7, 8, 7]), COMMIT_INVALID);
    }

    #[test]
    fn ranges_of_a_subvolume_that_is_down_are_remembered() {
        let (low, high, down) = (written(0, 0, 9), written(0, 10, u32::MAX), Share::Absent(Errno::ENOTCONN));
        let after =
            |now: [Share; 2], then: [Share; 2]| Layout::new(now).remembering(&Layout::new(then)).shares().to_vec();
        assert_eq!(after([low, down], [low, high]), [low, high]);
        assert_eq!(
            after([written(0, 0, 5), down], [low, high]),
            [written(0, 0, 5), down],
            "others have changed theirs"
        );
        assert_eq!(after([low, Share::Absent(Errno::ENOENT)], [low, high]), [low, Share::Absent(Errno::ENOENT)]);
        assert_eq!(after([high, low], [low, high]), [high, low]);
    }

    #[test]
    fn subvolumes_without_a_range_get_an_empty_one() {
        let empty = DiskLayout { commit_hash: 7, ..DiskLayout::default() };
        let all = DiskLayout { commit_hash: 7, kind: 0, start: 0, stop: u32::MAX };
        assert_eq!(Layout::new([Share::Unwritten, Share::Written(all)]).filled(), [empty, all]);
    }

    #[test]
    fn an_empty_range_takes_nothing() {
        let layout = Layout::new([written(0, 0, 0), written(0, 0, u32::MAX)]);
        assert_eq!(layout.search(0), Some(1));
        assert_eq!(Layout::new([Share::Unwritten]).search(0), None);
    }

    proptest! {
        #[test]
        fn a_clean_ring_has_one_home_for_every_hash(mut cuts in prop::collection::vec(2u32..u32::MAX - 2, 0..9), hash: u32) {
            cuts.sort_unstable();
            cuts.dedup_by(|a, b| a.abs_diff(*b) < 2);
            let mut start = 0;
            let mut shares = Vec::new();
            for cut in cuts {
                shares.push(written(0, start, cut));
                start = cut + 1;
            }
            shares.push(written(0, start, u32::MAX));
            let layout = Layout::new(shares);
            prop_assert_eq!(layout.anomalies(), Anomalies::default());
            let homes = layout.shares().iter().filter(|share| matches!(share, Share::Written(disk) if disk.contains(hash)));
            prop_assert_eq!(homes.count(), 1);
            prop_assert!(layout.search(hash).is_some());
        }

        #[test]
        fn decoding_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(disk) = DiskLayout::decode(&bytes) {
                prop_assert_eq!(disk.encode().to_vec(), bytes);
            }
        }
    }
}
