//! Which fop meets a crash, and where its names and files are.

use rgfs_protocol::{Dict, Gfid, Value};

use super::super::{Cluster, Random};
use super::client::Client;
use super::tree::{Excused, Node, Tree};
use crate::translators::cluster::distribute::hash::hash;
use crate::translators::cluster::distribute::keys;
use crate::translators::cluster::distribute::layout::DiskLayout;

/// Kinds of fops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Rename,
    RenameDirectory,
    Mkdir,
    Rmdir,
    Link,
    Unlink,
    Create,
}

/// Where a name belongs, and where its file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) home: usize,
    pub(super) at: usize,
}

/// What a seed stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) subvolumes: usize,
    /// Bricks of each subvolume.
    pub(super) copies: usize,
    /// Lookups trust the layout.
    pub(super) optimize: bool,
    pub(super) operation: Operation,
    /// The name that the fop is about.
    pub(super) old: Place,
    /// The new name of a rename or link.
    pub(super) new_home: usize,
    /// Where the file is that has the new name already, if there is one; for a directory, that there is one.
    pub(super) replaced: Option<usize>,
    /// The new name is in another directory.
    pub(super) across: bool,
    /// The file has a further name.
    pub(super) hard_link: bool,
    /// The one who looks asks for names before it lists them.
    pub(super) lookups_first: bool,
}

/// A fop on paths.
#[derive(Clone, Debug)]
pub(super) enum Fop {
    Rename { old: String, new: String },
    Link { old: String, new: String },
    Mkdir { path: String, gfid: Gfid },
    Rmdir { path: String },
    Unlink { path: String },
    Create { path: String, gfid: Gfid },
}

impl Fop {
    /// The gfid that a new object gets.
    pub(super) fn identity(&self) -> Dict {
        match self {
            Fop::Mkdir { gfid, .. } | Fop::Create { gfid, .. } => {
                Dict::empty().with(keys::GFID_REQ, Value::Gfuuid(*gfid))
            }
            _ => Dict::NULL,
        }
    }

    /// The tree that it makes of another one.
    pub(super) fn applied_to(&self, before: &Tree) -> Tree {
        let mut after = before.clone();
        match self {
            Fop::Rename { old, new } => {
                let below = format!("{old}/");
                for (path, node) in before {
                    if path == old || path.starts_with(&below) {
                        after.remove(path);
                        after.insert(format!("{new}{}", &path[old.len()..]), node.clone());
                    }
                }
            }
            Fop::Link { old, new } => drop(after.insert(new.clone(), before[old].clone())),
            Fop::Mkdir { path, gfid } => drop(after.insert(path.clone(), Node::directory(*gfid))),
            Fop::Create { path, gfid } => drop(after.insert(path.clone(), Node::file(*gfid, ""))),
            Fop::Rmdir { path } | Fop::Unlink { path } => drop(after.remove(path)),
        }
        after
    }
}

/// The directory of the first name, and the other one.
const DIRECTORIES: [&str; 2] = ["/w", "/x"];
/// gfid of what the fop makes.
const NEW: Gfid = Gfid([0x77; 16]);

impl Scenario {
    /// The scenario of a seed.
    pub(super) fn of(seed: u64) -> Self {
        use Operation::*;
        let mut random = Random::new(seed ^ 0xd157);
        let subvolumes = 2 + random.below(2) as usize;
        let mut subvolume = || random.below(subvolumes as u64) as usize;
        let old = Place { home: subvolume(), at: subvolume() };
        let (new_home, replaced) = (subvolume(), subvolume());
        let operation = *random.pick(&[Rename, Rename, RenameDirectory, Mkdir, Rmdir, Link, Unlink, Create]);
        // Copies that were renamed in part, without a mark, are for replicate to tell apart, and it cannot.
        let copies = if operation != RenameDirectory && random.chance(15) { 3 } else { 1 };
        Scenario {
            seed,
            subvolumes,
            copies,
            optimize: random.chance(70),
            operation,
            old,
            new_home,
            replaced: Some(replaced).filter(|_| copies == 1 && random.chance(50)),
            across: random.chance(30),
            hard_link: random.chance(20),
            lookups_first: random.chance(50),
        }
    }

