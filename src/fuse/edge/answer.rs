//! From an operation's result to the kernel's answer, and the task around an operation.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use fuser::{
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLock,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use rgfs_protocol::Errno;

use super::convert;
use crate::fuse::file_system::{Entry, Listing, Opened};
use crate::fuse::in_flight::{Kind, Parked};
use crate::fuse::{Caller, FileSystem};
use crate::{FopResult, task};

/// A reply of the kernel's that can say an error.
pub(super) trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ident)*) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(convert::errno(errno));
            }
        })*
    };
}

refuse! {
    ReplyAttr ReplyCreate ReplyData ReplyDirectory ReplyDirectoryPlus ReplyEmpty ReplyEntry ReplyLock ReplyLseek
    ReplyOpen ReplyStatfs ReplyWrite ReplyXattr
}

/// A result that nobody waits for any more: gives back what it holds.
pub(super) trait Discard: Send + 'static {
    fn discard(self, file_system: &FileSystem);
}

macro_rules! nothing_to_discard {
    ($($result:ty)*) => {
        $(impl Discard for $result {
            fn discard(self, _: &FileSystem) {}
        })*
    };
}

nothing_to_discard! {
    () u32 u64 bytes::Bytes crate::reply::Payload rgfs_protocol::types::Statfs
    crate::fuse::file_system::Attributed crate::fuse::locks::LockRange
}

impl Discard for Entry {
    fn discard(self, file_system: &FileSystem) {
        file_system.forget(self.nodeid, 1);
    }
}

impl Discard for Option<Entry> {
    fn discard(self, file_system: &FileSystem) {
        if let Some(entry) = self {
            entry.discard(file_system);
        }
    }
}

impl Discard for Opened {
    fn discard(self, file_system: &FileSystem) {
        file_system.release(self.handle);
        file_system.releasedir(self.handle);
    }
}

impl Discard for (Entry, Opened) {
    fn discard(self, file_system: &FileSystem) {
        self.1.discard(file_system);
        self.0.discard(file_system);
    }
}

impl Discard for Listing {
    fn discard(self, file_system: &FileSystem) {
        file_system.take_back(self);
    }
}

/// A request on its way.
pub(super) struct Request<R> {
    pub(super) name: &'static str,
    pub(super) caller: Caller,
    pub(super) kind: Kind,
    pub(super) reply: R,
}

/// Runs `operation` as a task and answers with `respond`, or with the error. A caller that is being killed gets EINTR at
/// once; the operation goes on, for its steps may be half done, and its result is given back.
pub(super) fn start<R: Refuse, T: Discard>(
    file_system: Arc<FileSystem>,
    request: Request<R>,
    operation: impl Future<Output = FopResult<T>> + Send + 'static,
    respond: impl FnOnce(&FileSystem, R, T) + Send + 'static,
) {
    let Request { name, caller, kind, reply } = request;
    let since = Instant::now();
    file_system.counters().requests.fetch_add(1, Ordering::Relaxed);
    task::spawn(async move {
        let mut operation = pin!(operation);
        let mut reply = Some(reply);
        let mut ticket = None;
        let result = poll_fn(|context| {
            // A panic must end neither the thread that reads the device nor the one that reads a socket.
            match catch_unwind(AssertUnwindSafe(|| operation.as_mut().poll(context))) {
                Ok(Poll::Ready(result)) => return Poll::Ready(Some(result)),
                Ok(Poll::Pending) => {}
                Err(_) => return Poll::Ready(None),
            }
            match &ticket {
                None => {
                    let waker = context.waker().clone();
                    let kind = kind.clone();
                    let parked =
                        Parked { name, unique: caller.unique, pid: caller.pid, since, kind, signalled: None, waker };
                    ticket = Some(file_system.in_flight().park(parked));
                }
                Some(ticket) if reply.is_some() && matches!(kind, Kind::Ordinary) && ticket.is_signalled() => {
                    if let Some(reply) = reply.take() {
                        file_system.counters().interrupted.fetch_add(1, Ordering::Relaxed);
                        reply.refuse(Errno::EINTR);
                    }
                }
                Some(_) => {}
            }
            Poll::Pending
        })
        .await;
        drop(ticket);
        let failed = !matches!(result, Some(Ok(_)));
        file_system.counters().operations.answered(name, caller.rounds.count(), since.elapsed(), failed);
        match (result, reply) {
            (Some(Ok(value)), Some(reply)) => respond(&file_system, reply, value),
            (Some(Ok(value)), None) => value.discard(&file_system),
            (Some(Err(error)), Some(reply)) => {
                if error.errno == Errno::EIO {
                    tracing::warn!(request = name, %error, "a request failed");
                } else {
                    tracing::debug!(request = name, %error, "a request failed");
                }
                reply.refuse(error.errno);
            }
            (Some(Err(_)), None) => {}
            (None, reply) => {
                tracing::error!(request = name, unique = caller.unique, "a request panicked: this is a bug");
                if let Some(reply) = reply {
                    reply.refuse(Errno::EIO);
                }
            }
        }
    });
}
