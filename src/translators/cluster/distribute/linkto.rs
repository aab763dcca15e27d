//! Linkto files: the empty files with mode 01000 that say on which subvolume a name really is (`dht-linkfile.c`).

use bytes::Bytes;
use rgfs_protocol::{Dict, FileType, Gfid, Iatt, Value};

use super::keys;

/// Mode of a linkto file: regular, only sticky.
pub const LINKTO_MODE: u32 = 0o101_000;

/// True when `stat` has the mode of a linkto file. A user may own a file like that; only the xattr makes it one.
pub fn has_linkto_mode(stat: &Iatt) -> bool {
    stat.mode & 0o177_777 == LINKTO_MODE
}

/// True when the answer shows a linkto file: both the mode and the xattr (a file that is being migrated has the xattr
/// too, a user's file may have the mode).
pub fn is_linkto(stat: &Iatt, xdata: &Dict) -> bool {
    has_linkto_mode(stat) && xdata.contains(keys::LINKTO)
}

/// The subvolume that a linkto names, without the NUL that ends it on disk. `None` for an answer without the xattr.
pub fn target(xdata: &Dict) -> Option<Bytes> {
    let value = xdata.bytes(keys::LINKTO)?;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    Some(value.slice(..end))
}

/// xdata of the MKNOD that makes a linkto of `gfid` to the subvolume `target`. The xattr is stored with its NUL: the C
/// client reads it as a C string.
pub fn creation_xdata(target: &str, gfid: Gfid) -> Dict {
    Dict::empty()
        .with(keys::GFID_REQ, Value::Gfuuid(gfid))
        .with(keys::INTERNAL_FOP, Value::str("yes"))
        .with(keys::LINKTO, Value::str(target))
}

/// xdata of an UNLINK that removes nothing but a linkto that nobody has open.
pub fn guarded_unlink_xdata() -> Dict {
    Dict::empty().with(keys::UNLINK_ONLY_LINKTO, Value::Int(1)).with(keys::NOT_WHEN_OPEN, Value::Int(1))
}

/// Sticky and setgid on a regular file: rebalance moves it. Or a user likes it so.
const MIGRATION_MARKS: u32 = 0o3000;

/// True when the file may be on the move; only its linkto xattr tells.
pub fn has_migration_marks(stat: &Iatt) -> bool {
    stat.file_type() == FileType::Regular && stat.mode & MIGRATION_MARKS == MIGRATION_MARKS
}

/// Removes the marks of a migration from what the user sees.
pub fn strip_migration_marks(stat: &mut Iatt) {
    if has_migration_marks(stat) {
        stat.mode &= !MIGRATION_MARKS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32) -> Iatt {
        Iatt { mode, ..Iatt::default() }
    }

    #[test]
    fn both_conditions_count() {
        let with = Dict::empty().with(keys::LINKTO, Value::Ptr(Bytes::from_static(b"v-client-0\0")));
        assert!(is_linkto(&file(0o101_000), &with));
        assert!(!is_linkto(&file(0o101_000), &Dict::NULL), "a user's file");
        assert!(!is_linkto(&file(0o103_644), &with), "migration, phase 1");
        assert!(!is_linkto(&file(0o041_000), &with), "a directory");
    }

    #[test]
    fn target_with_and_without_nul() {
        for (stored, expected) in [(&b"v-client-0\0"[..], "v-client-0"), (b"v-client-0", "v-client-0"), (b"\0", "")] {
            let xdata = Dict::empty().with(keys::LINKTO, Value::Ptr(Bytes::copy_from_slice(stored)));
            assert_eq!(target(&xdata).unwrap(), expected.as_bytes());
        }
        let made = creation_xdata("v-client-1", Gfid::ROOT);
        assert_eq!(made.get(keys::LINKTO), Some(&Value::Str(Bytes::from_static(b"v-client-1\0"))));
        assert_eq!(target(&made).unwrap(), &b"v-client-1"[..]);
    }

    #[test]
    fn marks_are_stripped_from_regular_files_only() {
        for (before, after) in [(0o103_644, 0o100_644), (0o101_644, 0o101_644), (0o043_755, 0o043_755)] {
            let mut stat = file(before);
            strip_migration_marks(&mut stat);
            assert_eq!(stat.mode, after);
        }
    }
}
