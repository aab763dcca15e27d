//! Posix locks as a client sees them: what `protocol/client` does about them, over a simulated connection. It notes what the
//! brick grants, takes it again on a new connection before anybody uses that, and makes an fd fail whose lock is refused
//! there. A grant that nobody waits for any more is given back.

use std::sync::{Arc, MutexGuard, PoisonError};

use rgfs_protocol::types::{Flock, LkCmd, LockType};
use rgfs_protocol::{Dict, Errno, Gfid};
use tokio::sync::oneshot;

use super::brick::{Call, Failure, Host, Target};
use super::connection::Connection;
use super::locks::Holder;
use crate::reply::LkReply;
use crate::translators::protocol::client::locks::{Held, LockTable};
use crate::{Context, Fd, FopResult, task};

impl Connection {
    pub(super) fn locks(&self) -> MutexGuard<'_, LockTable> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes or drops a lock.
    pub(super) async fn change_lock(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        cmd: LkCmd,
        flock: Flock,
        call: Call,
    ) -> FopResult<LkReply> {
        let file = self.file_number(fd);
        if let (LockType::Unlock, Some(file)) = (flock.kind, file) {
            // Forgotten before the brick is asked: whatever becomes of the connection, nobody wants it back.
            self.locks().apply(fd.gfid(), file, &c.lock_owner, &flock);
        }
        let (target, session) = (self.target(fd, "LK")?, self.session());
        if cmd != LkCmd::SetLkW {
            let granted = self.ask_for_lock(c, target, cmd, &flock, call).await;
            return self.noted(c, fd, (file, session), &flock, granted);
        }
        let (sender, receiver) = oneshot::channel();
        let Some(me) = self.me.upgrade() else { return std::future::pending().await };
        let mut waiting = Waiting { me: me.clone(), context: c.clone(), target, flock: flock.clone(), over: false };
        let (asker, wanted) = (c.clone(), flock.clone());
        task::spawn(async move {
            let granted = me.ask_for_lock(&asker, target, cmd, &wanted, call.clone()).await;
            if let Err(Ok(_)) = sender.send(granted) {
                let unlock = Flock { kind: LockType::Unlock, ..wanted };
                let _ = me.ask_for_lock(&asker, target, LkCmd::SetLk, &unlock, call).await;
            }
        });
        let Ok(granted) = receiver.await else { return std::future::pending().await };
        waiting.over = true;
        self.noted(c, fd, (file, session), &flock, granted)
    }

    async fn ask_for_lock(
        &self,
        c: &Context,
        target: Target,
        cmd: LkCmd,
        flock: &Flock,
        call: Call,
    ) -> FopResult<LkReply> {
        let (flock, granted) = (flock.clone(), LkReply { flock: flock.clone(), xdata: Dict::NULL });
        self.ask_lock(c, call, granted, move |brick, caller, granted| brick.lk(caller, target, cmd, &flock, granted))
            .await
    }

    /// Notes a grant. One of a connection that is gone by now is none.
    fn noted(
        &self,
        c: &Context,
        fd: &Fd,
        (file, session): (Option<u64>, Option<u64>),
        flock: &Flock,
        granted: FopResult<LkReply>,
    ) -> FopResult<LkReply> {
        let reply = granted?;
        if self.session() != session {
            return Err(self.error(Failure::from(Errno::ENOTCONN), "LK"));
        }
        if let (LockType::Read | LockType::Write, Some(file)) = (flock.kind, file) {
            self.locks().apply(fd.gfid(), file, &c.lock_owner, flock);
        }
        Ok(reply)
    }

    /// Whether the brick keeps a lock for an fd, as far as this client knows, and the fd can be used there.
    pub(super) fn keeps(&self, fd: &Fd, flock: &Flock) -> bool {
        let Some(file) = self.file_number(fd) else { return false };
        let held = self.locks().within(fd.gfid(), &flock.owner, flock);
        self.is_open(fd) && held.iter().any(|held| held.fd == file && held.kind == flock.kind)
    }
}

/// Cancels a request at the brick when its caller goes away before the answer came.
struct Waiting {
    me: Arc<Connection>,
    context: Context,
    target: Target,
    flock: Flock,
    over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (me, c, target, flock) = (self.me.clone(), self.context.clone(), self.target, self.flock.clone());
        let Target::File(gfid, _) = target else { return };
        task::spawn(async move {
            let call = me.call("FGETXATTR", &c, gfid, &Dict::NULL);
            let cancelled = me.ask(&c, call, move |brick, caller| {
                brick.posix_locks.interrupt(gfid, &caller.holder(), flock.start, flock.len);
                Ok(())
            });
            let _ = cancelled.await;
        });
    }
}

impl Host {
    /// Takes locks again on a new connection; false when one is refused.
    pub(super) fn lock_again(&self, session: u64, (gfid, number): (Gfid, i64), locks: &[Held]) -> bool {
        let mut brick = self.brick();
        for lock in locks {
            let holder = Holder { session, owner: lock.owner.clone() };
            let (sender, mut receiver) = oneshot::channel();
            let granted = Box::new(move |granted| {
                let _ = sender.send(granted);
            });
            let mut ready = Vec::new();
            brick.posix_locks.set(gfid, holder, &lock.flock(), number, false, granted, &mut ready);
            brick.grant(ready);
            if !matches!(receiver.try_recv(), Ok(Ok(()))) {
                return false;
            }
        }
        true
    }
}
