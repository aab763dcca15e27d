//! Content, attributes, extended attributes, pages and privileges.

use rgfs_protocol::{Gfid, Time};

use super::*;

#[test]
fn round_trips_are_few() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, opened) = create(&fs, "a", 0o644).await;
        fs.write(&USER, opened.handle, 0, name("x"), None, true).await.unwrap();
        fs.release(opened.handle);
        let again = fs.open(&ME, entry.nodeid, libc::O_RDONLY).await.unwrap();
        fs.read(&ME, again.handle, 0, 10, None).await.unwrap();
        fs.unlink(&ME, ROOT, name("a")).await.unwrap();
        assert_eq!(volume.calls(), ["create", "writev", "open", "readv", "unlink"]);
    });
}

#[test]
fn pages_are_kept_unless_somebody_else_wrote() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, opened) = create(&fs, "a", 0o644).await;
        assert!(!opened.keep_cache);
        fs.write(&ME, opened.handle, 0, name("mine"), None, false).await.unwrap();
        assert!(fs.open(&ME, entry.nodeid, libc::O_RDONLY).await.unwrap().keep_cache, "own writes change nothing");
        let gfid = fs.table().get(entry.nodeid).unwrap().gfid();
        volume.meddle(gfid, |_, data| data.copy_from_slice(b"your"));
        // As if the last attributes were old.
        fs.table().get(entry.nodeid).unwrap().state().attributes = None;
        volume.calls();
        assert!(!fs.open(&ME, entry.nodeid, libc::O_RDONLY).await.unwrap().keep_cache);
        assert_eq!(volume.calls(), ["open", "fstat"]);
        assert!(fs.open(&ME, entry.nodeid, libc::O_RDONLY).await.unwrap().keep_cache);
        assert!(!fs.open(&ME, entry.nodeid, libc::O_WRONLY | libc::O_TRUNC).await.unwrap().keep_cache);
    });
    let (_, direct) = self::volume(Options { direct_io: true, ..Options::default() });
    run(async {
        assert!(create(&direct, "a", 0o644).await.1.direct_io);
    });
}

#[test]
fn privileges_go_when_others_change_a_file() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, opened) = create(&fs, "a", 0o4755).await;
        let mode = async || fs.getattr(&ME, entry.nodeid, None).await.unwrap().attributes.permissions;
        fs.write(&ME, opened.handle, 0, name("x"), None, false).await.unwrap();
        assert_eq!(mode().await, 0o4755, "the kernel says who may keep them");
        volume.calls();
        fs.write(&USER, opened.handle, 0, name("x"), None, true).await.unwrap();
        assert_eq!(volume.calls(), ["fstat", "setattr", "writev"], "before the write");
        assert_eq!(mode().await, 0o755);
        let chmod = SetAttributes { mode: Some(0o6755), ..SetAttributes::default() };
        fs.setattr(&ME, entry.nodeid, chmod).await.unwrap();
        let shrink = SetAttributes { size: Some(0), ..SetAttributes::default() };
        assert_eq!(fs.setattr(&ME, entry.nodeid, shrink).await.unwrap().attributes.permissions, 0o6755);
        assert_eq!(fs.setattr(&USER, entry.nodeid, shrink).await.unwrap().attributes.permissions, 0o755);
        fs.setattr(&ME, entry.nodeid, chmod).await.unwrap();
        let chown = SetAttributes { uid: Some(5), ..SetAttributes::default() };
        let after = fs.setattr(&ME, entry.nodeid, chown).await.unwrap().attributes;
        assert_eq!((after.permissions, after.uid), (0o755, 5));
        // Set by another client since the attributes were seen.
        let gfid = fs.table().get(entry.nodeid).unwrap().gfid();
        volume.meddle(gfid, |stat, _| stat.mode |= libc::S_ISUID);
        fs.write(&USER, opened.handle, 0, name("x"), None, true).await.unwrap();
        assert_eq!(mode().await, 0o755);
    });
}

#[test]
fn clearing_privileges_brings_no_older_bits_back() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, opened) = create(&fs, "a", 0o4755).await;
        let node = fs.table().get(entry.nodeid).unwrap();
        volume.meddle(node.gfid(), |stat, _| stat.mode = libc::S_IFREG | 0o4700);
        fs.write(&USER, opened.handle, 0, name("x"), None, true).await.unwrap();
        assert_eq!(fs.getattr(&ME, entry.nodeid, None).await.unwrap().attributes.permissions, 0o700);
        // Known, but outdated by a change that brought no attributes.
        let chmod = SetAttributes { mode: Some(0o4755), ..SetAttributes::default() };
        fs.setattr(&ME, entry.nodeid, chmod).await.unwrap();
        node.state().attributes = None;
        volume.calls();
        fs.write(&USER, opened.handle, 0, name("x"), None, true).await.unwrap();
        assert_eq!(volume.calls(), ["fstat", "setattr", "writev"], "before the write");
        node.state().attributes = None;
        fs.write(&USER, opened.handle, 0, name("x"), None, true).await.unwrap();
        assert_eq!(volume.calls(), ["writev"], "nothing to clear costs nothing");
    });
}

