//! Directories whose owner, mode, xattrs or marks differ between bricks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use anyhow::Result;
use support::tampering::{Bricks, MDS};

use crate::work::Work;
use crate::{Case, home, off_home};

fn directory(work: &Work) -> Result<()> {
    work.has_directory("d")
}

fn look(work: &mut Work) {
    work.stat("d");
    work.get("d", "user.key");
    work.get("d", "user.other");
    work.list("d");
    work.stat("d");
}

fn look_and_change(work: &mut Work) {
    look(work);
    work.chmod("d", 0o710);
    work.set("d", "user.new", "value");
    work.stat("d");
    work.get("d", "user.new");
}

fn at_home(bricks: &Bricks, case: &str) -> Result<(usize, String)> {
    let path = format!("{case}/d");
    Ok((home(bricks, &path)?, path))
}

fn elsewhere(bricks: &Bricks, case: &str) -> Result<(usize, String)> {
    let path = format!("{case}/d");
    Ok((off_home(bricks, &path, 1)?, path))
}

fn chmod(bricks: &Bricks, (brick, path): (usize, String)) -> Result<()> {
    Ok(fs::set_permissions(bricks.path(brick, &path), fs::Permissions::from_mode(0o701))?)
}

pub(crate) fn cases() -> Vec<Case> {
    let case = |name, damage| Case::new(name, directory, damage, look);
    let change = |name, damage| Case::new(name, directory, damage, look_and_change);
    vec![
        case("mode-at-home", |b, c| chmod(b, at_home(b, c)?)),
        case("mode-elsewhere", |b, c| chmod(b, elsewhere(b, c)?)),
        case("owner-at-home", |b, c| {
            let (brick, path) = at_home(b, c)?;
            Ok(chown(b.path(brick, &path), Some(7), Some(8))?)
        }),
        case("owner-elsewhere", |b, c| {
            let (brick, path) = elsewhere(b, c)?;
            Ok(chown(b.path(brick, &path), Some(7), Some(8))?)
        }),
        case("xattr-at-home", |b, c| {
            let (brick, path) = at_home(b, c)?;
            b.set(brick, &path, "user.key", b"changed")
        })
        .but(&["01 get"]),
        case("xattr-elsewhere", |b, c| {
            let (brick, path) = elsewhere(b, c)?;
            b.set(brick, &path, "user.key", b"changed")
        })
        .but(&["01 get"]),
        case("xattr-missed-and-counted", |b, c| {
            let (brick, path) = elsewhere(b, c)?;
            b.unset(brick, &path, "user.key")?;
            b.set(brick, &path, "user.other", b"stale")?;
            let (brick, path) = at_home(b, c)?;
            b.set(brick, &path, MDS, &(-1i32).to_be_bytes())
        })
        .but(&["01 get", "02 get"]),
        case("xattr-removed-and-counted", |b, c| {
            let (brick, path) = at_home(b, c)?;
            b.unset(brick, &path, "user.key")?;
            b.set(brick, &path, MDS, &(-1i32).to_be_bytes())
        })
        .but(&["01 get"]),
        change("no-marker", |b, c| {
            let (brick, path) = at_home(b, c)?;
            b.unset(brick, &path, MDS)
        }),
        change("no-marker-and-mode-elsewhere", |b, c| {
            let (brick, path) = at_home(b, c)?;
            b.unset(brick, &path, MDS)?;
            chmod(b, elsewhere(b, c)?)
        })
        .but(&["00 stat", "04 stat"]),
        change("marker-elsewhere", |b, c| {
            let (brick, path) = at_home(b, c)?;
            b.unset(brick, &path, MDS)?;
            let (brick, path) = elsewhere(b, c)?;
            b.set(brick, &path, MDS, &[0; 4])
        }),
        change("two-markers", |b, c| {
            let (brick, path) = elsewhere(b, c)?;
            b.set(brick, &path, MDS, &[0; 4])
        }),
        change("missing-at-home-and-mode", |b, c| {
            chmod(b, elsewhere(b, c)?)?;
            let (brick, path) = at_home(b, c)?;
            b.forget(brick, &path)
        }),
        change("missing-elsewhere-and-mode", |b, c| {
            chmod(b, at_home(b, c)?)?;
            let (brick, path) = elsewhere(b, c)?;
            b.forget(brick, &path)
        })
        .but(&["00 stat", "04 stat"]),
    ]
}
