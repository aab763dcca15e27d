//! Fops of a client that remembers an old layout, after others exchanged the ranges of a directory.

use super::*;

/// A directory `d` whose ranges are exchanged after `client` has looked at it and at a file in it.
struct Changed {
    cluster: Cluster,
    client: Cluster,
    directory: Arc<Inode>,
    /// What the client knows: a name that belonged to brick 0, and belongs to brick 1 now.
    name: String,
    file: Arc<Inode>,
}

impl Changed {
    fn new() -> Self {
        Self::with_commit_hash(0)
    }

    /// With the hash of the volume nobody looks for a name anywhere but at its home.
    fn with_commit_hash(commit_hash: u32) -> Self {
        let cluster = Cluster::new(2);
        let made = cluster.mkdir(&cluster.root, "d").0.unwrap();
        let name = cluster.name_at("/d", 0, 0);
        cluster.create(&made, &name).0.unwrap();
        let client = cluster.doubting_client();
        let directory = client.find(&client.root, "d");
        let file = client.find(&directory, &name);
        let ranges = [0, 1].map(|brick| DiskLayout { commit_hash, ..cluster.disk(brick, "/d") }.encode());
        for (brick, range) in [(0, &ranges[1]), (1, &ranges[0])] {
            cluster.bricks[brick].put_xattr("/d", keys::LAYOUT, Some(range));
        }
        Changed { cluster, client, directory, name, file }
    }

    /// As seen by a client that trusts the layout that is there now.
    fn fresh(&self) -> (Cluster, Arc<Inode>) {
        let fresh = self.cluster.second_client();
        let directory = fresh.find(&fresh.root, "d");
        (fresh, directory)
    }

    /// A name that belonged to brick 0 when the client looked.
    fn new_name(&self) -> String {
        self.cluster.name_at("/d", 1, 5)
    }

    fn found(&self, name: &str) -> Gfid {
        let (fresh, directory) = self.fresh();
        fresh.find(&directory, name).gfid()
    }

    fn move_file(&self) {
        let (from, to, path) = (&self.cluster.bricks[0], &self.cluster.bricks[1], format!("/d/{}", self.name));
        from.begin_move(to, &path);
        from.copy_to(to, &path);
        from.flip(to, &path);
        from.finish_move(to, &path);
    }

    fn names_left(&self) -> usize {
        self.cluster.bricks.iter().map(|brick| brick.list("/d").len()).sum()
    }
}

#[test]
fn a_name_that_others_made_is_found() {
    let changed = Changed::new();
    let (fresh, directory) = changed.fresh();
    let name = changed.new_name();
    let made = fresh.create(&directory, &name).0.unwrap();
    changed.client.forget();
    let (found, rounds) = changed.client.lookup(&changed.directory, &name);
    assert_eq!(found.unwrap().gfid(), made.gfid());
    assert_eq!(rounds, 3, "the old home and the doubt, the new layout, the new home");
}

#[test]
fn a_file_off_its_new_home_is_found_when_rebalance_has_begun() {
    let changed = Changed::new();
    for brick in &changed.cluster.bricks {
        brick.put_xattr("/", keys::COMMIT_HASH, Some(b"1477873946\0"));
    }
    let (fresh, client) = (changed.cluster.second_client(), &changed.client);
    assert!(fresh.lookup(&fresh.find(&fresh.root, "d"), &changed.name).0.is_ok(), "the root told it");
    changed.cluster.bricks[1].lose(&format!("/d/{}", changed.name));
    let found = client.lookup(&changed.directory, &changed.name).0;
    assert_eq!(found.unwrap().gfid(), changed.file.gfid());
}

#[test]
fn names_that_are_made_are_found_by_others() {
    let changed = Changed::new();
    let (client, name) = (&changed.client, changed.new_name());
    let new = |inode: Arc<Inode>| Loc::entry(changed.directory.clone(), name.clone(), inode);
    let request = || Dict::empty().with(keys::GFID_REQ, Value::Gfuuid(fresh_gfid()));

    let linked = client.run(|context, top| {
        let old = Loc::entry(changed.directory.clone(), changed.name.clone(), changed.file.clone());
        let new = new(changed.file.clone());
        async move { top.link(&context, &old, &new, Dict::NULL).await }
    });
    assert_eq!(changed.found(&name), linked.0.unwrap().stat.gfid);

    let changed = Changed::new();
    let new = |inode: Arc<Inode>| Loc::entry(changed.directory.clone(), name.clone(), inode);
    let made = changed.client.run(|context, top| {
        let new = new(Inode::fresh());
        async move { top.mknod(&context, &new, libc::S_IFREG | 0o644, 0, 0, request()).await }
    });
    assert_eq!(changed.found(&name), made.0.unwrap().stat.gfid);

    let changed = Changed::new();
    let new = |inode: Arc<Inode>| Loc::entry(changed.directory.clone(), name.clone(), inode);
    let made = changed.client.run(|context, top| {
        let new = new(Inode::fresh());
        async move { top.symlink(&context, &new, Bytes::from_static(b"there"), 0, request()).await }
    });
    assert_eq!(changed.found(&name), made.0.unwrap().stat.gfid);
}

#[test]
fn a_renamed_file_is_found_by_others() {
    let changed = Changed::new();
    let name = changed.new_name();
    let renamed = changed.client.run(|context, top| {
        let old = Loc::entry(changed.directory.clone(), changed.name.clone(), changed.file.clone());
        let new = Loc::entry(changed.directory.clone(), name.clone(), Inode::fresh());
        async move { top.rename(&context, &old, &new, Dict::NULL).await }
    });
    renamed.0.unwrap();
    assert_eq!(changed.found(&name), changed.file.gfid());
    let (fresh, directory) = changed.fresh();
    assert_eq!(errno(fresh.lookup(&directory, &changed.name).0), Errno::ENOENT);
}

#[test]
fn a_file_off_its_home_is_replaced() {
    // Nobody has made its linkto yet, and that takes the lock that the rename holds.
    let changed = Changed::with_commit_hash(1);
    let other = changed.cluster.name_at("/d", 1, 3);
    let (fresh, directory) = changed.fresh();
    let made = fresh.create(&directory, &other).0.unwrap();
    let renamed = changed.client.run(|context, top| {
        let old = Loc::entry(changed.directory.clone(), other.clone(), Inode::known(made.gfid(), FileType::Regular));
        let new = Loc::entry(changed.directory.clone(), changed.name.clone(), changed.file.clone());
        async move { top.rename(&context, &old, &new, Dict::NULL).await }
    });
    renamed.0.unwrap();
    assert_eq!(changed.found(&changed.name), made.gfid());
}

#[test]
fn a_file_that_moved_with_the_ranges_is_removed_whole() {
    let changed = Changed::new();
    changed.move_file();
    changed.client.unlink(&changed.directory, &changed.name, &changed.file).0.unwrap();
    assert_eq!(changed.names_left(), 0);
}

#[test]
fn a_linkto_at_the_new_home_goes_with_its_file() {
    let changed = Changed::with_commit_hash(1);
    // A lookup of somebody who knows the new layout makes it.
    changed.found(&changed.name);
    assert_eq!(changed.names_left(), 2);
    changed.client.unlink(&changed.directory, &changed.name, &changed.file).0.unwrap();
    assert_eq!(changed.names_left(), 0);
}
