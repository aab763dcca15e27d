//! What the self-heal daemon does when everybody is back: it heals what the indices of the bricks name, until they are
//! empty. Then all copies are equal, and nothing tells of what was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rgfs_protocol::{Dict, FileType, Gfid, Value};

use super::super::Cluster;
use super::history::Unmarked;
use super::mount::Mount;
use super::verify;
use crate::translators::cluster::replicate::Replicate;
use crate::translators::cluster::replicate::changelog::Kind;
use crate::translators::cluster::replicate::heal::HealOutcome;
use crate::{Inode, Loc, Translator};

/// How often the indices are looked through: a heal may need that of another object first.
const ROUNDS: usize = 8;

/// What `gluster volume heal VOLUME split-brain source-brick` asks for (`GF_SHD_OP_SBRAIN_HEAL_FROM_BRICK`).
const FROM_BRICK: i64 = 11;

/// The beginning of the name under which healers keep what they are not sure to need no more.
const TRASH: &str = ".glusterfs-anonymous-inode-";

/// Whether a name in the root is the healers' own.
pub(super) fn is_private(name: &[u8]) -> bool {
    name.starts_with(TRASH.as_bytes())
}

/// Gfids of the healers' own directories. Each brick puts there what only it had to give up, so nobody expects them to be
/// equal, and no mark tells that they are not (`afr_selfheal_entry_delete`).
pub(super) fn private_directories(cluster: &Cluster) -> BTreeSet<Gfid> {
    let is_directory =
        |path: &str| path.strip_prefix('/').is_some_and(|name| is_private(name.as_bytes()) && !name.contains('/'));
    let trees = (0..cluster.bricks()).flat_map(|brick| cluster.tree(brick));
    trees.filter(|(path, _)| is_directory(path)).map(|(_, gfid)| gfid).collect()
}

/// Heals everything.
pub(super) fn all(cluster: &Cluster, mount: &Arc<Mount>, healer: &Arc<Replicate>) {
    // Removals that took a copy with data.
    mount.history.retain_doomed(|gfid| {
        let lacks_it = |brick: usize| !cluster.brick(brick).arbiter && cluster.object_of(brick, *gfid).is_none();
        (0..cluster.bricks()).any(lacks_it)
    });
    let mut errors = Vec::new();
    for _ in 0..ROUNDS {
        let mut healed = false;
        errors.clear();
        for gfid in pending(cluster) {
            let object = (0..cluster.bricks()).find_map(|brick| cluster.object_of(brick, gfid));
            let Some(object) = object else { continue };
            let inode = Inode::known(gfid, object.stat.file_type());
            match cluster.try_block_on(healer.heal(&inode)) {
                None => return mount.history.violation(format!("the heal of {gfid} hangs")),
                Some(Ok(outcome)) => {
                    healed |= outcome == HealOutcome::Healed;
                    mount.history.note(format!("heal {gfid}: {outcome:?}"));
                }
                Some(Err(error)) => errors.push(format!("heal {gfid}: {error}")),
            }
        }
        errors.iter().for_each(|error| mount.history.note(error.clone()));
        if !healed {
            empty_trash(cluster, mount);
            if pending(cluster).is_empty() {
                return;
            }
            choose_where_renames_are_half_done(cluster, mount, healer);
            look_at_the_undone(cluster, mount);
        }
    }
    let lost = lost_in_removal(cluster, mount);
    let pending: BTreeSet<Gfid> = pending(cluster).difference(&lost).copied().collect();
    if !pending.is_empty() {
        mount.history.violation(format!("{pending:?} cannot be healed: {errors:?}; {:?}", cluster.marks()));
    }
}

/// Removes what healers put aside and nobody needs any more: a look through the indices that heals nothing ends with that
/// (`afr_shd_anon_inode_cleaner`). It is what only this brick still has, what has another name here, and what no brick has
/// under a name of users. Marks on it can be healed in no other way: the other copies are gone.
fn empty_trash(cluster: &Cluster, mount: &Arc<Mount>) {
    for brick in 0..cluster.bricks() {
        for (path, gfid) in cluster.tree(brick) {
            let in_trash = path.strip_prefix('/').is_some_and(|path| is_private(path.as_bytes()));
            let Some(object) = cluster.object_of(brick, gfid).filter(|_| in_trash && path.matches('/').count() == 2)
            else {
                continue;
            };
            let copies: Vec<usize> =
                (0..cluster.bricks()).filter(|brick| cluster.object_of(*brick, gfid).is_some()).collect();
            if copies.len() == 1 || !object.stat.is_dir() && object.stat.nlink > 1 {
                mount.history.note(format!("expunge {path} on {brick}"));
                cluster.lose(brick, &path);
            } else if copies.iter().all(|brick| cluster.gfid(*brick, &path) == Some(gfid)) {
                mount.history.note(format!("expunge {path} on {copies:?}"));
                copies.iter().for_each(|brick| cluster.lose(*brick, &path));
            }
        }
    }
}

