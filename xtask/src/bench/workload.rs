//! The loads: what the rows of the table do.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rustix::fs::{Advice, CWD, FileType, Mode, fadvise, mknodat};

/// The block of the sequential rows, and the size of the file.
const BLOCK: usize = 1 << 20;
const FILE_BLOCKS: u64 = 512;
/// The random rows: one page each, no page twice.
const PAGE: usize = 4096;
const RANDOM_READS: u64 = 8192;
const RANDOM_WRITES: u64 = 4096;
/// Threads that write pages at the same time, as a database or a virtual disk does.
const WRITERS: u64 = 4;
/// The row of small writes that must be durable, one after the other.
const DURABLE_WRITES: u64 = 1000;
/// The small files.
const FILES: u64 = 10_000;
const DIRECTORIES: u64 = 100;
const SMALL_SIZE: usize = 1024;
/// The tree of the large listings: files in a directory, and threads that make them.
const LISTED_TOGETHER: u64 = 1000;
const MAKERS: u64 = 8;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// 512 MiB in blocks of 1 MiB, with fsync and close
    SeqWrite,
    /// The same file, cold, in blocks of 1 MiB
    SeqRead,
    /// Pages of it, cold, in random order
    RandRead,
    /// Pages within it, in random order, four in flight, with fsync at the end
    RandWrite,
    /// A page and an fsync, again and again, at the end of a file
    FsyncWrite,
    /// 10,000 files of 1 KiB in 100 directories
    Create,
    /// stat of each by its path, cold
    Stat,
    /// The tree, listed with the attributes of each entry, cold
    LsLr,
    /// The files and directories again
    Unlink,
    /// `ls -lR` of a tree that both clients share, cold
    LsTree,
    /// `find` of that tree by name alone, cold
    FindTree,
    /// `find` that asks for the age of each file, cold
    FindAgeTree,
}

impl Workload {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SeqWrite => "sequential write 1 MiB",
            Self::SeqRead => "sequential read 1 MiB",
            Self::RandRead => "random read 4 KiB",
            Self::RandWrite => "random write 4 KiB, 4 in flight",
            Self::FsyncWrite => "write 4 KiB and fsync",
            Self::Create => "create 10,000 files",
            Self::Stat => "stat 10,000 files",
            Self::LsLr => "ls -lR of 10,000 files",
            Self::Unlink => "unlink 10,000 files",
            Self::LsTree => "`ls -lR`",
            Self::FindTree => "`find`",
            Self::FindAgeTree => "`find -mmin`",
        }
    }

    /// What must be there before the clock starts; a row that runs alone makes it itself.
    pub(crate) fn prepare(self, directory: &Path) -> Result<()> {
        match self {
            Self::SeqWrite => remove_if_there(&big(directory)),
            Self::FsyncWrite => remove_if_there(&journal(directory)),
            Self::SeqRead | Self::RandRead | Self::RandWrite => {
                if fs::metadata(big(directory)).map_or(0, |data| data.len()) != FILE_BLOCKS * BLOCK as u64 {
                    write_big(directory)?;
                }
                if self == Self::SeqRead {
                    // A virtual machine that gives free memory back to its host pays for its first touch, which would
                    // count for the client that happens to be given such memory: the row reads into memory just freed.
                    read_big(directory)?;
                }
                // Out of the page cache of this mount; the bricks keep theirs.
                fadvise(File::open(big(directory))?, 0, None, Advice::DontNeed).context("fadvise")?;
                Ok(())
            }
            Self::Create => remove_tree(directory).map(drop),
            Self::Stat | Self::LsLr | Self::Unlink => {
                if !tree(directory).exists() {
                    create_tree(directory)?;
                }
                Ok(())
            }
            Self::LsTree | Self::FindTree | Self::FindAgeTree => drop_caches(),
        }
    }

    /// Whether it lists the tree of [`create_shared_tree`], which lies in the root of the volume.
    pub(crate) fn shares_its_tree(self) -> bool {
        matches!(self, Self::LsTree | Self::FindTree | Self::FindAgeTree)
    }

    /// Runs it; the number of operations that it counts as.
    pub(crate) fn run(self, directory: &Path) -> Result<u64> {
        match self {
            Self::SeqWrite => write_big(directory),
            Self::SeqRead => read_big(directory),
            Self::RandRead => read_pages(directory),
            Self::RandWrite => write_pages(directory),
            Self::FsyncWrite => write_durably(directory),
            Self::Create => create_tree(directory),
            Self::Stat => stat_tree(directory),
            Self::LsLr => list(&tree(directory)),
            Self::Unlink => remove_tree(directory),
            Self::LsTree => run_program("ls", &["-lR"], directory),
            Self::FindTree => run_program("find", &[], directory),
            Self::FindAgeTree => run_program("find", &["-mmin", "-100000"], directory),
        }
    }
}

/// Removes what the rows left.
pub(crate) fn clean(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}

fn big(directory: &Path) -> PathBuf {
    directory.join("big")
}

fn journal(directory: &Path) -> PathBuf {
    directory.join("journal")
}

