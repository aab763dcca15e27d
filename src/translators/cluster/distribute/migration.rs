//! What an answer says about a file that rebalance moves to another subvolume, and what to do then (`dht-helper.h`,
//! `IS_DHT_MIGRATION_PHASE1`, `IS_DHT_MIGRATION_PHASE2`). Decisions only; the doing is in `follow`.
//!
//! - Phase 1, the file is *moving*: it has the sticky and the setgid bit, and its linkto xattr names the destination. The
//!   source counts, but what changes there must be changed at the destination too: it may have been copied already.
//! - Phase 2, the file has *moved*: what is left is a linkto. The destination counts. A fop that was under way may have
//!   succeeded on the remains, so that errors alone do not tell.
//!
//! Users may set the same bits; only the xattr makes them marks.

use rgfs_protocol::{Dict, Errno, Iatt, Value};

use super::{keys, linkto};
use crate::FopResult;
use crate::reply::*;

/// Fops that meet a migration alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Reads data: the attributes in its answer are of no great interest.
    Read,
    /// Reads or sets attributes, which are copied at the end of a migration: STAT, SETATTR.
    Attributes,
    /// Changes data or the size.
    Data,
    /// Changes what else is copied during a migration: xattrs. FSYNC too.
    Change,
    /// Answers without attributes: OPEN, ACCESS, GETXATTR, READLINK, RCHECKSUM.
    Blind,
    /// SEEK: without attributes, too, but what is left of a moved file is empty.
    Seek,
    /// Posix locks: LK and FLUSH.
    Lock,
}

/// What to do about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is the answer.
    Answer,
    /// It is the answer, without the bits that may be marks.
    Hide,
    /// It is the answer; if the bits are marks, without them.
    Verify,
    /// If the file is moving, the same must be done at its destination.
    Repeat,
    /// If the file has moved, it must be done there, and what happens there counts.
    Follow,
    /// If the file is moving or has moved, it must be done when that is over.
    Settle,
    /// It may be about what is left of a moved file: if a linkto is there, follow.
    Suspect,
    /// The file is not open there: open it and try once more.
    Open,
}

/// An answer that may tell the mode of the file.
pub trait Seen {
    /// Mode with the type's bits, as far as the answer tells it.
    fn mode(&self) -> Option<u32>;
    /// How many names the file has, as far as the answer tells it.
    fn links(&self) -> Option<u32> {
        None
    }
    /// Takes the marks of a migration out.
    fn hide(&mut self) {}
}

/// What to do about the answer of a fop of that family.
pub fn step<R: Seen>(family: Family, result: &FopResult<R>) -> Step {
    match result {
        Ok(reply) => reply.mode().map_or(Step::Answer, |mode| after_success(family, mode)),
        Err(error) => after_failure(family, error.errno),
    }
}

/// What to do after a success that shows a file of that mode.
pub fn after_success(family: Family, mode: u32) -> Step {
    let stat = Iatt { mode, ..Iatt::default() };
    let (moving, moved) = (linkto::has_migration_marks(&stat), linkto::has_linkto_mode(&stat));
    match family {
        Family::Data if moving || moved => Step::Settle,
        Family::Read | Family::Attributes | Family::Change if moved => Step::Follow,
        Family::Read if moving => Step::Hide,
        Family::Attributes if moving => Step::Verify,
        Family::Change if moving => Step::Repeat,
        _ => Step::Answer,
    }
}

/// What to do after a failure.
pub fn after_failure(family: Family, errno: Errno) -> Step {
    match errno {
        Errno::ENOENT | Errno::ESTALE if family != Family::Lock => Step::Follow,
        // The locks went along with the file.
        Errno::EREMOTE if family == Family::Lock => Step::Follow,
        // A descriptor keeps the remains alive, and they are empty. Whoever copies by seeking for data would copy nothing.
        Errno::ENXIO if family == Family::Seek => Step::Suspect,
        // A lookup of somebody else moved the file's place in our memory.
        Errno::EBADF | Errno::EBADFD => Step::Open,
        _ => Step::Answer,
    }
}

/// True when a range must be copied again by reading and writing, which follow the files: the copy is in one place only,
/// or was made from or to what is no file any more.
pub fn disturbs_copy(result: &FopResult<CopyFileRangeReply>) -> bool {
    match result {
        Ok(reply) => {
            linkto::has_migration_marks(&reply.post)
                || linkto::has_linkto_mode(&reply.post)
                || linkto::has_linkto_mode(&reply.source)
        }
        Err(error) => after_failure(Family::Change, error.errno) != Step::Answer,
    }
}

/// The outcome of removing an xattr: when that is repeated at the destination, to find it gone there is success. It was not copied yet.
pub fn removed(result: FopResult<Dict>, is_repeated: bool) -> FopResult<Dict> {
    match result {
        Err(error) if is_repeated && error.errno == Errno::ENODATA => Ok(Dict::NULL),
        result => result,
    }
}

/// Flags for setting xattrs. Whether the name had to be there or not was checked at the source; the destination may have a copy of it
/// by now, or none yet.
pub fn flags_to_repeat(flags: u32, is_repeated: bool) -> u32 {
    if is_repeated { flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE).cast_unsigned() } else { flags }
}

/// True for errors that say that a subvolume does not have the file.
pub fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESTALE)
}

impl Seen for StatReply {
    fn mode(&self) -> Option<u32> {
        Some(self.stat.mode)
    }
    fn links(&self) -> Option<u32> {
        Some(self.stat.nlink)
    }
    fn hide(&mut self) {
        linkto::strip_migration_marks(&mut self.stat);
    }
}

