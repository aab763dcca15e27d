//! What lies on the bricks of a distribute volume, drawn so that two volumes can be compared: one line per object and brick.
//!
//! Gfids are shown as letters, the same one wherever the same gfid is; the volume's name as `VOLUME`. Times are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;

use crate::backends::read_attributes;
use crate::tampering::{Bricks, GFID, LAYOUT};

/// Attributes that differ from run to run.
const UNCOMPARED: [&str; 3] = ["trusted.glusterfs.mdata", "trusted.gfid2path.", "trusted.glusterfs.volume-id"];

/// Draws all that lies below a directory of the volume, and the directory itself.
pub fn below(bricks: &Bricks, directory: &str) -> Result<Vec<String>> {
    let mut names = bricks.names_below(directory)?;
    names.insert(0, directory.to_owned());
    draw(bricks, names)
}

/// Draws the root of the volume and what lies in it, but not what lies in its directories.
pub fn root(bricks: &Bricks) -> Result<Vec<String>> {
    let mut names = BTreeSet::from([String::new()]);
    for brick in bricks.all() {
        for entry in fs::read_dir(bricks.path(brick, ""))? {
            names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    draw(bricks, names.into_iter().filter(|name| name != ".glusterfs"))
}

fn draw(bricks: &Bricks, names: impl IntoIterator<Item = String>) -> Result<Vec<String>> {
    let mut gfids: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    let mut lines = Vec::new();
    for name in names {
        for brick in bricks.all().filter(|brick| bricks.has(*brick, &name)) {
            let path = bricks.path(brick, &name);
            let data = fs::symlink_metadata(&path)?;
            let kind = if data.is_dir() { "directory".to_owned() } else { format!("file of {} bytes", data.len()) };
            let mut line =
                format!("{name} on {brick}: {kind} {:o} {}:{}", data.mode() & 0o7777, data.uid(), data.gid());
            for (key, value) in read_attributes(&path)? {
                if UNCOMPARED.iter().any(|prefix| key.starts_with(prefix)) {
                    continue;
                }
                let next = gfids.len();
                let shown = match key.as_str() {
                    GFID => gfids.entry(value).or_insert_with(|| format!("#{next}")).clone(),
                    LAYOUT => value.chunks(4).map(|word| format!("{} ", hex(word))).collect(),
                    _ => value.escape_ascii().to_string().replace(bricks.volume(), "VOLUME"),
                };
                line += &format!(" {}={shown}", key.trim_start_matches("trusted.glusterfs."));
            }
            lines.push(line);
        }
    }
    Ok(lines)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
