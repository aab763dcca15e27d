//! Finishing the rename of a directory that was interrupted: its client died when some subvolumes had renamed it and
//! others had not. Then it has two names, and each leads to a part of its files.
//!
//! The C client takes the directory for missing under the name that it looks up, and makes it there: two directories with
//! one gfid on a brick, of which the one with the files cannot be reached any more. Here the subvolumes that lack the name
//! are asked for the gfid first; one that has it under another name renames it. Whichever name is looked up first stays:
//! nobody was told that the rename succeeded, or that it failed. Only where an empty directory was replaced the rename
//! goes on in any case: that one is gone already.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Gfid};

use super::core::{Core, as_root};
use super::heal::MAX_DEPTH;
use super::keys;
use crate::reply::LookupReply;
use crate::translators::cluster::join_all;
use crate::{Context, FopResult, Inode, Loc};

impl Core {
    /// Renames the directory `gfid` to the name of `loc` on subvolumes that have it under another name while the rest has it
    /// there. Answers whether there were any.
    ///
    /// # Errors
    /// ENOENT when it has the other name now; else when a subvolume does not answer, or has something else under the name.
    pub(super) fn finish_rename<'a>(
        self: &'a Arc<Self>,
        context: &'a Context,
        loc: &'a Loc,
        gfid: Gfid,
    ) -> Pin<Box<dyn Future<Output = FopResult<bool>> + Send + 'a>> {
        Box::pin(async move {
            let Some(parent) = loc.parent.clone() else { return Ok(false) };
            let context = &as_root(context);
            let known = Inode::known(gfid, FileType::Directory);
            let here = Loc::entry(parent, loc.name.clone(), known.clone());
            let strays = self.strays(context, &here).await;
            let Some(first) = strays.first() else { return Ok(false) };
            let Some(there) = self.name_of(context, &known, *first).await? else { return Ok(false) };
            if there.parent_gfid() == here.parent_gfid() && there.name == here.name {
                return Ok(false);
            }
            let (transaction, _) = self.lock_both_names(context, &there, &here).await?;
            // Whoever was renaming it has finished now, or is dead.
            let strays = self.strays(context, &here).await;
            let (at_there, replaced) = self.has_name(context, &there, gfid).await;
            let (named, _) = self.has_name(context, &here, gfid).await;
            // What it replaced is lost already where it was renamed: then it goes on, or else back.
            let onward = replaced && !named.is_empty();
            let renames: Vec<usize> = match onward {
                true => named,
                false => strays.into_iter().filter(|index| at_there.contains(index)).collect(),
            };
            let (from, to) = if onward { (&here, &there) } else { (&there, &here) };
            let renames = renames.into_iter().map(|index| self.child(index).rename(context, from, to, Dict::NULL));
            let renamed = join_all(renames).await;
            transaction.release();
            let count = renamed.len();
            renamed.into_iter().try_for_each(|result| result.map(drop))?;
            if count > 0 {
                tracing::info!(%gfid, "the interrupted rename of a directory is finished");
            }
            if onward {
                return Err(self.error(Errno::ENOENT, "look a directory up").with_detail("it was renamed"));
            }
            Ok(count > 0)
        })
    }

    /// Subvolumes that have the directory, but not under this name, while others have it there.
    async fn strays(&self, context: &Context, here: &Loc) -> Vec<usize> {
        let gfid = here.gfid();
        let (named, _) = self.has_name(context, here, gfid).await;
        if named.is_empty() {
            return Vec::new();
        }
        let others: Vec<usize> = (0..self.children.len()).filter(|index| !named.contains(index)).collect();
        self.having(context, &others, gfid).await
    }

    /// Whether one of these subvolumes, which lack a name of the directory, has it under another one.
    pub(super) async fn is_elsewhere(&self, context: &Context, missing: &[usize], gfid: Gfid) -> bool {
        #[cfg(test)]
        if super::planted::is_planted(super::planted::Fault::MakeWhatWasRenamed) {
            return false;
        }
        !self.having(context, missing, gfid).await.is_empty()
    }

    /// Those of some subvolumes that have the directory, under whichever name.
    async fn having(&self, context: &Context, of: &[usize], gfid: Gfid) -> Vec<usize> {
        let by_gfid = Loc::inode(Inode::known(gfid, FileType::Directory));
        let asked = of.iter().map(|index| self.child(*index).lookup(context, &by_gfid, Dict::NULL));
        let answers = of.iter().zip(join_all(asked).await);
        answers.filter(|(_, answer)| is_directory(answer, gfid)).map(|(index, _)| *index).collect()
    }

    /// Subvolumes where that name leads to the directory, and whether it leads to another one elsewhere.
    async fn has_name(&self, context: &Context, name: &Loc, gfid: Gfid) -> (Vec<usize>, bool) {
        let fresh = Loc { inode: Inode::fresh(), ..name.clone() };
        let asked = self.children.iter().map(|child| child.lookup(context, &fresh, Dict::NULL));
        let answers = join_all(asked).await;
        let others = answers.iter().flatten().any(|reply| reply.stat.is_dir() && reply.stat.gfid != gfid);
        let answers = answers.iter().enumerate().filter(|(_, answer)| is_directory(answer, gfid));
        (answers.map(|(index, _)| index).collect(), others)
    }

    /// The name under which a subvolume has a directory.
    async fn name_of(self: &Arc<Self>, context: &Context, directory: &Arc<Inode>, at: usize) -> FopResult<Option<Loc>> {
        let by_gfid = Loc::inode(directory.clone());
        let reply = self.child(at).getxattr(context, &by_gfid, Some(keys::ANCESTRY_PATH), Dict::NULL).await?;
        let path = reply.dict.bytes(keys::ANCESTRY_PATH).unwrap_or_default();
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let Some(last) = names.pop().filter(|_| names.len() < MAX_DEPTH) else { return Ok(None) };
        let mut parent = Inode::known(Gfid::ROOT, FileType::Directory);
        for name in names {
            let entry = Loc::entry(parent, Bytes::copy_from_slice(name), Inode::fresh());
            let found = self.lookup(context, &entry, Dict::NULL).await?;
            if !found.stat.is_dir() {
                return Err(self.error(Errno::ENOTDIR, "find the other name of a directory"));
            }
            entry.inode.identify(found.stat.gfid, found.stat.file_type());
            parent = entry.inode;
        }
        Ok(Some(Loc::entry(parent, Bytes::copy_from_slice(last), directory.clone())))
    }
}

fn is_directory(answer: &FopResult<LookupReply>, gfid: Gfid) -> bool {
    answer.as_ref().is_ok_and(|reply| reply.stat.is_dir() && reply.stat.gfid == gfid)
}
