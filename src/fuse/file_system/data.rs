//! READ, WRITE, FALLOCATE, LSEEK, COPY_FILE_RANGE.

use bytes::Bytes;
use rgfs_protocol::types::SeekWhat;
use rgfs_protocol::{Dict, Errno, Iatt};
use smallvec::smallvec;

use super::super::counters::Counters;
use super::super::handles::OpenFile;
use super::super::page_cache::Version;
use super::privileges::without_privileges;
use super::{Caller, FileSystem};
use crate::reply::Payload;
use crate::{Context, FopResult};

/// Most that one COPY_FILE_RANGE asks of a brick, in bytes: a brick answers when it is done, and other requests wait.
const COPY_LIMIT: u64 = 16 << 20;

/// What FALLOCATE shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allocation {
    Allocate { keep_size: bool },
    Punch,
    Zero { keep_size: bool },
}

/// The operation behind a mode of fallocate(2). The C client maps all but PUNCH_HOLE to an allocation, so that
/// ZERO_RANGE zeroes nothing.
fn allocation(mode: i32) -> Option<Allocation> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Some(Allocation::Allocate { keep_size: false }),
        KEEP => Some(Allocation::Allocate { keep_size: true }),
        _ if mode == libc::FALLOC_FL_PUNCH_HOLE | KEEP => Some(Allocation::Punch),
        libc::FALLOC_FL_ZERO_RANGE => Some(Allocation::Zero { keep_size: false }),
        _ if mode == libc::FALLOC_FL_ZERO_RANGE | KEEP => Some(Allocation::Zero { keep_size: true }),
        _ => None,
    }
}

impl FileSystem {
    /// Reads `size` bytes at `offset`; less only at the end of the file.
    ///
    /// # Errors
    /// Those of read(2).
    pub async fn read(
        &self,
        caller: &Caller,
        handle: u64,
        offset: u64,
        size: u32,
        lock_owner: Option<u64>,
    ) -> FopResult<Payload> {
        let file = self.file(handle, "read")?;
        if size == 0 {
            // A brick refuses it.
            return Ok(Payload::new());
        }
        let context = self.callers.context(caller, lock_owner);
        let reply = self.top.readv(&context, &file.fd, size, offset, 0, Dict::NULL).await?;
        if !reply.stat.is_absent() {
            file.node.state().pages.read(Version::from(&reply.stat));
        }
        let bytes: usize = reply.data.iter().map(Bytes::len).sum();
        Counters::add(&self.counters.bytes_read, bytes as u64);
        Ok(reply.data)
    }

    /// Writes `data` at `offset`. `drop_privileges`: the writer may not keep suid and sgid. Returns the bytes written.
    ///
    /// # Errors
    /// Those of write(2).
    pub async fn write(
        &self,
        caller: &Caller,
        handle: u64,
        offset: u64,
        data: Bytes,
        lock_owner: Option<u64>,
        drop_privileges: bool,
    ) -> FopResult<u32> {
        self.check_writable("write")?;
        let file = self.file(handle, "write")?;
        let context = self.callers.context(caller, lock_owner);
        if drop_privileges {
            self.before_write(&context, &file.node).await?;
        }
        let length = data.len();
        let reply = self.top.writev(&context, &file.fd, smallvec![data], offset, 0, Dict::NULL).await?;
        self.note_change(&file.node, &reply.pre, &reply.post);
        if drop_privileges {
            self.after_write(&context, &file, &reply.post).await?;
        }
        let written = reply.written.min(length);
        Counters::add(&self.counters.bytes_written, written as u64);
        Ok(written as u32)
    }

    /// Clears privileges that somebody set since the attributes were seen.
    async fn after_write(&self, context: &Context, file: &OpenFile, after: &Iatt) -> FopResult<()> {
        if !after.is_absent()
            && let Some(mode) = without_privileges(after.mode)
        {
            self.clear_privileges(context, &file.node, mode).await?;
        }
        Ok(())
    }

