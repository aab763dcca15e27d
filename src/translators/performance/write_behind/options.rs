//! The options of `performance/write-behind`.

use crate::graph::BuildError;
use crate::volfile::Volume;

use super::queue::Limits;

/// What the volfile asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Sizes per inode.
    pub(super) limits: Limits,
    /// `strict-O_DIRECT`: writes of an `O_DIRECT` fd are not acknowledged early.
    pub(super) strict_direct: bool,
    /// `strict-write-ordering`: every operation waits for every earlier write.
    pub(super) strict_order: bool,
    /// `pass-through`: do nothing at all.
    pub(super) pass_through: bool,
}

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

impl Settings {
    /// Reads the options of a volume.
    ///
    /// `flush-behind`, `trickling-writes` and `resync-failed-syncs-after-fsync` are checked but change nothing: data is
    /// sent without delay, flush waits for it and for the brick, and a write that failed is reported, not repeated.
    ///
    /// # Errors
    /// When a value cannot be used.
    pub(super) fn read(volume: &Volume) -> Result<Self, BuildError> {
        let options = &volume.options;
        let window = options.size("cache-size|window-size", 512 * KIB..=GIB)?.unwrap_or(1024 * KIB);
        let aggregate = options.size("aggregate-size", 0..=GIB)?.unwrap_or(128 * KIB);
        if aggregate > window {
            return Err(options.refuse("aggregate-size", format!("at most the window of {window} bytes")).into());
        }
        for ignored in ["flush-behind", "trickling-writes", "resync-failed-syncs-after-fsync"] {
            options.boolean(ignored)?;
        }
        Ok(Settings {
            limits: Limits { window: window as usize, aggregate: aggregate as usize },
            strict_direct: options.boolean("strict-O_DIRECT")?.unwrap_or(false),
            strict_order: options.boolean("strict-write-ordering")?.unwrap_or(false),
            pass_through: options.boolean("pass-through")?.unwrap_or(false),
        })
    }

    /// True when a write with these `open(2)` flags may be acknowledged before the brick has answered.
    pub(super) fn may_acknowledge(&self, flags: i32) -> bool {
        let synchronous = libc::O_SYNC | libc::O_DSYNC | if self.strict_direct { libc::O_DIRECT } else { 0 };
        flags & synchronous == 0
    }
}
