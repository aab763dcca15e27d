//! Which copies are good, as far as the copies themselves can tell (`afr_readables_fill`, `afr_accused_fill`,
//! `afr_accuse_smallfiles`).
//!
//! No copy knows that it missed something: the others know. So every answer is asked for whom it accuses, and whoever is
//! accused by anybody is not read. Two that accuse each other are both out: a split-brain.

use rgfs_protocol::{Dict, FileType, Iatt, Value};
use smallvec::SmallVec;

use super::changelog::{Counters, Keys, Kind};
use super::child_set::ChildSet;
use super::core::ARBITER;
use super::inode_state::Readable;
use super::requests::INODELK_COUNT;

/// The brick found its copy to be damaged (`GLUSTERFS_BAD_INODE`).
const BAD_INODE: &str = "glusterfs.bad-inode";

/// What one copy says of itself and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Which copy.
    pub child: usize,
    /// What it is a copy of.
    pub kind: FileType,
    /// Bytes.
    pub size: u64,
    /// Accused by it, per [`Kind::index`].
    pub accuses: [ChildSet; 3],
    /// It is damaged, and so is what it says.
    pub bad: bool,
    /// Somebody may be changing it just now.
    pub locked: bool,
}

impl View {
    /// From the answer of a LOOKUP or FSTAT.
    pub fn read(keys: &Keys, child: usize, stat: &Iatt, answer: &Dict) -> Self {
        let mut view = View {
            child,
            kind: stat.file_type(),
            size: stat.size,
            accuses: [ChildSet::EMPTY; 3],
            bad: false,
            locked: false,
        };
        for (key, value) in answer.iter() {
            if let Some(accused) = keys.pending.iter().position(|pending| pending == key) {
                let Value::Ptr(bytes) = value else { continue };
                for (accuses, counter) in view.accuses.iter_mut().zip(Counters::from_bytes(bytes).0) {
                    if counter != 0 {
                        accuses.insert(accused);
                    }
                }
            } else if key == BAD_INODE {
                view.bad = true;
            } else if key == INODELK_COUNT {
                view.locked = value.as_int().is_some_and(|count| count != 0);
            }
        }
        view
    }

    /// Accused of having old content; of a directory, old entries.
    fn accuses_content(&self) -> ChildSet {
        let kind = if self.kind == FileType::Directory { Kind::Entry } else { Kind::Data };
        self.accuses[kind.index()]
    }

    fn accuses_metadata(&self) -> ChildSet {
        self.accuses[Kind::Metadata.index()]
    }
}

/// Views of all copies that answered well, ascending.
pub type Views = SmallVec<[View; 3]>;

/// What the views add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Copies with good content (of a directory: entries).
    pub data: ChildSet,
    /// Copies with good attributes.
    pub metadata: ChildSet,
    /// Copies accused of anything, whether they answered or not.
    pub accused: ChildSet,
}

impl Verdict {
    /// Judges. The arbiter, if there is one, holds nothing to be read.
    pub fn of(views: &[View], arbiter: bool) -> Self {
        let usable = || views.iter().filter(|view| !view.bad);
        let union = |sets: &mut dyn Iterator<Item = ChildSet>| sets.fold(ChildSet::EMPTY, ChildSet::union);
        let metadata = union(&mut usable().map(View::accuses_metadata));
        let mut data = union(&mut usable().map(View::accuses_content));
        data = data.union(smaller(views, data, arbiter));
        let mut present: ChildSet = usable().map(|view| view.child).collect();
        if arbiter {
            present.remove(ARBITER);
        }
        Verdict { data: present.minus(data), metadata: present.minus(metadata), accused: data.union(metadata) }
    }

    /// To be remembered.
    pub(super) fn readable(&self, generation: u32) -> Readable {
        Readable { generation, data: self.data, metadata: self.metadata }
    }
}

/// Copies shorter than the longest good one: an append was cut off before anybody could note who missed it. While somebody
/// writes, sizes differ for a better reason.
fn smaller(views: &[View], accused: ChildSet, arbiter: bool) -> ChildSet {
    let is_dir = |view: &View| matches!(view.kind, FileType::Directory | FileType::Unknown);
    if views.iter().any(|view| view.locked || is_dir(view)) {
        return ChildSet::EMPTY;
    }
    let good = || {
        let holds_data = |view: &&View| !(arbiter && view.child == ARBITER);
        views.iter().filter(|view| !view.bad && !accused.contains(view.child)).filter(holds_data)
    };
    let longest = good().map(|view| view.size).max().unwrap_or(0);
    good().filter(|view| view.size < longest).map(|view| view.child).collect()
}

