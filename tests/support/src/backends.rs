//! Looking at bricks behind GlusterFS's back: are the copies of a replica set equal, and did replicate leave marks behind?

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{lgetxattr, llistxattr};

/// The changelog keys of replicate begin with this.
const CHANGELOG_PREFIX: &str = "trusted.afr.";
/// Attributes that may differ between copies: times are stamped per brick by heals, and of a file with several names a brick forgets
/// to take back the note of one that another file was renamed over.
const UNCOMPARED: [&str; 2] = ["trusted.glusterfs.mdata", "trusted.gfid2path."];
/// Directories in a brick's root that are not part of the volume.
const PRIVATE: [&str; 2] = [".glusterfs", ".trashcan"];
/// The self-heal daemon parks what it removes here, on the brick concerned alone.
const ANONYMOUS_PREFIX: &str = ".glusterfs-anonymous-inode";
/// More differences than this help nobody.
const MOST: usize = 20;

/// The three counters of one changelog key: data, metadata, entry.
pub type Counters = [i32; 3];

/// One file or directory on one brick.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// Names of a file (GlusterFS's own among them).
    links: u64,
    /// Regular files: bytes.
    size: u64,
    /// Symbolic links: where to; devices: which.
    target: String,
    attributes: BTreeMap<String, Vec<u8>>,
    changelog: BTreeMap<String, Counters>,
}

/// All that lies on the brick in `root`, by path from there; `""` is the root itself.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// Reads the names and attributes of a brick, not the content of its files.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { root: root.to_path_buf(), entries: BTreeMap::new() };
        let mut waiting = vec![PathBuf::new()];
        while let Some(path) = waiting.pop() {
            let entry = Entry::read(&root.join(&path)).with_context(|| format!("on the brick {}", root.display()))?;
            if entry.kind == "directory" {
                for child in fs::read_dir(root.join(&path))? {
                    let name = child?.file_name();
                    let private = path.as_os_str().is_empty()
                        && (PRIVATE.iter().any(|private| name == *private)
                            || name.to_string_lossy().starts_with(ANONYMOUS_PREFIX));
                    if !private {
                        waiting.push(path.join(name));
                    }
                }
            }
            tree.entries.insert(path, entry);
        }
        Ok(tree)
    }

    /// What a brick that was killed in the middle of a CREATE, MKDIR or the like left behind: names without a gfid.
    pub fn half_made(&self) -> impl Iterator<Item = PathBuf> {
        let unnamed = self.entries.iter().filter(|(_, entry)| !entry.attributes.contains_key("trusted.gfid"));
        unnamed.map(|(path, _)| self.root.join(path))
    }

    /// The changelog keys that are not zero, by path.
    pub fn marks(&self) -> impl Iterator<Item = (&Path, &str, Counters)> {
        self.entries.iter().flat_map(|(path, entry)| {
            let marks = entry.changelog.iter().filter(|(_, counters)| **counters != [0; 3]);
            marks.map(|(key, counters)| (path.as_path(), key.as_str(), *counters))
        })
    }

    /// The regular files that are not empty.
    pub fn files_with_content(&self) -> Vec<PathBuf> {
        let full = self.entries.iter().filter(|(_, entry)| entry.size > 0);
        full.map(|(path, _)| path.clone()).collect()
    }

    fn content(&self, path: &Path) -> Result<File> {
        let path = self.root.join(path);
        File::open(&path).with_context(|| format!("opening {}", path.display()))
    }
}

impl Entry {
    fn read(path: &Path) -> Result<Self> {
        let data = fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
        let kind = data.file_type();
        let (kind, target) = match () {
            () if kind.is_dir() => ("directory", String::new()),
            () if kind.is_file() => ("file", String::new()),
            () if kind.is_symlink() => ("symbolic link", fs::read_link(path)?.to_string_lossy().into_owned()),
            () if kind.is_fifo() => ("fifo", String::new()),
            () if kind.is_socket() => ("socket", String::new()),
            () => ("device", data.rdev().to_string()),
        };
        let (mut attributes, mut changelog) = (BTreeMap::new(), BTreeMap::new());
        for (key, value) in read_attributes(path)? {
            if key.starts_with(CHANGELOG_PREFIX) {
                changelog.insert(key, counters(&value)?);
            } else if !UNCOMPARED.iter().any(|prefix| key.starts_with(prefix)) {
                attributes.insert(key, value);
            }
        }
        Ok(Self {
            kind,
            mode: data.mode() & 0o7777,
            owner: (data.uid(), data.gid()),
            links: if kind == "directory" { 0 } else { data.nlink() },
            size: if kind == "file" { data.size() } else { 0 },
            target,
            attributes,
            changelog,
        })
    }

