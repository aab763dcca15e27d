//! Damage done to the bricks of a distribute volume behind GlusterFS's back, while the volume is stopped.
//!
//! A brick keeps each object twice: under its name, and under its gfid in `.glusterfs` (a hard link to a file, a symbolic link to the
//! place of a directory). Damage that is meant for the name does both.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{XattrFlags, lremovexattr, lsetxattr};

use crate::backends::read_attributes;

/// The xattr that holds a range of the layout.
pub const LAYOUT: &str = "trusted.glusterfs.dht";
/// The xattr that says where the file of a linkto is.
pub const LINKTO: &str = "trusted.glusterfs.dht.linkto";
/// The xattr of the brick that is authoritative for a directory.
pub const MDS: &str = "trusted.glusterfs.dht.mds";
/// The xattr of an object's identity.
pub const GFID: &str = "trusted.gfid";

/// An identity.
pub type Gfid = [u8; 16];

/// The bricks of a volume.
#[derive(Debug, Clone)]
pub struct Bricks {
    volume: String,
    directories: Vec<PathBuf>,
}

impl Bricks {
    /// The bricks in `directories` of the volume of that name.
    pub fn new(volume: &str, directories: &[PathBuf]) -> Self {
        Self { volume: volume.to_owned(), directories: directories.to_vec() }
    }

    /// The name of the volume.
    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// Numbers of the bricks.
    pub fn all(&self) -> std::ops::Range<usize> {
        0..self.directories.len()
    }

    /// The name by which clients know a brick.
    pub fn subvolume(&self, brick: usize) -> String {
        format!("{}-client-{brick}", self.volume)
    }

    /// A path on a brick.
    pub fn path(&self, brick: usize, path: &str) -> PathBuf {
        self.directories[brick].join(path)
    }

    /// Whether a brick has something under that name.
    pub fn has(&self, brick: usize, path: &str) -> bool {
        fs::symlink_metadata(self.path(brick, path)).is_ok()
    }

    /// An xattr on a brick.
    pub fn attribute(&self, brick: usize, path: &str, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(read_attributes(&self.path(brick, path))?.remove(key))
    }

    /// Sets an xattr on a brick.
    pub fn set(&self, brick: usize, path: &str, key: &str, value: &[u8]) -> Result<()> {
        lsetxattr(self.path(brick, path), key, value, XattrFlags::empty())
            .with_context(|| format!("setting {key} of {path} on brick {brick}"))
    }

    /// Removes an xattr on a brick.
    pub fn unset(&self, brick: usize, path: &str, key: &str) -> Result<()> {
        lremovexattr(self.path(brick, path), key).with_context(|| format!("removing {key} of {path} on brick {brick}"))
    }

    /// The range of a directory on a brick: commit hash, type, start, stop.
    pub fn layout(&self, brick: usize, path: &str) -> Result<Option<[u32; 4]>> {
        let Some(bytes) = self.attribute(brick, path, LAYOUT)? else { return Ok(None) };
        let (words, rest) = bytes.as_chunks::<4>();
        ensure!(words.len() == 4 && rest.is_empty(), "a layout of {} bytes", bytes.len());
        Ok(Some([0, 1, 2, 3].map(|index| u32::from_be_bytes(words[index]))))
    }

    /// Writes a range.
    pub fn set_layout(&self, brick: usize, path: &str, layout: [u32; 4]) -> Result<()> {
        self.set(brick, path, LAYOUT, &layout.map(u32::to_be_bytes).concat())
    }

    /// The gfid of an object, from the first brick that has it.
    pub fn gfid(&self, path: &str) -> Result<Gfid> {
        let holder = self.all().find(|brick| self.has(*brick, path));
        self.gfid_on(holder.ok_or_else(|| anyhow!("{path} is on no brick"))?, path)
    }

    /// The gfid of an object on one brick.
    pub fn gfid_on(&self, brick: usize, path: &str) -> Result<Gfid> {
        let bytes = self.attribute(brick, path, GFID)?.ok_or_else(|| anyhow!("{path} has no gfid"))?;
        bytes.try_into().map_err(|_| anyhow!("a gfid of another length"))
    }

    /// Removes an object from a brick, a directory with all below.
    pub fn forget(&self, brick: usize, path: &str) -> Result<()> {
        let place = self.path(brick, path);
        if fs::symlink_metadata(&place)?.is_dir() {
            for entry in fs::read_dir(&place)? {
                self.forget(brick, &format!("{path}/{}", entry?.file_name().to_string_lossy()))?;
            }
            if let Ok(gfid) = self.gfid_on(brick, path) {
                fs::remove_file(self.handle(brick, gfid))?;
            }
            fs::remove_dir(&place)?;
        } else {
            if let Ok(gfid) = self.gfid_on(brick, path) {
                fs::remove_file(self.handle(brick, gfid))?;
            }
            fs::remove_file(&place)?;
        }
        Ok(())
    }

