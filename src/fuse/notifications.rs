//! What the mount tells the kernel unasked: forget a name, drop an inode's pages and attributes.
//!
//! The kernel may need a lock for it that a request holds which waits for us; so a thread of its own does the telling,
//! and nobody waits for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::inode_table::InodeTable;

/// The kernel's side.
pub trait Kernel: Send + 'static {
    /// Forget that `name` of a directory leads somewhere.
    ///
    /// # Errors
    /// The kernel did not know it, or could not.
    fn invalidate_entry(&self, directory: u64, name: &OsStr) -> std::io::Result<()>;

    /// Drop the pages and attributes of an inode.
    ///
    /// # Errors
    /// The kernel did not know it.
    fn invalidate_inode(&self, nodeid: u64) -> std::io::Result<()>;
}

/// A thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Forget a name.
    Entry(u64, Bytes),
    /// Drop pages and attributes.
    Inode(u64),
    /// The table is far over its limit: find names to forget.
    Prune,
}

/// Notifications that may wait. What does not fit is dropped: the timeouts of the kernel catch up.
const QUEUE: usize = 4096;
/// Names that one pruning asks the kernel to forget.
const PRUNE_BATCH: usize = 4096;
/// The least time between two prunings, so that names that the kernel cannot forget do not keep us busy.
const PRUNE_PAUSE: Duration = Duration::from_millis(200);
/// How often the table is looked at when there is nothing to tell.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// Where notifications are left for the thread.
#[derive(Debug)]
pub struct Notifications {
    sender: SyncSender<Notification>,
    receiver: Mutex<Option<Receiver<Notification>>>,
    /// A `Prune` waits already.
    pruning: Arc<AtomicBool>,
}

impl Default for Notifications {
    fn default() -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        Notifications { sender, receiver: Mutex::new(Some(receiver)), pruning: Arc::default() }
    }
}

impl Notifications {
    /// Leaves a notification. Never blocks; false when it was dropped.
    pub fn send(&self, notification: Notification) -> bool {
        match self.sender.try_send(notification) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Leaves a [`Notification::Prune`], unless one waits already.
    pub fn prune(&self) {
        if !self.pruning.load(Ordering::Relaxed) && !self.pruning.swap(true, Ordering::AcqRel) {
            let _ = self.send(Notification::Prune) || self.pruning.swap(false, Ordering::AcqRel);
        }
    }

    /// Starts the thread that tells `kernel`. It ends when `table` is gone. A second call does nothing.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(&self, kernel: impl Kernel, table: &Arc<InodeTable>, limit: usize) -> std::io::Result<()> {
        let taken = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(receiver) = taken else { return Ok(()) };
        let table = Arc::downgrade(table);
        let pruning = self.pruning.clone();
        thread::Builder::new()
            .name("fuse-notify".into())
            .spawn(move || tell(&kernel, &receiver, &table, limit, &pruning))?;
        Ok(())
    }
}

fn tell(
    kernel: &impl Kernel,
    receiver: &Receiver<Notification>,
    table: &Weak<InodeTable>,
    limit: usize,
    pruning: &AtomicBool,
) {
    let mut known = 0;
    loop {
        let result = match receiver.recv_timeout(IDLE_TICK) {
            Ok(Notification::Entry(directory, name)) => kernel.invalidate_entry(directory, OsStr::from_bytes(&name)),
            Ok(Notification::Inode(nodeid)) => kernel.invalidate_inode(nodeid),
            Ok(Notification::Prune) => {
                let Some(table) = table.upgrade() else { return };
                prune(kernel, &table, limit);
                drop(table);
                thread::sleep(PRUNE_PAUSE);
                pruning.store(false, Ordering::Release);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => {
                let Some(table) = table.upgrade() else { return };
                let before = std::mem::replace(&mut known, table.len());
                // Nobody is just walking through a tree.
                if limit != 0 && known > limit && known <= before {
                    prune(kernel, &table, limit);
                }
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the kernel did not take a notification");
        }
    }
}

/// Asks the kernel to forget the names that were not used for longest, down to nine tenths of the limit.
fn prune(kernel: &impl Kernel, table: &InodeTable, limit: usize) {
    let excess = table.len().saturating_sub(limit - limit / 10).min(PRUNE_BATCH.max(limit / 4));
    for (directory, name) in table.oldest(excess) {
        let _ = kernel.invalidate_entry(directory, OsStr::from_bytes(&name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Inode;
    use rgfs_protocol::{Gfid, Iatt};
    use std::sync::mpsc;

    struct Recorder(mpsc::Sender<Notification>);

    impl Kernel for Recorder {
        fn invalidate_entry(&self, directory: u64, name: &OsStr) -> std::io::Result<()> {
            let _ = self.0.send(Notification::Entry(directory, Bytes::copy_from_slice(name.as_bytes())));
            Ok(())
        }

        fn invalidate_inode(&self, nodeid: u64) -> std::io::Result<()> {
            let _ = self.0.send(Notification::Inode(nodeid));
            Ok(())
        }
    }

    fn twenty_names() -> Arc<InodeTable> {
        let table = Arc::new(InodeTable::new(false));
        for number in 0..20u8 {
            let stat = Iatt { gfid: Gfid([number + 2; 16]), flags: Iatt::FLAGS_BRICK, ..Iatt::default() };
            let node = table.link(&Inode::fresh(), &stat, std::time::Instant::now());
            table.name(&node, 1, &Bytes::copy_from_slice(&[b'a' + number]));
        }
        table
    }

    #[test]
    fn what_is_over_the_limit_goes_when_nothing_comes() {
        let (table, (sender, told)) = (twenty_names(), mpsc::channel());
        let notifications = Notifications::default();
        notifications.start(Recorder(sender), &table, 15).unwrap();
        for _ in 0..7 {
            assert!(matches!(told.recv_timeout(Duration::from_secs(20)).unwrap(), Notification::Entry(1, _)));
        }
    }

    #[test]
    fn the_thread_tells_and_prunes() {
        let table = twenty_names();
        let (sender, told) = mpsc::channel();
        let notifications = Notifications::default();
        notifications.start(Recorder(sender), &table, 10).unwrap();
        assert!(notifications.send(Notification::Inode(7)));
        assert!(notifications.send(Notification::Prune));
        assert_eq!(told.recv().unwrap(), Notification::Inode(7));
        for _ in 0..12 {
            assert!(matches!(told.recv().unwrap(), Notification::Entry(1, _)));
        }
    }
}
