//! LINK: a further name of a file, which stays where it is (`dht_link`).

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno, Value};

use super::core::{Core, as_root, to_the_end};
use super::create::tidy;
use super::{keys, linkto};
use crate::reply::EntryReply;
use crate::{Context, FopResult, Loc};

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
        let cached = self.cached(context, &old.inode).await?;
        let (_, directory) = self.parent(context, new).await?;
        let hashed = self.home(&directory, &new.name)?;
        if hashed == cached {
            let mut reply = self.child(cached).link(context, old, new, xdata).await?;
            self.remember_file(&new.inode, cached);
            tidy(&mut reply);
            return Ok(reply);
        }
        let (core, context, old, new) = (self.clone(), context.clone(), old.clone(), new.clone());
        let transaction = async move {
            // Whatever has the name at its home came first. A linkto without file is gone since the lookup that said the
            // name is free: one of another file is that of a client that is just making the name (link(2) as a lock).
            let there = core.make_linkto(&context, &new, old.gfid(), hashed, cached, Dict::NULL).await?;
            if there.is_some_and(|there| there.stat.gfid != old.gfid()) {
                return Err(core.error(Errno::EEXIST, "link"));
            }
            match core.child(cached).link(&context, &old, &new, xdata).await {
                Ok(mut reply) => {
                    core.own_linkto(&context, &new, hashed, &reply.stat, cached).await;
                    core.remember_file(&new.inode, cached);
                    tidy(&mut reply);
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
