//! Damage to directories, and what lookups make of it.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::keys;
use super::layout::{Anomalies, DiskLayout, Layout, Share};
use super::tests::{Cluster, errno, fresh_gfid};
use crate::{FopResult, Inode, Loc, Translator};

/// Two bricks with a directory `/d` that has an xattr; answers which brick is its MDS.
fn with_directory(bricks: usize) -> (Cluster, usize) {
    let cluster = Cluster::new(bricks);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    set_xattr(&cluster, &directory, "user.a", Some(b"x"));
    let mds = (0..bricks).find(|brick| cluster.bricks[*brick].xattr("/d", keys::MDS).is_some()).unwrap();
    cluster.forget();
    (cluster, mds)
}

fn set_xattr(cluster: &Cluster, directory: &Arc<Inode>, name: &'static str, value: Option<&'static [u8]>) {
    let loc = Loc::inode(directory.clone());
    let (result, _) = cluster.run(|context, top| async move {
        match value {
            Some(value) => {
                let dict = Dict::empty().with(name, Value::Ptr(Bytes::from_static(value)));
                top.setxattr(&context, &loc, dict, 0, Dict::NULL).await
            }
            None => top.removexattr(&context, &loc, name, Dict::NULL).await,
        }
    });
    result.unwrap();
}

fn revalidate(cluster: &Cluster, name: &str, inode: &Arc<Inode>) -> FopResult<Iatt> {
    let loc = Loc::entry(cluster.root.clone(), name.to_owned(), inode.clone());
    cluster.run(|context, top| async move { Ok(top.lookup(&context, &loc, Dict::NULL).await?.stat) }).0
}

fn layouts(cluster: &Cluster, path: &str) -> Vec<DiskLayout> {
    (0..cluster.bricks.len()).map(|brick| cluster.disk(brick, path)).collect()
}

fn is_whole(cluster: &Cluster, path: &str) -> bool {
    let shares: Vec<Share> = layouts(cluster, path).into_iter().map(Share::Written).collect();
    Layout::new(shares).anomalies() == Anomalies::default()
}

fn changes(cluster: &Cluster) -> Vec<String> {
    let quiet = ["LOOKUP", "STATFS", "STAT", "GETXATTR"];
    let all = cluster.traces().into_iter().flatten();
    all.filter(|step| !quiet.iter().any(|fop| step.split(' ').next() == Some(fop))).collect()
}

#[test]
fn a_directory_removed_on_one_brick_comes_back() {
    for lost in 0..2 {
        let (cluster, mds) = with_directory(2);
        let gfid = cluster.bricks[lost].stat_of("/d").unwrap().gfid;
        for brick in &cluster.bricks {
            brick.own("/d", 7, 0o040_711);
        }
        cluster.bricks[lost].lose("/d");
        let second = cluster.second_client();
        second.forget();
        assert_eq!(second.find(&second.root, "d").gfid(), gfid);
        let stat = cluster.bricks[lost].stat_of("/d").unwrap();
        assert_eq!((stat.gfid, stat.uid, stat.mode), (gfid, 7, 0o040_711));
        assert_eq!(cluster.bricks[lost].xattr("/d", "user.a").unwrap(), &b"x"[..]);
        assert!(is_whole(&cluster, "/d"));
        assert_eq!(cluster.disk(0, "/d").commit_hash, 1, "names may be anywhere: the ranges are new");
        let marked = |brick: usize| cluster.bricks[brick].xattr("/d", keys::MDS).is_some();
        assert!(marked(mds) && !marked(1 - mds), "the home of the name is the MDS");
        assert!(!cluster.bricks[lost].xattr_names("/d").contains(&keys::INTERNAL_CONTEXT.to_owned()));
        second.forget();
        second.find(&second.root, "d");
        assert_eq!(changes(&second), Vec::<String>::new(), "healed once");
    }
}

