//! OPENDIR, READDIR, READDIRPLUS, FSYNCDIR, RELEASEDIR.
//!
//! Bricks are asked for 128 KiB at a time, with attributes, also for a plain READDIR (the C client does the same by
//! `md-cache`'s `force-readdirp`): only so are the inode numbers of the entries those of stat(2). What the kernel's
//! buffer has no room for stays with the open directory for the next request. Cookies pass through unchanged.
//!
//! Listing has two halves: [`FileSystem::list`] fetches, [`FileSystem::deliver`] fills the kernel's buffer without
//! waiting, so that nodes count a lookup just for what the kernel really gets.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use rgfs_protocol::{Dict, FileType};

use super::super::handles::{OpenDirectory, Tail};
use super::super::inode_table::ROOT;
use super::{Caller, Entry, FileSystem, Opened, is_gone, on_inode};
use crate::reply::EntryPlus;
use crate::{Context, Fd, FopResult, Inode};

/// What a brick is asked for at a time, in bytes of its memory; it does not give more.
const BRICK_BUFFER: u32 = 128 << 10;
/// Answers without anything to show that are skipped before a listing counts as ended.
const EMPTY_ANSWERS: usize = 64;
/// Names that are looked up at a time when an answer came without their attributes.
const LOOKUPS_AT_ONCE: usize = 64;

/// An entry for the kernel.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Name.
    pub name: Bytes,
    /// Cookie of the position behind it.
    pub offset: u64,
    /// Inode number.
    pub ino: u64,
    /// What it is.
    pub kind: FileType,
    /// For READDIRPLUS: the inode, unless the entry is `.` or `..`, which the kernel does not count.
    pub entry: Option<Entry>,
}

/// Entries that are there to be delivered.
#[derive(Debug)]
pub struct Listing {
    directory: Arc<OpenDirectory>,
    tail: Tail,
}

impl FileSystem {
    /// Opens a directory.
    ///
    /// # Errors
    /// Those of opendir(3).
    pub async fn opendir(&self, caller: &Caller, nodeid: u64, flags: i32) -> FopResult<Opened> {
        let (context, node) = self.on_behalf_at(caller, nodeid, "opendir")?;
        let fd = Fd::new(node.inode.clone(), flags | libc::O_DIRECTORY, context.pid);
        on_inode!(self, &context, &node, |loc| self.top.opendir(&context, loc, &fd, Dict::NULL))?;
        Ok(Opened { handle: self.handles.open_directory(node, fd), direct_io: false, keep_cache: false })
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        self.handles.close_directory(handle);
    }

    /// Brings a directory to stable storage.
    ///
    /// # Errors
    /// Those of fsync(2).
    pub async fn fsyncdir(&self, caller: &Caller, handle: u64, datasync: bool) -> FopResult<()> {
        let (context, directory) = (self.context(caller), self.directory(handle, "fsyncdir")?);
        self.top.fsyncdir(&context, &directory.fd, datasync, Dict::NULL).await?;
        Ok(())
    }

    /// Gets the entries behind the cookie `offset` ready; with attributes if `plus`.
    ///
    /// # Errors
    /// Those of readdir(3).
    pub async fn list(&self, caller: &Caller, handle: u64, offset: u64, plus: bool) -> FopResult<Listing> {
        let directory = self.directory(handle, "readdir")?;
        let kept = directory.tail.lock().unwrap_or_else(PoisonError::into_inner).take();
        // From the start means anew: rewinddir(3) shows what changed.
        let kept = kept.filter(|tail| tail.offset == offset && offset != 0);
        let context = self.context(caller);
        let mut tail = match kept {
            Some(tail) => tail,
            None => self.fetch_entries(&context, &directory, offset).await?,
        };
        if plus {
            self.complete(&context, &directory, &mut tail).await?;
        }
        Ok(Listing { directory, tail })
    }

    async fn fetch_entries(&self, context: &Context, directory: &OpenDirectory, offset: u64) -> FopResult<Tail> {
        let mut at = offset;
        for _ in 0..EMPTY_ANSWERS {
            let reply = self.top.readdirp(context, &directory.fd, BRICK_BUFFER, at, Dict::NULL).await?;
            let last = reply.entries.last().map(|entry| entry.entry.offset);
            let mut entries = reply.entries;
            entries.retain(|entry| !entry.entry.name.is_empty());
            if entries.is_empty() && !reply.end && last.is_some_and(|last| last != at) {
                at = last.unwrap_or(at);
                continue;
            }
            let end = reply.end || entries.is_empty();
            entries.reverse();
            return Ok(Tail { offset, entries, end, since: Instant::now() });
        }
        Ok(Tail { offset, entries: Vec::new(), end: true, since: Instant::now() })
    }

