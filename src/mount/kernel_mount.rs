//! mount(2): the type must be `fuse.glusterfs` and the source `server:/volume`, because df, updatedb, systemd and
//! monitoring look for that; fuser's own mount cannot say so.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use super::failure::Failure;
use super::options::KernelOptions;

/// File system type in /proc/mounts.
pub const FILE_SYSTEM_TYPE: &str = "fuse.glusterfs";

/// Options of mount(8) that are flags of mount(2): name, flag, whether it is set or cleared.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("lazytime", MountFlags::LAZYTIME, true),
    ("nolazytime", MountFlags::LAZYTIME, false),
];

/// Options that mean nothing to the kernel, or that it has of itself.
const WITHOUT_EFFECT: &[&str] =
    &["defaults", "auto_unmount", "lazyatime", "nolazyatime", "allow_other", "default_permissions"];

/// What mount(2) is given, made from the options.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    flags: MountFlags,
    data: String,
}

/// Pure part of [`mount`].
fn call(options: &KernelOptions, fuse_descriptor: i32) -> Call {
    let mut flags = MountFlags::empty();
    // No max_read: it would hold reads at its value, and max_write of the handshake bounds them already.
    let mut data = format!("fd={fuse_descriptor},rootmode=40000,user_id=0,group_id=0,allow_other");
    if !options.acl {
        data.push_str(",default_permissions");
    }
    for option in &options.extra {
        match FLAGS.iter().find(|(name, ..)| name == option) {
            Some((_, flag, true)) => flags |= *flag,
            Some((_, flag, false)) => flags &= !*flag,
            None if WITHOUT_EFFECT.contains(&option.as_str()) => {}
            None => {
                data.push(',');
                data.push_str(option);
            }
        }
    }
    if options.read_only {
        flags |= MountFlags::RDONLY;
    }
    Call { flags, data }
}

/// Opens /dev/fuse and mounts it; whoever serves the returned descriptor is the file system.
///
/// # Errors
/// /dev/fuse or the mount is refused; the text names the step and the remedy.
pub fn mount(source: &str, mount_point: &Path, options: &KernelOptions) -> Result<OwnedFd, Failure> {
    let device = open_device().map_err(|error| {
        Failure::new(format!("/dev/fuse: {error}; load the kernel module with 'modprobe fuse' and run as root"))
    })?;
    let Call { flags, data } = call(options, device.as_raw_fd());
    let place = format!("mounting {source} on {}", mount_point.display());
    let data = CString::new(data).map_err(|error| Failure::io(&place, error))?;
    match rustix::mount::mount(source, mount_point, FILE_SYSTEM_TYPE, flags, data.as_c_str()) {
        Ok(()) => Ok(device),
        Err(rustix::io::Errno::PERM) => Err(Failure::new(format!("{place}: not permitted; run as root"))),
        Err(rustix::io::Errno::INVAL) => {
            Err(Failure::new(format!("{place}: the kernel refuses one of the options '{}'", options.extra.join(","))))
        }
        Err(error) => Err(Failure::io(&place, error)),
    }
}

/// Opens /dev/fuse with a descriptor that is none of the standard streams, which a daemon replaces.
fn open_device() -> io::Result<OwnedFd> {
    let device: OwnedFd = OpenOptions::new().read(true).write(true).open("/dev/fuse")?.into();
    if device.as_raw_fd() >= 3 { Ok(device) } else { Ok(rustix::io::fcntl_dupfd_cloexec(&device, 3)?) }
}

/// Changes the flags of a mount that is there (`mount -o remount,ro`).
///
/// # Errors
/// Nothing is mounted there, or the kernel refuses.
pub fn remount(mount_point: &Path, options: &KernelOptions) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(mount_point, call(options, 0).flags, "")?)
}

/// Takes the mount away from its path at once; the file system ends when its last user is gone.
///
/// # Errors
/// Nothing is mounted there (any more), or the caller may not.
pub fn detach(mount_point: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(mount_point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(extra: &[&str], read_only: bool, acl: bool) -> Call {
        let extra = extra.iter().map(|option| (*option).to_owned()).collect();
        call(&KernelOptions { read_only, acl, extra }, 5)
    }

    #[test]
    fn what_the_kernel_is_told() {
        let plain = "fd=5,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions";
        let without = "fd=5,rootmode=40000,user_id=0,group_id=0,allow_other";
        let table: &[(Call, MountFlags, String)] = &[
            (with(&[], false, false), MountFlags::empty(), plain.into()),
            (with(&[], false, true), MountFlags::empty(), without.into()),
            (with(&["noatime", "nosuid", "suid"], true, false), MountFlags::NOATIME | MountFlags::RDONLY, plain.into()),
            (with(&["rw"], true, false), MountFlags::RDONLY, plain.into()),
            (
                with(&["context=\"a:b:c0,c1\"", "auto_unmount"], false, false),
                MountFlags::empty(),
                format!("{plain},context=\"a:b:c0,c1\""),
            ),
        ];
        for (call, flags, data) in table {
            assert_eq!((&call.flags, &call.data), (flags, data));
        }
    }
}
