//! A brick more: directories have no range on it until an administrator asks for that by setting an xattr, through either client.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use support::client::{Client, Mount};
use support::cluster::{GlusterdVolume, Mountable};
use support::sandbox::Sandbox;
use support::tampering::Bricks;
use support::{picture, wait};

use crate::differences;
use crate::work::Work;

/// How many bricks there are at first.
const BRICKS: usize = 2;
/// Directories in the root, each with [`FILES`] files.
const DIRECTORIES: [&str; 5] = ["d0", "d0/sub", "d1", "d2", "d3"];
const FILES: usize = 12;
/// A client notices new bricks, and makes directories there as it comes across them.
const NOTICE_LIMIT: Duration = Duration::from_secs(20);

const FIX: &str = "distribute.fix.layout";
const SPREAD: &str = "distribute.directory-spread-count";

/// What is done, with its name. `work` is told the same names for both clients.
type Step = (&'static str, fn(&mut Work));

const STEPS: [Step; 7] = [
    ("nothing-asked-for", |work| {
        work.list(".");
        new_names(work, "d0", "early");
    }),
    ("a-directory", |work| {
        work.set("d0", FIX, "new");
        new_names(work, "d0", "new");
    }),
    ("the-root", |work| {
        work.set(".", FIX, "yes");
        new_names(work, ".", "new");
    }),
    ("a-directory-in-a-directory", |work| {
        work.set("d0/sub", FIX, "");
        new_names(work, "d0/sub", "new");
        new_names(work, "new-made0", "new");
    }),
    ("again", |work| {
        work.set("d0", FIX, "new");
        work.set(".", FIX, "new");
    }),
    ("all", |work| {
        for directory in ["d1", "d2", "d3"] {
            work.set(directory, FIX, "new");
            new_names(work, directory, "new");
        }
    }),
    ("what-makes-no-sense", |work| {
        for count in ["0", "4", "two", ""] {
            work.set("d3", SPREAD, count);
        }
        work.set("nothing", FIX, "new");
    }),
];

fn new_names(work: &mut Work, directory: &str, prefix: &str) {
    for number in 0..FILES {
        work.write(&format!("{directory}/{prefix}{number}"));
    }
    work.mkdir(&format!("{directory}/{prefix}-made0"));
}

/// What is on the bricks, without two things. Whether the directory is settled: rgfs says no when it has changed ranges, and the C client
/// leaves what was there, so that files off their new homes cannot be found. And the layout of the directory, which the C client sets on
/// a file, too, when it had to create it twice, because of a stale one.
fn drawn(bricks: &Bricks) -> Result<Vec<String>> {
    let mut lines = picture::root(bricks)?;
    for directory in DIRECTORIES {
        lines.extend(picture::below(bricks, directory)?);
    }
    let plain = |line: String| match line.split_once(" dht=") {
        Some((file, _)) if file.contains(": file of ") => file.to_owned(),
        _ => line.replace(" dht=00000001 ", " dht=00000000 "),
    };
    Ok(lines.into_iter().map(plain).collect())
}

/// Adds a brick, and waits until the client has the directories there.
fn grow(volume: &mut GlusterdVolume, mount: &Mount) -> Result<Bricks> {
    let mut work = Work::new(mount.path());
    for directory in DIRECTORIES {
        work.has_directory(directory)?;
        work.has_files(directory, FILES)?;
    }
    volume.add_bricks(1)?;
    let bricks = Bricks::new(volume.name(), volume.bricks());
    wait::until(&format!("{} has the directories on the new brick", mount.client()), NOTICE_LIMIT, || {
        DIRECTORIES.iter().for_each(|directory| work.stat(directory));
        DIRECTORIES.iter().all(|directory| bricks.has(BRICKS, directory))
    })?;
    Ok(bricks)
}

/// Both clients do the same step by step, on volumes of their own.
pub(crate) fn compare(sandbox: &Sandbox) -> Result<()> {
    let mut first = GlusterdVolume::start(sandbox, "ours", BRICKS, &[])?;
    let mut second = first.beside("theirs", BRICKS, &[])?;
    let (ours, theirs) = (first.mount(Client::Rgfs, "ours")?, second.mount(Client::C, "theirs")?);
    let grown = [(grow(&mut first, &ours)?, &ours), (grow(&mut second, &theirs)?, &theirs)];
    let mut report = String::new();
    let mut last: Vec<String> = Vec::new();
    for (name, step) in STEPS {
        let mut told = Vec::new();
        for (bricks, mount) in &grown {
            let mut work = Work::new(mount.path());
            step(&mut work);
            let mut lines = work.answers();
            lines.extend(drawn(bricks)?);
            told.push(lines);
        }
        let [mine, c] = [0, 1].map(|index| told[index].iter().collect::<Vec<_>>());
        let differing = differences(&mine, &c, &[]);
        // What differed already is told once.
        let new = differing.iter().filter(|line| !last.contains(line)).map(String::as_str);
        let new = new.collect::<Vec<_>>().join("\n");
        if !new.is_empty() {
            report += &format!("\n{name}:\n{new}");
        }
        last = differing;
    }
    if !report.is_empty() {
        bail!("rgfs (>) differs from the C client (<):{report}");
    }
    for spread in 1..=3 {
        spread_over(&grown[0].0, &ours, spread)?;
    }
    all_is_found(&ours)?;
    ours.unmount()?;
    theirs.unmount()?;
    for (client, name) in [(Client::C, "c-after"), (Client::Rgfs, "rgfs-after")] {
        let mount = first.mount(client, name)?;
        all_is_found(&mount)?;
        mount.unmount()?;
    }
    Ok(())
}

/// Only rgfs does this; the C client reads the number, and deals the ranges out among all.
fn spread_over(bricks: &Bricks, mount: &Mount, spread: usize) -> Result<()> {
    let mut work = Work::new(mount.path());
    work.set("d1", SPREAD, &spread.to_string());
    let mut taken: Vec<(u32, u32)> = Vec::new();
    for brick in bricks.all() {
        let [_, _, start, stop] = bricks.layout(brick, "d1")?.context("d1 has no range")?;
        taken.extend((start != stop).then_some((start, stop)));
    }
    taken.sort_unstable();
    let is_ring = taken.windows(2).all(|pair| pair[0].1.checked_add(1) == Some(pair[1].0));
    let (first, last) = (taken.first().map(|range| range.0), taken.last().map(|range| range.1));
    let whole = taken.len() == spread && is_ring && (first, last) == (Some(0), Some(u32::MAX));
    ensure!(whole, "{:?}, and the ranges are {taken:x?}", work.answers());
    Ok(())
}

/// Files that were there are found, though their homes are others now; so are new ones. No name can be made twice.
fn all_is_found(mount: &Mount) -> Result<()> {
    for directory in DIRECTORIES {
        for name in ["f", "new"].into_iter().flat_map(|name| (0..FILES).map(move |number| format!("{name}{number}"))) {
            let path = mount.join(directory).join(&name);
            let twice = File::create_new(&path).err().map(|error| error.kind());
            ensure!(twice == Some(ErrorKind::AlreadyExists), "{} makes {directory}/{name} again", mount.client());
            let found =
                fs::read_to_string(&path).with_context(|| format!("{} reads {directory}/{name}", mount.client()))?;
            let expected = match name.strip_prefix('f') {
                Some(number) => format!("content {number}"),
                None => format!("written to {directory}/{name}"),
            };
            ensure!(found == expected, "{} reads {found:?} from {directory}/{name}", mount.client());
        }
    }
    Ok(())
}