#[test]
fn a_directory_is_made_in_the_order_of_a_c_client() {
    let (cluster, mds) = with_directory(2);
    cluster.bricks[1 - mds].lose("/d");
    cluster.find(&cluster.root, "d");
    let traces = cluster.traces();
    let on_other: Vec<&str> =
        traces[1 - mds].iter().map(String::as_str).filter(|step| !step.contains("UNLK")).collect();
    // The one by gfid is ours: the brick may have the directory under another name.
    let expected =
        ["LOOKUP d", "LOOKUP d", "LOOKUP", "MKDIR d", "SETATTR", "INODELK dht.layout.heal", "LOOKUP", "SETXATTR"];
    let on_other: Vec<&str> = on_other.into_iter().filter(|step| !step.starts_with("GETXATTR")).collect();
    assert_eq!(on_other, expected);
    let locks: Vec<&str> = traces[mds]
        .iter()
        .map(String::as_str)
        .filter(|step| ["INODELK", "ENTRYLK"].iter().any(|lock| step.starts_with(lock)))
        .collect();
    let layout = "INODELK dht.layout.heal";
    assert_eq!(locks, [layout, "ENTRYLK d", layout], "the parent's, the name's, then the directory's own");
}

#[test]
fn a_known_directory_is_healed_by_name_and_by_gfid() {
    for by_name in [true, false] {
        let cluster = Cluster::new(3);
        let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
        let inner = cluster.mkdir(&directory, "e").0.unwrap();
        cluster.bricks[2].lose("/d/e");
        cluster.bricks[2].lose("/d");
        if by_name {
            revalidate(&cluster, "d", &directory).unwrap();
            cluster.find(&directory, "e");
        } else {
            let loc = Loc::inode(Inode::known(inner.gfid(), FileType::Directory));
            cluster.run(|context, top| async move { top.lookup(&context, &loc, Dict::NULL).await }).0.unwrap();
        }
        for path in ["/d", "/d/e"] {
            assert!(is_whole(&cluster, path), "{path} {by_name}");
        }
        assert_eq!(cluster.bricks[2].stat_of("/d/e").unwrap().gfid, inner.gfid());
    }
}

#[test]
fn nothing_is_healed_while_a_brick_is_down() {
    let cluster = Cluster::new(3);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let name = cluster.name_at("/d", 2, 0);
    let before = layouts(&cluster, "/d");
    cluster.bricks[1].lose("/d");
    cluster.bricks[0].own("/d", 9, 0o040_700);
    cluster.bricks[2].set_down(true);
    cluster.forget();
    revalidate(&cluster, "d", &directory).unwrap();
    let second = Inode::fresh();
    let loc = Loc::entry(cluster.root.clone(), "d".to_owned(), second);
    let _ = cluster.run(|context, top| async move { top.lookup(&context, &loc, Dict::NULL).await });
    assert_eq!(changes(&cluster), Vec::<String>::new());
    assert!(cluster.bricks[1].stat_of("/d").is_none());
    assert_eq!((cluster.disk(0, "/d"), cluster.disk(2, "/d")), (before[0], before[2]));
    assert_eq!(errno(cluster.create(&directory, &name).0), Errno::EIO, "two bricks do not tell: the home is unknown");
    cluster.bricks[2].set_down(false);
    revalidate(&cluster, "d", &directory).unwrap();
    assert!(is_whole(&cluster, "/d"));
    let owners: Vec<u32> = cluster.bricks.iter().map(|brick| brick.stat_of("/d").unwrap().uid).collect();
    assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
}

#[test]
fn names_go_on_belonging_to_a_brick_that_is_down() {
    let (cluster, _) = with_directory(2);
    let directory = cluster.find(&cluster.root, "d");
    let name = cluster.name_at("/d", 1, 0);
    cluster.bricks[1].set_down(true);
    revalidate(&cluster, "d", &directory).unwrap();
    assert_eq!(errno(cluster.create(&directory, &name).0), Errno::ENOTCONN);
    assert_eq!(errno(cluster.mkdir(&directory, &name).0), Errno::ENOTCONN);
    assert_eq!(errno(cluster.lookup(&directory, &name).0), Errno::ENOTCONN);
}

#[test]
fn a_directory_made_while_a_brick_was_down_stays_off_it() {
    let cluster = Cluster::new(2);
    let name = cluster.name_at("/", 0, 0);
    let path = format!("/{name}");
    cluster.bricks[1].set_down(true);
    cluster.mkdir(&cluster.root, &name).0.unwrap();
    let whole = DiskLayout { commit_hash: 0, kind: 0, start: 0, stop: u32::MAX };
    assert_eq!(cluster.disk(0, &path), whole);
    cluster.bricks[1].set_down(false);
    cluster.find(&cluster.root, &name);
    assert_eq!(layouts(&cluster, &path), [whole, DiskLayout::default()]);
}

