//! A child that keeps one file in memory and answers writes when the test says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Gfid, Iatt};
use tokio::sync::oneshot;

use crate::event::EventSource;
use crate::graph::testing::{environment, volume};
use crate::reply::*;
use crate::translators::performance::write_behind::WriteBehind;
use crate::{Context, Fd, FopError, FopResult, Inode, Loc, Translator, task};

/// What the brick makes of a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// All is written.
    Whole,
    /// So many bytes are, at most; at least one.
    Short(usize),
    /// None is.
    Fails(Errno),
    /// The child has a bug.
    Panics,
}

/// A write that waits for its outcome.
pub(super) struct Pending {
    pub(super) offset: u64,
    pub(super) data: Payload,
    pub(super) context: Context,
    answer: oneshot::Sender<Outcome>,
}

/// The child.
pub(super) struct Brick {
    name: Arc<str>,
    events: EventSource,
    pub(super) file: Mutex<Vec<u8>>,
    pending: Mutex<Vec<Pending>>,
    /// Fops other than WRITEV, in order.
    fops: Mutex<Vec<&'static str>>,
}

pub(super) const GFID: Gfid = Gfid([9; 16]);

impl Brick {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Brick {
            name: "brick".into(),
            events: EventSource::default(),
            file: Mutex::default(),
            pending: Mutex::default(),
            fops: Mutex::default(),
        })
    }

    /// Places and sizes of the writes that wait here, in order of arrival.
    pub(super) fn waiting(&self) -> Vec<(u64, usize)> {
        lock(&self.pending).iter().map(|pending| (pending.offset, size(&pending.data))).collect()
    }

    /// Looks at the write `index` of those that wait.
    pub(super) fn look<R>(&self, index: usize, at: impl FnOnce(&Pending) -> R) -> R {
        at(&lock(&self.pending)[index])
    }

    /// Gives the write `index` of those that wait its outcome.
    pub(super) fn answer(&self, index: usize, outcome: Outcome) {
        let pending = lock(&self.pending).remove(index);
        let _ = pending.answer.send(outcome);
    }

    /// Answers all writes, also those that come meanwhile.
    pub(super) fn answer_all(&self, outcome: Outcome) {
        while !self.waiting().is_empty() {
            self.answer(0, outcome);
        }
    }

    /// The fops so far; forgets them.
    pub(super) fn take_fops(&self) -> Vec<&'static str> {
        std::mem::take(&mut lock(&self.fops))
    }

    fn note(&self, fop: &'static str) {
        lock(&self.fops).push(fop);
    }

    fn attributes(&self) -> Iatt {
        let size = lock(&self.file).len() as u64;
        Iatt { gfid: GFID, flags: Iatt::FLAGS_BRICK, size, mode: 0o100_644, ..Iatt::default() }
    }
}

#[async_trait]
impl Translator for Brick {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "testing/brick"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &[]
    }

    fn events(&self) -> &EventSource {
        &self.events
    }

    async fn writev(
        &self,
        context: &Context,
        _: &Arc<Fd>,
        data: Payload,
        offset: u64,
        _: u32,
        _: Dict,
    ) -> FopResult<WriteReply> {
        let (answer, outcome) = oneshot::channel();
        lock(&self.pending).push(Pending { offset, data: data.clone(), context: context.clone(), answer });
        let bytes = data.concat();
        let written = match outcome.await {
            Ok(Outcome::Whole) => bytes.len(),
            Ok(Outcome::Short(most)) => most.clamp(1, bytes.len()),
            Ok(Outcome::Panics) => panic!("on purpose"),
            Ok(Outcome::Fails(errno)) => return Err(FopError::new(errno, &self.name, "writev")),
            Err(_) => return Err(FopError::new(Errno::ENOTCONN, &self.name, "writev")),
        };
        let mut file = lock(&self.file);
        let start = offset as usize;
        if file.len() < start + written {
            file.resize(start + written, 0);
        }
        file[start..start + written].copy_from_slice(&bytes[..written]);
        drop(file);
        Ok(WriteReply { written, post: self.attributes(), ..WriteReply::default() })
    }

    async fn readv(&self, _: &Context, _: &Arc<Fd>, size: u32, offset: u64, _: u32, _: Dict) -> FopResult<ReadReply> {
        self.note("readv");
        let stat = self.attributes();
        let file = lock(&self.file);
        let from = (offset as usize).min(file.len());
        let to = (from + size as usize).min(file.len());
        let data = Payload::from_iter([Bytes::copy_from_slice(&file[from..to])]);
        Ok(ReadReply { data, stat, ..ReadReply::default() })
    }

    async fn fstat(&self, _: &Context, _: &Arc<Fd>, _: Dict) -> FopResult<StatReply> {
        self.note("fstat");
        Ok(StatReply { stat: self.attributes(), ..StatReply::default() })
    }

    async fn lookup(&self, _: &Context, _: &Loc, _: Dict) -> FopResult<LookupReply> {
        self.note("lookup");
        Ok(LookupReply { stat: self.attributes(), ..LookupReply::default() })
    }

    async fn flush(&self, _: &Context, _: &Arc<Fd>, _: Dict) -> FopResult<Dict> {
        self.note("flush");
        Ok(Dict::NULL)
    }

    async fn fsync(&self, _: &Context, _: &Arc<Fd>, _: bool, _: Dict) -> FopResult<PrePostReply> {
        self.note("fsync");
        Ok(PrePostReply::default())
    }
}

