//! What the children's answers to a LOOKUP of one directory add up to (`dht_lookup_dir_cbk`).

use rgfs_protocol::{Dict, Errno, Gfid, Iatt, Time};

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
    /// Subvolumes whose owner or mode are not those of the merged answer.
    pub stale_attributes: Vec<usize>,
    /// The subvolume whose owner, mode and xattrs count: the MDS, or the one that stands in for it.
    pub source: usize,
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
    /// A subvolume has something else under that name, or an entry without gfid. The gfid is that of the directories
    /// among the answers, if there are any.
    Mixed(Option<Gfid>),
    /// No subvolume has it.
    Failed(FopError),
}

/// Adds the answers up, in the order of the subvolumes. Of `known` gfid it should be, if that is told; else the first
/// answer's counts.
///
/// # Errors
/// When the answers do not show a directory. "Unreachable" wins over "not there": what is taken for absent gets made anew.
pub fn aggregate(replies: Vec<FopResult<LookupReply>>, known: Option<Gfid>) -> Result<DirectoryView, NoDirectory> {
    let mut directories = replies.iter().flatten().filter(|reply| reply.stat.is_dir());
    let gfid = known.or_else(|| directories.next().map(|reply| reply.stat.gfid));
    let mixed = replies.iter().any(|reply| match reply {
        Ok(reply) => !reply.stat.is_dir(),
        Err(error) => error.errno == Errno::ENODATA,
    });
    if mixed {
        return Err(NoDirectory::Mixed(gfid));
    }

    let mut shares = Vec::with_capacity(replies.len());
    let mut owners = Vec::with_capacity(replies.len());
    let mut worst: Option<FopError> = None;
    let mut merged: Option<LookupReply> = None;
    let mut authority = Authority::default();
    let (mut mds, mut xattrs_differ, mut gfids_differ) = (None, false, false);
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
        let share = share_of(&reply.xdata);
        shares.push(share);
        commit_hash = commit_hash.or_else(|| volume_commit_hash(&reply.xdata));
        let marker = reply.xdata.remove(keys::MDS).and_then(|value| value.as_bytes());
        if Some(reply.stat.gfid) != gfid {
            gfids_differ = true;
            let stale = FopError::new(Errno::ESTALE, &"distribute".into(), "lookup");
            worst = worst.or_else(|| Some(stale.with_detail("another directory has the name now")));
            continue;
        }
        if let Some(marker) = &marker {
            mds = mds.or(Some(index));
            xattrs_differ |= marker.first().is_some_and(|byte| byte & 0x80 != 0);
        }
        owners.push((index, owner_and_mode(&reply.stat)));
        let better = authority.offer(index, &reply.stat, marker.is_some(), share);
        let Some(into) = &mut merged else {
            merge::normalise_directory(&mut reply.stat);
            merge::normalise_directory(&mut reply.postparent);
            merged = Some(reply);
            continue;
        };
        merge::merge_directory(&mut into.stat, &reply.stat);
        merge::merge_directory(&mut into.postparent, &reply.postparent);
        if better {
            into.xdata = reply.xdata;
        }
    }
    match (merged, worst) {
        (Some(mut reply), _) => {
            let owner = authority.owner;
            (reply.stat.uid, reply.stat.gid, reply.stat.mode) = owner;
            let stale = owners.into_iter().filter(|(_, theirs)| *theirs != owner).map(|(index, _)| index);
            Ok(DirectoryView {
                layout: Layout::new(shares),
                mds,
                xattrs_differ,
                stale_attributes: stale.collect(),
                source: authority.index,
                gfids_differ,
                reply,
                commit_hash,
            })
        }
        (None, Some(error)) => Err(NoDirectory::Failed(error)),
        (None, None) => Err(NoDirectory::Mixed(None)),
    }
}

/// The gfid that most of the answers give a directory; on a tie `first`, or else the one that was answered first. Directories of one name
/// with several gfids are damage: what most subvolumes have is most likely the directory that its users know.
pub fn prevailing(replies: &[FopResult<LookupReply>], first: Option<Gfid>) -> Option<Gfid> {
    let gfids = || replies.iter().flatten().filter(|reply| reply.stat.is_dir()).map(|reply| reply.stat.gfid);
    let votes = |gfid: Gfid| gfids().filter(|other| *other == gfid).count();
    let mut best = first.or_else(|| gfids().next())?;
    for gfid in gfids() {
        if votes(gfid) > votes(best) {
            best = gfid;
        }
    }
    Some(best)
}

/// Whose attributes count: those of the MDS; of the root, which has none, the ones changed last on a subvolume with a
/// layout (a new brick's root is newer, but nobody chose its owner); else the first ones, with a layout if possible.
#[derive(Default)]
struct Authority {
    index: usize,
    owner: (u32, u32, u32),
    rank: Option<(bool, bool, Time)>,
}

