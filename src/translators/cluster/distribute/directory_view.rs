//! What the children's answers to a LOOKUP of one directory add up to (`dht_lookup_dir_cbk`).

use rgfs_protocol::{Dict, Errno, Iatt};

use super::keys;
use super::layout::{DiskLayout, Layout, Share};
use super::merge;
use crate::reply::LookupReply;
use crate::{FopError, FopResult};

/// A directory as its subvolumes show it.
#[derive(Debug)]
pub struct DirectoryView {
    /// Ranges and failures, by subvolume.
    pub layout: Layout,
    /// The subvolume that carries the MDS marker.
    pub mds: Option<usize>,
    /// The marker counts unfinished xattr changes.
    pub xattrs_differ: bool,
    /// Owner or mode differ between subvolumes.
    pub attributes_differ: bool,
    /// Subvolumes disagree about the gfid.
    pub gfids_differ: bool,
    /// Merged answer.
    pub reply: LookupReply,
    /// Commit hash of the volume, if the answers tell one (those of the root do).
    pub commit_hash: Option<u32>,
}

/// Why there is no view.
#[derive(Debug)]
pub enum NoDirectory {
    /// A subvolume has something else under that name, or an entry without gfid.
    Mixed,
    /// No subvolume has it.
    Failed(FopError),
}

/// Adds the answers up, in the order of the subvolumes.
///
/// # Errors
/// When the answers do not show a directory. "Unreachable" wins over "not there": what is taken for absent gets made anew.
pub fn aggregate(replies: Vec<FopResult<LookupReply>>) -> Result<DirectoryView, NoDirectory> {
    let mixed = replies.iter().any(|reply| match reply {
        Ok(reply) => !reply.stat.is_dir(),
        Err(error) => error.errno == Errno::ENODATA,
    });
    if mixed {
        return Err(NoDirectory::Mixed);
    }

    let mut shares = Vec::with_capacity(replies.len());
    let mut worst: Option<FopError> = None;
    let mut merged: Option<LookupReply> = None;
    let (mut mds, mut xattrs_differ, mut attributes_differ, mut gfids_differ) = (None, false, false, false);
    let mut commit_hash = None;
    for (index, reply) in replies.into_iter().enumerate() {
        let mut reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                shares.push(Share::Absent(error.errno));
                if worst.as_ref().is_none_or(|known| severity(&error) > severity(known)) {
                    worst = Some(error);
                }
                continue;
            }
        };
        shares.push(share_of(&reply.xdata));
        commit_hash = commit_hash.or_else(|| volume_commit_hash(&reply.xdata));
        let marker = reply.xdata.remove(keys::MDS).and_then(|value| value.as_bytes());
        if let Some(marker) = &marker {
            mds = mds.or(Some(index));
            xattrs_differ |= marker.first().is_some_and(|byte| byte & 0x80 != 0);
        }
        let Some(into) = &mut merged else {
            merge::normalise_directory(&mut reply.stat);
            merge::normalise_directory(&mut reply.postparent);
            merged = Some(reply);
            continue;
        };
        gfids_differ |= into.stat.gfid != reply.stat.gfid;
        attributes_differ |= owner_and_mode(&into.stat) != owner_and_mode(&reply.stat);
        let owner = owner_and_mode(if marker.is_some() { &reply.stat } else { &into.stat });
        merge::merge_directory(&mut into.stat, &reply.stat);
        merge::merge_directory(&mut into.postparent, &reply.postparent);
        // The MDS knows best who owns it and what its xattrs are; without one the first answer counts.
        (into.stat.uid, into.stat.gid, into.stat.mode) = owner;
        if marker.is_some() {
            into.xdata = reply.xdata;
        }
    }
    match (merged, worst) {
        (Some(reply), _) => Ok(DirectoryView {
            layout: Layout::new(shares),
            mds,
            xattrs_differ,
            attributes_differ,
            gfids_differ,
            reply,
            commit_hash,
        }),
        (None, Some(error)) => Err(NoDirectory::Failed(error)),
        (None, None) => Err(NoDirectory::Mixed),
    }
}

