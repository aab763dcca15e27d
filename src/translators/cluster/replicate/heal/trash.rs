//! Removal of names from a copy, without losing what they name: content that other copies know under another name is put
//! into a hidden directory of that brick, from where the heal of the other name fetches it
//! (`afr-self-heal-entry.c:afr_selfheal_entry_delete`, option `use-anonymous-inode`).

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::super::core::{Core, successes};
use crate::{Context, FopResult, Inode, Loc};

/// Removes directories with what is in them (`posix_rmdir`).
const RECURSIVE: u32 = 1;

impl Core {
    /// The hidden directory: its name in the root of the brick and its gfid; `None` when the volume does not use one.
    pub(super) fn trash_identity(&self) -> Option<(Bytes, Gfid)> {
        let id = self.options.volume_id.as_deref().filter(|_| self.options.anonymous_inode)?;
        let mut gfid = Gfid::parse(id)?;
        gfid.0[0] ^= 1;
        Some((format!(".glusterfs-anonymous-inode-{id}").into(), gfid))
    }

    /// The hidden directory of a brick; made when it is not there.
    pub(super) async fn trash(&self, context: &Context, child: usize) -> FopResult<Option<Arc<Inode>>> {
        let Some((name, gfid)) = self.trash_identity() else { return Ok(None) };
        let root = Inode::known(Gfid::ROOT, FileType::Directory);
        let loc = Loc::entry(root, name, Inode::fresh());
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(gfid));
        let made = match self.child(child).mkdir(context, &loc, 0o755, 0, xdata).await {
            Ok(reply) => reply.stat,
            Err(error) if error.errno == Errno::EEXIST => {
                self.child(child).lookup(context, &loc, Dict::NULL).await?.stat
            }
            Err(error) => return Err(error),
        };
        if made.gfid != gfid {
            let text = format!("the hidden directory of {} has a gfid of its own", self.child(child).name());
            return Err(self.error(Errno::EINVAL, "heal names").with_detail(text));
        }
        Ok(Some(Inode::known(gfid, FileType::Directory)))
    }

    /// Removes a name from one brick, where it names the object of `stat`.
    pub(super) async fn remove_name(
        &self,
        context: &Context,
        directory: &Arc<Inode>,
        name: &Bytes,
        child: usize,
        stat: &Iatt,
    ) -> FopResult<()> {
        let inode = match stat.gfid.is_null() {
            true => Inode::fresh(),
            false => Inode::known(stat.gfid, stat.file_type()),
        };
        let loc = Loc::entry(directory.clone(), name.clone(), inode);
        if self.is_worth_keeping(context, stat).await?
            && let Some(trash) = self.trash(context, child).await?
        {
            let kept = Loc::entry(trash, stat.gfid.to_string(), Inode::fresh());
            tracing::info!(
                "{}: heal moves {name:?} ({}) out of the way on {}",
                self.name,
                stat.gfid,
                self.child(child).name()
            );
            return self.child(child).rename(context, &loc, &kept, Dict::NULL).await.map(|_| ());
        }
        tracing::info!("{}: heal removes {name:?} ({}) on {}", self.name, stat.gfid, self.child(child).name());
        match stat.is_dir() {
            true => self.child(child).rmdir(context, &loc, RECURSIVE, Dict::NULL).await.map(|_| ()),
            false => self.child(child).unlink(context, &loc, 0, Dict::NULL).await.map(|_| ()),
        }
    }

    /// What was kept has a name again, and needs the one in the hidden directory no more.
    pub(super) async fn take_from_trash(&self, context: &Context, child: usize, gfid: Gfid) {
        let Some((_, trash)) = self.trash_identity() else { return };
        let loc = Loc::entry(Inode::known(trash, FileType::Directory), gfid.to_string(), Inode::fresh());
        // Mostly it is not there. If it stays, the self-heal daemon clears it away.
        let _ = self.child(child).unlink(context, &loc, 0, Dict::NULL).await;
    }

    /// Directories always are; of other things the last name, when enough copies still have them under another.
    async fn is_worth_keeping(&self, context: &Context, stat: &Iatt) -> FopResult<bool> {
        if stat.gfid.is_null() || self.trash_identity().is_none() {
            return Ok(false);
        }
        if stat.is_dir() {
            return Ok(true);
        }
        // Renaming one name of an object to another one of its names does nothing; and the content has another name.
        if stat.nlink > 1 {
            return Ok(false);
        }
        let replies = self.look_at(context, &Inode::known(stat.gfid, stat.file_type()), self.snapshot().up).await;
        let have = successes(&replies);
        if if self.options.quorum.is_on() { self.has_quorum(have) } else { have.len() > 1 } {
            return Ok(true);
        }
        let unknown = replies.into_iter().filter_map(|(_, reply)| reply.err());
        match unknown.into_iter().find(|error| !matches!(error.errno, Errno::ENOENT | Errno::ESTALE)) {
            Some(error) => Err(error),
            None => Ok(false),
        }
    }
}
