//! One call as a line of text, and where it belongs: to which transaction, and to which phase of it.

use std::borrow::Cow;

use bytes::Bytes;
use rgfs_protocol::fops::{ANONYMOUS_FD, Request};
use rgfs_protocol::types::{EntrylkCmd, Flock, InodelkCmd, LockType};
use rgfs_protocol::{Dict, Gfid};

use super::log::{Answer, Call, Names};
use super::values::{DATA, ENTRY, METADATA, answer_xdata, changelog, request_xdata, values};

/// Start of a metadata lock, whose length is 0 (`afr.h`: LLONG_MAX−1).
const METADATA_START: u64 = 0x7fff_ffff_ffff_fffe;
/// What a transaction changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Group {
    /// Names in directories.
    Entry,
    /// Marks on a new object for bricks that missed its creation; outside the transaction that made it.
    Mark(String),
    /// Content of a file.
    Data(String),
    /// Attributes and xattrs of an object.
    Metadata(String),
    /// A descriptor was closed.
    Flush(String),
}

impl Group {
    pub(super) fn title(&self) -> String {
        match self {
            Self::Entry => "entry".to_owned(),
            Self::Mark(object) => format!("mark {object}"),
            Self::Data(object) => format!("data {object}"),
            Self::Metadata(object) => format!("metadata {object}"),
            Self::Flush(object) => format!("flush {object}"),
        }
    }
}

/// The part of a transaction that a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// An internal lock is taken.
    Lock,
    /// Changelogs are marked dirty.
    PreOp,
    /// The operation itself, and an fsync of the client's own before the next phase.
    Op,
    /// Changelogs say how it ended.
    PostOp,
    /// The internal lock is given back.
    Unlock,
    /// None of these: marks of new objects, flushes.
    Outside,
}

/// What a call does, without its owner and answer.
pub(super) struct Description {
    pub(super) group: Group,
    pub(super) phase: Phase,
    pub(super) text: String,
}

/// Describes a call that changes something or belongs to a transaction; `None` for all others.
pub(super) fn describe(call: &Call, names: &Names) -> Option<Description> {
    let Parts { kind, phase, gfid, fd, arguments, xdata } = parts(&call.request, call.data, names)?;
    let object = names.of(gfid);
    let group = match kind {
        Kind::Entry => Group::Entry,
        Kind::Mark => Group::Mark(object.to_owned()),
        Kind::Data => Group::Data(object.to_owned()),
        Kind::Metadata => Group::Metadata(object.to_owned()),
        Kind::Flush => Group::Flush(object.to_owned()),
    };
    // The brick opens the file by itself for an anonymous fd.
    let fd = if fd == Some(ANONYMOUS_FD) { "(anonymous fd)" } else { "" };
    let blank = if arguments.is_empty() { "" } else { " " };
    let text = format!("{} {object}{fd}{blank}{arguments}{}", call.procedure.name(), request_xdata(xdata, names));
    Some(Description { group, phase, text })
}

#[derive(Clone, Copy)]
enum Kind {
    Entry,
    Mark,
    Data,
    Metadata,
    Flush,
}

/// What there is to say about a request.
struct Parts<'a> {
    kind: Kind,
    phase: Phase,
    /// What it works on; for entries the directory.
    gfid: &'a Gfid,
    fd: Option<i64>,
    arguments: String,
    xdata: &'a Dict,
}

