//! Options of the replicate volume in the volfile, with GlusterFS's names and defaults (`afr.c`).

use std::time::Duration;

use super::child_set::MAX_CHILDREN;
use super::quorum::Quorum;
use crate::volfile::{self, OptionError};

/// How reads are spread over the copies (`read-hash-mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadHash {
    /// 0: the first readable copy.
    First,
    /// 1: by the gfid: all clients read a file from the same copy.
    Gfid,
    /// 2: by the gfid and this client's pid.
    GfidAndPid,
    /// 3: the copy with the fewest reads under way.
    LeastRequests,
    /// 4: the copy with the lowest latency.
    LeastLatency,
    /// 5: the lowest product of latency and reads under way.
    LatencyAndRequests,
}

/// Who is right in a split-brain, without asking anybody (`favorite-child-policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FavoriteChild {
    /// The largest.
    Size,
    /// The one with the newest ctime.
    Ctime,
    /// The one with the newest mtime.
    Mtime,
    /// What more than half agree on.
    Majority,
}

/// How data heal finds what differs (`data-self-heal-algorithm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealAlgorithm {
    /// Compare checksums when there is something to compare.
    Dynamic,
    /// Compare checksums.
    Diff,
    /// Copy everything.
    Full,
}

/// The options in force.
#[derive(Clone, Debug)]
pub struct Options {
    /// Client quorum.
    pub quorum: Quorum,
    /// The last of three children keeps names and attributes, but no data.
    pub arbiter: bool,
    /// `HOST:PATH` of the thin arbiter, which is then the third child. It is no copy.
    pub thin_arbiter: Option<String>,
    /// Ids of the children in the changelog; empty when the volfile does not tell, then the children's names count. With a
    /// thin arbiter one more: its id-file.
    pub pending_ids: Vec<String>,
    /// Name of the dirty value.
    pub dirty_key: String,
    /// Keep data locks for a while.
    pub eager_lock: bool,
    /// How long an idle eager lock is kept; zero: not at all.
    pub post_op_delay: Duration,
    /// FSYNC before the changelog says that all is well.
    pub ensure_durability: bool,
    /// No changelog for metadata and entry operations while all children are there.
    pub optimistic_changelog: bool,
    /// Keep an index of the names that a copy missed. The bricks' self-heal daemon does what the volume says: so must we.
    pub granular_entry_heal: bool,
    /// Entry heal renames into a hidden directory instead of deleting.
    pub anonymous_inode: bool,
    /// This client heals content.
    pub data_heal: bool,
    /// This client heals attributes.
    pub metadata_heal: bool,
    /// This client heals names of directories.
    pub entry_heal: bool,
    /// Heals of this client under way at the same time.
    pub background_heals: usize,
    /// Heals of this client that may wait.
    pub heal_queue: usize,
    /// Blocks of 128 KiB that data heal takes at a time.
    pub heal_window: usize,
    /// How data heal compares.
    pub heal_algorithm: HealAlgorithm,
    /// Who wins a split-brain.
    pub favorite_child: Option<FavoriteChild>,
    /// Metadata split-brain is healed from the first copy.
    pub force_metadata_heal: bool,
    /// Attributes come only from the read child, or not at all.
    pub consistent_metadata: bool,
    /// Every child must be up.
    pub consistent_io: bool,
    /// Name of the child to read from.
    pub read_child: Option<String>,
    /// Index of the child to read from.
    pub read_child_index: Option<usize>,
    /// How to choose a read child otherwise.
    pub read_hash: ReadHash,
    /// Prefer a child on this machine.
    pub choose_local: bool,
    /// Id of the volume; names the hidden directory of entry heal.
    pub volume_id: Option<String>,
}

