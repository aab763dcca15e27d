//! Ranges for a directory that has none (`dht-selfheal.c:dht_selfheal_layout_new_directory`).

use std::sync::Arc;

use super::layout::{DiskLayout, Layout};

/// What is known of a subvolume when ranges are dealt out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name: ranges are dealt in the order of names, byte by byte.
    pub name: Arc<str>,
    /// It may get a range: the directory is there and the subvolume is not leaving.
    pub eligible: bool,
    /// Its space is below the limits: it gets a range only when all others are filled too.
    pub filled: bool,
    /// Size of the brick in chunks of 1 MiB; `None` while unknown.
    pub chunks: Option<u64>,
}

/// How ranges are dealt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// At most so many subvolumes get a range; 0 for all.
    pub spread: usize,
    /// Big bricks get big ranges.
    pub weighted: bool,
    /// Hash that chooses who gets the first range: of the directory's path or gfid.
    pub start: u32,
    /// Commit hash of all shares.
    pub commit_hash: u32,
}

/// Size of a brick in chunks of 1 MiB, from its statfs: `blocks` of `fragment` bytes.
pub fn chunks(blocks: u64, fragment: u64) -> Option<u64> {
    const CHUNK: u64 = 1 << 20;
    let per_chunk = (CHUNK / fragment.clamp(1, CHUNK)).max(1);
    (blocks > 0).then(|| blocks.div_ceil(per_chunk))
}

/// Deals the ring out. The answer has one share per candidate, in the order given; those without a range have an empty one.
/// `None` when nobody may get a range.
pub fn deal(candidates: &[Candidate], rules: Rules) -> Option<Vec<DiskLayout>> {
    let empty = DiskLayout { commit_hash: rules.commit_hash, ..DiskLayout::default() };
    let mut shares = vec![empty; candidates.len()];

    let mut sorted: Vec<usize> = (0..candidates.len()).collect();
    sorted.sort_by(|a, b| candidates.get(*a).map(|c| &c.name).cmp(&candidates.get(*b).map(|c| &c.name)));
    let all_filled = candidates.iter().filter(|candidate| candidate.eligible).all(|candidate| candidate.filled);
    let first = rules.start as usize % sorted.len().max(1);
    sorted.rotate_left(first);
    sorted.retain(|index| candidates.get(*index).is_some_and(|c| c.eligible && (all_filled || !c.filled)));
    if rules.spread > 0 {
        sorted.truncate(rules.spread);
    }

    let sizes: Option<Vec<u64>> = sorted.iter().map(|index| candidates.get(*index)?.chunks).collect();
    let weights = match sizes {
        Some(sizes) if rules.weighted => sizes,
        // One unknown size and nobody is weighed.
        _ => vec![1; sorted.len()],
    };
    let total: u64 = weights.iter().sum();
    let unit = f64::from(u32::MAX) / total as f64;

    let (last, others) = sorted.split_last()?;
    let mut next: u32 = 0;
    for (index, weight) in others.iter().zip(&weights) {
        let size = (unit * *weight as f64) as u32;
        // A brick too small for a single hash stays empty rather than making the ring overlap.
        if size >= 2
            && let Some(share) = shares.get_mut(*index)
        {
            *share = DiskLayout { start: next, stop: next + (size - 1), ..empty };
            next += size;
        }
    }
    if let Some(share) = shares.get_mut(*last) {
        *share = DiskLayout { start: next, stop: u32::MAX, ..empty };
    }
    Some(shares)
}