fn parts<'a>(request: &'a Request, data: usize, names: &Names) -> Option<Parts<'a>> {
    let part = |kind, phase, gfid, fd, arguments, xdata| Some(Parts { kind, phase, gfid, fd, arguments, xdata });
    let operation = |kind, gfid, fd, arguments, xdata| part(kind, Phase::Op, gfid, fd, arguments, xdata);
    match request {
        Request::Entrylk(lock) => {
            let (phase, cmd) = match lock.cmd {
                EntrylkCmd::Lock => (Phase::Lock, "LOCK"),
                EntrylkCmd::LockNonBlocking => (Phase::Lock, "LOCK_NB"),
                EntrylkCmd::Unlock => (Phase::Unlock, "UNLOCK"),
            };
            let entry = if lock.namelen == 0 { "NULL".to_owned() } else { quoted(&lock.name) };
            let arguments = format!("{cmd} {:?} {entry} {}", lock.kind, text(&lock.volume));
            part(Kind::Entry, phase, &lock.gfid, None, arguments, &lock.xdata)
        }
        Request::Inodelk(lock) => {
            let (kind, phase, arguments) = inodelk(lock.cmd, lock.kind, &lock.flock, &lock.volume);
            part(kind, phase, &lock.gfid, None, arguments, &lock.xdata)
        }
        Request::Finodelk(lock) => {
            let (kind, phase, arguments) = inodelk(lock.cmd, lock.kind, &lock.flock, &lock.volume);
            part(kind, phase, &lock.gfid, Some(lock.fd), arguments, &lock.xdata)
        }
        Request::Xattrop(change) => {
            let (kind, phase) = changelog_place(&change.dict);
            let arguments = format!("{:?} {}", change.flags, changelog(&change.dict));
            part(kind, phase, &change.gfid, None, arguments, &change.xdata)
        }
        Request::Fxattrop(change) => {
            let (kind, phase) = changelog_place(&change.dict);
            let arguments = format!("{:?} {}", change.flags, changelog(&change.dict));
            part(kind, phase, &change.gfid, Some(change.fd), arguments, &change.xdata)
        }
        Request::Flush(flush) => {
            part(Kind::Flush, Phase::Outside, &flush.gfid, Some(flush.fd), String::new(), &flush.xdata)
        }

        Request::Create(new) => operation(Kind::Entry, &new.parent, None, quoted(&new.name), &new.xdata),
        Request::Mknod(new) => operation(Kind::Entry, &new.parent, None, quoted(&new.name), &new.xdata),
        Request::Mkdir(new) => operation(Kind::Entry, &new.parent, None, quoted(&new.name), &new.xdata),
        Request::Symlink(new) => operation(Kind::Entry, &new.parent, None, quoted(&new.name), &new.xdata),
        Request::Unlink(old) => operation(Kind::Entry, &old.parent, None, quoted(&old.name), &old.xdata),
        Request::Rmdir(old) => operation(Kind::Entry, &old.parent, None, quoted(&old.name), &old.xdata),
        Request::Link(new) => {
            let arguments = format!("{} to {}", quoted(&new.new_name), names.of(&new.gfid));
            operation(Kind::Entry, &new.new_parent, None, arguments, &new.xdata)
        }
        Request::Rename(moved) => {
            let (old, new) = (quoted(&moved.old_name), quoted(&moved.new_name));
            let arguments = format!("{old} to {} {new}", names.of(&moved.new_parent));
            operation(Kind::Entry, &moved.old_parent, None, arguments, &moved.xdata)
        }

        Request::Write(write) => {
            let arguments = format!("off={} size={data}", write.offset);
            operation(Kind::Data, &write.gfid, Some(write.fd), arguments, &write.xdata)
        }
        Request::Fsync(sync) => {
            let arguments = format!("datasync={}", sync.datasync);
            operation(Kind::Data, &sync.gfid, Some(sync.fd), arguments, &sync.xdata)
        }
        Request::Truncate(cut) => operation(Kind::Data, &cut.gfid, None, format!("off={}", cut.offset), &cut.xdata),
        Request::Ftruncate(cut) => {
            operation(Kind::Data, &cut.gfid, Some(cut.fd), format!("off={}", cut.offset), &cut.xdata)
        }
        Request::Fallocate(range) => {
            let arguments = format!("flags={} off={} size={}", range.flags, range.offset, range.size);
            operation(Kind::Data, &range.gfid, Some(range.fd), arguments, &range.xdata)
        }
        Request::Discard(range) => {
            let arguments = format!("off={} size={}", range.offset, range.size);
            operation(Kind::Data, &range.gfid, Some(range.fd), arguments, &range.xdata)
        }
        Request::Zerofill(range) => {
            let arguments = format!("off={} size={}", range.offset, range.size);
            operation(Kind::Data, &range.gfid, Some(range.fd), arguments, &range.xdata)
        }

        Request::Setattr(set) => {
            operation(Kind::Metadata, &set.gfid, None, format!("valid={:#x}", set.valid), &set.xdata)
        }
        Request::Fsetattr(set) => {
            operation(Kind::Metadata, &set.gfid, Some(set.fd), format!("valid={:#x}", set.valid), &set.xdata)
        }
        Request::Setxattr(set) => operation(Kind::Metadata, &set.gfid, None, keys(&set.dict), &set.xdata),
        Request::Fsetxattr(set) => operation(Kind::Metadata, &set.gfid, Some(set.fd), keys(&set.dict), &set.xdata),
        Request::Removexattr(old) => operation(Kind::Metadata, &old.gfid, None, quoted(&old.name), &old.xdata),
        Request::Fremovexattr(old) => operation(Kind::Metadata, &old.gfid, Some(old.fd), quoted(&old.name), &old.xdata),
        // The others change nothing.
        _ => None,
    }
}

