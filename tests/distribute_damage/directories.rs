//! Directories that are missing, twice there, something else, or without a usable layout, on some bricks.

use anyhow::Result;
use support::tampering::{Bricks, LAYOUT};

use crate::work::Work;
use crate::{BRICKS, Case, home, off_home, planted};

/// How many files lie in a directory whose layout is damaged.
const FILES: usize = 8;

fn directory(work: &Work) -> Result<()> {
    work.has_directory("d")?;
    work.has_directory("d/s")
}

fn directory_with_files(work: &Work) -> Result<()> {
    work.has_directory("d")?;
    work.has_files("d", FILES)
}

fn look(work: &mut Work) {
    work.stat("d");
    work.get("d", "user.key");
    work.list("d");
    work.stat("d/s");
    work.list(".");
    work.create("d/new");
    work.mkdir("d/s/new");
    work.list("d");
}

fn list_first(work: &mut Work) {
    work.list(".");
    work.list("d");
    work.list("d/s");
    work.list(".");
}

fn look_at_files(work: &mut Work) {
    work.stat("d");
    work.list("d");
    for number in 0..FILES {
        work.read(&format!("d/f{number}"));
    }
    for number in 0..FILES {
        work.create(&format!("d/new{number}"));
    }
    work.stat("d/nothing");
    work.mkdir("d/made");
    work.list("d");
}

fn on_one(bricks: &Bricks, case: &str, change: impl Fn(usize, [u32; 4]) -> Option<[u32; 4]>) -> Result<()> {
    let path = format!("{case}/d");
    for brick in bricks.all() {
        if let Some(layout) = bricks.layout(brick, &path)?
            && let Some(changed) = change(brick, layout)
        {
            bricks.set_layout(brick, &path, changed)?;
        }
    }
    Ok(())
}

/// Makes `d` on one brick something that others do not have.
fn split(work: &mut Work) {
    work.stat("d");
    work.list("d");
    work.list(".");
    work.create("d/new");
    work.mkdir("d/made");
    work.mkdir("d");
    work.create("d");
    work.rename("d", "e");
    work.rmdir("d");
    work.unlink("d");
    work.list(".");
}

