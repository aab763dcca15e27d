//! Replicated volumes of every kind, made by a real `glusterd` with its self-heal daemon: bricks die and return, heals are waited for,
//! and the copies are compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::backends;
use crate::client::Source;
use crate::cluster::{GlusterdVolume, Mountable};
use crate::heal_info::HealInfo;
use crate::sandbox::Sandbox;
use crate::statedump;
use crate::wait;

/// The volume's name. Short, for a brick refuses paths over 4095 bytes, counted from its own root.
const NAME: &str = "v";
/// How often the self-heal daemon is asked to look again while a heal is waited for; on its own it looks every ten minutes.
const HEAL_INTERVAL: Duration = Duration::from_secs(2);

/// The kinds of replicated volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Three copies.
    Replica3,
    /// Two copies, without quorum (the default of such volumes).
    Replica2,
    /// Two copies and an arbiter that holds names and attributes only.
    Arbiter,
    /// Names distributed over two sets of three copies.
    Distributed,
}

impl Shape {
    /// How many bricks such a volume has.
    pub fn bricks(self) -> usize {
        match self {
            Self::Replica3 | Self::Arbiter => 3,
            Self::Replica2 => 2,
            Self::Distributed => 6,
        }
    }

    /// How many bricks make one replica set, an arbiter among them.
    pub fn set(self) -> usize {
        if self == Self::Replica2 { 2 } else { 3 }
    }

    /// Which brick of a set holds no content.
    pub fn arbiter(self) -> Option<usize> {
        (self == Self::Arbiter).then_some(2)
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Replica3 | Self::Distributed => &["replica", "3"],
            Self::Replica2 => &["replica", "2"],
            Self::Arbiter => &["replica", "2", "arbiter", "1"],
        }
    }
}

/// A started replicated volume.
#[derive(Debug)]
pub struct ReplicatedVolume {
    volume: GlusterdVolume,
    shape: Shape,
}