impl Seen for ReadReply {
    fn mode(&self) -> Option<u32> {
        Some(self.stat.mode)
    }
    fn links(&self) -> Option<u32> {
        Some(self.stat.nlink)
    }
    fn hide(&mut self) {
        linkto::strip_migration_marks(&mut self.stat);
    }
}

impl Seen for PrePostReply {
    fn mode(&self) -> Option<u32> {
        Some(self.post.mode)
    }
    fn links(&self) -> Option<u32> {
        Some(self.post.nlink)
    }
    fn hide(&mut self) {
        linkto::strip_migration_marks(&mut self.pre);
        linkto::strip_migration_marks(&mut self.post);
    }
}

impl Seen for WriteReply {
    /// Before the write, if it was a linkto then and is none any more: it was written before the move was over.
    fn mode(&self) -> Option<u32> {
        Some(if linkto::has_linkto_mode(&self.pre) { self.pre.mode } else { self.post.mode })
    }
    fn links(&self) -> Option<u32> {
        Some(self.post.nlink)
    }
    fn hide(&mut self) {
        linkto::strip_migration_marks(&mut self.pre);
        linkto::strip_migration_marks(&mut self.post);
    }
}

/// xdata of a fop on xattrs, which were asked to tell the attributes.
impl Seen for Dict {
    fn mode(&self) -> Option<u32> {
        match (self.get(keys::IATT_IN_XATTR), self.int(keys::MODE_IN_XATTR)) {
            (Some(Value::Iatt(stat)), _) => Some(stat.mode),
            (_, Some(mode)) => u32::try_from(mode).ok(),
            _ => None,
        }
    }
    fn links(&self) -> Option<u32> {
        match self.get(keys::IATT_IN_XATTR) {
            Some(Value::Iatt(stat)) => Some(stat.nlink),
            _ => None,
        }
    }
    fn hide(&mut self) {
        for key in [keys::IATT_IN_XATTR, keys::IATT_BEFORE, keys::IATT_AFTER] {
            if let Some(Value::Iatt(stat)) = self.get(key) {
                let mut stat = stat.clone();
                linkto::strip_migration_marks(&mut stat);
                self.set(key.as_bytes(), Value::Iatt(stat));
            }
        }
    }
}

impl Seen for XattrReply {
    fn mode(&self) -> Option<u32> {
        self.xdata.mode()
    }
    fn hide(&mut self) {
        self.xdata.hide();
    }
}

impl Seen for EntryReply {
    fn mode(&self) -> Option<u32> {
        Some(self.stat.mode)
    }
    fn hide(&mut self) {
        linkto::strip_migration_marks(&mut self.stat);
    }
}

impl Seen for SeekReply {
    fn mode(&self) -> Option<u32> {
        None
    }
}

impl Seen for RchecksumReply {
    fn mode(&self) -> Option<u32> {
        None
    }
}

impl Seen for ReadlinkReply {
    fn mode(&self) -> Option<u32> {
        None
    }
}

impl Seen for LkReply {
    fn mode(&self) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Family::*;

    const ALL: [Family; 7] = [Read, Attributes, Data, Change, Blind, Seek, Lock];

    #[test]
    fn successes() {
        const MOVING: u32 = 0o103_644;
        const MOVED: u32 = 0o101_000;
        for (mode, expected) in [
            (MOVING, [Step::Hide, Step::Verify, Step::Settle, Step::Repeat, Step::Answer, Step::Answer, Step::Answer]),
            (MOVED, [Step::Follow, Step::Follow, Step::Settle, Step::Follow, Step::Answer, Step::Answer, Step::Answer]),
            (0o100_644, [Step::Answer; 7]),
            (0o101_644, [Step::Answer; 7]),
            (0o102_755, [Step::Answer; 7]),
            (0o043_755, [Step::Answer; 7]),
            (0o041_000, [Step::Answer; 7]),
        ] {
            assert_eq!(ALL.map(|family| after_success(family, mode)), expected, "{mode:o}");
        }
    }

    #[test]
    fn failures() {
        let (answer, follow, open) = (Step::Answer, Step::Follow, Step::Open);
        for (errno, expected) in [
            (Errno::ENOENT, [follow, follow, follow, follow, follow, follow, answer]),
            (Errno::ESTALE, [follow, follow, follow, follow, follow, follow, answer]),
            (Errno::EREMOTE, [answer, answer, answer, answer, answer, answer, follow]),
            (Errno::ENXIO, [answer, answer, answer, answer, answer, Step::Suspect, answer]),
            (Errno::EBADF, [open; 7]),
            (Errno::EBADFD, [open; 7]),
            (Errno::EACCES, [answer; 7]),
            (Errno::ENOTCONN, [answer; 7]),
            (Errno::ENOSPC, [answer; 7]),
        ] {
            assert_eq!(ALL.map(|family| after_failure(family, errno)), expected, "{errno}");
        }
    }

    #[test]
    fn xattr_fops_tell_the_mode_when_asked() {
        let stat = Iatt { mode: 0o103_644, ..Iatt::default() };
        let mut told = Dict::empty().with(keys::IATT_IN_XATTR, Value::Iatt(Box::new(stat)));
        assert_eq!(told.mode(), Some(0o103_644));
        told.hide();
        assert_eq!(told.mode(), Some(0o100_644));
        assert_eq!(Dict::empty().with(keys::MODE_IN_XATTR, Value::Int(0o101_000)).mode(), Some(0o101_000));
        assert_eq!(Dict::NULL.mode(), None);
    }
}
