//! A subvolume of a distribute volume goes away and comes back while names are made and renamed: none is lost, none is there twice,
//! the layouts are whole afterwards, and the C client and rgfs see the same tree. While it is away, operations fail as with the C client.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Error;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rgfs::translators::cluster::distribute::hash;
use rustix::io::Errno;
use support::backends::read_attributes;
use support::client::{Client, Mount};
use support::cluster::{GlusterdVolume, Mountable};
use support::sandbox::{Sandbox, scenario};
use support::tampering::{Bricks, LINKTO};
use support::wait;

const BRICKS: usize = 3;
/// How often each brick goes away and comes back.
const ROUNDS: usize = 2;
/// How long a client may take to notice that a brick has gone or is back.
const LIMIT: Duration = Duration::from_secs(30);
/// What each worker does at least while a brick is away, and again when it is back.
const STEPS: usize = 40;

/// The brick whose range in `directory` has the hash of `name`.
fn home(bricks: &Bricks, directory: &str, name: &str) -> Result<usize> {
    let hash = hash::hash(name.as_bytes());
    for brick in bricks.all() {
        if let Some([_, _, start, stop]) = bricks.layout(brick, directory)?
            && start != stop
            && (start..=stop).contains(&hash)
        {
            return Ok(brick);
        }
    }
    bail!("{directory}/{name} hashes to no brick")
}

/// A name that begins with `prefix` and has its home on `brick`.
fn name_at(bricks: &Bricks, directory: &str, prefix: &str, brick: usize) -> Result<String> {
    for number in 0..1000 {
        let name = format!("{prefix}{number}");
        if home(bricks, directory, &name)? == brick {
            return Ok(name);
        }
    }
    bail!("no name for brick {brick}")
}

fn says(result: Result<(), Error>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(error) => Errno::from_io_error(&error).map_or(error.to_string(), |errno| format!("{errno}")),
    }
}

/// What one worker knows of its names: which must be there, and of which it cannot tell.
#[derive(Debug, Default)]
struct Known {
    there: BTreeMap<String, bool>,
    either: Vec<[String; 2]>,
    unclear: BTreeSet<String>,
    errors: BTreeMap<String, usize>,
}

impl Known {
    fn failed(&mut self, what: &str, error: &Error) {
        *self
            .errors
            .entry(format!("{what}: {}", says(Err(Error::from_raw_os_error(error.raw_os_error().unwrap_or(0))))))
            .or_default() += 1;
    }
}

/// Makes files and directories and renames them, until told to stop.
fn work(root: &Path, worker: usize, stop: &AtomicBool, steps: &[AtomicBool]) -> Known {
    let mut known = Known::default();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if let Some(step) = steps.get(number) {
            step.store(true, Ordering::Relaxed);
        }
        let (name, directory) = (format!("w{worker}-{number}"), number % 4 == 3);
        let made = if directory { fs::create_dir(root.join(&name)) } else { fs::write(root.join(&name), &name) };
        match made {
            Ok(()) => {}
            Err(error) => {
                known.failed(if directory { "mkdir" } else { "create" }, &error);
                known.unclear.insert(name);
                continue;
            }
        }
        if number % 3 != 0 {
            known.there.insert(name, directory);
            continue;
        }
        let new = format!("r{worker}-{number}");
        match fs::rename(root.join(&name), root.join(&new)) {
            Ok(()) => drop(known.there.insert(new, directory)),
            Err(error) => {
                known.failed(if directory { "rename of a directory" } else { "rename" }, &error);
                known.either.push([name, new]);
            }
        }
    }
    known
}

