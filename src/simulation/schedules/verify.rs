//! What must be so when all bricks are back and everybody has rested.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rgfs_protocol::{Errno, Gfid};

use super::super::Cluster;
use super::faults::Trouble;
use super::history::{History, Strictness, Unmarked};
use super::mount::Mount;
use super::workload::{
    DIRECTORIES, FILES, LOGS, Owned, REGIONS, VALUE, check_attributes, check_file, check_log, decode,
};
use super::{REST, Scenario, heal};
use crate::translators::cluster::replicate::Replicate;

/// Index of the arbiter.
const ARBITER: usize = 2;

/// Checks everything, before and after a heal.
pub(super) fn all(cluster: &Cluster, mount: &Arc<Mount>, healer: &Arc<Replicate>, scenario: Scenario, owned: &[Owned]) {
    let history = &mount.history;
    locks_are_free(cluster, history);
    good_copies(cluster, mount, scenario);
    content(cluster, mount, scenario, owned, false);
    if scenario.trouble == Trouble::None {
        heal::clean(cluster, mount);
    }
    let doubtful = doubtful(cluster);
    heal::all(cluster, mount, healer);
    cluster.run_for(REST);
    if history.violations().is_empty() {
        heal::clean(cluster, mount);
        content(cluster, mount, scenario, owned, true);
        removed(cluster, mount, (scenario.trouble, &doubtful), owned);
    }
}

/// No lock is left on any brick.
pub(super) fn locks_are_free(cluster: &Cluster, history: &History) {
    for brick in 0..cluster.bricks() {
        for lock in cluster.locks(brick) {
            history.violation(format!("left behind on brick {brick}: {lock}"));
        }
    }
}

/// Files of which a power cut may have taken something on a brick that was never synced, and that no other can tell.
pub(super) fn may_differ(history: &History) -> BTreeSet<String> {
    let files = (0..FILES).filter(|file| history.may_differ(*file)).map(|file| format!("/f{file}"));
    let logs = (0..LOGS).filter(|log| history.log_may_differ(*log)).map(|log| format!("/log{log}"));
    files.chain(logs).collect()
}

/// One copy of an object.
struct Copy {
    brick: usize,
    /// Changelogs against every brick, and the dirty one at the end.
    marks: Vec<[i32; 3]>,
    data: Vec<u8>,
    attributes: String,
    names: BTreeSet<Vec<u8>>,
}

/// Every object has a copy that nobody accuses; those that nobody accuses are equal, unless a change was not finished.
fn good_copies(cluster: &Cluster, mount: &Arc<Mount>, scenario: Scenario) {
    let mut objects: BTreeMap<Gfid, Vec<Copy>> = BTreeMap::new();
    for brick in 0..cluster.bricks() {
        let mut tree: BTreeSet<Gfid> = cluster.tree(brick).into_values().collect();
        tree.insert(Gfid::ROOT);
        for gfid in tree {
            let Some(object) = cluster.object_of(brick, gfid) else { continue };
            let mark = |who: String| super::super::trace::changelog(&object, &who);
            let mut marks: Vec<_> = (0..cluster.bricks()).map(|to| mark(format!("v-client-{to}"))).collect();
            marks.push(mark("dirty".to_owned()));
            let xattrs: Vec<_> = object.xattrs.iter().filter(|(key, _)| !key.starts_with("trusted.afr.")).collect();
            let attributes = format!("{:o} {}:{} {xattrs:?}", object.stat.mode, object.stat.uid, object.stat.gid);
            let names = object.entries.keys().filter(|name| !heal::is_private(name));
            let names = names.map(|name| name.to_vec()).collect();
            objects.entry(gfid).or_default().push(Copy { brick, marks, data: object.data, attributes, names });
        }
    }
    let never_ended = mount.history.never_ended();
    let private = heal::private_directories(cluster);
    let may_differ = may_differ(&mount.history);
    let may_differ: BTreeSet<Gfid> = may_differ.iter().filter_map(|path| cluster.gfid(0, path)).collect();
    for (gfid, copies) in &objects {
        for copy in copies {
            if copy.marks.iter().flatten().any(|counter| *counter < 0) {
                mount.history.violation(format!("{gfid}: negative marks on brick {}: {:?}", copy.brick, copy.marks));
            }
        }
        for (index, what) in [(0, "data"), (1, "metadata"), (2, "names")] {
            let excuse = [None, Some(Unmarked::Attributes), Some(Unmarked::Names)][index];
            let excused = excuse.is_some_and(|unmarked| never_ended.contains(&(*gfid, unmarked)))
                || index == 2 && private.contains(gfid)
                || index == 0 && may_differ.contains(gfid);
            let accused = |of: usize| copies.iter().any(|copy| copy.marks[of][index] != 0);
            let good: Vec<&Copy> = copies.iter().filter(|copy| !accused(copy.brick)).collect();
            let shown = || copies.iter().map(|copy| (copy.brick, &copy.marks)).collect::<Vec<_>>();
            if good.is_empty() && copies.len() == cluster.bricks() {
                mount.history.violation(format!("split-brain in {what} of {gfid}: {:?}", shown()));
            }
            let unfinished = copies.iter().any(|copy| copy.marks[cluster.bricks()][index] != 0);
            let judged = |copy: &&&Copy| index != 0 || !(scenario.layout.arbiter && copy.brick == ARBITER);
            let mut seen = good.iter().filter(judged);
            let Some(first) = seen.next() else { continue };
            for other in seen.filter(|_| !unfinished && !excused) {
                let equal = match index {
                    0 => first.data == other.data,
                    1 => first.attributes == other.attributes,
                    _ => first.names == other.names,
                };
                if !equal {
                    let (a, b) = (first.brick, other.brick);
                    let text =
                        format!("{what} of {gfid} differ on bricks {a} and {b}, and no mark tells: {:?}", shown());
                    mount.history.violation(text);
                }
            }
        }
    }
}