    /// Allocates, punches or zeroes a range.
    ///
    /// # Errors
    /// EOPNOTSUPP for modes that GlusterFS does not have; those of fallocate(2).
    pub async fn fallocate(&self, caller: &Caller, handle: u64, offset: u64, length: u64, mode: i32) -> FopResult<()> {
        self.check_writable("fallocate")?;
        let (context, file) = (self.context(caller), self.file(handle, "fallocate")?);
        let wanted = allocation(mode).ok_or_else(|| self.error(Errno::EOPNOTSUPP, "fallocate"))?;
        if length == 0 {
            return Err(self.error(Errno::EINVAL, "fallocate"));
        }
        let (top, fd) = (&self.top, &file.fd);
        let reply = match wanted {
            Allocation::Allocate { keep_size } => {
                top.fallocate(&context, fd, keep_size, offset, length, Dict::NULL).await?
            }
            Allocation::Punch => top.discard(&context, fd, offset, length, Dict::NULL).await?,
            Allocation::Zero { keep_size: false } => top.zerofill(&context, fd, offset, length, Dict::NULL).await?,
            Allocation::Zero { keep_size: true } => {
                // Bricks let the file grow: zero what is inside, only allocate behind the end.
                let size = top.fstat(&context, fd, Dict::NULL).await?.stat.size;
                if offset >= size {
                    top.fallocate(&context, fd, true, offset, length, Dict::NULL).await?
                } else {
                    top.zerofill(&context, fd, offset, length.min(size - offset), Dict::NULL).await?
                }
            }
        };
        self.note_change(&file.node, &reply.pre, &reply.post);
        if context.uid != 0 {
            self.after_write(&context, &file, &reply.post).await?;
        }
        Ok(())
    }

    /// Next data (`SEEK_DATA`) or hole (`SEEK_HOLE`) at or after `offset`.
    ///
    /// # Errors
    /// ENXIO behind the end; EINVAL for other kinds, which the kernel does itself.
    pub async fn seek(&self, caller: &Caller, handle: u64, offset: i64, whence: i32) -> FopResult<u64> {
        let (context, file) = (self.context(caller), self.file(handle, "lseek")?);
        let what = match whence {
            libc::SEEK_DATA => SeekWhat::Data,
            libc::SEEK_HOLE => SeekWhat::Hole,
            _ => return Err(self.error(Errno::EINVAL, "lseek")),
        };
        let offset = u64::try_from(offset).map_err(|_| self.error(Errno::ENXIO, "lseek"))?;
        Ok(self.top.seek(&context, &file.fd, offset, what, Dict::NULL).await?.offset)
    }

    /// Copies between two open files on the brick. Returns the bytes copied, perhaps less than asked.
    ///
    /// # Errors
    /// EOPNOTSUPP when no brick holds both: the kernel then copies through the client.
    pub async fn copy_file_range(
        &self,
        caller: &Caller,
        (source, source_offset): (u64, u64),
        (destination, destination_offset): (u64, u64),
        length: u64,
    ) -> FopResult<u32> {
        self.check_writable("copy_file_range")?;
        let context = self.context(caller);
        let source = self.file(source, "copy_file_range")?;
        let destination = self.file(destination, "copy_file_range")?;
        if context.uid != 0 {
            self.before_write(&context, &destination.node).await?;
        }
        let length = length.min(COPY_LIMIT) as u32;
        let (from, to) = (&source.fd, &destination.fd);
        let result = self
            .top
            .copy_file_range(&context, from, source_offset, to, destination_offset, length, 0, Dict::NULL)
            .await;
        let reply = result.map_err(|error| match error.errno {
            // "Not this way": whatever a translator or brick calls it. ENOSYS would end all further tries.
            Errno::EXDEV | Errno::ENOSYS | Errno::EBADFD => error.with_errno(Errno::EOPNOTSUPP),
            _ => error,
        })?;
        self.note_change(&destination.node, &reply.pre, &reply.post);
        Ok(reply.copied.min(length as usize) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallocate_modes() {
        assert_eq!(allocation(0), Some(Allocation::Allocate { keep_size: false }));
        assert_eq!(allocation(1), Some(Allocation::Allocate { keep_size: true }));
        assert_eq!(allocation(3), Some(Allocation::Punch));
        assert_eq!(allocation(0x10), Some(Allocation::Zero { keep_size: false }));
        assert_eq!(allocation(0x11), Some(Allocation::Zero { keep_size: true }));
        for other in [2, 8, 0x20, 0x40, 0x13, -1] {
            assert_eq!(allocation(other), None);
        }
    }
}