/// What each brick has of a path, for messages: the kind and mode, and what makes it this object and no other.
fn on_bricks(bricks: &Bricks, path: &str) -> String {
    let one = |brick: usize| -> Result<String> {
        let place = bricks.path(brick, path);
        let Ok(stat) = fs::symlink_metadata(&place) else { return Ok("nothing".to_owned()) };
        let mut told = format!("mode {:o}, {} bytes, {} links", stat.mode(), stat.len(), stat.nlink());
        for (key, value) in read_attributes(&place)? {
            told += &match key.as_str() {
                LINKTO => format!(", {key}={}", String::from_utf8_lossy(&value)),
                _ => format!(", {key}={}", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            };
        }
        Ok(told)
    };
    let lines = bricks.all().map(|brick| {
        let told = one(brick).unwrap_or_else(|error| format!("{error:#}"));
        format!("\n  brick {brick}: {told}")
    });
    format!("{path} on the bricks:{}", lines.collect::<String>())
}

/// Kills a brick, and removes from it what it was just making and cannot find by gfid: after a listing such a name is ESTALE to every
/// client (`half-made-listed` in `tests/distribute_damage/`), until somebody removes it. Nobody was told that it was made.
fn kill(volume: &GlusterdVolume, bricks: &Bricks, victim: usize) -> Result<()> {
    volume.kill_brick(victim)?;
    for name in bricks.half_made(victim, "d")? {
        println!("half made when the brick died: {}", on_bricks(bricks, &name));
        let path = bricks.path(victim, &name);
        ensure!(path.is_dir() || fs::symlink_metadata(&path)?.len() == 0, "{name} has content");
        if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) }.context(name)?;
    }
    Ok(())
}

/// All below a mount, with what kind it is, and the content of files.
fn tree(mount: &Mount, directory: &str, bricks: &Bricks) -> Result<BTreeMap<String, String>> {
    let root = &mount.join(directory);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let told = |step: &str| {
            format!("{step} {name} by {}; {}", mount.client(), on_bricks(bricks, &format!("{directory}/{name}")))
        };
        let shown = match fs::symlink_metadata(entry.path()).with_context(|| told("stat of"))?.is_dir() {
            true => {
                ensure!(
                    fs::read_dir(entry.path()).with_context(|| told("list of"))?.next().is_none(),
                    "{name} is not empty"
                );
                "directory".to_owned()
            }
            false => fs::read_to_string(entry.path()).with_context(|| told("read of"))?,
        };
        ensure!(found.insert(name.clone(), shown).is_none(), "{name} is listed twice");
    }
    Ok(found)
}

/// That no file is on two bricks, and each directory on all, with ranges that cover the ring once.
fn check_bricks(bricks: &Bricks, directory: &str) -> Result<()> {
    for name in bricks.names_below(directory)? {
        let holders: Vec<usize> = bricks.all().filter(|brick| bricks.has(*brick, &name)).collect();
        if bricks.path(holders[0], &name).is_dir() {
            ensure!(holders.len() == BRICKS, "{}", on_bricks(bricks, &name));
            let mut ranges = Vec::new();
            for brick in bricks.all() {
                let [_, _, start, stop] = bricks
                    .layout(brick, &name)?
                    .with_context(|| format!("no layout on brick {brick}; {}", on_bricks(bricks, &name)))?;
                if start != stop {
                    ranges.push((u64::from(start), u64::from(stop)));
                }
            }
            ranges.sort_unstable();
            let end = ranges.iter().try_fold(0, |next, (start, stop)| (*start == next).then_some(stop + 1));
            ensure!(end == Some(1 << 32), "the ranges are {ranges:x?}; {}", on_bricks(bricks, &name));
            continue;
        }
        let is_linkto = |brick: usize| -> Result<bool> {
            let mode = fs::symlink_metadata(bricks.path(brick, &name))?.mode();
            Ok(mode & 0o7777 == 0o1000 && bricks.attribute(brick, &name, LINKTO)?.is_some())
        };
        let mut data = 0;
        for brick in holders {
            data += usize::from(!is_linkto(brick)?);
        }
        ensure!(data <= 1, "{data} files; {}", on_bricks(bricks, &name));
    }
    Ok(())
}