#[test]
fn a_lost_descriptor_does_not_hide_the_file() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, _) = create(&fs, "a", 0o644).await;
        volume.fail("fstat", Errno::EBADFD);
        assert_eq!(fs.getattr(&ME, entry.nodeid, None).await.unwrap().attributes.permissions, 0o644);
        fs.unlink(&ME, ROOT, name("a")).await.unwrap();
        volume.fail("fstat", Errno::EBADFD);
        assert_eq!(errno(fs.getattr(&ME, entry.nodeid, None).await), Errno::EBADFD);
    });
}

#[test]
fn the_group_that_counts_comes_first_of_many() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, _) = create(&fs, "a", 0o640).await;
        let node = fs.table().get(entry.nodeid).unwrap();
        volume.meddle(node.gfid(), |stat, _| stat.gid = 99);
        fs.getattr(&ME, entry.nodeid, None).await.unwrap();
        let with = |groups: Vec<u32>| {
            let context = crate::Context { groups: groups.into(), ..crate::Context::internal() };
            super::super::with_group_of(context, &node).groups.to_vec()
        };
        let many: Vec<u32> = (0..100).collect();
        let sorted = with(many.clone());
        assert_eq!((sorted[0], sorted[1], sorted.len()), (99, 0, 100));
        assert_eq!(with((100..200).collect()), (100..200).collect::<Vec<_>>(), "not a member");
        assert_eq!(with(vec![5, 99]), [5, 99], "all fit");
    });
}

#[test]
fn attributes_are_set() {
    let (_, fs) = volume(Options::default());
    run(async {
        let (entry, _) = create(&fs, "a", 0o644).await;
        let then = Time { sec: -5, nsec: 3 };
        let times = SetAttributes { mtime: Some(SetTime::At(then)), size: Some(10), ..SetAttributes::default() };
        let after = fs.setattr(&ME, entry.nodeid, times).await.unwrap().attributes;
        assert_eq!((after.mtime, after.size), (then, 10));
        assert_eq!(fs.statfs(&ME, ROOT).await.unwrap().blocks, 9);
        fs.access(&ME, entry.nodeid, 4).await.unwrap();
    });
}

#[test]
fn xattrs_pass_or_do_not() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, _) = create(&fs, "a", 0o644).await;
        let node = entry.nodeid;
        fs.setxattr(&ME, node, b"user.a", b"1\0", 0).await.unwrap();
        assert_eq!(fs.getxattr(&ME, node, b"user.a").await.unwrap(), &b"1\0"[..]);
        fs.setxattr(&ME, node, b"trusted.mine", b"2", 0).await.unwrap();
        assert_eq!(fs.listxattr(&ME, node).await.unwrap(), &b"trusted.mine\0user.a\0"[..]);
        assert_eq!(fs.listxattr(&USER, node).await.unwrap(), &b"user.a\0"[..]);
        fs.removexattr(&ME, node, b"user.a").await.unwrap();
        assert_eq!(errno(fs.getxattr(&ME, node, b"user.a").await), Errno::ENODATA);
        assert_eq!(errno(fs.setxattr(&ME, node, b"trusted.gfid", b"x", 0).await), Errno::EPERM);
        assert_eq!(errno(fs.setxattr(&ME, node, b"user.big", &[0; 70_000], 0).await), Errno::E2BIG);
        volume.calls();
        assert_eq!(errno(fs.getxattr(&ME, node, b"security.capability").await), Errno::ENODATA);
        let gfid = fs.getxattr(&ME, node, b"glusterfs.gfid").await.unwrap();
        let text = fs.getxattr(&ME, node, b"glusterfs.gfid.string").await.unwrap();
        assert_eq!(Gfid::parse(std::str::from_utf8(&text).unwrap()).unwrap().0, *gfid);
        assert!(volume.calls().is_empty(), "answered here");
    });
}

#[test]
fn space_is_managed() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (_, opened) = create(&fs, "a", 0o644).await;
        let handle = opened.handle;
        fs.write(&ME, handle, 0, name("abcdefgh"), None, false).await.unwrap();
        let zero_keep = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        fs.fallocate(&ME, handle, 6, 100, zero_keep).await.unwrap();
        assert_eq!(fs.read(&ME, handle, 0, 100, None).await.unwrap().concat(), b"abcdef\0\0");
        fs.fallocate(&ME, handle, 0, 2, 3).await.unwrap();
        assert_eq!(fs.read(&ME, handle, 0, 100, None).await.unwrap().concat(), b"\0\0cdef\0\0");
        fs.fallocate(&ME, handle, 0, 12, 0).await.unwrap();
        assert_eq!(errno(fs.fallocate(&ME, handle, 0, 12, 8).await), Errno::EOPNOTSUPP);
        assert_eq!(fs.seek(&ME, handle, 0, libc::SEEK_HOLE).await.unwrap(), 12);
        assert_eq!(errno(fs.seek(&ME, handle, 50, libc::SEEK_DATA).await), Errno::ENXIO);
        assert_eq!(volume.locks(), (0, 0));
    });
}
