//! xattrs that distribute answers itself, changes on their way, or hides.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, Value};

use super::core::Core;
use super::directory_fops::Directory;
use super::follow::Target;
use super::keys;
use super::layout::Share;
use super::migration::Family;
use super::readdir::first_success;
use crate::reply::XattrReply;
use crate::translators::cluster::join_all;
use crate::{Context, FopResult};

/// Names of where an object lies; each child adds its part.
const PATHINFO: [&str; 2] = ["trusted.glusterfs.pathinfo", "glusterfs.pathinfo"];
/// UUIDs of the nodes of an object's bricks.
const NODE_UUIDS: [&str; 2] = ["trusted.glusterfs.node-uuid", "trusted.glusterfs.list-node-uuids"];
/// "1" when all children are up.
const SUBVOLUME_STATUS: &str = "dht.subvol.status";
/// Prefix of a question: to which child does this name hash?
const HASHED_SUBVOLUME: &str = "dht.file.hashed-subvol.";
/// Prefix of a question: which name equals this one, but for case?
const REAL_FILENAME: &str = "glusterfs.get_real_filename:";

/// xattrs of directories that users set, and that are healed from the MDS (`common-utils.c:xattrs_to_heal`).
pub(super) fn is_custom(name: &[u8]) -> bool {
    name.starts_with(b"user.") || is_custom_system(name)
}

/// The custom ones whose one value is on the MDS.
fn is_custom_system(name: &[u8]) -> bool {
    const NAMES: [&str; 6] = [
        keys::ACL_ACCESS,
        keys::ACL_DEFAULT,
        "trusted.glusterfs.quota.limit-set",
        "trusted.glusterfs.quota.limit-objects",
        "security.selinux",
        "trusted.glusterfs.mdata",
    ];
    NAMES.iter().any(|known| known.as_bytes() == name)
}

/// True for names that belong to distribute: users neither read nor write them.
pub(super) fn is_own(name: &[u8]) -> bool {
    name.starts_with(keys::LAYOUT.as_bytes())
}

/// Takes out of a list what users shall not see. Internal clients (negative pid) see more.
pub(super) fn hide(dict: &mut Dict, pid: i32) {
    let hidden = |name: &[u8]| {
        is_own(name)
            || (pid >= 0 && (name.starts_with(b"trusted.glusterfs.quota") || name.starts_with(b"trusted.pgfid")))
    };
    dict.retain(|name, _| !hidden(name));
}

/// True for set requests that make a client act: they must not be stored on the bricks. Those that [`fix_layout`](super::fix_layout)
/// knows never get here; the others are for the C client.
pub(super) fn is_command(name: &[u8]) -> bool {
    const COMMANDS: [&str; 5] = [
        "distribute.fix.layout",
        "distribute.directory-spread-count",
        "trusted.distribute.migrate-data",
        "decommission-brick",
        "glusterfs.dht.nuke",
    ];
    COMMANDS.iter().any(|command| command.as_bytes() == name)
}

impl Core {
    /// Refuses changes of xattrs that are distribute's own.
    pub(super) fn check_change(&self, name: &[u8]) -> FopResult<()> {
        if is_own(name) {
            return Err(self.error(Errno::EPERM, "change xattrs").with_detail("the name belongs to distribute"));
        }
        if is_command(name) {
            return Err(self.error(Errno::EOPNOTSUPP, "change xattrs").with_detail("a command for the C client"));
        }
        Ok(())
    }

    pub(super) async fn getxattr_file(
        self: &Arc<Self>,
        context: &Context,
        target: Target<'_>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.check_read(name)?;
        let mut reply = self
            .on_file(context, target, Family::Blind, xdata, |child, xdata, _| async move {
                match target {
                    Target::Loc(loc) => child.getxattr(context, loc, name, xdata).await,
                    Target::Fd(fd) => child.fgetxattr(context, fd, name, xdata).await,
                }
            })
            .await?;
        if let Some(name) = name.filter(|name| PATHINFO.contains(name))
            && let Some(part) = text(&reply.dict, name)
        {
            reply.dict.set(
                Bytes::copy_from_slice(name.as_bytes()),
                Value::str(&format!("(<DISTRIBUTE:{}> {part})", self.name)),
            );
        }
        hide(&mut reply.dict, context.pid);
        Ok(reply)
    }

