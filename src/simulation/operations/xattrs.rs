//! Fops on xattrs, and the counters in them.

use bytes::Bytes;
use rgfs_protocol::types::XattropFlags;
use rgfs_protocol::{Dict, Errno, Gfid, Value};

use super::super::brick::{Brick, Caller, Done, Target};
use super::key_text;
use crate::reply::*;

impl Brick {
    pub(in super::super) fn set_xattrs(
        &mut self,
        caller: &Caller,
        target: Target,
        dict: &Dict,
        flags: u32,
        xdata: &Dict,
    ) -> Done<Dict> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let now = self.storage.now;
        let object = self.storage.object_mut(gfid)?;
        if xdata.contains("sync_backend_xattrs") {
            object.xattrs.retain(|key, _| !key.starts_with("user."));
        }
        for (key, value) in dict.iter() {
            let key = key_text(key);
            match (flags, object.xattrs.contains_key(&key)) {
                (1, true) => return Err(Errno::EEXIST.into()),
                (2, false) => return Err(Errno::ENODATA.into()),
                _ => {}
            }
            object.xattrs.insert(key, value.as_bytes().ok_or(Errno::EINVAL)?);
        }
        object.stat.ctime = now;
        Ok(Dict::NULL)
    }

    pub(in super::super) fn get_xattrs(
        &mut self,
        caller: &Caller,
        target: Target,
        name: Option<&str>,
    ) -> Done<XattrReply> {
        let gfid = self.find(caller, target)?;
        if let Some(range) = name.and_then(|name| name.strip_prefix("glusterfs.intrlk.tposix.kblocked.")) {
            let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or_default();
            let mut parts = range.split([',', '-']).skip(1);
            let (start, len) = (number(parts.next()), number(parts.next()));
            self.posix_locks.interrupt(gfid, &caller.holder(), start, len);
            return Ok(XattrReply::default());
        }
        if name == Some("glusterfs.ancestry.path") {
            let path = self.storage.path_of(gfid).ok_or(Errno::ENOENT)?;
            return Ok(XattrReply {
                dict: Dict::empty().with("glusterfs.ancestry.path", Value::str(&path)),
                xdata: Dict::NULL,
            });
        }
        let object = self.storage.open(gfid).ok_or(Errno::ESTALE)?;
        let mut dict = Dict::empty();
        for (key, value) in object.xattrs.iter().filter(|(key, _)| name.is_none_or(|name| name == *key)) {
            dict.set(key.clone(), Value::Ptr(value.clone()));
        }
        if name == Some("glusterfs.xattrop_index_count") {
            dict.set("glusterfs.xattrop_index_count", Value::Uint(self.index.pending.len() as u64));
        }
        if name == Some("trusted.glusterfs.pathinfo") {
            let text = format!("<POSIX(/brick{0}):host{0}:/brick{0}/{gfid}>", self.index_number);
            dict.set("trusted.glusterfs.pathinfo", Value::str(&text));
        }
        match name.is_some() && dict.is_empty() {
            true => Err(Errno::ENODATA.into()),
            false => Ok(XattrReply { dict, xdata: Dict::NULL }),
        }
    }

    /// REMOVEXATTR; with an empty name all keys of `xdata` that are there (`posix_removexattr`, bulk).
    pub(in super::super) fn remove_xattr(
        &mut self,
        caller: &Caller,
        target: Target,
        name: &str,
        xdata: &Dict,
    ) -> Done<Dict> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let now = self.storage.now;
        let object = self.storage.object_mut(gfid)?;
        object.stat.ctime = now;
        if name.is_empty() {
            for (key, _) in xdata.iter() {
                object.xattrs.remove(&key_text(key));
            }
        } else {
            object.xattrs.remove(name).ok_or(Errno::ENODATA)?;
        }
        Ok(Dict::NULL)
    }

    pub(in super::super) fn xattrop(
        &mut self,
        caller: &Caller,
        target: Target,
        flags: XattropFlags,
        dict: &Dict,
        xdata: &Dict,
    ) -> Done<XattrReply> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        if self.thin {
            self.check_witness(gfid, dict)?;
        }
        self.index.before(gfid, flags, dict, xdata);
        let object = self.storage.object_mut(gfid)?;
        let mut outcome = Dict::empty();
        for (key, value) in dict.iter() {
            let asked = value.as_bytes().ok_or(Errno::EINVAL)?;
            let stored = object.xattrs.get(&key_text(key)).cloned();
            let old = stored.clone().unwrap_or_default();
            let new = match flags {
                XattropFlags::AddArray => add::<4>(&old, &asked, |a, b| {
                    i32::from_be_bytes(a).wrapping_add(i32::from_be_bytes(b)).to_be_bytes()
                }),
                XattropFlags::AddArray64 => add::<8>(&old, &asked, |a, b| {
                    i64::from_be_bytes(a).wrapping_add(i64::from_be_bytes(b)).to_be_bytes()
                }),
                XattropFlags::GetAndSet => asked.clone(),
                _ => return Err(Errno::EOPNOTSUPP.into()),
            };
            let unchanged = flags != XattropFlags::GetAndSet && asked.iter().all(|byte| *byte == 0);
            if !unchanged {
                object.xattrs.insert(key_text(key), new.clone());
            }
            let told = if flags == XattropFlags::GetAndSet { old } else { new };
            outcome.set(key.clone(), Value::Ptr(told));
        }
        self.index.after(gfid, flags, &outcome, xdata);
        Ok(XattrReply { dict: outcome, xdata: self.answers(Some(gfid), None, xdata) })
    }

    /// A thin arbiter never says of two copies that they are bad (`thin-arbiter.c:ta_verify_on_disk_source`).
    fn check_witness(&self, gfid: Gfid, asked: &Dict) -> Done<()> {
        let object = self.storage.open(gfid).ok_or(Errno::ESTALE)?;
        let is_bad = |bytes: &Bytes| bytes.iter().any(|byte| *byte != 0);
        let bad = asked.iter().filter(|(key, value)| {
            let stored = object.xattrs.get(&key_text(key));
            stored.is_some_and(is_bad) || value.as_bytes().is_some_and(|bytes| is_bad(&bytes))
        });
        if bad.count() > 1 { Err(Errno::EINVAL.into()) } else { Ok(()) }
    }
}

/// Element-wise sum of big-endian numbers of `N` bytes; missing ones count as 0.
fn add<const N: usize>(old: &[u8], asked: &[u8], sum: impl Fn([u8; N], [u8; N]) -> [u8; N]) -> Bytes {
    let number = |bytes: &[u8], at: usize| {
        let mut number = [0; N];
        let found = bytes.get(at..).unwrap_or_default();
        let len = found.len().min(N);
        number[..len].copy_from_slice(&found[..len]);
        number
    };
    let starts = (0..old.len().max(asked.len())).step_by(N);
    starts.flat_map(|at| sum(number(old, at), number(asked, at))).collect()
}