/// While a client gave a file the name of another one, it died, or all bricks but one went away or could not do it, and the
/// application was told so: on one good copy of the directory the name leads to the first file, on another one still to the
/// second, and cannot be taken back, for the second is gone there. No mark tells which is right, so no heal decides it;
/// neither does that of upstream, which knows a command, the option `favorite-child-policy`, and EIO
/// (`afr_gfid_split_brain_source`). An administrator gives the command.
fn choose_where_renames_are_half_done(cluster: &Cluster, mount: &Arc<Mount>, healer: &Arc<Replicate>) {
    for (moved, (directory, name)) in mount.history.half_moved() {
        let good = (0..cluster.bricks()).filter(|brick| !is_accused(cluster, directory, *brick, Kind::Entry));
        let under_it = |brick: usize| cluster.object_of(brick, directory)?.entries.get(name.as_bytes()).copied();
        let found: Vec<_> = good.filter_map(|brick| Some((brick, under_it(brick)?))).collect();
        let is_moved = |(_, gfid): &&(usize, Gfid)| *gfid == moved;
        let (Some((done, _)), false) = (found.iter().find(is_moved), found.iter().all(|at| is_moved(&at))) else {
            continue;
        };
        let loc = Loc::entry(Inode::known(directory, FileType::Directory), name.clone(), Inode::fresh());
        let source = cluster.children(mount.client)[*done].name().clone();
        let command = Dict::empty().with("heal-op", Value::Int(FROM_BRICK)).with("child-name", Value::str(&source));
        let chosen = cluster.try_block_on(healer.lookup(&mount.context(0), &loc, command));
        let chosen = chosen.map(|reply| reply.map(|reply| reply.stat.gfid).map_err(|error| error.to_string()));
        mount.history.note(format!("an administrator chooses {moved} for {name}: {chosen:?}"));
    }
}

/// A change of a name was not acknowledged: its client died, or lost too many bricks, before it had noted on enough of them
/// which one missed it. Where the directory has no mark that counts, the daemon does not bring the name to that brick; and it
/// heals no file that it cannot lock on all bricks (`afr_selfheal_data`, `afr_selfheal_entry`). A lookup of the name finds that
/// copies disagree, and makes it whole (`afr_lookup_entry_heal`). A user looks.
fn look_at_the_undone(cluster: &Cluster, mount: &Arc<Mount>) {
    let bricks = || 0..cluster.bricks();
    let pending = pending(cluster);
    let is_stuck =
        |gfid: &Gfid| pending.contains(gfid) && bricks().any(|brick| cluster.object_of(brick, *gfid).is_none());
    for (directory, name) in mount.history.undone() {
        let under_it = |brick| cluster.object_of(brick, directory)?.entries.get(name.as_bytes()).copied();
        let Some(stuck) = bricks().filter_map(under_it).find(is_stuck) else { continue };
        let parent = Inode::known(directory, FileType::Directory);
        let context = mount.context(901);
        let found = cluster.try_block_on(mount.lookup(&context, &parent, &name));
        let found = found.map(|found| found.map(|inode| inode.gfid()).map_err(|error| error.to_string()));
        mount.history.note(format!("a user looks at {name} for {stuck}: {found:?}"));
    }
}

fn pending(cluster: &Cluster) -> BTreeSet<Gfid> {
    (0..cluster.bricks()).flat_map(|brick| cluster.pending_gfids(brick)).collect()
}

/// Files of which a removal that was not acknowledged took the only good content: it was done on the brick that had it, and
/// failed on the arbiter, or found it away. What a brick that missed writes has left brings the name back, and the arbiter
/// knows that the content is old. No healer copies from an arbiter (`__afr_selfheal_data`), so the marks stay: the
/// owner, who was told of the failure, removes the file again.
fn lost_in_removal(cluster: &Cluster, mount: &Arc<Mount>) -> BTreeSet<Gfid> {
    let arbiter = (0..cluster.bricks()).find(|brick| cluster.brick(*brick).arbiter);
    let Some(arbiter) = arbiter else { return BTreeSet::new() };
    let bricks = || 0..cluster.bricks();
    let only_the_arbiter_is_good =
        |gfid: &Gfid| bricks().all(|brick| is_accused(cluster, *gfid, brick, Kind::Data) == (brick != arbiter));
    mount.history.doomed().into_iter().filter(only_the_arbiter_is_good).collect()
}

