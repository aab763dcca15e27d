//! What subvolumes tell of where a file is that rebalance moves, or where it goes (`dht_migration_complete_check_task`,
//! `dht_rebalance_inprogress_task`).

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Value};

use super::core::{Core, as_root};
use super::follow::Target;
use super::{keys, linkto, migration};
use crate::{Context, FopResult, Inode, Loc};

impl Core {
    /// Whether a file has a name anywhere, as far as the children tell.
    pub(super) async fn exists(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>) -> bool {
        let found = self.discover(&as_root(context), &Loc::inode(inode.clone()), Dict::NULL).await;
        !found.is_err_and(|error| migration::is_missing(error.errno))
    }

    /// The linkto of a file on one subvolume: the name of another one. `None` without.
    pub(super) async fn linkto_of(&self, context: &Context, target: Target<'_>, at: usize) -> FopResult<Option<Bytes>> {
        let (root, child) = (as_root(context), self.child(at));
        let reply = match target {
            Target::Loc(loc) => {
                let loc = Loc::inode(loc.inode.clone());
                child.getxattr(&root, &loc, Some(keys::LINKTO), Dict::NULL).await
            }
            Target::Fd(fd) => child.fgetxattr(&root, fd, Some(keys::LINKTO), Dict::NULL).await,
        };
        match reply {
            Ok(reply) => Ok(linkto::target(&reply.dict)),
            Err(error) if error.errno == Errno::ENODATA => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the bits that look like marks are marks.
    pub(super) async fn is_moving(&self, context: &Context, target: Target<'_>, at: usize) -> bool {
        let known = self.file(target.inode()).is_some_and(|file| file.cached == at && file.moving_to.is_some());
        known || matches!(self.linkto_of(context, target, at).await, Ok(Some(_)))
    }

    /// Where a file with marks is being moved to, as an index; `None` when the marks are a user's, or there is no destination (any more).
    /// What is remembered may be of an earlier move.
    ///
    /// # Errors
    /// ENOENT or ESTALE when the source has the file no more.
    pub(super) async fn destination(
        &self,
        context: &Context,
        target: Target<'_>,
        at: usize,
    ) -> FopResult<Option<usize>> {
        let inode = target.inode();
        let known = self.file(inode).filter(|file| file.cached == at).and_then(|file| file.moving_to);
        if let Some(index) = known {
            return Ok(Some(index));
        }
        let name = match self.linkto_of(context, target, at).await {
            Ok(Some(name)) => name,
            Ok(None) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(index) = self.index_of(&name) else {
            let detail = format!(
                "the file is being moved to {}, a brick that the volfile at work does not name",
                String::from_utf8_lossy(&name)
            );
            return Err(self.error(Errno::EIO, "find where a file moves to").with_detail(detail));
        };
        if index == at {
            return Ok(None);
        }
        match self.child(index).lookup(&as_root(context), &Loc::inode(inode.clone()), Dict::NULL).await {
            Ok(there) if there.stat.gfid == inode.gfid() => {
                self.remember_moving(inode, at, index);
                Ok(Some(index))
            }
            Ok(_) => Err(self.error(Errno::EIO, "find where a file moves to").with_detail("another file is there")),
            Err(error) if migration::is_missing(error.errno) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a file is that is not at `at` any more; `None` when it is there after all. `has_linkto_mode` tells that an
    /// answer showed what may be its remains.
    pub(super) async fn new_home(
        self: &Arc<Self>,
        context: &Context,
        target: Target<'_>,
        at: usize,
        has_linkto_mode: bool,
    ) -> FopResult<Option<usize>> {
        let inode = target.inode();
        let by_gfid = Loc::inode(inode.clone());
        let root = as_root(context);
        let mut aim = None;
        if has_linkto_mode {
            aim = match self.linkto_of(context, target, at).await {
                // A user likes that mode.
                Ok(None) => return Ok(None),
                Ok(Some(name)) => self.index_of(&name).filter(|index| *index != at),
                Err(_) => None,
            };
        }
        if let Some(index) = aim {
            let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
            let there = self.child(index).lookup(&root, &by_gfid, request).await;
            if there.is_ok_and(|there| there.stat.gfid == inode.gfid() && !linkto::is_linkto(&there.stat, &there.xdata))
            {
                self.remember_file(inode, index);
                return Ok(Some(index));
            }
        }
        match self.discover(&root, &by_gfid, Dict::NULL).await {
            Ok(found) if found.stat.gfid != inode.gfid() => {
                Err(self.error(Errno::EIO, "find a moved file").with_detail("the children disagree about its gfid"))
            }
            Ok(_) => Ok(self.file(inode).map(|file| file.cached).filter(|index| *index != at)),
            Err(error) => match (target, aim) {
                // It has no name any more, but we have it open.
                (Target::Fd(fd), Some(index)) if self.is_open_there(fd, index) => {
                    self.remember_file(inode, index);
                    Ok(Some(index))
                }
                _ => Err(error),
            },
        }
    }
}
