//! Making and removing linkto files on the bricks (`dht-linkfile.c`).

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::set_attr;
use rgfs_protocol::{Dict, Errno, Gfid, Iatt, Value};

use super::core::{Core, as_root, to_the_end};
use super::keys;
use super::linkto::{self, LINKTO_MODE};
use super::locks::Transaction;
use crate::inode::Inode;
use crate::reply::LookupReply;
use crate::{Context, FopResult, Loc};

impl Core {
    /// Makes `name` on subvolume `at` a linkto to `target`. One that is there already will do; answers what is there.
    pub(super) async fn make_linkto(
        &self,
        context: &Context,
        loc: &Loc,
        gfid: Gfid,
        at: usize,
        target: usize,
        extra: Dict,
    ) -> FopResult<Option<LookupReply>> {
        let root = as_root(context);
        let link = Loc { inode: Inode::fresh(), ..loc.clone() };
        let mut xdata = linkto::creation_xdata(self.child(target).name(), gfid);
        for (key, value) in extra.iter() {
            xdata.set(key.clone(), value.clone());
        }
        match self.child(at).mknod(&root, &link, LINKTO_MODE, 0, 0, xdata).await {
            Ok(_) => Ok(None),
            Err(error) if error.errno == Errno::EEXIST => {
                let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
                let there = self.child(at).lookup(&root, &link, request).await.ok();
                if !there.as_ref().is_some_and(|there| linkto::is_linkto(&there.stat, &there.xdata)) {
                    tracing::info!(child = %self.child(at).name(), "something else is where a linkto belongs");
                }
                Ok(there)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives a linkto the owner of its file, which is there now. Quota and sticky directories look at it; a failure does no
    /// harm. Another client that looked the name up before the file was there took the linkto for a stale one and removed
    /// it: then it is made again, or a lookup that trusts the layout would not find the file.
    pub(super) async fn own_linkto(&self, context: &Context, loc: &Loc, at: usize, file: &Iatt, cached: usize) {
        let owner = Iatt { uid: file.uid, gid: file.gid, ..Iatt::default() };
        let link = Loc { inode: Inode::known(file.gfid, file.file_type()), ..loc.clone() };
        let internal = Dict::empty().with(keys::INTERNAL_FOP, Value::str("yes"));
        let valid = set_attr::UID | set_attr::GID;
        match self.child(at).setattr(&as_root(context), &link, &owner, valid, internal).await {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE) && at != cached => {
                if let Err(error) = self.make_linkto(context, loc, file.gfid, at, cached, Dict::NULL).await {
                    tracing::warn!(%error, "a name is without its linkto");
                }
            }
            Err(error) => tracing::debug!(%error, "a linkto keeps root as its owner"),
            Ok(_) => {}
        }
    }

    /// Removes a linkto that leads nowhere.
    ///
    /// # Errors
    /// EIO when the name may have just become the file itself: either copy could be the wrong one.
    pub(super) async fn remove_stale_linkto(&self, context: &Context, loc: &Loc, at: usize) -> FopResult<()> {
        let removed = self.child(at).unlink(&as_root(context), loc, 0, linkto::guarded_unlink_xdata()).await;
        match removed {
            Err(error) if matches!(error.errno, Errno::EBUSY | Errno::ENOTCONN) => Err(error
                .with_errno(Errno::EIO)
                .with_detail("a linkto changed while its file was looked for; try again")),
            Err(error) => {
                tracing::debug!(%error, "a stale linkto stays");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// A file was found off its hashed subvolume, which knows nothing of it, or has a linkto that does not lead to it: leaves
    /// a linkto there for the next lookup. Answers false when it is not there any more.
    ///
    /// # Errors
    /// EIO when a linkto may have just become the file itself.
    pub(super) async fn link_found_file(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        hashed: usize,
        cached: usize,
        file: &LookupReply,
    ) -> FopResult<bool> {
        let Some(parent) = loc.parent.clone() else { return Ok(true) };
        let (core, context, name, stat) = (self.clone(), context.clone(), loc.name.clone(), file.stat);
        to_the_end(self, "link a file to its home", async move {
            core.link_under_lock(&context, &parent, &name, hashed, cached, &stat).await
        })
        .await
    }

    async fn link_under_lock(
        self: &Arc<Self>,
        context: &Context,
        parent: &Arc<Inode>,
        name: &Bytes,
        hashed: usize,
        cached: usize,
        file: &Iatt,
    ) -> FopResult<bool> {
        let mut transaction = Transaction::new(self, context);
        transaction.namespace(hashed, parent, name).await?;
        let root = as_root(context);
        let loc = Loc::entry(parent.clone(), name.clone(), Inode::fresh());
        let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
        let at_home = self.child(hashed).lookup(&root, &loc, request).await;
        let data = self.child(cached).lookup(&root, &loc, Dict::NULL).await?;
        if data.stat.gfid != file.gfid {
            return Ok(false);
        }
        match at_home {
            Err(error) if error.errno == Errno::ENOENT => {}
            Ok(there) if linkto::is_linkto(&there.stat, &there.xdata) => {
                let target = linkto::target(&there.xdata).and_then(|name| self.index_of(&name));
                // One that this graph does not understand may be right.
                if target.is_none() || target == Some(cached) && there.stat.gfid == file.gfid {
                    return Ok(true);
                }
                self.remove_stale_linkto(context, &loc, hashed).await?;
            }
            // A file, or no answer.
            _ => return Ok(true),
        }
        self.make_linkto(context, &loc, file.gfid, hashed, cached, Dict::NULL).await?;
        self.own_linkto(context, &loc, hashed, file, cached).await;
        transaction.release();
        Ok(true)
    }
}
