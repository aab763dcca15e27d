//! What to heal of a directory, decided from its subvolumes' answers (`dht-selfheal.c:dht_selfheal_directory`).
//!
//! The order of a heal: make the directory where it is missing, set owners and modes, write the layout, write the MDS
//! marker; xattrs follow in the background. Nothing at all is healed while a subvolume's answer is unknown: a layout that
//! is written without knowing everybody's range moves names that exist.

use rgfs_protocol::{Errno, Gfid};

use super::directory_view::DirectoryView;

/// What is to be done with a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is as it should be.
    Nothing,
    /// Something is wrong that must stay as it is; says why.
    Refused(&'static str),
    /// It is missing somewhere, and was found by gfid: its path must be looked up name by name.
    ByPath,
    /// Heal this.
    Heal(Plan),
}

/// What to heal, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// The directory is missing somewhere.
    pub make: bool,
    /// Subvolumes with another owner or mode than the authority has.
    pub attributes: Vec<usize>,
    /// Ranges are missing, or do not cover the ring once.
    pub layout: bool,
    /// No subvolume is the MDS: the hashed one becomes it.
    pub marker: bool,
    /// xattrs differ from those of the MDS.
    pub xattrs: bool,
}

/// Decides. `hashed` is the subvolume of the directory's name, when it was found by name in a known layout.
pub fn decide(view: &DirectoryView, hashed: Option<usize>) -> Decision {
    let anomalies = view.layout.anomalies();
    let root = view.reply.stat.gfid.is_root();
    let unmarked = view.mds.is_none() && !root;
    let unwritten = anomalies.unwritten > 0;
    let plan = Plan {
        make: anomalies.missing > 0,
        attributes: view.stale_attributes.clone(),
        layout: anomalies.missing > 0 || unwritten || anomalies.is_broken_ring(),
        marker: unmarked && hashed.is_some(),
        xattrs: view.xattrs_differ,
    };
    // The root of a new brick waits for fix-layout. Any other directory without a range was made by a brick that died before it got
    // one, and the others have shared out the ring: the C client leaves it so.
    let halfway = unwritten && !root;
    let wrong =
        plan.make || !plan.attributes.is_empty() || anomalies.is_broken_ring() || halfway || plan.marker || plan.xattrs;
    if !wrong {
        Decision::Nothing
    } else if anomalies.down > 0 {
        Decision::Refused("a child is down")
    } else if anomalies.other > 0 {
        Decision::Refused("a child failed")
    } else if view.gfids_differ {
        Decision::Refused("children disagree about its gfid")
    } else if plan.make && root {
        Decision::Refused("a child has no root directory")
    } else if plan.make && hashed.is_none() {
        Decision::ByPath
    } else {
        Decision::Heal(plan)
    }
}

/// Why a directory is not made where it was missing a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// Somebody has removed it.
    Gone,
    /// The name is another object's now.
    Replaced,
    /// A subvolume failed.
    Failed(Errno),
}

