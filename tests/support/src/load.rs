//! Mixed work on a mount, whose every acknowledged result is remembered: whatever dies meanwhile, it must be there at the end.
//!
//! Three kinds of workers run side by side: small files in directories (create, overwrite, append, rename, link, unlink, attributes),
//! blocks at random places of one file that stays open, and `fio` with checksums. On a volume that keeps its quorum no operation may
//! fail, so the first error ends a worker and is the result.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use crate::content::{Random, pattern};
use crate::process::wait_for_end;

/// A worker that does nothing for this long hangs.
const HANG_LIMIT: Duration = Duration::from_secs(30);
/// How many workers write small files.
const SMALL_WORKERS: usize = 2;
/// How many files one of them has at most.
const FILES: usize = 60;
const BLOCK: usize = 16_384;
const BLOCKS: usize = 256;
const ATTRIBUTE: &str = "user.mark";

/// What a worker knows of one of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Its content, as pieces of [`pattern`].
    pieces: Vec<(usize, u64)>,
    mode: u32,
    attribute: Option<String>,
}

impl Known {
    fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(length, seed)| pattern(*length, *seed)).collect()
    }
}

/// All that was acknowledged below one directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    files: BTreeMap<PathBuf, Known>,
    /// Directories, the listed ones complete.
    listings: Vec<PathBuf>,
    /// The seed of each block of each block file.
    blocks: BTreeMap<PathBuf, Vec<Option<u64>>>,
    /// How many operations that took.
    pub operations: u64,
}

impl Acknowledged {
    /// Compares all of it with what `root`, a mount of the same volume, shows.
    pub fn verify(&self, root: &Path) -> Result<()> {
        for directory in &self.listings {
            let mut seen = Vec::new();
            for entry in fs::read_dir(root.join(directory))? {
                seen.push(directory.join(entry?.file_name()));
            }
            seen.sort();
            let expected: Vec<_> = self.files.keys().filter(|path| path.parent() == Some(directory)).cloned().collect();
            ensure!(seen == expected, "{} lists {seen:?}, not {expected:?}", directory.display());
        }
        for (path, known) in &self.files {
            let shown = path.display();
            let full = root.join(path);
            let bytes = fs::read(&full).with_context(|| format!("reading {shown}"))?;
            ensure!(bytes == known.bytes(), "{shown} has other content than was acknowledged ({} bytes)", bytes.len());
            let mode = fs::metadata(&full)?.permissions().mode() & 0o7777;
            ensure!(mode == known.mode, "{shown} has mode {mode:o}, not {:o}", known.mode);
            let mut value = [0; 64];
            let length = lgetxattr(&full, ATTRIBUTE, &mut value).unwrap_or(0);
            let value = String::from_utf8_lossy(&value[..length]).into_owned();
            ensure!(value == known.attribute.clone().unwrap_or_default(), "{shown} has {ATTRIBUTE}={value:?}");
        }
        for (path, blocks) in &self.blocks {
            let file = File::open(root.join(path))?;
            for (number, seed) in blocks.iter().enumerate() {
                let Some(seed) = seed else { continue };
                let mut bytes = vec![0; BLOCK];
                file.read_exact_at(&mut bytes, (number * BLOCK) as u64)
                    .with_context(|| format!("block {number} of {}", path.display()))?;
                ensure!(bytes == pattern(BLOCK, *seed), "block {number} of {} is not what was written", path.display());
            }
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        self.files.extend(other.files);
        self.listings.extend(other.listings);
        self.blocks.extend(other.blocks);
        self.operations += other.operations;
    }
}

/// The running load, for what goes on beside it.
#[derive(Debug)]
pub struct Running<'a> {
    counts: &'a [AtomicU64],
    stop: &'a AtomicBool,
}

