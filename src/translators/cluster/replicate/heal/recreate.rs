//! Making a name on a copy that lacks it, or has something else under it (`afr_selfheal_recreate_entry`).

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Iatt, Value};

use super::super::changelog::Counters;
use super::super::child_set::ChildSet;
use super::super::core::Core;
use super::super::new_entry::accusation;
use super::super::target::Target;
use crate::reply::LookupReply;
use crate::translators::cluster::distribute::{keys, linkto};
use crate::{Context, FopError, FopResult, Inode, Loc};

/// A name as all children know it, looked up under the lock of its directory.
pub(super) struct NameView<'a> {
    /// The directory.
    pub(super) directory: &'a Arc<Inode>,
    /// The name.
    pub(super) name: &'a Bytes,
    /// What each child answered, by index.
    pub(super) replies: Vec<FopResult<LookupReply>>,
}

impl NameView<'_> {
    /// The object on one child.
    pub(super) fn stat(&self, child: usize) -> Option<&Iatt> {
        self.replies.get(child)?.as_ref().ok().map(|reply| &reply.stat)
    }

    /// Children that have the name.
    pub(super) fn present(&self) -> ChildSet {
        (0..self.replies.len()).filter(|child| self.stat(*child).is_some()).collect()
    }

    /// True when the child knows for sure that there is no such name.
    pub(super) fn is_absent(&self, child: usize) -> bool {
        matches!(self.replies.get(child), Some(Err(error)) if error.errno == Errno::ENOENT)
    }

    /// Why a child does not know.
    pub(super) fn trouble(&self, child: usize) -> Option<&FopError> {
        self.replies.get(child)?.as_ref().err().filter(|error| error.errno != Errno::ENOENT)
    }
}

impl Core {
    /// Looks a name up on all children. Asks for objects without gfid too.
    pub(super) async fn view<'a>(&self, context: &Context, directory: &'a Arc<Inode>, name: &'a Bytes) -> NameView<'a> {
        let request = &self.heal_request().with("gfidless-lookup", Value::Int(1));
        let replies = self
            .ask(self.all(), |_, child| {
                // The copies may disagree about what it is.
                let loc = Loc::entry(directory.clone(), name.clone(), Inode::fresh());
                Box::pin(async move { child.lookup(context, &loc, request.clone()).await })
            })
            .await;
        NameView { directory, name, replies: replies.into_iter().map(|(_, reply)| reply).collect() }
    }

    /// Gives the objects of this name that have no gfid the one of the source, if they are of its type
    /// (`afr_lookup_and_heal_gfid`).
    pub(super) async fn give_gfid(
        &self,
        context: &Context,
        view: &mut NameView<'_>,
        kind: FileType,
        gfid: &Value,
    ) -> FopResult<()> {
        for child in view.present().iter() {
            if view.stat(child).is_none_or(|stat| !stat.gfid.is_null() || stat.file_type() != kind) {
                continue;
            }
            let mut request = self.heal_request();
            request.set("gfid-req", gfid.clone());
            let loc = Loc::entry(view.directory.clone(), view.name.clone(), Inode::fresh());
            let reply = self.child(child).lookup(context, &loc, request).await;
            if let Some(slot) = view.replies.get_mut(child) {
                *slot = reply;
            }
        }
        Ok(())
    }

