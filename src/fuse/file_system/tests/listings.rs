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
