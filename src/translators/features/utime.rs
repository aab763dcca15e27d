//! `features/utime`: the client's clock, not the bricks', says when something changed (`utime.c`, `utime-helpers.c`).
//!
//! Every changing fop tells the bricks which times to set (`Context::time_flags`) and to what (`Context::time`); with
//! flags of 0 they leave the stored times alone, and mtime looks frozen. The clock is read once for a fop, here, above
//! everything that makes several requests of it: all copies of a file must get the same time.
//!
//! Unlike the C translator, xattr changes, punched holes and copied ranges move the ctime too.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::dict::Mdata;
use rgfs_protocol::types::set_attr;
use rgfs_protocol::types::time_update::{ATIME, CTIME, MTIME, PARENT_CTIME, PARENT_MTIME};
use rgfs_protocol::{Dict, Iatt, Time, Value};

use crate::graph::{BuildError, Environment};
use crate::inode::ContextKey;
use crate::reply::*;
use crate::volfile::Volume;
use crate::{Context, Fd, FopResult, Inode, Loc, Translator, task};

/// Asked of LOOKUP: the times a brick has stored.
const STORED_TIMES: &str = "trusted.glusterfs.mdata";
/// Told by SETXATTR: the times a brick shall store for a file that has none yet.
const SET_TIMES: &str = "set-ctime-mdata";
/// Process id of the client that sets them (`GF_CLIENT_PID_SET_UTIME`).
const SET_TIMES_PID: i32 = -13;

/// A name and an inode appear.
const CREATES: u32 = ATIME | CTIME | MTIME | PARENT_CTIME | PARENT_MTIME;
/// A name of an inode appears or goes.
const NAMES: u32 = CTIME | PARENT_CTIME | PARENT_MTIME;
/// Data changes.
const CONTENT: u32 = MTIME | CTIME;

/// The translator; see the module.
pub struct Utime {
    name: Arc<str>,
    children: [Arc<dyn Translator>; 1],
    /// Reading changes no atime.
    noatime: bool,
    key: ContextKey,
    clock: fn() -> Time,
}

impl Utime {
    /// Builds it from its volume; option `noatime` (default on) keeps reads from setting the access time.
    ///
    /// # Errors
    /// When the option is no boolean, or there is not exactly one child.
    pub fn new(volume: &Volume, children: Vec<Arc<dyn Translator>>, _: &Environment) -> Result<Arc<Self>, BuildError> {
        Self::with_clock(volume, children, now)
    }

    fn with_clock(
        volume: &Volume,
        children: Vec<Arc<dyn Translator>>,
        clock: fn() -> Time,
    ) -> Result<Arc<Self>, BuildError> {
        Ok(Arc::new(Utime {
            name: volume.name.clone(),
            children: BuildError::only_child(volume, children)?,
            noatime: volume.options.boolean("noatime")?.unwrap_or(true),
            key: ContextKey::unique(),
            clock,
        }))
    }

    /// The context for the child: these times shall be set, to now (or to the time that the caller has read already).
    fn stamped(&self, context: &Context, flags: u32) -> Context {
        let mut stamped = context.clone();
        stamped.time_flags = flags;
        if stamped.time == Time::default() {
            stamped.time = (self.clock)();
        }
        stamped
    }

    /// For fops that read.
    fn read_time<'a>(&self, context: &'a Context) -> Cow<'a, Context> {
        if self.noatime { Cow::Borrowed(context) } else { Cow::Owned(self.stamped(context, ATIME)) }
    }

    /// For COPY_FILE_RANGE, which reads one file and writes another.
    fn copy_time(&self, context: &Context) -> Context {
        self.stamped(context, if self.noatime { CONTENT } else { CONTENT | ATIME })
    }

    /// For SETATTR and FSETATTR. Times that are set travel in `stat`; the brick then takes the ctime of the context even
    /// without flags. A time that is "now" was read by the caller: ctime must be that moment too.
    fn attribute_time(&self, context: &Context, stat: &Iatt, valid: u32) -> Context {
        let owner_or_mode = set_attr::MODE | set_attr::UID | set_attr::GID;
        let flags = if valid == 0 || valid & owner_or_mode != 0 { CTIME } else { 0 };
        let mut stamped = self.stamped(context, flags);
        if valid & set_attr::ATIME_NOW != 0 {
            stamped.time = stat.atime;
        } else if valid & set_attr::MTIME_NOW != 0 {
            stamped.time = stat.mtime;
        }
        stamped
    }

    /// Gives a file from before ctime (or made on a brick by hand) its times, once per inode, while the caller goes on.
    /// Without it the first change of the file, even a chmod, would set all three times to that moment.
    fn store_times(&self, inode: &Arc<Inode>, stat: Iatt) {
        let begun = inode.contexts.get_or_insert_with(self.key, || AtomicBool::new(false));
        if begun.swap(true, Ordering::AcqRel) {
            return;
        }
        inode.identify(stat.gfid, stat.file_type());
        let (child, loc) = (self.child().clone(), Loc::inode(inode.clone()));
        let times = Mdata { atime: stat.atime, mtime: stat.mtime, ctime: stat.ctime };
        task::spawn(async move {
            let context = Context { pid: SET_TIMES_PID, ..Context::internal() };
            let dict = Dict::NULL.with(SET_TIMES, Value::Mdata(times));
            if let Err(error) = child.setxattr(&context, &loc, dict, 0, Dict::NULL).await {
                tracing::debug!("storing the times of {} failed: {error}", loc.gfid());
            }
        });
    }
}

