//! Most bricks of a replica set die at once, under writes of two clients: writes are refused with a clear error, no copy accuses another
//! for what could not be known, and everything goes on by itself when the bricks are back.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;
use support::backends;
use support::client::{Client, Mount};
use support::cluster::Mountable;
use support::content::{Random, pattern};
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, scenario};
use support::wait;

const BLOCK: usize = 4096;
const BLOCKS: usize = 32;
/// No operation may take longer, whatever is dead.
const HANG_LIMIT: Duration = Duration::from_secs(10);
/// How soon after the bricks' return writes must go on. The clients look for a lost brick every three seconds.
const BACK_LIMIT: Duration = Duration::from_secs(15);
const HEAL_LIMIT: Duration = Duration::from_secs(60);

/// What the loss of quorum may look like. A descriptor whose brick is just being reopened says EBADFD with the C client.
fn is_clear(client: Client, error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::NOTCONN | Errno::ROFS) => true,
        Some(Errno::BADFD) => client == Client::C,
        _ => false,
    }
}

/// The content of one block: what was acknowledged, and what was tried since and may or may not be there.
#[derive(Debug, Clone, Default)]
struct Block {
    acknowledged: Option<u64>,
    tried: Vec<u64>,
}

/// Writes blocks until told to stop; refusals are expected.
fn hammer(client: Client, file: &File, seed: u64, stop: &AtomicBool) -> Result<Vec<Block>> {
    let (mut blocks, mut random, mut next) = (vec![Block::default(); BLOCKS], Random::new(seed), seed << 32);
    while !stop.load(Ordering::Relaxed) {
        let (number, start) = (random.below(BLOCKS), Instant::now());
        next += 1;
        let result = file.write_all_at(&pattern(BLOCK, next), (number * BLOCK) as u64).and_then(|()| file.sync_data());
        ensure!(start.elapsed() < HANG_LIMIT, "{client}: a write took {:?}", start.elapsed());
        match result {
            Ok(()) => blocks[number] = Block { acknowledged: Some(next), tried: Vec::new() },
            Err(error) if is_clear(client, &error) => blocks[number].tried.push(next),
            Err(error) => return Err(error).context(format!("{client}: an unclear refusal of a write")),
        }
    }
    Ok(blocks)
}

/// What nobody wrote.
const STRANGE: &str = "something else";

/// What a block holds, in words; the worker's first seed is `first`, its last acknowledged one `last`.
fn words(bytes: &[u8], first: u64, last: u64) -> String {
    match (first..=last).rev().find(|seed| bytes == pattern(BLOCK, *seed)) {
        Some(seed) => format!("{seed:#x}"),
        None if bytes.iter().all(|byte| *byte == 0) => "zeros".to_owned(),
        None => STRANGE.to_owned(),
    }
}

/// What the copies of a file hold and say of each other at one time.
struct Copies(Vec<(Vec<u8>, Vec<String>)>);

impl Copies {
    fn read(volume: &ReplicatedVolume, name: &str) -> Result<Self> {
        let copy = |brick: &PathBuf| -> Result<(Vec<u8>, Vec<String>)> {
            let attributes = backends::read_attributes(&brick.join(name))?.into_iter();
            let marks = attributes.filter(|(key, _)| key.starts_with("trusted.afr."));
            Ok((fs::read(brick.join(name))?, marks.map(|(key, value)| format!("{key}={value:?}")).collect()))
        };
        volume.bricks().iter().map(copy).collect::<Result<_>>().map(Self)
    }

    fn block(&self, number: usize, last: u64) -> Vec<String> {
        let (start, end) = (number * BLOCK, (number + 1) * BLOCK);
        let first = last >> 32 << 32;
        let words =
            |bytes: &[u8]| bytes.get(start..end).map_or("nothing".to_owned(), |block| words(block, first, last));
        self.0.iter().map(|(bytes, marks)| format!("{} {}", words(bytes), marks.join(" "))).collect()
    }
}

/// Acknowledged blocks are there, or what was tried after them. `before` is what the copies were before the bricks came back.
///
/// What the C client wrote may be older. It answers fsync(2) while the post-op of a write that missed one brick is still under way, and
/// when that post-op finds that by now a second brick is gone, it marks nothing (`afr_handle_quorum` in `afr_changelog_post_op_do`,
/// `afr-transaction.c`): two copies have the write, the third has not, all three are dirty alike, and the healer takes any of them.
fn check(
    writer: Client,
    path: &Path,
    blocks: &[Block],
    before: &Copies,
    volume: &ReplicatedVolume,
    name: &str,
) -> Result<()> {
    let file = File::open(path)?;
    for (number, block) in blocks.iter().enumerate() {
        let Some(acknowledged) = block.acknowledged else { continue };
        let mut bytes = vec![0; BLOCK];
        file.read_exact_at(&mut bytes, (number * BLOCK) as u64)?;
        let is = |seed: u64| bytes == pattern(BLOCK, seed);
        if is(acknowledged) || block.tried.iter().any(|seed| is(*seed)) {
            continue;
        }
        let holds = words(&bytes, acknowledged >> 32 << 32, acknowledged);
        if writer == Client::C && holds != STRANGE {
            continue;
        }
        anyhow::bail!(
            "block {number} of {} holds neither what was acknowledged, {acknowledged:#x}, nor what was tried later, {:x?}, but {}; \
             on the bricks it was {:?} before they came back and is {:?}",
            path.display(),
            block.tried,
            holds,
            before.block(number, acknowledged),
            Copies::read(volume, name)?.block(number, acknowledged),
        );
    }
    Ok(())
}