    /// Looks up the entries that came without attributes: the kernel's READDIRPLUS, as `fuser` speaks it, has no form for
    /// those. Names that vanished meanwhile are left out.
    async fn complete(&self, context: &Context, directory: &OpenDirectory, tail: &mut Tail) -> FopResult<()> {
        let lacking: Vec<usize> = (0..tail.entries.len())
            .filter(|at| tail.entries[*at].stat.is_absent() && !is_dots(&tail.entries[*at].entry.name))
            .collect();
        let mut vanished = Vec::new();
        for chunk in lacking.chunks(LOOKUPS_AT_ONCE) {
            let lookups = chunk.iter().map(|at| {
                let name = tail.entries[*at].entry.name.clone();
                Box::pin(async move { self.find(context, &directory.node, &name).await })
            });
            for (at, found) in chunk.iter().zip(all(lookups.collect()).await) {
                match found {
                    Ok((node, stat)) => {
                        tail.entries[*at].stat = stat;
                        tail.entries[*at].inode = Some(node.inode.clone());
                        // Delivering counts it again.
                        self.table.forget(node.nodeid, 1);
                    }
                    Err(error) if is_gone(&error) => vanished.push(*at),
                    Err(error) => return Err(error),
                }
            }
        }
        for at in vanished.into_iter().rev() {
            tail.entries.remove(at);
        }
        Ok(())
    }

    /// Hands entries to `take` until it says that it has no room (`false`) or there are no more; keeps the rest.
    pub fn deliver(&self, listing: Listing, plus: bool, mut take: impl FnMut(&Listed) -> bool) {
        let Listing { directory, mut tail } = listing;
        while let Some(found) = tail.entries.pop() {
            let listed = self.listed(&directory, &found, tail.since, plus);
            if !take(&listed) {
                if let Some(entry) = listed.entry {
                    self.table.forget(entry.nodeid, 1);
                }
                tail.entries.push(found);
                break;
            }
            tail.offset = listed.offset;
        }
        self.keep(directory, tail);
    }

    /// Takes back a listing that the kernel does not want any more.
    pub fn take_back(&self, listing: Listing) {
        self.keep(listing.directory, listing.tail);
    }

    fn keep(&self, directory: Arc<OpenDirectory>, tail: Tail) {
        // "Nothing left, and it was not the end" is what a directory without tail says too.
        if tail.end || !tail.entries.is_empty() {
            *directory.tail.lock().unwrap_or_else(PoisonError::into_inner) = Some(tail);
        }
    }

    fn listed(&self, directory: &OpenDirectory, found: &EntryPlus, since: Instant, plus: bool) -> Listed {
        let name = found.entry.name.clone();
        let mut kind = match found.stat.file_type() {
            FileType::Unknown => FileType::from_dirent(found.entry.kind),
            kind => kind,
        };
        let (mut ino, mut entry) = (found.entry.ino, None);
        if is_dots(&name) {
            (ino, kind) = (self.number_of_dots(directory, &name, found), FileType::Directory);
        } else if found.stat.is_absent() {
            // Only plain listings get here.
        } else if plus {
            let fresh = found.inode.clone().unwrap_or_else(Inode::fresh);
            let node = self.table.link(&fresh, &found.stat, since);
            self.name(&node, directory.node.nodeid, &name);
            ino = node.nodeid;
            entry = Some(self.entry(&node, &found.stat, since));
        } else {
            ino = self.table.number_of(found.stat.gfid);
        }
        Listed { name, offset: found.entry.offset, ino, kind, entry }
    }

    fn number_of_dots(&self, directory: &OpenDirectory, name: &[u8], found: &EntryPlus) -> u64 {
        let node = &directory.node;
        if name == b"." || node.nodeid == ROOT {
            return node.nodeid;
        }
        let parent = node.state().name.as_ref().map(|(parent, _)| *parent);
        parent.unwrap_or(found.entry.ino)
    }
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

/// The results of all futures, in their order; they go on side by side.
async fn all<F: Future>(mut futures: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut waiting: Vec<(usize, Pin<Box<F>>)> = futures.drain(..).enumerate().collect();
    poll_fn(|context| {
        waiting.retain_mut(|(at, future)| match future.as_mut().poll(context) {
            Poll::Ready(result) => {
                results[*at] = Some(result);
                false
            }
            Poll::Pending => true,
        });
        if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}