#[test]
fn fix_layout_deals_ranges_to_all() {
    let cluster = Cluster::new(3);
    let directory = cluster.mkdir(&cluster.root, "d").0.unwrap();
    let fix = |key: &'static str, value: &'static str| {
        let loc = Loc::inode(directory.clone());
        let command = Dict::empty().with(key, Value::str(value));
        cluster.run(|context, top| async move { top.setxattr(&context, &loc, command, 0, Dict::NULL).await }).0
    };
    let before = layouts(&cluster, "/d");
    fix("distribute.fix.layout", "yes").unwrap();
    assert_eq!(layouts(&cluster, "/d"), before, "nothing to do");
    // As if brick 1 had just been added.
    let whole = DiskLayout { commit_hash: 0, kind: 0, start: 0, stop: u32::MAX };
    let half = |start, stop| DiskLayout { start, stop, ..whole };
    let old = [half(0, 0x7fff_fffe), DiskLayout::default(), half(0x7fff_ffff, u32::MAX)];
    for (brick, range) in old.iter().enumerate() {
        cluster.bricks[brick].put_xattr("/d", keys::LAYOUT, Some(&range.encode()));
    }
    cluster.bricks[2].set_down(true);
    assert_eq!(errno(fix("distribute.fix.layout", "yes")), Errno::ENOTCONN);
    assert_eq!(layouts(&cluster, "/d"), old);
    cluster.bricks[2].set_down(false);
    fix("distribute.fix.layout", "yes").unwrap();
    assert!(is_whole(&cluster, "/d") && layouts(&cluster, "/d").iter().all(|range| !range.is_empty()));
    // Otherwise the volume's hash and this one are 0, and a file off its new home passes for missing.
    assert!(layouts(&cluster, "/d").iter().all(|range| range.commit_hash == super::layout::COMMIT_INVALID));
    assert_eq!((cluster.disk(0, "/d").start, cluster.disk(2, "/d").stop), (0, u32::MAX), "both keep what they can");
    assert_eq!(errno(fix("distribute.directory-spread-count", "4")), Errno::EOPNOTSUPP);
    fix("distribute.directory-spread-count", "1").unwrap();
    assert!(is_whole(&cluster, "/d"));
    assert_eq!(layouts(&cluster, "/d").iter().filter(|range| range.is_empty()).count(), 2);
    // What a user has set stays.
    cluster.bricks[0].put_xattr("/d", keys::LAYOUT, Some(&DiskLayout { kind: 1, ..whole }.encode()));
    for brick in [1, 2] {
        cluster.bricks[brick].put_xattr(
            "/d",
            keys::LAYOUT,
            Some(&DiskLayout { kind: 1, ..DiskLayout::default() }.encode()),
        );
    }
    let set = layouts(&cluster, "/d");
    fix("distribute.fix.layout", "yes").unwrap();
    assert_eq!(layouts(&cluster, "/d"), set);
    assert!(cluster.bricks.iter().all(|brick| brick.held_locks() == 0));
}

#[test]
fn broken_rings_are_dealt_out_anew_and_whole_ones_kept() {
    let (cluster, _) = with_directory(2);
    cluster.bricks[1].put_xattr("/d", keys::LAYOUT, None);
    cluster.find(&cluster.root, "d");
    assert!(is_whole(&cluster, "/d"));
    cluster.bricks[1].put_xattr("/d", keys::LAYOUT, Some(&cluster.disk(0, "/d").encode()));
    cluster.find(&cluster.root, "d");
    assert!(is_whole(&cluster, "/d"), "an overlap");
    // A user's ranges are the user's when they are dealt out anew, too.
    let odd = DiskLayout { commit_hash: 0, kind: 1, start: 5, stop: 9 };
    cluster.bricks[0].put_xattr("/d", keys::LAYOUT, Some(&odd.encode()));
    cluster.find(&cluster.root, "d");
    assert!(is_whole(&cluster, "/d"));
    assert_eq!([0, 1].map(|brick| cluster.disk(brick, "/d").kind), [1, 1]);
}

