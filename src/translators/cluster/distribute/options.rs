//! Options of the distribute volume in the volfile, with GlusterFS's names and defaults.

use std::collections::HashSet;

use super::keys;
use super::name::NameRules;
use crate::volfile::{self, OptionError, PercentOrSize};

/// A lower limit of free space or inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Of the total.
    Percent(u64),
    /// Bytes, or inodes.
    Amount(u64),
}

/// Where a file is looked for that is not on its hashed subvolume, when `lookup-optimize` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupUnhashed {
    /// On all subvolumes.
    Always,
    /// On all, if a listing of the directory showed names off their place.
    Auto,
}

/// The options in force.
#[derive(Debug)]
pub struct Options {
    /// Trust that a name that is not on its hashed subvolume is nowhere, as the commit hash allows.
    pub lookup_optimize: bool,
    /// The same question with `lookup_optimize` off.
    pub lookup_unhashed: LookupUnhashed,
    /// Below this a subvolume gets no new files.
    pub min_free_disk: Limit,
    /// Below this a subvolume gets no new files.
    pub min_free_inodes: Limit,
    /// At most so many subvolumes take names of one directory; 0 for all.
    pub spread: usize,
    /// Big bricks get big ranges.
    pub weighted: bool,
    /// `randomize-hash-range-by-gfid`: who gets the first range of a directory follows from its gfid, not its path.
    pub start_by_gfid: bool,
    /// Directories are listed by the first subvolume alone.
    pub readdir_optimize: bool,
    /// Names of subvolumes that are leaving the volume.
    pub decommissioned: HashSet<String>,
    /// What of a name is hashed.
    pub names: NameRules,
}

impl Options {
    /// Reads the options of the volume.
    ///
    /// # Errors
    /// When a value makes no sense, or asks for something that is not supported.
    pub fn read(options: &volfile::Options) -> Result<Self, OptionError> {
        if options.text("xattr-name").is_some_and(|name| name != keys::LAYOUT) {
            return Err(options.refuse("xattr-name", keys::LAYOUT));
        }
        let limit = |name, default| options.percent_or_size(name).map(|value| value.map_or(default, Limit::from));
        let spread = options.integer("directory-layout-spread", 0..=i64::from(i32::MAX))?.unwrap_or(0);
        Ok(Options {
            lookup_optimize: options.boolean("lookup-optimize")?.unwrap_or(true),
            lookup_unhashed: match options.text("lookup-unhashed") {
                Some("auto") => LookupUnhashed::Auto,
                // "off" is not honoured by the C client either.
                _ => LookupUnhashed::Always,
            },
            min_free_disk: limit("min-free-disk", Limit::Percent(10))?,
            min_free_inodes: limit("min-free-inodes", Limit::Percent(5))?,
            spread: usize::try_from(spread).unwrap_or(0),
            weighted: options.boolean("weighted-rebalance")?.unwrap_or(true),
            start_by_gfid: options.boolean("randomize-hash-range-by-gfid")?.unwrap_or(false),
            readdir_optimize: options.boolean("readdir-optimize")?.unwrap_or(false),
            decommissioned: options.list("decommissioned-bricks").into_iter().map(str::to_owned).collect(),
            names: NameRules::new(options.text("extra-hash-regex"), options.text("rsync-hash-regex")),
        })
    }
}

impl Options {
    /// True when listings tell whether names are looked for off their homes.
    pub fn listings_tell(&self) -> bool {
        !self.lookup_optimize && self.lookup_unhashed == LookupUnhashed::Auto
    }
}

impl From<PercentOrSize> for Limit {
    fn from(value: PercentOrSize) -> Self {
        match value {
            PercentOrSize::Percent(share) => Limit::Percent(share as u64),
            PercentOrSize::Size(bytes) => Limit::Amount(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Options, OptionError> {
        let mut options = volfile::Options::new(&"v-dht".into());
        for (key, value) in pairs {
            options = options.with(key, value);
        }
        Options::read(&options)
    }

    #[test]
    fn defaults() {
        let options = read(&[]).unwrap();
        assert!(options.lookup_optimize && options.weighted && !options.readdir_optimize);
        assert_eq!((options.min_free_disk, options.min_free_inodes), (Limit::Percent(10), Limit::Percent(5)));
        assert_eq!((options.spread, options.lookup_unhashed), (0, LookupUnhashed::Always));
        assert!(options.decommissioned.is_empty());
    }

    #[test]
    fn values() {
        let options = read(&[
            ("lookup-optimize", "off"),
            ("min-free-disk", "5GB"),
            ("min-free-inodes", "7"),
            ("directory-layout-spread", "3"),
            ("decommissioned-bricks", "v-client-1, v-client-2"),
        ])
        .unwrap();
        assert!(!options.lookup_optimize);
        assert_eq!((options.min_free_disk, options.min_free_inodes), (Limit::Amount(5 << 30), Limit::Percent(7)));
        assert_eq!(options.spread, 3);
        assert!(options.decommissioned.contains("v-client-2"));
    }

    #[test]
    fn nonsense_is_named() {
        for (name, value) in [("lookup-optimize", "maybe"), ("min-free-disk", "lots"), ("xattr-name", "user.x")] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
