//! The `Filesystem` of `fuser`: each handler starts an operation of [`FileSystem`] and goes back to its loop.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileAttr, FileHandle, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, TimeOrNow, WriteFlags,
};
use rgfs_protocol::{Errno, FileType};

use super::answer::{Discard, Refuse, Request, start};
use super::convert;
use super::write_buffers::WriteBuffers;
use crate::fuse::file_system::{Attributed, Entry, Opened, RenameMode, SetAttributes};
use crate::fuse::in_flight::{Interrupt, Kind};
use crate::fuse::locks::LockRange;
use crate::fuse::{Caller, FileSystem};
use crate::{FopResult, reply::Payload};

/// What `fuser` drives.
pub(super) struct Adapter {
    file_system: Arc<FileSystem>,
    runtime: tokio::runtime::Handle,
    buffers: Arc<WriteBuffers>,
}

impl Adapter {
    pub(super) fn new(file_system: Arc<FileSystem>, runtime: tokio::runtime::Handle) -> Self {
        Adapter { file_system, runtime, buffers: Arc::default() }
    }

    /// Starts `operation` on behalf of `request`.
    fn run<R, T, F>(
        &self,
        name: &'static str,
        request: &fuser::Request,
        reply: R,
        operation: impl FnOnce(Arc<FileSystem>, Caller) -> F,
        respond: impl FnOnce(&FileSystem, R, T) + Send + 'static,
    ) where
        R: Refuse,
        T: Discard,
        F: Future<Output = FopResult<T>> + Send + 'static,
    {
        self.run_as(Kind::Ordinary, name, request, reply, operation, respond);
    }

    fn run_as<R, T, F>(
        &self,
        kind: Kind,
        name: &'static str,
        request: &fuser::Request,
        reply: R,
        operation: impl FnOnce(Arc<FileSystem>, Caller) -> F,
        respond: impl FnOnce(&FileSystem, R, T) + Send + 'static,
    ) where
        R: Refuse,
        T: Discard,
        F: Future<Output = FopResult<T>> + Send + 'static,
    {
        // For translators that use timers.
        let _entered = self.runtime.enter();
        let caller = convert::caller(request);
        let operation = operation(self.file_system.clone(), caller.clone());
        start(self.file_system.clone(), Request { name, caller, kind, reply }, operation, respond);
    }
}

fn bytes(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn done(_: &FileSystem, reply: ReplyEmpty, (): ()) {
    reply.ok();
}

fn attributes(_: &FileSystem, reply: ReplyAttr, found: Attributed) {
    reply.attr(&found.ttl, &convert::attributes(&found.attributes));
}

fn entry(_: &FileSystem, reply: ReplyEntry, entry: Entry) {
    let attributes = convert::attributes(&entry.attributes);
    reply.entry_with_ttls(&entry.attribute_ttl, &entry.entry_ttl, &attributes, Generation(entry.generation));
}

/// nodeid 0: "no such name, and you may remember that".
fn negative(file_system: &FileSystem, reply: ReplyEntry) {
    let nothing = FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: fuser::FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    };
    let ttl = file_system.options().negative_timeout;
    reply.entry_with_ttls(&Duration::ZERO, &ttl, &nothing, Generation(0));
}

fn open_flags(opened: &Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct_io);
    flags.set(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES, opened.direct_io);
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags
}

fn opened(_: &FileSystem, reply: ReplyOpen, opened: Opened) {
    reply.opened(FileHandle(opened.handle), open_flags(&opened));
}

fn data(file_system: &FileSystem, reply: ReplyData, payload: Payload) {
    match payload.as_slice() {
        [] => reply.data(&[]),
        [whole] => reply.data(whole),
        // `fuser` takes one slice.
        pieces => {
            let whole = pieces.concat();
            file_system.counters().bytes_copied.fetch_add(whole.len() as u64, Ordering::Relaxed);
            reply.data(&whole);
        }
    }
}

/// The two steps of getxattr(2): a size of 0 asks for the length.
fn xattr(size: u32) -> impl FnOnce(&FileSystem, ReplyXattr, Bytes) {
    move |_, reply, value| match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(&value),
        _ => reply.error(fuser::Errno::ERANGE),
    }
}

