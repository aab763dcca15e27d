//! MKDIR: a directory on all subvolumes, with one gfid, a layout and an MDS (`dht_mkdir`).
//!
//! The hashed subvolume comes first and decides; the others follow. Only it gets the MDS marker and the check of the
//! parent's layout: on the others those keys would be stored as xattrs of the new directory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Value};

use super::core::{Core, DirectoryState, as_root, to_the_end};
use super::create::{expecting, requested_gfid, tidy};
use super::layout::{COMMIT_INVALID, DiskLayout};
use super::locks::Transaction;
use super::{keys, merge};
use crate::reply::EntryReply;
use crate::translators::cluster::join_all;
use crate::{Context, FopResult, Inode, Loc};

/// How often a mkdir starts again because the parent's layout changed under it.
const ATTEMPTS: u32 = 3;

impl Core {
    pub(super) async fn mkdir(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mode: u32,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        if let Some(only) = self.only() {
            let commit_hash = self.commit_hash.load(Ordering::Relaxed);
            let whole = DiskLayout { commit_hash, kind: 0, start: 0, stop: u32::MAX };
            let value = Value::Ptr(Bytes::copy_from_slice(&whole.encode()));
            return only.mkdir(context, loc, mode, umask, xdata.with(keys::LAYOUT, value)).await;
        }
        self.refresh_usage();
        let (core, context, loc) = (self.clone(), context.clone(), loc.clone());
        let transaction = async move { core.make_directory(&context, &loc, mode, umask, xdata).await };
        to_the_end(self, "mkdir", transaction).await
    }

    async fn make_directory(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        mode: u32,
        umask: u32,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        let gfid = requested_gfid(&xdata).ok_or_else(|| self.error(Errno::EPERM, "mkdir without gfid-req"))?;
        let (parent, directory) = self.parent(context, loc).await?;
        let (mut hashed, mut directory) = self.settled_home(context, &parent, directory, &loc.name).await?;
        let mut attempt = 1;
        let mut reply = loop {
            let mut transaction = Transaction::new(self, context);
            transaction.namespace(hashed, &parent, &loc.name).await?;
            let expected = directory.layout.disk(hashed).unwrap_or_default();
            let first =
                expecting(xdata.clone(), &expected.encode()).with(keys::MDS, Value::Ptr(Bytes::from_static(&[0; 4])));
            match self.child(hashed).mkdir(context, loc, mode, umask, first).await {
                Ok(made) => {
                    let made = self.make_on_others(context, loc, mode, umask, &xdata, hashed, made).await;
                    transaction.release();
                    break made;
                }
                // Perhaps the layout of the parent changed.
                Err(error) if error.errno == Errno::EIO && attempt < ATTEMPTS => {
                    let layout = self.read_layout(context, &parent).await?;
                    if layout.disk(hashed) == directory.layout.disk(hashed) {
                        return Err(error);
                    }
                    transaction.release();
                    directory = self.remember_directory(&parent, DirectoryState::new(layout, directory.mds));
                    hashed = self.home(&directory, &loc.name)?;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };

        let commit_hash = match self.options.lookup_optimize {
            true => self.commit_hash.load(Ordering::Relaxed),
            false => COMMIT_INVALID,
        };
        let inode = Inode::known(gfid, FileType::Directory);
        let layout = self.give_layout(&as_root(context), loc, &inode, hashed, commit_hash).await?;
        self.remember_directory(&loc.inode, DirectoryState::new(layout, Some(hashed)));
        merge::normalise_directory(&mut reply.stat);
        tidy(&mut reply);
        Ok(reply)
    }

    async fn make_on_others(
        &self,
        context: &Context,
        loc: &Loc,
        mode: u32,
        umask: u32,
        xdata: &Dict,
        hashed: usize,
        mut made: EntryReply,
    ) -> EntryReply {
        let others = self.children.iter().enumerate().filter(|(index, _)| *index != hashed);
        let makings = others.map(|(_, child)| child.mkdir(context, loc, mode, umask, xdata.clone()));
        for result in join_all(makings).await {
            match result {
                Ok(reply) => {
                    merge::merge_directory(&mut made.stat, &reply.stat);
                    merge::merge_directory(&mut made.preparent, &reply.preparent);
                    merge::merge_directory(&mut made.postparent, &reply.postparent);
                }
                Err(error) if error.errno == Errno::EEXIST => {}
                // The layout will leave that child out; a later lookup makes the directory there.
                Err(error) => tracing::warn!(%error, "a new directory is missing on one child"),
            }
        }
        made
    }
}
