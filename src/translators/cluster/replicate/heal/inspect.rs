//! What an object seems to need, by a look without locks (`afr-self-heal-common.c:afr_selfheal_unlocked_inspect`).

use rgfs_protocol::FileType;

use super::super::changelog::{Counters, Kind};
use super::source::{Copy, same_metadata};

/// The heals that may have something to do. What is not in is healthy for sure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Needs {
    /// Content.
    pub(in super::super) data: bool,
    /// Attributes.
    pub(in super::super) metadata: bool,
    /// Names of a directory.
    pub(in super::super) entry: bool,
}

impl Needs {
    /// Everything.
    pub(in super::super) const ALL: Needs = Needs { data: true, metadata: true, entry: true };

    /// True when there is something.
    pub(in super::super) fn any(self) -> bool {
        self.data || self.metadata || self.entry
    }

    /// What is in both.
    pub(in super::super) fn and(self, other: Self) -> Self {
        Needs {
            data: self.data && other.data,
            metadata: self.metadata && other.metadata,
            entry: self.entry && other.entry,
        }
    }
}

/// Judges the copies that could be seen. `None` when their types differ: no heal can help that.
pub(in super::super) fn needs(copies: &[(usize, &Copy)], arbiter: Option<usize>) -> Option<Needs> {
    let (_, first) = copies.first()?;
    let kind = first.stat.file_type();
    if copies.iter().any(|(_, copy)| copy.stat.file_type() != kind) {
        return None;
    }
    let marked = |kind: Kind| {
        let counts = |counters: &Counters| counters.get(kind) != 0;
        copies.iter().any(|(_, copy)| counts(&copy.marks.dirty) || copy.marks.pending.iter().any(counts))
    };
    let mut sizes = copies.iter().filter(|(index, _)| arbiter != Some(*index)).map(|(_, copy)| copy.stat.size);
    let size = sizes.next();
    let directory = kind == FileType::Directory;
    Some(Needs {
        data: !directory && (marked(Kind::Data) || kind == FileType::Regular && sizes.any(|other| Some(other) != size)),
        metadata: marked(Kind::Metadata) || copies.iter().any(|(_, copy)| !same_metadata(first, copy)),
        entry: directory && marked(Kind::Entry),
    })
}

/// True when copies of one object have different attributes, and none of them has a mark that would say why
/// (`afr_can_start_metadata_self_heal`).
pub(in super::super) fn differs_silently(copies: &[Copy]) -> bool {
    let Some(first) = copies.first() else { return false };
    let is_marked =
        |copy: &Copy| copy.marks.dirty.get(Kind::Metadata) != 0 || !copy.marks.accused(Kind::Metadata).is_empty();
    let identity = |copy: &Copy| (copy.stat.gfid, copy.stat.file_type());
    copies.iter().all(|copy| !is_marked(copy) && identity(copy) == identity(first))
        && copies.iter().any(|copy| !same_metadata(first, copy))
}

#[cfg(test)]
mod tests {
    use super::super::super::changelog::Marks;
    use super::*;
    use rgfs_protocol::Iatt;

    fn copy(mode: u32, size: u64, pending: [i32; 3], dirty: [i32; 3]) -> Copy {
        let marks = Marks { pending: smallvec::smallvec![Counters(pending)], dirty: Counters(dirty) };
        Copy { stat: Iatt { mode, size, ..Iatt::default() }, marks, ..Copy::default() }
    }

    #[test]
    fn table() {
        let (file, directory) = (0o100_644, 0o040_755);
        let none = Needs::default();
        for (name, first, second, expected) in [
            ("healthy", copy(file, 5, [0; 3], [0; 3]), copy(file, 5, [0; 3], [0; 3]), Some(none)),
            ("size", copy(file, 5, [0; 3], [0; 3]), copy(file, 6, [0; 3], [0; 3]), Some(Needs { data: true, ..none })),
            (
                "dirty",
                copy(file, 5, [0; 3], [1, 0, 0]),
                copy(file, 5, [0; 3], [0; 3]),
                Some(Needs { data: true, ..none }),
            ),
            (
                "mode",
                copy(file, 5, [0; 3], [0; 3]),
                copy(0o100_600, 5, [0; 3], [0; 3]),
                Some(Needs { metadata: true, ..none }),
            ),
            (
                "a directory with the marker for a whole crawl",
                copy(directory, 5, [1, 0, 1], [0; 3]),
                copy(directory, 6, [0; 3], [0; 3]),
                Some(Needs { entry: true, ..none }),
            ),
            ("types", copy(file, 5, [0; 3], [0; 3]), copy(directory, 5, [0; 3], [0; 3]), None),
        ] {
            assert_eq!(needs(&[(0, &first), (1, &second)], None), expected, "{name}");
        }
        let arbiter = copy(file, 0, [0; 3], [0; 3]);
        assert_eq!(needs(&[(1, &copy(file, 5, [0; 3], [0; 3])), (2, &arbiter)], Some(2)), Some(none));
    }
}