fn severity(error: &FopError) -> u8 {
    match error.errno {
        Errno::ENOENT => 0,
        Errno::ESTALE => 1,
        Errno::ENOTCONN => 3,
        _ => 2,
    }
}

fn share_of(xdata: &Dict) -> Share {
    match xdata.bytes(keys::LAYOUT) {
        None => Share::Unwritten,
        Some(bytes) => match DiskLayout::decode(&bytes) {
            Some(disk) => Share::Written(disk),
            None => Share::Absent(Errno::EINVAL),
        },
    }
}

/// The volume's commit hash: decimal text with a NUL on disk, whatever type the brick gives it.
fn volume_commit_hash(xdata: &Dict) -> Option<u32> {
    let value = xdata.get(keys::COMMIT_HASH)?;
    let number = value.as_int().or_else(|| {
        let bytes = value.as_bytes()?;
        std::str::from_utf8(&bytes).ok()?.trim_end_matches('\0').trim().parse().ok()
    })?;
    u32::try_from(number).ok()
}

fn owner_and_mode(stat: &Iatt) -> (u32, u32, u32) {
    (stat.uid, stat.gid, stat.mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rgfs_protocol::{Gfid, Value};

    fn found(uid: u32, keys: &[(&'static str, &'static [u8])]) -> FopResult<LookupReply> {
        let stat = Iatt { gfid: Gfid::ROOT, flags: 1, mode: 0o040_755, uid, nlink: 2, ..Iatt::default() };
        let mut xdata = Dict::empty();
        for (key, value) in keys {
            xdata = xdata.with(key, Value::Ptr(Bytes::from_static(value)));
        }
        Ok(LookupReply { stat, postparent: Iatt::default(), xdata })
    }

    fn failed(errno: Errno) -> FopResult<LookupReply> {
        Err(FopError::new(errno, &"v".into(), "lookup"))
    }

    #[test]
    fn the_mds_tells_the_owner() {
        let view = aggregate(vec![found(5, &[]), found(3, &[(keys::MDS, &[0; 4])]), found(9, &[])]).unwrap();
        assert_eq!(
            (view.mds, view.reply.stat.uid, view.attributes_differ, view.xattrs_differ),
            (Some(1), 3, true, false)
        );
        assert!(!view.reply.xdata.contains(keys::MDS));
        let view = aggregate(vec![found(3, &[(keys::MDS, &[0xff; 4])]), found(9, &[])]).unwrap();
        assert_eq!((view.mds, view.reply.stat.uid, view.xattrs_differ), (Some(0), 3, true));
    }

    #[test]
    fn commit_hash_is_decimal_text() {
        let view = aggregate(vec![found(0, &[]), found(0, &[(keys::COMMIT_HASH, b"1477873946\0")])]).unwrap();
        assert_eq!(view.commit_hash, Some(0x5816_911a));
        assert_eq!(aggregate(vec![found(0, &[])]).unwrap().commit_hash, None);
    }

    #[test]
    fn unreachable_wins_over_absent() {
        let error = |replies| match aggregate(replies) {
            Err(NoDirectory::Failed(error)) => Some(error.errno),
            _ => None,
        };
        assert_eq!(error(vec![failed(Errno::ENOTCONN), failed(Errno::ENOENT)]), Some(Errno::ENOTCONN));
        assert_eq!(error(vec![failed(Errno::ENOENT), failed(Errno::EACCES)]), Some(Errno::EACCES));
        assert_eq!(error(vec![failed(Errno::ENOENT); 2]), Some(Errno::ENOENT));
        let view = aggregate(vec![failed(Errno::ENOTCONN), found(0, &[])]).unwrap();
        assert_eq!(view.layout.anomalies().down, 1);
    }

    #[test]
    fn a_file_among_them_is_no_directory() {
        let mut file = found(0, &[]);
        if let Ok(reply) = &mut file {
            reply.stat.mode = 0o100_644;
        }
        assert!(matches!(aggregate(vec![found(0, &[]), file]), Err(NoDirectory::Mixed)));
        assert!(matches!(aggregate(vec![found(0, &[]), failed(Errno::ENODATA)]), Err(NoDirectory::Mixed)));
    }
}
