//! The talk with the thin arbiter: its file, the locks on it, and the marks (`afr_ta_post_op_do`, `afr_ta_read_txn`,
//! `afr_ta_id_file_check`). What follows from the answers is decided in [`thin_arbiter`](super::thin_arbiter).
//!
//! A change asks under two locks. The one in the domain `afr.ta.dom-notify` stays, one byte that only this client has, as
//! long as the answer is remembered. The one in `afr.ta.dom-modify` is on the whole file and short: reading the marks and
//! adding to them are two steps at the brick. Readers take that one only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use libc::{O_CREAT, O_EXCL, O_RDWR};
use rgfs_protocol::types::{Flock, InodelkCmd, LockType, XattropFlags};
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};
use tokio::sync::oneshot;

use super::changelog::Counters;
use super::child_set::ChildSet;
use super::core::{Core, to_the_end, with_own_locks};
use super::target::Target;
use super::thin_arbiter::{Advice, Answer, Knowledge};
use crate::{Context, Fd, FopError, FopResult, Inode, Loc, Translator, task};

/// Held while an answer is remembered (`AFR_TA_DOM_NOTIFY`).
pub(super) const NOTIFY: &str = "afr.ta.dom-notify";
/// Held while the marks are read or changed (`AFR_TA_DOM_MODIFY`).
const MODIFY: &str = "afr.ta.dom-modify";
/// Mode of the file.
const MODE: u32 = 0o664;

/// The thin arbiter of a replica set.
pub(super) struct ThinArbiter {
    child: Arc<dyn Translator>,
    /// Name of the file in its root: the third pending key.
    name: Bytes,
    /// The file, once it was found or made.
    file: Mutex<Option<Arc<Inode>>>,
    /// With the owner of the locks that stay.
    keeper: Context,
    knowledge: Mutex<Knowledge<oneshot::Sender<()>>>,
}

/// The thin arbiter agreed that a copy missed a change. End it when the copy that made the change has noted that.
pub(super) struct Agreement {
    arbiter: Arc<ThinArbiter>,
    generation: u32,
    over: bool,
}

impl Agreement {
    /// False when the connection broke since: then a healer may have been told that all is well, and nobody may hear of
    /// success.
    pub(super) fn end(mut self) -> bool {
        self.finish()
    }

    fn finish(&mut self) -> bool {
        self.over = true;
        let finished = self.arbiter.knowledge().finished(self.generation);
        self.arbiter.release(self.generation, finished.release);
        finished.valid
    }
}

impl Drop for Agreement {
    fn drop(&mut self) {
        if !self.over {
            self.finish();
        }
    }
}

impl ThinArbiter {
    /// `id` names its file, as the last of `afr-pending-xattr`.
    pub(super) fn new(child: Arc<dyn Translator>, id: &str) -> Self {
        ThinArbiter {
            child,
            name: format!("trusted.afr.{id}").into(),
            file: Mutex::default(),
            keeper: with_own_locks(&Context::internal()),
            knowledge: Mutex::default(),
        }
    }

    /// The child that leads to it.
    pub(super) fn child(&self) -> &Arc<dyn Translator> {
        &self.child
    }

    /// True when it can be asked.
    pub(super) fn is_up(&self) -> bool {
        self.knowledge().is_up()
    }

    /// Its connection came or went.
    pub(super) fn connected(&self, up: bool) {
        let woken = self.knowledge().connected(up);
        wake(woken);
    }

    /// A healer waits for the lock that this client keeps.
    pub(super) fn contended(self: &Arc<Self>) {
        let (generation, lock) = {
            let mut knowledge = self.knowledge();
            (knowledge.generation(), knowledge.contended())
        };
        self.release(generation, lock);
    }

    /// Looks for the file in the background, and makes it if it is not there.
    pub(super) fn prepare(self: &Arc<Self>) {
        if !self.is_up() || self.known_file().is_some() {
            return;
        }
        let arbiter = self.clone();
        task::spawn(async move {
            if let Err(error) = arbiter.file(&Context::internal()).await {
                tracing::warn!(%error, "the file on the thin arbiter could be neither found nor made");
            }
        });
    }

