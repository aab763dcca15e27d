//! Which copy a heal copies from, and onto which ones (`afr-self-heal-{data,metadata,entry}.c:__afr_selfheal_*_finalize_source`).
//!
//! Pure decisions over the answers of all children, read under locks.

use rgfs_protocol::{Dict, Iatt};

use super::super::changelog::Marks;
use super::super::child_set::ChildSet;
use super::super::favorite;
use super::super::options::FavoriteChild;
use super::direction::Direction;

/// What one child knows of an inode.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Copy {
    /// Its attributes.
    pub(in super::super) stat: Iatt,
    /// Its changelog.
    pub(in super::super) marks: Marks,
    /// Its extended attributes, and other things that were asked for.
    pub(in super::super) xdata: Dict,
}

/// What an administrator wants done about a split-brain (`heal-op` of `gf_xl_afr_op_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Command {
    /// The larger file wins.
    BiggerFile,
    /// The newer file wins.
    LatestMtime,
    /// This child wins.
    Child(usize),
}

/// Who may end a split-brain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Judge {
    /// The options of the volume.
    Options {
        /// Favorite-child policy.
        favorite: Option<FavoriteChild>,
        /// Metadata is healed from the first copy if all else fails.
        force_metadata: bool,
    },
    /// An administrator, who wants nothing but a split-brain healed.
    Command(Command),
}

/// Why there is no source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Undecided {
    /// Split-brain, and nobody may end it.
    SplitBrain,
    /// A command to end a split-brain, where there is none.
    NotSplit,
    /// A command cannot be followed; the text is what upstream's tools show.
    Refused(&'static str),
}

/// From which copy to which ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Plan {
    /// The copy to read.
    pub(in super::super) source: usize,
    /// The copies to change.
    pub(in super::super) sinks: ChildSet,
    /// The source was chosen in a split-brain by policy: the others' accusations of it are taken back at once.
    pub(in super::super) by_policy: bool,
}

/// Facts about the replicate that decisions depend on.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Setting {
    /// Index of the arbiter.
    pub(in super::super) arbiter: Option<usize>,
    /// The child to read from where it may be.
    pub(in super::super) preferred: usize,
}

impl Setting {
    fn choose(self, sources: ChildSet) -> Option<usize> {
        Some(self.preferred)
            .filter(|index| sources.contains(*index) && self.arbiter != Some(*index))
            .or(sources.first())
    }
}

/// Of the content of a file.
pub(in super::super) fn of_data(
    direction: &Direction,
    copies: &[Copy],
    setting: Setting,
    judge: Judge,
) -> Result<Plan, Undecided> {
    let all = ChildSet::all(copies.len());
    let stats: Vec<Iatt> = copies.iter().map(|copy| copy.stat).collect();
    let size = |index: usize| stats.get(index).map_or(0, |stat| stat.size);
    let empty = all.iter().all(|index| size(index) == 0);
    let plan = |sources: ChildSet, by_policy| {
        let source = setting.choose(sources).ok_or(Undecided::SplitBrain)?;
        Ok(Plan { source, sinks: all.minus(sources), by_policy })
    };
    if direction.is_split_brain() {
        if empty {
            return plan(ChildSet::one(0), false);
        }
        let candidates = setting.arbiter.map_or(all, |arbiter| all.without(arbiter));
        return match judge {
            Judge::Command(command) => plan(ChildSet::one(obey(command, &stats, candidates)?), false),
            Judge::Options { favorite: Some(policy), .. } => {
                let winner = favorite::of_content(policy, &stats, candidates).ok_or(Undecided::SplitBrain)?;
                plan(ChildSet::one(winner), true)
            }
            Judge::Options { favorite: None, .. } => Err(Undecided::SplitBrain),
        };
    }
    if matches!(judge, Judge::Command(_)) {
        return Err(Undecided::NotSplit);
    }
    let mut sources = direction.sources;
    let witness = |index: usize| direction.witness.get(index).copied().unwrap_or(0);
    let with_data = sources.iter().filter(|index| setting.arbiter != Some(*index) || size(*index) != 0);
    let sizes_differ = with_data.clone().any(|index| Some(size(index)) != with_data.clone().next().map(size));
    if sizes_differ || sources.iter().any(|index| witness(index) != 0) {
        sources = most(sources, size);
        // An arbiter has nothing to copy, however much it saw begin: a data brick that lost its content with the power is as
        // long as it is.
        let with_content = setting.arbiter.map_or(sources, |arbiter| sources.without(arbiter));
        sources = if with_content.is_empty() { sources } else { with_content };
        sources = most(sources, witness);
        let newest = most(sources, |index| stats.get(index).map_or(0, |stat| stat.ctime.sec));
        sources = newest.iter().last().map_or(ChildSet::EMPTY, ChildSet::one);
        if setting.arbiter.is_some() && empty {
            sources = ChildSet::one(0);
        }
    }
    plan(sources, false)
}

