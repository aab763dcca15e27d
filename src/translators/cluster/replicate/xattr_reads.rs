//! GETXATTR and FGETXATTR (`afr_getxattr`, `afr_fgetxattr`): most values come from one good copy, some are made of what all
//! copies say.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno};

use super::child_set::ChildSet;
use super::core::{Call, Core};
use super::errors::final_error;
use super::read::Read;
use super::target::Target;
use super::xattr_merge::{Merge, NODE_UUID};
use crate::reply::XattrReply;
use crate::{Context, Fd, FopError, FopResult, Loc, Translator};

/// What begins so belongs to replicate: users neither read nor write it.
const OWN: &str = "trusted.afr.";

/// Whose xattrs are read.
#[derive(Clone, Copy)]
enum Object<'a> {
    Loc(&'a Loc),
    Fd(&'a Arc<Fd>),
}

impl<'a> Object<'a> {
    fn ask(
        self,
        child: &'a Arc<dyn Translator>,
        context: &'a Context,
        name: Option<&'a str>,
        xdata: Dict,
    ) -> Call<'a, XattrReply> {
        match self {
            Object::Loc(loc) => child.getxattr(context, loc, name, xdata),
            Object::Fd(fd) => child.fgetxattr(context, fd, name, xdata),
        }
    }
}

impl Core {
    pub(super) async fn getxattr(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let target = Target::Inode(loc.inode.clone());
        self.read_xattr(context, Object::Loc(loc), &target, name, xdata).await
    }

    pub(super) async fn fgetxattr(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let target = self.open_file(fd);
        self.read_xattr(context, Object::Fd(fd), &target, name, xdata).await
    }

    async fn read_xattr(
        self: &Arc<Self>,
        context: &Context,
        object: Object<'_>,
        target: &Target,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        if let Some(name) = name {
            if name.starts_with(OWN) {
                return Err(self.error(Errno::ENODATA, "getxattr").with_detail("the name belongs to replicate"));
            }
            if let Some(reply) = self.virtual_getxattr(target, name, &xdata).await {
                return reply;
            }
            if let Some(merge) = Merge::of(name) {
                return self.read_all(context, object, name, merge).await;
            }
            if name == NODE_UUID {
                return self.read_first(context, object, name, xdata).await;
            }
        }
        // Every copy has the same names and values.
        let is_final =
            |errno| matches!(errno, Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ERANGE | Errno::ENAMETOOLONG);
        let read = Read { is_final, ..Read::metadata("getxattr") };
        let mut reply =
            self.read(context, target, read, |_, child| object.ask(child, context, name, xdata.clone())).await?;
        reply.dict.retain(|name, _| !name.starts_with(OWN.as_bytes()));
        Ok(reply)
    }

    /// Merges what all copies say.
    async fn read_all(&self, context: &Context, object: Object<'_>, name: &str, merge: Merge) -> FopResult<XattrReply> {
        let up = self.snapshot().up;
        let asked = merge.ask(name);
        let replies = self.ask(up, |_, child| object.ask(child, context, Some(asked), Dict::NULL)).await;
        let error = final_error(&replies);
        let mut xdata = Dict::NULL;
        let mut answers: Vec<(usize, Dict)> = Vec::with_capacity(replies.len());
        for (index, reply) in replies.into_iter().filter_map(|(index, reply)| Some((index, reply.ok()?))) {
            if answers.is_empty() {
                xdata = reply.xdata;
            }
            answers.push((index, reply.dict));
        }
        if answers.is_empty() {
            return Err(error.unwrap_or_else(|| self.no_quorum(up, "getxattr")));
        }
        let Some(value) = merge.value(name, &self.name, self.count(), &answers) else {
            return Err(self.error(Errno::ENODATA, "getxattr").with_detail("no brick has a value"));
        };
        let mut dict = Dict::empty();
        dict.set(Bytes::copy_from_slice(name.as_bytes()), value);
        Ok(XattrReply { dict, xdata })
    }

    /// Asks one copy after the other until one answers.
    async fn read_first(
        &self,
        context: &Context,
        object: Object<'_>,
        name: &str,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let mut last: Option<FopError> = None;
        for index in self.snapshot().up.iter() {
            match object.ask(self.child(index), context, Some(name), xdata.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.no_quorum(ChildSet::EMPTY, "getxattr")))
    }
}