/// What a client sees at the end. What has no good copy cannot be seen before it is healed.
fn content(cluster: &Cluster, mount: &Arc<Mount>, scenario: Scenario, owned: &[Owned], healed: bool) {
    let strictness = || if healed { Strictness::Full } else { mount.settled() };
    let (context, root, history) = (mount.context(900), mount.root(), mount.history.clone());
    let seen = cluster.try_block_on(async {
        for file in 0..FILES {
            let who = format!("at the end, f{file}");
            let look = async {
                let inode = mount.lookup(&context, &root, &format!("f{file}")).await?;
                let fd = mount.open(&context, &inode, 0).await?;
                let begin = history.moment();
                let data = mount.read(&context, &fd, (REGIONS * VALUE) as u32).await?;
                check_file(&history, &who, file, &decode(&data), (begin, strictness()));
                check_attributes(mount, &context, &who, (file, &inode), (history.moment(), strictness())).await
            };
            if let Err(error) = look.await
                && (healed || whole_copy(cluster, &format!("/f{file}"), scenario))
            {
                history.violation(format!("{who}: {error}"));
            }
        }
        for log in 0..LOGS {
            let who = format!("at the end, log{log}");
            let look = async {
                let inode = mount.lookup(&context, &root, &format!("log{log}")).await?;
                let fd = mount.open(&context, &inode, 0).await?;
                let begin = history.moment();
                let data = mount.read(&context, &fd, 1 << 16).await?;
                check_log(&history, &who, log, &decode(&data), (begin, strictness()));
                Ok::<_, crate::FopError>(())
            };
            if let Err(error) = look.await
                && (healed || whole_copy(cluster, &format!("/log{log}"), scenario))
            {
                history.violation(format!("{who}: {error}"));
            }
        }
        for (directory, name, gfid) in owned.iter().filter_map(|(at, name, gfid)| Some((at, name, (*gfid)?))) {
            let look = async {
                let parent = mount.lookup(&context, &root, &format!("d{directory}")).await?;
                mount.lookup(&context, &parent, name).await
            };
            match look.await {
                Ok(inode) if inode.gfid() == gfid => {}
                Ok(inode) => history.violation(format!("d{directory}/{name} is {}, and was {gfid}", inode.gfid())),
                Err(error) if !healed && error.errno == Errno::ENOTCONN => {}
                Err(error) => history.violation(format!("d{directory}/{name} {gfid} is lost: {error}")),
            }
        }
    });
    if seen.is_none() {
        history.violation("a look at the end hangs".to_owned());
    }
}

/// Directories with a mark of a change that begun and may not have ended.
fn doubtful(cluster: &Cluster) -> BTreeSet<usize> {
    let is_dirty = |directory: &usize| {
        let path = format!("/d{directory}");
        (0..cluster.bricks()).any(|brick| cluster.changelog(brick, &path, "dirty")[2] != 0)
    };
    (0..DIRECTORIES).filter(is_dirty).collect()
}

/// What was removed, and acknowledged, does not come back, but where another change was left half done: then the daemon
/// gives all copies what any of them has (`__afr_selfheal_entry_finalize_source`). That takes a client that dies, or that
/// loses the quorum in the middle of a change; while one brick only is in trouble it must not happen.
fn removed(cluster: &Cluster, mount: &Arc<Mount>, (trouble, doubtful): (Trouble, &BTreeSet<usize>), owned: &[Owned]) {
    let excused = |directory: &usize| {
        doubtful.contains(directory) && !matches!(trouble, Trouble::None | Trouble::OneBrick | Trouble::Errors)
    };
    for (directory, name, _) in owned.iter().filter(|(at, _, gfid)| gfid.is_none() && !excused(at)) {
        let path = format!("/d{directory}/{name}");
        let bricks: Vec<usize> = (0..cluster.bricks()).filter(|brick| cluster.gfid(*brick, &path).is_some()).collect();
        if !bricks.is_empty() {
            mount.history.violation(format!("{path} was removed, and is back on {bricks:?}"));
        }
    }
}

/// Whether some data brick has a copy that nobody accuses of anything. Without one, a file whose data is good on one brick
/// and its attributes on another, nothing can be read before it is healed. A copy that is shorter than another one of good
/// data counts as accused, as it does for the C client (`afr_accuse_smallfiles`): a write that was refused may be what made
/// the other one longer.
fn whole_copy(cluster: &Cluster, path: &str, scenario: Scenario) -> bool {
    let bricks = || (0..cluster.bricks()).filter(|brick| !(scenario.layout.arbiter && *brick == ARBITER));
    let accused = |of: usize, index: usize| {
        (0..cluster.bricks()).any(|by| cluster.changelog(by, path, &format!("v-client-{of}"))[index] != 0)
    };
    let size = |brick: usize| cluster.object(brick, path).map(|object| object.stat.size);
    let longest = bricks().filter(|brick| !accused(*brick, 0)).map(size).max().flatten();
    bricks().any(|brick| !accused(brick, 0) && !accused(brick, 1) && size(brick) == longest)
}
