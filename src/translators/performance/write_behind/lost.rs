//! What an open file has to confess: an acknowledged write that failed.
//!
//! Every fd remembers the first failure of a write that was made on it. The next FSYNC or FLUSH (close) of that fd
//! returns it, once. Before that, one WRITEV of the fd is refused with it, so that a program which writes on and on
//! learns early that it writes into a full or absent brick.

use std::sync::{Mutex, PoisonError};

use crate::{Fd, FopError, inode::ContextKey};

/// The failure that an fd has not reported yet.
#[derive(Debug, Default)]
struct Lost(Mutex<Option<Failure>>);

#[derive(Debug)]
struct Failure {
    error: FopError,
    /// A write was refused with it.
    warned: bool,
}

impl Drop for Lost {
    fn drop(&mut self) {
        let left = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Failure { error, warned: false }) = left {
            tracing::error!(%error, "a buffered write failed, and its file was closed without asking for errors");
        }
    }
}

/// Notes that an acknowledged write of `fd` failed.
pub(super) fn note(fd: &Fd, key: ContextKey, error: FopError) {
    let lost = fd.contexts.get_or_insert_with(key, Lost::default);
    let mut failure = lost.0.lock().unwrap_or_else(PoisonError::into_inner);
    failure.get_or_insert(Failure { error: FopError { is_late: true, ..error }, warned: false });
}

/// The failure that FSYNC or FLUSH of `fd` must return. It is forgotten by that.
pub(super) fn take(fd: &Fd, key: ContextKey) -> Option<FopError> {
    let lost = fd.contexts.get::<Lost>(key)?;
    let mut failure = lost.0.lock().unwrap_or_else(PoisonError::into_inner);
    failure.take().map(|failure| failure.error)
}

/// The failure that a WRITEV of `fd` must return instead of writing: once for each failure.
pub(super) fn warn(fd: &Fd, key: ContextKey) -> Option<FopError> {
    let lost = fd.contexts.get::<Lost>(key)?;
    let mut failure = lost.0.lock().unwrap_or_else(PoisonError::into_inner);
    let failure = failure.as_mut().filter(|failure| !failure.warned)?;
    failure.warned = true;
    Some(failure.error.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Inode;
    use rgfs_protocol::Errno;

    #[test]
    fn one_write_and_one_flush_see_the_first_failure() {
        let key = ContextKey::unique();
        let fd = Fd::new(Inode::fresh(), libc::O_RDWR, 1);
        assert!(take(&fd, key).is_none());
        let fail = |errno| note(&fd, key, FopError::new(errno, &"v".into(), "writev"));
        fail(Errno::ENOSPC);
        fail(Errno::EIO);
        let errno = |error: Option<FopError>| error.map(|error| error.errno);
        assert_eq!(errno(warn(&fd, key)), Some(Errno::ENOSPC));
        assert_eq!(errno(warn(&fd, key)), None);
        assert_eq!(errno(take(&fd, key)), Some(Errno::ENOSPC));
        assert_eq!(errno(take(&fd, key)), None);
        fail(Errno::EIO);
        assert_eq!((errno(take(&fd, key)), errno(warn(&fd, key))), (Some(Errno::EIO), None));
    }
}
