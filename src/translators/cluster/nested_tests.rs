//! Distribute over replicates, over bricks in memory: what each must know of the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::{Dict, Errno, FileType, Gfid};

use super::rounds::{Mount, found};
use crate::{Fd, FopResult, Inode, Loc};

const FILES: usize = 40;

fn root() -> Arc<Inode> {
    Inode::known(Gfid::ROOT, FileType::Directory)
}

/// Two sets of three, with a directory that holds files and directories.
fn mount() -> (Mount, Loc) {
    let mut mount = Mount::new(2, 3, false);
    let whole = Loc::inode(root());
    mount.run(|context, top| async move { top.lookup(&context, &whole, Dict::NULL).await }).0.unwrap();
    let directory = mkdir(&mut mount, &root(), "d").unwrap();
    for number in 0..FILES {
        mount.create("file", &Mount::place(&directory.inode, &format!("f{number}")));
    }
    for number in 0..8 {
        mkdir(&mut mount, &directory.inode, &format!("d{number}")).unwrap();
    }
    (mount, directory)
}

fn mkdir(mount: &mut Mount, parent: &Arc<Inode>, name: &str) -> FopResult<Loc> {
    let (place, identity) = (Mount::place(parent, name), mount.identity());
    let (made, _) = mount.run(|context, top| {
        let place = place.clone();
        async move { top.mkdir(&context, &place, 0o755, 0, identity).await }
    });
    found(&place, &made?.stat);
    Ok(place)
}

fn opendir(mount: &Mount, directory: &Loc) -> Arc<Fd> {
    let fd = Fd::new(directory.inode.clone(), libc::O_DIRECTORY, 42);
    let (opened, _) = mount.run(|context, top| {
        let (loc, fd) = (Loc::inode(directory.inode.clone()), fd.clone());
        async move { top.opendir(&context, &loc, &fd, Dict::NULL).await }
    });
    opened.unwrap();
    fd
}

/// Names from `offset` on, at most so many pages; and where the listing then stands, if it is not at its end.
fn list(mount: &Mount, fd: &Arc<Fd>, mut offset: u64, pages: usize) -> FopResult<(Vec<String>, Option<u64>)> {
    let mut names = Vec::new();
    for _ in 0..pages {
        let (page, _) = mount.run(|context, top| {
            let fd = fd.clone();
            async move { top.readdirp(&context, &fd, 600, offset, Dict::NULL).await }
        });
        let page = page?;
        let seen = page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.entry.name).into_owned());
        names.extend(seen.filter(|name| name != "." && name != ".."));
        let Some(next) = page.goes_on_at() else { return Ok((names, None)) };
        offset = next;
    }
    Ok((names, Some(offset)))
}

fn everything() -> BTreeSet<String> {
    (0..FILES).map(|number| format!("f{number}")).chain((0..8).map(|number| format!("d{number}"))).collect()
}

#[track_caller]
fn assert_complete(names: &[String]) {
    assert_eq!(names.len(), FILES + 8, "{names:?}");
    assert_eq!(names.iter().cloned().collect::<BTreeSet<_>>(), everything());
}

#[test]
fn a_listing_is_complete_with_any_one_brick_away() {
    let (mount, directory) = mount();
    assert_complete(&list(&mount, &opendir(&mount, &directory), 0, 999).unwrap().0);
    for brick in 0..6 {
        mount.cluster.kill_brick(brick);
        mount.cluster.run_for(Duration::from_secs(1));
        assert_complete(&list(&mount, &opendir(&mount, &directory), 0, 999).unwrap().0);
        mount.cluster.restart_brick(brick);
        mount.cluster.run_for(Duration::from_secs(2));
    }
    // From a cookie on, what was not told yet.
    let fd = opendir(&mount, &directory);
    let (mut names, offset) = list(&mount, &fd, 0, 2).unwrap();
    names.extend(list(&mount, &fd, offset.unwrap(), 999).unwrap().0);
    assert_complete(&names);
}

#[test]
fn a_listing_that_loses_its_brick_says_so_or_is_complete() {
    for brick in 0..6 {
        let (mount, directory) = mount();
        let fd = opendir(&mount, &directory);
        let (mut names, offset) = list(&mount, &fd, 0, 2).unwrap();
        mount.cluster.kill_brick(brick);
        mount.cluster.run_for(Duration::from_secs(1));
        match list(&mount, &fd, offset.unwrap(), 999) {
            Ok((rest, _)) => {
                names.extend(rest);
                assert_complete(&names);
            }
            Err(error) => assert_eq!(error.errno, Errno::ENOTCONN),
        }
        assert_complete(&list(&mount, &opendir(&mount, &directory), 0, 999).unwrap().0);
    }
}

