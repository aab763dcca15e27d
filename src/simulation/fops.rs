//! The fops of a [`Connection`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::open_flags::host;
use rgfs_protocol::types::{
    EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, LockType, SeekWhat, XattropFlags,
};
use rgfs_protocol::{Dict, Iatt};

use super::brick::{Call, Target};
use super::connection::Connection;
use super::requests::{gfid_of, lock_text};
use super::storage::Change;
use crate::event::EventSource;
use crate::reply::*;
use crate::{Context, Fd, FopResult, Loc, Translator};

#[async_trait]
impl Translator for Connection {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "protocol/client"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &[]
    }

    fn events(&self) -> &EventSource {
        &self.events
    }

    fn abandon(&self, fd: &Fd) {
        self.close(fd);
    }

    async fn lookup(&self, c: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        let gfid = loc.gfid();
        let at = loc.parent.as_ref().map(|parent| (parent.gfid(), loc.name.clone()));
        let call = match &at {
            Some((parent, name)) => Call { name: Some(name.clone()), ..self.call("LOOKUP", c, *parent, &xdata) },
            None => self.call("LOOKUP", c, gfid, &xdata),
        };
        self.ask(c, call, move |brick, _| brick.lookup(gfid, at.as_ref().map(|(parent, name)| (*parent, name)), &xdata))
            .await
    }

    async fn stat(&self, c: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        let target = Target::Inode(loc.gfid());
        let call = self.call("STAT", c, loc.gfid(), &xdata);
        self.ask(c, call, move |brick, caller| brick.stat(caller, target, &xdata)).await
    }

    async fn fstat(&self, c: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        let target = self.target(fd, "FSTAT")?;
        let call = self.call("FSTAT", c, gfid_of(target), &xdata);
        self.ask(c, call, move |brick, caller| brick.stat(caller, target, &xdata)).await
    }

    async fn truncate(&self, c: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        self.changed(c, ("TRUNCATE", Target::Inode(loc.gfid())), Change::Size(offset), xdata).await
    }

    async fn ftruncate(&self, c: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        let target = self.target(fd, "FTRUNCATE")?;
        self.changed(c, ("FTRUNCATE", target), Change::Size(offset), xdata).await
    }

    async fn access(&self, c: &Context, loc: &Loc, mask: u32, xdata: Dict) -> FopResult<Dict> {
        let gfid = loc.gfid();
        let call = self.call("ACCESS", c, gfid, &xdata);
        self.ask(c, call, move |brick, caller| brick.access(caller, gfid, mask)).await
    }

    async fn readlink(&self, c: &Context, loc: &Loc, size: u32, xdata: Dict) -> FopResult<ReadlinkReply> {
        let gfid = loc.gfid();
        let call = self.call("READLINK", c, gfid, &xdata);
        self.ask(c, call, move |brick, caller| brick.readlink(caller, gfid, size)).await
    }

    async fn mknod(&self, c: &Context, loc: &Loc, mode: u32, rdev: u64, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.made(c, ("MKNOD", loc), (mode, rdev), Bytes::new(), xdata).await
    }

    async fn mkdir(&self, c: &Context, loc: &Loc, mode: u32, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.made(c, ("MKDIR", loc), (mode & 0o7777 | 0o040_000, 0), Bytes::new(), xdata).await
    }

    async fn unlink(&self, c: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.removed(c, ("UNLINK", loc), xflags, xdata).await
    }

    async fn rmdir(&self, c: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        self.removed(c, ("RMDIR", loc), xflags, xdata).await
    }

    async fn symlink(&self, c: &Context, loc: &Loc, target: Bytes, _: u32, xdata: Dict) -> FopResult<EntryReply> {
        self.made(c, ("SYMLINK", loc), (0o120_777, 0), target, xdata).await
    }

    async fn rename(&self, c: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<RenameReply> {
        let from = (old.parent_gfid(), old.name.clone());
        let to = (new.parent_gfid(), new.name.clone());
        let call = Call { name: Some(from.1.clone()), ..self.call("RENAME", c, from.0, &xdata) };
        let call = self.detailed(call, format_args!("-> {} {:?}", to.0, String::from_utf8_lossy(&to.1)));
        self.ask(c, call, move |brick, caller| brick.rename(caller, (from.0, &from.1), (to.0, &to.1), &xdata)).await
    }

    async fn link(&self, c: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        let (gfid, parent, name) = (old.gfid(), new.parent_gfid(), new.name.clone());
        let call = Call { name: Some(name.clone()), ..self.call("LINK", c, parent, &xdata) };
        self.ask(c, call, move |brick, caller| brick.link(caller, gfid, (parent, &name), &xdata)).await
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
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        let call = Call { name: Some(name.clone()), ..self.call("CREATE", c, parent, &xdata) };
        let answer = self.ask(c, call, move |brick, caller| brick.create(caller, (parent, &name), flags, mode, &xdata));
        let (reply, number) = answer.await?;
        self.opened(fd, reply.stat.gfid, flags, number);
        Ok(reply)
    }

    async fn open(&self, c: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let gfid = loc.gfid();
        let call = self.detailed(self.call("OPEN", c, gfid, &xdata), format_args!("flags={flags:#o}"));
        let answer = self.ask(c, call, move |brick, caller| {
            let reply = brick.open(caller, gfid, flags, &xdata)?;
            Ok((reply, brick.open_file(caller.session, gfid, flags)))
        });
        let (reply, number) = answer.await?;
        self.opened(fd, gfid, flags, number);
        Ok(reply)
    }

    async fn readv(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        _: u32,
        xdata: Dict,
    ) -> FopResult<ReadReply> {
        let target = self.target(fd, "READ")?;
        let call = Call { offset, size: size.into(), ..self.call("READ", c, gfid_of(target), &xdata) };
        let call = self.detailed(call, format_args!("off={offset} size={size}"));
        self.ask(c, call, move |brick, caller| brick.read(caller, target, offset, size)).await
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
        let target = self.target(fd, "WRITE")?;
        let data: Vec<u8> = data.iter().flatten().copied().collect();
        let size = data.len() as u64;
        let call = Call { offset, size, ..self.call("WRITE", c, gfid_of(target), &xdata) };
        let call = self.detailed(call, format_args!("off={offset} size={size}"));
        self.ask(c, call, move |brick, caller| brick.write(caller, target, &data, offset, flags, &xdata)).await
    }

    async fn flush(&self, c: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        // close(2) ends the owner's locks on the file, whatever the brick says.
        self.locks().release_owner(fd.gfid(), &c.lock_owner);
        let target = self.target(fd, "FLUSH")?;
        let call = self.call("FLUSH", c, gfid_of(target), &xdata);
        self.ask(c, call, move |brick, caller| brick.flush(caller, target)).await
    }

    async fn fsync(&self, c: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        let target = self.target(fd, "FSYNC")?;
        let call = self.call("FSYNC", c, gfid_of(target), &xdata);
        let call = self.detailed(call, format_args!("datasync={}", u8::from(datasync)));
        self.ask(c, call, move |brick, caller| brick.fsync(caller, target, &xdata)).await
    }

    async fn opendir(&self, c: &Context, loc: &Loc, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let gfid = loc.gfid();
        let call = self.call("OPENDIR", c, gfid, &xdata);
        let (reply, number) = self.ask(c, call, move |brick, caller| brick.opendir(caller, gfid)).await?;
        self.opened(fd, gfid, host::O_DIRECTORY, number);
        Ok(reply)
    }

    async fn fsyncdir(&self, c: &Context, fd: &Arc<Fd>, _: bool, xdata: Dict) -> FopResult<Dict> {
        let target = self.target(fd, "FSYNCDIR")?;
        let call = self.call("FSYNCDIR", c, gfid_of(target), &xdata);
        self.ask(c, call, move |brick, caller| brick.find(caller, target).map(|_| Dict::NULL)).await
    }

    async fn readdir(&self, c: &Context, fd: &Arc<Fd>, size: u32, offset: u64, xdata: Dict) -> FopResult<ReaddirReply> {
        let plus = self.list(c, ("READDIR", fd), size, offset, xdata).await?;
        let entries = plus.entries.into_iter().map(|entry| entry.entry).collect();
        Ok(ReaddirReply { entries, end: plus.end, xdata: plus.xdata })
    }

    async fn readdirp(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        self.list(c, ("READDIRP", fd), size, offset, xdata).await
    }

    async fn statfs(&self, c: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatfsReply> {
        let call = self.call("STATFS", c, loc.gfid(), &xdata);
        self.ask(c, call, move |brick, _| brick.statfs()).await
    }

    async fn setxattr(&self, c: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        self.xattrs_set(c, ("SETXATTR", Target::Inode(loc.gfid())), dict, flags, xdata).await
    }

    async fn getxattr(&self, c: &Context, loc: &Loc, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        self.xattrs_got(c, ("GETXATTR", Target::Inode(loc.gfid())), name, xdata).await
    }

    async fn removexattr(&self, c: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        self.xattr_removed(c, ("REMOVEXATTR", Target::Inode(loc.gfid())), name, xdata).await
    }

    async fn fsetxattr(&self, c: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        let target = self.target(fd, "FSETXATTR")?;
        self.xattrs_set(c, ("FSETXATTR", target), dict, flags, xdata).await
    }

    async fn fgetxattr(&self, c: &Context, fd: &Arc<Fd>, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        let target = self.target(fd, "FGETXATTR")?;
        self.xattrs_got(c, ("FGETXATTR", target), name, xdata).await
    }

    async fn fremovexattr(&self, c: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        let target = self.target(fd, "FREMOVEXATTR")?;
        self.xattr_removed(c, ("FREMOVEXATTR", target), name, xdata).await
    }

    async fn lk(&self, c: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, xdata: Dict) -> FopResult<LkReply> {
        let unlock = flock.kind == LockType::Unlock;
        let call = Call { unlock, offset: flock.start, size: flock.len, ..self.call("LK", c, fd.gfid(), &xdata) };
        if cmd == LkCmd::GetLk {
            let target = self.target(fd, "LK")?;
            let call = self.detailed(call, format_args!("GETLK {},{}", flock.start, flock.len));
            return self.ask(c, call, move |brick, caller| brick.test_lock(caller, target, &flock)).await;
        }
        let call = self.detailed(call, lock_text(cmd == LkCmd::SetLkW, &flock));
        self.change_lock(c, fd, cmd, flock, call).await
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
        self.range_lock(c, "INODELK", (Target::Inode(loc.gfid()), volume), cmd, flock, xdata).await
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
        let target = self.target(fd, "FINODELK")?;
        self.range_lock(c, "FINODELK", (target, volume), cmd, flock, xdata).await
    }

    async fn entrylk(
        &self,
        c: &Context,
        volume: &str,
        loc: &Loc,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        self.name_lock(c, "ENTRYLK", (Target::Inode(loc.gfid()), volume), name, (cmd, kind), xdata).await
    }

    async fn fentrylk(
        &self,
        c: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let target = self.target(fd, "FENTRYLK")?;
        self.name_lock(c, "FENTRYLK", (target, volume), name, (cmd, kind), xdata).await
    }

    async fn xattrop(
        &self,
        c: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.xattr_change(c, ("XATTROP", Target::Inode(loc.gfid())), flags, dict, xdata).await
    }

    async fn fxattrop(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let target = self.target(fd, "FXATTROP")?;
        self.xattr_change(c, ("FXATTROP", target), flags, dict, xdata).await
    }

    async fn rchecksum(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        let target = self.target(fd, "RCHECKSUM")?;
        let call = Call { offset, size: len.into(), ..self.call("RCHECKSUM", c, gfid_of(target), &xdata) };
        let call = self.detailed(call, format_args!("off={offset} size={len}"));
        self.ask(c, call, move |brick, caller| brick.checksum(caller, target, offset, len)).await
    }

    async fn setattr(&self, c: &Context, loc: &Loc, stat: &Iatt, valid: u32, xdata: Dict) -> FopResult<PrePostReply> {
        self.attributes(c, ("SETATTR", Target::Inode(loc.gfid())), stat, valid, xdata).await
    }

    async fn fsetattr(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let target = self.target(fd, "FSETATTR")?;
        self.attributes(c, ("FSETATTR", target), stat, valid, xdata).await
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
        let target = self.target(fd, "FALLOCATE")?;
        self.changed(c, ("FALLOCATE", target), Change::Allocate { keep_size, offset, len }, xdata).await
    }

    async fn discard(&self, c: &Context, fd: &Arc<Fd>, offset: u64, len: u64, xdata: Dict) -> FopResult<PrePostReply> {
        let target = self.target(fd, "DISCARD")?;
        self.changed(c, ("DISCARD", target), Change::Discard { offset, len }, xdata).await
    }

    async fn zerofill(&self, c: &Context, fd: &Arc<Fd>, offset: u64, len: u64, xdata: Dict) -> FopResult<PrePostReply> {
        let target = self.target(fd, "ZEROFILL")?;
        self.changed(c, ("ZEROFILL", target), Change::Zero { offset, len }, xdata).await
    }

    async fn ipc(&self, _: &Context, _: i32, _: Dict) -> FopResult<Dict> {
        Ok(Dict::NULL)
    }

    async fn seek(&self, c: &Context, fd: &Arc<Fd>, offset: u64, what: SeekWhat, xdata: Dict) -> FopResult<SeekReply> {
        let target = self.target(fd, "SEEK")?;
        let call = Call { offset, ..self.call("SEEK", c, gfid_of(target), &xdata) };
        self.ask(c, call, move |brick, caller| brick.seek(caller, target, offset, what == SeekWhat::Data)).await
    }

    async fn lease(&self, _: &Context, _: &Loc, _: Lease, _: Dict) -> FopResult<LeaseReply> {
        self.unsupported("LEASE")
    }

    async fn copy_file_range(
        &self,
        _: &Context,
        _: &Arc<Fd>,
        _: u64,
        _: &Arc<Fd>,
        _: u64,
        _: u32,
        _: u32,
        _: Dict,
    ) -> FopResult<CopyFileRangeReply> {
        self.unsupported("COPY_FILE_RANGE")
    }
}