impl Options {
    /// Reads the options of a volume with `children` children, the thin arbiter not counted.
    ///
    /// # Errors
    /// When a value makes no sense, or asks for something that is not supported.
    pub fn read(options: &volfile::Options, children: usize) -> Result<Self, OptionError> {
        if options.boolean("halo-enabled")?.unwrap_or(false) {
            return Err(options.refuse("halo-enabled", "off: replica sets chosen by latency are not supported"));
        }
        let flag = |name, default| options.boolean(name).map(|value| value.unwrap_or(default));
        let number = |name, default: i64| {
            let value = options.integer(name, 0..=i64::from(i32::MAX))?.unwrap_or(default);
            Ok::<_, OptionError>(usize::try_from(value).unwrap_or(0))
        };
        let quorum = quorum(options, children)?;
        let arbiter = number("arbiter-count", 0)?;
        if arbiter > 1 || (arbiter == 1 && children != 3) {
            return Err(options.refuse("arbiter-count", "0, or 1 in a volume of three children"));
        }
        Ok(Options {
            quorum,
            arbiter: arbiter == 1,
            thin_arbiter: options.text("thin-arbiter").filter(|text| !text.is_empty()).map(str::to_owned),
            pending_ids: options.list("afr-pending-xattr").into_iter().map(str::to_owned).collect(),
            dirty_key: options.text("afr-dirty-xattr").unwrap_or("trusted.afr.dirty").to_owned(),
            eager_lock: flag("eager-lock", true)?,
            post_op_delay: options.time("post-op-delay-secs", 0..=i32::MAX as u64)?.unwrap_or(Duration::from_secs(1)),
            ensure_durability: flag("ensure-durability", true)?,
            optimistic_changelog: flag("optimistic-change-log", true)?,
            granular_entry_heal: flag("granular-entry-heal", false)?,
            anonymous_inode: flag("use-anonymous-inode", false)?,
            data_heal: data_heal(options)?,
            metadata_heal: flag("metadata-self-heal", false)?,
            entry_heal: flag("entry-self-heal", false)?,
            background_heals: number("background-self-heal-count", 8)?,
            heal_queue: number("heal-wait-queue-length", 128)?,
            heal_window: number("data-self-heal-window-size", 8)?.clamp(1, 1024),
            heal_algorithm: match options.one_of("data-self-heal-algorithm", &["diff", "full", "reset"])? {
                Some("diff") => HealAlgorithm::Diff,
                Some("full") => HealAlgorithm::Full,
                _ => HealAlgorithm::Dynamic,
            },
            favorite_child: favorite_child(options)?,
            force_metadata_heal: flag("metadata-splitbrain-forced-heal", false)?,
            consistent_metadata: flag("consistent-metadata", false)?,
            // Quorum promises more, and upstream switches this off then.
            consistent_io: flag("consistent-io", false)? && !quorum.is_on(),
            read_child: options.text("read-subvolume").map(str::to_owned),
            read_child_index: options
                .integer("read-subvolume-index", -1..=MAX_CHILDREN as i64)?
                .and_then(|index| usize::try_from(index).ok()),
            read_hash: read_hash(options)?,
            choose_local: flag("choose-local", true)?,
            volume_id: options.text("volume-id").map(str::to_owned),
        })
    }
}

fn quorum(options: &volfile::Options, children: usize) -> Result<Quorum, OptionError> {
    let count = options.integer("quorum-count", 0..=MAX_CHILDREN as i64)?.unwrap_or(0);
    let kind = options.one_of("quorum-type", &["none", "auto", "fixed"])?;
    Ok(match kind {
        Some("none") => Quorum::None,
        Some("auto") => Quorum::Auto,
        Some("fixed") if count > 0 => Quorum::Fixed(usize::try_from(count).unwrap_or(1).min(children)),
        Some(_) => Quorum::None,
        None if children > 2 => Quorum::Auto,
        None => Quorum::None,
    })
}

/// `data-self-heal` is a boolean with one more word: `open`, which heals like `on`.
fn data_heal(options: &volfile::Options) -> Result<bool, OptionError> {
    match options.text("data-self-heal") {
        Some("open") => Ok(true),
        _ => options.boolean("data-self-heal").map(|value| value.unwrap_or(false)),
    }
}

fn favorite_child(options: &volfile::Options) -> Result<Option<FavoriteChild>, OptionError> {
    Ok(match options.one_of("favorite-child-policy", &["none", "size", "ctime", "mtime", "majority"])? {
        Some("size") => Some(FavoriteChild::Size),
        Some("ctime") => Some(FavoriteChild::Ctime),
        Some("mtime") => Some(FavoriteChild::Mtime),
        Some("majority") => Some(FavoriteChild::Majority),
        _ => None,
    })
}

fn read_hash(options: &volfile::Options) -> Result<ReadHash, OptionError> {
    Ok(match options.integer("read-hash-mode", 0..=5)? {
        Some(0) => ReadHash::First,
        Some(2) => ReadHash::GfidAndPid,
        Some(3) => ReadHash::LeastRequests,
        Some(4) => ReadHash::LeastLatency,
        Some(5) => ReadHash::LatencyAndRequests,
        _ => ReadHash::Gfid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::volume;

    fn read(options: &[(&str, &str)], children: usize) -> Result<Options, OptionError> {
        Options::read(&volume("cluster/replicate", options).options, children)
    }

    #[test]
    fn quorum_is_automatic_from_three_children_on() {
        assert_eq!(read(&[], 2).unwrap().quorum, Quorum::None);
        assert_eq!(read(&[], 3).unwrap().quorum, Quorum::Auto);
        assert_eq!(read(&[("quorum-type", "none")], 3).unwrap().quorum, Quorum::None);
        let fixed = [("quorum-type", "fixed"), ("quorum-count", "2")];
        assert_eq!(read(&fixed, 3).unwrap().quorum, Quorum::Fixed(2));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for option in
            [("halo-enabled", "on"), ("arbiter-count", "1"), ("quorum-type", "most"), ("eager-lock", "perhaps")]
        {
            assert!(read(&[option], 2).is_err(), "{option:?}");
        }
        assert!(read(&[("arbiter-count", "1")], 3).unwrap().arbiter);
    }
}