/// Which copies an operation may use; `None` when that is an input/output error (`afr_inode_get_readable`). A directory is
/// listable, and can be changed, whatever its copies say of each other: they can be merged. `attributes` is for operations
/// that tell the attributes of the inode.
pub(super) fn usable(
    readable: &Readable,
    kind: Kind,
    is_dir: bool,
    attributes: bool,
    up: ChildSet,
) -> Option<ChildSet> {
    let hopeless = match is_dir {
        true => readable.metadata.is_empty() && (attributes || kind == Kind::Metadata),
        false => readable.data.is_empty() || readable.metadata.is_empty(),
    };
    if hopeless {
        return None;
    }
    let chosen = readable.of(kind);
    Some(if chosen.is_empty() { up } else { chosen })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of a file that accuses some of old data.
    fn file(child: usize, size: u64, accuses: &[usize]) -> View {
        let accused = accuses.iter().copied().collect();
        View {
            child,
            kind: FileType::Regular,
            size,
            accuses: [accused, ChildSet::EMPTY, ChildSet::EMPTY],
            bad: false,
            locked: false,
        }
    }

    fn set(indices: &[usize]) -> ChildSet {
        indices.iter().copied().collect()
    }

    #[test]
    fn content() {
        let cases: [(&str, &[View], &[usize]); 9] = [
            ("all is well", &[file(0, 5, &[]), file(1, 5, &[]), file(2, 5, &[])], &[0, 1, 2]),
            ("one missed something", &[file(0, 5, &[2]), file(1, 5, &[2]), file(2, 1, &[])], &[0, 1]),
            ("one is away", &[file(0, 5, &[2]), file(1, 5, &[2])], &[0, 1]),
            ("only one knows", &[file(0, 5, &[]), file(1, 5, &[2]), file(2, 5, &[])], &[0, 1]),
            ("split-brain", &[file(0, 5, &[1]), file(1, 5, &[0])], &[]),
            ("the accused accuse", &[file(0, 5, &[1]), file(1, 5, &[2]), file(2, 5, &[])], &[0]),
            ("cut off", &[file(0, 5, &[]), file(1, 9, &[]), file(2, 5, &[])], &[1]),
            ("the longest is old", &[file(0, 5, &[1]), file(1, 9, &[]), file(2, 5, &[])], &[0, 2]),
            ("nobody", &[], &[]),
        ];
        for (name, views, readable) in cases {
            assert_eq!(Verdict::of(views, false).data, set(readable), "{name}");
        }
    }

    #[test]
    fn sizes_mean_nothing_while_somebody_writes() {
        let locked = View { locked: true, ..file(1, 9, &[]) };
        assert_eq!(Verdict::of(&[file(0, 5, &[]), locked], false).data, set(&[0, 1]));
    }

    #[test]
    fn damaged_copies_neither_count_nor_accuse() {
        let damaged = View { bad: true, ..file(0, 9, &[1]) };
        let verdict = Verdict::of(&[damaged, file(1, 5, &[])], false);
        assert_eq!((verdict.data, verdict.accused), (set(&[1]), set(&[])));
    }

    #[test]
    fn the_arbiter_is_heard_but_not_read() {
        let verdict = Verdict::of(&[file(0, 5, &[]), file(1, 5, &[]), file(2, 0, &[1])], true);
        assert_eq!((verdict.data, verdict.metadata), (set(&[0]), set(&[0, 1])));
        // The arbiter's files are empty.
        assert_eq!(Verdict::of(&[file(1, 5, &[]), file(2, 0, &[])], true).data, set(&[1]));
    }

    #[test]
    fn directories_are_judged_by_entries() {
        let directory = |child, size, accuses| View { kind: FileType::Directory, accuses, ..file(child, size, &[]) };
        let full_crawl = directory(0, 4096, [set(&[1]), set(&[]), set(&[])]);
        let views = [full_crawl, directory(1, 6, [set(&[]); 3])];
        assert_eq!(Verdict::of(&views, false).data, set(&[0, 1]), "data marks and sizes are not about entries");
        let views = [directory(0, 1, [set(&[]), set(&[2]), set(&[1])]), views[1]];
        let verdict = Verdict::of(&views, false);
        assert_eq!((verdict.data, verdict.metadata, verdict.accused), (set(&[0]), set(&[0, 1]), set(&[1, 2])));
    }

    #[test]
    fn views_of_answers() {
        let keys = Keys::new(["v-client-0", "v-client-1"], "trusted.afr.dirty");
        let mark = |counters: [i32; 3]| Value::Ptr(bytes::Bytes::copy_from_slice(&Counters(counters).to_bytes()));
        let stat = Iatt { mode: 0o100_644, size: 3, ..Iatt::default() };
        let answer = Dict::empty()
            .with("trusted.afr.v-client-1", mark([0, 0x0100_0000, 0]))
            .with("trusted.afr.dirty", mark([1, 1, 1]))
            .with(INODELK_COUNT, Value::Int(1));
        let view = View::read(&keys, 0, &stat, &answer);
        let accuses = [set(&[]), set(&[1]), set(&[])];
        let expected = View { child: 0, kind: FileType::Regular, size: 3, accuses, bad: false, locked: true };
        assert_eq!(view, expected);
        assert!(View::read(&keys, 0, &stat, &Dict::empty().with(BAD_INODE, Value::Int(1))).bad);
    }

    #[test]
    fn what_operations_may_use() {
        let up = set(&[0, 1]);
        let readable =
            |data: &[usize], metadata: &[usize]| Readable { generation: 1, data: set(data), metadata: set(metadata) };
        // Kind, directory, attributes asked, data, metadata, result.
        type Case<'a> = (Kind, bool, bool, &'a [usize], &'a [usize], Option<&'a [usize]>);
        let cases: [Case<'_>; 9] = [
            (Kind::Data, false, false, &[0], &[1], Some(&[0])),
            (Kind::Metadata, false, false, &[0], &[1], Some(&[1])),
            (Kind::Data, false, false, &[], &[1], None),
            (Kind::Data, false, false, &[1], &[], None),
            (Kind::Data, true, false, &[], &[1], Some(&[0, 1])),
            (Kind::Data, true, false, &[], &[], Some(&[0, 1])),
            (Kind::Data, true, true, &[0], &[], None),
            (Kind::Metadata, true, false, &[0], &[], None),
            (Kind::Entry, true, false, &[0], &[], Some(&[0])),
        ];
        for (kind, is_dir, attributes, data, metadata, expected) in cases {
            let result = usable(&readable(data, metadata), kind, is_dir, attributes, up);
            assert_eq!(result, expected.map(set), "{kind:?} {is_dir} {attributes} {data:?} {metadata:?}");
        }
    }
}
