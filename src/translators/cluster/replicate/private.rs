//! Directories that replicate keeps for itself in the root of a brick (`afr_is_private_directory`).

use rgfs_protocol::Gfid;

/// Where old versions put what they deleted (`GF_REPLICATE_TRASH_DIR`).
const LANDFILL: &[u8] = b".landfill";
/// Where entry heal puts what may still have a name elsewhere; the id of the volume follows (`AFR_ANON_DIR_PREFIX`).
const ANONYMOUS: &[u8] = b".glusterfs-anonymous-inode";
/// Pid of geo-replication's worker, which copies what the changelog of a brick names (`GF_CLIENT_PID_GSYNCD`).
const GEO_REPLICATION: i32 = -1;

/// True when users neither see nor make this name in this directory.
pub fn is_private(parent: &Gfid, name: &[u8], pid: i32) -> bool {
    // The dot first: it decides almost always.
    name.first() == Some(&b'.')
        && parent.is_root()
        && (name == LANDFILL || (pid != GEO_REPLICATION && name.starts_with(ANONYMOUS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_names() {
        let other = Gfid([7; 16]);
        let anonymous = b".glusterfs-anonymous-inode-7c9a".as_slice();
        for (parent, name, pid, private) in [
            (Gfid::ROOT, anonymous, 100, true),
            (Gfid::ROOT, anonymous, GEO_REPLICATION, false),
            (Gfid::ROOT, b".landfill", GEO_REPLICATION, true),
            (Gfid::ROOT, b".landfill2", 100, false),
            (Gfid::ROOT, b"landfill", 100, false),
            (other, anonymous, 100, false),
            (other, b".landfill", 100, false),
        ] {
            assert_eq!(is_private(&parent, name, pid), private, "{}", String::from_utf8_lossy(name));
        }
    }
}
