//! For tests of translators: a child without a brick, that notes what it is asked and answers from a script.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};
use tokio::sync::oneshot;

use crate::event::{Event, EventSource, Status};
use crate::reply::*;
use crate::{Context, Fd, FopError, FopResult, Loc, Translator};

/// One call that a [`Recorder`] got. Arguments that its fop does not have are left at their defaults.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) fop: &'static str,
    pub(crate) context: Context,
    pub(crate) xdata: Dict,
    /// The loc; the old one of RENAME and LINK.
    pub(crate) loc: Option<Loc>,
    /// The new loc of RENAME and LINK.
    pub(crate) new: Option<Loc>,
    /// The fd; the destination of COPY_FILE_RANGE.
    pub(crate) fd: Option<Arc<Fd>>,
    /// xattrs of SETXATTR and XATTROP.
    pub(crate) dict: Dict,
    /// Name of an xattr, of a lock domain, or target of a link.
    pub(crate) text: String,
    pub(crate) stat: Iatt,
    /// `valid`, `flags`, `mask`, or the number of a command.
    pub(crate) flags: u64,
    pub(crate) mode: u32,
    pub(crate) offset: u64,
    /// Bytes asked for, or written.
    pub(crate) size: u64,
}

type Handler = Box<dyn Fn(&Call) -> FopResult<Box<dyn Any + Send>> + Send + Sync>;

/// A leaf that records calls. A fop without handler is answered by the default reply of its type. A handler of LK makes
/// an `Option<LkReply>`.
pub(crate) struct Recorder {
    name: Arc<str>,
    events: EventSource,
    calls: Mutex<Vec<Call>>,
    handlers: Mutex<HashMap<&'static str, Arc<Handler>>>,
    held: Mutex<HashMap<&'static str, Vec<oneshot::Receiver<()>>>>,
}

impl Recorder {
    /// A recorder that is up.
    pub(crate) fn new(name: &str) -> Arc<Self> {
        let events = EventSource::default();
        events.announce(&Event::Status(Status::Up));
        Arc::new(Recorder {
            name: name.into(),
            events,
            calls: Mutex::default(),
            handlers: Mutex::default(),
            held: Mutex::default(),
        })
    }

    /// From now on answers `fop` with what `handler` makes of the call: the fop's reply type, or an error.
    pub(crate) fn on<R: Any + Send>(
        &self,
        fop: &'static str,
        handler: impl Fn(&Call) -> FopResult<R> + Send + Sync + 'static,
    ) {
        let boxed: Handler = Box::new(move |call| handler(call).map(|reply| Box::new(reply) as Box<dyn Any + Send>));
        lock(&self.handlers).insert(fop, Arc::new(boxed));
    }

    /// From now on fails `fop`.
    pub(crate) fn fail(&self, fop: &'static str, errno: Errno) {
        let name = self.name.clone();
        self.on::<()>(fop, move |call| Err(FopError::new(errno, &name, call.fop)));
    }

    /// The next call of `fop` is not answered before the returned end is used or dropped.
    pub(crate) fn hold(&self, fop: &'static str) -> oneshot::Sender<()> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.held).entry(fop).or_default().insert(0, receiver);
        sender
    }

