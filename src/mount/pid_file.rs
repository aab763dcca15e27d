//! The pid file: written, and locked as long as the process lives, as `glusterfsd.c:glusterfs_pidfile_setup` does.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};

/// Writes the process id to `path` and locks it. The lock lasts until the returned file is closed.
///
/// # Errors
/// The file cannot be written, or another process holds its lock.
pub fn write(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), "another process holds its lock"))?;
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_process_id() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        std::fs::write(&path, "a longer text that was there before").unwrap();
        let _file = write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }
}