    /// How another copy differs from this one; an arbiter holds no content.
    fn difference(&self, other: &Self, arbiter: bool) -> Option<String> {
        let size = if arbiter { 0 } else { self.size };
        let pairs = [
            ("type", self.kind.to_owned(), other.kind.to_owned()),
            ("mode", format!("{:o}", self.mode), format!("{:o}", other.mode)),
            ("owner", format!("{:?}", self.owner), format!("{:?}", other.owner)),
            ("links", self.links.to_string(), other.links.to_string()),
            ("size", size.to_string(), other.size.to_string()),
            ("target", self.target.clone(), other.target.clone()),
        ];
        for (what, ours, theirs) in pairs {
            if ours != theirs {
                return Some(format!("{what} {ours} against {theirs}"));
            }
        }
        let keys: BTreeSet<&String> = self.attributes.keys().chain(other.attributes.keys()).collect();
        keys.into_iter().find(|key| self.attributes.get(*key) != other.attributes.get(*key)).map(|key| {
            let show = |entry: &Self| entry.attributes.get(key).map(|value| value.escape_ascii().to_string());
            format!("{key} {:?} against {:?}", show(self), show(other))
        })
    }
}

/// Files that are empty on the brick `place` of one replica set, hold something on all others that hold content, and are otherwise equal;
/// no copy has a mark.
pub fn empty_shells(bricks: &[PathBuf], place: usize, arbiter: Option<usize>) -> Result<Vec<PathBuf>> {
    let trees = bricks.iter().map(|brick| Tree::read(brick)).collect::<Result<Vec<_>>>()?;
    let tree = trees.get(place).with_context(|| format!("no brick {place}"))?;
    let has_no_marks = |entry: &Entry| entry.changelog.values().all(|counters| *counters == [0; 3]);
    let is_shell = |path: &PathBuf, shell: &Entry| {
        let others = trees.iter().enumerate().filter(|(other, _)| *other != place && Some(*other) != arbiter);
        let is_full = |entry: &Entry| {
            has_no_marks(entry)
                && entry.size > 0
                && Entry { size: 0, ..entry.clone() }.difference(shell, false).is_none()
        };
        let mut copies = others.map(|(_, tree)| tree.entries.get(path));
        shell.kind == "file" && shell.size == 0 && has_no_marks(shell) && copies.all(|copy| copy.is_some_and(is_full))
    };
    Ok(tree.entries.iter().filter(|(path, entry)| is_shell(path, entry)).map(|(path, _)| path.clone()).collect())
}

/// All extended attributes of `path` itself.
pub fn read_attributes(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; 65_536];
    let length = llistxattr(path, &mut names).with_context(|| format!("listing attributes of {}", path.display()))?;
    names.truncate(length);
    let mut attributes = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let length = lgetxattr(path, name, &mut value)
            .with_context(|| format!("reading {} of {}", String::from_utf8_lossy(name), path.display()))?;
        value.truncate(length);
        attributes.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    Ok(attributes)
}

/// Three big-endian numbers (`afr.h`).
fn counters(value: &[u8]) -> Result<Counters> {
    ensure!(value.len() == 12, "a changelog value of {} bytes", value.len());
    let mut counters = [0; 3];
    for (counter, bytes) in counters.iter_mut().zip(value.as_chunks::<4>().0) {
        *counter = i32::from_be_bytes(*bytes);
    }
    Ok(counters)
}