fn comes_and_goes(sandbox: &Sandbox) -> Result<()> {
    let volume = GlusterdVolume::start(sandbox, "v", BRICKS, &[])?;
    let bricks = Bricks::new(volume.name(), volume.bricks());
    let mount = volume.mount(Client::Rgfs, "work")?;
    let root = mount.join("d");
    fs::create_dir(&root)?;
    // One file on each brick tells whether the client reaches it.
    let mut marks = Vec::new();
    for brick in bricks.all() {
        let name = name_at(&bricks, "d", "mark", brick)?;
        fs::write(root.join(&name), &name)?;
        marks.push(name);
    }
    let reaches = |brick: usize| fs::read(root.join(&marks[brick])).is_ok();

    let mut all = Known::default();
    for round in 0..ROUNDS * BRICKS {
        let victim = round % BRICKS;
        let stop = AtomicBool::new(false);
        let progress = |from: usize| (0..from).map(|_| AtomicBool::new(false)).collect::<Vec<_>>();
        let (first, second) = (progress(STEPS), progress(STEPS));
        let known = std::thread::scope(|scope| -> Result<Vec<Known>> {
            let ends = [(0, &first), (1, &second)].map(|(worker, steps)| {
                let (root, stop) = (&root, &stop);
                scope.spawn(move || work(root, round * 10 + worker, stop, steps))
            });
            let outcome = (|| {
                let half = |steps: &[AtomicBool], at: usize| steps[at].load(Ordering::Relaxed);
                wait::until("work has begun", LIMIT, || half(&first, 5) && half(&second, 5))?;
                kill(&volume, &bricks, victim)?;
                wait::until("the brick is missed", LIMIT, || !reaches(victim))?;
                wait::until("work goes on without it", LIMIT, || half(&first, STEPS - 1) && half(&second, STEPS - 1))?;
                volume.restart_bricks()?;
                wait::until("the brick is back", LIMIT, || reaches(victim)).map(drop)
            })();
            stop.store(true, Ordering::Relaxed);
            let known = ends.into_iter().map(|end| end.join().unwrap_or_default()).collect();
            outcome.map(|()| known)
        })?;
        for one in known {
            all.there.extend(one.there);
            all.either.extend(one.either);
            all.unclear.extend(one.unclear);
            for (error, count) in one.errors {
                *all.errors.entry(error).or_default() += count;
            }
        }
    }
    println!("{} names made, errors: {:?}", all.there.len(), all.errors);
    mount.unmount()?;

    // Fresh clients look at everything twice: the first look heals.
    let ours = volume.mount(Client::Rgfs, "ours")?;
    tree(&ours, "d", &bricks)?;
    let mine = tree(&ours, "d", &bricks)?;
    let theirs = volume.mount(Client::C, "theirs")?;
    let c = tree(&theirs, "d", &bricks)?;
    ensure!(mine == c, "rgfs and the C client see different trees:\n{mine:?}\n{c:?}");
    for (name, directory) in &all.there {
        let kind =
            mine.get(name).with_context(|| format!("{name} is lost; {}", on_bricks(&bricks, &format!("d/{name}"))))?;
        ensure!((kind == "directory") == *directory, "{name} is {kind}");
    }
    for [old, new] in &all.either {
        ensure!(mine.contains_key(old) || mine.contains_key(new), "{old} is lost, and so is {new}");
    }
    let told: BTreeSet<&String> =
        all.there.keys().chain(&all.unclear).chain(all.either.iter().flatten()).chain(&marks).collect();
    let strange: Vec<_> = mine.keys().filter(|name| !told.contains(name)).collect();
    ensure!(strange.is_empty(), "nobody made {strange:?}");
    check_bricks(&bricks, "d")?;
    theirs.unmount()?;
    ours.unmount()
}