    /// Asks whether a change that only one copy made may succeed, although `failed` missed it. `marks` are added to the
    /// thin arbiter's. Call it in a task that nobody drops.
    ///
    /// # Errors
    /// EIO when the copy that made it is the bad one; otherwise that of the thin arbiter.
    pub(super) async fn agree(self: &Arc<Self>, failed: usize, marks: &Dict) -> FopResult<Agreement> {
        loop {
            let mut woken = None;
            let (generation, advice) = {
                let mut knowledge = self.knowledge();
                let advice = knowledge.consult(failed, || {
                    let (sender, receiver) = oneshot::channel();
                    woken = Some(receiver);
                    sender
                });
                (knowledge.generation(), advice)
            };
            match advice {
                Advice::Agreed => return Ok(self.agreement(generation)),
                Advice::Refused => return Err(self.refusal()),
                Advice::Down => {
                    let detail = "the thin arbiter is away, and a copy missed a change";
                    return Err(self.error(Errno::ENOTCONN).with_detail(detail));
                }
                Advice::Wait => {
                    if let Some(woken) = woken {
                        let _ = woken.await;
                    }
                }
                Advice::Ask => return self.ask(generation, failed, marks).await,
            }
        }
    }

    async fn ask(self: &Arc<Self>, generation: u32, failed: usize, marks: &Dict) -> FopResult<Agreement> {
        let said = self.mark(failed, marks).await;
        let heard = self.knowledge().answered(generation, failed, said.as_ref().ok().copied());
        let outcome = match (said, heard.agreed) {
            (Err(error), _) => Err(error),
            (Ok(_), Some(true)) => Ok(self.agreement(generation)),
            (Ok(_), Some(false)) => Err(self.refusal()),
            (Ok(answer), None) => {
                // The lock may be one of the new connection, where nothing would remember it.
                self.unlock_notify(answer.lock).await;
                Err(self.error(Errno::EIO).with_detail("the connection broke while the thin arbiter was asked"))
            }
        };
        self.release(generation, heard.release);
        wake(heard.wake);
        outcome
    }

    /// Takes the lock that stays, and marks the copy that failed. When no answer came the lock is given back.
    async fn mark(&self, failed: usize, marks: &Dict) -> FopResult<Answer> {
        let file = self.file(&self.keeper).await?;
        let lock = self.random()? & (i64::MAX as u64 >> 1);
        self.inodelk(&self.keeper, &file, NOTIFY, LockType::Write, (lock, 1)).await?;
        let context = with_own_locks(&self.keeper);
        let bad = match self.lock_modify(&context, &file).await {
            Ok(()) => {
                let bad = match self.xattrop(&context, &file, marks.clone()).await {
                    Ok(_) => Ok(failed),
                    // It would call both copies bad.
                    Err(error) if error.errno == Errno::EINVAL => Ok(1 - failed.min(1)),
                    Err(error) => Err(error),
                };
                self.unlock_modify(&context, &file).await;
                bad
            }
            Err(error) => Err(error),
        };
        match bad {
            Ok(bad) => Ok(Answer { bad, lock }),
            Err(error) => {
                self.unlock_notify(lock).await;
                Err(error)
            }
        }
    }

    /// Reads the marks. Call it in a task that nobody drops.
    async fn look(&self, context: &Context, zeros: Dict) -> FopResult<Dict> {
        let context = with_own_locks(&Context { rounds: context.rounds.clone(), ..Context::internal() });
        let file = self.file(&context).await?;
        self.lock_modify(&context, &file).await?;
        let marks = self.xattrop(&context, &file, zeros).await;
        self.unlock_modify(&context, &file).await;
        marks
    }

