//! Who wins a split-brain when nobody is asked: the favorite-child policies (`afr-self-heal-common.c:afr_sh_fav_by_*`).

use rgfs_protocol::{Iatt, Time};

use super::child_set::ChildSet;
use super::options::FavoriteChild;

/// The winner among `candidates` by content, or `None` when the policy has none. `stats` are those of *all* children:
/// with a copy out of sight no policy decides.
pub fn of_content(policy: FavoriteChild, stats: &[Iatt], candidates: ChildSet) -> Option<usize> {
    let stat = |index: usize| stats.get(index);
    match policy {
        // A directory's size says nothing.
        FavoriteChild::Size if candidates.iter().any(|index| stat(index).is_none_or(Iatt::is_dir)) => None,
        FavoriteChild::Size => biggest(stats, candidates),
        FavoriteChild::Mtime => newest(stats, candidates, |stat| stat.mtime),
        FavoriteChild::Ctime => newest(stats, candidates, |stat| stat.ctime),
        FavoriteChild::Majority => candidates.iter().find(|index| {
            let key = |index: usize| stat(index).map(|stat| (stat.mtime.sec, stat.size));
            let votes = (0..stats.len()).filter(|other| key(*other) == key(*index)).count();
            votes > stats.len() / 2
        }),
    }
}

/// The winner when copies disagree about which file a name is: as [`of_content`], but the majority counts gfids, and two
/// copies make none.
pub fn of_gfid(policy: FavoriteChild, stats: &[Iatt], candidates: ChildSet) -> Option<usize> {
    if policy != FavoriteChild::Majority {
        return of_content(policy, stats, candidates);
    }
    let gfid = |index: usize| stats.get(index).map(|stat| stat.gfid);
    let votes = |index: usize| candidates.iter().filter(|other| gfid(*other) == gfid(index)).count();
    candidates.iter().find(|index| stats.len() != 2 && votes(*index) > stats.len() / 2)
}

/// The one that is larger than all others.
pub fn biggest(stats: &[Iatt], candidates: ChildSet) -> Option<usize> {
    let size = |index: usize| stats.get(index).map_or(0, |stat| stat.size);
    let winner = candidates.iter().max_by_key(|index| size(*index))?;
    let alone = candidates.iter().filter(|index| size(*index) == size(winner)).count() == 1;
    alone.then_some(winner)
}

/// The first of the newest.
fn newest(stats: &[Iatt], candidates: ChildSet, time: impl Fn(&Iatt) -> Time) -> Option<usize> {
    let key = |index: usize| stats.get(index).map(|stat| (time(stat).sec, time(stat).nsec));
    candidates.iter().reduce(|winner, next| if key(next) > key(winner) { next } else { winner })
}

/// The one that is newer than all others, by mtime.
pub fn newest_alone(stats: &[Iatt], candidates: ChildSet) -> Option<usize> {
    let winner = newest(stats, candidates, |stat| stat.mtime)?;
    let time = |index: usize| stats.get(index).map(|stat| stat.mtime);
    let alone = candidates.iter().filter(|index| time(*index) == time(winner)).count() == 1;
    alone.then_some(winner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::Gfid;

    fn stat(size: u64, mtime: i64, ctime: i64, gfid: u8) -> Iatt {
        let at = |sec| Time { sec, nsec: 0 };
        Iatt { size, mtime: at(mtime), ctime: at(ctime), gfid: Gfid([gfid; 16]), mode: 0o100_644, ..Iatt::default() }
    }

    #[test]
    fn table() {
        let stats = [stat(5, 10, 3, 1), stat(7, 10, 9, 2), stat(5, 10, 1, 2)];
        let all = ChildSet::all(3);
        for (policy, content, gfid) in [
            (FavoriteChild::Size, Some(1), Some(1)),
            (FavoriteChild::Ctime, Some(1), Some(1)),
            (FavoriteChild::Mtime, Some(0), Some(0)),
            (FavoriteChild::Majority, Some(0), Some(1)),
        ] {
            assert_eq!(of_content(policy, &stats, all), content, "{policy:?}");
            assert_eq!(of_gfid(policy, &stats, all), gfid, "{policy:?}");
        }
        assert_eq!(of_content(FavoriteChild::Size, &stats, ChildSet::one(0).with(2)), None, "a tie");
        assert_eq!(of_content(FavoriteChild::Majority, &stats[..2], ChildSet::all(2)), None);
        assert_eq!(newest_alone(&stats, all), None);
        let directory = [Iatt { mode: 0o040_755, ..stats[0] }, Iatt { mode: 0o040_755, ..stats[1] }];
        assert_eq!(of_content(FavoriteChild::Size, &directory, ChildSet::all(2)), None);
    }
}
