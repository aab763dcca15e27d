//! Names of the xattrs and xdata keys that distribute puts on the wire.

/// Layout of a directory on one brick, 16 bytes. In the xdata of CREATE and MKDIR: the parent layout that the client expects.
pub const LAYOUT: &str = "trusted.glusterfs.dht";
/// Target subvolume of a linkto file.
pub const LINKTO: &str = "trusted.glusterfs.dht.linkto";
/// Marks the one subvolume that is authoritative for a directory's attributes, and counts unfinished changes.
pub const MDS: &str = "trusted.glusterfs.dht.mds";
/// Commit hash of the volume, on the root of each brick, as decimal text.
pub const COMMIT_HASH: &str = "trusted.glusterfs.dht.commithash";
/// Asks for the number of open fds of the inode on the brick.
pub const OPEN_FD_COUNT: &str = "glusterfs.open-fd-count";
/// The gfid that the brick must give.
pub const GFID_REQ: &str = "gfid-req";
/// No user asked for this fop.
pub const INTERNAL_FOP: &str = "glusterfs-internal-fop";
/// Names the xattr of the parent that the brick compares with the value sent under that name.
pub const PREOP_PARENT: &str = "glusterfs.preop.parent.key";
/// In a failed answer: the comparison failed.
pub const PREOP_FAILED: &str = "glusterfs.preop.check.failed";
/// UNLINK fails with EBUSY on what is no linkto file.
pub const UNLINK_ONLY_LINKTO: &str = "unlink-only-if-dht-linkto-file";
/// UNLINK fails with EBUSY on what somebody has open.
pub const NOT_WHEN_OPEN: &str = "dont-unlink-for-open-fd";
/// MKNOD and LINK replace a linkto file of that name.
pub const FORCE_REPLACE: &str = "force-replace";
/// Part of a rename: leaves quota as it is. The spelling is upstream's.
pub const DO_NOT_ACCOUNT: &str = "glusters.marker.dont-account";
/// Lets changelog record a rename across subvolumes as a rename.
pub const CHANGELOG_RENAME: &str = "changelog.rename-op";
/// Asks for the attributes after an xattr fop.
pub const IATT_IN_XATTR: &str = "dht-get-iatt-in-xattr";
/// Asks for the mode after XATTROP.
pub const MODE_IN_XATTR: &str = "dht-get-mode-in-xattr";
/// In an answer to that: the attributes before.
pub const IATT_BEFORE: &str = "virt-gf-prestat";
/// In an answer to that: the attributes after.
pub const IATT_AFTER: &str = "virt-gf-poststat";
/// With a WRITE at the destination of a migration: rebalance must not write older data over it.
pub const PROTECT_WRITES: &str = "trusted.glusterfs.protect.writes";
/// STATFS of the brick itself, not of its quota.
pub const IGNORE_DEEM_STATFS: &str = "ignore-deem-statfs";
/// In an answer of STATFS: the figures are those of a quota.
pub const QUOTA_DEEM_STATFS: &str = "quota-deem-statfs";
/// 32 bytes of which the first is 1: this MKDIR heals a directory.
pub const INTERNAL_CONTEXT: &str = "glusterfs.internal-ctx";
/// SETXATTR first removes what users have set before.
pub const SYNC_XATTRS: &str = "sync_backend_xattrs";
/// Asks a brick for the path of a gfid.
pub const ANCESTRY_PATH: &str = "glusterfs.ancestry.path";
/// POSIX ACL of a file.
pub const ACL_ACCESS: &str = "system.posix_acl_access";
/// POSIX ACL that new children of a directory get.
pub const ACL_DEFAULT: &str = "system.posix_acl_default";

/// Lock domain of directory layouts.
pub const LAYOUT_DOMAIN: &str = "dht.layout.heal";
/// Lock domain of names.
pub const ENTRY_DOMAIN: &str = "dht.entry.sync";
/// Lock domain of data files that move.
pub const MIGRATE_DOMAIN: &str = "dht.file.migrate";
