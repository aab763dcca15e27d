//! The root without a usable layout on some bricks. It has no parent whose bricks know better, and no marker: clients begin
//! at it.

use anyhow::{Context, Result, bail};
use support::client::Client;
use support::cluster::{GlusterdVolume, Mountable};
use support::picture;
use support::sandbox::Sandbox;
use support::tampering::{Bricks, LAYOUT};

use crate::work::Work;
use crate::{BRICKS, differences};

/// How many files lie in the root.
const FILES: usize = 8;

/// A kind of damage: its name, and what is done.
type Damage = (&'static str, fn(&Bricks) -> Result<()>);

/// Lines in which rgfs may differ, by their beginning: a file that the damage put off its place is renamed. Its new name gets
/// a linkto at its home from us; from the C client not always.
const ON_PURPOSE: [&str; 1] = ["none-on-one-beside-a-whole-ring-renamed0 on 0: file of 0 bytes 1000"];

fn change(bricks: &Bricks, change: impl Fn(usize, [u32; 4]) -> Option<[u32; 4]>) -> Result<()> {
    for brick in bricks.all() {
        let layout = bricks.layout(brick, "")?.context("the root has no layout before it is damaged")?;
        match change(brick, layout) {
            Some(changed) => bricks.set_layout(brick, "", changed)?,
            None => bricks.unset(brick, "", LAYOUT)?,
        }
    }
    Ok(())
}

const DAMAGES: [Damage; 7] = [
    ("none-on-the-first", |b| change(b, |brick, layout| (brick != 0).then_some(layout))),
    ("none-on-the-second", |b| change(b, |brick, layout| (brick != 1).then_some(layout))),
    ("none-but-on-the-last", |b| change(b, |brick, layout| (brick == 2).then_some(layout))),
    ("none", |b| change(b, |_, _| None)),
    ("none-on-one-beside-a-whole-ring", |b| {
        let halves = [(0, 0x7fff_ffff), (0x8000_0000, u32::MAX)];
        change(b, |brick, [hash, kind, ..]| {
            let (start, stop) = halves[usize::from(brick == 2)];
            (brick != 1).then_some([hash, kind, start, stop])
        })
    }),
    ("hole", |b| {
        change(b, |brick, [hash, kind, start, stop]| Some([hash, kind, start, stop - if brick == 0 { 9 } else { 0 }]))
    }),
    ("short", |b| b.set(2, "", LAYOUT, b"short")),
];

fn name(damage: &str, kind: &str, number: usize) -> String {
    format!("{damage}-{kind}{number}")
}

fn work(work: &mut Work, damage: &str) {
    work.stat(".");
    work.list(".");
    for number in 0..FILES {
        work.read(&name(damage, "file", number));
    }
    for number in 0..FILES {
        work.create(&name(damage, "new", number));
        work.stat(&name(damage, "nothing", number));
        work.mkdir(&name(damage, "made", number));
    }
    work.rename(&name(damage, "file", 0), &name(damage, "renamed", 0));
    work.list(&name(damage, "directory", 0));
    work.unlink(&name(damage, "file", 1));
    work.rmdir(&name(damage, "made", 0));
    work.chmod(".", 0o750);
    work.chmod(".", 0o755);
    work.list(".");
}

/// Damages the roots of two volumes alike, time and again. Nobody has them mounted meanwhile.
pub(crate) fn compare(sandbox: &Sandbox) -> Result<()> {
    let first = GlusterdVolume::start(sandbox, "ours", BRICKS, &[])?;
    let second = first.beside("theirs", BRICKS, &[])?;
    let volumes = [(first, Client::Rgfs), (second, Client::C)];
    let mut report = String::new();
    for (damage, spoil) in DAMAGES {
        let mut told = Vec::new();
        for (volume, client) in &volumes {
            let bricks = Bricks::new(volume.name(), volume.bricks());
            let before = volume.mount(Client::C, &format!("{}-{damage}-before", volume.name()))?;
            let had = Work::new(before.path());
            for number in 0..FILES {
                had.has_file(&name(damage, "file", number))?;
            }
            had.has_directory(&name(damage, "directory", 0))?;
            before.unmount()?;
            let whole = bricks.all().map(|brick| bricks.layout(brick, "")).collect::<Result<Vec<_>>>()?;
            spoil(&bricks).with_context(|| format!("damaging the root: {damage}"))?;

            let mount = volume.mount(*client, &format!("{}-{damage}-after", volume.name()))?;
            let mut done = Work::new(mount.path());
            work(&mut done, damage);
            let mut lines = done.answers();
            mount.unmount()?;
            lines.extend(picture::root(&bricks)?);
            told.push(lines);
            for (brick, layout) in whole.into_iter().enumerate() {
                bricks.set_layout(brick, "", layout.context("the root of a healthy volume has no layout")?)?;
            }
        }
        let [ours, theirs] = [0, 1].map(|index| told[index].iter().collect::<Vec<_>>());
        let differing = differences(&ours, &theirs, &ON_PURPOSE);
        if !differing.is_empty() {
            report += &format!("\n{damage}:\n{}", differing.join("\n"));
        }
    }
    if report.is_empty() { Ok(()) } else { bail!("rgfs (>) differs from the C client (<):{report}") }
}