/// What a client answers while brick 1 is away, in the directory `place`; `named` are names by their homes.
fn answers(mount: &Mount, place: &str, bricks: &Bricks) -> Result<Vec<String>> {
    let root = mount.join(place);
    let at = |prefix: &str, brick: usize| name_at(bricks, place, prefix, brick);
    let mut said = Vec::new();
    for brick in [0, 1] {
        let away = if brick == 1 { "away" } else { "here" };
        let mut note = |what: &str, result: Result<(), Error>| said.push(format!("{what} {away}: {}", says(result)));
        note("stat of a file", fs::symlink_metadata(root.join(at("file", brick)?)).map(drop));
        note("read of a file", fs::read(root.join(at("file", brick)?)).map(drop));
        note("stat of nothing", fs::symlink_metadata(root.join(at("nothing", brick)?)).map(drop));
        note("create", File::create_new(root.join(at("new", brick)?)).map(drop));
        note("create without O_EXCL", File::create(root.join(at("other", brick)?)).map(drop));
        note("symlink", std::os::unix::fs::symlink("to", root.join(at("link", brick)?)));
        note("stat of a directory", fs::symlink_metadata(root.join(at("directory", brick)?)).map(drop));
        note("list of a directory", fs::read_dir(root.join(at("directory", brick)?)).map(drop));
        note("mkdir", fs::create_dir(root.join(at("made", brick)?)));
        note("rename of a directory", fs::rename(root.join(at("directory", brick)?), root.join(at("renamed", brick)?)));
        note("rmdir", fs::remove_dir(root.join(at("empty", brick)?)));
        note("rename of a file", fs::rename(root.join(at("moved", brick)?), root.join(at("gone", brick)?)));
        note("rename across", fs::rename(root.join(at("crossed", brick)?), root.join(at("over", 1 - brick)?)));
        note("hard link across", fs::hard_link(root.join(at("linked", brick)?), root.join(at("second", 1 - brick)?)));
        note("unlink", fs::remove_file(root.join(at("removed", brick)?)));
        note(
            "chmod of a directory",
            fs::set_permissions(root.join(at("mode", brick)?), std::os::unix::fs::PermissionsExt::from_mode(0o700)),
        );
    }
    Ok(said)
}

fn says_what_it_cannot_do(sandbox: &Sandbox) -> Result<()> {
    let volume = GlusterdVolume::start(sandbox, "v", BRICKS, &[])?;
    let bricks = Bricks::new(volume.name(), volume.bricks());
    let mounts = [(volume.mount(Client::Rgfs, "ours")?, "ours"), (volume.mount(Client::C, "theirs")?, "theirs")];
    for (mount, place) in &mounts {
        fs::create_dir(mount.join(place))?;
        for brick in [0, 1] {
            for file in ["file", "moved", "crossed", "linked", "removed"] {
                fs::write(mount.join(place).join(name_at(&bricks, place, file, brick)?), "content")?;
            }
            for directory in ["directory", "empty", "mode"] {
                fs::create_dir(mount.join(place).join(name_at(&bricks, place, directory, brick)?))?;
            }
        }
    }
    volume.kill_brick(1)?;
    for (mount, place) in &mounts {
        let probe = mount.join(place).join(name_at(&bricks, place, "file", 1)?);
        wait::until("the brick is missed", LIMIT, || fs::read(&probe).is_err())?;
    }
    let [ours, theirs] = [0, 1].map(|index| answers(&mounts[index].0, mounts[index].1, &bricks));
    let (ours, theirs) = (ours?, theirs?);
    let listed = |(mount, place): &(Mount, &str)| -> Result<BTreeSet<String>> {
        fs::read_dir(mount.join(place))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    println!("listed: {} by rgfs, {} by the C client", listed(&mounts[0])?.len(), listed(&mounts[1])?.len());
    let differing: Vec<String> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours != theirs && !ON_PURPOSE.iter().any(|start| ours.starts_with(start)))
        .map(|(ours, theirs)| format!("  < {theirs}\n  > {ours}"))
        .collect();
    for line in ours.iter().filter(|line| line.contains(" away: ")) {
        // What the brick may have must never be taken for absent: it would be made anew.
        ensure!(!line.ends_with("(os error 2)") || line.starts_with("rename"), "{line}");
    }
    for (mount, _) in mounts {
        mount.unmount()?;
    }
    ensure!(differing.is_empty(), "rgfs (>) differs from the C client (<):\n{}", differing.join("\n"));
    Ok(())
}

/// Answers that differ for a reason that `docs/SEMANTICS.md` gives.
const ON_PURPOSE: [&str; 1] = ["stat of nothing away: "];

#[test]
fn no_name_is_lost_or_doubled() {
    scenario(comes_and_goes);
}

#[test]
fn errors_are_those_of_the_c_client() {
    scenario(says_what_it_cannot_do);
}