#[test]
fn a_brick_that_died_before_a_new_directory_got_its_range_gets_an_empty_one() {
    let (cluster, _) = with_directory(3);
    let whole = DiskLayout { commit_hash: 0, kind: 0, start: 0, stop: u32::MAX };
    let halves = [DiskLayout { stop: 0x7fff_fffe, ..whole }, DiskLayout { start: 0x7fff_ffff, ..whole }];
    for (brick, range) in [(0, None), (1, Some(halves[0])), (2, Some(halves[1]))] {
        cluster.bricks[brick].put_xattr(
            "/d",
            keys::LAYOUT,
            range.map(|range| range.encode()).as_ref().map(<[u8; 16]>::as_slice),
        );
    }
    let empty = DiskLayout::default();
    // As long as somebody may still have a range, nobody gets one.
    cluster.bricks[2].set_down(true);
    cluster.forget();
    cluster.find(&cluster.root, "d");
    assert_eq!(cluster.bricks[0].xattr("/d", keys::LAYOUT), None);
    cluster.bricks[2].set_down(false);
    cluster.forget();
    cluster.find(&cluster.root, "d");
    assert_eq!(layouts(&cluster, "/d"), [empty, halves[0], halves[1]], "the others keep theirs");
    cluster.forget();
    cluster.find(&cluster.root, "d");
    assert_eq!(changes(&cluster), Vec::<String>::new(), "once");
    assert!(cluster.bricks.iter().all(|brick| brick.held_locks() == 0));
}

#[test]
fn the_root_of_a_new_brick_waits_for_fix_layout() {
    let cluster = Cluster::new(2);
    let whole = DiskLayout { commit_hash: 0, kind: 0, start: 0, stop: u32::MAX };
    cluster.bricks[0].put_xattr("/", keys::LAYOUT, Some(&whole.encode()));
    cluster.bricks[1].put_xattr("/", keys::LAYOUT, None);
    cluster.forget();
    let root = Loc::inode(cluster.root.clone());
    cluster.run(|context, top| async move { top.lookup(&context, &root, Dict::NULL).await }).0.unwrap();
    assert_eq!(changes(&cluster), Vec::<String>::new());
    assert_eq!(cluster.bricks[1].xattr("/", keys::LAYOUT), None);
}

#[test]
fn owner_and_mode_come_from_the_mds() {
    let (cluster, mds) = with_directory(3);
    for brick in 0..3 {
        cluster.bricks[brick].own("/d", if brick == mds { 5 } else { 9 }, 0o040_700 + u32::from(brick == mds));
    }
    let stat = revalidate(&cluster, "d", &cluster.find(&cluster.root, "d")).unwrap();
    assert_eq!((stat.uid, stat.mode), (5, 0o040_701));
    for brick in &cluster.bricks {
        let stat = brick.stat_of("/d").unwrap();
        assert_eq!((stat.uid, stat.mode), (5, 0o040_701));
    }
}

#[test]
fn xattrs_missed_by_a_brick_that_was_down_are_copied_from_the_mds() {
    let (cluster, mds) = with_directory(2);
    let directory = cluster.find(&cluster.root, "d");
    let other = &cluster.bricks[1 - mds];
    for (value, expected) in [(Some(&b"y"[..]), Some(&b"y"[..])), (None, None)] {
        other.set_down(true);
        set_xattr(&cluster, &directory, "user.a", value);
        other.set_down(false);
        assert_ne!(other.xattr("/d", "user.a").as_deref(), expected);
        cluster.find(&cluster.root, "d");
        assert_eq!(other.xattr("/d", "user.a").as_deref(), expected);
        assert_eq!(cluster.bricks[mds].xattr("/d", keys::MDS).unwrap(), [0; 4][..]);
    }
}

#[test]
fn an_entry_without_gfid_gets_that_of_the_directory() {
    let (cluster, mds) = with_directory(2);
    let gfid = cluster.bricks[mds].stat_of("/d").unwrap().gfid;
    for brick in [mds, 1 - mds] {
        cluster.bricks[brick].lose("/d");
        cluster.bricks[brick].plant_without_gfid("/d");
        let second = cluster.second_client();
        assert_eq!(second.find(&second.root, "d").gfid(), gfid);
        assert!(cluster.bricks.iter().all(|brick| brick.stat_of("/d").unwrap().gfid == gfid));
        assert!(is_whole(&cluster, "/d"));
    }
    // Nobody has one: all get the same.
    for brick in &cluster.bricks {
        brick.plant_without_gfid("/new");
    }
    let made = cluster.find(&cluster.root, "new").gfid();
    assert!(cluster.bricks.iter().all(|brick| brick.stat_of("/new").unwrap().gfid == made));
}

