//! What the application is told of an entry operation, put together from the answers of several copies.

use std::sync::Arc;

use rgfs_protocol::{FileType, Gfid, Iatt};

use super::child_set::ChildSet;
use super::core::{Core, Replies, successes};
use super::errors::final_error;
use crate::reply::{EntryReply, RemoveReply, RenameReply};
use crate::{FopResult, Inode};

/// The parts of an answer that come from different copies.
pub(super) trait Answer: Clone + Send + Sync + 'static {
    /// The object, where the fop tells of it.
    fn stat(&self) -> Option<&Iatt>;

    /// Takes the object from the answer of another copy.
    fn take_stat(&mut self, other: &Self);

    /// Takes the attributes of a directory from the answer of another copy: 0, or 1 for the old one of a rename.
    fn take_parent(&mut self, parent: usize, other: &Self);
}

impl Answer for EntryReply {
    fn stat(&self) -> Option<&Iatt> {
        Some(&self.stat)
    }

    fn take_stat(&mut self, other: &Self) {
        self.stat = other.stat;
    }

    fn take_parent(&mut self, _: usize, other: &Self) {
        (self.preparent, self.postparent) = (other.preparent, other.postparent);
    }
}

impl Answer for RemoveReply {
    fn stat(&self) -> Option<&Iatt> {
        None
    }

    fn take_stat(&mut self, _: &Self) {}

    fn take_parent(&mut self, _: usize, other: &Self) {
        (self.preparent, self.postparent) = (other.preparent, other.postparent);
    }
}

impl Answer for RenameReply {
    fn stat(&self) -> Option<&Iatt> {
        Some(&self.stat)
    }

    fn take_stat(&mut self, other: &Self) {
        self.stat = other.stat;
    }

    fn take_parent(&mut self, parent: usize, other: &Self) {
        match parent {
            0 => (self.pre_new_parent, self.post_new_parent) = (other.pre_new_parent, other.post_new_parent),
            _ => (self.pre_old_parent, self.post_old_parent) = (other.pre_old_parent, other.post_old_parent),
        }
    }
}

/// The first success, with each inode's attributes from the copy that reads of it come from: times must not go back at
/// the next look. Without any success the error that tells most.
pub(super) fn combine<'a, T: Answer>(
    core: &Core,
    step: &'static str,
    replies: &Replies<T>,
    inode: &Inode,
    parents: impl Iterator<Item = &'a Arc<Inode>>,
) -> FopResult<T> {
    let success = successes(replies);
    let Some((_, Ok(first))) = replies.iter().find(|(_, reply)| reply.is_ok()) else {
        return Err(final_error(replies).unwrap_or_else(|| core.no_quorum(success, step)));
    };
    let of = |child: Option<usize>| {
        let reply = replies.iter().find(|(index, _)| Some(*index) == child);
        reply.and_then(|(_, reply)| reply.as_ref().ok())
    };
    let mut answer = first.clone();
    if let Some(stat) = first.stat() {
        let is_dir = stat.file_type() == FileType::Directory;
        if let Some(other) = of(core.teller(inode, &stat.gfid, is_dir, success)) {
            answer.take_stat(other);
        }
    }
    for (number, parent) in parents.enumerate() {
        if let Some(other) = of(core.teller(parent, &parent.gfid(), true, success)) {
            answer.take_parent(number, other);
        }
    }
    Ok(answer)
}

impl Core {
    /// Of the copies that did something, the one whose word on an inode counts.
    fn teller(&self, inode: &Inode, gfid: &Gfid, is_dir: bool, success: ChildSet) -> Option<usize> {
        let data = success.and(self.data_children());
        let known = self.inode(inode).readable();
        let (good, recent) = known.map_or((data, data), |known| {
            let good = known.both().and(success);
            (good, good.and(self.unchanged_since(known.generation)))
        });
        let candidates = [recent, good, data, success].into_iter().find(|set| !set.is_empty())?;
        self.policy().choose(candidates, gfid, is_dir, |child| self.load(child))
    }
}
