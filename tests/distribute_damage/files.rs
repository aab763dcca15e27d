//! Files off their place, linktos that lead nowhere or elsewhere, files that are twice there; and directories with such leftovers.

use anyhow::Result;
use support::tampering::Bricks;

use crate::work::Work;
use crate::{Case, home, planted};

/// A path with its home brick and the two others.
fn place(bricks: &Bricks, case: &str) -> Result<(String, usize, usize, usize)> {
    let path = format!("{case}/d/f");
    let home = home(bricks, &path)?;
    Ok((path, home, (home + 1) % 3, (home + 2) % 3))
}

fn nothing(work: &Work) -> Result<()> {
    work.has_directory("d")
}

fn file(work: &Work) -> Result<()> {
    work.has_directory("d")?;
    work.has_file("d/f")
}

/// Looks first, and then makes what is not there.
fn look(work: &mut Work) {
    work.stat("d/f");
    work.stat("d/f");
    work.read("d/f");
    work.list("d");
    work.create("d/f");
    work.write("d/f");
    work.read("d/f");
    work.list("d");
}

/// The same after a listing.
fn list_first(work: &mut Work) {
    work.list("d");
    look(work);
}

fn make(work: &mut Work) {
    work.create("d/f");
    work.list("d");
    work.stat("d/f");
}

fn remove(work: &mut Work) {
    work.unlink("d/f");
    work.list("d");
    work.stat("d/f");
    work.rmdir("d");
    work.list(".");
}

fn remove_directory(work: &mut Work) {
    work.rmdir("d");
    work.list(".");
    work.list("d");
}

fn rename(work: &mut Work) {
    work.rename("d/f", "d/g");
    work.read("d/g");
    work.list("d");
    work.stat("d/f");
}

fn off_its_place(bricks: &Bricks, case: &str) -> Result<()> {
    let (path, home, other, _) = place(bricks, case)?;
    bricks.move_file(home, other, &path)
}

fn stale_linkto(bricks: &Bricks, case: &str) -> Result<()> {
    let (path, home, other, _) = place(bricks, case)?;
    bricks.plant_linkto(home, &path, planted(case), &bricks.subvolume(other))
}

fn linkto_off_its_place(bricks: &Bricks, case: &str) -> Result<()> {
    let (path, _, other, third) = place(bricks, case)?;
    bricks.plant_linkto(other, &path, planted(case), &bricks.subvolume(third))
}

/// The file is off its place, and its home has a linkto to `target`, with another gfid or the right one.
fn linked(bricks: &Bricks, case: &str, right: bool, target: impl Fn(usize, usize, usize) -> String) -> Result<()> {
    let (path, home, other, third) = place(bricks, case)?;
    let gfid = bricks.gfid(&path)?;
    bricks.move_file(home, other, &path)?;
    bricks.plant_linkto(home, &path, if right { gfid } else { planted(case) }, &target(home, other, third))
}

/// What a brick leaves that is killed in the middle of a CREATE: it finds the file by name, and not by gfid.
fn half_made(bricks: &Bricks, case: &str) -> Result<()> {
    let (path, home, ..) = place(bricks, case)?;
    bricks.forget_handle(home, &path)
}