impl fuser::Filesystem for Adapter {
    fn init(&mut self, _: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        let options = self.file_system.options();
        let mut wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_BIG_WRITES
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_POSIX_LOCKS
            | InitFlags::FUSE_FLOCK_LOCKS
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_AUTO_INVAL_DATA
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_CACHE_SYMLINKS;
        // Not READDIRPLUS_AUTO: a program that reads all names before it asks for attributes (`find -size`, `du`, `rm -r`: all of
        // fts(3)) would then get them for the first names alone, and a LOOKUP for each of the others.
        wanted.set(InitFlags::FUSE_DO_READDIRPLUS, options.use_readdirp);
        wanted.set(InitFlags::FUSE_WRITEBACK_CACHE, options.writeback_cache);
        wanted.set(InitFlags::FUSE_POSIX_ACL, options.acl);
        wanted.set(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP, options.direct_io);
        // Not ATOMIC_O_TRUNC, though it saves a round trip: the kernel then sends O_TRUNC before it sees that the file is a
        // program that runs, answers ETXTBSY, and the program has lost its text.
        // What the kernel lacks is left out. Never here: OVER_IO_URING (fuser registers no rings, the mount would hang),
        // SETXATTR_EXT, SECURITY_CTX and CREATE_SUPP_GROUP (fuser does not parse the longer requests).
        let granted = wanted & config.capabilities();
        let _ = config.add_capabilities(granted);
        if options.acl && !granted.contains(InitFlags::FUSE_POSIX_ACL) {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let _ = config.set_max_write(options.max_write.clamp(4096, 1 << 20));
        let _ = config.set_max_background(options.background_queue.max(1));
        if let Err(nearest) = config.set_time_granularity(options.time_granularity.max(Duration::from_nanos(1))) {
            // The kernel takes powers of ten.
            let _ = config.set_time_granularity(nearest);
        }
        let congestion = options.congestion_threshold.unwrap_or(options.background_queue / 4 * 3);
        let _ = config.set_congestion_threshold(congestion.max(1));
        Ok(())
    }

    fn lookup(&self, request: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = bytes(name);
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.lookup(&caller, parent.0, name).await };
        self.run("LOOKUP", request, reply, operation, |fs, reply, found| match found {
            Some(found) => entry(fs, reply, found),
            None => negative(fs, reply),
        });
    }

    fn forget(&self, _: &fuser::Request, nodeid: INodeNo, count: u64) {
        self.file_system.forget(nodeid.0, count);
    }