/// Of attributes and extended attributes. `None`: there is nothing to do.
pub(in super::super) fn of_metadata(
    direction: &Direction,
    copies: &[Copy],
    setting: Setting,
    judge: Judge,
) -> Result<Option<Plan>, Undecided> {
    let all = ChildSet::all(copies.len());
    let stats: Vec<Iatt> = copies.iter().map(|copy| copy.stat).collect();
    let same = |one: usize, other: usize| match (copies.get(one), copies.get(other)) {
        (Some(one), Some(other)) => same_metadata(one, other),
        _ => false,
    };
    let plan = |source: usize, by_policy| Ok(Some(Plan { source, sinks: all.without(source), by_policy }));
    let mut sources = direction.sources;
    if let Some(witness) = sources.iter().find(|index| direction.witness.get(*index).is_some_and(|count| *count != 0)) {
        sources = ChildSet::one(witness);
    }
    if direction.is_split_brain() {
        if all.iter().all(|index| same(0, index)) {
            // Directories get new times with every name: the newest are right.
            let newest = || favorite::of_content(FavoriteChild::Mtime, &stats, all).unwrap_or(0);
            return plan(if stats.iter().all(Iatt::is_dir) { newest() } else { 0 }, false);
        }
        match judge {
            Judge::Command(Command::Child(index)) => return plan(index, false),
            Judge::Command(_) => {
                return Err(Undecided::Refused("Use source-brick option to heal metadata split-brain"));
            }
            Judge::Options { favorite: Some(policy), .. } => {
                if let Some(winner) = favorite::of_content(policy, &stats, all) {
                    return plan(winner, true);
                }
            }
            Judge::Options { favorite: None, .. } => {}
        }
        return match judge {
            Judge::Options { force_metadata: true, .. } => plan(0, false),
            _ => Err(Undecided::SplitBrain),
        };
    }
    if matches!(judge, Judge::Command(_)) {
        return Err(Undecided::NotSplit);
    }
    let source = setting.choose(sources).ok_or(Undecided::SplitBrain)?;
    sources = sources.iter().filter(|index| same(source, *index)).collect();
    let sinks = all.minus(sources);
    Ok((!sinks.is_empty()).then_some(Plan { source, sinks, by_policy: false }))
}

/// Of the names in a directory. `None`: no copy is right, and all names are brought together.
pub(in super::super) fn of_entries(direction: &Direction, setting: Setting) -> Option<Plan> {
    // A source that accuses nobody knows nothing that would speak for deleting a name.
    if direction.is_split_brain() || direction.has_witness() || direction.sinks.is_empty() {
        return None;
    }
    let source = setting.choose(direction.sources)?;
    Some(Plan { source, sinks: direction.sinks, by_policy: false })
}

/// The winner by command, among these.
pub(in super::super) fn obey(command: Command, stats: &[Iatt], candidates: ChildSet) -> Result<usize, Undecided> {
    match command {
        Command::BiggerFile => favorite::biggest(stats, candidates).ok_or(Undecided::Refused("No bigger file")),
        Command::LatestMtime => {
            favorite::newest_alone(stats, candidates).ok_or(Undecided::Refused("No difference in mtime"))
        }
        Command::Child(index) if candidates.contains(index) => Ok(index),
        Command::Child(_) => Err(Undecided::Refused("Error getting the source brick")),
    }
}

fn most<K: Ord + std::marker::Copy>(among: ChildSet, key: impl Fn(usize) -> K) -> ChildSet {
    let best = among.iter().map(&key).max();
    among.iter().filter(|index| Some(key(*index)) == best).collect()
}

/// Whether two copies have the same type, owner, mode and extended attributes.
pub(in super::super) fn same_metadata(one: &Copy, other: &Copy) -> bool {
    let key = |copy: &Copy| (copy.stat.mode, copy.stat.uid, copy.stat.gid);
    key(one) == key(other) && same_xattrs(&one.xdata, &other.xdata)
}

/// Compares what LOOKUP with `list-xattr` told (`afr_xattrs_are_equal`).
fn same_xattrs(one: &Dict, other: &Dict) -> bool {
    let relevant = |dict: &Dict| {
        let pairs = dict.iter().filter(|(key, _)| is_stored(key) && is_healed(key));
        let mut pairs: Vec<_> = pairs.map(|(key, value)| (key.clone(), value.as_bytes())).collect();
        pairs.sort();
        pairs
    };
    relevant(one) == relevant(other)
}

