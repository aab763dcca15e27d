//! LK: the locks of applications. Grants are noted, so that they can be taken again after a reconnect; a waiting request
//! can be given up, and then nothing stays locked.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rgfs_protocol::fops::{Procedure, request};
use rgfs_protocol::types::{Flock, LkCmd, LockType};
use rgfs_protocol::{Dict, Errno, Gfid};
use tokio::sync::oneshot;

use super::brick::Brick;
use super::fd::{RemoteFd, State};
use super::locks::{Held, LockTable};
use super::{Client, Remote, fop_call, read_reply, reopen};
use crate::context::Context;
use crate::error::FopResult;
use crate::fd::Fd;
use crate::reply::LkReply;
use crate::task;

/// The xattr whose FGETXATTR makes the brick give up waiting for exactly that range, for this pid
/// (`fuse-bridge.c:fuse_setlk_interrupt_handler`, `clear.c`).
pub(super) fn cancel_name(flock: &Flock) -> String {
    format!("glusterfs.intrlk.tposix.kblocked.{},{}-{}", flock.whence, flock.start, flock.len)
}

impl<B: Brick> Client<B> {
    pub(super) fn locks(&self) -> MutexGuard<'_, LockTable> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn posix_lock(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        cmd: LkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<LkReply> {
        if let (LkCmd::SetLk | LkCmd::SetLkW, LockType::Unlock) = (cmd, flock.kind) {
            // Forgotten before the brick is asked: whatever becomes of the connection, nobody wants it back.
            if let Some(remote) = fd.contexts.get::<RemoteFd<B>>(self.key) {
                self.locks().apply(remote.gfid, remote.id, &context.lock_owner, &flock);
            }
        }
        let remote = self.remote(fd, Procedure::Lk).await?;
        match (cmd, flock.kind) {
            (LkCmd::SetLk | LkCmd::SetLkW, LockType::Unlock) => self.ask(context, remote, cmd, &flock, xdata).await,
            (LkCmd::SetLk, _) => {
                let granted = self.ask(context, remote, cmd, &flock, xdata).await;
                self.note(context, remote, &flock, granted)
            }
            (LkCmd::SetLkW, _) => self.wait_for(context, fd, remote, flock, xdata).await,
            _ => self.ask(context, remote, cmd, &flock, xdata).await,
        }
    }

    fn ask(
        &self,
        context: &Context,
        remote: Remote,
        cmd: LkCmd,
        flock: &Flock,
        xdata: Dict,
    ) -> impl Future<Output = FopResult<LkReply>> + Send + 'static + use<B> {
        let mut flock = flock.clone();
        flock.owner = context.lock_owner.clone();
        let mut call = fop_call::<request::Lk>().on(remote.generation);
        if cmd == LkCmd::SetLkW {
            call = call.waiting();
        }
        let request = request::Lk { gfid: remote.gfid, fd: remote.number, cmd, kind: flock.kind, flock, xdata };
        let asked = Asking::new(self.locks.clone(), remote.gfid);
        let answer = self.send(context, call, &request);
        let name = self.link.name().clone();
        async move {
            let reply = read_reply::<request::Lk>(&name, answer.await?).map(LkReply::from);
            asked.answered();
            reply
        }
    }

    /// Notes a grant. One of a connection that is gone by now is none.
    fn note(
        &self,
        context: &Context,
        remote: Remote,
        flock: &Flock,
        granted: FopResult<LkReply>,
    ) -> FopResult<LkReply> {
        let reply = granted?;
        self.locks().apply(remote.gfid, remote.id, &context.lock_owner, flock);
        if self.link.generation() == Some(remote.generation) {
            return Ok(reply);
        }
        let unlock = Flock { kind: LockType::Unlock, ..flock.clone() };
        self.locks().apply(remote.gfid, remote.id, &context.lock_owner, &unlock);
        Err(self.error(Errno::ENOTCONN, Procedure::Lk).with_detail("the connection broke when the lock was granted"))
    }

    /// Waits for a lock. The waiting goes on in a task of its own, so that a grant is seen even when the caller went away
    /// meanwhile; then it is undone.
    async fn wait_for(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        remote: Remote,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<LkReply> {
        let Some(me) = self.me.upgrade() else {
            return Err(self.error(Errno::ENOTCONN, Procedure::Lk).with_detail("the graph is being taken down"));
        };
        let answer = self.ask(context, remote, LkCmd::SetLkW, &flock, xdata);
        let (sender, receiver) = oneshot::channel();
        let mut waiting = Waiting {
            client: me.clone(),
            context: context.clone(),
            fd: fd.clone(),
            remote,
            flock: flock.clone(),
            granted: receiver,
            over: false,
        };
        let (asker, wanted) = (context.clone(), flock.clone());
        task::spawn(async move {
            let granted = answer.await;
            if let Err(Ok(_)) = sender.send(granted) {
                me.undo(&asker, remote, &wanted).await;
            }
        });
        let granted = (&mut waiting.granted).await;
        waiting.over = true;
        match granted {
            Ok(granted) => self.note(context, remote, &flock, granted),
            Err(_) => Err(self.error(Errno::EIO, Procedure::Lk).with_detail("the waiting task is gone")),
        }
    }

    /// Gives back a lock that nobody waits for any more, and takes again what its owner had in that range before.
    async fn undo(&self, context: &Context, remote: Remote, flock: &Flock) {
        let before = self.locks().within(remote.gfid, &context.lock_owner, flock);
        let unlock = Flock { kind: LockType::Unlock, ..flock.clone() };
        if let Err(error) = self.ask(context, remote, LkCmd::SetLk, &unlock, Dict::NULL).await {
            tracing::warn!(gfid = %remote.gfid, "a lock that nobody waits for could not be given back: {error}");
        }
        for held in before {
            self.take_again(&held).await;
        }
    }

    async fn take_again(&self, held: &Held) {
        let fd = self.fds.lock().unwrap_or_else(PoisonError::into_inner).get(&held.fd).and_then(|fd| fd.upgrade());
        let Some(fd) = fd else { return };
        let State::Open { generation, number } = fd.state() else { return };
        if let Err(error) = reopen::take(&*self.link, self.link.name(), &fd, (generation, number), held).await {
            if error.errno == Errno::ENOTCONN {
                // The next connection takes it again, or makes the fd bad.
                return;
            }
            tracing::warn!(gfid = %fd.gfid, start = held.start, "a lock is lost after a cancelled request: {error}");
            RemoteFd::poison(&fd, "a lock that it held was lost when a request for another was cancelled");
        }
    }

    /// Asks the brick to give up waiting. The waiting request is then answered EINTR, or it was granted just before.
    async fn cancel(&self, context: &Context, fd: &Fd, flock: &Flock) {
        let Ok(remote) = self.remote(fd, Procedure::Fgetxattr).await else { return };
        let name = cancel_name(flock);
        let request = request::Fgetxattr {
            gfid: remote.gfid,
            fd: remote.number,
            namelen: name.len() as u32,
            name: name.into(),
            xdata: Dict::NULL,
        };
        if let Err(error) = self.call_on(context, remote, request).await {
            tracing::warn!(gfid = %remote.gfid, "a waiting lock request could not be cancelled: {error}");
        }
    }
}

