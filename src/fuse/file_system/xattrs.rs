//! Extended attributes. Which names pass is decided in `xattr_names`.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use rgfs_protocol::{Dict, Errno, Value};

use super::super::xattr_names::{self, Get};
use super::{Caller, FileSystem, is_gone, on_inode, stale};
use crate::FopResult;

/// Longest value, in bytes (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 65_536;

/// The value as a user sees it. Texts keep their NUL, as with the C client; numbers become text.
fn value_bytes(value: &Value) -> Option<Bytes> {
    match value {
        Value::Ptr(bytes) | Value::Str(bytes) | Value::StrOld(bytes) => Some(bytes.clone()),
        Value::Int(number) => Some(number.to_string().into()),
        Value::Uint(number) => Some(number.to_string().into()),
        Value::Gfuuid(gfid) => Some(Bytes::copy_from_slice(&gfid.0)),
        _ => None,
    }
}

impl FileSystem {
    /// Names travel as text inside the client.
    fn xattr_name<'a>(&self, name: &'a [u8], step: &'static str) -> FopResult<&'a str> {
        std::str::from_utf8(name)
            .map_err(|_| self.error(Errno::EOPNOTSUPP, step).with_detail("a name that is not UTF-8"))
    }

    /// Sets an extended attribute. `flags`: those of setxattr(2).
    ///
    /// # Errors
    /// Those of setxattr(2).
    pub async fn setxattr(&self, caller: &Caller, nodeid: u64, name: &[u8], value: &[u8], flags: i32) -> FopResult<()> {
        self.check_writable("setxattr")?;
        let name = self.xattr_name(name, "setxattr")?;
        xattr_names::check_set(name, &self.options).map_err(|errno| self.error(errno, "setxattr"))?;
        if value.len() > VALUE_MAX {
            return Err(self.error(Errno::E2BIG, "setxattr"));
        }
        let (context, node) = self.on_behalf_at(caller, nodeid, "setxattr")?;
        let mut dict = Dict::empty();
        dict.set(Bytes::copy_from_slice(name.as_bytes()), Value::Ptr(Bytes::copy_from_slice(value)));
        let flags = (flags & (libc::XATTR_CREATE | libc::XATTR_REPLACE)) as u32;
        let result =
            on_inode!(self, &context, &node, |loc| self.top.setxattr(&context, loc, dict.clone(), flags, Dict::NULL));
        let xdata = match (result, node.open_fd(false)) {
            (Err(error), Some(fd)) if is_gone(&error) => {
                self.top.fsetxattr(&context, &fd, dict, flags, Dict::NULL).await.map_err(stale)?
            }
            (result, _) => result?,
        };
        self.note_xattr_change(&node, &xdata);
        Ok(())
    }

    /// An extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none; those of getxattr(2).
    pub async fn getxattr(&self, caller: &Caller, nodeid: u64, name: &[u8]) -> FopResult<Bytes> {
        let name = self.xattr_name(name, "getxattr")?;
        let node = self.node(nodeid, "getxattr")?;
        match xattr_names::get(name, &self.options) {
            Get::Ask => {}
            Get::Gfid => return Ok(Bytes::copy_from_slice(&node.gfid().0)),
            Get::GfidText => return Ok(node.gfid().to_string().into()),
            Get::Refuse(errno) => return Err(self.error(errno, "getxattr")),
        }
        let context = self.context(caller);
        let result = on_inode!(self, &context, &node, |loc| self.top.getxattr(&context, loc, Some(name), Dict::NULL));
        let reply = match (result, node.open_fd(false)) {
            (Err(error), Some(fd)) if is_gone(&error) => {
                self.top.fgetxattr(&context, &fd, Some(name), Dict::NULL).await.map_err(stale)?
            }
            (result, _) => result?,
        };
        // A brick filters some names by an empty answer.
        let value = reply.dict.get(name).and_then(value_bytes);
        value.ok_or_else(|| self.error(Errno::ENODATA, "getxattr"))
    }

    /// The names of all extended attributes, each with a NUL behind it.
    ///
    /// # Errors
    /// Those of listxattr(2).
    pub async fn listxattr(&self, caller: &Caller, nodeid: u64) -> FopResult<Bytes> {
        let (context, node) = self.on_behalf_at(caller, nodeid, "listxattr")?;
        let result = on_inode!(self, &context, &node, |loc| self.top.getxattr(&context, loc, None, Dict::NULL));
        let reply = match (result, node.open_fd(false)) {
            (Err(error), Some(fd)) if is_gone(&error) => {
                self.top.fgetxattr(&context, &fd, None, Dict::NULL).await.map_err(stale)?
            }
            // Nothing to list.
            (Err(error), _) if error.errno == Errno::ENODATA => return Ok(Bytes::new()),
            (result, _) => result?,
        };
        let mut names = BytesMut::new();
        // The kernel does not hide other users' names by itself: trusted ones are for root.
        let may_see = |name: &[u8]| context.uid == 0 || !name.starts_with(b"trusted.");
        for (name, _) in reply.dict.iter() {
            if xattr_names::is_listed(name, &self.options) && may_see(name) {
                names.put_slice(name);
                names.put_u8(0);
            }
        }
        Ok(names.freeze())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// ENODATA when there is none; those of removexattr(2).
    pub async fn removexattr(&self, caller: &Caller, nodeid: u64, name: &[u8]) -> FopResult<()> {
        self.check_writable("removexattr")?;
        let name = self.xattr_name(name, "removexattr")?;
        xattr_names::check_remove(name).map_err(|errno| self.error(errno, "removexattr"))?;
        let (context, node) = self.on_behalf_at(caller, nodeid, "removexattr")?;
        let result = on_inode!(self, &context, &node, |loc| self.top.removexattr(&context, loc, name, Dict::NULL));
        let xdata = match (result, node.open_fd(false)) {
            (Err(error), Some(fd)) if is_gone(&error) => {
                self.top.fremovexattr(&context, &fd, name, Dict::NULL).await.map_err(stale)?
            }
            (result, _) => result?,
        };
        self.note_xattr_change(&node, &xdata);
        Ok(())
    }

    /// A change of an extended attribute moves ctime, and an ACL moves the mode; the brick tells both if it can.
    fn note_xattr_change(&self, node: &super::Node, xdata: &Dict) {
        match (xdata.get("virt-gf-prestat"), xdata.get("virt-gf-poststat")) {
            (Some(Value::Iatt(before)), Some(Value::Iatt(after))) if after.gfid == node.gfid() => {
                let mut state = node.state();
                let now = Instant::now();
                state.attributes = Some((**after, now));
                state.changed = Some(now);
                state.mode = after.mode;
                state.pages.changed(before.as_ref().into(), after.as_ref().into());
            }
            _ => node.forget_attributes(),
        }
    }
}
