//! Names, and what they lead to.

use super::*;

#[test]
fn a_file_lives_and_dies() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, opened) = create(&fs, "a", 0o666).await;
        assert_eq!(entry.attributes.permissions, 0o644, "the umask is applied here");
        assert_eq!(entry.attributes.kind, FileType::Regular);
        assert_eq!(fs.write(&ME, opened.handle, 3, name("hello"), None, false).await.unwrap(), 5);
        let data = fs.read(&ME, opened.handle, 2, 100, None).await.unwrap();
        assert_eq!(data.concat(), b"\0hello");
        assert!(fs.read(&ME, opened.handle, 0, 0, None).await.unwrap().is_empty());
        assert_eq!(fs.getattr(&ME, entry.nodeid, None).await.unwrap().attributes.size, 8);
        fs.fsync(&ME, opened.handle, true).await.unwrap();
        fs.flush(&ME, opened.handle, 7).await.unwrap();
        fs.unlink(&ME, ROOT, name("a")).await.unwrap();
        assert_eq!(errno(fs.lookup(&ME, ROOT, name("a")).await), Errno::ENOENT);
        fs.release(opened.handle);
        assert_eq!(errno(fs.read(&ME, opened.handle, 0, 1, None).await), Errno::EBADF);
        fs.forget(entry.nodeid, 1);
        assert_eq!(fs.table().len(), 1);
        assert!(volume.calls().contains(&"flush"));
    });
}

#[test]
fn names_lead_to_nodes() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let directory = fs.mkdir(&ME, ROOT, name("d"), 0o777, 0o022).await.unwrap();
        assert_eq!(directory.attributes.permissions, 0o755);
        let file = fs.mknod(&ME, directory.nodeid, name("f"), 0o100_600, 0, 0).await.unwrap();
        let link = fs.link(&ME, file.nodeid, ROOT, name("g")).await.unwrap();
        assert_eq!((link.nodeid, link.attributes.nlink), (file.nodeid, 2));
        assert_eq!(errno(fs.link(&ME, file.nodeid, ROOT, name("g")).await), Errno::EEXIST);
        let found = fs.lookup(&ME, directory.nodeid, name("f")).await.unwrap().unwrap();
        assert_eq!((found.nodeid, found.generation), (file.nodeid, file.generation));
        assert_eq!(fs.table().get(file.nodeid).unwrap().lookups(), 3);
        let symlink = fs.symlink(&ME, ROOT, name("s"), name("d/f")).await.unwrap();
        assert_eq!(fs.readlink(&ME, symlink.nodeid).await.unwrap(), "d/f");
        let device = fs.mknod(&ME, ROOT, name("null"), 0o020_666, 0, 0x103).await.unwrap();
        assert_eq!(device.attributes.rdev, 0x103);
        assert_eq!(errno(fs.rmdir(&ME, ROOT, name("d")).await), Errno::ENOTEMPTY);
        fs.rename(&ME, (directory.nodeid, name("f")), (ROOT, name("h")), RenameMode::Replace).await.unwrap();
        fs.rmdir(&ME, ROOT, name("d")).await.unwrap();
        volume.calls();
        assert_eq!(fs.lookup(&ME, ROOT, name("h")).await.unwrap().unwrap().nodeid, file.nodeid);
        assert_eq!(volume.calls(), ["lookup"]);
        assert_eq!(errno(fs.mkdir(&ME, ROOT, name(&"x".repeat(256)), 0o755, 0).await), Errno::ENAMETOOLONG);
    });
}

#[test]
fn rename_modes() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (a, _) = create(&fs, "a", 0o644).await;
        let (b, opened) = create(&fs, "b", 0o644).await;
        fs.release(opened.handle);
        let no_replace = RenameMode::NoReplace;
        let exists = fs.rename(&ME, (ROOT, name("a")), (ROOT, name("b")), no_replace).await;
        assert_eq!(errno(exists), Errno::EEXIST);
        fs.rename(&ME, (ROOT, name("a")), (ROOT, name("c")), no_replace).await.unwrap();
        assert_eq!(fs.lookup(&ME, ROOT, name("c")).await.unwrap().unwrap().nodeid, a.nodeid);
        assert_eq!(errno(fs.lookup(&ME, ROOT, name("a")).await), Errno::ENOENT);
        let swap = fs.rename(&ME, (ROOT, name("b")), (ROOT, name("c")), RenameMode::Unsupported).await;
        assert_eq!(errno(swap), Errno::EINVAL);
        volume.calls();
        fs.rename(&ME, (ROOT, name("c")), (ROOT, name("b")), RenameMode::Replace).await.unwrap();
        assert_eq!(volume.calls(), ["rename"], "both names are known");
        assert_eq!(errno(fs.getattr(&ME, b.nodeid, None).await), Errno::ESTALE);
    });
}

