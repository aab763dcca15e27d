//! The table of fops: each becomes one message to the brick, and its answer one reply.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::fops::{Procedure, request};
use rgfs_protocol::open_flags::wire;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, SeekWhat, XattropFlags};
use rgfs_protocol::{Dict, Errno, Gfid, Iatt};

use super::brick::Brick;
use super::link::FopCall;
use super::{Client, Settings, convert, fop_call, read_answer};
use crate::context::Context;
use crate::error::FopResult;
use crate::event::EventSource;
use crate::fd::Fd;
use crate::inode::Loc;
use crate::reply::*;
use crate::translator::Translator;
use crate::volfile::Volume;

#[async_trait]
impl<B: Brick> Translator for Client<B> {
    fn name(&self) -> &Arc<str> {
        self.link.name()
    }

    fn kind(&self) -> &'static str {
        "protocol/client"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &[]
    }

    fn events(&self) -> &EventSource {
        self.link.events()
    }

    fn reconfigure(&self, volume: &Volume) -> bool {
        Settings::read(volume).is_ok_and(|settings| settings == self.options) && self.link.reconfigure(volume)
    }

    fn dump(&self, out: &mut dyn FnMut(&str, &dyn std::fmt::Display)) {
        out("connected", &u8::from(self.link.generation().is_some()));
        out("generation", &self.link.generation().unwrap_or_default());
        out("open_fds", &self.fds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len());
        out("posix_locks", &self.locks().len());
        if let Some(counters) = self.link.counters() {
            counters.dump(out);
        }
    }

    fn abandon(&self, fd: &Fd) {
        self.close(fd);
    }

    async fn lookup(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<LookupReply> {
        // A name counts more than a gfid; without a name the brick must not see a parent.
        let parent = if loc.name.is_empty() { Gfid::NULL } else { loc.parent_gfid() };
        let request = request::Lookup { gfid: loc.gfid(), parent, flags: 0, name: loc.name.clone(), xdata };
        let reply: LookupReply = self.call(context, request).await?.into();
        if reply.stat.gfid.is_null() {
            return Err(self.error(Errno::EIO, Procedure::Lookup).with_detail("the brick told no gfid"));
        }
        if !loc.gfid().is_null() && loc.gfid() != reply.stat.gfid {
            let detail = format!("{} is now {}", loc.gfid(), reply.stat.gfid);
            return Err(self.error(Errno::ESTALE, Procedure::Lookup).with_detail(detail));
        }
        Ok(reply)
    }

    async fn stat(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatReply> {
        Ok(self.call(context, request::Stat { gfid: loc.gfid(), xdata }).await?.into())
    }

    async fn fstat(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<StatReply> {
        let remote = self.remote(fd, Procedure::Fstat).await?;
        let request = request::Fstat { gfid: remote.gfid, fd: remote.number, xdata };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn truncate(&self, context: &Context, loc: &Loc, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        Ok(self.call(context, request::Truncate { gfid: loc.gfid(), offset, xdata }).await?.into())
    }

    async fn ftruncate(&self, context: &Context, fd: &Arc<Fd>, offset: u64, xdata: Dict) -> FopResult<PrePostReply> {
        let remote = self.remote(fd, Procedure::Ftruncate).await?;
        let request = request::Ftruncate { gfid: remote.gfid, fd: remote.number, offset, xdata };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn access(&self, context: &Context, loc: &Loc, mask: u32, xdata: Dict) -> FopResult<Dict> {
        Ok(self.call(context, request::Access { gfid: loc.gfid(), mask, xdata }).await?.xdata)
    }

    async fn readlink(&self, context: &Context, loc: &Loc, size: u32, xdata: Dict) -> FopResult<ReadlinkReply> {
        Ok(self.call(context, request::Readlink { gfid: loc.gfid(), size, xdata }).await?.into())
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
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        Ok(self.call(context, request::Mknod { parent, rdev, mode, umask, name, xdata }).await?.into())
    }

    async fn mkdir(&self, context: &Context, loc: &Loc, mode: u32, umask: u32, xdata: Dict) -> FopResult<EntryReply> {
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        let request = request::Mkdir { parent, mode, umask, name, xdata };
        match self.call(context, request.clone()).await {
            // A LOOKUP of the name that comes between two steps of the brick's makes the gfid's handle in its place. The brick then
            // takes the directory back, and says that it was there (`posix_gfid_set`, `posix_handle_soft`). Now the handle is
            // there, and it will succeed. Without this, one copy seems to lack what the others have.
            Err(error) if error.errno == Errno::EEXIST => Ok(self.call(context, request).await?.into()),
            answer => Ok(answer?.into()),
        }
    }

    async fn unlink(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        Ok(self.call(context, request::Unlink { parent, name, xflags, xdata }).await?.into())
    }

    async fn rmdir(&self, context: &Context, loc: &Loc, xflags: u32, xdata: Dict) -> FopResult<RemoveReply> {
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        Ok(self.call(context, request::Rmdir { parent, xflags: xflags.cast_signed(), name, xdata }).await?.into())
    }

    async fn symlink(
        &self,
        context: &Context,
        loc: &Loc,
        target: Bytes,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        Ok(self.call(context, request::Symlink { parent, name, umask, target, xdata }).await?.into())
    }

    async fn rename(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<RenameReply> {
        let request = request::Rename {
            old_parent: old.parent_gfid(),
            new_parent: new.parent_gfid(),
            old_name: old.name.clone(),
            new_name: new.name.clone(),
            xdata,
        };
        Ok(self.call(context, request).await?.into())
    }

    async fn link(&self, context: &Context, old: &Loc, new: &Loc, xdata: Dict) -> FopResult<EntryReply> {
        let (new_parent, new_name) = (new.parent_gfid(), new.name.clone());
        Ok(self.call(context, request::Link { gfid: old.gfid(), new_parent, new_name, xdata }).await?.into())
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
        let generation = self.generation(Procedure::Create)?;
        let flags = self.wire_flags(flags);
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        let request = request::Create { parent, flags, mode, umask, name, xdata };
        let call = fop_call::<request::Create>().on(generation);
        let reply = self.call_as(context, call, &request).await?;
        self.opened(fd, reply.stat.gfid, Some(flags), generation, reply.fd);
        Ok(reply.into())
    }

    async fn open(&self, context: &Context, loc: &Loc, flags: i32, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let generation = self.generation(Procedure::Open)?;
        // OPEN makes no file; a brick that was told to would only wonder.
        let flags = self.wire_flags(flags) & !(wire::CREAT | wire::EXCL);
        let call = fop_call::<request::Open>().on(generation);
        let reply = self.call_as(context, call, &request::Open { gfid: loc.gfid(), flags, xdata }).await?;
        self.opened(fd, loc.gfid(), Some(flags), generation, reply.fd);
        Ok(reply.xdata)
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
        let remote = self.remote(fd, Procedure::Read).await?;
        if size == 0 {
            // A brick refuses it; read(2) does not.
            return Ok(ReadReply::default());
        }
        let flag = self.data_flags(remote.data_flags(flags, fd));
        let request = request::Read { gfid: remote.gfid, fd: remote.number, offset, size, flag, xdata };
        let call = fop_call::<request::Read>().on(remote.generation).expecting(size as usize);
        let body = self.send(context, call, &request).await?;
        let (reply, data) = read_answer::<request::Read>(self.link.name(), body)?;
        convert::read(reply, data, size).ok_or_else(|| {
            self.error(Errno::EIO, Procedure::Read).with_detail("the brick sent other data than it says")
        })
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
        let remote = self.remote(fd, Procedure::Write).await?;
        let length = data.iter().map(Bytes::len).sum::<usize>();
        let size = u32::try_from(length).map_err(|_| self.error(Errno::EINVAL, Procedure::Write))?;
        let flag = self.data_flags(remote.data_flags(flags, fd));
        let request = request::Write { gfid: remote.gfid, fd: remote.number, offset, size, flag, xdata };
        let call = fop_call::<request::Write>().on(remote.generation).with_payload(data);
        let reply: WriteReply = self.call_as(context, call, &request).await?.into();
        if reply.written > length {
            let detail = "the brick says that it wrote more than it was given";
            return Err(self.error(Errno::EIO, Procedure::Write).with_detail(detail));
        }
        Ok(reply)
    }

    async fn flush(&self, context: &Context, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        if xdata.is_empty() && !self.is_known(fd) && !self.locks().may_be_locked(fd.gfid()) {
            // Not worth opening it.
            return Ok(Dict::NULL);
        }
        let remote = self.remote(fd, Procedure::Flush).await;
        let gfid = remote.as_ref().map_or_else(|_| fd.gfid(), |remote| remote.gfid);
        // close(2) ends the owner's locks on the file, whatever the brick says.
        self.locks().release_owner(gfid, &context.lock_owner);
        let remote = remote?;
        if xdata.is_empty() && !self.locks().may_be_locked(gfid) {
            return Ok(Dict::NULL);
        }
        let request = request::Flush { gfid, fd: remote.number, xdata };
        let reply = self.call_on(context, remote, request).await?;
        self.locks().flushed(gfid);
        Ok(reply.xdata)
    }

    async fn fsync(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        let remote = self.remote(fd, Procedure::Fsync).await?;
        let request = request::Fsync { gfid: remote.gfid, fd: remote.number, datasync: u32::from(datasync), xdata };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn opendir(&self, context: &Context, loc: &Loc, fd: &Arc<Fd>, xdata: Dict) -> FopResult<Dict> {
        let generation = self.generation(Procedure::Opendir)?;
        let call = fop_call::<request::Opendir>().on(generation);
        let reply = self.call_as(context, call, &request::Opendir { gfid: loc.gfid(), xdata }).await?;
        self.opened(fd, loc.gfid(), None, generation, reply.fd);
        Ok(reply.xdata)
    }

    async fn fsyncdir(&self, context: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<Dict> {
        let remote = self.remote(fd, Procedure::Fsyncdir).await?;
        let request = request::Fsyncdir { gfid: remote.gfid, fd: remote.number, datasync: i32::from(datasync), xdata };
        Ok(self.call_on(context, remote, request).await?.xdata)
    }

    async fn readdir(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirReply> {
        let remote = self.remote(fd, Procedure::Readdir).await?;
        let request = request::Readdir { gfid: remote.gfid, fd: remote.number, offset, size, xdata };
        let call = fop_call::<request::Readdir>().on(remote.generation).expecting(size as usize);
        Ok(self.call_as(context, call, &request).await?.into())
    }

    async fn readdirp(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        let remote = self.remote(fd, Procedure::Readdirp).await?;
        let request = request::Readdirp { gfid: remote.gfid, fd: remote.number, offset, size, xdata };
        let call = fop_call::<request::Readdirp>().on(remote.generation).expecting(size as usize);
        Ok(self.call_as(context, call, &request).await?.into())
    }

    async fn statfs(&self, context: &Context, loc: &Loc, xdata: Dict) -> FopResult<StatfsReply> {
        let gfid = if loc.gfid().is_null() { Gfid::ROOT } else { loc.gfid() };
        Ok(self.call(context, request::Statfs { gfid, xdata }).await?.into())
    }

    async fn setxattr(&self, context: &Context, loc: &Loc, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        Ok(self.call(context, request::Setxattr { gfid: loc.gfid(), flags, dict, xdata }).await?.xdata)
    }

    async fn getxattr(&self, context: &Context, loc: &Loc, name: Option<&str>, xdata: Dict) -> FopResult<XattrReply> {
        let (namelen, wire_name) = xattr_name(name);
        let request = request::Getxattr { gfid: loc.gfid(), namelen, name: wire_name, xdata };
        let reply: XattrReply = self.call(context, request).await?.into();
        found(reply, name).ok_or_else(|| self.error(Errno::ENODATA, Procedure::Getxattr))
    }

    async fn removexattr(&self, context: &Context, loc: &Loc, name: &str, xdata: Dict) -> FopResult<Dict> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        Ok(self.call(context, request::Removexattr { gfid: loc.gfid(), name, xdata }).await?.xdata)
    }

    async fn fsetxattr(&self, context: &Context, fd: &Arc<Fd>, dict: Dict, flags: u32, xdata: Dict) -> FopResult<Dict> {
        let remote = self.remote(fd, Procedure::Fsetxattr).await?;
        let request = request::Fsetxattr { gfid: remote.gfid, fd: remote.number, flags, dict, xdata };
        Ok(self.call_on(context, remote, request).await?.xdata)
    }

    async fn fgetxattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let remote = self.remote(fd, Procedure::Fgetxattr).await?;
        let (namelen, wire_name) = xattr_name(name);
        let request = request::Fgetxattr { gfid: remote.gfid, fd: remote.number, namelen, name: wire_name, xdata };
        let reply: XattrReply = self.call_on(context, remote, request).await?.into();
        found(reply, name).ok_or_else(|| self.error(Errno::ENODATA, Procedure::Fgetxattr))
    }

    async fn fremovexattr(&self, context: &Context, fd: &Arc<Fd>, name: &str, xdata: Dict) -> FopResult<Dict> {
        let remote = self.remote(fd, Procedure::Fremovexattr).await?;
        let name = Bytes::copy_from_slice(name.as_bytes());
        let request = request::Fremovexattr { gfid: remote.gfid, fd: remote.number, name, xdata };
        Ok(self.call_on(context, remote, request).await?.xdata)
    }

    async fn lk(&self, context: &Context, fd: &Arc<Fd>, cmd: LkCmd, flock: Flock, xdata: Dict) -> FopResult<LkReply> {
        self.posix_lock(context, fd, cmd, flock, xdata).await
    }

    async fn inodelk(
        &self,
        context: &Context,
        volume: &str,
        loc: &Loc,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let volume = Bytes::copy_from_slice(volume.as_bytes());
        let request = request::Inodelk { gfid: loc.gfid(), cmd, kind: flock.kind, flock, volume, xdata };
        let call = waiting_if(fop_call::<request::Inodelk>(), cmd == InodelkCmd::SetLkW);
        Ok(self.call_as(context, call, &request).await?.xdata)
    }

    async fn finodelk(
        &self,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let remote = self.remote(fd, Procedure::Finodelk).await?;
        let volume = Bytes::copy_from_slice(volume.as_bytes());
        let (gfid, kind) = (remote.gfid, flock.kind);
        let request = request::Finodelk { gfid, fd: remote.number, cmd, kind, flock, volume, xdata };
        let call = waiting_if(fop_call::<request::Finodelk>().on(remote.generation), cmd == InodelkCmd::SetLkW);
        Ok(self.call_as(context, call, &request).await?.xdata)
    }

    async fn entrylk(
        &self,
        context: &Context,
        volume: &str,
        loc: &Loc,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let volume = Bytes::copy_from_slice(volume.as_bytes());
        let (namelen, name) = entry_name(name);
        let request = request::Entrylk { gfid: loc.gfid(), cmd, kind, namelen, name, volume, xdata };
        let call = waiting_if(fop_call::<request::Entrylk>(), cmd == EntrylkCmd::Lock);
        Ok(self.call_as(context, call, &request).await?.xdata)
    }

    async fn fentrylk(
        &self,
        context: &Context,
        volume: &str,
        fd: &Arc<Fd>,
        name: Option<&[u8]>,
        cmd: EntrylkCmd,
        kind: EntrylkType,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let remote = self.remote(fd, Procedure::Fentrylk).await?;
        let volume = Bytes::copy_from_slice(volume.as_bytes());
        let (namelen, name) = entry_name(name);
        let gfid = remote.gfid;
        let request = request::Fentrylk { gfid, fd: remote.number, cmd, kind, namelen, name, volume, xdata };
        let call = waiting_if(fop_call::<request::Fentrylk>().on(remote.generation), cmd == EntrylkCmd::Lock);
        Ok(self.call_as(context, call, &request).await?.xdata)
    }

    async fn xattrop(
        &self,
        context: &Context,
        loc: &Loc,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        Ok(self.call(context, request::Xattrop { gfid: loc.gfid(), flags, dict, xdata }).await?.into())
    }

    async fn fxattrop(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let remote = self.remote(fd, Procedure::Fxattrop).await?;
        let request = request::Fxattrop { gfid: remote.gfid, fd: remote.number, flags, dict, xdata };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn rchecksum(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u32,
        xdata: Dict,
    ) -> FopResult<RchecksumReply> {
        let remote = self.remote(fd, Procedure::Rchecksum).await?;
        let request = request::Rchecksum { gfid: remote.gfid, fd: remote.number, offset, len, flags: 0, xdata };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn setattr(
        &self,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let request = request::Setattr { gfid: loc.gfid(), stat: *stat, valid: valid.cast_signed(), xdata };
        Ok(self.call(context, request).await?.into())
    }

    async fn fsetattr(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let remote = self.remote(fd, Procedure::Fsetattr).await?;
        let request =
            request::Fsetattr { gfid: remote.gfid, fd: remote.number, stat: *stat, valid: valid.cast_signed(), xdata };
        Ok(self.call_on(context, remote, request).await?.into())
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
        let remote = self.remote(fd, Procedure::Fallocate).await?;
        let request = request::Fallocate {
            gfid: remote.gfid,
            fd: remote.number,
            flags: u32::from(keep_size),
            offset,
            size: len,
            xdata,
        };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn discard(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let remote = self.remote(fd, Procedure::Discard).await?;
        let request = request::Discard { gfid: remote.gfid, fd: remote.number, offset, size: len, xdata };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn zerofill(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        len: u64,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let remote = self.remote(fd, Procedure::Zerofill).await?;
        let request = request::Zerofill { gfid: remote.gfid, fd: remote.number, offset, size: len, xdata };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn ipc(&self, context: &Context, op: i32, xdata: Dict) -> FopResult<Dict> {
        Ok(self.call(context, request::Ipc { op, xdata }).await?.xdata)
    }

    async fn seek(
        &self,
        context: &Context,
        fd: &Arc<Fd>,
        offset: u64,
        what: SeekWhat,
        xdata: Dict,
    ) -> FopResult<SeekReply> {
        let remote = self.remote(fd, Procedure::Seek).await?;
        let request = request::Seek { gfid: remote.gfid, fd: remote.number, offset, what, xdata };
        Ok(self.call_on(context, remote, request).await?.into())
    }

    async fn lease(&self, context: &Context, loc: &Loc, lease: Lease, xdata: Dict) -> FopResult<LeaseReply> {
        Ok(self.call(context, request::Lease { gfid: loc.gfid(), lease, xdata }).await?.into())
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
        let from = self.remote(source, Procedure::CopyFileRange).await?;
        let to = self.remote(destination, Procedure::CopyFileRange).await?;
        let request = request::CopyFileRange {
            source: from.gfid,
            destination: to.gfid,
            source_fd: from.number,
            destination_fd: to.number,
            source_offset,
            destination_offset,
            size: len,
            flag: flags,
            xdata,
        };
        if from.generation != to.generation {
            // One of the two is of a connection that is gone.
            return Err(self.error(Errno::ENOTCONN, Procedure::CopyFileRange));
        }
        Ok(self.call_on(context, to, request).await?.into())
    }
}

/// The name of an xattr for the wire, and the word that says whether there is one.
fn xattr_name(name: Option<&str>) -> (u32, Bytes) {
    let name = name.unwrap_or_default();
    (name.len() as u32, Bytes::copy_from_slice(name.as_bytes()))
}

/// The name of an entry lock for the wire, and the word that says whether there is one.
fn entry_name(name: Option<&[u8]>) -> (u64, Bytes) {
    (u64::from(name.is_some()), name.map_or_else(Bytes::new, Bytes::copy_from_slice))
}

fn waiting_if(call: FopCall, waits: bool) -> FopCall {
    if waits { call.waiting() } else { call }
}

/// The reply, unless the brick succeeded without telling the value that was asked for: it does so for names that it
/// hides. Virtual names outside the namespaces of xattrs may be answered under another key.
fn found(reply: XattrReply, name: Option<&str>) -> Option<XattrReply> {
    let Some(name) = name else { return Some(reply) };
    let namespace = ["user.", "trusted.", "security.", "system."].iter().any(|prefix| name.starts_with(prefix));
    let missing = if namespace { !reply.dict.contains(name) } else { reply.dict.is_empty() };
    (!missing).then_some(reply)
}
