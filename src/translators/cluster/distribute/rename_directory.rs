//! RENAME of a directory: the same on all subvolumes, or on none (`dht_rename_dir`).

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno, Value};

use super::core::{Core, as_root};
use super::{keys, merge};
use crate::event::Status;
use crate::reply::RenameReply;
use crate::translators::cluster::join_all;
use crate::{Context, Fd, FopError, FopResult, Loc};

/// Room for `.`, `..` and the first entry that should not be there.
const LISTING_SIZE: u32 = 4096;

impl Core {
    pub(super) async fn rename_directory(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
    ) -> FopResult<RenameReply> {
        for child in &self.children {
            if let Status::Down(reason) | Status::Refused(reason) = child.events().status() {
                let down = FopError::new(Errno::ENOTCONN, child.name(), "rename a directory");
                return Err(down.with_detail(format!("all children must be up: {reason}")));
            }
        }
        let (transaction, (_, to)) = self.lock_both_names(context, old, new).await?;
        if !new.gfid().is_null() {
            self.check_empty(context, new).await?;
        }

        let mut reply = self.child(to).rename(context, old, new, Dict::NULL).await?;
        let others: Vec<usize> = (0..self.children.len()).filter(|index| *index != to).collect();
        let renames = others.iter().map(|index| self.child(*index).rename(context, old, new, Dict::NULL));
        let mut done = vec![to];
        let mut failure = None;
        for (index, result) in others.iter().zip(join_all(renames).await) {
            match result {
                Ok(other) => {
                    done.push(*index);
                    merge_reply(&mut reply, &other);
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            let back = done.iter().map(|index| self.child(*index).rename(context, new, old, Dict::NULL));
            for undone in join_all(back).await {
                if let Err(error) = undone {
                    tracing::error!(%error, "a directory has two names now, on different children");
                }
            }
            return Err(error);
        }
        transaction.release();
        merge_reply(&mut reply, &RenameReply::default());
        Ok(reply)
    }

    /// Fails with ENOTEMPTY if any subvolume has something in the directory; linktos count.
    async fn check_empty(&self, context: &Context, loc: &Loc) -> FopResult<()> {
        let root = as_root(context);
        let fd = Fd::new(loc.inode.clone(), libc::O_DIRECTORY, root.pid);
        let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
        let opens = self.children.iter().map(|child| child.opendir(&root, loc, &fd, request.clone()));
        let opened = join_all(opens).await;
        let there = self.children.iter().zip(opened).filter(|(_, opened)| opened.is_ok());
        let lists = there.map(|(child, _)| child.readdir(&root, &fd, LISTING_SIZE, 0, Dict::NULL));
        for listing in join_all(lists).await {
            if listing?.entries.iter().any(|entry| !matches!(entry.name.as_ref(), b"." | b"..")) {
                return Err(self.error(Errno::ENOTEMPTY, "rename a directory"));
            }
        }
        Ok(())
    }
}

fn merge_reply(into: &mut RenameReply, from: &RenameReply) {
    merge::merge_directory(&mut into.stat, &from.stat);
    merge::merge_directory(&mut into.pre_old_parent, &from.pre_old_parent);
    merge::merge_directory(&mut into.post_old_parent, &from.post_old_parent);
    merge::merge_directory(&mut into.pre_new_parent, &from.pre_new_parent);
    merge::merge_directory(&mut into.post_new_parent, &from.post_new_parent);
    merge::normalise_directory(&mut into.stat);
}
