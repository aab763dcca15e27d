//! What programs do with locks: take one of a file, wait for it, give up waiting, and give it back.

use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::types::{Flock, LkCmd, LockType};
use rgfs_protocol::{Dict, Errno};

use super::lock_book::{Claim, LockBook};
use super::workload::{FILES, Program};
use crate::{Fd, FopResult};

/// Ranges that programs lock: all, and two that do not overlap.
const RANGES: [(u64, u64); 3] = [(0, 0), (0, 16), (16, 16)];

/// Longer than it takes to take a request back, by way of a slow brick.
const TAKEN_BACK: Duration = Duration::from_secs(2);

impl Program {
    /// Takes a lock, or gives one back.
    pub(super) async fn change_locks(&mut self, book: &LockBook) -> FopResult<()> {
        let file = self.random.below(FILES as u64) as usize;
        let fd = self.file(file, false).await?;
        if let Some(claim) = book.claim(self.task, file) {
            return self.unlock(book, &fd, file, &claim.flock).await;
        }
        let (start, len) = *self.random.pick(&RANGES);
        let exclusive = self.random.chance(75);
        let kind = if exclusive { LockType::Write } else { LockType::Read };
        let context = self.mount.context(self.task);
        let flock = Flock { kind, whence: 0, start, len, pid: context.pid as u32, owner: context.lock_owner.clone() };
        let what = format!("lock f{file} {kind:?} {start},{len}");
        if self.random.chance(15) {
            let found = self.mount.top.lk(&context, &fd, LkCmd::GetLk, flock, Dict::NULL).await;
            self.noted(format!("test {what}"), &found);
            return found.map(drop);
        }
        let granted = if self.random.chance(50) {
            let patience = Duration::from_millis(*self.random.pick(&[5, 300, 4000]));
            let waiting = self.mount.top.lk(&context, &fd, LkCmd::SetLkW, flock.clone(), Dict::NULL);
            tokio::select! {
                biased;
                granted = waiting => granted,
                () = self.mount.clock.sleep(patience) => {
                    self.mount.history.note(format!("task {}: waits no longer to {what}", self.task));
                    // Its request is taken back behind its back. A lock that the same owner asks for before that is done may
                    // be taken back with it.
                    self.mount.clock.sleep(TAKEN_BACK).await;
                    return Ok(());
                }
            }
        } else {
            self.mount.top.lk(&context, &fd, LkCmd::SetLk, flock.clone(), Dict::NULL).await
        };
        self.noted(what, &granted);
        match granted {
            Ok(_) => {
                let (client, task) = (self.mount.client, self.task);
                book.granted(Claim { client, task, file, exclusive, flock, fd: Arc::downgrade(&fd) });
                Ok(())
            }
            Err(error) if error.errno == Errno::EAGAIN => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn unlock(&mut self, book: &LockBook, fd: &Arc<Fd>, file: usize, flock: &Flock) -> FopResult<()> {
        let context = self.mount.context(self.task);
        // From when it asks, others may have it.
        book.released(self.task, file);
        let flock = Flock { kind: LockType::Unlock, ..flock.clone() };
        let result = self.mount.top.lk(&context, fd, LkCmd::SetLk, flock, Dict::NULL).await;
        self.noted(format!("unlock f{file}"), &result);
        result.map(drop)
    }

    /// Gives everything back at the end: by unlocking, or by closing. The fds stay open.
    pub(super) async fn give_locks_back(&mut self, book: &LockBook) {
        let by_closing = self.random.chance(50);
        let context = self.mount.context(self.task);
        for ((file, log), fd) in std::mem::take(&mut self.open) {
            if by_closing || log {
                book.released(self.task, file);
                let result = self.mount.top.flush(&context, &fd, Dict::NULL).await;
                self.noted(format!("flush {file}"), &result);
            } else {
                // All of it: what somebody else had meanwhile may have come back with a connection.
                let (kind, pid, owner) = (LockType::Unlock, context.pid as u32, context.lock_owner.clone());
                let flock = Flock { kind, whence: 0, start: 0, len: 0, pid, owner };
                let _ = self.unlock(book, &fd, file, &flock).await;
            }
            book.park(fd);
        }
    }
}