impl Authority {
    /// Takes a subvolume's attributes if they count for more than those so far; true when it did.
    fn offer(&mut self, index: usize, stat: &Iatt, marked: bool, share: Share) -> bool {
        let changed = if stat.gfid.is_root() { stat.ctime } else { Time::default() };
        let rank = Some((marked, matches!(share, Share::Written(_)), changed));
        let better = rank > self.rank;
        if better {
            *self = Authority { index, owner: owner_and_mode(stat), rank };
        }
        better
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

/// What a subvolume said about a directory that it has.
pub(super) fn share_of(xdata: &Dict) -> Share {
    match xdata.bytes(keys::LAYOUT) {
        None => Share::Unwritten,
        Some(bytes) => match DiskLayout::decode(&bytes) {
            Some(disk) => Share::Written(disk),
            // What cannot be read does not count, and is written anew with the rest.
            None => Share::Unwritten,
        },
    }
}

/// The volume's commit hash: decimal text with a NUL on disk, whatever type the brick gives it.
pub(super) fn volume_commit_hash(xdata: &Dict) -> Option<u32> {
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
    use rgfs_protocol::Value;

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
        let view = aggregate(vec![found(5, &[]), found(3, &[(keys::MDS, &[0; 4])]), found(9, &[])], None).unwrap();
        assert_eq!(
            (view.mds, view.reply.stat.uid, view.stale_attributes, view.xattrs_differ),
            (Some(1), 3, vec![0, 2], false)
        );
        assert!(!view.reply.xdata.contains(keys::MDS));
        let view = aggregate(vec![found(3, &[(keys::MDS, &[0xff; 4])]), found(9, &[])], None).unwrap();
        assert_eq!((view.mds, view.reply.stat.uid, view.xattrs_differ), (Some(0), 3, true));
    }

    #[test]
    fn a_new_bricks_root_does_not_tell_the_owner() {
        let at = |uid, sec, keys: &[(&'static str, &'static [u8])]| {
            let mut reply = found(uid, keys).unwrap();
            reply.stat.ctime.sec = sec;
            Ok(reply)
        };
        let layout: &[(&'static str, &'static [u8])] = &[(keys::LAYOUT, &[0; 16])];
        let view = aggregate(vec![at(1, 5, layout), at(2, 7, layout), at(0, 9, &[])], None).unwrap();
        assert_eq!((view.reply.stat.uid, view.source, view.stale_attributes), (2, 1, vec![0, 2]));
    }

    #[test]
    fn another_gfid_is_another_directory() {
        let mut other = found(9, &[(keys::MDS, &[0; 4])]).unwrap();
        other.stat.gfid = Gfid([5; 16]);
        let view = aggregate(vec![Ok(other.clone()), found(3, &[])], Some(Gfid::ROOT)).unwrap();
        assert_eq!((view.gfids_differ, view.mds, view.reply.stat.uid), (true, None, 3));
        let none = aggregate(vec![Ok(other), failed(Errno::ENOENT)], Some(Gfid::ROOT));
        assert!(matches!(none, Err(NoDirectory::Failed(error)) if error.errno == Errno::ESTALE));
    }

    #[test]
    fn most_subvolumes_tell_the_gfid() {
        let of = |byte: u8| {
            let mut reply = found(0, &[]).unwrap();
            reply.stat.gfid = Gfid([byte; 16]);
            Ok(reply)
        };
        let told = |replies: &[FopResult<LookupReply>], first: Option<u8>| {
            prevailing(replies, first.map(|byte| Gfid([byte; 16]))).map(|gfid| gfid.0[0])
        };
        assert_eq!(told(&[of(1), of(2), of(2)], Some(1)), Some(2));
        assert_eq!(told(&[of(1), of(2), failed(Errno::ENOENT)], Some(2)), Some(2), "a tie");
        assert_eq!(told(&[of(1), of(2)], None), Some(1));
        assert_eq!(told(&[failed(Errno::ENOENT)], None), None);
    }

    #[test]
    fn commit_hash_is_decimal_text() {
        let view = aggregate(vec![found(0, &[]), found(0, &[(keys::COMMIT_HASH, b"1477873946\0")])], None).unwrap();
        assert_eq!(view.commit_hash, Some(0x5816_911a));
        assert_eq!(aggregate(vec![found(0, &[])], None).unwrap().commit_hash, None);
    }

    #[test]
    fn unreachable_wins_over_absent() {
        let error = |replies| match aggregate(replies, None) {
            Err(NoDirectory::Failed(error)) => Some(error.errno),
            _ => None,
        };
        assert_eq!(error(vec![failed(Errno::ENOTCONN), failed(Errno::ENOENT)]), Some(Errno::ENOTCONN));
        assert_eq!(error(vec![failed(Errno::ENOENT), failed(Errno::EACCES)]), Some(Errno::EACCES));
        assert_eq!(error(vec![failed(Errno::ENOENT); 2]), Some(Errno::ENOENT));
        let view = aggregate(vec![failed(Errno::ENOTCONN), found(0, &[])], None).unwrap();
        assert_eq!(view.layout.anomalies().down, 1);
    }

    #[test]
    fn a_file_among_them_is_no_directory() {
        let mut file = found(0, &[]);
        if let Ok(reply) = &mut file {
            reply.stat.mode = 0o100_644;
        }
        assert!(matches!(aggregate(vec![found(0, &[]), file], None), Err(NoDirectory::Mixed(Some(Gfid::ROOT)))));
        assert!(matches!(aggregate(vec![failed(Errno::ENODATA)], None), Err(NoDirectory::Mixed(None))));
    }
}
