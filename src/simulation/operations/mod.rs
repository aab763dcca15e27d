//! The fops of a brick: the rules of `protocol/server`, `features/locks`, `features/index`, `features/arbiter` and
//! `storage/posix` that clients rely on.
//!
//! [`names`] are the fops on names, [`objects`] those on what has one, [`xattrs`] and [`locking`] the rest; here is what
//! they share: the answers to what a request asks besides.

mod locking;
mod names;
mod objects;
mod xattrs;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::brick::{Brick, Caller, Failure};
use super::locks::Scope;
pub(super) use names::New;

/// A name in a directory.
pub(super) type At<'a> = (Gfid, &'a Bytes);

fn text(dict: &Dict, key: &str) -> Option<String> {
    dict.bytes(key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn is_xattr(key: &str) -> bool {
    ["trusted.", "user.", "security.", "system."].iter().any(|space| key.starts_with(space))
}

/// The mode of a linkto of distribute.
fn has_linkto_mode(stat: &Iatt) -> bool {
    stat.mode & 0o177_777 == 0o101_000
}

fn key_text(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}

impl Brick {
    fn note_time(&mut self, caller: &Caller) {
        let now = rgfs_protocol::Time { sec: 1_000_000 + self.now.as_secs() as i64, nsec: self.now.subsec_nanos() };
        self.storage.now = if caller.time == rgfs_protocol::Time::default() { now } else { caller.time };
    }

    /// What `request` asks about an object, or a name, besides.
    fn answers(&self, gfid: Option<Gfid>, at: Option<At<'_>>, request: &Dict) -> Dict {
        if request.is_empty() {
            return Dict::NULL;
        }
        let mut reply = Dict::empty();
        let object = gfid.and_then(|gfid| self.storage.open(gfid));
        if let Some(object) = object
            && request.contains("list-xattr")
        {
            for (key, value) in &object.xattrs {
                reply.set(key.clone(), Value::Ptr(value.clone()));
            }
        }
        for (key, value) in request.iter() {
            let key = String::from_utf8_lossy(key);
            match &*key {
                "link-count" => {
                    reply = reply.with("link-count", Value::Int(i64::from(!self.index.pending.is_empty())));
                }
                "glusterfs.parent-entrylk" => {
                    let Some((parent, name)) = at else { continue };
                    let count = self.entrylks.count(parent, |_, lock| match &lock.scope {
                        Scope::Name(locked) => locked.as_ref().is_none_or(|locked| locked == name),
                        Scope::Range { .. } => false,
                    });
                    reply = reply.with("glusterfs.parent-entrylk", Value::Int(count));
                }
                "glusterfs.content" => {
                    let Some(object) = object.filter(|_| !self.arbiter) else { continue };
                    let fits = value.as_int().is_some_and(|most| object.data.len() as i64 <= most);
                    if object.stat.file_type() == FileType::Regular && fits && !object.data.is_empty() {
                        reply = reply.with("glusterfs.content", Value::Ptr(object.data.clone().into()));
                    }
                }
                "glusterfs.open-fd-count" => {
                    let count = gfid.map_or(0, |gfid| self.open_count(gfid));
                    reply = reply.with("glusterfs.open-fd-count", Value::Uint(count as u64));
                }
                "glusterfs.inodelk-dom-count" => {
                    let (Some(gfid), Some(wanted)) = (gfid, text(request, &key)) else { continue };
                    let count = self.inodelks.count(gfid, |domain, _| domain == wanted);
                    reply = reply.with("glusterfs.inodelk-count", Value::Int(count));
                }
                "glusterfs.inodelk-count" => {
                    let Some(gfid) = gfid else { continue };
                    let count = self.inodelks.count(gfid, |_, _| true);
                    reply = reply.with("glusterfs.inodelk-count", Value::Int(count));
                }
                "glusterfs.entrylk-count" => {
                    let Some(gfid) = gfid else { continue };
                    let count = self.entrylks.count(gfid, |_, _| true);
                    reply = reply.with("glusterfs.entrylk-count", Value::Int(count));
                }
                other => {
                    let (Some(gfid), Some(object)) = (gfid, object) else { continue };
                    if let Some(wanted) = other.strip_prefix("glusterfs.inodelk-dom-prefix:") {
                        let count = self.inodelks.count(gfid, |domain, _| domain == wanted);
                        reply.set(other.to_owned(), Value::Int(count));
                    } else if let Some(value) = object.xattrs.get(other) {
                        reply.set(other.to_owned(), Value::Ptr(value.clone()));
                    }
                }
            }
        }
        reply
    }

    fn failed(&self, errno: Errno, at: Option<At<'_>>, request: &Dict) -> Failure {
        Failure { errno, xdata: self.answers(None, at, request) }
    }
}
