//! Where else an fd is open than on the subvolume where the file was first (`dht_fd_ctx_set`, `dht_fd_open_on_dst`).
//!
//! A migration makes us open a file where it goes to. What an fd leads to there may be of the past: when the file went away once more, or
//! when the move was given up and somebody removed the linkto that it left, a file of the same gfid that comes later is another one.

use std::sync::{Arc, Mutex, PoisonError};

use rgfs_protocol::Dict;

use super::core::{Core, as_root};
use crate::{Context, Fd, FopResult, Loc};

/// Where else than on its first subvolume a file is open.
#[derive(Default)]
pub(super) struct FdState {
    /// Indices of subvolumes.
    opened: Mutex<Vec<usize>>,
    /// Held while it is opened somewhere: of several fops that find that necessary, one does it.
    opening: tokio::sync::Mutex<()>,
}

impl Core {
    /// Opens a file where it is being moved to, or is now, unless that was done before. What an fd leads to that was opened otherwise is
    /// no more: the file was there once, and has come back.
    pub(super) async fn open_there(&self, context: &Context, fd: &Arc<Fd>, index: usize) -> FopResult<()> {
        let state = fd.contexts.get_or_insert_with(self.key, FdState::default);
        let _one = state.opening.lock().await;
        if self.is_open_there(fd, index) {
            return Ok(());
        }
        self.child(index).abandon(fd);
        self.open_at(context, fd, index).await
    }

    /// Opens a file on a subvolume. As root: whoever opened it first was checked then, and the destination has no owner yet.
    pub(super) async fn open_at(&self, context: &Context, fd: &Arc<Fd>, index: usize) -> FopResult<()> {
        let loc = Loc::inode(fd.inode.clone());
        self.child(index).open(&as_root(context), &loc, reopen_flags(fd), fd, Dict::NULL).await?;
        self.elsewhere(fd, |elsewhere| {
            elsewhere.retain(|opened| *opened != index);
            elsewhere.push(index);
        });
        Ok(())
    }

    /// Subvolumes besides `at` where a migration made us open the file. Allocates nothing for a file that never moved.
    pub(super) fn opened_besides(&self, fd: &Fd, at: usize) -> Vec<usize> {
        let Some(state) = fd.contexts.get::<FdState>(self.key) else { return Vec::new() };
        let elsewhere = state.opened.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.iter().copied().filter(|index| *index != at).collect()
    }

    pub(super) fn is_open_there(&self, fd: &Fd, index: usize) -> bool {
        let Some(state) = fd.contexts.get::<FdState>(self.key) else { return false };
        state.opened.lock().unwrap_or_else(PoisonError::into_inner).contains(&index)
    }

    /// An fd does not lead to the file at `index`: it must be opened there.
    pub(super) fn forget_opened(&self, fd: &Fd, index: usize) {
        self.elsewhere(fd, |elsewhere| elsewhere.retain(|opened| *opened != index));
    }

    fn elsewhere<T>(&self, fd: &Fd, change: impl FnOnce(&mut Vec<usize>) -> T) -> T {
        let state = fd.contexts.get_or_insert_with(self.key, FdState::default);
        change(&mut state.opened.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Flags without those that make or empty a file: its data is on the way.
fn reopen_flags(fd: &Fd) -> i32 {
    fd.flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC)
}