    /// Plants a directory without layout; without a gfid it is one that nobody but an administrator made.
    pub fn plant_directory(&self, brick: usize, path: &str, gfid: Option<Gfid>) -> Result<()> {
        fs::create_dir(self.path(brick, path))?;
        match gfid {
            Some(gfid) => self.identify(brick, path, gfid),
            None => Ok(()),
        }
    }

    /// Plants a file with content.
    pub fn plant_file(&self, brick: usize, path: &str, gfid: Option<Gfid>, content: &str) -> Result<()> {
        fs::write(self.path(brick, path), content)?;
        fs::set_permissions(self.path(brick, path), fs::Permissions::from_mode(0o644))?;
        match gfid {
            Some(gfid) => self.identify(brick, path, gfid),
            None => Ok(()),
        }
    }

    /// Plants a linkto file that points to the subvolume `target`.
    pub fn plant_linkto(&self, brick: usize, path: &str, gfid: Gfid, target: &str) -> Result<()> {
        self.plant_file(brick, path, Some(gfid), "")?;
        fs::set_permissions(self.path(brick, path), fs::Permissions::from_mode(0o1000))?;
        self.set(brick, path, LINKTO, format!("{target}\0").as_bytes())
    }

    /// Moves a file from one brick to another, leaving nothing behind.
    pub fn move_file(&self, from: usize, to: usize, path: &str) -> Result<()> {
        let gfid = self.gfid_on(from, path)?;
        let content = fs::read_to_string(self.path(from, path))?;
        self.forget(from, path)?;
        self.plant_file(to, path, Some(gfid), &content)
    }

    /// Gives an empty directory or a file on one brick another gfid.
    pub fn change_gfid(&self, brick: usize, path: &str, gfid: Gfid) -> Result<()> {
        fs::remove_file(self.handle(brick, self.gfid_on(brick, path)?))?;
        self.identify(brick, path, gfid)
    }

    /// Writes a gfid, and makes what the brick finds the object by.
    fn identify(&self, brick: usize, path: &str, gfid: Gfid) -> Result<()> {
        self.set(brick, path, GFID, &gfid)?;
        let handle = self.handle(brick, gfid);
        if let Some(parent) = handle.parent() {
            fs::create_dir_all(parent)?;
        }
        let place = self.path(brick, path);
        if !fs::symlink_metadata(&place)?.is_dir() {
            return Ok(fs::hard_link(place, handle)?);
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.gfid_on(brick, parent)?;
        let [first, second] = shards(&parent);
        Ok(symlink(format!("../../{first}/{second}/{}/{name}", text(&parent)), handle)?)
    }

    fn handle(&self, brick: usize, gfid: Gfid) -> PathBuf {
        let [first, second] = shards(&gfid);
        self.directories[brick].join(".glusterfs").join(first).join(second).join(text(&gfid))
    }

    /// Makes an object one that its brick finds by name only.
    pub fn forget_handle(&self, brick: usize, path: &str) -> Result<()> {
        Ok(fs::remove_file(self.handle(brick, self.gfid_on(brick, path)?))?)
    }

    /// What a brick that was killed just then was making below a directory: it has a gfid, and the brick does not find it by that.
    /// Linktos are not among them, for clients use those by name.
    pub fn half_made(&self, brick: usize, directory: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        collect(&self.directories[brick], Path::new(directory), &mut names)?;
        let mut half_made = Vec::new();
        for name in names {
            let attributes = read_attributes(&self.path(brick, &name))?;
            let gfid = attributes.get(GFID).and_then(|gfid| Gfid::try_from(gfid.as_slice()).ok());
            let found = |gfid| fs::symlink_metadata(self.handle(brick, gfid)).is_ok();
            if gfid.is_some_and(|gfid| !found(gfid)) && !attributes.contains_key(LINKTO) {
                half_made.push(name);
            }
        }
        Ok(half_made)
    }

    /// All names below a directory, on any brick.
    pub fn names_below(&self, directory: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for brick in self.all().filter(|brick| self.path(*brick, directory).is_dir()) {
            collect(&self.directories[brick], Path::new(directory), &mut names)?;
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

fn collect(root: &Path, directory: &Path, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(directory))? {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        let Some(name) = path.to_str() else { bail!("a name that is no text: {}", path.display()) };
        names.push(name.to_owned());
        if entry.file_type()?.is_dir() {
            collect(root, &path, names)?;
        }
    }
    Ok(())
}

fn shards(gfid: &Gfid) -> [String; 2] {
    [format!("{:02x}", gfid[0]), format!("{:02x}", gfid[1])]
}

/// A gfid as GlusterFS writes it.
pub fn text(gfid: &Gfid) -> String {
    let hex: String = gfid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