/// Whether any copy of an object accuses that of a brick.
fn is_accused(cluster: &Cluster, gfid: Gfid, of: usize, kind: Kind) -> bool {
    let copies = (0..cluster.bricks()).filter_map(|by| cluster.object_of(by, gfid));
    let counters = copies.map(|copy| super::super::trace::changelog(&copy, &format!("v-client-{of}")));
    counters.into_iter().any(|counters| counters[kind.index()] != 0)
}

/// No marks, nothing in an index, and all copies equal, but for what clients left half done that died.
pub(super) fn clean(cluster: &Cluster, mount: &Arc<Mount>) {
    let lost = lost_in_removal(cluster, mount);
    let paths = (0..cluster.bricks()).flat_map(|brick| cluster.tree(brick));
    let lost_paths: BTreeSet<String> = paths.filter(|(_, gfid)| lost.contains(gfid)).map(|(path, _)| path).collect();
    // Their attributes can be healed.
    let of_data = |mark: &String| mark.ends_with(", 0, 0]");
    let is_lost = |mark: &String| of_data(mark) && lost_paths.iter().any(|path| mark.contains(&format!(": {path} ")));
    for mark in cluster.marks().into_iter().filter(|mark| !is_lost(mark)) {
        mount.history.violation(format!("a mark is left: {mark}"));
    }
    for brick in 0..cluster.bricks() {
        let mut index = cluster.index(brick);
        // The daemon forgets what is not there any more.
        let is_there = |gfid: &Gfid| cluster.object_of(brick, *gfid).is_some() && !lost.contains(gfid);
        index.pending.retain(is_there);
        index.dirty.retain(is_there);
        // A change that all copies refused leaves its name noted: an earlier change of that name may be, and need it. The next
        // heal of the directory forgets it.
        index.entry_changes.retain(|gfid, names| {
            names.retain(|name| !mount.history.is_undone(*gfid, name));
            is_there(gfid) && !names.is_empty()
        });
        if index != Default::default() {
            mount.history.violation(format!("the index of brick {brick} is not empty: {index:?}"));
        }
    }
    let half_done = half_done(cluster, mount);
    let lost_paths: BTreeSet<String> = lost_paths.into_iter().chain(verify::may_differ(&mount.history)).collect();
    for difference in cluster.compare_bricks() {
        let excused = |(path, what): &(String, Unmarked)| match what {
            Unmarked::Names => difference.starts_with(&format!("{path}/")),
            Unmarked::Attributes => difference.starts_with(&format!("{path}: ")),
        };
        let is_lost = lost_paths
            .iter()
            .any(|path| difference.starts_with(&format!("{path}: ")) && differs_in_data_only(cluster, path));
        if !difference.starts_with(&format!("/{TRASH}")) && !is_lost && !half_done.iter().any(excused) {
            mount.history.violation(difference);
        }
    }
}

/// Whether all bricks have a file with the same attributes.
fn differs_in_data_only(cluster: &Cluster, path: &str) -> bool {
    let attributes = |brick| {
        let object = cluster.object(brick, path)?;
        let xattrs: BTreeMap<_, _> =
            object.xattrs.into_iter().filter(|(key, _)| !key.starts_with("trusted.afr.")).collect();
        Some((object.stat.gfid, object.stat.mode, object.stat.uid, object.stat.gid, xattrs))
    };
    let first = attributes(0);
    first.is_some() && (1..cluster.bricks()).all(|brick| attributes(brick) == first)
}

/// Paths of what clients changed without a mark when they died.
fn half_done(cluster: &Cluster, mount: &Arc<Mount>) -> BTreeSet<(String, Unmarked)> {
    let never_ended = mount.history.never_ended();
    let mut paths = BTreeSet::new();
    for brick in 0..cluster.bricks() {
        for (path, gfid) in cluster.tree(brick) {
            let here = never_ended.iter().filter(|(object, _)| *object == gfid);
            paths.extend(here.map(|(_, what)| (path.clone(), *what)));
        }
    }
    paths
}