/// Every kind of change is refused, soon and clearly.
fn all_is_refused(mount: &Mount) -> Result<()> {
    let client = mount.client();
    let operations: [(&str, &dyn Fn() -> io::Result<()>); 7] = [
        ("create", &|| File::create_new(mount.join("new")).map(drop)),
        ("mkdir", &|| fs::create_dir(mount.join("new-directory"))),
        ("unlink", &|| fs::remove_file(mount.join("victim"))),
        ("rename", &|| fs::rename(mount.join("victim"), mount.join("renamed"))),
        ("chmod", &|| fs::set_permissions(mount.join("victim"), fs::Permissions::from_mode(0o600))),
        ("setxattr", &|| Ok(setxattr(mount.join("victim"), "user.a", b"b", XattrFlags::empty())?)),
        ("truncate", &|| File::options().write(true).open(mount.join("victim"))?.set_len(1)),
    ];
    for (name, operation) in operations {
        let start = Instant::now();
        let Err(error) = operation() else { anyhow::bail!("{client}: {name} without quorum") };
        ensure!(is_clear(client, &error), "{client}: {name} without quorum says {error}");
        ensure!(start.elapsed() < HANG_LIMIT, "{client}: {name} took {:?}", start.elapsed());
    }
    Ok(())
}

fn lost_and_back(sandbox: &Sandbox, shape: Shape, client: Client, dead: [usize; 2]) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    let mounts = [volume.mount(client, "one")?, volume.mount(Client::C, "two")?];
    fs::write(mounts[0].join("victim"), "text")?;
    let names = ["file-0", "file-1", "shared"];
    for name in names {
        fs::write(mounts[0].join(name), vec![0; BLOCK * BLOCKS])?;
    }
    let open = |mount: &Mount, name: &str| File::options().read(true).write(true).open(mount.join(name));
    let files = [open(&mounts[0], "file-0")?, open(&mounts[1], "file-1")?];
    // Both write the same blocks of this one: what it holds nobody can say, but its copies must not accuse each other.
    let shared = [open(&mounts[0], "shared")?, open(&mounts[1], "shared")?];
    let stop = AtomicBool::new(false);
    let blocks = std::thread::scope(|scope| -> Result<Vec<Vec<Block>>> {
        let stop = &stop;
        let mut workers = Vec::new();
        for (number, mount) in mounts.iter().enumerate() {
            for (seed, file) in [(number, &files[number]), (10 + number, &shared[number])] {
                workers.push(scope.spawn(move || hammer(mount.client(), file, seed as u64, stop)));
            }
        }
        let outcome = (|| {
            std::thread::sleep(Duration::from_secs(1));
            volume.kill(dead[0])?;
            volume.kill(dead[1])?;
            for mount in &mounts {
                wait::until("writes are refused", HANG_LIMIT, || {
                    fs::write(mount.join(format!("probe-{}", mount.client())), "text").is_err()
                })?;
            }
            std::thread::sleep(Duration::from_millis(500));
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        let blocks = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a panic"))));
        let blocks = blocks.collect::<Result<Vec<_>>>();
        outcome.and(blocks)
    })?;
    mounts.iter().try_for_each(all_is_refused)?;
    let accusations = volume.mutual_accusations()?;
    ensure!(accusations.is_empty(), "copies accuse each other: {accusations:?}");
    let log = fs::read_to_string(sandbox.log("mnt-one"))?;
    ensure!(log.to_lowercase().contains("quorum"), "the log of {client} does not say that quorum is lost");

    let before = [Copies::read(&volume, "file-0")?, Copies::read(&volume, "file-1")?];
    volume.restart()?;
    for (mount, file) in mounts.iter().zip(&files) {
        let took = wait::until("the open file works again", BACK_LIMIT, || {
            file.write_all_at(&pattern(BLOCK, 7), (BLOCK * BLOCKS) as u64).and_then(|()| file.sync_all()).is_ok()
        });
        println!("{}: writes go on after {:?}", mount.client(), took.with_context(|| mount.client().to_string())?);
        wait::until("new files can be made", BACK_LIMIT, || {
            fs::write(mount.join(format!("after-{}", mount.client())), "text").is_ok()
        })?;
    }
    drop((files, shared));
    println!("healed after {:?}", volume.settle(HEAL_LIMIT)?);
    // Workers are in the order: own file, shared file, of one mount, then of the other.
    for (writer, name, blocks, before) in
        [(client, "file-0", &blocks[0], &before[0]), (Client::C, "file-1", &blocks[2], &before[1])]
    {
        for mount in &mounts {
            check(writer, &mount.join(name), blocks, before, &volume, name)
                .with_context(|| format!("{name} read through {}", mount.client()))?;
        }
    }
    ensure!(fs::read(mounts[0].join("victim"))? == b"text");
    mounts.into_iter().try_for_each(Mount::unmount)
}

#[test]
fn two_bricks_of_replica_3_die() {
    scenario(|sandbox| lost_and_back(sandbox, Shape::Replica3, Client::Rgfs, [1, 2]));
}

#[test]
fn the_first_two_bricks_of_replica_3_die() {
    scenario(|sandbox| lost_and_back(sandbox, Shape::Replica3, Client::Rgfs, [1, 0]));
}

/// What is left is the arbiter, which has no data.
#[test]
fn both_data_bricks_of_an_arbiter_volume_die() {
    scenario(|sandbox| lost_and_back(sandbox, Shape::Arbiter, Client::Rgfs, [0, 1]));
}

#[test]
fn a_data_brick_and_the_arbiter_die() {
    scenario(|sandbox| lost_and_back(sandbox, Shape::Arbiter, Client::Rgfs, [2, 0]));
}