    /// Makes the tree, and says which fop comes.
    pub(super) fn prepare(&self, cluster: &Cluster, client: &Client) -> (Tree, Fop) {
        let mut tree = Tree::new();
        for path in DIRECTORIES {
            tree.insert(path.to_owned(), cluster.block_on(client.mkdir(path)).unwrap());
        }
        let old = self.name(cluster, DIRECTORIES[0], "old", self.old.home);
        let new = self.name(cluster, DIRECTORIES[usize::from(self.across)], "new", self.new_home);
        let make_new = matches!(self.operation, Operation::Mkdir | Operation::Create);
        let directory = matches!(self.operation, Operation::RenameDirectory | Operation::Rmdir);
        if directory {
            tree.insert(old.clone(), cluster.block_on(client.mkdir(&old)).unwrap());
        } else if !make_new {
            self.file(cluster, client, &mut tree, &old, self.old, "old text");
        }
        let fop = match self.operation {
            Operation::Rename => {
                if let Some(at) = self.replaced {
                    self.file(cluster, client, &mut tree, &new, Place { home: self.new_home, at }, "new text");
                }
                Fop::Rename { old: old.clone(), new }
            }
            Operation::RenameDirectory => {
                for home in 0..self.subvolumes {
                    let inside = self.name(cluster, &old, "inside", home);
                    self.file(cluster, client, &mut tree, &inside, Place { home, at: self.old.at }, &inside);
                }
                if self.replaced.is_some() {
                    tree.insert(new.clone(), cluster.block_on(client.mkdir(&new)).unwrap());
                }
                Fop::Rename { old: old.clone(), new }
            }
            Operation::Mkdir => Fop::Mkdir { path: new, gfid: NEW },
            Operation::Create => Fop::Create { path: new, gfid: NEW },
            Operation::Link => Fop::Link { old: old.clone(), new },
            Operation::Unlink => Fop::Unlink { path: old.clone() },
            Operation::Rmdir => {
                if self.old.at != self.old.home {
                    self.leftover(cluster, client, &old);
                }
                Fop::Rmdir { path: old.clone() }
            }
        };
        if self.hard_link && !directory && !make_new {
            let further = format!("{}/further", DIRECTORIES[1]);
            let link = Fop::Link { old: old.clone(), new: further };
            cluster.block_on(async { client.prepare(&link).await?.await }).unwrap();
            tree = link.applied_to(&tree);
        }
        (tree, fop)
    }

    /// Makes a file that is where `place` says.
    fn file(&self, cluster: &Cluster, client: &Client, tree: &mut Tree, path: &str, place: Place, text: &str) {
        let (directory, _) = path.rsplit_once('/').unwrap();
        let first =
            if place.at == place.home { path.to_owned() } else { self.name(cluster, directory, "first", place.at) };
        let node = cluster.block_on(client.create(&first, text)).unwrap();
        if first != path {
            let rename = Fop::Rename { old: first, new: path.to_owned() };
            cluster.block_on(async { client.prepare(&rename).await?.await }).unwrap();
        }
        tree.insert(path.to_owned(), node);
    }

    /// Leaves a linkto without file in a directory.
    fn leftover(&self, cluster: &Cluster, client: &Client, directory: &str) {
        let path = self.name(cluster, directory, "stale", self.old.home);
        self.file(cluster, client, &mut Tree::new(), &path, self.old, "");
        for copy in 0..self.copies {
            cluster.lose(self.old.at * self.copies + copy, &path);
        }
    }