/// Names of xattrs on disk; other keys are questions to translators.
fn is_stored(key: &[u8]) -> bool {
    [&b"trusted."[..], b"system.", b"user.", b"security."].iter().any(|prefix| key.starts_with(prefix))
}

/// Names of xattrs that copies need to have in common (`afr_is_xattr_ignorable`).
pub(in super::super) fn is_healed(key: &[u8]) -> bool {
    !key.starts_with(b"trusted.afr") && key != b"security.selinux" && key != b"trusted.glusterfs.quota.size"
}

#[cfg(test)]
mod tests {
    use super::super::super::changelog::{Counters, Kind};
    use super::*;
    use rgfs_protocol::{Time, Value};

    const PLAIN: Setting = Setting { arbiter: None, preferred: usize::MAX };
    const ARBITER: Setting = Setting { arbiter: Some(2), preferred: usize::MAX };
    const NOBODY: Judge = Judge::Options { favorite: None, force_metadata: false };

    fn copies(sizes: [u64; 3]) -> Vec<Copy> {
        sizes.map(|size| Copy { stat: Iatt { size, mode: 0o100_644, ..Iatt::default() }, ..Copy::default() }).to_vec()
    }

    fn direction(kind: Kind, matrix: [[i32; 3]; 3], dirty: [i32; 3]) -> Direction {
        let marks: Vec<Marks> = matrix
            .iter()
            .zip(dirty)
            .map(|(row, dirty)| Marks {
                pending: row.iter().map(|counter| Counters::of(kind, *counter)).collect(),
                dirty: Counters::of(kind, dirty),
            })
            .collect();
        Direction::find(kind, &marks, 2)
    }

    fn set(indices: &[usize]) -> ChildSet {
        indices.iter().copied().collect()
    }

    const CLEAN: [[i32; 3]; 3] = [[0; 3]; 3];
    const LAST_MISSED: [[i32; 3]; 3] = [[0, 0, 1], [0, 0, 1], [0, 0, 0]];
    const ALL_ACCUSED: [[i32; 3]; 3] = [[0, 1, 1], [1, 0, 1], [1, 1, 0]];

    #[test]
    fn data() {
        let plan = |source, sinks: &[usize], by_policy| Ok(Plan { source, sinks: set(sinks), by_policy });
        let of = |matrix, dirty, sizes, setting, judge| {
            of_data(&direction(Kind::Data, matrix, dirty), &copies(sizes), setting, judge)
        };
        assert_eq!(of(CLEAN, [0; 3], [5, 5, 5], PLAIN, NOBODY), plan(0, &[], false));
        assert_eq!(of(LAST_MISSED, [0; 3], [5, 5, 9], PLAIN, NOBODY), plan(0, &[2], false));
        let preferred = Setting { preferred: 1, ..PLAIN };
        assert_eq!(of(LAST_MISSED, [0; 3], [5, 5, 9], preferred, NOBODY), plan(1, &[2], false));
        // Sizes of good copies differ: the largest. Dirty: the one that saw most, ties to the last.
        assert_eq!(of(CLEAN, [0; 3], [5, 7, 5], PLAIN, NOBODY), plan(1, &[0, 2], false));
        assert_eq!(of(CLEAN, [1, 2, 1], [5, 5, 5], PLAIN, NOBODY), plan(1, &[0, 2], false));
        assert_eq!(of(CLEAN, [1, 1, 1], [5, 5, 5], PLAIN, NOBODY), plan(2, &[0, 1], false));
        // An arbiter has no size, and is source only when nobody else is.
        assert_eq!(of(CLEAN, [0; 3], [5, 5, 0], ARBITER, NOBODY), plan(0, &[], false));
        assert_eq!(of(CLEAN, [1, 1, 1], [5, 5, 0], ARBITER, NOBODY), plan(1, &[0, 2], false));
        assert_eq!(of(CLEAN, [1, 1, 1], [0, 0, 0], ARBITER, NOBODY), plan(0, &[1, 2], false));
        let first_missed = [[0; 3], [1, 0, 0], [1, 0, 0]];
        assert_eq!(of(first_missed, [0, 0, 1], [5, 0, 0], ARBITER, NOBODY), plan(1, &[0, 2], false));
        let both_missed = [[0, 0, 0], [0, 0, 0], [1, 1, 0]];
        assert_eq!(of(both_missed, [0; 3], [5, 5, 0], ARBITER, NOBODY), plan(2, &[0, 1], false));

        let split = |sizes, setting, judge| of(ALL_ACCUSED, [0; 3], sizes, setting, judge);
        assert_eq!(split([5, 7, 5], PLAIN, NOBODY), Err(Undecided::SplitBrain));
        assert_eq!(split([0, 0, 0], PLAIN, NOBODY), plan(0, &[1, 2], false));
        let favorite = |policy| Judge::Options { favorite: Some(policy), force_metadata: false };
        assert_eq!(split([5, 7, 5], PLAIN, favorite(FavoriteChild::Size)), plan(1, &[0, 2], true));
        assert_eq!(split([7, 7, 5], PLAIN, favorite(FavoriteChild::Size)), Err(Undecided::SplitBrain));
        assert_eq!(split([5, 7, 5], PLAIN, favorite(FavoriteChild::Majority)), plan(0, &[1, 2], true));
        assert_eq!(split([5, 7, 5], PLAIN, Judge::Command(Command::Child(2))), plan(2, &[0, 1], false));
        let bigger = Judge::Command(Command::BiggerFile);
        assert_eq!(split([5, 7, 5], PLAIN, bigger), plan(1, &[0, 2], false));
        assert_eq!(split([7, 7, 5], PLAIN, bigger), Err(Undecided::Refused("No bigger file")));
        assert_eq!(of(LAST_MISSED, [0; 3], [5, 5, 9], PLAIN, bigger), Err(Undecided::NotSplit));
    }

