//! What a brick holds: locks and open files, from the statedump that `glusterfsd` writes at SIGUSR1.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use rustix::process::Signal;

use crate::process::signal_process;
use crate::wait;

/// Where GlusterFS daemons write their dumps (private in a sandbox).
const DIRECTORY: &str = "/run/gluster";

/// A parsed statedump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statedump {
    /// Locks of fcntl and flock that are held.
    pub posix_locks_held: usize,
    /// Locks of fcntl and flock that wait.
    pub posix_locks_waiting: usize,
    /// Inode and entry locks of the cluster translators, held or waiting.
    pub internal_locks: usize,
    /// Open files and directories.
    pub open_files: usize,
    /// Fops that arrived since the dump before this one, by name.
    pub requests: BTreeMap<String, u64>,
    /// The whole text.
    pub text: String,
}

impl Statedump {
    /// Reads the text of a dump.
    pub fn parse(text: &str) -> Self {
        let mut dump = Self { text: text.to_owned(), ..Self::default() };
        let mut in_active_inode = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_active_inode = line.contains(".active.");
            } else if line.starts_with("posixlk.posixlk[") {
                match line.contains("(ACTIVE)") {
                    true => dump.posix_locks_held += 1,
                    false => dump.posix_locks_waiting += 1,
                }
            } else if line.starts_with("inodelk.inodelk[") || line.starts_with("entrylk.entrylk[") {
                dump.internal_locks += 1;
            } else if let (true, Some(count)) = (in_active_inode, line.strip_prefix("fd-count=")) {
                dump.open_files += count.parse::<usize>().unwrap_or(0);
            } else if let Some((fop, count)) = requests(line) {
                *dump.requests.entry(fop.to_owned()).or_default() += count;
            }
        }
        dump
    }
}

/// `GlusterFS 4.x v1.latency.LOOKUP=AVG:99 CNT:1 ...`: the fop and its count. GlusterFS starts these afresh at every dump.
fn requests(line: &str) -> Option<(&str, u64)> {
    let (fop, figures) = line.strip_prefix("GlusterFS 4.x v1.latency.")?.split_once('=')?;
    let count = figures.split_whitespace().find_map(|figure| figure.strip_prefix("CNT:"))?;
    Some((fop, count.parse().ok()?))
}

/// The value of `key` in a dump of rgfs, added up over all its sections.
pub fn counter(text: &str, key: &str) -> Result<u64> {
    let values: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')?.trim().parse().ok()).collect();
    ensure!(!values.is_empty(), "the dump has no counter '{key}':\n{text}");
    Ok(values.into_iter().sum())
}

/// Makes the GlusterFS process `id` (a brick, or rgfs) write a dump, and reads it.
pub fn take(id: u32) -> Result<Statedump> {
    let prefix = format!(".{id}.dump.");
    let dumps = || -> Result<Vec<_>> {
        Ok(fs::read_dir(DIRECTORY)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().contains(&prefix))
            .collect())
    };
    for old in dumps()? {
        fs::remove_file(old)?;
    }
    signal_process(id, Signal::USR1)?;
    let text = wait::for_value("a statedump", Duration::from_secs(10), || {
        let Some(path) = dumps()?.into_iter().next() else { return Ok(None) };
        let text = read(&path)?;
        // A dump that is still being written lacks its end.
        Ok(text.contains("DUMP-END-TIME").then_some(text))
    })?;
    Ok(Statedump::parse(&text))
}

/// The fops that arrived at the bricks `ids` since the last dump. Waits for stragglers: releases come a little after the close.
pub fn arrived(ids: &[u32]) -> Result<BTreeMap<String, u64>> {
    let mut sum = BTreeMap::new();
    loop {
        let mut quiet = true;
        for &id in ids {
            for (fop, count) in take(id)?.requests {
                quiet = false;
                *sum.entry(fop).or_default() += count;
            }
        }
        if quiet {
            return Ok(sum);
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Statedump;

    #[test]
    fn counts_locks_and_files() {
        let dump = Statedump::parse(
            "[conn.0.bound_xl.brick.active.1]\nfd-count=2\n[xlator.features.locks.locks.inode]\npath=/a\n\
             posixlk.posixlk[0](ACTIVE)=type=WRITE\nposixlk.posixlk[1](BLOCKED)=type=READ\n\
             inodelk.inodelk[0](ACTIVE)=type=WRITE\n\
             GlusterFS 4.x v1.latency.LK=AVG:101953.000000 CNT:3 TOTAL:101953 MIN:101953 MAX:101953\n",
        );
        assert_eq!(dump.requests.get("LK"), Some(&3));
        assert_eq!((dump.posix_locks_held, dump.posix_locks_waiting), (1, 1));
        assert_eq!((dump.internal_locks, dump.open_files), (1, 2));
    }
}