    /// The file. Another client may make it at the same time.
    async fn file(&self, context: &Context) -> FopResult<Arc<Inode>> {
        if let Some(file) = self.known_file() {
            return Ok(file);
        }
        let gfid = match self.find(context).await {
            Err(error) if error.errno == Errno::ENOENT => match self.make(context).await {
                Err(error) if error.errno == Errno::EEXIST => self.find(context).await?,
                made => made?,
            },
            found => found?,
        };
        let file = Inode::known(gfid, FileType::Regular);
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.clone());
        Ok(file)
    }

    async fn find(&self, context: &Context) -> FopResult<Gfid> {
        Ok(self.child.lookup(context, &self.entry(Inode::fresh()), Dict::NULL).await?.stat.gfid)
    }

    async fn make(&self, context: &Context) -> FopResult<Gfid> {
        let mut random = [0; 16];
        for half in random.chunks_exact_mut(8) {
            half.copy_from_slice(&self.random()?.to_be_bytes());
        }
        let gfid = Gfid::from_random(random);
        let (inode, flags) = (Inode::fresh(), O_CREAT | O_EXCL | O_RDWR);
        let (loc, fd) = (self.entry(inode.clone()), Fd::new(inode, flags, 0));
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(gfid));
        Ok(self.child.create(context, &loc, flags, MODE, 0, &fd, xdata).await?.stat.gfid)
    }

    fn entry(&self, inode: Arc<Inode>) -> Loc {
        Loc::entry(Inode::known(Gfid::ROOT, FileType::Directory), self.name.clone(), inode)
    }

    fn known_file(&self) -> Option<Arc<Inode>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn xattrop(&self, context: &Context, file: &Arc<Inode>, marks: Dict) -> FopResult<Dict> {
        let loc = Loc::inode(file.clone());
        Ok(self.child.xattrop(context, &loc, XattropFlags::AddArray, marks, Dict::NULL).await?.dict)
    }

    async fn lock_modify(&self, context: &Context, file: &Arc<Inode>) -> FopResult<()> {
        self.inodelk(context, file, MODIFY, LockType::Write, (0, 0)).await
    }

    async fn unlock_modify(&self, context: &Context, file: &Arc<Inode>) {
        self.note_unlock(self.inodelk(context, file, MODIFY, LockType::Unlock, (0, 0)).await);
    }

    async fn unlock_notify(&self, lock: u64) {
        if let Some(file) = self.known_file() {
            self.note_unlock(self.inodelk(&self.keeper, &file, NOTIFY, LockType::Unlock, (lock, 1)).await);
        }
    }

    fn note_unlock(&self, outcome: FopResult<()>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, "a lock on the thin arbiter could not be given back");
        }
    }

    /// Waits for the lock, for a healer at most: clients do not get in each other's way for long.
    async fn inodelk(
        &self,
        context: &Context,
        file: &Arc<Inode>,
        domain: &str,
        kind: LockType,
        (start, len): (u64, u64),
    ) -> FopResult<()> {
        let cmd = if kind == LockType::Unlock { InodelkCmd::SetLk } else { InodelkCmd::SetLkW };
        let (pid, owner) = (context.pid.cast_unsigned(), context.lock_owner.clone());
        let flock = Flock { kind, whence: 0, start, len, pid, owner };
        self.child.inodelk(context, domain, &Loc::inode(file.clone()), cmd, flock, Dict::NULL).await.map(|_| ())
    }

    /// Gives the lock back in the background.
    fn release(self: &Arc<Self>, generation: u32, lock: Option<u64>) {
        let Some(lock) = lock else { return };
        let arbiter = self.clone();
        task::spawn(async move {
            arbiter.unlock_notify(lock).await;
            let woken = arbiter.knowledge().released(generation);
            wake(woken);
        });
    }

    fn agreement(self: &Arc<Self>, generation: u32) -> Agreement {
        Agreement { arbiter: self.clone(), generation, over: false }
    }

    fn random(&self) -> FopResult<u64> {
        let mut bytes = [0; 8];
        match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(8) => Ok(u64::from_ne_bytes(bytes)),
            _ => Err(self.error(Errno::EIO).with_detail("the kernel gives no random numbers")),
        }
    }

    fn refusal(&self) -> FopError {
        let detail = "the good copy missed the change: the thin arbiter says that the one that made it is stale";
        self.error(Errno::EIO).with_detail(detail)
    }

    fn error(&self, errno: Errno) -> FopError {
        FopError::new(errno, self.child.name(), "ask the thin arbiter")
    }

    fn knowledge(&self) -> MutexGuard<'_, Knowledge<oneshot::Sender<()>>> {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes changes; no lock is held here, for they run at once.
