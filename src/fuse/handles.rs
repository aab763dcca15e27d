//! File handles: the numbers by which the kernel names what it has open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use super::inode_table::Node;
use super::list_ahead::ListAhead;
use crate::Fd;
use crate::graph::OpenFds;

/// An open file.
#[derive(Debug)]
pub struct OpenFile {
    /// What is open.
    pub node: Arc<Node>,
    /// The translators' side. Dropping the last reference closes it on the bricks.
    pub fd: Arc<Fd>,
}

/// An open directory.
#[derive(Debug)]
pub struct OpenDirectory {
    /// What is open.
    pub node: Arc<Node>,
    /// The translators' side.
    pub fd: Arc<Fd>,
    /// What was asked for and is not with the kernel yet.
    ahead: Mutex<ListAhead>,
}

impl OpenDirectory {
    /// What is listed ahead, locked; never hold it over an await.
    pub fn ahead(&self) -> MutexGuard<'_, ListAhead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that is open.
#[derive(Debug, Default)]
pub struct Handles {
    files: DashMap<u64, Arc<OpenFile>>,
    directories: DashMap<u64, Arc<OpenDirectory>>,
    next: AtomicU64,
}

impl Handles {
    /// Enters an open file. Returns its number.
    pub fn open_file(&self, node: Arc<Node>, fd: Arc<Fd>) -> u64 {
        let handle = self.number();
        node.state().opened.push((handle, fd.clone()));
        self.files.insert(handle, Arc::new(OpenFile { node, fd }));
        handle
    }

    /// Enters an open directory. Returns its number.
    pub fn open_directory(&self, node: Arc<Node>, fd: Arc<Fd>) -> u64 {
        let handle = self.number();
        self.directories.insert(handle, Arc::new(OpenDirectory { node, fd, ahead: Mutex::default() }));
        handle
    }

    /// The open file of a number.
    pub fn file(&self, handle: u64) -> Option<Arc<OpenFile>> {
        self.files.get(&handle).map(|file| file.clone())
    }

    /// The open directory of a number.
    pub fn directory(&self, handle: u64) -> Option<Arc<OpenDirectory>> {
        self.directories.get(&handle).map(|directory| directory.clone())
    }

    /// The translators' side of all that is open.
    pub fn open_fds(&self) -> OpenFds {
        OpenFds {
            files: self.files.iter().map(|file| file.fd.clone()).collect(),
            directories: self.directories.iter().map(|directory| directory.fd.clone()).collect(),
        }
    }

    /// Closes a file.
    pub fn close_file(&self, handle: u64) {
        if let Some((_, file)) = self.files.remove(&handle) {
            // Dropping an fd sends to the brick: not under the node's lock.
            let _dropped_late = {
                let mut state = file.node.state();
                let at = state.opened.iter().position(|(number, _)| *number == handle);
                at.map(|at| state.opened.swap_remove(at))
            };
        }
    }

    /// Closes a directory.
    pub fn close_directory(&self, handle: u64) {
        drop(self.directories.remove(&handle));
    }

    /// Open files and directories.
    pub fn count(&self) -> (usize, usize) {
        (self.files.len(), self.directories.len())
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }
}