impl Running<'_> {
    /// Lets the load run for `time`, and until every worker has done something since; a worker that does nothing is an error.
    pub fn go_on(&self, time: Duration) -> Result<()> {
        let read = || self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let (start, before) = (Instant::now(), read());
        loop {
            let all_moved = read().iter().zip(&before).all(|(now, before)| now > before);
            if start.elapsed() >= time && all_moved {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) {
                bail!("a worker failed");
            }
            ensure!(start.elapsed() < time + HANG_LIMIT, "a worker hangs: {before:?} operations, then {:?}", read());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What one worker does.
type Work<'a> = Box<dyn FnOnce(&Pace<'_>) -> Result<Acknowledged> + Send + 'a>;

/// Runs the load in the new directory `name` of the mount `root` while `beside` runs; returns what was acknowledged.
pub fn under_load(
    root: &Path,
    name: &str,
    scratch: &Path,
    beside: impl FnOnce(&Running<'_>) -> Result<()>,
) -> Result<Acknowledged> {
    let directory = Path::new(name);
    fs::create_dir(root.join(directory))?;
    let stop = AtomicBool::new(false);
    let counts: Vec<AtomicU64> = (0..SMALL_WORKERS + 2).map(|_| AtomicU64::new(0)).collect();
    let (stop, counts) = (&stop, &counts[..]);
    let mut work: Vec<Work<'_>> = Vec::new();
    for index in 0..SMALL_WORKERS {
        let place = directory.join(format!("small-{index}"));
        work.push(Box::new(move |pace| SmallFiles::new(root, place, index as u64)?.run(pace)));
    }
    work.push(Box::new(|pace| write_blocks(root, &directory.join("blocks"), pace)));
    work.push(Box::new(|pace| run_fio(&root.join(directory).join("fio"), scratch, pace)));
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for (work, count) in work.into_iter().zip(counts) {
            workers.push(scope.spawn(move || {
                let result = work(&Pace { stop, count });
                if result.is_err() {
                    // A worker that fails stops the others.
                    stop.store(true, Ordering::Relaxed);
                }
                result
            }));
        }
        let outcome = beside(&Running { counts, stop });
        stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Acknowledged::default();
        let mut failure = None;
        for worker in workers {
            match worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked"))) {
                Ok(done) => acknowledged.add(done),
                Err(error) => failure = Some(error),
            }
        }
        // What a worker says is the cause of what went on beside it.
        failure.map_or(outcome, Err).map(|()| acknowledged)
    })
}

/// When to stop, and where to report.
#[derive(Debug)]
struct Pace<'a> {
    stop: &'a AtomicBool,
    count: &'a AtomicU64,
}

impl Pace<'_> {
    fn goes_on(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

/// One worker's directory of small files.
#[derive(Debug)]
struct SmallFiles<'a> {
    root: &'a Path,
    place: PathBuf,
    random: Random,
    next_seed: u64,
    next_name: u64,
    files: BTreeMap<PathBuf, Known>,
}

impl<'a> SmallFiles<'a> {
    fn new(root: &'a Path, place: PathBuf, seed: u64) -> Result<Self> {
        for part in ["", "a", "b"] {
            fs::create_dir(root.join(&place).join(part))?;
        }
        Ok(Self {
            root,
            place,
            random: Random::new(seed + 1),
            next_seed: seed << 32,
            next_name: 0,
            files: BTreeMap::new(),
        })
    }

    fn run(mut self, pace: &Pace<'_>) -> Result<Acknowledged> {
        let mut operations = 0;
        while pace.goes_on() {
            let (path, step) = match self.random.below(8) {
                0 if self.files.len() < FILES => (self.new_name(), 0),
                step => match self.some_name() {
                    Some(path) => (path, step),
                    None => (self.new_name(), 0),
                },
            };
            self.step(step, &path).with_context(|| format!("operation {step} on {}", path.display()))?;
            operations += 1;
        }
        let listings = ["a", "b"].map(|part| self.place.join(part)).to_vec();
        Ok(Acknowledged { files: self.files, listings, operations, ..Acknowledged::default() })
    }

    /// A name that never was. None is used again after it was given up: a brick that missed its removal still has it, and for two names of
    /// one file its rename(2) does nothing and says success, which no client can tell.
    fn new_name(&mut self) -> PathBuf {
        let part = if self.random.below(2) == 0 { "a" } else { "b" };
        self.next_name += 1;
        self.place.join(part).join(format!("file-{}", self.next_name))
    }

    /// One of the files.
    fn some_name(&mut self) -> Option<PathBuf> {
        let number = self.random.below(self.files.len());
        self.files.keys().nth(number).cloned()
    }

