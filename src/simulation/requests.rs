//! What fops of a [`Connection`] have in common: each kind of request is described for rules and trace, and carried out at
//! the brick.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, LockType, XattropFlags};
use rgfs_protocol::{Dict, Errno, Iatt};

use super::brick::{Call, Target};
use super::connection::Connection;
use super::operations::New;
use super::storage::Change;
use crate::reply::*;
use crate::{Context, Fd, FopError, FopResult, Loc};

impl Connection {
    /// Adds text to a call, when somebody will read it.
    pub(super) fn detailed(&self, mut call: Call, detail: impl Display) -> Call {
        if self.world.is_recording() {
            call.detail = detail.to_string();
        }
        call
    }

    pub(super) async fn changed(
        &self,
        context: &Context,
        (fop, target): (&'static str, Target),
        change: Change,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let (offset, size) = match change {
            Change::Size(size) => (size, 0),
            Change::Allocate { offset, len, .. } | Change::Discard { offset, len } | Change::Zero { offset, len } => {
                (offset, len)
            }
        };
        let call = Call { offset, size, ..self.call(fop, context, gfid_of(target), &xdata) };
        let call = self.detailed(call, format_args!("off={offset} size={size}"));
        self.ask(context, call, move |brick, caller| brick.change(caller, target, change, &xdata)).await
    }

    pub(super) async fn range_lock(
        &self,
        context: &Context,
        fop: &'static str,
        (target, volume): (Target, &str),
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let unlock = flock.kind == LockType::Unlock;
        let call =
            Call { unlock, offset: flock.start, size: flock.len, ..self.call(fop, context, gfid_of(target), &xdata) };
        let call = self.detailed(call, lock_text(cmd == InodelkCmd::SetLkW, &flock) + &format!(" dom={volume}"));
        let volume = volume.to_owned();
        let work = move |brick: &mut super::brick::Brick, caller: &_, granted| {
            brick.inodelk(caller, (target, &volume), cmd, &flock, granted);
        };
        self.ask_lock(context, call, Dict::NULL, work).await
    }

    pub(super) async fn name_lock(
        &self,
        context: &Context,
        fop: &'static str,
        (target, volume): (Target, &str),
        name: Option<&[u8]>,
        (cmd, kind): (EntrylkCmd, EntrylkType),
        xdata: Dict,
    ) -> FopResult<Dict> {
        let name = name.map(Bytes::copy_from_slice);
        let unlock = cmd == EntrylkCmd::Unlock;
        let call = Call { unlock, ..self.call(fop, context, gfid_of(target), &xdata) };
        let shown = name.as_ref().map_or("NULL".to_owned(), |name| format!("{:?}", String::from_utf8_lossy(name)));
        let mut call = self.detailed(call, format_args!("{} {shown} dom={volume}", entry_lock_text(cmd, kind)));
        // The name is part of the text; rules see it here.
        call.name = if self.world.is_recording() { None } else { name.clone() };
        let volume = volume.to_owned();
        let work = move |brick: &mut super::brick::Brick, caller: &_, granted| {
            brick.entrylk(caller, (target, &volume), name, cmd, kind, granted);
        };
        self.ask_lock(context, call, Dict::NULL, work).await
    }

    pub(super) async fn xattr_change(
        &self,
        context: &Context,
        (fop, target): (&'static str, Target),
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let call = Call { dict: dict.clone(), ..self.call(fop, context, gfid_of(target), &xdata) };
        let call = if flags == XattropFlags::AddArray { call } else { self.detailed(call, format_args!("{flags:?}")) };
        self.ask(context, call, move |brick, caller| brick.xattrop(caller, target, flags, &dict, &xdata)).await
    }

    pub(super) async fn attributes(
        &self,
        context: &Context,
        (fop, target): (&'static str, Target),
        stat: &Iatt,
        valid: u32,
        xdata: Dict,
    ) -> FopResult<PrePostReply> {
        let stat = *stat;
        let call = self.detailed(self.call(fop, context, gfid_of(target), &xdata), format_args!("valid={valid:#x}"));
        self.ask(context, call, move |brick, caller| brick.set_attributes(caller, target, &stat, valid, &xdata)).await
    }

    pub(super) async fn list(
        &self,
        context: &Context,
        (fop, fd): (&'static str, &Arc<Fd>),
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        let target = self.target(fd, fop)?;
        let call = Call { offset, ..self.call(fop, context, gfid_of(target), &xdata) };
        let call = self.detailed(call, format_args!("off={offset:#x}"));
        self.ask(context, call, move |brick, caller| brick.readdirp(caller, target, size, offset, &xdata)).await
    }

    pub(super) async fn made(
        &self,
        context: &Context,
        (fop, loc): (&'static str, &Loc),
        (mode, rdev): (u32, u64),
        target: Bytes,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        let call = Call { name: Some(name.clone()), ..self.call(fop, context, parent, &xdata) };
        self.ask(context, call, move |brick, caller| {
            let new = New { mode, rdev, target, xdata: &xdata, links: fop == "MKNOD" };
            brick.make(caller, (parent, &name), new)
        })
        .await
    }

    pub(super) async fn removed(
        &self,
        context: &Context,
        (fop, loc): (&'static str, &Loc),
        xflags: u32,
        xdata: Dict,
    ) -> FopResult<RemoveReply> {
        let (parent, name) = (loc.parent_gfid(), loc.name.clone());
        let call = Call { name: Some(name.clone()), ..self.call(fop, context, parent, &xdata) };
        let call = if xflags == 0 { call } else { self.detailed(call, format_args!("flags={xflags}")) };
        self.ask(context, call, move |brick, caller| {
            brick.remove(caller, (parent, &name), fop == "RMDIR", xflags, &xdata)
        })
        .await
    }

    pub(super) async fn xattrs_set(
        &self,
        context: &Context,
        (fop, target): (&'static str, Target),
        dict: Dict,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let call = Call { dict: dict.clone(), ..self.call(fop, context, gfid_of(target), &xdata) };
        self.ask(context, call, move |brick, caller| brick.set_xattrs(caller, target, &dict, flags, &xdata)).await
    }

    pub(super) async fn xattrs_got(
        &self,
        context: &Context,
        (fop, target): (&'static str, Target),
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let name = name.map(str::to_owned);
        let call = self.call(fop, context, gfid_of(target), &xdata);
        let call = self.detailed(call, name.as_deref().unwrap_or("(all)"));
        self.ask(context, call, move |brick, caller| brick.get_xattrs(caller, target, name.as_deref())).await
    }

    pub(super) async fn xattr_removed(
        &self,
        context: &Context,
        (fop, target): (&'static str, Target),
        name: &str,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let name = name.to_owned();
        let call = self.detailed(self.call(fop, context, gfid_of(target), &xdata), format_args!("{name:?}"));
        self.ask(context, call, move |brick, caller| brick.remove_xattr(caller, target, &name, &xdata)).await
    }

    pub(super) fn unsupported<T>(&self, step: &'static str) -> FopResult<T> {
        Err(FopError::new(Errno::EOPNOTSUPP, &self.name, step))
    }
}

pub(super) fn gfid_of(target: Target) -> rgfs_protocol::Gfid {
    match target {
        Target::Inode(gfid) | Target::File(gfid, _) => gfid,
    }
}

pub(super) fn lock_text(waits: bool, flock: &Flock) -> String {
    let cmd = if waits { "SETLKW" } else { "SETLK" };
    let kind = match flock.kind {
        LockType::Read => "RD",
        LockType::Write => "WR",
        LockType::Unlock => "UNLCK",
    };
    let start = if flock.start == 0x7fff_ffff_ffff_fffe { "MAX-1".to_owned() } else { flock.start.to_string() };
    format!("{cmd} {kind} {start},{}", flock.len)
}

fn entry_lock_text(cmd: EntrylkCmd, kind: EntrylkType) -> &'static str {
    match (cmd, kind) {
        (EntrylkCmd::Lock, EntrylkType::Write) => "LOCK WR",
        (EntrylkCmd::Lock, EntrylkType::Read) => "LOCK RD",
        (EntrylkCmd::LockNonBlocking, EntrylkType::Write) => "LOCK_NB WR",
        (EntrylkCmd::LockNonBlocking, EntrylkType::Read) => "LOCK_NB RD",
        (EntrylkCmd::Unlock, _) => "UNLOCK",
    }
}
