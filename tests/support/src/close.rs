//! `close(2)` with its result, which `std` drops: it tells of buffered writes that failed.

use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;

/// Closes a file.
///
/// # Errors
/// What close answers: on a volume that of the last flush.
pub fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor is ours alone, and nobody uses it afterwards.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