/// How the copies of one replica set differ: names, types, modes, owners, links, sizes, attributes, content.
/// `arbiter` is the place of the brick that holds no content.
pub fn differences(bricks: &[PathBuf], arbiter: Option<usize>) -> Result<Vec<String>> {
    let trees = bricks.iter().map(|brick| Tree::read(brick)).collect::<Result<Vec<_>>>()?;
    let names: BTreeSet<&Path> = trees.iter().flat_map(|tree| tree.entries.keys().map(PathBuf::as_path)).collect();
    let mut found = Vec::new();
    for name in names {
        let shown = name.display();
        let holders: Vec<_> =
            trees.iter().enumerate().filter_map(|(place, tree)| Some((place, tree.entries.get(name)?))).collect();
        if holders.len() < trees.len() {
            let places: Vec<_> = holders.iter().map(|(place, _)| place).collect();
            found.push(format!("/{shown}: only on the bricks {places:?} of {}", trees.len()));
            continue;
        }
        let Some(((_, first), others)) = holders.split_first() else { continue };
        for (place, other) in others {
            let is_arbiter = arbiter == Some(*place);
            if let Some(difference) = first.difference(other, is_arbiter) {
                found.push(format!("/{shown}: brick 0 has {difference} on brick {place}"));
            } else if first.kind == "file"
                && !is_arbiter
                && let Some(offset) = first_difference(trees[0].content(name)?, trees[*place].content(name)?)?
            {
                found.push(format!("/{shown}: content of bricks 0 and {place} differs from byte {offset}"));
            }
        }
        if found.len() >= MOST {
            break;
        }
    }
    Ok(found)
}

/// Where two files begin to differ.
fn first_difference(mut one: File, mut other: File) -> Result<Option<u64>> {
    const PIECE: usize = 1 << 20;
    let (mut ours, mut theirs) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    let mut offset = 0;
    loop {
        ours.clear();
        theirs.clear();
        (&mut one).take(PIECE as u64).read_to_end(&mut ours)?;
        (&mut other).take(PIECE as u64).read_to_end(&mut theirs)?;
        if ours != theirs {
            let equal = ours.iter().zip(&theirs).take_while(|(our, their)| our == their).count();
            return Ok(Some(offset + equal as u64));
        }
        if ours.is_empty() {
            return Ok(None);
        }
        offset += ours.len() as u64;
    }
}

/// What replicate left on a brick: changelogs that are not zero, and names in the index folders that the self-heal daemon crawls.
pub fn leftovers(brick: &Path) -> Result<Vec<String>> {
    let place = brick.file_name().unwrap_or_default().to_string_lossy();
    let mut found: Vec<String> = Tree::read(brick)?
        .marks()
        .map(|(path, key, counters)| format!("{place}: /{} has {key}={counters:?}", path.display()))
        .collect();
    for class in ["xattrop", "dirty", "entry-changes"] {
        let folder = brick.join(".glusterfs/indices").join(class);
        for name in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let name = name?.file_name();
            let name = name.to_string_lossy();
            // The file that all others are links to (`index.c`).
            if !name.starts_with(&format!("{class}-")) {
                found.push(format!("{place}: {class} has {name}"));
            }
        }
    }
    found.truncate(MOST);
    Ok(found)
}

/// Places where two bricks of one replica set accuse each other: the seed of a split-brain.
/// `first` is the number of the set's first brick in the volume called `volume`.
pub fn mutual_accusations(bricks: &[PathBuf], volume: &str, first: usize) -> Result<Vec<String>> {
    let mut accusations: BTreeMap<(PathBuf, usize, usize), Counters> = BTreeMap::new();
    for (place, brick) in bricks.iter().enumerate() {
        for (path, key, counters) in Tree::read(brick)?.marks() {
            let accused = (0..bricks.len())
                .find(|accused| key == format!("{CHANGELOG_PREFIX}{volume}-client-{}", first + accused));
            if let Some(accused) = accused {
                accusations.insert((path.to_path_buf(), place, accused), counters);
            }
        }
    }
    let mut found = Vec::new();
    for ((path, accuser, accused), counters) in &accusations {
        let back = accusations.get(&(path.clone(), *accused, *accuser));
        if let Some(back) = back.filter(|_| accuser < accused)
            && counters.iter().zip(back).any(|(one, other)| *one != 0 && *other != 0)
        {
            found.push(format!("/{}: bricks {accuser} {counters:?} and {accused} {back:?}", path.display()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::counters;

    #[test]
    fn counters_are_big_endian() {
        assert_eq!(counters(&[0, 0, 0, 1, 0, 0, 1, 0, 255, 255, 255, 255]).unwrap(), [1, 256, -1]);
        assert!(counters(&[0; 11]).is_err());
    }
}