    /// A name in a directory whose home is this subvolume.
    fn name(&self, cluster: &Cluster, directory: &str, stem: &str, home: usize) -> String {
        let value = cluster.xattr(home * self.copies, directory, keys::LAYOUT).unwrap();
        let range = DiskLayout::decode(&value).unwrap();
        let names = (0..).map(|number| format!("{stem}{number}"));
        let name = names.take(10_000).find(|name| range.contains(hash(name.as_bytes()))).unwrap();
        format!("{directory}/{name}")
    }

    /// The trees that may be seen after a crash: what was before, what should come after, and, where the file and the home
    /// of its new name are on different subvolumes, both names.
    pub(super) fn allowed(&self, fop: &Fop, before: &Tree, after: &Tree) -> Vec<Tree> {
        let mut allowed = vec![before.clone(), after.clone()];
        if let (Operation::Rename, Fop::Rename { old, .. }) = (self.operation, fop)
            // A rename that only some copies carried out is healed to both names.
            && (self.copies > 1 || self.old.at != self.new_home && self.replaced != Some(self.old.at))
        {
            let mut both = after.clone();
            both.insert(old.clone(), before[old].clone());
            allowed.push(both);
        }
        allowed
    }

    /// Whether what was interrupted can be done once more at once: a name that only some copies lost, with no mark, may be in
    /// the way of a removal until somebody looks it up.
    pub(super) fn can_be_repeated(&self) -> bool {
        self.operation != Operation::Rmdir || self.copies == 1
    }

    /// What listings may show after a crash of a rename over a file of another subvolume: the new name twice, because its
    /// old data, or the new one, has it, and is not to be reached under it; and the old name of a file whose linkto had to
    /// become that of the new name.
    pub(super) fn excused<'a>(&self, fop: &'a Fop) -> Excused<'a> {
        match fop {
            Fop::Rename { old, new } if self.replaces_another_subvolumes() => Excused {
                doubled: Some(new),
                hidden: (self.old.home == self.new_home && self.old.at != self.new_home).then_some(old.as_str()),
            },
            _ => Excused::default(),
        }
    }

    fn replaces_another_subvolumes(&self) -> bool {
        self.operation == Operation::Rename && self.replaced.is_some_and(|at| at != self.old.at)
    }
}

/// Renames and links of files, and what else is done with them, between all places of three bricks.
pub(super) fn all_places() -> Vec<Scenario> {
    let mut all = Vec::new();
    for at in 0..3 {
        let old = Place { home: 0, at };
        for new_home in 0..3 {
            for replaced in [None, Some(0), Some(1), Some(2)] {
                all.push(Scenario { old, new_home, replaced, ..example(all.len(), Operation::Rename) });
            }
            all.push(Scenario { old, new_home, ..example(all.len(), Operation::Link) });
        }
        all.push(Scenario { old, ..example(all.len(), Operation::Unlink) });
    }
    all
}

/// Fops on directories, on two bricks and on three.
pub(super) fn all_directories() -> Vec<Scenario> {
    let mut all = Vec::new();
    for subvolumes in [2, 3] {
        for home in 0..2 {
            for at in 0..2 {
                let old = Place { home, at };
                for replaced in [None, Some(0)] {
                    let rename = example(all.len(), Operation::RenameDirectory);
                    all.push(Scenario { subvolumes, old, new_home: 0, replaced, ..rename });
                }
                all.push(Scenario { subvolumes, old, ..example(all.len(), Operation::Rmdir) });
            }
            all.push(Scenario { subvolumes, new_home: home, ..example(all.len(), Operation::Mkdir) });
        }
    }
    all
}

/// On three bricks, with lookups that trust the layout; the rest by turns.
fn example(number: usize, operation: Operation) -> Scenario {
    Scenario {
        seed: number as u64,
        subvolumes: 3,
        copies: 1,
        optimize: true,
        operation,
        old: Place { home: 0, at: 0 },
        new_home: 1,
        replaced: None,
        across: number.is_multiple_of(3),
        hard_link: number.is_multiple_of(5),
        lookups_first: number.is_multiple_of(2),
    }
}