    fn step(&mut self, step: usize, path: &Path) -> Result<()> {
        let full = self.root.join(path);
        match (step, self.files.contains_key(path)) {
            // A new file, or new content.
            (0 | 1, _) | (_, false) => {
                let piece = self.piece();
                let mut file = File::create(&full)?;
                file.write_all(&pattern(piece.0, piece.1))?;
                if step == 0 {
                    file.sync_all()?;
                }
                let known = self.files.entry(path.to_path_buf());
                known.or_insert(Known { pieces: Vec::new(), mode: 0o644, attribute: None }).pieces = vec![piece];
            }
            (2, true) => {
                let piece = self.piece();
                File::options().append(true).open(&full)?.write_all(&pattern(piece.0, piece.1))?;
                self.change(path, |known| known.pieces.push(piece));
            }
            (3, true) => {
                // To a new name, or over another file.
                let to = match self.random.below(2) {
                    0 => self.new_name(),
                    _ => self.some_name().unwrap_or_else(|| path.to_path_buf()),
                };
                fs::rename(&full, self.root.join(&to))?;
                if let Some(known) = self.files.remove(path) {
                    self.files.insert(to, known);
                }
            }
            (4, true) => {
                fs::remove_file(&full)?;
                self.files.remove(path);
            }
            (5, true) => {
                let mode = if self.random.below(2) == 0 { 0o600 } else { 0o755 };
                fs::set_permissions(&full, fs::Permissions::from_mode(mode))?;
                self.change(path, |known| known.mode = mode);
            }
            (6, true) => {
                let value = self.random.number().to_string();
                lsetxattr(&full, ATTRIBUTE, value.as_bytes(), XattrFlags::empty())?;
                self.change(path, |known| known.attribute = Some(value));
            }
            _ => {
                let expected = self.files.get(path).map(Known::bytes).unwrap_or_default();
                ensure!(fs::read(&full)? == expected, "reads differently from what was written");
            }
        }
        Ok(())
    }

    fn piece(&mut self) -> (usize, u64) {
        self.next_seed += 1;
        (self.random.below(20_000), self.next_seed)
    }

    fn change(&mut self, path: &Path, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.files.get_mut(path) {
            change(known);
        }
    }
}

/// Writes blocks at random places of a file that stays open.
fn write_blocks(root: &Path, path: &Path, pace: &Pace<'_>) -> Result<Acknowledged> {
    const SEED: u64 = 99 << 40;
    let file = File::options().read(true).write(true).create_new(true).open(root.join(path))?;
    let (mut blocks, mut random, mut operations) = (vec![None; BLOCKS], Random::new(SEED), 0);
    while pace.goes_on() {
        let number = random.below(BLOCKS);
        operations += 1;
        let seed = SEED + operations;
        file.write_all_at(&pattern(BLOCK, seed), (number * BLOCK) as u64).context("writing a block")?;
        blocks[number] = Some(seed);
        if operations % 16 == 0 {
            file.sync_data().context("fsync of the blocks")?;
        }
    }
    file.sync_all()?;
    Ok(Acknowledged { blocks: BTreeMap::from([(path.to_path_buf(), blocks)]), operations, ..Acknowledged::default() })
}

/// Runs `fio` again and again: random writes, read back and compared by checksum. One run is short, so that a disk on which an fsync takes
/// seconds is not taken for a hang.
fn run_fio(directory: &Path, scratch: &Path, pace: &Pace<'_>) -> Result<Acknowledged> {
    fs::create_dir(directory)?;
    let mut operations = 0;
    while pace.goes_on() {
        let output = scratch.join("fio.out");
        let file = File::create(&output)?;
        let mut child = Command::new("fio")
            .args(["--name=verify", "--rw=randwrite", "--bsrange=4k-64k", "--size=1m", "--ioengine=psync"])
            .args(["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--fsync=32", "--randrepeat=0"])
            .arg(format!("--directory={}", directory.display()))
            .current_dir(scratch)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("starting fio")?;
        let ended = wait_for_end(&mut child, Duration::from_secs(60));
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        let status = ended.context("fio hangs")?;
        ensure!(status.success(), "fio: {status}\n{}", fs::read_to_string(&output)?);
        operations += 1;
    }
    Ok(Acknowledged { operations, ..Acknowledged::default() })
}
