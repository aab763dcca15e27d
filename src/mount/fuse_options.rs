//! The FUSE options of the command line as the FUSE layer takes them, and which of them it does not know.

use std::time::Duration;

use super::options::{DirectIo, FuseOptions, MountOptions};
use crate::fuse;

/// Settings for the FUSE layer.
pub(super) fn for_fuse(options: &MountOptions) -> fuse::Options {
    let given = &options.fuse;
    let defaults = fuse::Options::default();
    fuse::Options {
        entry_timeout: given.entry_timeout,
        attribute_timeout: given.attribute_timeout,
        negative_timeout: given.negative_timeout,
        gid_timeout: given.gid_timeout,
        lru_limit: usize::try_from(given.lru_limit).unwrap_or(usize::MAX),
        direct_io: given.direct_io == DirectIo::On,
        writeback_cache: given.writeback_cache,
        acl: given.acl,
        selinux: given.selinux,
        capability: given.capability,
        read_only: options.kernel.read_only,
        ino32: given.ino32,
        reader_threads: given.reader_threads.map_or(defaults.reader_threads, usize::from),
        background_queue: given.background_queue.unwrap_or(defaults.background_queue),
        congestion_threshold: given.congestion_threshold.or(defaults.congestion_threshold),
        client_pid: given.client_pid,
        use_readdirp: given.use_readdirp,
        keep_cache: given.keep_cache.unwrap_or(defaults.keep_cache),
        time_granularity: Duration::from_nanos(given.time_granularity.into()),
        ..defaults
    }
}

/// Options that were given and have no effect yet, or another than in the C client.
pub(super) fn without_effect(given: &FuseOptions) -> Vec<&'static str> {
    let defaults = FuseOptions::default();
    let list = [
        (given.resolve_gids, "--resolve-gids (groups come from /proc)"),
        (given.invalidate_limit != defaults.invalidate_limit, "--invalidate-limit"),
        (given.auto_invalidation == Some(false), "--auto-invalidation=off (changes always drop pages)"),
    ];
    list.into_iter().filter(|(without, _)| *without).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_need_no_warning() {
        assert!(without_effect(&FuseOptions::default()).is_empty());
        let given = FuseOptions { invalidate_limit: 7, ..FuseOptions::default() };
        assert_eq!(without_effect(&given), ["--invalidate-limit"]);
    }
}