/// A request for a lock that has no answer yet. Dropped without one, nobody knows what the brick did.
struct Asking {
    locks: Arc<Mutex<LockTable>>,
    gfid: Gfid,
    known: bool,
}

impl Asking {
    fn new(locks: Arc<Mutex<LockTable>>, gfid: Gfid) -> Self {
        locks.lock().unwrap_or_else(PoisonError::into_inner).ask(gfid);
        Asking { locks, gfid, known: false }
    }

    fn answered(mut self) {
        self.known = true;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).answered(self.gfid, self.known);
    }
}

/// Cancels the request at the brick when its caller goes away before the answer came, or gives back what it never saw granted.
struct Waiting<B: Brick> {
    client: Arc<Client<B>>,
    context: Context,
    fd: Arc<Fd>,
    remote: Remote,
    flock: Flock,
    granted: oneshot::Receiver<FopResult<LkReply>>,
    over: bool,
}

impl<B: Brick> Drop for Waiting<B> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (client, context) = (self.client.clone(), self.context.clone());
        let (fd, remote, flock) = (self.fd.clone(), self.remote, self.flock.clone());
        // Closed first: from here on a grant is either in the channel, or the waiting task sees that nobody wants it.
        self.granted.close();
        match self.granted.try_recv() {
            Ok(Ok(_)) => task::spawn(async move { client.undo(&context, remote, &flock).await }),
            Ok(Err(_)) => {}
            Err(_) => task::spawn(async move { client.cancel(&context, &fd, &flock).await }),
        }
    }
}
