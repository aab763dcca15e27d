//! Healing a directory that a lookup found incomplete (`dht-selfheal.c:dht_selfheal_directory`).
//!
//! What is to be done is decided in [`heal_plan`]; this is the doing, as root, inside
//! [`to_the_end`](super::core::to_the_end). What cannot be healed stays as it was seen, is logged, and is tried again by
//! the next lookup. The layout has a file of its own, [`heal_layout`](super::heal_layout).

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::set_attr;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::core::{Core, DirectoryState, as_root};
use super::directory_view::DirectoryView;
use super::heal_plan::{self, NotMade, Plan};
use super::keys;
use super::locks::Transaction;
use super::lookup::standard_request;
use super::virtual_xattrs::is_custom;
use crate::inode::Inode;
use crate::translators::cluster::join_all;
use crate::{Context, FopError, FopResult, Loc, task};

/// Deeper paths than this are not looked up name by name.
pub(super) const MAX_DEPTH: usize = 1024;

impl Core {
    /// Heals a directory; answers what is known of it afterwards. `hashed` is the subvolume of its name.
    ///
    /// # Errors
    /// ENOENT when somebody has removed it meanwhile.
    pub(super) async fn heal_directory(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        view: &DirectoryView,
        plan: Plan,
        hashed: Option<usize>,
    ) -> FopResult<DirectoryState> {
        let stat = &view.reply.stat;
        // The inode is still fresh, or the caller's: healing goes by the gfid.
        let inode = Inode::known(stat.gfid, FileType::Directory);
        let mut state = DirectoryState::new(view.layout.clone(), view.mds);
        let unhealed =
            |error: &FopError, what| tracing::warn!(%error, gfid = %stat.gfid, "{what} of a directory is not healed");

        let mut attributes = plan.attributes;
        if let (true, Some(hashed)) = (plan.make, hashed) {
            match self.make_where_missing(context, loc, stat, view.source, hashed).await {
                Ok(made) => attributes.extend(made),
                Err(error) if error.errno == Errno::ENOENT => return Err(error),
                Err(error) => {
                    unhealed(&error, "the absence");
                    return Ok(state);
                }
            }
        }
        if !attributes.is_empty()
            && let Err(error) = self.copy_attributes(context, &inode, view.source, &attributes).await
        {
            unhealed(&error, "the owner or mode");
        }
        if plan.layout {
            match self.heal_layout(context, &inode).await {
                Ok(layout) => state.layout = layout,
                Err(error) => unhealed(&error, "the layout"),
            }
        }
        if let (true, Some(hashed)) = (plan.marker, hashed) {
            match self.set_mds_counter(context, &inode, hashed).await {
                Ok(()) => state.mds = Some(hashed),
                Err(error) => unhealed(&error, "the MDS marker"),
            }
        }
        if let (true, Some(mds)) = (plan.xattrs, state.mds) {
            let (core, context) = (self.clone(), Context { rounds: Arc::default(), ..context.clone() });
            task::spawn(async move {
                if let Err(error) = core.copy_xattrs(&context, &inode, mds).await {
                    tracing::warn!(%error, gfid = %inode.gfid(), "xattrs of a directory still differ");
                }
            });
        }
        Ok(state)
    }

    /// Makes a directory where it is missing, under the lock of its name: it may be on its way out, or in. Answers where
    /// it was made.
    async fn make_where_missing(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        stat: &Iatt,
        source: usize,
        hashed: usize,
    ) -> FopResult<Vec<usize>> {
        let parent = loc.parent.clone().ok_or_else(|| self.error(Errno::EINVAL, "heal a directory"))?;
        let mut transaction = Transaction::new(self, context);
        transaction.namespace(hashed, &parent, &loc.name).await?;
        let entry = Loc::entry(parent, loc.name.clone(), Inode::fresh());
        let request = standard_request(Dict::NULL, false);
        let lookups = self.children.iter().map(|child| child.lookup(context, &entry, request.clone()));
        let answers = join_all(lookups).await.into_iter().map(|reply| match reply {
            Ok(reply) if reply.stat.is_dir() => Ok(reply.stat.gfid),
            Ok(_) => Ok(Gfid::default()),
            Err(error) => Err(error.errno),
        });
        let answers: Vec<Result<Gfid, Errno>> = answers.collect();
        let missing = heal_plan::still_missing(&answers, stat.gfid).map_err(|reason| {
            let (errno, detail) = match reason {
                NotMade::Gone => (Errno::ENOENT, "it was removed meanwhile"),
                NotMade::Replaced => (Errno::ESTALE, "something else has the name now"),
                NotMade::Failed(errno) => (errno, "a child did not tell what it has"),
            };
            self.error(errno, "heal a directory").with_detail(detail)
        })?;
        if missing.is_empty() {
            return Ok(missing);
        }
        // A brick that has it under another name must not make it once more.
        if self.is_elsewhere(context, &missing, stat.gfid).await {
            transaction.give_back().await;
            self.finish_rename(context, loc, stat.gfid).await?;
            return Ok(missing);
        }
        let xattrs = self.custom_xattrs(context, &Inode::known(stat.gfid, FileType::Directory), source).await?;
        let makings = missing.iter().map(|index| Box::pin(self.make_again(context, &entry, stat, &xattrs, *index)));
        for (index, result) in missing.iter().zip(join_all(makings).await) {
            if let Err(error) = result {
                tracing::warn!(%error, child = %self.child(*index).name(), "a directory is still missing");
            }
        }
        transaction.release();
        Ok(missing)
    }

