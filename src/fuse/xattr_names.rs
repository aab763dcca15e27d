//! Which extended attributes pass between the kernel and the bricks (`fuse-helpers.c`, `fuse_setxattr`, `fuse_getxattr`).

use rgfs_protocol::Errno;

use super::Options;

/// What to do with a get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Get {
    /// Ask the translators.
    Ask,
    /// The gfid's 16 bytes; nobody is asked.
    Gfid,
    /// The gfid's text; nobody is asked.
    GfidText,
    /// Fail.
    Refuse(Errno),
}

const ACL_NAMES: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Names that carry GlusterFS's own state: users never set, remove or list them.
fn is_internal(name: &str) -> bool {
    const PREFIXES: [&str; 12] = [
        "trusted.afr.",
        "trusted.ec.",
        "trusted.glusterfs.dht",
        "trusted.glusterfs.mdata",
        "trusted.glusterfs.quota",
        "trusted.glusterfs.shard",
        "trusted.glusterfs.volume-id",
        "trusted.gfid2path.",
        "trusted.pgfid.",
        "trusted.bit-rot.",
        "trusted.SGI_ACL_",
        "glusterfs.",
    ];
    name == "trusted.gfid" || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The kind of filter for `security.selinux` and `security.capability`, which cost a round trip per inode or write for an
/// answer that is nearly always "none".
fn is_switched_off(name: &str, options: &Options) -> bool {
    match name {
        "security.selinux" => !options.selinux,
        "security.capability" => !options.selinux && !options.capability,
        _ => false,
    }
}

/// Whether `name` may be set.
///
/// # Errors
/// EOPNOTSUPP for what the mount was not asked to support, EPERM for GlusterFS's own.
pub fn check_set(name: &str, options: &Options) -> Result<(), Errno> {
    if is_switched_off(name, options) || (ACL_NAMES.contains(&name) && !options.acl) {
        return Err(Errno::EOPNOTSUPP);
    }
    // Virtual names are commands of the C client's tools (`glusterfs.clrlk...`, `trusted.glusterfs.set-log-level`).
    if is_internal(name) && !name.starts_with("glusterfs.") {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Whether `name` may be removed.
///
/// # Errors
/// EPERM for GlusterFS's own.
pub fn check_remove(name: &str) -> Result<(), Errno> {
    if is_internal(name) { Err(Errno::EPERM) } else { Ok(()) }
}

/// What to do with a get of `name`.
pub fn get(name: &str, options: &Options) -> Get {
    match name {
        "glusterfs.gfid" => Get::Gfid,
        "glusterfs.gfid.string" => Get::GfidText,
        "trusted.gfid" | "trusted.glusterfs.volume-id" | "trusted.glusterfs.mdata" => Get::Refuse(Errno::ENODATA),
        // The C client says ENODATA. Programs take this as an answer for the whole mount: `ls -l` then asks once and not for
        // each file. Not so for security.capability: getcap(8) is silent about files without, and complains about this.
        "security.selinux" if !options.selinux => Get::Refuse(Errno::EOPNOTSUPP),
        _ if is_switched_off(name, options) => Get::Refuse(Errno::ENODATA),
        _ if ACL_NAMES.contains(&name) && !options.acl => Get::Refuse(Errno::EOPNOTSUPP),
        _ if name.starts_with("trusted.afr.") || name.starts_with("trusted.ec.") => Get::Refuse(Errno::ENODATA),
        _ => Get::Ask,
    }
}

/// Whether a listing shows `name`.
pub fn is_listed(name: &[u8], options: &Options) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return true };
    let hidden = name.is_empty()
        || is_internal(name)
        || name.starts_with("trusted.glusterfs.")
        || (ACL_NAMES.contains(&name) && !options.acl);
    !hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_filtered() {
        let plain = Options::default();
        let full = Options { acl: true, selinux: true, ..Options::default() };
        let capable = Options { capability: true, ..Options::default() };
        for (name, options, expected) in [
            ("user.a", &plain, Ok(())),
            ("trusted.a", &plain, Ok(())),
            ("security.selinux", &plain, Err(Errno::EOPNOTSUPP)),
            ("security.selinux", &full, Ok(())),
            ("security.selinux", &capable, Err(Errno::EOPNOTSUPP)),
            ("security.capability", &plain, Err(Errno::EOPNOTSUPP)),
            ("security.capability", &capable, Ok(())),
            ("system.posix_acl_access", &plain, Err(Errno::EOPNOTSUPP)),
            ("system.posix_acl_default", &full, Ok(())),
            ("trusted.gfid", &full, Err(Errno::EPERM)),
            ("trusted.afr.vol-client-0", &plain, Err(Errno::EPERM)),
            ("trusted.glusterfs.dht", &plain, Err(Errno::EPERM)),
            ("trusted.glusterfs.volume-id", &plain, Err(Errno::EPERM)),
        ] {
            assert_eq!(check_set(name, options), expected, "{name}");
        }
    }

    #[test]
    fn gets_are_filtered() {
        let plain = Options::default();
        for (name, expected) in [
            ("glusterfs.gfid", Get::Gfid),
            ("glusterfs.gfid.string", Get::GfidText),
            ("security.selinux", Get::Refuse(Errno::EOPNOTSUPP)),
            ("security.capability", Get::Refuse(Errno::ENODATA)),
            ("system.posix_acl_access", Get::Refuse(Errno::EOPNOTSUPP)),
            ("trusted.glusterfs.pathinfo", Get::Ask),
            ("trusted.gfid", Get::Refuse(Errno::ENODATA)),
            ("user.x", Get::Ask),
        ] {
            assert_eq!(get(name, &plain), expected, "{name}");
        }
        let full = Options { acl: true, selinux: true, ..Options::default() };
        for name in ["security.selinux", "security.capability", "system.posix_acl_access"] {
            assert_eq!(get(name, &full), Get::Ask);
        }
    }

    #[test]
    fn internals_are_neither_removed_nor_listed() {
        let plain = Options::default();
        for name in ["trusted.gfid", "trusted.gfid2path.abc", "trusted.afr.dirty", "trusted.ec.size", "trusted.pgfid.x"]
        {
            assert_eq!(check_remove(name), Err(Errno::EPERM), "{name}");
            assert!(!is_listed(name.as_bytes(), &plain), "{name}");
        }
        assert_eq!(check_remove("security.selinux"), Ok(()));
        for name in ["user.a", "trusted.mine", "security.selinux"] {
            assert!(is_listed(name.as_bytes(), &plain), "{name}");
        }
        assert!(!is_listed(b"system.posix_acl_access", &plain));
    }
}