/// Where the directory is missing, seen under the namespace lock. `answers` are the gfids that the subvolumes have under
/// its name; what is no directory counts as another gfid.
///
/// # Errors
/// When it must not be made.
pub fn still_missing(answers: &[Result<Gfid, Errno>], gfid: Gfid) -> Result<Vec<usize>, NotMade> {
    let mut missing = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        match answer {
            Ok(there) if *there == gfid => {}
            Ok(_) => return Err(NotMade::Replaced),
            Err(Errno::ENOENT | Errno::ESTALE) => missing.push(index),
            Err(errno) => return Err(NotMade::Failed(*errno)),
        }
    }
    if missing.len() == answers.len() { Err(NotMade::Gone) } else { Ok(missing) }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{DiskLayout, Layout, Share};
    use super::*;
    use crate::reply::LookupReply;
    use rgfs_protocol::Iatt;

    const LOW: Share = Share::Written(DiskLayout { commit_hash: 0, kind: 0, start: 0, stop: 0x7fff_fffe });
    const HIGH: Share = Share::Written(DiskLayout { commit_hash: 0, kind: 0, start: 0x7fff_ffff, stop: u32::MAX });
    const ALL: Share = Share::Written(DiskLayout { commit_hash: 0, kind: 0, start: 0, stop: u32::MAX });
    const GONE: Share = Share::Absent(Errno::ENOENT);
    const DOWN: Share = Share::Absent(Errno::ENOTCONN);

    fn view(shares: &[Share]) -> DirectoryView {
        let stat = Iatt { gfid: Gfid([7; 16]), mode: 0o040_755, ..Iatt::default() };
        DirectoryView {
            layout: Layout::new(shares),
            mds: Some(0),
            xattrs_differ: false,
            stale_attributes: Vec::new(),
            gfids_differ: false,
            reply: LookupReply { stat, ..LookupReply::default() },
            commit_hash: None,
            source: 0,
        }
    }

    #[test]
    fn decisions_about_the_layout() {
        let heal = |make, layout| Decision::Heal(Plan { make, layout, ..Plan::default() });
        let refused = |decision| matches!(decision, Decision::Refused(_));
        assert_eq!(decide(&view(&[LOW, HIGH]), Some(0)), Decision::Nothing);
        assert_eq!(decide(&view(&[ALL, Share::Unwritten]), Some(0)), heal(false, true), "a brick died at mkdir");
        assert_eq!(decide(&view(&[ALL, Share::Unwritten]), None), heal(false, true), "the same, found by gfid");
        assert!(refused(decide(&view(&[ALL, Share::Unwritten, DOWN]), Some(0))));
        let mut grown = view(&[ALL, Share::Unwritten]);
        grown.reply.stat.gfid = Gfid::ROOT;
        assert_eq!(decide(&grown, Some(0)), Decision::Nothing, "a new brick");
        assert_eq!(decide(&view(&[LOW, Share::Unwritten]), Some(0)), heal(false, true), "a hole");
        assert_eq!(decide(&view(&[ALL, HIGH]), Some(0)), heal(false, true), "an overlap");
        assert_eq!(decide(&view(&[LOW, GONE]), Some(0)), heal(true, true));
        assert_eq!(decide(&view(&[ALL, GONE]), Some(0)), heal(true, true), "made while a child was down");
        assert_eq!(decide(&view(&[ALL, GONE]), None), Decision::ByPath);
        assert!(refused(decide(&view(&[LOW, DOWN]), Some(0))), "the hole may be what the other has");
        assert!(refused(decide(&view(&[ALL, GONE, DOWN]), Some(0))));
        assert!(refused(decide(&view(&[ALL, GONE, Share::Absent(Errno::EIO)]), Some(0))));
        assert_eq!(decide(&view(&[ALL, DOWN]), Some(0)), Decision::Nothing, "whole without the other");
    }

    #[test]
    fn decisions_about_the_rest() {
        let whole = || view(&[LOW, HIGH]);
        let unmarked = DirectoryView { mds: None, ..whole() };
        assert_eq!(decide(&unmarked, Some(1)), Decision::Heal(Plan { marker: true, ..Plan::default() }));
        assert_eq!(decide(&unmarked, None), Decision::Nothing, "who should become the MDS?");
        let mut root = DirectoryView { mds: None, ..whole() };
        root.reply.stat.gfid = Gfid::ROOT;
        assert_eq!(decide(&root, Some(0)), Decision::Nothing, "the root needs no marker");
        let attributes = DirectoryView { stale_attributes: vec![1], ..whole() };
        assert_eq!(decide(&attributes, None), Decision::Heal(Plan { attributes: vec![1], ..Plan::default() }));
        let xattrs = DirectoryView { xattrs_differ: true, ..whole() };
        assert_eq!(decide(&xattrs, None), Decision::Heal(Plan { xattrs: true, ..Plan::default() }));
        let split = DirectoryView { gfids_differ: true, stale_attributes: vec![1], ..whole() };
        assert!(matches!(decide(&split, Some(0)), Decision::Refused(_)));
    }

    #[test]
    fn under_the_lock() {
        let (mine, other) = (Gfid([1; 16]), Gfid([2; 16]));
        let gone = Err(Errno::ENOENT);
        assert_eq!(still_missing(&[Ok(mine), gone, Err(Errno::ESTALE)], mine), Ok(vec![1, 2]));
        assert_eq!(still_missing(&[Ok(mine), Ok(mine)], mine), Ok(vec![]), "somebody was faster");
        assert_eq!(still_missing(&[gone, gone], mine), Err(NotMade::Gone));
        assert_eq!(still_missing(&[Ok(other), gone], mine), Err(NotMade::Replaced));
        assert_eq!(still_missing(&[Ok(mine), Err(Errno::ENOTCONN)], mine), Err(NotMade::Failed(Errno::ENOTCONN)));
    }
}