#[test]
fn names_are_made_and_moved_with_a_brick_away_in_each_set() {
    let (mut mount, directory) = mount();
    mount.cluster.kill_brick(0);
    mount.cluster.kill_brick(4);
    mount.cluster.run_for(Duration::from_secs(1));
    for number in 0..6 {
        let made = mkdir(&mut mount, &directory.inode, &format!("new{number}")).unwrap();
        let moved = Loc::entry(directory.inode.clone(), format!("moved{number}"), Inode::fresh());
        let (renamed, _) =
            mount.run(|context, top| async move { top.rename(&context, &made, &moved, Dict::NULL).await });
        renamed.unwrap();
        let file = Mount::place(&directory.inode, &format!("file{number}"));
        mount.create("file", &file);
        let moved = Mount::place(&directory.inode, &format!("renamed{number}"));
        let (renamed, _) =
            mount.run(|context, top| async move { top.rename(&context, &file, &moved, Dict::NULL).await });
        renamed.unwrap();
    }
    let names = list(&mount, &opendir(&mount, &directory), 0, 999).unwrap().0;
    let new: BTreeSet<_> = names.iter().filter(|name| name.contains("moved") || name.contains("renamed")).collect();
    assert_eq!((names.len(), new.len()), (FILES + 8 + 12, 12), "{names:?}");
    let locks: Vec<_> = (0..6).flat_map(|brick| mount.cluster.locks(brick)).collect();
    assert!(locks.is_empty(), "{locks:?}");
}

#[test]
fn a_set_without_quorum_takes_no_names_and_the_other_does() {
    let (mut mount, directory) = mount();
    for brick in [0, 1] {
        mount.cluster.kill_brick(brick);
    }
    mount.cluster.run_for(Duration::from_secs(1));
    let refused = (0..8).filter(|number| mkdir(&mut mount, &directory.inode, &format!("new{number}")).is_err()).count();
    assert!((1..8).contains(&refused), "directories whose home is the set without quorum, and no others: {refused}");
    let before = mount.cluster.marks();
    let (mut made, mut refused) = (0, 0);
    for number in 0..16 {
        let place = Mount::place(&directory.inode, &format!("file{number}"));
        let (identity, fd) = (mount.identity(), Fd::new(place.inode.clone(), libc::O_RDWR, 42));
        let flags = libc::O_RDWR | libc::O_CREAT;
        let (result, _) =
            mount.run(|context, top| async move { top.create(&context, &place, flags, 0o644, 0, &fd, identity).await });
        match result {
            Ok(_) => made += 1,
            Err(error) => {
                assert_eq!(error.errno, Errno::ENOTCONN);
                refused += 1;
            }
        }
    }
    assert!(made > 0 && refused > 0, "{made} {refused}");
    assert_eq!(mount.cluster.marks(), before, "what is refused leaves no mark");
    let locks: Vec<_> = (0..6).flat_map(|brick| mount.cluster.locks(brick)).collect();
    assert!(locks.is_empty(), "{locks:?}");
}

#[test]
fn figures_and_places_come_from_both_sets() {
    let (mount, _) = mount();
    let whole = Loc::inode(root());
    let (path, _) = mount.run(|context, top| {
        let whole = whole.clone();
        async move { top.getxattr(&context, &whole, Some("trusted.glusterfs.pathinfo"), Dict::NULL).await }
    });
    let path = path.unwrap().dict.bytes("trusted.glusterfs.pathinfo").unwrap();
    let path = String::from_utf8_lossy(&path).into_owned();
    for part in ["DISTRIBUTE:", "<REPLICATE:test-replicate-0>", "<REPLICATE:test-replicate-1>", "brick0", "brick5"] {
        assert!(path.contains(part), "{path}");
    }
    let (one, _) = Mount::new(1, 3, false).run(|context, top| {
        let whole = whole.clone();
        async move { top.statfs(&context, &whole, Dict::NULL).await }
    });
    let (two, _) = mount.run(|context, top| async move { top.statfs(&context, &whole, Dict::NULL).await });
    let (one, two) = (one.unwrap().statfs, two.unwrap().statfs);
    assert_eq!(two.blocks * two.frsize, 2 * one.blocks * one.frsize);
}
