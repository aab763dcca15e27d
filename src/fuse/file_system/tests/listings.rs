//! Directories.

use super::*;

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

/// The next `room` entries behind `offset`, with attributes.
async fn next(fs: &FileSystem, handle: u64, offset: u64, room: usize) -> Vec<Listed> {
    let mut seen = Vec::new();
    let listing = fs.list(&ME, handle, offset, true).await.unwrap();
    fs.deliver(listing, true, |found| {
        let fits = seen.len() < room;
        if fits {
            seen.push(found.clone());
        }
        fits
    });
    seen
}

fn names(found: &[Listed]) -> Vec<&[u8]> {
    found.iter().map(|found| found.name.as_ref()).collect()
}

#[test]
fn what_comes_next_is_asked_for_meanwhile() {
    let (volume, fs) = volume(Options::default());
    run(async {
        for number in 0..20 {
            create(&fs, &format!("f{number:02}"), 0o644).await;
        }
        let handle = fs.opendir(&ME, ROOT, 0).await.unwrap().handle;
        volume.calls();
        assert_eq!(next(&fs, handle, 0, 7).await.len(), 7);
        assert_eq!(volume.calls(), ["readdirp", "readdirp"], "a page and the next");
        assert_eq!(names(&next(&fs, handle, 7000, 7).await)[0], b"f05");
        assert_eq!(volume.calls(), ["readdirp"], "the one after that");
        // What goes wrong ahead is asked for once more when it is wanted.
        volume.fail("readdirp", Errno::EIO);
        assert_eq!(names(&next(&fs, handle, 14_000, 7).await)[0], b"f12");
        assert_eq!(names(&next(&fs, handle, 21_000, 7).await), [b"f19"]);
        assert!(next(&fs, handle, 22_000, 7).await.is_empty());
    });
}

#[test]
fn what_this_mount_did_meanwhile_shows() {
    let (volume, fs) = volume(Options::default());
    run(async {
        for number in 0..20 {
            create(&fs, &format!("f{number:02}"), 0o644).await;
        }
        let (_, opened) = create(&fs, "written", 0o644).await;
        let size = |found: &[Listed], wanted: &[u8]| {
            let found = found.iter().find(|found| found.name == wanted).unwrap();
            found.entry.as_ref().unwrap().attributes.size
        };

        // Attributes: the page with the file was asked for before the write.
        let handle = fs.opendir(&ME, ROOT, 0).await.unwrap().handle;
        next(&fs, handle, 14_000, 2).await;
        fs.write(&ME, opened.handle, 0, name("1234"), None, false).await.unwrap();
        volume.calls();
        let found = next(&fs, handle, 16_000, 7).await;
        assert_eq!(size(&next(&fs, handle, 21_000, 7).await, b"written"), 4);
        assert_eq!(found.len(), 5);
        assert_eq!(volume.calls(), ["lookup"], "for the file that changed, no other");

        // A name that is gone must not come back, not even for the time that the kernel believes in names.
        next(&fs, handle, 0, 4).await;
        fs.unlink(&ME, ROOT, name("f03")).await.unwrap();
        let rest = next(&fs, handle, 4000, 7).await;
        assert_eq!(names(&rest)[..2], [b"f02", b"f04"]);
        let moved = (ROOT, name("f06"));
        fs.rename(&ME, moved, (ROOT, name("f19")), RenameMode::Replace).await.unwrap();
        assert_eq!(names(&next(&fs, handle, 6000, 7).await)[..2], [b"f05", b"f07"]);
    });
}

#[test]
fn later_attributes_are_not_replaced_by_listed_ones() {
    let (volume, fs) = volume(Options::default());
    run(async {
        let (entry, _) = create(&fs, "f", 0o644).await;
        let handle = fs.opendir(&ME, ROOT, 0).await.unwrap().handle;
        next(&fs, handle, 0, 1).await;
        let gfid = fs.table().get(entry.nodeid).unwrap().gfid();
        volume.meddle(gfid, |_, data| data.extend(b"12345"));
        assert_eq!(fs.getattr(&ME, entry.nodeid, None).await.unwrap().attributes.size, 5);
        let found = next(&fs, handle, 1000, 7).await;
        assert_eq!(found[1].entry.as_ref().unwrap().attributes.size, 5, "the kernel has seen these");
    });
}

#[test]
fn attributes_that_just_came_are_not_asked_for_again() {
    let (volume, fs) = volume(Options::default());
    let other = FileSystem::new(volume.clone(), Options::default());
    run(async {
        create(&other, "a", 0o644).await;
        let found = list(&fs, ROOT, true, 100).await;
        let node = found.iter().find(|found| found.name == "a").unwrap().ino;
        volume.calls();
        assert_eq!(fs.getattr(&ME, node, None).await.unwrap().attributes.nlink, 1);
        assert_eq!(volume.calls(), [""; 0]);
        let opened = fs.open(&ME, node, libc::O_RDWR).await.unwrap();
        volume.calls();
        fs.getattr(&ME, node, None).await.unwrap();
        assert_eq!(volume.calls(), ["fstat"], "it is open");
        fs.write(&ME, opened.handle, 0, name("abc"), None, false).await.unwrap();
        fs.release(opened.handle);
        volume.calls();
        assert_eq!(fs.getattr(&ME, node, None).await.unwrap().attributes.size, 3);
        assert_eq!(volume.calls(), ["stat"], "this mount has changed it");
    });
}