fn wake(woken: Vec<oneshot::Sender<()>>) {
    for sender in woken {
        let _ = sender.send(());
    }
}

impl Core {
    /// Asks the thin arbiter, if there is one, before copies are accused to have `missed` something. Nothing missed,
    /// nothing asked.
    ///
    /// # Errors
    /// EIO when the copies that would accuse are not the good ones; those of the thin arbiter.
    pub(super) async fn ask_thin_arbiter(
        &self,
        missed: ChildSet,
        accusation: Counters,
    ) -> FopResult<Option<Agreement>> {
        let (Some(arbiter), Some(failed)) = (&self.thin_arbiter, missed.first()) else { return Ok(None) };
        if missed.len() > 1 {
            let error = self.error(Errno::EIO, "ask the thin arbiter");
            return Err(error.with_detail("each copy missed what another one did"));
        }
        let accuse = |index| if index == failed { accusation } else { Counters::ZERO };
        arbiter.agree(failed, &self.keys.delta(accuse, None)).await.map(Some)
    }

    /// What was agreed to is noted on the copies.
    ///
    /// # Errors
    /// EIO when the agreement was worth nothing in the end.
    pub(super) fn end_agreement(&self, agreement: Option<Agreement>) -> FopResult<()> {
        if agreement.is_none_or(Agreement::end) {
            return Ok(());
        }
        let error = self.error(Errno::EIO, "ask the thin arbiter");
        Err(error.with_detail("the connection to the thin arbiter broke before all was noted"))
    }

    /// In a volume with thin arbiter, the one copy that can be read while the other is away: it may be stale.
    pub(super) fn lone_copy(&self, reached: ChildSet) -> Option<usize> {
        self.thin_arbiter.as_ref().filter(|_| reached != self.all()).and_then(|_| reached.first())
    }

    /// Makes sure that the only copy that can be read is not the stale one: by what it says of the other, else by what
    /// the thin arbiter says of it.
    ///
    /// # Errors
    /// EIO when it is stale; those of the copy and of the thin arbiter.
    pub(super) async fn check_lone_copy(
        self: &Arc<Self>,
        context: &Context,
        target: &Target,
        copy: usize,
        step: &'static str,
    ) -> FopResult<()> {
        let Some(arbiter) = self.thin_arbiter.clone() else { return Ok(()) };
        let zeros = self.keys.delta(|_| Counters::ZERO, None);
        let own = target.xattrop(self.child(copy), context, zeros.clone(), Dict::NULL).await?;
        let others = self.all().without(copy);
        if !self.accused(&own.dict).and(others).is_empty() {
            return Ok(());
        }
        // A lock is taken on the way, and the reader may go away.
        let context = context.clone();
        let marks =
            to_the_end(self, step, |reply| async move { reply.send(arbiter.look(&context, zeros).await) }).await?;
        if !self.accused(&marks).contains(copy) {
            return Ok(());
        }
        let good: Vec<&str> = others.iter().map(|index| &**self.child(index).name()).collect();
        Err(self.error(Errno::EIO, step).with_detail(format!("the good copy, {}, is away", good.join(", "))))
    }

    /// Copies of which an answer with changelog values says anything.
    fn accused(&self, answer: &Dict) -> ChildSet {
        let marks = self.keys.read(answer);
        let accused = marks.pending.iter().enumerate().filter(|(_, counters)| !counters.is_zero());
        accused.map(|(index, _)| index).collect()
    }
}
