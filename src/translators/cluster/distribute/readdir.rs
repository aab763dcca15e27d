//! READDIR and READDIRP: one listing out of those of all subvolumes, one after the other (`dht_readdirp_cbk`).
//!
//! Files are listed by the subvolume that has them, directories by their hashed subvolume alone, linktos by nobody.

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno, FileType, Value};

use super::core::{Core, DirectoryState};
use super::{keys, linkto};
use crate::reply::{EntryPlus, ReaddirReply, ReaddirpReply};
use crate::translators::cluster::join_all;
use crate::{Context, Fd, FopError, FopResult, Inode, Loc};

/// Listings in a row that hold nothing for users, after which a brick is taken for mad.
const MAX_BATCHES: u32 = 1 << 20;

impl Core {
    pub(super) async fn opendir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let xdata = asking_for_linktos(xdata);
        let opens = self.children.iter().map(|child| child.opendir(context, loc, fd, xdata.clone()));
        first_success(join_all(opens).await).unwrap_or_else(|| Ok(Dict::NULL))
    }

    pub(super) async fn readdir(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirReply> {
        // Only the attributes tell a linkto from a file.
        let mut plus = self.readdirp(context, fd, size, offset, xdata.clone()).await?;
        while let (true, Some(next)) = (plus.entries.is_empty(), plus.goes_on_at()) {
            plus = self.readdirp(context, fd, size, next, xdata.clone()).await?;
        }
        let entries = plus.entries.into_iter().map(|entry| entry.entry).collect();
        Ok(ReaddirReply { entries, end: plus.end, xdata: plus.xdata })
    }

    pub(super) async fn readdirp(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        size: u32,
        offset: u64,
        xdata: Dict,
    ) -> FopResult<ReaddirpReply> {
        let xdata = asking_for_linktos(xdata);
        if let Some(only) = self.only() {
            let mut reply = only.readdirp(context, fd, size, offset, xdata).await?;
            reply.entries.retain(|entry| !linkto::is_linkto(&entry.stat, &entry.xdata));
            return Ok(reply);
        }
        let directory = self.layout_of(context, &fd.inode).await?;
        let last = self.children.len() - 1;
        let (mut index, mut cookie) = self.cookies.decode(offset);
        let mut failure: Option<FopError> = None;
        for _ in 0..MAX_BATCHES {
            let listing = match self.child(index).readdirp(context, fd, size, cookie, xdata.clone()).await {
                Ok(listing) => listing,
                // It has told some of its names, and cannot tell the others: a program that copies or removes what it sees
                // must not take that for all.
                Err(error) if cookie != 0 => return Err(error),
                // The names of a subvolume that is away are left out, as in the C client.
                Err(error) => {
                    tracing::warn!(%error, "a listing is incomplete");
                    failure = failure.or(Some(error));
                    ReaddirpReply { end: true, ..ReaddirpReply::default() }
                }
            };
            let position = listing.entries.last().map(|entry| entry.entry.offset);
            // A brick that neither goes forward nor says that it is at the end is at the end.
            let end = listing.end || position.is_none_or(|position| position == cookie);
            let shown = |entry| self.show(&fd.inode, &directory, index, entry);
            let mut entries: Vec<EntryPlus> = listing.entries.into_iter().filter_map(shown).collect();
            if end && index < last {
                // The next call need not ask this subvolume once more.
                if let Some(entry) = entries.last_mut() {
                    entry.entry.offset = self.cookies.encode(index + 1, 0);
                }
            }
            if !entries.is_empty() {
                return Ok(ReaddirpReply { entries, end: end && index == last, next: None, xdata: listing.xdata });
            }
            if !end {
                cookie = position.unwrap_or_default();
            } else if index < last && failure.is_none() {
                // Whoever asks has perhaps asked the next subvolume already.
                let next = Some(self.cookies.encode(index + 1, 0));
                return Ok(ReaddirpReply { entries, end: false, next, xdata: listing.xdata });
            } else if index < last {
                (index, cookie) = (index + 1, 0);
            } else {
                return match failure {
                    // Every subvolume failed, or the only one that was left to ask.
                    Some(error) if offset == 0 => Err(error),
                    _ => Ok(ReaddirpReply { entries, end: true, next: None, xdata: listing.xdata }),
                };
            }
        }
        Err(self.error(Errno::EIO, "list a directory").with_detail("a child's listing goes on for ever"))
    }

    /// An entry of subvolume `at` as users see it; `None` when it is not for them.
    fn show(&self, inode: &Inode, directory: &DirectoryState, at: usize, mut entry: EntryPlus) -> Option<EntryPlus> {
        if linkto::is_linkto(&entry.stat, &entry.xdata) {
            return None;
        }
        let kind = match entry.stat.is_absent() {
            true => FileType::from_dirent(entry.entry.kind),
            false => entry.stat.file_type(),
        };
        if kind == FileType::Directory {
            if self.lister(directory, &entry.entry.name) != at {
                return None;
            }
            // One brick's attributes are not the directory's, and its layout is still to be read: a LOOKUP does both.
            if !entry.stat.is_absent() {
                entry.entry.ino = entry.stat.gfid.ino();
                entry.stat = Default::default();
            }
            entry.inode = None;
        } else if !entry.stat.is_absent() {
            if self.options.listings_tell() && self.hashed(directory, &entry.entry.name) != Some(at) {
                self.remember_off_home(inode);
            }
            let inode = entry.inode.get_or_insert_with(Inode::fresh);
            self.remember_file(inode, at);
            if entry.xdata.contains(keys::LINKTO) {
                linkto::strip_migration_marks(&mut entry.stat);
            }
        }
        entry.xdata.remove(keys::LINKTO);
        entry.entry.offset = self.cookies.encode(at, entry.entry.offset);
        Some(entry)
    }

    /// The subvolume that lists a directory of that name: its home, or the first one that is up.
    fn lister(&self, directory: &DirectoryState, name: &[u8]) -> usize {
        let first_up = || self.children.iter().position(|child| child.events().is_up()).unwrap_or(0);
        if self.options.readdir_optimize {
            return first_up();
        }
        let hashed = self.hashed(directory, name).filter(|hashed| self.child(*hashed).events().is_up());
        hashed.unwrap_or_else(first_up)
    }
}

/// The first success, else the first failure; `None` of nothing.
pub(super) fn first_success<T>(results: Vec<FopResult<T>>) -> Option<FopResult<T>> {
    let mut failure = None;
    for result in results {
        match result {
            Ok(value) => return Some(Ok(value)),
            Err(error) => failure = failure.or(Some(Err(error))),
        }
    }
    failure
}

fn asking_for_linktos(xdata: Dict) -> Dict {
    xdata.with(keys::LINKTO, Value::Uint(256))
}
