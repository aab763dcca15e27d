//! LOOKUP by gfid alone: all subvolumes are asked (`dht_do_discover`).

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno};

use super::core::Core;
use super::directory_view::{self, NoDirectory};
use super::lookup::standard_request;
use super::migration::is_missing;
use super::{keys, linkto};
use crate::reply::LookupReply;
use crate::translators::cluster::join_all;
use crate::{Context, FopResult, Loc};

/// How often a file is looked for that moves while it is looked for.
const DISCOVERIES: u32 = 3;

impl Core {
    /// Finds an inode by its gfid, on all subvolumes (`dht_do_discover`). Never makes linktos.
    ///
    /// A file that moves is missed by one who asks its new place too early and its old place too late: what is nowhere is looked for once
    /// more, and again as long as a linkto leads somewhere.
    pub(super) async fn discover(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xdata: Dict,
    ) -> FopResult<LookupReply> {
        for attempt in 0..DISCOVERIES {
            let (found, linkto) = self.discover_once(context, loc, xdata.clone()).await;
            match found {
                Err(error) if is_missing(error.errno) && (linkto || attempt == 0) => {}
                found => return found,
            }
        }
        self.discover_once(context, loc, xdata).await.0
    }

    /// Also tells whether there were linktos.
    async fn discover_once(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        xdata: Dict,
    ) -> (FopResult<LookupReply>, bool) {
        let mut xdata = standard_request(xdata, loc.gfid().is_root());
        xdata.remove(keys::GFID_REQ);
        let mut replies = join_all(self.children.iter().map(|child| child.lookup(context, loc, xdata.clone()))).await;
        let data = |reply: &FopResult<LookupReply>| {
            reply.as_ref().is_ok_and(|reply| !reply.stat.is_dir() && !linkto::is_linkto(&reply.stat, &reply.xdata))
        };
        let directory = replies.iter().any(|reply| reply.as_ref().is_ok_and(|reply| reply.stat.is_dir()));
        // Of two copies the one that is still being moved away counts: the move may fail.
        let source = |reply: &FopResult<LookupReply>| {
            reply
                .as_ref()
                .is_ok_and(|reply| linkto::has_migration_marks(&reply.stat) && reply.xdata.contains(keys::LINKTO))
        };
        let linkto = |reply: &FopResult<LookupReply>| {
            reply.as_ref().is_ok_and(|reply| linkto::is_linkto(&reply.stat, &reply.xdata))
        };
        let has_linkto = replies.iter().any(linkto);
        let found = match replies.iter().position(source).or_else(|| replies.iter().position(data)) {
            Some(_) if directory => {
                Err(self.error(Errno::EIO, "find by gfid").with_detail("a file on one child, a directory on another"))
            }
            Some(cached) => replies.swap_remove(cached).map(|reply| self.found(loc, cached, reply)),
            None => {
                // What is left besides directories are linktos, and those count for nothing here.
                let missing = |reply: FopResult<LookupReply>| {
                    reply.and_then(|reply| match reply.stat.is_dir() {
                        true => Ok(reply),
                        false => Err(self.error(Errno::ENOENT, "find by gfid")),
                    })
                };
                match directory_view::aggregate(replies.into_iter().map(missing).collect(), Some(loc.gfid())) {
                    Ok(view) => self.found_directory(context, loc, view).await,
                    Err(NoDirectory::Failed(error)) => Err(error),
                    Err(NoDirectory::Mixed(_)) => Err(self.error(Errno::EIO, "find by gfid")),
                }
            }
        };
        (found, has_linkto)
    }
}