fn inodelk(cmd: InodelkCmd, kind: LockType, range: &Flock, domain: &Bytes) -> (Kind, Phase, String) {
    let (group, range) = match (range.start, range.len) {
        (METADATA_START, 0) => (Kind::Metadata, "MAX-1,0".to_owned()),
        (start, len) => (Kind::Data, format!("{start},{len}")),
    };
    let cmd = match cmd {
        InodelkCmd::SetLk => "SETLK",
        InodelkCmd::SetLkW => "SETLKW",
    };
    let (phase, kind) = match kind {
        LockType::Read => (Phase::Lock, "RD"),
        LockType::Write => (Phase::Lock, "WR"),
        LockType::Unlock => (Phase::Unlock, "UNLCK"),
    };
    (group, phase, format!("{cmd} {kind} {range} {}", text(domain)))
}

/// To which transaction a change of changelogs belongs, and to which phase.
fn changelog_place(dict: &Dict) -> (Kind, Phase) {
    let values = values(dict);
    let kind = |index: usize| match index {
        DATA => Kind::Data,
        METADATA => Kind::Metadata,
        _ => Kind::Entry,
    };
    let set = |counters: &[i32; 3]| [DATA, METADATA, ENTRY].into_iter().find(|&index| counters[index] != 0);
    match values.iter().find(|(key, _)| key == "dirty") {
        // Transactions always name it.
        None | Some((_, None)) => (Kind::Mark, Phase::Outside),
        Some((_, Some(dirty))) => match set(dirty) {
            Some(index) => (kind(index), if dirty[index] > 0 { Phase::PreOp } else { Phase::PostOp }),
            // Only blame, as when an operation failed that had left no mark before it.
            None => {
                let blamed = values.iter().find_map(|(_, value)| set(value.as_ref()?));
                (blamed.map_or(Kind::Mark, kind), Phase::PostOp)
            }
        },
    }
}

fn text(bytes: &Bytes) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn quoted(name: &Bytes) -> String {
    format!("\"{}\"", text(name))
}

fn keys(dict: &Dict) -> String {
    dict.iter().map(|(key, _)| quoted(key)).collect::<Vec<_>>().join(",")
}

/// What a brick said to a call.
pub(super) fn answer(call: &Call) -> String {
    let Some(Answer { outcome, xdata, .. }) = &call.answer else { return "lost".to_owned() };
    match outcome {
        Err(errno) => errno.name().map_or_else(|| format!("errno {}", errno.raw()), str::to_owned),
        Ok(count) => format!("{count}{}", answer_xdata(xdata)),
    }
}
