//! What transactions left on the bricks: changelogs that are not zero, and the indices by which the self-heal daemon finds them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use rgfs_protocol::Gfid;
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;

use super::values::{counters, short_key};

/// Longest value, or list of names, that a brick keeps here.
const LIMIT: usize = 64 << 10;

/// For each brick (its number and directory) the changelogs that are not zero and the index entries, as text; bricks that say the
/// same share one block. Objects that are gone from the brick have no name any more and are only counted.
pub fn aftermath(bricks: &[(usize, &Path)]) -> Result<String> {
    let mut blocks: Vec<(Vec<String>, String)> = Vec::new();
    for (number, directory) in bricks {
        let text = of_brick(directory).with_context(|| format!("looking at {}", directory.display()))?;
        match blocks.iter_mut().find(|(_, known)| *known == text) {
            Some((numbers, _)) => numbers.push(format!("C{number}")),
            None => blocks.push((vec![format!("C{number}")], text)),
        }
    }
    Ok(blocks.into_iter().map(|(numbers, text)| format!("{} left\n{text}", numbers.join(" "))).collect())
}

fn of_brick(directory: &Path) -> Result<String> {
    let mut paths = BTreeMap::new();
    find(directory, "", &mut paths)?;
    let mut names = HashMap::new();
    let mut text = String::new();
    for (path, full) in &paths {
        if let Some(gfid) = value(full, "trusted.gfid")?.and_then(|bytes| Some(Gfid(bytes.try_into().ok()?))) {
            names.entry(gfid.to_string()).or_insert_with(|| path.clone());
        }
        let mut blamed = Vec::new();
        for key in keys(full)? {
            let (Some(short), Some(bytes)) = (short_key(key.as_bytes()), value(full, &key)?) else { continue };
            if let Some([data, metadata, entry]) = counters(&bytes).filter(|counters| *counters != [0; 3]) {
                blamed.push(format!("{short}[{data},{metadata},{entry}]"));
            }
        }
        blamed.sort();
        if !blamed.is_empty() {
            let _ = writeln!(text, "    {path} {}", blamed.join(" "));
        }
    }
    let indices = directory.join(".glusterfs/indices");
    for index in ["xattrop", "dirty"] {
        // The file that the entries are links to is called after the index.
        let entries = list(&indices.join(index))?.into_iter().filter(|entry| !entry.starts_with(index));
        let mut entries: Vec<String> =
            entries.map(|gfid| names.get(&gfid).map_or("(gone)", String::as_str).to_owned()).collect();
        entries.sort();
        if !entries.is_empty() {
            let _ = writeln!(text, "    index {index}: {}", entries.join(", "));
        }
    }
    let changes = indices.join("entry-changes");
    let mut of_directories = Vec::new();
    for gfid in list(&changes)?.into_iter().filter(|entry| !entry.starts_with("entry-changes")) {
        let mut entries = list(&changes.join(&gfid))?;
        entries.sort();
        if !entries.is_empty() {
            let parent = names.get(&gfid).map_or("(gone)", String::as_str);
            of_directories.push(format!("    index entry-changes of {parent}: {}\n", entries.join(", ")));
        }
    }
    of_directories.sort();
    text.extend(of_directories);
    Ok(text)
}

/// Everything below the brick's root but its private directory, by path in the volume.
fn find(directory: &Path, path: &str, found: &mut BTreeMap<String, std::path::PathBuf>) -> Result<()> {
    found.insert(if path.is_empty() { "/".to_owned() } else { path.to_owned() }, directory.to_path_buf());
    for name in list(directory)? {
        let below = directory.join(&name);
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        if name == ".glusterfs" {
            continue;
        }
        if fs::symlink_metadata(&below)?.is_dir() {
            find(&below, &path, found)?;
        } else {
            found.insert(path, below);
        }
    }
    Ok(())
}

/// The names in a directory; none if it is not there.
fn list(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn keys(path: &Path) -> Result<Vec<String>> {
    let mut buffer = vec![0; LIMIT];
    let length = llistxattr(path, buffer.as_mut_slice())?;
    let names = buffer[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

fn value(path: &Path, key: &str) -> Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; LIMIT];
    match lgetxattr(path, key, buffer.as_mut_slice()) {
        Ok(length) => Ok(Some(buffer[..length].to_vec())),
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