    /// Makes the name on `child` what it is on `source`. The copies in `sources` have it right.
    ///
    /// # Errors
    /// EIO and EAGAIN when it cannot be done now; the directory stays accused.
    pub(super) async fn recreate(
        &self,
        context: &Context,
        view: &NameView<'_>,
        source: usize,
        sources: ChildSet,
        child: usize,
    ) -> FopResult<()> {
        let Some(stat) = view.stat(source).filter(|stat| !stat.gfid.is_null()) else {
            return Err(self.error(Errno::EINVAL, "heal names").with_detail("the source has no gfid"));
        };
        if let Some(trouble) = view.trouble(child) {
            return Err(trouble.clone());
        }
        if let Some(wrong) = view.stat(child) {
            self.remove_name(context, view.directory, view.name, child, wrong).await?;
        }
        let brick = self.child(child);
        let inode = Inode::known(stat.gfid, stat.file_type());
        let known = match brick.lookup(context, &Loc::inode(inode.clone()), Dict::NULL).await {
            Ok(_) => true,
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => false,
            Err(error) => return Err(error),
        };
        let loc = Loc::entry(view.directory.clone(), view.name.clone(), inode.clone());
        if !known {
            self.mark_new_entry(context, &inode, sources, child).await?;
        } else if stat.is_dir() {
            // It was moved. The heal of its old name puts it into the hidden directory, or removes it; if it did not yet, that
            // comes first: a directory has one name.
            let Some(trash) = self.trash(context, child).await? else {
                let text = format!("{} has another name on {}, which must be healed first", stat.gfid, brick.name());
                return Err(self.error(Errno::EIO, "heal names").with_detail(text));
            };
            let kept = Loc::entry(trash, stat.gfid.to_string(), inode);
            let renamed = brick.rename(context, &kept, &loc, Dict::NULL).await;
            return renamed.map(|_| ()).map_err(|error| match error.errno {
                Errno::ENOENT | Errno::ESTALE => error.with_errno(Errno::EIO),
                _ => error,
            });
        }
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(stat.gfid));
        match stat.file_type() {
            FileType::Directory => {
                brick.mkdir(context, &loc, stat.mode & 0o7777, 0, xdata).await?;
            }
            FileType::Symlink if known => {
                brick.link(context, &Loc::inode(inode), &loc, Dict::NULL).await?;
            }
            FileType::Symlink => {
                let link = Loc::inode(inode);
                let target = self.child(source).readlink(context, &link, 4096, Dict::NULL).await?.target;
                brick.symlink(context, &loc, target, 0, xdata).await?;
            }
            _ => {
                // Where the gfid is known already, the brick makes a hard link.
                let mut xdata = xdata.with("glusterfs-internal-fop", Value::Int(1));
                if !known && linkto::has_linkto_mode(stat) {
                    // Without it, until its xattrs are healed, distribute would take it for a file.
                    let link = Loc::inode(inode);
                    match self.child(source).getxattr(context, &link, Some(keys::LINKTO), Dict::NULL).await {
                        Ok(reply) => reply.dict.iter().for_each(|(key, value)| xdata.set(key.clone(), value.clone())),
                        Err(error) if error.errno == Errno::ENODATA => {}
                        Err(error) => return Err(error),
                    }
                }
                brick.mknod(context, &loc, stat.mode, device(stat.rdev), 0, xdata).await?;
            }
        }
        if known {
            self.take_from_trash(context, child, stat.gfid).await;
        }
        Ok(())
    }

    /// Notes on the good copies that `child` is about to get an empty shell. Also where they say so already: what they say may be of
    /// the copy that was just removed there under another name, and a heal of that one, under way still, takes it back
    /// (upstream leaves it at that in `afr_new_entry_mark_status`, and an empty file stays, of which nobody knows).
    async fn mark_new_entry(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        sources: ChildSet,
        child: usize,
    ) -> FopResult<()> {
        let marks = accusation(inode.file_type(), self.options.granular_entry_heal);
        let delta = self.keys.delta(|index| if index == child { marks } else { Counters::ZERO }, None);
        let target = Target::Inode(inode.clone());
        for source in sources.iter() {
            target.xattrop(self.child(source), context, delta.clone(), Dict::NULL).await?;
        }
        Ok(())
    }
}

/// A device number of attributes (`major << 32 | minor`) as MKNOD wants it.
fn device(rdev: u64) -> u64 {
    let (major, minor) = (rdev >> 32, rdev & 0xffff_ffff);
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers() {
        assert_eq!(device(8 << 32 | 1), 0x801);
        assert_eq!(device(259 << 32 | 300), rustix::fs::makedev(259, 300));
    }
}
