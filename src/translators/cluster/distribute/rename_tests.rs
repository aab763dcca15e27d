//! Renames on a volume whose layouts change: names that have got another home, and have no linkto there.

use rgfs_protocol::{Dict, Errno, Gfid, Value};

use super::core::DirectoryState;
use super::keys;
use super::layout::DiskLayout;
use super::testing::MemoryBrick;
use super::tests::{Cluster, block, errno, fresh_gfid};
use crate::{Context, Inode, Loc, Translator};

const LINKTO_MODE: u32 = 0o101_000;
const FILE_MODE: u32 = 0o100_644;

/// Puts a file on a brick; `linkto` tells whether there is one at its home.
fn plant(cluster: &Cluster, path: &str, home: usize, cached: usize, linkto: bool) -> Gfid {
    let gfid = fresh_gfid();
    cluster.bricks[cached].plant(path, gfid, FILE_MODE, &[]);
    if linkto && home != cached {
        let target = format!("v-client-{cached}\0");
        cluster.bricks[home].plant(path, gfid, LINKTO_MODE, &[(keys::LINKTO, target.as_bytes())]);
    }
    gfid
}

/// What a brick has under a name: is it a linkto, and of which file.
fn entry(brick: &MemoryBrick, path: &str) -> Option<(bool, Gfid)> {
    brick.stat_of(path).map(|stat| (stat.mode == LINKTO_MODE, stat.gfid))
}

/// The layout has just made another subvolume the home of a file's name. Nobody has looked the name up there since, but we know the
/// file. Rename relied on its linkto there: where that was to replace the other file, that stayed.
#[test]
fn a_file_without_linkto_is_renamed_over_all_kinds_of_names() {
    // Homes of both names, place of the file, what has the new name (3 is nothing), whether there is a linkto of the old name, and
    // whether the bricks have been asked for the names lately.
    for case in 0..3 * 3 * 3 * 4 * 2 * 2 {
        let (old_home, new_home, cached) = (case % 3, case / 3 % 3, case / 9 % 3);
        let (new_cached, linkto, seen) = (case / 27 % 4, case / 108 % 2 == 0, case / 216 == 0);
        let cluster = Cluster::new(3);
        let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
        let (old, new) = (cluster.name_at("/d", old_home, 0), cluster.name_at("/d", new_home, 5));
        let (old_path, new_path) = (format!("/d/{old}"), format!("/d/{new}"));
        let gfid = plant(&cluster, &old_path, old_home, cached, true);
        if new_cached < 3 {
            plant(&cluster, &new_path, new_home, new_cached, true);
        }
        let inode = cluster.find(&directory, &old);
        if !linkto && old_home != cached {
            cluster.bricks[old_home].lose(&old_path);
        }
        if seen && new_cached < 3 {
            cluster.second_client().find(&directory, &new);
        }
        let from = Loc::entry(directory.clone(), old.clone(), inode);
        let to = Loc::entry(directory.clone(), new.clone(), Inode::fresh());
        let (renamed, _) =
            cluster.run(|context, top| async move { top.rename(&context, &from, &to, Dict::NULL).await.map(|_| ()) });
        renamed.unwrap_or_else(|error| panic!("case {case}: {error}"));
        let expected = |at| (at == cached).then_some((false, gfid)).or((at == new_home).then_some((true, gfid)));
        for (at, brick) in cluster.bricks.iter().enumerate() {
            assert_eq!(entry(brick, &new_path), expected(at), "case {case}: the new name on {at}");
            assert_eq!(entry(brick, &old_path), None, "case {case}: the old name on {at}");
        }
    }
}

/// A linkto of another file that had the old name long ago is not taken for one of this file.
#[test]
fn a_linkto_of_another_file_is_not_renamed() {
    let cluster = Cluster::new(2);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let (old, new) = (cluster.name_at("/d", 0, 0), cluster.name_at("/d", 1, 5));
    let gfid = plant(&cluster, &format!("/d/{old}"), 0, 0, true);
    plant(&cluster, &format!("/d/{new}"), 1, 1, true);
    let other = [(keys::LINKTO, &b"v-client-0\0"[..])];
    cluster.bricks[1].plant(&format!("/d/{old}"), fresh_gfid(), LINKTO_MODE, &other);
    cluster.find(&directory, &new);
    cluster.rename((&directory, &old), (&directory, &new)).0.unwrap();
    assert_eq!(entry(&cluster.bricks[1], &format!("/d/{new}")), Some((true, gfid)));
    assert_eq!(cluster.bricks[0].list("/d"), [new]);
}

