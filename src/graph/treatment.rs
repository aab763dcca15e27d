//! What becomes of each type of the volfile in the live graph.

/// How the builder treats a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It has a translator of its own.
    Build,
    /// It only caches or reports: its child stands in for it.
    PassThrough,
    /// The same, but the user should know what is lost.
    PassThroughWarning(&'static str),
    /// It changes what data or names mean; without it users would see or write something else. The text is a remedy.
    NotImplemented(&'static str),
}

use Treatment::{Build, NotImplemented, PassThrough, PassThroughWarning};

const OTHER_CLIENT: &str = "mount this volume with the GlusterFS client";

/// The treatment of a type, by its canonical name.
pub(super) fn of(kind: &str) -> Treatment {
    match kind {
        "protocol/client" | "cluster/distribute" | "cluster/nufa" | "cluster/switch" | "cluster/replicate" => Build,
        "features/utime" | "features/read-only" | "performance/write-behind" => Build,

        "performance/io-threads"
        | "performance/md-cache"
        | "performance/nl-cache"
        | "performance/quick-read"
        | "performance/open-behind"
        | "performance/io-cache"
        | "performance/readdir-ahead"
        | "performance/read-ahead"
        | "debug/io-stats"
        | "debug/trace"
        | "debug/sink"
        | "meta" => PassThrough,

        "performance/symlink-cache" | "performance/booster" | "performance/decompounder" => {
            PassThroughWarning("GlusterFS has dropped this type; remove it from the volfile")
        }
        "features/changetimerecorder" | "features/glupy" | "features/mac-compat" => {
            PassThroughWarning("GlusterFS has dropped this type; remove it from the volfile")
        }
        "features/posix-locks" => PassThroughWarning("the bricks keep the locks"),
        "features/quota" => PassThroughWarning("the bricks keep the quota"),
        "features/quiesce" => PassThroughWarning("operations fail while the server is away instead of waiting for it"),
        "debug/error-gen" => PassThroughWarning("no errors are made up"),
        "debug/delay-gen" => PassThroughWarning("nothing is delayed"),

        "features/shard" => {
            NotImplemented("files of this volume are split into blocks; mount it with the GlusterFS client")
        }
        "features/cdc" => {
            NotImplemented("`gluster volume set VOLUME network.compression off`, or use the GlusterFS client")
        }
        "features/snapview-client" => NotImplemented(
            "`gluster volume set VOLUME features.uss disable`, or mount without .snaps: --volume-name with the name of \
             its first subvolume",
        ),
        "features/worm" => NotImplemented("mount with the option ro, or with the GlusterFS client"),
        "system/posix-acl" => NotImplemented("remove it from the volfile; the bricks check ACLs too"),
        "features/gfid-access" => NotImplemented("remove it from the volfile"),
        _ => NotImplemented(OTHER_CLIENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_meaning_of_data_is_never_passed_through() {
        for kind in [
            "cluster/disperse",
            "features/shard",
            "features/cdc",
            "features/cloudsync",
            "features/snapview-client",
            "features/worm",
            "features/gfid-access",
            "system/posix-acl",
            "something/new",
        ] {
            assert!(matches!(of(kind), NotImplemented(remedy) if !remedy.is_empty()), "{kind}");
        }
    }
}
