//! LINK: a further name of a file, which stays where it is (`dht_link`). If rebalance is just moving it, its destination
//! gets the name too.

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno, Value};

use super::core::{Core, as_root, to_the_end};
use super::create::tidy;
use super::follow::Target;
use super::migration::{self, Family, Step};
use super::{keys, linkto};
use crate::reply::EntryReply;
use crate::{Context, FopResult, Inode, Loc};

/// How often a link goes after a file that moves.
const ATTEMPTS: u32 = 3;

impl Core {
    pub(super) async fn link(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        if let Some(only) = self.only() {
            return only.link(context, old, new, xdata).await;
        }
        let (parent, directory) = self.parent(context, new).await?;
        let (hashed, directory) = self.settled_home(context, &parent, directory, &new.name).await?;
        let link = self.link_from(context, old, new, hashed, xdata);
        let (reply, changed) = self.beside(context, &parent, &directory, hashed, link).await;
        if let (Ok(reply), Some(changed)) = (&reply, changed) {
            self.lead_from_home(context, new, reply.stat.gfid, &changed).await;
        }
        reply
    }

    /// LINK of a name whose home is `hashed`.
    async fn link_from(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        hashed: usize,
        xdata: Dict,
    ) -> FopResult<EntryReply> {
        for attempt in 0..ATTEMPTS {
            let cached = self.cached(context, &old.inode).await?;
            let mut result = self.link_at(context, old, new, hashed, cached, &xdata).await;
            if attempt > 0 && matches!(&result, Err(error) if error.errno == Errno::EEXIST) {
                // The linkto of the attempt before may be a name of the moved file already.
                let name = Loc { inode: Inode::fresh(), ..new.clone() };
                let there = self.child(cached).lookup(&as_root(context), &name, Dict::NULL).await;
                if let Ok(there) = there
                    && there.stat.gfid == old.gfid()
                {
                    let (stat, postparent) = (there.stat, there.postparent);
                    result = Ok(EntryReply { stat, postparent, preparent: postparent, xdata: Dict::NULL });
                }
            }
            let by_gfid = Loc::inode(old.inode.clone());
            let mut reply = match migration::step(Family::Change, &result) {
                Step::Follow => match self.new_home(context, Target::Loc(&by_gfid), cached, result.is_ok()).await {
                    // The name that was made leads to the new place of the file, as the old one does.
                    Ok(Some(_)) => continue,
                    Ok(None) => result?,
                    Err(error) => return result.and(Err(error)),
                },
                Step::Repeat => {
                    let done = result?;
                    let to = match self.destination(context, Target::Loc(&by_gfid), cached).await {
                        Err(error) if migration::is_missing(error.errno) => None,
                        to => to?,
                    };
                    // A linkto of that name is a name of the destination's file already.
                    if let Some(to) = to.filter(|to| *to != hashed) {
                        match self.child(to).link(context, old, new, xdata.clone()).await {
                            Err(error) if error.errno != Errno::EEXIST && !migration::is_missing(error.errno) => {
                                return Err(error);
                            }
                            _ => {}
                        }
                    }
                    done
                }
                _ => result?,
            };
            // A migration may have ended meanwhile, and another lookup may have seen that.
            let now = self.file(&old.inode).map_or(cached, |file| file.cached);
            self.remember_file(&new.inode, now);
            tidy(&mut reply);
            return Ok(reply);
        }
        Err(self.error(Errno::EIO, "link").with_detail("rebalance moves the file faster than it can be followed"))
    }

    async fn link_at(
        self: &Arc<Self>,
        context: &Context,
        old: &Loc,
        new: &Loc,
        hashed: usize,
        cached: usize,
        xdata: &Dict,
    ) -> FopResult<EntryReply> {
        if hashed == cached {
            return self.child(cached).link(context, old, new, xdata.clone()).await;
        }
        let xdata = xdata.clone();
        let (core, context, old, new) = (self.clone(), context.clone(), old.clone(), new.clone());
        let transaction = async move {
            // Whatever has the name at its home came first. A linkto without file is gone since the lookup that said the
            // name is free: one of another file is that of a client that is just making the name (link(2) as a lock).
            let there = core.make_linkto(&context, &new, old.gfid(), hashed, cached, Dict::NULL).await?;
            if there.is_some_and(|there| there.stat.gfid != old.gfid()) {
                return Err(core.error(Errno::EEXIST, "link"));
            }
            match core.child(cached).link(&context, &old, &new, xdata).await {
                Ok(reply) => {
                    core.own_linkto(&context, &new, hashed, &reply.stat, cached).await;
                    Ok(reply)
                }
                Err(error) => {
                    // With EEXIST the linkto may be that of the file that has the name.
                    if error.errno != Errno::EEXIST {
                        let guard = linkto::guarded_unlink_xdata().with(keys::INTERNAL_FOP, Value::str("yes"));
                        if let Err(error) = core.child(hashed).unlink(&as_root(&context), &new, 0, guard).await {
                            tracing::info!(%error, "the linkto of a failed link stays");
                        }
                    }
                    Err(error)
                }
            }
        };
        to_the_end(self, "link", transaction).await
    }
}