    /// The calls so far, in order; forgets them.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *lock(&self.calls))
    }

    /// Names of the fops so far, in order.
    pub(crate) fn fops(&self) -> Vec<&'static str> {
        lock(&self.calls).iter().map(|call| call.fop).collect()
    }

    /// Announces a status.
    pub(crate) fn announce(&self, status: Status) {
        self.events.announce(&Event::Status(status));
    }

    async fn answer<R: Any + Send + Default>(&self, call: Call) -> FopResult<R> {
        let depth = call.context.rounds.sent();
        let (rounds, fop) = (call.context.rounds.clone(), call.fop);
        let held = lock(&self.held).get_mut(fop).and_then(Vec::pop);
        lock(&self.calls).push(call.clone());
        if let Some(held) = held {
            let _ = held.await;
        }
        rounds.answered(depth);
        let handler = lock(&self.handlers).get(fop).cloned();
        match handler {
            None => Ok(R::default()),
            Some(handler) => {
                let reply = handler(&call)?;
                Ok(*reply.downcast().unwrap_or_else(|_| panic!("the handler of {fop} makes another type of reply")))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn call(fop: &'static str, context: &Context, xdata: Dict) -> Call {
    Call {
        fop,
        context: context.clone(),
        xdata,
        loc: None,
        new: None,
        fd: None,
        dict: Dict::NULL,
        text: String::new(),
        stat: Iatt::default(),
        flags: 0,
        mode: 0,
        offset: 0,
        size: 0,
    }
}

impl Call {
    fn loc(mut self, loc: &Loc) -> Self {
        self.loc = Some(loc.clone());
        self
    }

    fn new_loc(mut self, new: &Loc) -> Self {
        self.new = Some(new.clone());
        self
    }

    fn fd(mut self, fd: &Arc<Fd>) -> Self {
        self.fd = Some(fd.clone());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.text = text.into();
        self
    }

    fn flags(mut self, flags: impl Into<i64>) -> Self {
        self.flags = flags.into() as u64;
        self
    }

    fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    fn range(mut self, offset: u64, size: u64) -> Self {
        self.offset = offset;
        self.size = size;
        self
    }

    fn dict(mut self, dict: Dict) -> Self {
        self.dict = dict;
        self
    }

    fn stat(mut self, stat: &Iatt) -> Self {
        self.stat = *stat;
        self
    }
}

#[async_trait]
impl Translator for Recorder {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "testing/recorder"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &[]
    }

    fn events(&self) -> &EventSource {
        &self.events
    }

    async fn lookup(&self, c: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        self.answer(call("lookup", c, xdata).loc(loc)).await
    }

    async fn stat(&self, c: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        self.answer(call("stat", c, xdata).loc(loc)).await
    }

    async fn fstat(&self, c: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        self.answer(call("fstat", c, xdata).fd(fd)).await
    }

    async fn truncate(&self, c: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.answer(call("truncate", c, xdata).loc(loc).range(offset, 0)).await
    }

    async fn ftruncate(&self, c: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.answer(call("ftruncate", c, xdata).fd(fd).range(offset, 0)).await
    }

    async fn access(&self, c: &Context, loc: &Loc, mask: u32, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("access", c, xdata).loc(loc).flags(mask)).await
    }

    async fn readlink(&self, c: &Context, loc: &Loc, size: u32, xdata: Dict) -> FopResult<ReadlinkReply> {
        self.answer(call("readlink", c, xdata).loc(loc).range(0, size.into())).await
    }

    async fn mknod(&self, c: &Context, loc: &Loc, mode: u32, _: u64, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.answer(call("mknod", c, xdata).loc(loc).mode(mode)).await
    }

    async fn mkdir(&self, c: &Context, loc: &Loc, mode: u32, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.answer(call("mkdir", c, xdata).loc(loc).mode(mode)).await
    }

    async fn unlink(&self, c: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.answer(call("unlink", c, xdata).loc(loc).flags(xflags)).await
    }

    async fn rmdir(&self, c: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.answer(call("rmdir", c, xdata).loc(loc).flags(xflags)).await
    }

    async fn symlink(&self, c: &Context, loc: &Loc, target: Bytes, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.answer(call("symlink", c, xdata).loc(loc).text(&String::from_utf8_lossy(&target))).await
    }

    async fn rename(&self, c: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<RenameReply> {
        self.answer(call("rename", c, xdata).loc(old).new_loc(new)).await
    }

    async fn link(&self, c: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        self.answer(call("link", c, xdata).loc(old).new_loc(new)).await
    }

    async fn create(
        &self,
        c: &Context,
        loc: &Loc,
        flags: i32,
        mode: u32,
        _: u32,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.answer(call("create", c, xdata).loc(loc).flags(flags).mode(mode).fd(fd)).await
    }

    async fn open(&self, c: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("open", c, xdata).loc(loc).flags(flags).fd(fd)).await
    }

    async fn readv(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<ReadReply> {
        self.answer(call("readv", c, xdata).fd(fd).range(offset, size.into()).flags(flags)).await
    }

    async fn writev(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        let size = data.iter().map(Bytes::len).sum::<usize>() as u64;
        self.answer(call("writev", c, xdata).fd(fd).range(offset, size).flags(flags)).await
    }

    async fn flush(&self, c: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("flush", c, xdata).fd(fd)).await
    }

    async fn fsync(&self, c: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        self.answer(call("fsync", c, xdata).fd(fd).flags(datasync)).await
    }

    async fn opendir(&self, c: &Context, loc: &Loc, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("opendir", c, xdata).loc(loc).fd(fd)).await
    }

    async fn fsyncdir(&self, c: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("fsyncdir", c, xdata).fd(fd).flags(datasync)).await
    }

    async fn readdir(&self, c: &Context, fd: &Arc<Fd>, size: u32, offset: u64, xdata: Dict) -> FopResult<ReaddirReply> {
        self.answer(call("readdir", c, xdata).fd(fd).range(offset, size.into())).await
    }

    async fn readdirp(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        self.answer(call("readdirp", c, xdata).fd(fd).range(offset, size.into())).await
    }

    async fn statfs(&self, c: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatfsReply> {
        self.answer(call("statfs", c, xdata).loc(loc)).await
    }

    async fn setxattr(&self, c: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("setxattr", c, xdata).loc(loc).dict(dict).flags(flags)).await
    }

    async fn getxattr(&self, c: &Context, loc: &Loc, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        self.answer(call("getxattr", c, xdata).loc(loc).text(name.unwrap_or_default())).await
    }

    async fn removexattr(&self, c: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("removexattr", c, xdata).loc(loc).text(name)).await
    }

    async fn fsetxattr(&self, c: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("fsetxattr", c, xdata).fd(fd).dict(dict).flags(flags)).await
    }

    async fn fgetxattr(&self, c: &Context, fd: &Arc<Fd>, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        self.answer(call("fgetxattr", c, xdata).fd(fd).text(name.unwrap_or_default())).await
    }

    async fn fremovexattr(&self, c: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("fremovexattr", c, xdata).fd(fd).text(name)).await
    }

    async fn lk(&self, c: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, xdata: Dict) -> FopResult<LkReply> {
        let call = call("lk", c, xdata).fd(fd).range(flock.start, flock.len).flags(cmd as i64);
        // LkReply has no default: a handler makes an Option, and without one the lock is granted.
        let reply = self.answer::<Option<LkReply>>(call).await?;
        Ok(reply.unwrap_or(LkReply { flock, xdata: Dict::NULL }))
    }

    async fn inodelk(
        &self,
        c: &Context,
        volume: &str,
        loc: &Loc,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let call = call("inodelk", c, xdata).loc(loc).text(volume).flags(cmd as i64);
        self.answer(call.range(flock.start, flock.len).mode(flock.kind as u32)).await
    }

    async fn finodelk(
        &self,
        c: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let call = call("finodelk", c, xdata).fd(fd).text(volume).flags(cmd as i64);
        self.answer(call.range(flock.start, flock.len).mode(flock.kind as u32)).await
    }

    async fn entrylk(
        &self,
        c: &Context,
        volume: &str,
        loc: &Loc,
        _: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.answer(call("entrylk", c, xdata).loc(loc).text(volume).flags(cmd as i64).mode(kind as u32)).await
    }

    async fn fentrylk(
        &self,
        c: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        _: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.answer(call("fentrylk", c, xdata).fd(fd).text(volume).flags(cmd as i64).mode(kind as u32)).await
    }

    async fn xattrop(
        &self,
        c: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.answer(call("xattrop", c, xdata).loc(loc).dict(dict).flags(flags as i64)).await
    }

    async fn fxattrop(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.answer(call("fxattrop", c, xdata).fd(fd).dict(dict).flags(flags as i64)).await
    }

    async fn rchecksum(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        self.answer(call("rchecksum", c, xdata).fd(fd).range(offset, len.into())).await
    }

    async fn setattr(&self, c: &Context, loc: &Loc, stat: &Iatt, valid: u32, xdata: Dict) -> FopResult<PrePostReply> {
        self.answer(call("setattr", c, xdata).loc(loc).stat(stat).flags(valid)).await
    }

    async fn fsetattr(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.answer(call("fsetattr", c, xdata).fd(fd).stat(stat).flags(valid)).await
    }

    async fn fallocate(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        keep_size: bool,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.answer(call("fallocate", c, xdata).fd(fd).flags(keep_size).range(offset, len)).await
    }

    async fn discard(&self, c: &Context, fd: &Arc<Fd>, offset: u64, len: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.answer(call("discard", c, xdata).fd(fd).range(offset, len)).await
    }

    async fn zerofill(&self, c: &Context, fd: &Arc<Fd>, offset: u64, len: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.answer(call("zerofill", c, xdata).fd(fd).range(offset, len)).await
    }

    async fn ipc(&self, c: &Context, op: i32, xdata: Dict) -> FopResult<Dict> {
        self.answer(call("ipc", c, xdata).flags(op)).await
    }

    async fn seek(&self, c: &Context, fd: &Arc<Fd>, offset: u64, what: SeekWhat, xdata: Dict) -> FopResult<SeekReply> {
        self.answer(call("seek", c, xdata).fd(fd).range(offset, 0).flags(what as i64)).await
    }

    async fn lease(&self, c: &Context, loc: &Loc, lease: Lease, xdata: Dict) -> FopResult<LeaseReply> {
        self.answer(call("lease", c, xdata).loc(loc).flags(lease.cmd)).await
    }

    async fn copy_file_range(
        &self,
        c: &Context,
        _: &Arc<Fd>,
        _: u64,
        destination: &Arc<Fd>,
        destination_offset: u64,
        len: u32,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<CopyFileRangeReply> {
        let call = call("copy_file_range", c, xdata).fd(destination).range(destination_offset, len.into());
        self.answer(call.flags(flags)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inode, task};

    #[test]
    fn notes_calls_counts_rounds_and_answers_from_the_script() {
        let child = Recorder::new("child");
        child.fail("stat", Errno::EIO);
        child.on("lookup", |call| {
            Ok(LookupReply {
                stat: Iatt { size: u64::from(call.context.uid), ..Iatt::default() },
                ..Default::default()
            })
        });
        let held = child.hold("lookup");
        let done = Arc::new(Mutex::new(None));
        let (asked, answer) = (child.clone(), done.clone());
        task::spawn(async move {
            let context = Context { uid: 7, ..Context::internal() };
            let loc = Loc::inode(Inode::fresh());
            let found = asked.lookup(&context, &loc, Dict::NULL).await.map(|reply| reply.stat.size);
            let failed = asked.stat(&context, &loc, Dict::NULL).await.map_err(|error| error.errno);
            *lock(&answer) = Some((found.unwrap(), failed.unwrap_err(), context.rounds.count()));
        });
        assert_eq!(child.fops(), ["lookup"]);
        drop(held);
        assert_eq!(*lock(&done), Some((7, Errno::EIO, 2)));
        assert_eq!(child.take_calls().len(), 2);
    }
}