#[test]
fn a_directory_is_not_asked_for_after_each_change() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let directory = fs.mkdir(&ME, ROOT, name("d"), 0o755, 0).await.unwrap();
        let before = fs.getattr(&ME, directory.nodeid, None).await.unwrap();
        let file = fs.mknod(&ME, directory.nodeid, name("f"), 0o100_644, 0, 0).await.unwrap();
        volume.calls();
        let after = fs.getattr(&ME, directory.nodeid, None).await.unwrap();
        assert!(after.attributes.mtime > before.attributes.mtime);
        assert!(after.ttl <= Options::default().attribute_timeout);
        fs.unlink(&ME, directory.nodeid, name("f")).await.unwrap();
        let last = fs.getattr(&ME, directory.nodeid, None).await.unwrap();
        assert!(last.attributes.mtime > after.attributes.mtime);
        assert_eq!(volume.calls(), ["unlink"]);
        assert_eq!(errno(fs.getattr(&ME, file.nodeid, None).await), Errno::ESTALE, "files are asked for");
        assert_eq!(volume.calls(), ["stat", "lookup"]);
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    let (_, fs) = volume(Options::default());
    run(async {
        let (entry, opened) = create(&fs, "a", 0o644).await;
        fs.unlink(&ME, ROOT, name("a")).await.unwrap();
        fs.write(&ME, opened.handle, 0, name("data"), None, false).await.unwrap();
        let found = fs.getattr(&ME, entry.nodeid, None).await.unwrap().attributes;
        assert_eq!((found.size, found.nlink), (4, 0));
        let change = SetAttributes { mode: Some(0o600), size: Some(2), ..SetAttributes::default() };
        let found = fs.setattr(&ME, entry.nodeid, change).await.unwrap().attributes;
        assert_eq!((found.size, found.permissions), (2, 0o600));
    });
}

#[test]
fn what_is_gone_is_stale_after_one_more_look() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, opened) = create(&fs, "a", 0o644).await;
        fs.release(opened.handle);
        fs.table().get(entry.nodeid).unwrap().forget_attributes();
        volume.calls();
        volume.fail("stat", Errno::ESTALE);
        assert!(fs.getattr(&ME, entry.nodeid, None).await.is_ok(), "it had only moved");
        assert_eq!(volume.calls(), ["stat", "lookup", "stat"]);
        fs.unlink(&ME, ROOT, name("a")).await.unwrap();
        volume.calls();
        assert_eq!(errno(fs.getattr(&ME, entry.nodeid, None).await), Errno::ESTALE);
        assert_eq!(volume.calls(), ["stat", "lookup"]);
        assert_eq!(errno(fs.open(&ME, entry.nodeid, 0).await), Errno::ESTALE);
        assert_eq!(errno(fs.getattr(&ME, 999, None).await), Errno::ESTALE);
        assert_eq!(errno(fs.unlink(&ME, ROOT, name("a")).await), Errno::ENOENT);
    });
}

#[test]
fn a_replaced_name_leads_to_the_new_file() {
    let (volume, fs) = volume(Options::default());
    let other = FileSystem::new(volume.clone(), Options::default());
    run(async {
        let (old, _) = create(&fs, "a", 0o644).await;
        other.unlink(&ME, ROOT, name("a")).await.unwrap();
        let (_, _) = create(&other, "a", 0o600).await;
        let new = fs.lookup(&ME, ROOT, name("a")).await.unwrap().unwrap();
        assert_ne!(new.nodeid, old.nodeid);
        assert_eq!(new.attributes.permissions, 0o600);
        other.unlink(&ME, ROOT, name("a")).await.unwrap();
        assert_eq!(errno(fs.lookup(&ME, ROOT, name("a")).await), Errno::ENOENT);
    });
}

#[test]
fn missing_names_may_be_remembered() {
    let (_, fs) = volume(Options { negative_timeout: Duration::from_secs(3), ..Options::default() });
    assert_eq!(run(fs.lookup(&ME, ROOT, name("none"))).unwrap(), None);
}

#[test]
fn a_read_only_mount_changes_nothing() {
    let (volume, fs) = volume(Options { read_only: true, ..Options::default() });
    run(async {
        assert_eq!(errno(fs.mkdir(&ME, ROOT, name("d"), 0o755, 0).await), Errno::EROFS);
        assert_eq!(errno(fs.unlink(&ME, ROOT, name("d")).await), Errno::EROFS);
        let chmod = SetAttributes { mode: Some(0o777), ..SetAttributes::default() };
        assert_eq!(errno(fs.setattr(&ME, ROOT, chmod).await), Errno::EROFS);
        assert!(volume.calls().is_empty());
    });
}
