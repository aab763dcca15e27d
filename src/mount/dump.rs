//! The statedump of a mount.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::life::Life;
use crate::cli::STATEDUMP_DIRECTORY;
use crate::observe::Statedump;
use crate::observe::statedump::requested_directory;

impl Life {
    /// Writes a statedump and logs where.
    pub(super) fn dump(&self) {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match self.statedump().write(&directory(), std::process::id(), epoch) {
            Ok(path) => tracing::info!("statedump: {}", path.display()),
            Err(error) => tracing::error!("statedump: {error}"),
        }
    }

    /// The whole state, as text.
    fn statedump(&self) -> Statedump {
        let mut dump = Statedump::default();
        dump.section("global");
        dump.line("version", &env!("CARGO_PKG_VERSION"));
        dump.line("pid", &std::process::id());
        dump.line("uptime-seconds", &self.started.elapsed().as_secs());
        dump.line("mount-point", &self.mount_point.display());
        dump.line("source", &self.options.display_name);
        dump.line("volfile", &self.volfile.origin);
        let current = self.switch.current();
        dump.line("bricks", &current.graph().bricks());
        dump.section("fuse");
        self.file_system.dump(&mut |key, value| dump.line(key, value));
        dump.section(format!("active graph - {}", current.number()));
        dump.graph(current.graph().top());
        dump
    }
}

/// Where dumps go: what the options file says, or the usual place.
fn directory() -> PathBuf {
    let usual = PathBuf::from(STATEDUMP_DIRECTORY);
    let options = std::fs::read_to_string(usual.join("glusterdump.options")).unwrap_or_default();
    requested_directory(&options).unwrap_or(usual)
}
