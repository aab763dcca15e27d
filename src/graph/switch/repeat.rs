//! Fops that cannot simply be done again.
//!
//! A fop that failed because a brick has just been taken out may have done its work, on other bricks, before it asked that one.
//! Done again it would fail: the name is there already, or gone already. So the second try first looks, or looks when it
//! fails, whether what it shall do is done; that is told from the gfid, which the client chooses for all that it makes.
//!
//! | fop | done before, when |
//! |---|---|
//! | CREATE, MKNOD, MKDIR, SYMLINK | the name has the gfid that was to be given |
//! | LINK | the new name is one of the file |
//! | UNLINK, RMDIR | the name is gone, or something else has it: that is not removed |
//! | RENAME | the new name is one of the file, and the old one is not |
//! | SETXATTR, REMOVEXATTR | the value is what was to be set, or there is none |
//!
//! A write at an offset may be done twice. One that appends (`O_APPEND`) may not: it is repeated only when the brick is out of the
//! volume for good, and with it what it may have appended to a file that was no longer there. When another graph came
//! for another reason, the brick may come back with these bytes, and the writer gets the error.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Gfid, Value};

use crate::reply::{EntryReply, LookupReply, RemoveReply, RenameReply};
use crate::{Context, Fd, FopError, FopResult, Inode, Loc, Translator};

/// Name of the gfid that a new object shall get, in the xdata of what makes it.
const GFID_REQ: &str = "gfid-req";

/// What a fop was to change.
pub(super) enum Change<'a> {
    /// A name is made, of an object with that gfid; the fd of CREATE is opened.
    Made { loc: &'a Loc, gfid: Option<Gfid>, open: Option<(i32, &'a Arc<Fd>)> },
    /// A file gets another name.
    Linked { old: &'a Loc, new: &'a Loc },
    /// A name is removed.
    Removed { loc: &'a Loc },
    /// A name is changed.
    Renamed { old: &'a Loc, new: &'a Loc },
    /// Values are set.
    Set { loc: &'a Loc, values: &'a Dict },
    /// A value is removed.
    Unset,
}

/// The gfid that `xdata` asks for.
pub(super) fn requested(xdata: &Dict) -> Option<Gfid> {
    match xdata.get(GFID_REQ)? {
        Value::Gfuuid(gfid) => Some(*gfid),
        other => Some(Gfid(other.as_bytes()?.as_ref().try_into().ok()?)),
    }
}

/// Answers that can be made up for what is done already.
#[async_trait]
pub(super) trait Repeated: Sized + Send {
    /// Before the second try: the answer when it must not take place.
    async fn before(_top: &Arc<dyn Translator>, _context: &Context, _change: &Change<'_>) -> Option<Self> {
        None
    }

    /// After the second try failed: the answer when that was because all is done.
    async fn instead(_: &Arc<dyn Translator>, _: &Context, _: &Change<'_>, _: &FopError) -> Option<Self> {
        None
    }
}

/// What has the name now.
async fn look(top: &Arc<dyn Translator>, context: &Context, loc: &Loc) -> FopResult<LookupReply> {
    top.lookup(context, &Loc { inode: Inode::fresh(), ..loc.clone() }, Dict::NULL).await
}

fn is_gone(found: &FopResult<LookupReply>, gfid: Gfid) -> bool {
    match found {
        Ok(found) => found.stat.gfid != gfid,
        Err(error) => matches!(error.errno, Errno::ENOENT | Errno::ESTALE),
    }
}

#[async_trait]
impl Repeated for EntryReply {
    async fn instead(
        top: &Arc<dyn Translator>,
        context: &Context,
        change: &Change<'_>,
        error: &FopError,
    ) -> Option<Self> {
        let (loc, gfid, open) = match change {
            Change::Made { loc, gfid, open } => (*loc, (*gfid)?, *open),
            Change::Linked { old, new } => (*new, old.gfid(), None),
            _ => return None,
        };
        if error.errno != Errno::EEXIST {
            return None;
        }
        // With the caller's inode: the translators note on it what they will need.
        let found = top.lookup(context, loc, Dict::NULL).await.ok().filter(|found| found.stat.gfid == gfid)?;
        if let Some((flags, fd)) = open {
            let known = Loc { inode: Inode::known(gfid, found.stat.file_type()), ..loc.clone() };
            top.open(context, &known, flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC), fd, Dict::NULL)
                .await
                .ok()?;
        }
        let (stat, postparent) = (found.stat, found.postparent);
        Some(EntryReply { stat, preparent: postparent, postparent, xdata: Dict::NULL })
    }
}

#[async_trait]
impl Repeated for RemoveReply {
    async fn before(top: &Arc<dyn Translator>, context: &Context, change: &Change<'_>) -> Option<Self> {
        let Change::Removed { loc } = change else { return None };
        if loc.gfid().is_null() || !is_gone(&look(top, context, loc).await, loc.gfid()) {
            return None;
        }
        let parent = top.stat(context, &Loc::inode(loc.parent.clone()?), Dict::NULL).await.ok()?.stat;
        Some(RemoveReply { preparent: parent, postparent: parent, xdata: Dict::NULL })
    }
}

#[async_trait]
impl Repeated for RenameReply {
    async fn before(top: &Arc<dyn Translator>, context: &Context, change: &Change<'_>) -> Option<Self> {
        let Change::Renamed { old, new } = change else { return None };
        let gfid = old.gfid();
        if gfid.is_null() || !is_gone(&look(top, context, old).await, gfid) {
            return None;
        }
        let found = look(top, context, new).await.ok().filter(|found| found.stat.gfid == gfid)?;
        let parent = top.stat(context, &Loc::inode(old.parent.clone()?), Dict::NULL).await.ok()?.stat;
        Some(RenameReply {
            stat: found.stat,
            pre_old_parent: parent,
            post_old_parent: parent,
            pre_new_parent: found.postparent,
            post_new_parent: found.postparent,
            xdata: Dict::NULL,
        })
    }
}

/// SETXATTR and REMOVEXATTR.
#[async_trait]
impl Repeated for Dict {
    async fn instead(
        top: &Arc<dyn Translator>,
        context: &Context,
        change: &Change<'_>,
        error: &FopError,
    ) -> Option<Self> {
        match change {
            Change::Unset => (error.errno == Errno::ENODATA).then_some(Dict::NULL),
            Change::Set { loc, values } if error.errno == Errno::EEXIST => {
                for (key, value) in values.iter() {
                    let name = std::str::from_utf8(key).ok()?;
                    let there = top.getxattr(context, loc, Some(name), Dict::NULL).await.ok()?.dict;
                    let bytes = |value: &Value| value.as_bytes();
                    let (there, wanted): (Option<Bytes>, _) = (there.get(name).and_then(bytes), bytes(value));
                    if there.is_none() || there != wanted {
                        return None;
                    }
                }
                Some(Dict::NULL)
            }
            _ => None,
        }
    }
}