    #[test]
    fn metadata() {
        let plan = |source, sinks: &[usize], by_policy| Ok(Some(Plan { source, sinks: set(sinks), by_policy }));
        let mut differing = copies([0; 3]);
        differing[1].stat.uid = 7;
        differing[2].xdata = Dict::empty().with("user.x", Value::Ptr("1".into()));
        let same = copies([0; 3]);
        let of = |matrix, dirty, copies: &[Copy], judge| {
            of_metadata(&direction(Kind::Metadata, matrix, dirty), copies, PLAIN, judge)
        };
        assert_eq!(of(CLEAN, [0; 3], &same, NOBODY), Ok(None));
        assert_eq!(of(CLEAN, [0; 3], &differing, NOBODY), plan(0, &[1, 2], false));
        assert_eq!(of(LAST_MISSED, [0; 3], &same, NOBODY), plan(0, &[2], false));
        assert_eq!(of(CLEAN, [0, 1, 1], &differing, NOBODY), plan(1, &[0, 2], false));
        assert_eq!(of(ALL_ACCUSED, [0; 3], &same, NOBODY), plan(0, &[1, 2], false));
        assert_eq!(of(ALL_ACCUSED, [0; 3], &differing, NOBODY), Err(Undecided::SplitBrain));
        let forced = Judge::Options { favorite: None, force_metadata: true };
        assert_eq!(of(ALL_ACCUSED, [0; 3], &differing, forced), plan(0, &[1, 2], false));
        assert_eq!(of(ALL_ACCUSED, [0; 3], &differing, Judge::Command(Command::Child(2))), plan(2, &[0, 1], false));
        let refused = of(ALL_ACCUSED, [0; 3], &differing, Judge::Command(Command::BiggerFile));
        assert!(matches!(refused, Err(Undecided::Refused(_))));
    }

    #[test]
    fn times_of_directories_are_no_split_brain() {
        let mut copies = copies([0; 3]);
        for (copy, sec) in copies.iter_mut().zip([3, 9, 1]) {
            copy.stat.mode = 0o040_755;
            copy.stat.mtime = Time { sec, nsec: 0 };
        }
        let direction = direction(Kind::Metadata, ALL_ACCUSED, [0; 3]);
        let plan = of_metadata(&direction, &copies, PLAIN, NOBODY).unwrap().unwrap();
        assert_eq!((plan.source, plan.sinks), (1, set(&[0, 2])));
    }

    #[test]
    fn entries() {
        let of = |matrix, dirty| of_entries(&direction(Kind::Entry, matrix, dirty), PLAIN);
        assert_eq!(of(LAST_MISSED, [0; 3]), Some(Plan { source: 0, sinks: set(&[2]), by_policy: false }));
        for (matrix, dirty) in [(LAST_MISSED, [0, 1, 0]), (CLEAN, [0; 3]), (ALL_ACCUSED, [0; 3])] {
            assert_eq!(of(matrix, dirty), None, "{matrix:?} {dirty:?}");
        }
    }

    #[test]
    fn what_is_compared() {
        let dict = |key: &'static str, value: &'static str| Dict::empty().with(key, Value::Ptr(value.into()));
        for (key, same) in [
            ("user.a", false),
            ("trusted.glusterfs.dht", false),
            ("trusted.afr.dirty", true),
            ("security.selinux", true),
            ("glusterfs.inodelk-count", true),
        ] {
            assert_eq!(same_xattrs(&dict(key, "1"), &dict(key, "2")), same, "{key}");
        }
    }
}
