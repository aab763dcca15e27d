//! Scenarios on [`super::FileSystem`] over a volume in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::types::LockType;
use rgfs_protocol::{Errno, FileType, Gfid, Time};

use super::*;
use crate::fuse::in_flight::Interrupt;
use crate::fuse::locks::{LockRange, OFFSET_MAX};
use crate::fuse::testing::MemoryVolume;

const ROOT: u64 = 1;
const ME: Caller = Caller { uid: 0, gid: 0, pid: 0, unique: 1 };
const USER: Caller = Caller { uid: 1000, gid: 1000, pid: 0, unique: 2 };

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn volume(options: Options) -> (Arc<MemoryVolume>, Arc<FileSystem>) {
    let volume = MemoryVolume::new();
    (volume.clone(), FileSystem::new(volume, options))
}

fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn create(fs: &FileSystem, text: &str, mode: u32) -> (Entry, Opened) {
    fs.create(&ME, ROOT, name(text), mode | libc::S_IFREG, 0o022, libc::O_RDWR | libc::O_CREAT).await.unwrap()
}

fn errno<T: std::fmt::Debug>(result: FopResult<T>) -> Errno {
    result.unwrap_err().errno
}

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
        assert_eq!(volume.calls(), ["setattr", "writev"], "before the write");
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
fn what_is_gone_is_stale_after_one_more_look() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, opened) = create(&fs, "a", 0o644).await;
        fs.release(opened.handle);
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

/// Lists a directory with a buffer of `room` entries, as the kernel would.
async fn list(fs: &FileSystem, nodeid: u64, plus: bool, room: usize) -> Vec<Listed> {
    let handle = fs.opendir(&ME, nodeid, 0).await.unwrap().handle;
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let before = all.len();
        let listing = fs.list(&ME, handle, offset, plus).await.unwrap();
        fs.deliver(listing, plus, |found| {
            let fits = all.len() - before < room;
            if fits {
                all.push(found.clone());
            }
            fits
        });
        if all.len() == before {
            break;
        }
        offset = all.last().unwrap().offset;
    }
    fs.releasedir(handle);
    all
}

#[test]
fn directories_are_listed() {
    let (volume, fs) = volume(Options::default());
    run(async {
        for number in 0..20 {
            create(&fs, &format!("f{number:02}"), 0o644).await;
        }
        create(&fs, "bare", 0o644).await;
        let counts = |found: &[Listed]| -> Vec<u64> {
            found
                .iter()
                .filter(|found| found.entry.is_some())
                .map(|found| fs.table().get(found.ino).unwrap().lookups())
                .collect()
        };
        for room in [1, 3, 100] {
            let found = list(&fs, ROOT, false, room).await;
            assert_eq!(found.len(), 23);
            assert_eq!(found.iter().filter(|found| found.ino == ROOT).count(), 2, "both dots of the root");
            assert!(found.iter().all(|found| found.entry.is_none()));
        }
        let found = list(&fs, ROOT, true, 3).await;
        assert_eq!(found.len(), 23);
        assert_eq!(found.iter().filter(|found| found.entry.is_none()).count(), 2, "dots are not counted");
        assert_eq!(counts(&found), [2; 21], "one for the create, one for the listing");
        volume.calls();
        list(&fs, ROOT, false, 2).await;
        let asked = volume.calls().iter().filter(|fop| **fop == "readdirp").count();
        assert_eq!(asked, 4, "what does not fit is kept");
    });
}

#[test]
fn a_listing_goes_on_anywhere() {
    let (_, fs) = volume(Options::default());
    run(async {
        for number in 0..10 {
            create(&fs, &format!("f{number}"), 0o644).await;
        }
        let handle = fs.opendir(&ME, ROOT, 0).await.unwrap().handle;
        let first = async |offset| {
            let mut seen = None;
            let listing = fs.list(&ME, handle, offset, false).await.unwrap();
            fs.deliver(listing, false, |found| seen.replace(found.name.clone()).is_none());
            seen
        };
        // `take` refuses the second, which it has seen already.
        assert_eq!(first(0).await.unwrap(), "..");
        assert_eq!(first(5000).await.unwrap(), "f4");
        assert_eq!(first(1000).await.unwrap(), "f0");
        assert_eq!(first(12_000).await, None);
        create(&fs, "g", 0o644).await;
        assert_eq!(first(0).await.unwrap(), "..");
        assert_eq!(first(12_000).await.unwrap(), "g", "rewound");
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

fn whole(kind: LockType) -> LockRange {
    LockRange { start: 0, end: OFFSET_MAX, kind, pid: 9 }
}

#[test]
fn locks_conflict_wait_and_go() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (_, opened) = create(&fs, "a", 0o644).await;
        let handle = opened.handle;
        fs.setlk(&ME, handle, 1, whole(LockType::Write), None).await.unwrap();
        assert_eq!(errno(fs.setlk(&ME, handle, 2, whole(LockType::Read), None).await), Errno::EAGAIN);
        assert_eq!(fs.getlk(&ME, handle, 2, whole(LockType::Read)).await.unwrap().kind, LockType::Write);
        assert_eq!(fs.getlk(&ME, handle, 1, whole(LockType::Read)).await.unwrap().kind, LockType::Unlock);
        let waits = fs.setlk(&ME, handle, 2, whole(LockType::Write), Some(Arc::default()));
        let (waited, released) = tokio::join!(waits, fs.flush(&ME, handle, 1));
        waited.unwrap();
        released.unwrap();
        assert_eq!(volume.locks(), (1, 0));
        let backward = LockRange { start: 9, end: 3, ..whole(LockType::Read) };
        assert_eq!(errno(fs.setlk(&ME, handle, 1, backward, None).await), Errno::EINVAL);
    });
}

/// Polls a future until it waits, then tells, then polls it until it ends.
async fn told<T>(future: impl Future<Output = T>, tell: impl FnOnce()) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
    tell();
    future.await
}

#[test]
fn a_signalled_waiter_leaves_no_lock() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (_, opened) = create(&fs, "a", 0o644).await;
        let handle = opened.handle;
        fs.setlk(&ME, handle, 1, whole(LockType::Write), None).await.unwrap();
        let interrupt = Arc::new(Interrupt::default());
        let waits = fs.setlk(&ME, handle, 2, whole(LockType::Write), Some(interrupt.clone()));
        assert_eq!(errno(told(waits, || interrupt.tell()).await), Errno::EINTR);
        assert_eq!(volume.locks(), (1, 0));
        assert_eq!(volume.calls().iter().filter(|fop| **fop == "fgetxattr").count(), 1);
    });
}

#[test]
fn a_killed_waiter_gets_away_and_a_late_grant_is_returned() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (_, opened) = create(&fs, "a", 0o644).await;
        let handle = opened.handle;
        fs.setlk(&ME, handle, 1, whole(LockType::Write), None).await.unwrap();
        let interrupt = Arc::new(Interrupt::default());
        let waits = fs.setlk(&ME, handle, 2, whole(LockType::Write), Some(interrupt.clone()));
        // The brick does not do as it is asked.
        volume.fail("fgetxattr", Errno::ENOTCONN);
        interrupt.tell();
        assert_eq!(errno(told(waits, || interrupt.abandon()).await), Errno::EINTR);
        assert_eq!(volume.locks(), (1, 1));
        fs.setlk(&ME, handle, 1, whole(LockType::Unlock), None).await.unwrap();
        assert_eq!(volume.locks(), (0, 0), "granted to nobody, and returned");
    });
}
