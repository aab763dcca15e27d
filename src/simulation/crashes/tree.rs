//! What a client sees of a volume, and what may be wrong with it.

use std::collections::BTreeMap;

use rgfs_protocol::{Errno, Gfid};

use super::super::Cluster;
use super::scenario::Scenario;
use crate::translators::cluster::distribute::keys;
use crate::translators::cluster::distribute::layout::DiskLayout;
use crate::{FopResult, Loc};

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) gfid: Gfid,
    /// Content of a file; `None` for a directory.
    pub(super) text: Option<String>,
}

impl Node {
    pub(super) fn directory(gfid: Gfid) -> Self {
        Node { gfid, text: None }
    }

    pub(super) fn file(gfid: Gfid, text: &str) -> Self {
        Node { gfid, text: Some(text.to_owned()) }
    }
}

/// Everything below the root, by path.
pub(super) type Tree = BTreeMap<String, Node>;

/// Listings that the protocol cannot keep right.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Excused<'a> {
    /// A name that may be listed twice.
    pub(super) doubled: Option<&'a str>,
    /// A name that may be listed, and not be found.
    pub(super) hidden: Option<&'a str>,
}

/// A look at a tree.
#[derive(Debug, Default)]
pub(super) struct View {
    /// What was there when asked for.
    pub(super) names: Tree,
    /// How often each name was listed, also of those that were only asked for.
    pub(super) listed: BTreeMap<String, usize>,
    /// What failed.
    pub(super) failures: Vec<String>,
}

impl View {
    pub(super) fn note_failure(&mut self, path: &str, found: &FopResult<Loc>) {
        if let Err(error) = found
            && error.errno != Errno::ENOENT
        {
            self.failures.push(format!("{path}: {error}"));
        }
    }

    /// For people.
    pub(super) fn described(&self) -> Vec<String> {
        let names = self.names.iter().map(|(path, node)| format!("SEEN {path} {:?}", node.text));
        let listed = self.listed.iter().map(|(path, times)| format!("LISTED {path} {times}"));
        names.chain(listed).chain(self.failures.clone()).collect()
    }

    /// What is wrong, when one of `allowed` is what should be seen, apart from listings that are `excused`.
    pub(super) fn violations(&self, allowed: &[Tree], excused: Excused<'_>) -> Vec<String> {
        let mut violations = self.failures.clone();
        for (path, times) in &self.listed {
            let there = usize::from(self.names.contains_key(path));
            let doubled = (*times, there) == (2, 1) && excused.doubled == Some(path.as_str());
            let hidden = (*times, there) == (1, 0) && excused.hidden == Some(path.as_str());
            if *times != there && !doubled && !hidden {
                violations.push(format!("{path} is listed {times} times, and found {there} times"));
            }
        }
        if !allowed.contains(&self.names) {
            let differences = allowed.iter().map(|tree| difference(tree, &self.names));
            let nearest = differences.min_by_key(Vec::len).unwrap_or_default();
            violations.push(format!("neither before nor after: {nearest:?}"));
        }
        violations
    }
}

fn difference(expected: &Tree, seen: &Tree) -> Vec<String> {
    let paths = expected.keys().chain(seen.keys().filter(|path| !expected.contains_key(*path)));
    let different = paths.filter(|path| expected.get(*path) != seen.get(*path));
    different.map(|path| format!("{path}: {:?} instead of {:?}", seen.get(path), expected.get(path))).collect()
}

/// What is wrong on the bricks with the directories that were seen: each is everywhere, with one gfid and a whole layout.
pub(super) fn damage(cluster: &Cluster, scenario: &Scenario, seen: &Tree) -> Vec<String> {
    let mut damage = Vec::new();
    for (path, node) in seen.iter().filter(|(_, node)| node.text.is_none()) {
        let mut ranges = Vec::new();
        for brick in 0..cluster.bricks() {
            let there = cluster.gfid(brick, path);
            if there != Some(node.gfid) {
                damage.push(format!("{path} on brick {brick} is {there:?}"));
            }
            let layout = cluster.xattr(brick, path, keys::LAYOUT).and_then(|value| DiskLayout::decode(&value));
            match layout {
                // A crash may leave copies that differ without a mark: that is replicate's to promise, or not.
                None if scenario.copies > 1 => {}
                None => damage.push(format!("{path} on brick {brick} has no layout")),
                Some(disk) if !disk.is_empty() => ranges.push((disk.start, disk.stop)),
                Some(_) => {}
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        let whole = ranges.first().is_some_and(|first| first.0 == 0)
            && ranges.last().is_some_and(|last| last.1 == u32::MAX)
            && ranges.windows(2).all(|pair| u64::from(pair[0].1) + 1 == u64::from(pair[1].0));
        if !whole {
            damage.push(format!("the layout of {path} is {ranges:x?}"));
        }
    }
    for brick in 0..cluster.bricks() {
        if cluster.shared_gfids(brick) > 0 {
            damage.push(format!("brick {brick} was told to give one gfid to two directories"));
        }
    }
    damage
}
