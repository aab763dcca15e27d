//! The directory that is mounted on: there, a directory, and not covered by a mount whose server died.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::kernel_mount::{FILE_SYSTEM_TYPE, detach};

/// Dead mounts that may lie upon each other on one mount point.
const DEAD_MOUNTS_MAX: usize = 16;

/// Makes the mount point ready and returns its path without symbolic links.
///
/// # Errors
/// It is missing, is no directory, or is covered by a mount that does not answer though its server lives.
pub fn prepare(path: &Path) -> Result<PathBuf, Failure> {
    let name = path.display();
    for _ in 0..DEAD_MOUNTS_MAX {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                return fs::canonicalize(path).map_err(|error| Failure::io(format!("mount point {name}"), error));
            }
            Ok(_) => return Err(Failure::new(format!("mount point {name} is not a directory"))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Failure::new(format!(
                    "mount point {name} does not exist; create it with 'mkdir -p {name}'"
                )));
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => detach_dead(path)?,
            Err(error) => return Err(Failure::io(format!("mount point {name}"), error)),
        }
    }
    Err(Failure::new(format!("mount point {name} is covered by dead mounts; take them away with 'umount -l {name}'")))
}

/// Detaches a mount that answers ENOTCONN, unless a living client may be behind it (its bricks may be down).
fn detach_dead(path: &Path) -> Result<(), Failure> {
    let name = path.display();
    let remedy = format!("take it away with 'umount -l {name}'");
    // stat(2) on the mount would only fail again, so symbolic links are followed in the directory above it.
    let place = match (path.parent().map(fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(last)) => parent.join(last),
        _ => path.to_owned(),
    };
    let table =
        fs::read_to_string("/proc/self/mountinfo").map_err(|error| Failure::io("/proc/self/mountinfo", error))?;
    let top = mounts(&table).filter(|mount| mount.mount_point == place).last();
    if top.is_none_or(|mount| mount.kind != FILE_SYSTEM_TYPE) {
        return Err(Failure::new(format!("mount point {name} is covered by a mount that is not connected; {remedy}")));
    }
    if let Some(pid) = possible_server(&place) {
        return Err(Failure::new(format!(
            "mount point {name} is covered by a mount that is not connected to its bricks (process {pid}); {remedy}"
        )));
    }
    detach(&place).map_err(|error| Failure::io(format!("detaching the dead mount on {name}"), error))
}

/// A mount of /proc/self/mountinfo.
pub struct Mount {
    /// `MAJOR:MINOR` of its device.
    pub device: String,
    /// Where it is.
    pub mount_point: PathBuf,
    /// File system type.
    pub kind: String,
}

/// Reads mountinfo(5), in the order of mounting. Lines that cannot be understood are left out.
pub fn mounts(table: &str) -> impl Iterator<Item = Mount> + '_ {
    table.lines().filter_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ');
        let device = fields.nth(2)?.to_owned();
        let mount_point = unescape(fields.nth(1)?);
        Some(Mount { device, mount_point, kind: rest.split(' ').next()?.to_owned() })
    })
}

/// `MAJOR:MINOR` of what is mounted at `place`, found without asking the file system itself.
pub fn device(place: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts(&table).filter(|mount| mount.mount_point == place).last().map(|mount| mount.device)
}

/// Spaces and the like stand as `\040` there.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let octal = bytes.get(index + 1..index + 4).filter(|_| byte == b'\\');
        match octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()) {
            Some(escaped) => {
                path.push(escaped);
                index += 4;
            }
            None => {
                path.push(byte);
                index += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&path))
}

/// A process that has /dev/fuse open and may serve `mount_point`, as far as its command line tells: one of its words is
/// that path, or none is an absolute path.
fn possible_server(mount_point: &Path) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        if pid == std::process::id() {
            return None;
        }
        let words = fs::read(process.path().join("cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let fits = words.clone().any(|word| word == mount_point.as_os_str().as_bytes())
            || !words.any(|word| word.starts_with(b"/"));
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        (fits && descriptors.any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == Path::new("/dev/fuse"))))
            .then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mountinfo() {
        let table = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                     99 22 0:57 / /mnt/with\\040space rw - fuse.glusterfs srv:/vol rw,user_id=0\n\
                     nonsense\n";
        let mounts: Vec<_> = mounts(table).collect();
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[1].device, "0:57");
        assert_eq!(mounts[1].mount_point, Path::new("/mnt/with space"));
        assert_eq!(mounts[1].kind, "fuse.glusterfs");
    }

    #[test]
    fn mount_points_that_cannot_be() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(prepare(&file).unwrap_err().message.contains("is not a directory"));
        assert!(prepare(&directory.path().join("none")).unwrap_err().message.contains("does not exist"));
        assert!(prepare(directory.path()).is_ok());
    }
}
