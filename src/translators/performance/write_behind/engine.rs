//! The queue at work: takes writes, sends them in the background, makes others wait.
//!
//! A write that may be sent is sent by a task of its own ([`crate::task`]), which starts on the thread of the caller and
//! ends on the thread that reads the answer. Nobody is woken while a queue is locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rgfs_protocol::{Dict, Iatt};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::file::{File, FileQueue, Files, Verdict};
use super::job::Job;
use super::lost;
use super::options::Settings;
use super::queue::{Extent, Ticket};
use crate::inode::{ContextKey, Inode};
use crate::reply::{Payload, WriteReply};
use crate::{Context, Fd, FopError, FopResult, Translator, task};

/// Acknowledged bytes of all files together that may wait for bricks. Beyond it writes wait.
const MOST_UNANSWERED: usize = 64 << 20;

type Ready = SmallVec<[(Ticket, Job); 1]>;

/// What the tasks of a write-behind translator share.
pub(super) struct Engine {
    pub(super) name: Arc<str>,
    pub(super) child: Arc<dyn Translator>,
    pub(super) settings: Settings,
    pub(super) files: Arc<Files>,
    pub(super) key: ContextKey,
    unanswered: AtomicUsize,
}

impl Engine {
    pub(super) fn new(name: Arc<str>, child: Arc<dyn Translator>, settings: Settings) -> Arc<Self> {
        let (files, key) = (Arc::default(), ContextKey::unique());
        Arc::new(Engine { name, child, settings, files, key, unanswered: AtomicUsize::new(0) })
    }

