//! A distribute volume whose bricks were tampered with: rgfs heals, or refuses, exactly what the C client does.
//!
//! Two volumes are filled alike by the C client, stopped, damaged alike, and started. Then the C client works on one and rgfs on the
//! other. What each operation answered is compared, and what lies on every brick afterwards: names, types, modes, owners, xattrs.
//!
//! Each case has a directory of its own. Where rgfs differs on purpose, the case says so; `docs/SEMANTICS.md` has the reasons.

mod attributes;
mod directories;
mod files;
mod growth;
mod root;
mod work;

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rgfs::translators::cluster::distribute::hash;
use support::client::Client;
use support::cluster::{GlusterdVolume, Mountable};
use support::picture;
use support::sandbox::{Sandbox, scenario};
use support::tampering::{Bricks, Gfid};

use crate::work::Work;

/// How many bricks each volume has.
const BRICKS: usize = 3;
/// Heals of xattrs go on in the background after the answer.
const LIMIT: Duration = Duration::from_secs(5);

/// A client that works longer on one case than this hangs.
const HANG_LIMIT: Duration = Duration::from_secs(30);

/// One kind of damage.
struct Case {
    /// Also the name of its directory.
    name: &'static str,
    /// What is there before; done by the C client.
    before: fn(&Work) -> Result<()>,
    /// What is done to the bricks; gets the case's directory.
    damage: fn(&Bricks, &str) -> Result<()>,
    /// What the clients do then.
    work: fn(&mut Work),
    /// Lines of the report in which rgfs may differ, by the beginning of the line.
    on_purpose: &'static [&'static str],
}

impl Case {
    fn new(
        name: &'static str,
        before: fn(&Work) -> Result<()>,
        damage: fn(&Bricks, &str) -> Result<()>,
        work: fn(&mut Work),
    ) -> Self {
        Self { name, before, damage, work, on_purpose: &[] }
    }

    /// The same, with lines in which rgfs may differ.
    fn but(self, on_purpose: &'static [&'static str]) -> Self {
        Self { on_purpose, ..self }
    }
}

/// The brick to which a path hashes, by what is on the bricks.
fn home(bricks: &Bricks, path: &str) -> Result<usize> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let hash = hash::hash(name.as_bytes());
    for brick in bricks.all() {
        if let Some([_, _, start, stop]) = bricks.layout(brick, parent)?
            && start != stop
            && (start..=stop).contains(&hash)
        {
            return Ok(brick);
        }
    }
    bail!("{path} hashes to no brick")
}

/// A gfid that nothing else has; each case has its own.
fn planted(case: &str) -> Gfid {
    let mut gfid = [0x5d; 16];
    gfid[..4].copy_from_slice(&hash::hash(case.as_bytes()).to_be_bytes());
    gfid
}

/// The brick `steps` after the home of a path.
fn off_home(bricks: &Bricks, path: &str, steps: usize) -> Result<usize> {
    Ok((home(bricks, path)? + steps) % BRICKS)
}