impl ReplicatedVolume {
    /// Starts glusterd, and a volume of this shape with the options that glusterd gives it.
    pub fn start(sandbox: &Sandbox, shape: Shape) -> Result<Self> {
        let volume = GlusterdVolume::start(sandbox, NAME, shape.bricks(), shape.arguments())?;
        let volume = Self { volume, shape };
        wait::until("the self-heal daemon is online", Duration::from_secs(20), || {
            volume
                .volume
                .gluster(&["status", NAME, "shd"])
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("Self-heal Daemon") && line.contains(" Y ")))
        })?;
        Ok(volume)
    }

    /// Makes the self-heal daemon remove at once what a brick should no longer have. By default it parks files under their gfid, with a
    /// rename that does nothing when it parked another name of the same file just before: names that were given up then stay for good
    /// on a brick that missed several renames of one file, whatever the client.
    pub fn remove_instead_of_parking(&self) -> Result<()> {
        self.set("cluster.use-anonymous-inode", "no")
    }

    /// Where the brick `index` (from 0) will lie: a file system mounted there before the start is its own.
    pub fn place(sandbox: &Sandbox, index: usize) -> PathBuf {
        sandbox.directory().join(format!("{NAME}-b{}", index + 1))
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Sets a volume option.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        self.volume.set(key, value).map(drop)
    }

    /// The bricks' directories.
    pub fn bricks(&self) -> &[PathBuf] {
        self.volume.bricks()
    }

    /// The directory of one brick (from 0).
    pub fn brick(&self, index: usize) -> Result<&Path> {
        self.bricks().get(index).map(PathBuf::as_path).ok_or_else(|| anyhow!("no brick {index}"))
    }

    /// The process id of one brick (from 0).
    pub fn brick_process(&self, index: usize) -> Result<u32> {
        self.volume.brick_process(index)
    }

    /// SIGKILL to one brick (from 0), and removal of names that it was just making and has not given a gfid: neither the self-heal daemon
    /// nor a client can heal or remove those (`tests/replicate_half_made.rs`), an administrator must.
    pub fn kill(&self, index: usize) -> Result<()> {
        self.volume.kill_brick(index)?;
        for path in backends::Tree::read(self.brick(index)?)?.half_made() {
            println!("half made when the brick died: {}", path.display());
            if path.is_dir() && !path.is_symlink() { fs::remove_dir(&path) } else { fs::remove_file(&path) }
                .with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// SIGKILL to the self-heal daemon; it comes back with the next [`ReplicatedVolume::restart`].
    pub fn kill_healer(&self) -> Result<()> {
        self.volume.kill_healer()
    }

    /// Starts the bricks that are down.
    pub fn restart(&self) -> Result<()> {
        self.volume.restart_bricks()
    }

    /// How many clients are connected to each brick, the self-heal daemon and other daemons among them. All bricks must be online.
    pub fn connections(&self) -> Result<Vec<usize>> {
        let text = self.volume.gluster(&["status", NAME, "clients"])?;
        let counts = text.lines().filter_map(|line| line.strip_prefix("Clients connected : "));
        counts.map(|count| Ok(count.trim().parse()?)).collect()
    }

    /// Tells the self-heal daemon to look at the indices now. A refusal is not an error: it may not have reached a new brick yet.
    pub fn heal(&self) {
        let _ = self.volume.gluster(&["heal", NAME]);
    }

    /// What waits for a heal.
    pub fn heal_info(&self) -> Result<HealInfo> {
        Ok(HealInfo::parse(&self.volume.gluster(&["heal", NAME, "info"])?))
    }

    /// How the copies differ, over all replica sets.
    pub fn differences(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for set in self.bricks().chunks(self.shape.set()) {
            found.extend(backends::differences(set, self.shape.arbiter())?);
        }
        for file in self.full_arbiter_files()? {
            found.push(format!("{} on an arbiter has content", file.display()));
        }
        Ok(found)
    }

    fn full_arbiter_files(&self) -> Result<Vec<PathBuf>> {
        match self.shape.arbiter() {
            Some(index) => Ok(backends::Tree::read(self.brick(index)?)?.files_with_content()),
            None => Ok(Vec::new()),
        }
    }

    /// What replicate left on the bricks: changelogs that are not zero, index entries.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for brick in self.bricks() {
            found.extend(backends::leftovers(brick)?);
        }
        Ok(found)
    }

    /// Where copies accuse each other. Bricks that are down are looked at too.
    pub fn mutual_accusations(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (number, set) in self.bricks().chunks(self.shape.set()).enumerate() {
            found.extend(backends::mutual_accusations(set, NAME, number * self.shape.set())?);
        }
        Ok(found)
    }

    /// The locks that bricks hold or queue, of replicate and of applications.
    pub fn locks(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for index in 0..self.bricks().len() {
            let dump = statedump::take(self.brick_process(index)?)?;
            let lines = dump.text.lines().filter(|line| {
                ["inodelk.inodelk[", "entrylk.entrylk[", "posixlk.posixlk["].iter().any(|lock| line.starts_with(lock))
            });
            found.extend(lines.map(|line| format!("brick {index}: {line}")));
        }
        Ok(found)
    }

    /// Waits until nothing waits for a heal, the copies are equal, and no mark and no lock is left; returns how long that took.
    /// The self-heal daemon is asked to look again and again.
    pub fn settle(&self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let mut next = start;
        loop {
            if Instant::now() >= next {
                self.heal();
                next = Instant::now() + HEAL_INTERVAL;
            }
            let unsettled = self.unsettled();
            if unsettled.is_empty() {
                return Ok(start.elapsed());
            }
            if start.elapsed() >= limit {
                bail!("not healed after {limit:?}:\n{}", unsettled.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// [`ReplicatedVolume::settle`] after the brick `victim` (from 0) came and went under renames. The self-heal daemon leaves empty
    /// copies there then that nobody accuses: one of its threads opens a copy to give it its content, another removes that copy with its
    /// old name, notes that a new empty one needs the content and makes it under the new name (`afr_selfheal_recreate_entry`); the first
    /// one fills the copy that is gone, and takes back the notes of both (`afr_selfheal_undo_pending`). A heal of everything finds such
    /// files by their sizes, and an administrator must ask for it; and it brings to all bricks the names of which `is_anothers_doing` says
    /// that somebody else than rgfs left them on the victim. Nothing else is passed over here.
    pub fn settle_after_renames(
        &self,
        victim: usize,
        limit: Duration,
        is_anothers_doing: &dyn Fn(&[String]) -> bool,
    ) -> Result<Duration> {
        let start = Instant::now();
        if let Ok(took) = self.settle(limit / 3) {
            return Ok(took);
        }
        let set = victim - victim % self.shape.set();
        let bricks = self.bricks().get(set..set + self.shape.set()).context("a replica set")?;
        let shells = backends::empty_shells(bricks, victim - set, self.shape.arbiter())?;
        let is_shell = |line: &String| shells.iter().any(|shell| line.starts_with(&format!("/{}: ", shell.display())));
        let others: Vec<String> = self.differences()?.into_iter().filter(|line| !is_shell(line)).collect();
        let passes = if others.is_empty() { !shells.is_empty() } else { is_anothers_doing(&others) };
        if passes && self.heal_info()?.is_clean() {
            println!("the self-heal daemon left empty: {shells:?}; names that others left: {others:?}");
            self.volume.gluster(&["heal", NAME, "full"])?;
        }
        self.settle(limit.saturating_sub(start.elapsed()))
    }

    /// What keeps the volume from being settled, cheap questions first.
    fn unsettled(&self) -> Vec<String> {
        let questions: [&dyn Fn() -> Result<Vec<String>>; 4] = [
            &|| {
                let info = self.heal_info()?;
                Ok(if info.is_clean() { vec![] } else { vec![format!("heal info: {:?}", info.bricks)] })
            },
            &|| self.leftovers(),
            &|| self.differences(),
            &|| self.locks(),
        ];
        for question in questions {
            // A file that a heal just moves away is an error that passes.
            let found = question().unwrap_or_else(|error| vec![format!("{error:#}")]);
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// Waits until replicate itself, without a heal, has left no mark and no lock: what a healthy run ends with.
    pub fn quiet(&self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let mut found = self.leftovers()?;
            found.extend(self.locks()?);
            if found.is_empty() {
                return Ok(start.elapsed());
            }
            if start.elapsed() >= limit {
                bail!("left after {limit:?} of a healthy volume:\n{}", found.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Mountable for ReplicatedVolume {
    fn sandbox(&self) -> &Sandbox {
        self.volume.sandbox()
    }

    fn source(&self) -> Source {
        self.volume.source()
    }

    fn brick_ids(&self) -> Result<Vec<u32>> {
        self.volume.brick_ids()
    }
}