/// A write-behind over `child`.
pub(super) fn write_behind(child: Arc<dyn Translator>, options: &[(&str, &str)]) -> Arc<WriteBehind> {
    build(child, options).unwrap()
}

/// What building a write-behind with these options says.
pub(super) fn build(
    child: Arc<dyn Translator>,
    options: &[(&str, &str)],
) -> Result<Arc<WriteBehind>, crate::graph::BuildError> {
    let volume = volume("performance/write-behind", options);
    WriteBehind::new(&volume, vec![child], &environment())
}

/// An open file of the brick.
pub(super) fn open(inode: &Arc<Inode>, flags: i32) -> Arc<Fd> {
    Fd::new(inode.clone(), libc::O_RDWR | flags, 1)
}

/// The answer of a fop, once it is there.
pub(super) struct Answer<T>(Arc<Mutex<Option<T>>>);

impl<T: Send + 'static> Answer<T> {
    /// Starts `fop`, as the FUSE thread does.
    pub(super) fn of(fop: impl Future<Output = T> + Send + 'static) -> Self {
        let slot = Arc::new(Mutex::new(None));
        let answer = slot.clone();
        task::spawn(async move {
            let result = fop.await;
            *lock(&answer) = Some(result);
        });
        Answer(slot)
    }

    /// The answer, if it came since the last call.
    pub(super) fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }

    /// The answer, which must be there.
    pub(super) fn now(&self) -> T {
        self.take().unwrap()
    }
}

/// WRITEV of `data`.
pub(super) fn write(
    top: &Arc<WriteBehind>,
    fd: &Arc<Fd>,
    offset: u64,
    data: impl Into<Bytes>,
) -> Answer<FopResult<WriteReply>> {
    let (top, fd, data) = (top.clone(), fd.clone(), Payload::from_iter([data.into()]));
    Answer::of(async move { top.writev(&Context::internal(), &fd, data, offset, 0, Dict::NULL).await })
}

/// READV; the bytes.
pub(super) fn read(top: &Arc<WriteBehind>, fd: &Arc<Fd>, offset: u64, size: u32) -> Answer<FopResult<Vec<u8>>> {
    let (top, fd) = (top.clone(), fd.clone());
    Answer::of(async move {
        let reply = top.readv(&Context::internal(), &fd, size, offset, 0, Dict::NULL).await?;
        Ok(reply.data.concat())
    })
}

/// FLUSH; the error.
pub(super) fn flush(top: &Arc<WriteBehind>, fd: &Arc<Fd>) -> Answer<Option<Errno>> {
    let (top, fd) = (top.clone(), fd.clone());
    Answer::of(async move { top.flush(&Context::internal(), &fd, Dict::NULL).await.err().map(|error| error.errno) })
}

/// FSYNC; the error.
pub(super) fn fsync(top: &Arc<WriteBehind>, fd: &Arc<Fd>) -> Answer<Option<Errno>> {
    let (top, fd) = (top.clone(), fd.clone());
    Answer::of(
        async move { top.fsync(&Context::internal(), &fd, false, Dict::NULL).await.err().map(|error| error.errno) },
    )
}

pub(super) fn size(data: &Payload) -> usize {
    data.iter().map(Bytes::len).sum()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
