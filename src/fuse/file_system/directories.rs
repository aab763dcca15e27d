//! OPENDIR, READDIR, READDIRPLUS, FSYNCDIR, RELEASEDIR.
//!
//! Bricks are asked for 128 KiB at a time, with attributes, also for a plain READDIR (the C client does the same by
//! `md-cache`'s `force-readdirp`): only so are the inode numbers of the entries those of stat(2). What the kernel's
//! buffer has no room for stays with the open directory for the next request, and what comes next is asked for meanwhile
//! (`list_ahead`). Cookies pass through unchanged.
//!
//! Listing has two halves: [`FileSystem::list`] fetches, [`FileSystem::deliver`] fills the kernel's buffer without
//! waiting, so that nodes count a lookup just for what the kernel really gets.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType};
use tokio::sync::oneshot;

use super::super::handles::OpenDirectory;
use super::super::inode_table::ROOT;
use super::super::list_ahead::{Chunk, Expected};
use super::{Caller, Entry, FileSystem, Opened, is_gone, on_inode};
use crate::reply::EntryPlus;
use crate::{Context, Fd, FopResult, Inode, ListingParts, Translator, task};

/// What a brick is asked for at a time, in bytes of its memory; it does not give more.
const BRICK_BUFFER: u32 = 128 << 10;
/// Chunks in a row without anything to show, after which a volume is taken for mad.
const EMPTY_CHUNKS: usize = 1 << 16;
/// While this mount takes names away from a directory nothing is listed ahead: it could not be shown.
const UNQUIET: Duration = Duration::from_secs(1);
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
    chunk: Chunk,
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

    /// Gets the entries behind the cookie `offset` ready; with attributes if `plus`. Asks for what comes after them, too.
    ///
    /// # Errors
    /// Those of readdir(3).
    pub async fn list(&self, caller: &Caller, handle: u64, offset: u64, plus: bool) -> FopResult<Listing> {
        let directory = self.directory(handle, "readdir")?;
        let context = self.context(caller);
        // From the start means anew: rewinddir(3) shows what changed. All parts are asked for at once.
        let mut begun = (offset == 0).then(|| self.begin_parts(&directory));
        if begun.is_some() {
            self.ask_ahead(&context, &directory, None);
        }
        let mut at = offset;
        for _ in 0..EMPTY_CHUNKS {
            let mut chunk = self.chunk(&context, &directory, at).await?;
            if begun.take().is_some_and(|parts| parts != self.top.listing_parts(&directory.fd)) {
                // A new graph has taken the listing over meanwhile.
                self.begin_parts(&directory);
            }
            self.ask_ahead(&context, &directory, chunk.next);
            if plus {
                self.complete(&context, &directory, &mut chunk).await?;
            }
            match chunk.next {
                // To the kernel no entries mean the end.
                Some(next) if chunk.entries.is_empty() => at = next,
                _ => return Ok(Listing { directory, chunk: Chunk { offset, ..chunk } }),
            }
        }
        Err(self.error(Errno::EIO, "readdir").with_detail("a listing without entries goes on for ever"))
    }

    /// Drops what is kept of a listing, and finds the parts that it has now.
    fn begin_parts(&self, directory: &OpenDirectory) -> ListingParts {
        let parts = self.top.listing_parts(&directory.fd);
        let mut ahead = directory.ahead();
        ahead.forget();
        ahead.set_parts(parts.offsets.clone());
        parts
    }

    /// The chunk at `offset`: one that was asked for already, or a new one.
    async fn chunk(&self, context: &Context, directory: &OpenDirectory, offset: u64) -> FopResult<Chunk> {
        let expected = directory.ahead().take(offset);
        let chunk = match expected {
            Some(Expected::Here(chunk)) => Some(chunk),
            // One that failed is asked for once more.
            Some(Expected::Coming(chunk)) => chunk.await.ok().and_then(Result::ok),
            None => None,
        };
        let names_gone = directory.node.state().names_gone;
        match chunk {
            Some(chunk) if chunk.is_current(names_gone, Instant::now()) => return Ok(chunk),
            // Nor is what was asked for beside it.
            Some(_) => directory.ahead().forget(),
            None => {}
        }
        fetch(&self.top, context, directory, offset).await
    }

    /// Asks for the chunk at `next`, and for parts of the listing that begin elsewhere, as far as there is room.
    fn ask_ahead(&self, context: &Context, directory: &Arc<OpenDirectory>, next: Option<u64>) {
        if directory.node.state().names_gone.is_some_and(|gone| gone.elapsed() < UNQUIET) {
            return;
        }
        loop {
            let (sender, receiver) = oneshot::channel();
            let offset = {
                let mut ahead = directory.ahead();
                let Some(offset) = ahead.wanted(next) else { return };
                ahead.put(offset, Expected::Coming(receiver));
                offset
            };
            // The rounds of what the caller does not wait for are not the caller's.
            let context = Context { rounds: Arc::default(), ..context.clone() };
            let (top, directory) = (self.top.clone(), directory.clone());
            task::spawn(async move {
                let _ = sender.send(fetch(&top, &context, &directory, offset).await);
            });
        }
    }

    /// Looks up the entries that came without attributes (the kernel's READDIRPLUS, as `fuser` speaks it, has no form for
    /// those), and those that this mount changed since they were asked for. Names that vanished meanwhile are left out.
    async fn complete(&self, context: &Context, directory: &OpenDirectory, tail: &mut Chunk) -> FopResult<()> {
        let asked = tail.asked;
        let lacks = |found: &EntryPlus| found.stat.is_absent() || self.table.changed_since(found.stat.gfid, asked);
        let lacking: Vec<usize> = (0..tail.entries.len())
            .filter(|at| lacks(&tail.entries[*at]) && !is_dots(&tail.entries[*at].entry.name))
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
                    // One broken name does not hide the others; it is shown, and whoever looks at it gets the error.
                    Err(error) => tracing::warn!(%error, "an entry is listed that cannot be looked up"),
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
        let Listing { directory, mut chunk } = listing;
        while let Some(found) = chunk.entries.pop() {
            let listed = self.listed(&directory, &found, chunk.since, plus);
            if !take(&listed) {
                if let Some(entry) = listed.entry {
                    self.table.forget(entry.nodeid, 1);
                }
                chunk.entries.push(found);
                break;
            }
            chunk.offset = listed.offset;
        }
        keep(&directory, chunk);
    }

    /// Takes back a listing that the kernel does not want any more.
    pub fn take_back(&self, listing: Listing) {
        keep(&listing.directory, listing.chunk);
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
            if plus {
                // The kernel wants a node here. It asks for the name before it uses this one.
                ino = self.table.number_of_nothing();
            }
        } else if plus {
            let fresh = found.inode.clone().unwrap_or_else(Inode::fresh);
            let node = self.table.link_silently(&fresh, &found.stat);
            let (stat, seen) = node.note_listed(&found.stat, since);
            self.name(&node, directory.node.nodeid, &name);
            ino = node.nodeid;
            entry = Some(self.entry(&node, &stat, seen));
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

fn keep(directory: &OpenDirectory, chunk: Chunk) {
    // "Nothing left, and it was not the end" is what a directory without a chunk there says too.
    if chunk.next.is_none() || !chunk.entries.is_empty() {
        directory.ahead().put(chunk.offset, Expected::Here(chunk));
    }
}

/// Asks the translators for the entries behind `offset`.
async fn fetch(
    top: &Arc<dyn Translator>,
    context: &Context,
    directory: &OpenDirectory,
    offset: u64,
) -> FopResult<Chunk> {
    let asked = Instant::now();
    let reply = top.readdirp(context, &directory.fd, BRICK_BUFFER, offset, Dict::NULL).await?;
    let next = reply.goes_on_at().filter(|next| *next != offset);
    let mut entries = reply.entries;
    entries.retain(|entry| !entry.entry.name.is_empty());
    entries.reverse();
    Ok(Chunk { offset, entries, next, asked, since: Instant::now() })
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
