//! Fops on objects: attributes, data, and opening them.

use bytes::Bytes;
use rgfs_protocol::open_flags::host;
use rgfs_protocol::types::Statfs;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::super::brick::{Brick, Caller, Done, Target};
use super::super::storage::Change;
use crate::reply::*;

impl Brick {
    pub(in super::super) fn stat(&mut self, caller: &Caller, target: Target, xdata: &Dict) -> Done<StatReply> {
        let gfid = self.find(caller, target)?;
        Ok(StatReply { stat: self.storage.stat(gfid), xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(in super::super) fn access(&mut self, caller: &Caller, gfid: Gfid, mask: u32) -> Done<Dict> {
        let stat = self.storage.stat(self.find(caller, Target::Inode(gfid))?);
        let shift = if caller.uid == stat.uid {
            6
        } else if caller.gid == stat.gid {
            3
        } else {
            0
        };
        match caller.uid == 0 || (stat.mode >> shift) & mask & 7 == mask & 7 {
            true => Ok(Dict::NULL),
            false => Err(Errno::EACCES.into()),
        }
    }

    pub(in super::super) fn readlink(&mut self, caller: &Caller, gfid: Gfid, size: u32) -> Done<ReadlinkReply> {
        let gfid = self.find(caller, Target::Inode(gfid))?;
        let object = self.storage.open(gfid).ok_or(Errno::ESTALE)?;
        if object.stat.file_type() != FileType::Symlink {
            return Err(Errno::EINVAL.into());
        }
        let target = object.target.slice(..object.target.len().min(size as usize));
        Ok(ReadlinkReply { stat: object.stat, target, xdata: Dict::NULL })
    }

    /// The check and truncation of OPEN; the caller takes a number.
    pub(in super::super) fn open(&mut self, caller: &Caller, gfid: Gfid, flags: i32, xdata: &Dict) -> Done<Dict> {
        self.note_time(caller);
        let gfid = self.find(caller, Target::Inode(gfid))?;
        if self.storage.stat(gfid).is_dir() && flags & host::O_DIRECTORY == 0 {
            return Err(Errno::EISDIR.into());
        }
        if flags & host::O_TRUNC != 0 && !self.arbiter {
            self.storage.change(gfid, Change::Size(0))?;
        }
        Ok(self.answers(Some(gfid), None, xdata))
    }

    pub(in super::super) fn opendir(&mut self, caller: &Caller, gfid: Gfid) -> Done<(Dict, i64)> {
        let gfid = self.find(caller, Target::Inode(gfid))?;
        if !self.storage.stat(gfid).is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        Ok((Dict::NULL, self.open_file(caller.session, gfid, host::O_DIRECTORY)))
    }

    pub(in super::super) fn read(
        &mut self,
        caller: &Caller,
        target: Target,
        offset: u64,
        size: u32,
    ) -> Done<ReadReply> {
        if self.arbiter {
            return Err(Errno::ENOSYS.into());
        }
        let gfid = self.find(caller, target)?;
        let object = self.storage.open(gfid).ok_or(Errno::ESTALE)?;
        let start = object.data.len().min(offset as usize);
        let end = object.data.len().min(start + size as usize);
        let data = Bytes::copy_from_slice(&object.data[start..end]);
        let end_of_file = end == object.data.len();
        Ok(ReadReply { data: Payload::from_iter([data]), stat: object.stat, end_of_file, xdata: Dict::NULL })
    }

    pub(in super::super) fn write(
        &mut self,
        caller: &Caller,
        target: Target,
        data: &[u8],
        offset: u64,
        flags: u32,
        xdata: &Dict,
    ) -> Done<WriteReply> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let mut reply = self.answers(Some(gfid), None, xdata);
        reply.remove("glusterfs.open-active-fd-count");
        let mut tell = |key: &'static str, value: u64| {
            if xdata.contains(key) {
                reply.set(key, Value::Uint(value));
            }
        };
        if self.arbiter {
            tell("glusterfs.write-is-append", 1);
            let stat = self.storage.stat(gfid);
            return Ok(WriteReply { written: data.len(), pre: stat, post: stat, xdata: reply });
        }
        let of_fd = match target {
            Target::File(_, number) => self.file(caller, number).map_or(0, |file| file.flags),
            Target::Inode(_) => 0,
        };
        // The anonymous fd takes the flags that come with the write.
        let flags = of_fd | flags as i32;
        let data = &data[..data.len().min(self.room)];
        let written = self.storage.write(gfid, data, offset, flags & host::O_APPEND != 0, flags & host::O_SYNC != 0)?;
        tell("glusterfs.write-is-append", u64::from(written.append));
        tell("glusterfs.open-active-fd-count", self.open_count(gfid) as u64);
        Ok(WriteReply { written: written.written, pre: written.pre, post: written.post, xdata: reply })
    }

    /// TRUNCATE, FTRUNCATE, FALLOCATE, DISCARD, ZEROFILL. An arbiter says yes and does nothing.
    pub(in super::super) fn change(
        &mut self,
        caller: &Caller,
        target: Target,
        change: Change,
        xdata: &Dict,
    ) -> Done<PrePostReply> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let (pre, post) = match self.arbiter {
            true => (self.storage.stat(gfid), self.storage.stat(gfid)),
            false => self.storage.change(gfid, change)?,
        };
        Ok(PrePostReply { pre, post, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(in super::super) fn fsync(&mut self, caller: &Caller, target: Target, xdata: &Dict) -> Done<PrePostReply> {
        let gfid = self.find(caller, target)?;
        self.storage.object_mut(gfid)?.durable = None;
        let stat = self.storage.stat(gfid);
        Ok(PrePostReply { pre: stat, post: stat, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(in super::super) fn flush(&mut self, caller: &Caller, target: Target) -> Done<Dict> {
        let gfid = self.find(caller, target)?;
        let mut ready = Vec::new();
        self.posix_locks.flush(gfid, &caller.holder(), &mut ready);
        self.grant(ready);
        Ok(Dict::NULL)
    }

    pub(in super::super) fn set_attributes(
        &mut self,
        caller: &Caller,
        target: Target,
        stat: &Iatt,
        valid: u32,
        xdata: &Dict,
    ) -> Done<PrePostReply> {
        self.note_time(caller);
        let gfid = self.find(caller, target)?;
        let (pre, post) = self.storage.set_attributes(gfid, stat, valid)?;
        Ok(PrePostReply { pre, post, xdata: self.answers(Some(gfid), None, xdata) })
    }

    pub(in super::super) fn statfs(&mut self) -> Done<StatfsReply> {
        let free = 500 - self.index_number as u64;
        let statfs = Statfs {
            bsize: 4096,
            frsize: 4096,
            blocks: 1000,
            bfree: free,
            bavail: free,
            files: 100,
            ffree: 50,
            favail: 50,
            namemax: 255,
            ..Statfs::default()
        };
        Ok(StatfsReply { statfs, xdata: Dict::NULL })
    }

    pub(in super::super) fn seek(
        &mut self,
        caller: &Caller,
        target: Target,
        offset: u64,
        data: bool,
    ) -> Done<SeekReply> {
        if self.arbiter {
            return Err(Errno::ENOSYS.into());
        }
        let size = self.storage.stat(self.find(caller, target)?).size;
        if offset >= size {
            return Err(Errno::ENXIO.into());
        }
        Ok(SeekReply { offset: if data { offset } else { size }, xdata: Dict::NULL })
    }

    /// Sums that are equal where the data is; both sides of a comparison are simulated bricks.
    pub(in super::super) fn checksum(
        &mut self,
        caller: &Caller,
        target: Target,
        offset: u64,
        len: u32,
    ) -> Done<RchecksumReply> {
        let data: Vec<u8> = self.read(caller, target, offset, len)?.data.iter().flatten().copied().collect();
        let sum =
            |seed: u64| data.iter().fold(seed, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        let strong: Vec<u8> = (1..5).flat_map(|seed| sum(seed * 0x9e37_79b9).to_be_bytes()).collect();
        let xdata = Dict::empty().with("fips-mode-rchecksum", Value::Int(1));
        let zeros = !data.is_empty() && data.iter().all(|byte| *byte == 0);
        let xdata = if zeros { xdata.with("buf-has-zeroes", Value::Int(1)) } else { xdata };
        Ok(RchecksumReply { weak: sum(1) as u32, strong: strong.into(), xdata })
    }
}
