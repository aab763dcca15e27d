//! The border to the `fuser` crate: its types do not go further in than this folder.
//!
//! `fuser` calls a handler on the thread that read the request. A handler starts a task (`task::spawn`), whose first poll
//! runs on that thread: it encodes the request for the brick and writes the socket. The task ends, and answers the
//! kernel, on the thread that reads the brick's answer.

mod answer;
mod convert;
mod filesystem;
mod write_buffers;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};

use super::FileSystem;
use super::interrupt::Watcher;
use super::notifications::Kernel;
use filesystem::Adapter;

/// A session whose handshake with the kernel is done: the mount answers as soon as [`Server::run`] runs.
pub struct Server {
    session: Session<Adapter>,
    _watcher: Watcher,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Takes over `device`, a /dev/fuse descriptor that mount(2) has got, and waits for the kernel's INIT, which comes
    /// with the mount. Requests run inside `runtime`, for the timers of translators.
    ///
    /// # Errors
    /// The device failed or was unmounted, the kernel is too old, or a thread could not be made.
    pub fn new(file_system: Arc<FileSystem>, device: OwnedFd, runtime: tokio::runtime::Handle) -> io::Result<Self> {
        let watcher = Watcher::start(file_system.in_flight(), runtime.clone())?;
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.n_threads = Some(file_system.options().reader_threads.max(1));
        config.clone_fd = true;
        let (table, limit) = (file_system.table().clone(), file_system.options().lru_limit);
        let adapter = Adapter::new(file_system.clone(), runtime);
        let session = Session::from_fd(adapter, device, SessionACL::All, config)?;
        file_system.notifications().start(KernelNotifier(session.notifier()), &table, limit)?;
        Ok(Server { session, _watcher: watcher })
    }

    /// Serves until the file system is unmounted.
    ///
    /// # Errors
    /// A reading thread failed.
    pub fn run(self) -> io::Result<()> {
        self.session.run()
    }
}

/// [`Server::new`] and [`Server::run`] in one: blocks until the file system is unmounted.
///
/// # Errors
/// Those of both.
pub fn serve(file_system: Arc<FileSystem>, device: OwnedFd, runtime: tokio::runtime::Handle) -> io::Result<()> {
    Server::new(file_system, device, runtime)?.run()
}

struct KernelNotifier(Notifier);

impl Kernel for KernelNotifier {
    fn invalidate_entry(&self, directory: u64, name: &OsStr) -> io::Result<()> {
        self.0.inval_entry(INodeNo(directory), name)
    }

    fn invalidate_inode(&self, nodeid: u64) -> io::Result<()> {
        self.0.inval_inode(INodeNo(nodeid), 0, -1)
    }
}
