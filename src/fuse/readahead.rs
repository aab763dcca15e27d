//! The kernel's read-ahead of a mount. FUSE offers 128 KiB, whatever the file system wants; sysfs can raise it.

use std::io;

/// Read-ahead that a mount gets, in KiB: room for four requests of 1 MiB on their way.
const READ_AHEAD_KIB: u32 = 4096;

/// Raises the read-ahead of the mount whose device is `MAJOR:MINOR`, so that sequential buffered reads come as requests of
/// 1 MiB. A larger value that an administrator set stays. The file system itself is not asked anything.
///
/// # Errors
/// Any of the file operations; without root rights EACCES. The mount works with the small read-ahead too.
pub fn raise(device: &str) -> io::Result<()> {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    let now = std::fs::read_to_string(&path)?.trim().parse::<u32>().unwrap_or(0);
    if now < READ_AHEAD_KIB {
        std::fs::write(&path, READ_AHEAD_KIB.to_string())?;
    }
    Ok(())
}