pub(crate) fn cases() -> Vec<Case> {
    let case = Case::new;
    vec![
        case("off-place", file, off_its_place, look),
        case("off-place-listed", file, off_its_place, list_first).but(&[
            "01",
            "02",
            "03",
            "05",
            "08",
            "off-place-listed/d/f",
        ]),
        // A brick makes it whole when the first that it hears of it is its name.
        case("half-made", file, half_made, look),
        case("half-made-listed", file, half_made, |work| {
            list_first(work);
            remove(work);
        })
        .but(&["03 read"]),
        case("off-place-made", file, off_its_place, make).but(&["02"]),
        case("off-place-removed", file, off_its_place, remove),
        case("off-place-renamed", file, off_its_place, rename).but(&["off-place-renamed/d/f on", "03"]),
        case("stale-linkto", nothing, stale_linkto, look),
        case("stale-linkto-made", nothing, stale_linkto, make),
        case("stale-linkto-rmdir", nothing, stale_linkto, remove_directory),
        case("linkto-off-place", nothing, linkto_off_its_place, look),
        case("linkto-off-place-made", nothing, linkto_off_its_place, make).but(&["linkto-off-place-made/d/f on"]),
        case("linkto-off-place-rmdir", nothing, linkto_off_its_place, remove_directory),
        case(
            "linkto-to-itself",
            nothing,
            |b, c| place(b, c).and_then(|(path, home, ..)| b.plant_linkto(home, &path, planted(c), &b.subvolume(home))),
            look,
        ),
        case(
            "linkto-to-itself-rmdir",
            nothing,
            |b, c| place(b, c).and_then(|(path, home, ..)| b.plant_linkto(home, &path, planted(c), &b.subvolume(home))),
            remove_directory,
        ),
        case(
            "linkto-to-unknown",
            nothing,
            |b, c| place(b, c).and_then(|(path, home, ..)| b.plant_linkto(home, &path, planted(c), "nobody")),
            look,
        )
        .but(&["04", "05", "06", "07", "linkto-to-unknown/d/f"]),
        case(
            "linkto-to-unknown-rmdir",
            nothing,
            |b, c| place(b, c).and_then(|(path, home, ..)| b.plant_linkto(home, &path, planted(c), "nobody")),
            remove_directory,
        ),
        case(
            "linktos-in-a-ring",
            nothing,
            |b, c| {
                let (path, home, other, _) = place(b, c)?;
                b.plant_linkto(home, &path, planted(c), &b.subvolume(other))?;
                b.plant_linkto(other, &path, planted(c), &b.subvolume(home))
            },
            look,
        ),
        case(
            "linktos-in-a-ring-rmdir",
            nothing,
            |b, c| {
                let (path, home, other, _) = place(b, c)?;
                b.plant_linkto(home, &path, planted(c), &b.subvolume(other))?;
                b.plant_linkto(other, &path, planted(c), &b.subvolume(home))
            },
            remove_directory,
        ),
        case("linked", file, |b, c| linked(b, c, true, |_, other, _| b.subvolume(other)), look),
        case("linked-removed", file, |b, c| linked(b, c, true, |_, other, _| b.subvolume(other)), remove),
        case("linked-rmdir", file, |b, c| linked(b, c, true, |_, other, _| b.subvolume(other)), remove_directory),
        case("linked-renamed", file, |b, c| linked(b, c, true, |_, other, _| b.subvolume(other)), rename),
        case("linked-elsewhere", file, |b, c| linked(b, c, true, |_, _, third| b.subvolume(third)), look),
        case("linked-to-unknown", file, |b, c| linked(b, c, true, |_, _, _| "nobody".to_owned()), look)
            .but(&["linked-to-unknown/d/f on 2"]),
        case("linked-with-another-gfid", file, |b, c| linked(b, c, false, |_, other, _| b.subvolume(other)), look)
            .but(&["0", "linked-with-another-gfid/d/f on"]),
        case(
            "linked-with-another-gfid-removed",
            file,
            |b, c| linked(b, c, false, |_, other, _| b.subvolume(other)),
            remove,
        )
        .but(&["0", "linked-with-another-gfid-removed/d"]),
        case(
            "linked-elsewhere-with-another-gfid",
            file,
            |b, c| linked(b, c, false, |_, _, third| b.subvolume(third)),
            look,
        ),
        case(
            "at-home-and-linkto-elsewhere",
            file,
            |b, c| {
                let (path, _, other, third) = place(b, c)?;
                b.plant_linkto(other, &path, b.gfid(&path)?, &b.subvolume(third))
            },
            look,
        ),
        case(
            "twice",
            file,
            |b, c| {
                let (path, _, other, _) = place(b, c)?;
                b.plant_file(other, &path, Some(b.gfid(&path)?), "another content")
            },
            look,
        )
        .but(&["twice/d/f"]),
        case(
            "twice-with-another-gfid",
            file,
            |b, c| {
                let (path, _, other, _) = place(b, c)?;
                b.plant_file(other, &path, Some(planted(c)), "another content")
            },
            look,
        )
        .but(&["twice-with-another-gfid/d/f"]),
        case(
            "planted-without-gfid",
            nothing,
            |b, c| place(b, c).and_then(|(path, home, ..)| b.plant_file(home, &path, None, "planted")),
            look,
        ),
    ]
}

/// A file that nobody looks for off its place as long as the layout is trusted. The C client looks for such a file without end.
pub(crate) fn without_gfid() -> Case {
    Case::new(
        "planted-off-place-without-gfid",
        nothing,
        |b, c| place(b, c).and_then(|(path, _, other, _)| b.plant_file(other, &path, None, "planted")),
        list_first,
    )
    .but(&["00", "04"])
}