/// Where the new name cannot be led to the file, the old one stays, and no second file has the new one.
#[test]
fn a_rename_that_fails_at_the_new_home_changes_nothing() {
    let cluster = Cluster::new(3);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let (old, new) = (cluster.name_at("/d", 0, 0), cluster.name_at("/d", 1, 5));
    let gfid = plant(&cluster, &format!("/d/{old}"), 0, 0, true);
    let replaced = plant(&cluster, &format!("/d/{new}"), 1, 1, true);
    cluster.find(&directory, &new);
    cluster.bricks[1].refuse("RENAME");
    let failed = cluster.rename((&directory, &old), (&directory, &new)).0;
    assert_eq!(errno(failed), Errno::EIO);
    let second = cluster.second_client();
    assert_eq!(second.find(&directory, &old).gfid(), gfid);
    assert_eq!(second.find(&directory, &new).gfid(), replaced);
    let mut names = [&old[..], &new[..]];
    names.sort_unstable();
    assert_eq!(second.names(&directory, 4096)[2..], names);
}

/// Fix-layout writes one subvolume after the other. Who has read the ranges meanwhile waits until it has done.
#[test]
fn names_in_a_hole_wait_for_fix_layout() {
    for operation in 0..4 {
        let cluster = Cluster::new(2);
        let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
        let (old, new) = (cluster.name_at("/d", 1, 0), cluster.name_at("/d", 0, 5));
        let inode = cluster.create(&directory, &old).0.unwrap();
        let whole = cluster.disk(0, "/d");
        let empty = DiskLayout { start: 0, stop: 0, ..whole };
        cluster.bricks[0].put_xattr("/d", keys::LAYOUT, Some(&empty.encode()));
        cluster.bricks[0].write_before_a_lock("/d", &whole.encode());
        let core = &cluster.top.core;
        let torn = block(core.read_layout(&Context::internal(), &directory)).unwrap();
        core.remember_directory(&directory, DirectoryState::new(torn, None));

        let from = Loc::entry(directory.clone(), old, inode);
        let to = Loc::entry(directory.clone(), new.clone(), Inode::fresh());
        let (made, _) = cluster.run(|context, top| async move {
            let xdata = Dict::empty().with(keys::GFID_REQ, Value::Gfuuid(fresh_gfid()));
            match operation {
                0 => top.rename(&context, &from, &to, Dict::NULL).await.map(drop),
                1 => top.link(&context, &from, &to, Dict::NULL).await.map(drop),
                2 => top.mknod(&context, &to, FILE_MODE, 0, 0, xdata).await.map(drop),
                _ => top.mkdir(&context, &to, 0o755, 0, xdata).await.map(drop),
            }
        });
        made.unwrap_or_else(|error| panic!("operation {operation}: {error}"));
        let second = cluster.second_client();
        let directory = second.find(&second.root, "d");
        second.find(&directory, &new);
    }
}

/// A rename that was cut off has left the file with both names. Done again, it takes the old one away.
#[test]
fn a_file_with_both_names_is_renamed_to_its_end() {
    for case in 0..8 {
        let (old_home, new_home, cached) = (case & 1, case >> 1 & 1, case >> 2);
        let cluster = Cluster::new(2);
        let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
        let (old, new) = (cluster.name_at("/d", old_home, 0), cluster.name_at("/d", new_home, 5));
        let gfid = plant(&cluster, &format!("/d/{old}"), old_home, cached, true);
        cluster.find(&directory, &old);
        cluster.link(&directory, &old, &new).unwrap();
        cluster.rename((&directory, &old), (&directory, &new)).0.unwrap();
        let second = cluster.second_client();
        assert_eq!(second.find(&directory, &new).gfid(), gfid, "case {case}");
        assert_eq!(errno(second.lookup(&directory, &old).0), Errno::ENOENT, "case {case}");
        assert_eq!(second.names(&directory, 4096)[2..], [&new[..]], "case {case}");
    }
}