#[test]
fn another_gfid_is_served_but_never_written() {
    let (cluster, mds) = with_directory(2);
    let directory = cluster.find(&cluster.root, "d");
    cluster.bricks[1 - mds].lose("/d");
    cluster.bricks[1 - mds].plant("/d", Gfid([9; 16]), 0o040_755, &[]);
    cluster.forget();
    assert!(revalidate(&cluster, "d", &directory).is_ok(), "it is still there");
    assert_eq!(cluster.find(&cluster.root, "d").gfid(), directory.gfid(), "its home decides");
    assert_eq!(changes(&cluster), Vec::<String>::new());
}

#[test]
fn the_gfid_that_most_bricks_have_is_served() {
    let (cluster, mds) = with_directory(3);
    let gfid = cluster.find(&cluster.root, "d").gfid();
    cluster.bricks[mds].lose("/d");
    cluster.bricks[mds].plant("/d", Gfid([9; 16]), 0o040_755, &[]);
    cluster.forget();
    assert_eq!(cluster.find(&cluster.root, "d").gfid(), gfid);
    assert_eq!(changes(&cluster), Vec::<String>::new());
}

#[test]
fn a_file_and_a_directory_of_one_name_are_an_error() {
    let (cluster, mds) = with_directory(2);
    cluster.bricks[1 - mds].lose("/d");
    cluster.bricks[1 - mds].plant("/d", fresh_gfid(), 0o100_644, &[]);
    assert_eq!(errno(cluster.lookup(&cluster.root, "d").0), Errno::EIO);
}

#[test]
fn a_linkto_in_the_place_of_a_directory_gives_way() {
    for at_home in [true, false] {
        let (cluster, mds) = with_directory(2);
        let at = if at_home { mds } else { 1 - mds };
        let target = format!("v-client-{}\0", 1 - at);
        cluster.bricks[at].lose("/d");
        cluster.bricks[at].plant("/d", fresh_gfid(), 0o101_000, &[(keys::LINKTO, target.as_bytes())]);
        let gfid = cluster.bricks[1 - at].stat_of("/d").unwrap().gfid;
        assert_eq!(cluster.find(&cluster.root, "d").gfid(), gfid);
        assert_eq!(cluster.bricks[at].list("/"), ["d/"]);
        assert!(is_whole(&cluster, "/d"));
    }
}

#[test]
fn stale_linktos_go_wherever_they_are() {
    for at in 0..2 {
        let cluster = Cluster::new(2);
        let name = cluster.name_at("/", 0, 0);
        let target = format!("v-client-{}\0", 1 - at);
        let plant = |target: &[u8]| {
            let path = format!("/{name}");
            cluster.bricks[at].plant(&path, fresh_gfid(), 0o101_000, &[(keys::LINKTO, target)]);
        };
        plant(target.as_bytes());
        assert_eq!(errno(cluster.lookup(&cluster.root, &name).0), Errno::ENOENT);
        assert!(cluster.bricks[at].list("/").is_empty());
        // Where its file should be is down, or not known: it stays.
        plant(b"v-client-7\0");
        assert_eq!(errno(cluster.lookup(&cluster.root, &name).0), Errno::ENOENT);
        plant(target.as_bytes());
        cluster.bricks[1 - at].set_down(true);
        assert_eq!(errno(cluster.lookup(&cluster.root, &name).0), Errno::ENOTCONN);
        assert_eq!(cluster.bricks[at].list("/"), [format!("{name}@")]);
    }
}

#[test]
fn a_removal_that_fails_brings_the_directory_back_with_its_xattrs() {
    let (cluster, mds) = with_directory(2);
    let directory = cluster.find(&cluster.root, "d");
    let before = layouts(&cluster, "/d");
    let loc = Loc::entry(cluster.root.clone(), "d".to_owned(), directory);
    // Flags skip the search for entries, so that only the home refuses.
    cluster.bricks[mds].plant("/d/inside", fresh_gfid(), 0o100_644, &[]);
    let (removed, _) = cluster.run(|context, top| async move { top.rmdir(&context, &loc, 1, Dict::NULL).await });
    assert_eq!(errno(removed), Errno::ENOTEMPTY);
    assert_eq!(layouts(&cluster, "/d"), before);
    assert_eq!(cluster.bricks[1 - mds].xattr("/d", "user.a").unwrap(), &b"x"[..]);
}