/// The wall clock.
fn now() -> Time {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Time { sec: since.as_secs().try_into().unwrap_or(i64::MAX), nsec: since.subsec_nanos() },
        // Before 1970 there is nothing sensible to note.
        Err(_) => Time { sec: 0, nsec: 1 },
    }
}

#[async_trait]
impl Translator for Utime {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "features/utime"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &self.children
    }

    fn dump(&self, out: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {
        out("noatime", &self.noatime);
    }

    async fn lookup(&self, context: &Context, loc: &Loc, mut xdata: Dict) -> FopResult<LookupReply> {
        xdata.set(Bytes::from_static(STORED_TIMES.as_bytes()), Value::Int(1));
        let reply = self.child().lookup(context, loc, xdata).await?;
        if !reply.xdata.contains(STORED_TIMES) && !reply.stat.is_absent() {
            self.store_times(&loc.inode, reply.stat);
        }
        Ok(reply)
    }

    async fn truncate(&self, context: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.child().truncate(&self.stamped(context, CONTENT), loc, offset, xdata).await
    }

    async fn ftruncate(&self, context: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.child().ftruncate(&self.stamped(context, CONTENT), fd, offset, xdata).await
    }

    async fn mknod(
        &self,
        context: &Context,
        loc: &Loc,
        mode: u32,
        rdev: u64,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.child().mknod(&self.stamped(context, CREATES), loc, mode, rdev, umask, xdata).await
    }

    async fn mkdir(&self, context: &Context, loc: &Loc, mode: u32, umask: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.child().mkdir(&self.stamped(context, CREATES), loc, mode, umask, xdata).await
    }

    async fn unlink(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.child().unlink(&self.stamped(context, NAMES), loc, xflags, xdata).await
    }

    async fn rmdir(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.child().rmdir(&self.stamped(context, NAMES), loc, xflags, xdata).await
    }

    async fn symlink(
        &self,
        context: &Context,
        loc: &Loc,
        target: Bytes,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.child().symlink(&self.stamped(context, CREATES), loc, target, umask, xdata).await
    }

    async fn rename(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<RenameReply> {
        self.child().rename(&self.stamped(context, NAMES), old, new, xdata).await
    }

    async fn link(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        self.child().link(&self.stamped(context, NAMES), old, new, xdata).await
    }

    async fn create(
        &self,
        context: &Context,
        loc: &Loc,
        flags: i32,
        mode: u32,
        umask: u32,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        self.child().create(&self.stamped(context, CREATES), loc, flags, mode, umask, fd, xdata).await
    }

    async fn writev(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        self.child().writev(&self.stamped(context, CONTENT), fd, data, offset, flags, xdata).await
    }

    async fn setxattr(&self, context: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.child().setxattr(&self.stamped(context, CTIME), loc, dict, flags, xdata).await
    }

    async fn removexattr(&self, context: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.child().removexattr(&self.stamped(context, CTIME), loc, name, xdata).await
    }

    async fn fsetxattr(&self, context: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.child().fsetxattr(&self.stamped(context, CTIME), fd, dict, flags, xdata).await
    }

    async fn fremovexattr(&self, context: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.child().fremovexattr(&self.stamped(context, CTIME), fd, name, xdata).await
    }

    async fn fallocate(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        keep_size: bool,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().fallocate(&self.stamped(context, CONTENT), fd, keep_size, offset, len, xdata).await
    }

    async fn discard(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().discard(&self.stamped(context, CONTENT), fd, offset, len, xdata).await
    }

    async fn zerofill(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().zerofill(&self.stamped(context, CONTENT), fd, offset, len, xdata).await
    }

    async fn copy_file_range(
        &self,
        context: &Context,
        source: &Arc<Fd>,
        source_offset: u64,
        destination: &Arc<Fd>,
        destination_offset: u64,
        len: u32,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<CopyFileRangeReply> {
        self.child()
            .copy_file_range(
                &self.copy_time(context),
                source,
                source_offset,
                destination,
                destination_offset,
                len,
                flags,
                xdata,
            )
            .await
    }

    async fn open(&self, context: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let context = match flags & libc::O_TRUNC {
            0 => self.read_time(context),
            // The file loses its content.
            _ => Cow::Owned(self.stamped(context, CONTENT)),
        };
        self.child().open(&context, loc, flags, fd, xdata).await
    }

    async fn opendir(&self, context: &Context, loc: &Loc, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        self.child().opendir(&self.read_time(context), loc, fd, xdata).await
    }

    async fn readv(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<ReadReply> {
        self.child().readv(&self.read_time(context), fd, size, offset, flags, xdata).await
    }

    async fn setattr(
        &self,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().setattr(&self.attribute_time(context, stat, valid), loc, stat, valid, xdata).await
    }

    async fn fsetattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        self.child().fsetattr(&self.attribute_time(context, stat, valid), fd, stat, valid, xdata).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::volume;
    use crate::translators::testing::{Call, Recorder};
    use rgfs_protocol::{FileType, Gfid};

    const NOW: Time = Time { sec: 1000, nsec: 5 };

    fn utime(options: &[(&str, &str)]) -> (Arc<Utime>, Arc<Recorder>) {
        let child = Recorder::new("child");
        let volume = volume("features/utime", options);
        (Utime::with_clock(&volume, vec![child.clone()], || NOW).unwrap(), child)
    }

    /// Runs a fop of every kind; returns fop, flags and time of what the child got.
    fn all_fops(options: &[(&str, &str)]) -> Vec<(&'static str, u32, Time)> {
        let (top, child) = utime(options);
        task::spawn(async move {
            let c = &Context::internal();
            let loc = &Loc::inode(Inode::fresh());
            let fd = &Fd::new(Inode::fresh(), 0, 1);
            let (n, stat) = (|| Dict::NULL, &Iatt::default());
            let _ = top.create(c, loc, 0, 0, 0, fd, n()).await;
            let _ = top.mknod(c, loc, 0, 0, 0, n()).await;
            let _ = top.mkdir(c, loc, 0, 0, n()).await;
            let _ = top.symlink(c, loc, Bytes::new(), 0, n()).await;
            let _ = top.unlink(c, loc, 0, n()).await;
            let _ = top.rmdir(c, loc, 0, n()).await;
            let _ = top.link(c, loc, loc, n()).await;
            let _ = top.rename(c, loc, loc, n()).await;
            let _ = top.writev(c, fd, Payload::new(), 0, 0, n()).await;
            let _ = top.truncate(c, loc, 0, n()).await;
            let _ = top.ftruncate(c, fd, 0, n()).await;
            let _ = top.discard(c, fd, 0, 1, n()).await;
            let _ = top.fallocate(c, fd, false, 0, 1, n()).await;
            let _ = top.zerofill(c, fd, 0, 1, n()).await;
            let _ = top.copy_file_range(c, fd, 0, fd, 0, 1, 0, n()).await;
            let _ = top.setxattr(c, loc, n(), 0, n()).await;
            let _ = top.fsetxattr(c, fd, n(), 0, n()).await;
            let _ = top.removexattr(c, loc, "", n()).await;
            let _ = top.fremovexattr(c, fd, "", n()).await;
            let _ = top.setattr(c, loc, stat, set_attr::MODE, n()).await;
            let _ = top.fsetattr(c, fd, stat, set_attr::UID | set_attr::MTIME, n()).await;
            let _ = top.open(c, loc, 0, fd, n()).await;
            let _ = top.opendir(c, loc, fd, n()).await;
            let _ = top.readv(c, fd, 1, 0, 0, n()).await;
            let _ = top.stat(c, loc, n()).await;
            let _ = top.fsync(c, fd, false, n()).await;
        });
        child.take_calls().iter().map(|call| (call.fop, call.context.time_flags, call.context.time)).collect()
    }

    #[test]
    fn every_fop_has_its_flags() {
        let expected = [
            ("create", 0x1f),
            ("mknod", 0x1f),
            ("mkdir", 0x1f),
            ("symlink", 0x1f),
            ("unlink", 0x19),
            ("rmdir", 0x19),
            ("link", 0x19),
            ("rename", 0x19),
            ("writev", 0x03),
            ("truncate", 0x03),
            ("ftruncate", 0x03),
            ("discard", 0x03),
            ("fallocate", 0x03),
            ("zerofill", 0x03),
            ("copy_file_range", 0x03),
            ("setxattr", 0x01),
            ("fsetxattr", 0x01),
            ("removexattr", 0x01),
            ("fremovexattr", 0x01),
            ("setattr", 0x01),
            ("fsetattr", 0x01),
            ("open", 0),
            ("opendir", 0),
            ("readv", 0),
            ("stat", 0),
            ("fsync", 0),
        ];
        let found = all_fops(&[]);
        assert_eq!(found.iter().map(|(fop, flags, _)| (*fop, *flags)).collect::<Vec<_>>(), expected);
        assert!(found.iter().all(|(_, flags, time)| (*flags == 0) == (*time != NOW)), "{found:?}");
    }

    #[test]
    fn reading_sets_the_access_time_when_noatime_is_off() {
        let flags = |fop| all_fops(&[("noatime", "off")]).into_iter().find(|call| call.0 == fop).unwrap().1;
        assert_eq!(["open", "opendir", "readv", "copy_file_range", "stat"].map(flags), [4, 4, 4, 7, 0]);
    }

    #[test]
    fn the_moment_of_touch_is_the_one_that_the_caller_read() {
        let (atime, mtime) = (Time { sec: 7, nsec: 1 }, Time { sec: 8, nsec: 2 });
        let stat = Iatt { atime, mtime, ..Iatt::default() };
        let (top, _) = utime(&[]);
        let times = set_attr::ATIME | set_attr::MTIME;
        for (valid, flags, time) in [
            (times | set_attr::ATIME_NOW | set_attr::MTIME_NOW, 0, atime),
            (times | set_attr::MTIME_NOW, 0, mtime),
            (times, 0, NOW),
            (0, CTIME, NOW),
            (set_attr::GID | set_attr::MTIME_NOW | set_attr::MTIME, CTIME, mtime),
        ] {
            let stamped = top.attribute_time(&Context::internal(), &stat, valid);
            assert_eq!((stamped.time_flags, stamped.time), (flags, time), "{valid:#x}");
        }
    }

    #[test]
    fn a_time_that_was_read_already_is_kept() {
        let (top, _) = utime(&[]);
        let context = Context { time: Time { sec: 3, nsec: 3 }, ..Context::internal() };
        assert_eq!(top.stamped(&context, CONTENT).time, context.time);
    }

    fn look_up(top: &Arc<Utime>, inode: &Arc<Inode>) {
        let (top, loc) = (top.clone(), Loc::inode(inode.clone()));
        task::spawn(async move {
            let _ = top.lookup(&Context { uid: 5, ..Context::internal() }, &loc, Dict::NULL).await;
        });
    }

    fn found(stored: bool) -> impl Fn(&Call) -> FopResult<LookupReply> {
        move |call| {
            assert_eq!(call.xdata.int(STORED_TIMES), Some(1));
            let stat = Iatt { gfid: Gfid([7; 16]), flags: 1, mode: 0o100_644, mtime: NOW, ..Iatt::default() };
            let xdata = if stored { Dict::NULL.with(STORED_TIMES, Value::Ptr(Bytes::new())) } else { Dict::NULL };
            Ok(LookupReply { stat, xdata, ..LookupReply::default() })
        }
    }

    #[test]
    fn a_file_without_stored_times_gets_them_once() {
        let (top, child) = utime(&[]);
        child.on("lookup", found(false));
        let inode = Inode::fresh();
        look_up(&top, &inode);
        look_up(&top, &inode);
        assert_eq!(child.fops(), ["lookup", "setxattr", "lookup"]);
        let stored = &child.take_calls()[1];
        assert_eq!((stored.context.pid, stored.context.uid, stored.context.time_flags), (-13, 0, 0));
        let times = Mdata { mtime: NOW, ..Mdata::default() };
        assert_eq!(stored.dict.get(SET_TIMES), Some(&Value::Mdata(times)));
        assert_eq!((inode.gfid(), inode.file_type()), (Gfid([7; 16]), FileType::Regular));
    }

    #[test]
    fn a_file_with_stored_times_or_none_at_all_is_left_alone() {
        let (top, child) = utime(&[]);
        child.on("lookup", found(true));
        look_up(&top, &Inode::fresh());
        child.on("lookup", |_| Ok(LookupReply::default()));
        look_up(&top, &Inode::fresh());
        child.fail("lookup", rgfs_protocol::Errno::ENOENT);
        look_up(&top, &Inode::fresh());
        assert_eq!(child.fops(), ["lookup", "lookup", "lookup"]);
    }

    #[test]
    fn the_lookup_does_not_wait_for_the_storing() {
        let (top, child) = utime(&[]);
        child.on("lookup", found(false));
        let never = child.hold("setxattr");
        let done = Arc::new(AtomicBool::new(false));
        let finished = done.clone();
        task::spawn(async move {
            let _ = top.lookup(&Context::internal(), &Loc::inode(Inode::fresh()), Dict::NULL).await;
            finished.store(true, Ordering::SeqCst);
        });
        assert!(done.load(Ordering::SeqCst));
        drop(never);
    }
}