pub(crate) fn cases() -> Vec<Case> {
    let case = Case::new;
    vec![
        case("missing-at-home", directory, |b, c| b.forget(home(b, &format!("{c}/d"))?, &format!("{c}/d")), look),
        case(
            "missing-elsewhere",
            directory,
            |b, c| b.forget(off_home(b, &format!("{c}/d"), 1)?, &format!("{c}/d")),
            look,
        ),
        case(
            "only-at-home",
            directory,
            |b, c| (1..BRICKS).try_for_each(|step| b.forget(off_home(b, &format!("{c}/d"), step)?, &format!("{c}/d"))),
            look,
        ),
        case(
            "only-elsewhere",
            directory,
            |b, c| {
                [0, 2].iter().try_for_each(|step| b.forget(off_home(b, &format!("{c}/d"), *step)?, &format!("{c}/d")))
            },
            look,
        ),
        case(
            "listed-missing-at-home",
            directory,
            |b, c| b.forget(home(b, &format!("{c}/d"))?, &format!("{c}/d")),
            list_first,
        ),
        case(
            "listed-only-elsewhere",
            directory,
            |b, c| {
                [0, 2].iter().try_for_each(|step| b.forget(off_home(b, &format!("{c}/d"), *step)?, &format!("{c}/d")))
            },
            list_first,
        ),
        case(
            "planted-on-one-without-gfid",
            |_| Ok(()),
            |b, c| b.plant_directory(off_home(b, &format!("{c}/d"), 1)?, &format!("{c}/d"), None),
            look,
        ),
        case(
            "planted-at-home-without-gfid",
            |_| Ok(()),
            |b, c| b.plant_directory(home(b, &format!("{c}/d"))?, &format!("{c}/d"), None),
            look,
        )
        .but(&["planted-at-home-without-gfid/d on 0"]),
        case("no-layout-on-one", directory_with_files, |b, c| b.unset(1, &format!("{c}/d"), LAYOUT), look_at_files),
        case(
            "no-layout-beside-a-whole-ring",
            directory_with_files,
            |b, c| {
                b.unset(1, &format!("{c}/d"), LAYOUT)?;
                let halves = [(0, 0x7fff_ffff), (0x8000_0000, u32::MAX)];
                on_one(b, c, |brick, [hash, kind, ..]| {
                    let (start, stop) = halves[usize::from(brick == 2)];
                    Some([hash, kind, start, stop])
                })
            },
            look_at_files,
        )
        .but(&["no-layout-beside-a-whole-ring/d on 1"]),
        case(
            "half-made",
            directory,
            |b, c| b.forget_handle(off_home(b, &format!("{c}/d"), 1)?, &format!("{c}/d")),
            look,
        ),
        case(
            "half-made-listed",
            directory,
            |b, c| b.forget_handle(off_home(b, &format!("{c}/d"), 1)?, &format!("{c}/d")),
            list_first,
        )
        .but(&["01 list"]),
        case(
            "no-layout",
            directory_with_files,
            |b, c| b.all().try_for_each(|brick| b.unset(brick, &format!("{c}/d"), LAYOUT)),
            look_at_files,
        ),
        case(
            "hole",
            directory_with_files,
            |b, c| {
                on_one(b, c, |brick, [hash, kind, start, stop]| (brick == 0).then_some([hash, kind, start, stop - 9]))
            },
            look_at_files,
        ),
        case(
            "overlap",
            directory_with_files,
            |b, c| {
                on_one(b, c, |_, [hash, kind, start, stop]| {
                    (start == 0).then_some([hash, kind, start, stop.saturating_add(0x1000_0000)])
                })
            },
            look_at_files,
        ),
        case(
            "no-layout-and-a-range-of-all",
            directory_with_files,
            |b, c| {
                b.unset(1, &format!("{c}/d"), LAYOUT)?;
                on_one(b, c, |brick, [hash, kind, ..]| {
                    Some(if brick == 0 { [hash, kind, 0, u32::MAX] } else { [hash, kind, 0, 0] })
                })
            },
            look_at_files,
        )
        .but(&["03 read", "04 read", "06 read", "07 read", "no-layout-and-a-range-of-all/d on 1"]),
        case(
            "hole-set-by-a-user",
            directory_with_files,
            |b, c| {
                on_one(b, c, |brick, [hash, _, start, stop]| {
                    Some([hash, 1, start, if brick == 0 { stop - 9 } else { stop }])
                })
            },
            look_at_files,
        ),
        case(
            "unknown-layout-type",
            directory_with_files,
            |b, c| on_one(b, c, |brick, [hash, _, start, stop]| (brick == 2).then_some([hash, 7, start, stop])),
            look_at_files,
        ),
        case("short-layout", directory_with_files, |b, c| b.set(2, &format!("{c}/d"), LAYOUT, b"short"), look_at_files),
        case(
            "another-commit-hash",
            directory_with_files,
            |b, c| on_one(b, c, |brick, [_, kind, start, stop]| (brick == 0).then_some([0x1234, kind, start, stop])),
            look_at_files,
        ),
        case(
            "another-gfid-at-home",
            |work| work.has_directory("d"),
            |b, c| b.change_gfid(home(b, &format!("{c}/d"))?, &format!("{c}/d"), planted(c)),
            split,
        )
        .but(&["03 create", "04 mkdir", "another-gfid-at-home/e/made", "another-gfid-at-home/e/new"]),
        case(
            "another-gfid-elsewhere",
            |work| work.has_directory("d"),
            |b, c| b.change_gfid(off_home(b, &format!("{c}/d"), 1)?, &format!("{c}/d"), planted(c)),
            split,
        )
        .but(&["03 create", "04 mkdir", "another-gfid-elsewhere/e/made", "another-gfid-elsewhere/e/new"]),
        case(
            "file-at-home",
            |work| work.has_directory("d"),
            |b, c| {
                let (path, brick) = (format!("{c}/d"), home(b, &format!("{c}/d"))?);
                b.forget(brick, &path)?;
                b.plant_file(brick, &path, Some(planted(c)), "a file")
            },
            split,
        )
        // Of a file and a directory with one name the C client sees the one that the last brick to answer tells of: what becomes of it
        // differs from run to run.
        .but(&["07", "08", "09", "10", "file-at-home/d on", "file-at-home/e on"]),
        case(
            "file-elsewhere",
            |work| work.has_directory("d"),
            |b, c| {
                let (path, brick) = (format!("{c}/d"), off_home(b, &format!("{c}/d"), 1)?);
                b.forget(brick, &path)?;
                b.plant_file(brick, &path, Some(planted(c)), "a file")
            },
            split,
        )
        .but(&["03", "04", "05", "06", "07", "08", "09", "10", "file-elsewhere/d on", "file-elsewhere/e on"]),
    ]
}

/// A linkto in the place of a directory. The C client asks all bricks in turn for a directory and for a file, without end.
pub(crate) fn linktos() -> Vec<Case> {
    fn replaced(bricks: &Bricks, case: &str, steps: usize) -> Result<()> {
        let (path, brick) = (format!("{case}/d"), off_home(bricks, &format!("{case}/d"), steps)?);
        bricks.forget(brick, &path)?;
        bricks.plant_linkto(brick, &path, planted(case), &bricks.subvolume((brick + 1) % BRICKS))
    }
    let before = |work: &Work| work.has_directory("d");
    vec![
        Case::new("linkto-at-home-of-a-directory", before, |b, c| replaced(b, c, 0), split),
        Case::new("linkto-elsewhere-of-a-directory", before, |b, c| replaced(b, c, 1), split),
    ]
}