fn tree(directory: &Path) -> PathBuf {
    directory.join("tree")
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn write_big(directory: &Path) -> Result<u64> {
    let mut file = File::create(big(directory))?;
    let block = vec![0x5a; BLOCK];
    for _ in 0..FILE_BLOCKS {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(FILE_BLOCKS)
}

fn read_big(directory: &Path) -> Result<u64> {
    let mut file = File::open(big(directory))?;
    let mut block = vec![0; BLOCK];
    for _ in 0..FILE_BLOCKS {
        file.read_exact(&mut block)?;
    }
    Ok(FILE_BLOCKS)
}

fn read_pages(directory: &Path) -> Result<u64> {
    let file = File::open(big(directory))?;
    // No readahead: each page is a request of its own.
    fadvise(&file, 0, None, Advice::Random).context("fadvise")?;
    let mut page = [0; PAGE];
    for index in 0..RANDOM_READS {
        file.read_exact_at(&mut page, random_page(index))?;
    }
    Ok(RANDOM_READS)
}

/// Where the page lies that comes `index`th in a random order.
fn random_page(index: u64) -> u64 {
    let pages = FILE_BLOCKS * (BLOCK / PAGE) as u64;
    // An odd stride visits every page of a power of two once, in no order that readahead knows.
    index.wrapping_mul(40_503) % pages * PAGE as u64
}

fn write_pages(directory: &Path) -> Result<u64> {
    let file = OpenOptions::new().write(true).open(big(directory))?;
    let page = [0xa5; PAGE];
    let write_every_fourth = |first: u64| -> std::io::Result<()> {
        (first..RANDOM_WRITES)
            .step_by(WRITERS as usize)
            .try_for_each(|index| file.write_all_at(&page, random_page(index)))
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|first| scope.spawn(move || write_every_fourth(first))).collect();
        writers.into_iter().try_for_each(|writer| match writer.join() {
            Ok(written) => written.context("a random write"),
            Err(_) => bail!("a writer panicked"),
        })
    })?;
    file.sync_all()?;
    Ok(RANDOM_WRITES)
}

fn write_durably(directory: &Path) -> Result<u64> {
    let mut file = File::create(journal(directory))?;
    let page = [0x5a; PAGE];
    for _ in 0..DURABLE_WRITES {
        file.write_all(&page)?;
        file.sync_all()?;
    }
    Ok(DURABLE_WRITES)
}

/// The path of every small file, directory by directory.
fn small_files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let tree = tree(directory);
    (0..FILES).map(move |number| {
        let place = number / (FILES / DIRECTORIES);
        tree.join(format!("directory-{place:03}/file-{number:05}"))
    })
}

fn create_tree(directory: &Path) -> Result<u64> {
    fs::create_dir_all(tree(directory))?;
    let content = [0x5a; SMALL_SIZE];
    for (number, path) in small_files(directory).enumerate() {
        if (number as u64).is_multiple_of(FILES / DIRECTORIES)
            && let Some(parent) = path.parent()
        {
            fs::create_dir(parent)?;
        }
        OpenOptions::new().write(true).create_new(true).open(path)?.write_all(&content)?;
    }
    Ok(FILES)
}

/// Makes `files` empty files in directories of 1,000, which the rows about large listings share.
pub(crate) fn create_shared_tree(root: &Path, files: u64) -> Result<()> {
    let directories = files.div_ceil(LISTED_TOGETHER);
    let make = |place: u64| -> Result<()> {
        let directory = shared_tree(root).join(format!("directory-{place:03}"));
        fs::create_dir_all(&directory)?;
        for number in place * LISTED_TOGETHER..files.min((place + 1) * LISTED_TOGETHER) {
            mknodat(CWD, directory.join(format!("file-{number:06}")), FileType::RegularFile, Mode::from(0o644), 0)?;
        }
        Ok(())
    };
    fs::create_dir_all(shared_tree(root))?;
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|first| scope.spawn(move || (first..directories).step_by(MAKERS as usize).try_for_each(make)))
            .collect();
        makers.into_iter().try_for_each(|maker| match maker.join() {
            Ok(made) => made.context("making the tree"),
            Err(_) => bail!("a maker of files panicked"),
        })
    })
}

fn shared_tree(root: &Path) -> PathBuf {
    root.join("shared-tree")
}

/// Fresh mounts are cold by themselves; this is for what the kernel keeps of bricks on the disk.
fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the kernel's caches")
}

/// Runs a program on the shared tree; the lines that it prints count as its operations.
fn run_program(program: &str, options: &[&str], root: &Path) -> Result<u64> {
    let mut command = Command::new(program);
    // ls wants its options first, find its path.
    match program {
        "ls" => command.args(options).arg(shared_tree(root)),
        _ => command.arg(shared_tree(root)).args(options),
    };
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program}: {}", output.status);
    let lines = output.stdout.split(|byte| *byte == b'\n');
    Ok(lines.filter(|line| line.windows(5).any(|part| part == b"file-")).count() as u64)
}

fn stat_tree(directory: &Path) -> Result<u64> {
    for path in small_files(directory) {
        ensure!(fs::symlink_metadata(&path)?.len() == SMALL_SIZE as u64, "{} has a wrong size", path.display());
    }
    Ok(FILES)
}

/// As `ls -lR` does: names first, then the attributes of each, then the directories below.
fn list(directory: &Path) -> Result<u64> {
    let mut entries = 0;
    let mut below = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        entries += 1;
        if fs::symlink_metadata(&path)?.is_dir() {
            below.push(path);
        }
    }
    for path in below {
        entries += list(&path)?;
    }
    Ok(entries)
}

fn remove_tree(directory: &Path) -> Result<u64> {
    if !tree(directory).exists() {
        return Ok(0);
    }
    for path in small_files(directory) {
        fs::remove_file(path)?;
    }
    fs::remove_dir_all(tree(directory))?;
    Ok(FILES)
}