/// Gives the dealt ranges to other subvolumes where these keep more of what they have in `old`, so that fewer names get another
/// home (`dht_selfheal_layout_maximize_overlap`). `order` is that of the subvolumes' names.
pub fn keep_ranges(dealt: &mut [DiskLayout], old: &Layout, order: &[usize]) {
    let kept = |old_of: usize, range: Option<&DiskLayout>| -> u64 {
        let (Some(old), Some(new)) = (old.disk(old_of), range) else { return 0 };
        if old.is_empty() || new.is_empty() {
            return 0;
        }
        let (first, last) = (old.start.max(new.start), old.stop.min(new.stop));
        u64::from(last).saturating_add(1).saturating_sub(u64::from(first))
    };
    for (place, &one) in order.iter().enumerate() {
        let gain = |other: usize| {
            let now = kept(one, dealt.get(one)) + kept(other, dealt.get(other));
            (kept(one, dealt.get(other)) + kept(other, dealt.get(one))).saturating_sub(now)
        };
        let mut best = (0, one);
        for &other in order.iter().skip(place + 1) {
            if gain(other) > best.0 {
                best = (gain(other), other);
            }
        }
        if best.0 > 0 && one < dealt.len() && best.1 < dealt.len() {
            dealt.swap(one, best.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Anomalies, Share};
    use super::*;
    use proptest::prelude::*;

    fn candidates(sizes: &[Option<u64>]) -> Vec<Candidate> {
        let candidate = |(index, chunks): (usize, &Option<u64>)| Candidate {
            name: format!("v-client-{index}").into(),
            eligible: true,
            filled: false,
            chunks: *chunks,
        };
        sizes.iter().enumerate().map(candidate).collect()
    }

    fn stops(sizes: &[Option<u64>], start: u32) -> Vec<u32> {
        let rules = Rules { weighted: true, start, ..Rules::default() };
        deal(&candidates(sizes), rules).unwrap().iter().map(|share| share.stop).collect()
    }

    #[test]
    fn agrees_with_the_c_client() {
        assert_eq!(stops(&[None; 1], 0), [u32::MAX]);
        assert_eq!(stops(&[None; 2], 0), [0x7fff_fffe, u32::MAX]);
        assert_eq!(stops(&[None; 3], 0), [0x5555_5554, 0xaaaa_aaa9, u32::MAX]);
        assert_eq!(stops(&[None; 4], 0), [0x3fff_fffe, 0x7fff_fffd, 0xbfff_fffc, u32::MAX]);
        assert_eq!(stops(&[None; 5], 0), [0x3333_3332, 0x6666_6665, 0x9999_9998, 0xcccc_cccb, u32::MAX]);
        let six = [0x2aaa_aaa9, 0x5555_5553, 0x7fff_fffd, 0xaaaa_aaa7, 0xd555_5551, u32::MAX];
        assert_eq!(stops(&[None; 6], 0), six);
        assert_eq!(stops(&[Some(10_000), Some(20_000), Some(30_000)], 0), [0x2aaa_aaa9, 0x7fff_fffe, u32::MAX]);
        assert_eq!(stops(&[Some(10_000), None], 0), [0x7fff_fffe, u32::MAX], "one unknown size");
    }

    #[test]
    fn the_start_rotates() {
        assert_eq!(stops(&[None; 2], 1), [u32::MAX, 0x7fff_fffe]);
        assert_eq!(stops(&[None; 3], 5), [0xaaaa_aaa9, u32::MAX, 0x5555_5554]);
    }

    #[test]
    fn names_are_compared_as_bytes() {
        // client-10 comes before client-2.
        let mut three = candidates(&[None; 3]);
        three[1].name = "v-client-2".into();
        three[2].name = "v-client-10".into();
        let shares = deal(&three, Rules::default()).unwrap();
        assert_eq!((shares[0].start, shares[2].start, shares[1].start), (0, 0x5555_5555, 0xaaaa_aaaa));
    }

    #[test]
    fn filled_and_leaving_ones_stay_empty() {
        let mut three = candidates(&[None; 3]);
        three[0].filled = true;
        three[1].eligible = false;
        let shares = deal(&three, Rules::default()).unwrap();
        assert!(shares[0].is_empty() && shares[1].is_empty());
        assert_eq!((shares[2].start, shares[2].stop), (0, u32::MAX));
        three[2].filled = true;
        let shares = deal(&three, Rules::default()).unwrap();
        assert!(!shares[0].is_empty() && shares[1].is_empty() && !shares[2].is_empty(), "all filled: as if none were");
        for candidate in &mut three {
            candidate.eligible = false;
        }
        assert_eq!(deal(&three, Rules::default()), None);
    }

    #[test]
    fn sizes_in_chunks() {
        assert_eq!(chunks(256, 4096), Some(1));
        assert_eq!(chunks(257, 4096), Some(2));
        assert_eq!(chunks(3, 4 << 20), Some(3), "blocks above a chunk count as one");
        assert_eq!(chunks(0, 4096), None);
        assert_eq!(chunks(5, 0), Some(1), "a brick that says nonsense");
    }

    #[test]
    fn ranges_stay_where_they_were() {
        // The ring of two, dealt to three in the worst order.
        let range = |start, stop| DiskLayout { start, stop, ..DiskLayout::default() };
        let (low, high) = (range(0, 0x7fff_fffe), range(0x7fff_ffff, u32::MAX));
        let old = Layout::new([Share::Written(low), Share::Written(high), Share::Unwritten]);
        let thirds = [range(0, 0x5555_5554), range(0x5555_5555, 0xaaaa_aaa9), range(0xaaaa_aaaa, u32::MAX)];
        let mut dealt = [thirds[2], thirds[0], thirds[1]];
        keep_ranges(&mut dealt, &old, &[0, 1, 2]);
        assert_eq!(dealt, [thirds[0], thirds[2], thirds[1]]);
        let kept = dealt;
        keep_ranges(&mut dealt, &Layout::new(kept.map(Share::Written)), &[0, 1, 2]);
        assert_eq!(dealt, kept);
    }

    proptest! {
        #[test]
        fn dealt_ranges_cover_the_ring_once(
            sizes in prop::collection::vec(prop::option::weighted(0.9, 1u64..1 << 40), 1..40),
            spread in 0usize..5,
            start: u32,
        ) {
            let rules = Rules { spread, weighted: true, start, commit_hash: 3 };
            let shares = deal(&candidates(&sizes), rules).unwrap();
            let used = shares.iter().filter(|share| !share.is_empty()).count();
            prop_assert!(spread == 0 || used <= spread);
            let layout = Layout::new(shares.into_iter().map(Share::Written).collect::<Vec<_>>());
            prop_assert_eq!(layout.anomalies(), Anomalies::default());
            prop_assert_eq!(layout.commit_hash(), 3);
        }
    }
}
