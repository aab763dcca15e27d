//! An open directory with its positions: `opendir`, `readdir`, `seekdir`, `rewinddir` as C programs use them.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use anyhow::{Context, Result};

/// An open directory. Positions are those of `telldir`.
#[derive(Debug)]
pub struct Positions(NonNull<libc::DIR>);

impl Positions {
    /// Opens a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: `name` is a string with its NUL.
        let stream = unsafe { libc::opendir(name.as_ptr()) };
        NonNull::new(stream).map(Self).ok_or_else(std::io::Error::last_os_error).context("opendir")
    }

    /// The names from here to the end, each with the position behind it.
    pub fn rest(&mut self) -> Result<Vec<(String, i64)>> {
        let mut names = Vec::new();
        loop {
            // SAFETY: errno is this thread's own.
            unsafe { *libc::__errno_location() = 0 };
            // SAFETY: the stream is open, and nobody else uses it.
            let Some(entry) = NonNull::new(unsafe { libc::readdir(self.0.as_ptr()) }) else {
                let error = std::io::Error::last_os_error();
                return if error.raw_os_error() == Some(0) { Ok(names) } else { Err(error).context("readdir") };
            };
            // SAFETY: the entry is valid until the next call, and its name ends with a NUL.
            let name = unsafe { CStr::from_ptr((&raw const (*entry.as_ptr()).d_name).cast()) };
            // SAFETY: the stream is open.
            let position = unsafe { libc::telldir(self.0.as_ptr()) };
            names.push((name.to_string_lossy().into_owned(), position));
        }
    }

    /// Goes to a position that [`Positions::rest`] told.
    pub fn seek(&mut self, position: i64) {
        // SAFETY: the stream is open, and the position is one of its own.
        unsafe { libc::seekdir(self.0.as_ptr(), position) };
    }

    /// Goes to the beginning; the directory is read anew.
    pub fn rewind(&mut self) {
        // SAFETY: the stream is open.
        unsafe { libc::rewinddir(self.0.as_ptr()) };
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: the stream is open, and this is its last use.
        unsafe { libc::closedir(self.0.as_ptr()) };
    }
}
