//! What the `type` names mean for a client: which exist, which had other names, and which a client may not have.

use super::error::Problem;

/// How many children a type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Children {
    /// A leaf.
    None,
    /// One.
    One,
    /// Two.
    Two,
    /// One or more.
    Some,
}

impl Children {
    /// True when a volume may have so many.
    pub(super) fn allow(self, count: usize) -> bool {
        match self {
            Children::None => count == 0,
            Children::One => count == 1,
            Children::Two => count == 2,
            Children::Some => count >= 1,
        }
    }

    /// For errors: what is needed.
    pub(super) fn needed(self) -> &'static str {
        match self {
            Children::None => "none",
            Children::One => "exactly one",
            Children::Two => "exactly two",
            Children::Some => "at least one",
        }
    }
}

/// Names that a type once had, and the current one.
const OLD_NAMES: &[(&str, &str)] = &[
    ("cluster/afr", "cluster/replicate"),
    ("cluster/dht", "cluster/distribute"),
    ("cluster/ec", "cluster/disperse"),
    ("performance/stat-prefetch", "performance/md-cache"),
    ("features/access-control", "system/posix-acl"),
];

/// Types that a client's graph may have.
const CLIENT: &[(&str, Children)] = &[
    ("protocol/client", Children::None),
    ("cluster/distribute", Children::Some),
    ("cluster/nufa", Children::Some),
    ("cluster/switch", Children::Some),
    ("cluster/replicate", Children::Some),
    ("cluster/disperse", Children::Some),
    ("features/utime", Children::One),
    ("features/read-only", Children::One),
    ("features/shard", Children::One),
    ("features/cloudsync", Children::One),
    ("features/cdc", Children::One),
    ("features/worm", Children::One),
    ("features/snapview-client", Children::Two),
    ("features/quiesce", Children::One),
    ("features/gfid-access", Children::One),
    ("features/quota", Children::One),
    ("features/posix-locks", Children::One),
    ("features/changetimerecorder", Children::One),
    ("features/glupy", Children::One),
    ("features/mac-compat", Children::One),
    ("performance/io-threads", Children::One),
    ("performance/md-cache", Children::One),
    ("performance/nl-cache", Children::One),
    ("performance/quick-read", Children::One),
    ("performance/open-behind", Children::One),
    ("performance/io-cache", Children::One),
    ("performance/readdir-ahead", Children::One),
    ("performance/read-ahead", Children::One),
    ("performance/write-behind", Children::One),
    ("performance/symlink-cache", Children::One),
    ("performance/booster", Children::One),
    ("performance/decompounder", Children::One),
    ("debug/io-stats", Children::One),
    ("debug/trace", Children::One),
    ("debug/sink", Children::One),
    ("debug/error-gen", Children::One),
    ("debug/delay-gen", Children::One),
    ("system/posix-acl", Children::One),
    ("meta", Children::One),
];

const LAYOUT: &str = "the layout of its data cannot be read";
const CONTENT: &str = "it changed names or contents, and they cannot be read";

/// Types that are gone, and that nothing may stand in for.
const REMOVED: &[(&str, &str)] = &[
    ("cluster/unify", LAYOUT),
    ("cluster/ha", LAYOUT),
    ("cluster/map", LAYOUT),
    ("cluster/stripe", LAYOUT),
    ("cluster/tier", LAYOUT),
    ("encryption/rot-13", CONTENT),
    ("encryption/crypt", CONTENT),
    ("features/path-convertor", CONTENT),
    ("features/path-converter", CONTENT),
    ("features/filter", "use features/read-only where it only forbade writing"),
];

/// Types of a server's graph.
const BRICK: &[&str] = &[
    "storage/posix",
    "storage/bdb",
    "storage/bd",
    "protocol/server",
    "features/locks",
    "features/selinux",
    "features/namespace",
    "features/index",
    "features/marker",
    "features/upcall",
    "features/leases",
    "features/changelog",
    "features/trash",
    "features/barrier",
    "features/bitrot-stub",
    "features/bit-rot",
    "features/arbiter",
    "features/sdfs",
    "features/thin-arbiter",
    "features/quotad",
    "features/simple-quota",
    "features/snapview-server",
    "features/metadisp",
];

/// The current name of a type, and its children. An error when a client cannot have it.
pub(super) fn find(volume: &str, written: &str) -> Result<(&'static str, Children), Problem> {
    let name = OLD_NAMES.iter().find(|(old, _)| *old == written).map_or(written, |(_, new)| *new);
    if let Some((canonical, children)) = CLIENT.iter().find(|(canonical, _)| *canonical == name) {
        return Ok((canonical, *children));
    }
    let kind = written.to_owned();
    if let Some((_, why)) = REMOVED.iter().find(|(removed, _)| *removed == name) {
        return Err(Problem::RemovedType { kind, why });
    }
    if BRICK.contains(&name) {
        return Err(Problem::BrickType { kind });
    }
    if name.starts_with("testing/") || name.starts_with("playground/") {
        return Err(Problem::UnfitType { kind, why: "it is an example for programmers" });
    }
    if name.starts_with("mount/") {
        return Err(Problem::UnfitType { kind, why: "the mount point is given on the command line" });
    }
    Err(Problem::UnknownType { volume: volume.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_verdict() {
        let canonical = |name| find("v", name).map(|(canonical, _)| canonical).map_err(|problem| problem.to_string());
        for (old, new) in OLD_NAMES {
            assert_eq!(canonical(old), Ok(*new));
        }
        for (name, _) in CLIENT {
            assert_eq!(canonical(name), Ok(*name));
        }
        for (name, _) in REMOVED {
            assert!(canonical(name).unwrap_err().contains("was removed"));
        }
        for name in BRICK {
            assert!(canonical(name).unwrap_err().starts_with("this is a brick volfile"));
        }
        for name in ["testing/features/template", "playground/rot-13", "mount/fuse", "cluster/distribut", ""] {
            assert!(canonical(name).is_err());
        }
    }

    #[test]
    fn counts_of_children() {
        for (children, allowed) in [
            (Children::None, [true, false, false, false]),
            (Children::One, [false, true, false, false]),
            (Children::Two, [false, false, true, false]),
            (Children::Some, [false, true, true, true]),
        ] {
            assert_eq!([0, 1, 2, 3].map(|count| children.allow(count)), allowed);
        }
    }
}