fn compare(sandbox: &Sandbox, options: &[(&str, &str)], cases: &[Case]) -> Result<()> {
    let first = GlusterdVolume::start(sandbox, "ours", BRICKS, &[])?;
    let second = first.beside("theirs", BRICKS, &[])?;
    let volumes = [(first, Client::Rgfs), (second, Client::C)];
    for (volume, _) in &volumes {
        for (key, value) in options {
            volume.set(key, value)?;
        }
        let mount = volume.mount(Client::C, &format!("{}-before", volume.name()))?;
        for case in cases {
            fs::create_dir(mount.join(case.name))?;
            (case.before)(&Work::new(&mount.join(case.name)))?;
        }
        mount.unmount()?;
        volume.stop()?;
        let bricks = Bricks::new(volume.name(), volume.bricks());
        for case in cases {
            (case.damage)(&bricks, case.name).with_context(|| format!("damaging {}", case.name))?;
        }
        volume.restart_bricks()?;
    }

    let mut answers = Vec::new();
    for (volume, client) in &volumes {
        let mount = volume.mount(*client, &format!("{}-after", volume.name()))?;
        let path = mount.path();
        let mut of_cases = Vec::new();
        for case in cases {
            let (sender, receiver) = mpsc::channel();
            let (root, work) = (path.join(case.name), case.work);
            std::thread::spawn(move || {
                let mut done = Work::new(&root);
                work(&mut done);
                let _ = sender.send(done.answers());
            });
            // Dropped, the mount takes the thread with it.
            let answers = receiver.recv_timeout(HANG_LIMIT);
            of_cases.push(answers.with_context(|| format!("{client} hangs at {}", case.name))?);
        }
        answers.push(of_cases);
        mount.unmount()?;
    }
    let pictures = |case: &Case| -> Result<Vec<Vec<String>>> {
        volumes.iter().map(|(v, _)| picture::below(&Bricks::new(v.name(), v.bricks()), case.name)).collect()
    };

    let mut report = String::new();
    let start = Instant::now();
    for (index, case) in cases.iter().enumerate() {
        let differing = loop {
            let drawn = pictures(case)?;
            let lines =
                |volume: usize| -> Vec<&String> { answers[volume][index].iter().chain(&drawn[volume]).collect() };
            let found = differences(&lines(0), &lines(1), case.on_purpose);
            if found.is_empty() || start.elapsed() > LIMIT {
                break found;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        if !differing.is_empty() {
            report += &format!("\n{}:\n{}", case.name, differing.join("\n"));
        }
    }
    if report.is_empty() { Ok(()) } else { bail!("rgfs (>) differs from the C client (<):{report}") }
}

/// The lines that only one of two reports has, but for those that may differ.
fn differences(ours: &[&String], theirs: &[&String], on_purpose: &[&str]) -> Vec<String> {
    let set = |lines: &[&String]| -> BTreeSet<String> {
        let excused = |line: &String| on_purpose.iter().any(|start| line.starts_with(start));
        lines.iter().filter(|line| !excused(line)).map(|line| (*line).clone()).collect()
    };
    let (ours, theirs) = (set(ours), set(theirs));
    let only_theirs = theirs.difference(&ours).map(|line| format!("  < {line}"));
    let only_ours = ours.difference(&theirs).map(|line| format!("  > {line}"));
    let mut lines: Vec<String> = only_theirs.chain(only_ours).collect();
    lines.sort_by_key(|line| line.chars().skip(4).collect::<String>());
    lines
}

/// Damage at which the C client asks its bricks the same question for ever; rgfs finds what is there.
fn what_never_ends(sandbox: &Sandbox) -> Result<()> {
    let volume = GlusterdVolume::start(sandbox, "v", BRICKS, &[])?;
    volume.set("cluster.lookup-optimize", "off")?;
    let cases: Vec<Case> = directories::linktos().into_iter().chain([files::without_gfid()]).collect();
    let mount = volume.mount(Client::C, "before")?;
    for case in &cases {
        fs::create_dir(mount.join(case.name))?;
        (case.before)(&Work::new(&mount.join(case.name)))?;
    }
    mount.unmount()?;
    volume.stop()?;
    let bricks = Bricks::new(volume.name(), volume.bricks());
    for case in &cases {
        (case.damage)(&bricks, case.name).with_context(|| format!("damaging {}", case.name))?;
    }
    volume.restart_bricks()?;
    let mount = volume.mount(Client::Rgfs, "after")?;
    for case in &cases {
        let mut work = Work::new(&mount.join(case.name));
        (case.work)(&mut work);
        let answers = work.answers();
        let found =
            answers.iter().any(|line| line.contains("stat d: directory") || line.contains("stat d/f: file of 7 bytes"));
        ensure!(found, "{}: {answers:#?}", case.name);
    }
    mount.unmount()
}

#[test]
fn what_the_c_client_never_ends_is_found() {
    scenario(what_never_ends);
}

#[test]
fn directories_are_healed_alike() {
    scenario(|sandbox| compare(sandbox, &[], &directories::cases()));
}

#[test]
fn the_root_is_healed_alike() {
    scenario(root::compare);
}

#[test]
fn ranges_are_dealt_out_anew_alike() {
    scenario(growth::compare);
}

#[test]
fn attributes_are_healed_alike() {
    scenario(|sandbox| compare(sandbox, &[], &attributes::cases()));
}

#[test]
fn files_are_found_alike() {
    let cases = || files::cases().into_iter().chain([files::without_gfid()]).collect::<Vec<_>>();
    scenario(|sandbox| compare(sandbox, &[], &cases()));
}

#[test]
fn files_are_found_alike_without_lookup_optimize() {
    let off = ("cluster.lookup-optimize", "off");
    scenario(|sandbox| compare(sandbox, &[off, ("cluster.lookup-unhashed", "on")], &files::cases()));
}

#[test]
fn files_are_found_alike_when_listings_tell() {
    let off = ("cluster.lookup-optimize", "off");
    scenario(|sandbox| compare(sandbox, &[off, ("cluster.lookup-unhashed", "auto")], &files::cases()));
}

#[test]
fn files_are_found_alike_with_lookup_unhashed_off() {
    let off = ("cluster.lookup-optimize", "off");
    scenario(|sandbox| compare(sandbox, &[off, ("cluster.lookup-unhashed", "off")], &files::cases()));
}
