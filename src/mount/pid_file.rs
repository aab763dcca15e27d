//! The pid file: written, and locked as long as the process lives, as `glusterfsd.c:glusterfs_pidfile_setup` does.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

/// A pid file of this process. Dropping it removes it.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    // Locked as long as it is open.
    _file: File,
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It may be gone already; nobody is left to care.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes the process id to `path` and locks it.
///
/// # Errors
/// The file cannot be written, or another process holds its lock.
pub fn write(path: &Path) -> io::Result<PidFile> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), "another process holds its lock"))?;
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(PidFile { path: path.to_owned(), _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_process_id() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        std::fs::write(&path, "a longer text that was there before").unwrap();
        let file = write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }
}