    fn getattr(&self, request: &fuser::Request, nodeid: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let handle = handle.map(|handle| handle.0);
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.getattr(&caller, nodeid.0, handle).await };
        self.run("GETATTR", request, reply, operation, attributes);
    }

    fn setattr(
        &self,
        request: &fuser::Request,
        nodeid: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = SetAttributes {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(convert::set_time),
            mtime: mtime.map(convert::set_time),
            handle: handle.map(|handle| handle.0),
        };
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.setattr(&caller, nodeid.0, change).await };
        self.run("SETATTR", request, reply, operation, attributes);
    }

    fn readlink(&self, request: &fuser::Request, nodeid: INodeNo, reply: ReplyData) {
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.readlink(&caller, nodeid.0).await };
        self.run("READLINK", request, reply, operation, |_, reply, target: Bytes| reply.data(&target));
    }

    fn mknod(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let name = bytes(name);
        let operation = move |fs: Arc<FileSystem>, caller| async move {
            fs.mknod(&caller, parent.0, name, mode, umask, device).await
        };
        self.run("MKNOD", request, reply, operation, entry);
    }

    fn mkdir(&self, request: &fuser::Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let name = bytes(name);
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.mkdir(&caller, parent.0, name, mode, umask).await };
        self.run("MKDIR", request, reply, operation, entry);
    }

    fn unlink(&self, request: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.unlink(&caller, parent.0, name).await };
        self.run("UNLINK", request, reply, operation, done);
    }

    fn rmdir(&self, request: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.rmdir(&caller, parent.0, name).await };
        self.run("RMDIR", request, reply, operation, done);
    }

    fn symlink(&self, request: &fuser::Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (bytes(name), bytes(target.as_os_str()));
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.symlink(&caller, parent.0, name, target).await };
        self.run("SYMLINK", request, reply, operation, entry);
    }

    fn rename(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            flags if flags.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            _ => RenameMode::Unsupported,
        };
        let (old, new) = ((parent.0, bytes(name)), (new_parent.0, bytes(new_name)));
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.rename(&caller, old, new, mode).await };
        self.run("RENAME", request, reply, operation, done);
    }

    fn link(&self, request: &fuser::Request, nodeid: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = bytes(name);
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.link(&caller, nodeid.0, parent.0, name).await };
        self.run("LINK", request, reply, operation, entry);
    }

    fn open(&self, request: &fuser::Request, nodeid: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.open(&caller, nodeid.0, flags.0).await };
        self.run("OPEN", request, reply, operation, opened);
    }

    fn read(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let owner = owner.map(|owner| owner.0);
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.read(&caller, handle.0, offset, size, owner).await };
        self.run("READ", request, reply, operation, data);
    }

    fn write(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = self.buffers.copy(data);
        let owner = owner.map(|owner| owner.0);
        let drop_privileges = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        // A page that the kernel writes back by itself must not be lost because somebody is killed.
        let kind = if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) { Kind::Kernel } else { Kind::Ordinary };
        let operation = move |fs: Arc<FileSystem>, caller| async move {
            fs.write(&caller, handle.0, offset, data, owner, drop_privileges).await
        };
        self.run_as(kind, "WRITE", request, reply, operation, |_, reply: ReplyWrite, written| reply.written(written));
    }

    fn flush(&self, request: &fuser::Request, _: INodeNo, handle: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.flush(&caller, handle.0, owner.0).await };
        self.run("FLUSH", request, reply, operation, done);
    }

    fn release(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
        let _entered = self.runtime.enter();
        self.file_system.release(handle.0);
    }

    fn fsync(&self, request: &fuser::Request, _: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.fsync(&caller, handle.0, datasync).await };
        self.run("FSYNC", request, reply, operation, done);
    }

    fn opendir(&self, request: &fuser::Request, nodeid: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.opendir(&caller, nodeid.0, flags.0).await };
        self.run("OPENDIR", request, reply, operation, opened);
    }

    fn readdir(&self, request: &fuser::Request, _: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectory) {
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.list(&caller, handle.0, offset, false).await };
        self.run("READDIR", request, reply, operation, |fs, mut reply: ReplyDirectory, listing| {
            fs.deliver(listing, false, |found| {
                let name = OsStr::from_bytes(&found.name);
                !reply.add(INodeNo(found.ino), found.offset, convert::kind(found.kind), name)
            });
            reply.ok();
        });
    }

    fn readdirplus(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.list(&caller, handle.0, offset, true).await };
        self.run("READDIRPLUS", request, reply, operation, |fs, mut reply: ReplyDirectoryPlus, listing| {
            fs.deliver(listing, true, |found| {
                let name = OsStr::from_bytes(&found.name);
                let (attributes, ttl, generation) = match &found.entry {
                    Some(entry) => {
                        let ttl = entry.entry_ttl.min(entry.attribute_ttl);
                        (convert::attributes(&entry.attributes), ttl, entry.generation)
                    }
                    // `.` and `..`, and names that could not be looked up: the kernel takes the number and the type alone.
                    None => (numbered(found.ino, found.kind), Duration::ZERO, 0),
                };
                !reply.add(INodeNo(found.ino), found.offset, name, &ttl, &attributes, Generation(generation))
            });
            reply.ok();
        });
    }

    fn releasedir(&self, _: &fuser::Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        reply.ok();
        let _entered = self.runtime.enter();
        self.file_system.releasedir(handle.0);
    }

    fn fsyncdir(&self, request: &fuser::Request, _: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.fsyncdir(&caller, handle.0, datasync).await };
        self.run("FSYNCDIR", request, reply, operation, done);
    }

    fn statfs(&self, request: &fuser::Request, nodeid: INodeNo, reply: ReplyStatfs) {
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.statfs(&caller, nodeid.0).await };
        self.run("STATFS", request, reply, operation, |_, reply, figures| {
            let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
            reply.statfs(
                figures.blocks,
                figures.bfree,
                figures.bavail,
                figures.files,
                figures.ffree,
                small(figures.bsize),
                small(figures.namemax),
                small(figures.frsize),
            );
        });
    }

    fn setxattr(
        &self,
        request: &fuser::Request,
        nodeid: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let (name, value) = (bytes(name), Bytes::copy_from_slice(value));
        let operation = move |fs: Arc<FileSystem>, caller| async move {
            fs.setxattr(&caller, nodeid.0, &name, &value, flags).await
        };
        self.run("SETXATTR", request, reply, operation, done);
    }

    fn getxattr(&self, request: &fuser::Request, nodeid: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = bytes(name);
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.getxattr(&caller, nodeid.0, &name).await };
        self.run("GETXATTR", request, reply, operation, xattr(size));
    }

    fn listxattr(&self, request: &fuser::Request, nodeid: INodeNo, size: u32, reply: ReplyXattr) {
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.listxattr(&caller, nodeid.0).await };
        self.run("LISTXATTR", request, reply, operation, xattr(size));
    }

    fn removexattr(&self, request: &fuser::Request, nodeid: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.removexattr(&caller, nodeid.0, &name).await };
        self.run("REMOVEXATTR", request, reply, operation, done);
    }

    fn access(&self, request: &fuser::Request, nodeid: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let mask = mask.bits() as u32;
        let operation = move |fs: Arc<FileSystem>, caller| async move { fs.access(&caller, nodeid.0, mask).await };
        self.run("ACCESS", request, reply, operation, done);
    }

    fn create(
        &self,
        request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let name = bytes(name);
        let operation = move |fs: Arc<FileSystem>, caller| async move {
            fs.create(&caller, parent.0, name, mode, umask, flags).await
        };
        self.run("CREATE", request, reply, operation, |_, reply: ReplyCreate, (entry, opened): (Entry, Opened)| {
            let ttl = entry.entry_ttl.min(entry.attribute_ttl);
            let attributes = convert::attributes(&entry.attributes);
            let generation = Generation(entry.generation);
            reply.created(&ttl, &attributes, generation, FileHandle(opened.handle), open_flags(&opened));
        });
    }

    fn getlk(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        let Some(kind) = LockRange::kind_from_fcntl(kind) else { return reply.refuse(Errno::EINVAL) };
        let range = LockRange { start, end, kind, pid };
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.getlk(&caller, handle.0, owner.0, range).await };
        self.run("GETLK", request, reply, operation, |_, reply: ReplyLock, held: LockRange| {
            reply.locked(held.start, held.end, held.kind_to_fcntl(), held.pid);
        });
    }

    fn setlk(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let Some(kind) = LockRange::kind_from_fcntl(kind) else { return reply.refuse(Errno::EINVAL) };
        let range = LockRange { start, end, kind, pid };
        let interrupt = sleep.then(|| Arc::new(Interrupt::default()));
        let (name, waits) = match &interrupt {
            Some(interrupt) => ("SETLKW", Kind::Lock(interrupt.clone())),
            None => ("SETLK", Kind::Ordinary),
        };
        let operation = move |fs: Arc<FileSystem>, caller| async move {
            fs.setlk(&caller, handle.0, owner.0, range, interrupt).await
        };
        self.run_as(waits, name, request, reply, operation, done);
    }

    fn ioctl(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let operation = move |fs: Arc<FileSystem>, caller| async move {
            fs.fallocate(&caller, handle.0, offset, length, mode).await
        };
        self.run("FALLOCATE", request, reply, operation, done);
    }

    fn lseek(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.seek(&caller, handle.0, offset, whence).await };
        self.run("LSEEK", request, reply, operation, |_, reply: ReplyLseek, at: u64| {
            reply.offset(i64::try_from(at).unwrap_or(i64::MAX));
        });
    }

    fn copy_file_range(
        &self,
        request: &fuser::Request,
        _: INodeNo,
        source: FileHandle,
        source_offset: u64,
        _: INodeNo,
        destination: FileHandle,
        destination_offset: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((source.0, source_offset), (destination.0, destination_offset));
        let operation =
            move |fs: Arc<FileSystem>, caller| async move { fs.copy_file_range(&caller, from, to, length).await };
        self.run("COPY_FILE_RANGE", request, reply, operation, |_, reply: ReplyWrite, copied| reply.written(copied));
    }
}

/// Attributes of `.` and `..` in a listing.
fn numbered(ino: u64, kind: FileType) -> FileAttr {
    let stat = rgfs_protocol::Iatt { mode: kind.to_mode(), ..rgfs_protocol::Iatt::default() };
    convert::attributes(&crate::fuse::attributes::Attributes::new(&stat, ino))
}