    /// Makes a directory on one subvolume as others have it. Neither its layout nor its MDS marker go with it: the brick
    /// would store them as they are.
    pub(super) async fn make_again(
        &self,
        context: &Context,
        entry: &Loc,
        stat: &Iatt,
        xattrs: &Dict,
        at: usize,
    ) -> FopResult<()> {
        let mut heals = [0u8; 32];
        heals[0] = 1;
        let request = xattrs
            .clone()
            .with(keys::GFID_REQ, Value::Gfuuid(stat.gfid))
            .with(keys::INTERNAL_CONTEXT, Value::Ptr(Bytes::copy_from_slice(&heals)));
        match self.child(at).mkdir(context, entry, stat.mode, 0, request).await {
            Err(error) if error.errno != Errno::EEXIST => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives subvolumes the owner and mode that `source` has now: somebody may just have changed them.
    async fn copy_attributes(
        &self,
        context: &Context,
        inode: &Arc<Inode>,
        source: usize,
        to: &[usize],
    ) -> FopResult<()> {
        let loc = &Loc::inode(inode.clone());
        let stat = self.child(source).stat(context, loc, Dict::NULL).await?.stat;
        let valid = set_attr::UID | set_attr::GID | set_attr::MODE;
        let sets = to.iter().map(|index| self.child(*index).setattr(context, loc, &stat, valid, Dict::NULL));
        join_all(sets).await.into_iter().try_for_each(|result| result.map(|_| ()))
    }

    /// The xattrs of a directory that its users have set, as `source` has them.
    pub(super) async fn custom_xattrs(&self, context: &Context, inode: &Arc<Inode>, source: usize) -> FopResult<Dict> {
        let loc = Loc::inode(inode.clone());
        let mut dict = self.child(source).getxattr(context, &loc, None, Dict::NULL).await?.dict;
        dict.retain(|name, _| is_custom(name));
        Ok(dict)
    }

    /// Gives all subvolumes the custom xattrs of the MDS, then notes there that they agree (`dht_dir_heal_xattrs`).
    async fn copy_xattrs(&self, context: &Context, inode: &Arc<Inode>, mds: usize) -> FopResult<()> {
        let xattrs = self.custom_xattrs(context, inode, mds).await?;
        let others: Vec<usize> = (0..self.children.len()).filter(|index| *index != mds).collect();
        let copies = others.iter().map(|index| Box::pin(self.replace_xattrs(context, inode, &xattrs, *index)));
        join_all(copies).await.into_iter().collect::<FopResult<()>>()?;
        self.set_mds_counter(context, inode, mds).await
    }

    /// Makes one subvolume's custom xattrs exactly these.
    async fn replace_xattrs(&self, context: &Context, inode: &Arc<Inode>, xattrs: &Dict, at: usize) -> FopResult<()> {
        let (child, loc) = (self.child(at), Loc::inode(inode.clone()));
        if !xattrs.is_empty() {
            let sync = Dict::empty().with(keys::SYNC_XATTRS, Value::Int(1));
            return child.setxattr(context, &loc, xattrs.clone(), 0, sync).await.map(|_| ());
        }
        // A request without xattrs is none: the last one was removed.
        let left = self.custom_xattrs(context, inode, at).await?;
        for (name, _) in left.iter() {
            let name = String::from_utf8_lossy(name);
            match child.removexattr(context, &loc, &name, Dict::NULL).await {
                Err(error) if error.errno != Errno::ENODATA => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a subvolume the MDS of a directory, with no change unfinished.
    async fn set_mds_counter(&self, context: &Context, inode: &Arc<Inode>, mds: usize) -> FopResult<()> {
        let marker = Dict::empty().with(keys::MDS, Value::Ptr(Bytes::from_static(&[0; 4])));
        let internal = Dict::empty().with(keys::INTERNAL_FOP, Value::str("yes"));
        self.child(mds).setxattr(context, &Loc::inode(inode.clone()), marker, 0, internal).await.map(|_| ())
    }

    /// The path of a directory from the root of the volume, as a subvolume that has it tells; empty when it does not.
    pub(super) async fn path_of(&self, context: &Context, inode: &Arc<Inode>, at: usize) -> FopResult<Bytes> {
        let loc = Loc::inode(inode.clone());
        let reply = self.child(at).getxattr(context, &loc, Some(keys::ANCESTRY_PATH), Dict::NULL).await?;
        let mut path = reply.dict.bytes(keys::ANCESTRY_PATH).unwrap_or_default();
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
        Ok(path)
    }

    /// Heals a directory that was found by gfid and is missing somewhere: asks a subvolume that has it for its path, and
    /// looks that up name by name, which heals each (`dht_heal_full_path`).
    pub(super) fn heal_by_path<'a>(
        self: &'a Arc<Self>,
        context: &'a Context,
        gfid: Gfid,
        source: usize,
    ) -> Pin<Box<dyn Future<Output = FopResult<()>> + Send + 'a>> {
        Box::pin(async move {
            let context = &as_root(context);
            let path = self.path_of(context, &Inode::known(gfid, FileType::Directory), source).await?;
            let mut parent = Inode::known(Gfid::ROOT, FileType::Directory);
            for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).take(MAX_DEPTH) {
                let entry = Loc::entry(parent, Bytes::copy_from_slice(name), Inode::fresh());
                let found = self.lookup(context, &entry, Dict::NULL).await?;
                entry.inode.identify(found.stat.gfid, found.stat.file_type());
                parent = entry.inode;
            }
            Ok(())
        })
    }
}