    /// Acknowledged bytes that the child has not answered, of all files.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.unanswered() <= MOST_UNANSWERED
    }

    /// The state of an inode that was written.
    pub(super) fn file(&self, inode: &Inode) -> Option<Arc<File>> {
        inode.contexts.get(self.key)
    }

    /// What an operation on `len` bytes from `offset` depends on, and what depends on it.
    pub(super) fn extent(&self, flags: i32, offset: u64, len: usize) -> Extent {
        if self.settings.strict_order || flags & libc::O_APPEND != 0 {
            return Extent::EVERYTHING;
        }
        Extent::new(offset, len as u64)
    }

    /// WRITEV.
    pub(super) async fn write(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        let len = data.iter().map(bytes::Bytes::len).sum();
        if len == 0 || self.settings.pass_through {
            return self.child.writev(context, fd, data, offset, flags, xdata).await;
        }
        let open_flags = fd.flags | flags as i32;
        let early = self.settings.may_acknowledge(open_flags);
        let file = self.files.of(&fd.inode, self.key, self.settings.limits);
        if early
            && file.failed.load(Ordering::Acquire)
            && let Some(error) = lost::warn(fd, self.key)
        {
            return Err(error);
        }
        let extent = self.extent(open_flags, offset, len);
        let mut context = context.clone();
        if early {
            // Once acknowledged it has to be written, whether or not its caller still waits.
            context.deadline = None;
        }
        let job = Job { fd: fd.clone(), context, data, len, offset, flags, xdata, complete: early };
        let (verdict, ready) = {
            let mut queue = file.queue();
            let before = queue.acknowledged();
            let refused = if early { queue.accept(extent, job, self.has_room()).err() } else { Some(job) };
            let verdict = refused.map(|job| {
                let (sender, receiver) = oneshot::channel();
                queue.enqueue(extent, job, sender, early);
                receiver
            });
            self.account(before, queue.acknowledged());
            (verdict, ready(&mut queue))
        };
        self.launch(&file, ready);
        match verdict {
            None => Ok(acknowledgement(len)),
            Some(verdict) => match verdict.await {
                Ok(Verdict::Acknowledged) => Ok(acknowledgement(len)),
                Ok(Verdict::Answered(result)) => *result,
                Err(_) => Err(FopError::new(rgfs_protocol::Errno::EIO, &self.name, "writev")
                    .with_detail("the write was given up before the child answered")),
            },
        }
    }

    /// Waits until the writes of `inode` so far that touch `extent` are answered.
    pub(super) async fn settle(self: &Arc<Self>, inode: &Inode, extent: Extent) {
        if let Some(file) = self.file(inode) {
            self.settle_file(&file, extent).await;
        }
    }

    /// [`Engine::settle`] for a file that is known to have been written.
    pub(super) async fn settle_file(self: &Arc<Self>, file: &Arc<File>, extent: Extent) {
        let (settled, ready) = {
            let mut queue = file.queue();
            if queue.is_clear(extent) {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            queue.wait(extent, sender);
            (receiver, ready(&mut queue))
        };
        self.launch(file, ready);
        // The sender cannot vanish while `file` holds the queue.
        let _ = settled.await;
    }

    /// The failure of an earlier write that `fd` must report now; it is forgotten by that.
    pub(super) fn take_lost(&self, file: &File, fd: &Fd) -> Option<FopError> {
        if !file.failed.load(Ordering::Acquire) {
            return None;
        }
        lost::take(fd, self.key)
    }

    fn account(&self, before: usize, after: usize) {
        if after >= before {
            self.unanswered.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.unanswered.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    fn launch(self: &Arc<Self>, file: &Arc<File>, ready: Ready) {
        for (ticket, job) in ready {
            task::spawn(self.clone().send(file.clone(), ticket, job));
        }
    }

    async fn send(self: Arc<Self>, file: Arc<File>, ticket: Ticket, job: Job) {
        let sent = Sent { engine: self.clone(), file, ticket, fd: job.fd.clone(), place: (job.offset, job.len) };
        let mut sent = Unanswered(Some(sent));
        let (result, written) = job.run(&self.child, &self.name).await;
        if let Some(sent) = sent.0.take() {
            self.finish(sent, result, written);
        }
    }

    /// The child has answered.
    fn finish(self: &Arc<Self>, sent: Sent, result: FopResult<WriteReply>, written: usize) {
        let Sent { file, ticket, fd, place: (offset, len), .. } = sent;
        let mut lost = None;
        let (answer, completion, ready) = {
            let mut queue = file.queue();
            file.changed();
            let before = queue.acknowledged();
            let mut completion = queue.complete(ticket, self.has_room());
            self.account(before, queue.acknowledged());
            let answer = completion.unanswered.take().map(|caller| (caller, queue.is_idle()));
            if let (None, Err(error)) = (&answer, &result) {
                // While the queue is locked: a flush that finds it idle must find the failure too.
                lost::note(&fd, self.key, error.clone());
                file.failed.store(true, Ordering::Release);
                lost = Some(error.clone());
            }
            (answer, completion, ready(&mut queue))
        };
        if let Some(error) = lost {
            tracing::warn!(gfid = %fd.gfid(), offset, len, %error, "a buffered write failed");
        }
        self.launch(&file, ready);
        if let Some((caller, attributes_are_true)) = answer {
            let result = match result {
                Err(_) if written > 0 => Ok(acknowledgement(written)),
                Ok(reply) if !attributes_are_true => {
                    Ok(WriteReply { pre: Iatt::default(), post: Iatt::default(), ..reply })
                }
                result => result,
            };
            // A caller that is gone needs no answer.
            let _ = caller.send(Verdict::Answered(Box::new(result)));
        }
        for caller in completion.acknowledged {
            let _ = caller.send(Verdict::Acknowledged);
        }
        for dependent in completion.released {
            let _ = dependent.send(());
        }
    }
}

/// A write that the child has.
struct Sent {
    engine: Arc<Engine>,
    file: Arc<File>,
    ticket: Ticket,
    fd: Arc<Fd>,
    /// Offset and length, for the log.
    place: (u64, usize),
}

/// Fails the write when its task ends without an answer (a panic below): whoever waits for it would wait for ever, and
/// whoever was told that it is written would never hear that it is not.
struct Unanswered(Option<Sent>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(sent) = self.0.take() else { return };
        let engine = sent.engine.clone();
        let error = FopError::new(rgfs_protocol::Errno::EIO, &engine.name, "writev")
            .with_detail("the write was given up before the child answered");
        engine.finish(sent, Err(error), 0);
    }
}

fn ready(queue: &mut FileQueue) -> Ready {
    std::iter::from_fn(|| queue.start()).collect()
}

/// The answer to a write that is not on a brick yet: without attributes, since nobody knows them.
fn acknowledgement(written: usize) -> WriteReply {
    WriteReply { written, ..WriteReply::default() }
}
