//! Locks: fcntl(2) and flock(2), which share one space on the bricks.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use rgfs_protocol::types::{Flock, LkCmd, LockType};
use rgfs_protocol::{Dict, Errno};

use super::super::in_flight::Interrupt;
use super::super::locks::{LockRange, cancel_name};
use super::{Caller, FileSystem};
use crate::reply::LkReply;
use crate::{Context, Fd, FopResult, Translator, task};

/// A brick knows waiting locks by pid and range. Callers that share a pid (`client-pid`, another pid namespace) may have
/// theirs cancelled on behalf of another; they ask again, so often.
const FOREIGN_CANCELS: usize = 100;

/// How the wait for a lock ended.
enum Wait {
    Answered(FopResult<LkReply>),
    /// The caller is being killed and the brick does not answer.
    Abandoned,
}

impl FileSystem {
    fn lock_request(&self, range: LockRange, context: &Context, step: &'static str) -> FopResult<Flock> {
        range.to_flock(context.lock_owner.clone()).ok_or_else(|| self.error(Errno::EINVAL, step))
    }

    /// Who holds a lock that is in the way of `range`: a lock of the kind `Unlock` when nobody does.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub async fn getlk(&self, caller: &Caller, handle: u64, owner: u64, range: LockRange) -> FopResult<LockRange> {
        let file = self.file(handle, "getlk")?;
        let context = self.callers.context(caller, Some(owner));
        let flock = self.lock_request(range, &context, "getlk")?;
        let reply = self.top.lk(&context, &file.fd, LkCmd::GetLk, flock, Dict::NULL).await?;
        if reply.flock.kind == LockType::Unlock {
            return Ok(LockRange { kind: LockType::Unlock, ..range });
        }
        Ok(LockRange::from_flock(&reply.flock))
    }

    /// Takes or releases a lock. With `wait` it waits for it, until `wait` says that the caller was signalled.
    ///
    /// # Errors
    /// EAGAIN when the lock is held by somebody and `wait` is `None`; EINTR when the caller was signalled.
    pub async fn setlk(
        &self,
        caller: &Caller,
        handle: u64,
        owner: u64,
        range: LockRange,
        wait: Option<Arc<Interrupt>>,
    ) -> FopResult<()> {
        let file = self.file(handle, "setlk")?;
        let context = self.callers.context(caller, Some(owner));
        let flock = self.lock_request(range, &context, "setlk")?;
        let wait = wait.filter(|_| range.kind != LockType::Unlock);
        let Some(interrupt) = wait else {
            self.top.lk(&context, &file.fd, LkCmd::SetLk, flock, Dict::NULL).await?;
            return Ok(());
        };
        for _ in 0..FOREIGN_CANCELS {
            let wait = wait_for_lock(self.top.clone(), context.clone(), file.fd.clone(), flock.clone(), &interrupt);
            match wait.await {
                Wait::Answered(Err(error)) if error.errno == Errno::EINTR && interrupt.rounds() == 0 => {}
                Wait::Answered(answer) => return answer.map(|_| ()),
                Wait::Abandoned => break,
            }
        }
        Err(self.error(Errno::EINTR, "setlkw"))
    }
}

type LockFuture = Pin<Box<dyn Future<Output = FopResult<LkReply>> + Send>>;

/// Waits for a lock. When the caller is signalled, the brick is asked to drop the waiting lock; whatever answers the lock
/// request then is the truth: EINTR, or the grant that was faster.
async fn wait_for_lock(
    top: Arc<dyn Translator>,
    context: Context,
    fd: Arc<Fd>,
    flock: Flock,
    interrupt: &Interrupt,
) -> Wait {
    let mut lock: LockFuture = {
        let (top, context, fd, flock) = (top.clone(), context.clone(), fd.clone(), flock.clone());
        Box::pin(async move { top.lk(&context, &fd, LkCmd::SetLkW, flock, Dict::NULL).await })
    };
    let name = cancel_name(&flock);
    let mut cancel = None;
    let mut seen = 0;
    let wait = poll_fn(|task| {
        if let Poll::Ready(answer) = lock.as_mut().poll(task) {
            return Poll::Ready(Wait::Answered(answer));
        }
        if interrupt.is_abandoned() {
            return Poll::Ready(Wait::Abandoned);
        }
        // A new round means that the last cancel, if it was answered, came before the brick had queued the lock.
        if cancel.is_none() && interrupt.rounds() > seen {
            seen = interrupt.rounds();
            let (top, context, fd, name) = (top.clone(), context.clone(), fd.clone(), name.clone());
            cancel = Some(Box::pin(async move { top.fgetxattr(&context, &fd, Some(&name), Dict::NULL).await }));
        }
        if let Some(pending) = &mut cancel
            && let Poll::Ready(report) = pending.as_mut().poll(task)
        {
            cancel = None;
            if let Err(error) = report {
                tracing::debug!(%error, "a waiting lock could not be cancelled");
            }
            // The brick may have answered the lock first.
            if let Poll::Ready(answer) = lock.as_mut().poll(task) {
                return Poll::Ready(Wait::Answered(answer));
            }
        }
        Poll::Pending
    })
    .await;
    if matches!(wait, Wait::Abandoned) {
        release_when_granted(lock, top, context, fd, flock);
    }
    wait
}

/// The caller dies; a grant that still comes is given back at once.
fn release_when_granted(lock: LockFuture, top: Arc<dyn Translator>, context: Context, fd: Arc<Fd>, flock: Flock) {
    task::spawn(async move {
        if lock.await.is_ok() {
            let unlock = Flock { kind: LockType::Unlock, ..flock };
            if let Err(error) = top.lk(&context, &fd, LkCmd::SetLk, unlock, Dict::NULL).await {
                tracing::warn!(%error, "a lock that was granted to a killed process could not be released");
            }
        }
    });
}