    pub(super) async fn getxattr_directory(
        self: &Arc<Self>,
        context: &Context,
        target: Directory<'_>,
        name: Option<&str>,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        self.check_read(name)?;
        let inode = match target {
            Directory::Loc(loc) => &loc.inode,
            Directory::Fd(fd) => &fd.inode,
        };
        if let Some(name) = name
            && let Some(answer) = self.answer_itself(context, inode, name).await?
        {
            let dict = Dict::empty();
            let mut reply = XattrReply { dict, xdata: Dict::NULL };
            reply.dict.set(Bytes::copy_from_slice(name.as_bytes()), Value::str(&answer));
            return Ok(reply);
        }
        let directory = self.layout_of(context, inode).await?;
        if let (Some(custom), Some(mds)) = (name.filter(|name| is_custom_system(name.as_bytes())), directory.mds) {
            return match target {
                Directory::Loc(loc) => self.child(mds).getxattr(context, loc, Some(custom), xdata).await,
                Directory::Fd(fd) => self.child(mds).fgetxattr(context, fd, Some(custom), xdata).await,
            };
        }
        let replies = join_all(self.children.iter().map(|child| match target {
            Directory::Loc(loc) => child.getxattr(context, loc, name, xdata.clone()),
            Directory::Fd(fd) => child.fgetxattr(context, fd, name, xdata.clone()),
        }))
        .await;
        if let Some(name) = name.filter(|name| PATHINFO.contains(name) || NODE_UUIDS.contains(name)) {
            let parts: Vec<String> = replies.iter().flatten().filter_map(|reply| text(&reply.dict, name)).collect();
            let mut reply = first_success(replies).unwrap_or_else(|| Ok(XattrReply::default()))?;
            let all = parts.join(" ");
            let value = match PATHINFO.contains(&name) {
                true => format!(
                    "((<DISTRIBUTE:{}> {all}) ({}-layout{}))",
                    self.name,
                    self.name,
                    ranges(self, &directory.layout)
                ),
                false => all,
            };
            reply.dict.set(Bytes::copy_from_slice(name.as_bytes()), Value::str(&value));
            return Ok(reply);
        }
        let mut merged = Dict::empty();
        // Later children first, so that what the first ones and at last the MDS say wins.
        let order = (0..replies.len()).rev().chain(directory.mds);
        for reply in order.filter_map(|index| replies.get(index)?.as_ref().ok()) {
            for (key, value) in reply.dict.iter() {
                merged.set(key.clone(), value.clone());
            }
        }
        let mut reply = first_success(replies).unwrap_or_else(|| Ok(XattrReply::default()))?;
        hide(&mut merged, context.pid);
        reply.dict = merged;
        Ok(reply)
    }

    fn check_read(&self, name: Option<&str>) -> FopResult<()> {
        match name {
            Some(name) if is_own(name.as_bytes()) => Err(self.error(Errno::EOPNOTSUPP, "getxattr")),
            _ => Ok(()),
        }
    }

    async fn answer_itself(
        self: &Arc<Self>,
        context: &Context,
        inode: &Arc<crate::Inode>,
        name: &str,
    ) -> FopResult<Option<String>> {
        if name == SUBVOLUME_STATUS {
            let all = self.children.iter().all(|child| child.events().is_up());
            return Ok(Some(if all { "1" } else { "0" }.to_owned()));
        }
        if let Some(entry) = name.strip_prefix(HASHED_SUBVOLUME) {
            let directory = self.layout_of(context, inode).await?;
            let hashed = self.hashed(&directory, entry.as_bytes());
            let hashed =
                hashed.ok_or_else(|| self.error(Errno::ENODATA, "getxattr").with_detail("a hole in the layout"))?;
            return Ok(Some(self.child(hashed).name().to_string()));
        }
        if name.starts_with(REAL_FILENAME) {
            let loc = crate::Loc::inode(inode.clone());
            let asks = self.children.iter().map(|child| child.getxattr(context, &loc, Some(name), Dict::NULL));
            let reply = first_success(join_all(asks).await).unwrap_or_else(|| Ok(XattrReply::default()))?;
            return Ok(text(&reply.dict, name));
        }
        Ok(None)
    }
}

fn text(dict: &Dict, name: &str) -> Option<String> {
    let bytes = dict.bytes(name)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned())
}

fn ranges(core: &Core, layout: &super::layout::Layout) -> String {
    let mut text = String::new();
    for (index, share) in layout.shares().iter().enumerate() {
        let (start, stop) = match share {
            Share::Written(disk) => (disk.start, disk.stop),
            _ => (0, 0),
        };
        text.push_str(&format!(" ({} {start} {stop})", core.child(index).name()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_custom(b"user.x") && is_custom(b"security.selinux") && !is_custom(b"trusted.x"));
        assert!(is_own(b"trusted.glusterfs.dht") && is_own(b"trusted.glusterfs.dht.mds"));
        assert!(!is_own(b"trusted.glusterfs.volume-id"));
        assert!(is_command(b"distribute.fix.layout"));
    }

    #[test]
    fn lists_hide_what_is_internal() {
        let list = || {
            let mut dict = Dict::empty();
            for name in ["user.a", "trusted.glusterfs.dht", "trusted.glusterfs.quota.size", "trusted.gfid"] {
                dict.set(name.as_bytes(), Value::Ptr(Bytes::new()));
            }
            dict
        };
        let (mut users, mut internal) = (list(), list());
        hide(&mut users, 100);
        hide(&mut internal, -4);
        assert_eq!((users.len(), internal.len()), (2, 3));
    }
}
