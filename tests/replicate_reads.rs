//! Reads of replicated volumes: never from a copy that missed something, never an error because another client changes names, and
//! nothing of replicate's own names and attributes shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;
use support::client::Client;
use support::cluster::Mountable;
use support::content::pattern;
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, scenario};
use support::wait;

/// The clients look for a lost brick every three seconds.
const BACK_LIMIT: Duration = Duration::from_secs(15);
/// How long attributes and names may be kept.
const CACHE_LIMIT: Duration = Duration::from_secs(5);

/// What a reader sees of the test's directory.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    names: BTreeSet<String>,
    /// Same size before and after.
    overwritten: Vec<u8>,
    grown: Vec<u8>,
    grown_size: u64,
    mode: u32,
}

impl Seen {
    fn read(directory: &Path) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        Ok(Self {
            names: names.collect::<Result<_>>()?,
            overwritten: fs::read(directory.join("overwritten"))?,
            grown: fs::read(directory.join("grown"))?,
            grown_size: fs::metadata(directory.join("grown"))?.len(),
            mode: fs::metadata(directory.join("mode"))?.mode() & 0o7777,
        })
    }
}

/// A brick misses changes by another client and comes back unhealed: its copy looks healthy to itself.
fn never_old(sandbox: &Sandbox, shape: Shape, client: Client, victim: usize, options: &[(&str, &str)]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    volume.set("cluster.self-heal-daemon", "off")?;
    for (key, value) in options {
        volume.set(key, value)?;
    }
    let (reader, writer) = (volume.mount(client, "reader")?, volume.mount(Client::C, "writer")?);
    let (from, to) = (reader.join("d"), writer.join("d"));
    fs::create_dir(&to)?;
    for name in ["overwritten", "grown", "mode", "removed"] {
        fs::write(to.join(name), pattern(5_000, 1))?;
    }
    let old = Seen::read(&from)?;
    let before = volume.connections()?;
    volume.kill(victim)?;
    fs::write(to.join("overwritten"), pattern(5_000, 2))?;
    fs::write(to.join("grown"), pattern(9_000, 3))?;
    fs::set_permissions(to.join("mode"), fs::Permissions::from_mode(0o600))?;
    fs::remove_file(to.join("removed"))?;
    fs::write(to.join("added"), "text")?;
    let new = Seen {
        names: ["overwritten", "grown", "mode", "added"].map(str::to_owned).into(),
        overwritten: pattern(5_000, 2),
        grown: pattern(9_000, 3),
        grown_size: 9_000,
        mode: 0o600,
    };
    ensure!(old != new);
    wait::for_value("the reader sees the changes", CACHE_LIMIT, || Ok((Seen::read(&from)? == new).then_some(())))?;

    volume.restart()?;
    let (start, mut connected, mut reads) = (Instant::now(), None, 0);
    // Over the reconnection and for as long as caches may keep something.
    while connected.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(3)) {
        let seen = Seen::read(&from).with_context(|| format!("{client}: after {:?}", start.elapsed()))?;
        ensure!(seen.names == new.names, "{client} lists {:?} after {:?}", seen.names, start.elapsed());
        ensure!(seen.overwritten == new.overwritten, "{client} reads the old content after {:?}", start.elapsed());
        ensure!(seen == new, "{client} shows old attributes after {:?}: {:o}", start.elapsed(), seen.mode);
        reads += 1;
        if connected.is_none() && volume.connections()?.iter().zip(&before).all(|(now, before)| now >= before) {
            connected = Some(Instant::now());
        }
        ensure!(start.elapsed() < 2 * BACK_LIMIT, "the clients do not come back to the brick");
    }
    println!("{client} on {shape:?} with {options:?}: {reads} reads");
    // A client without any cache of before.
    let fresh = volume.mount(client, "fresh")?;
    ensure!(Seen::read(&fresh.join("d"))? == new, "a fresh mount sees something old");
    fresh.unmount()?;
    volume.set("cluster.self-heal-daemon", "on")?;
    volume.settle(Duration::from_secs(60))?;
    ensure!(Seen::read(&from)? == new);
    reader.unmount()?;
    writer.unmount()
}

/// The other client replaces a file by renames over its name: whoever looks finds one or the other, never an error.
fn replaced_while_looking(sandbox: &Sandbox, shape: Shape, client: Client, brick: Option<usize>) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    // The kernel keeps no names: every look is a lookup. It keeps the attributes that the lookup told: asked for them once more, by the
    // gfid, the bricks may have to say ESTALE, rightly, for a file that was replaced meanwhile.
    let uncached = ["--entry-timeout=0"];
    let (reader, writer) = (volume.mount_with(client, "reader", &uncached)?, volume.mount(Client::C, "writer")?);
    fs::write(writer.join("name"), "content")?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, writer) = (&stop, &writer);
        let replaces = scope.spawn(move || -> Result<u64> {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                // A name that never was: the brick that was away may still have the old one, with another gfid, and then the C client's
                // lookup of it says EIO until it is healed.
                let next = writer.join(format!("next-{count}"));
                fs::write(&next, "content").with_context(|| format!("writing {}", next.display()))?;
                fs::rename(&next, writer.join("name")).with_context(|| format!("renaming {}", next.display()))?;
                count += 1;
            }
            Ok(count)
        });
        let look = || -> Result<u64> {
            let (start, mut count) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_secs(2) {
                fs::symlink_metadata(reader.join("name")).context("stat")?;
                count += 1;
            }
            Ok(count)
        };
        let outcome = (|| -> Result<u64> {
            let mut looks = look()?;
            if let Some(brick) = brick {
                volume.kill(brick)?;
                looks += look()?;
                volume.restart()?;
                looks += look()? + look()?;
            }
            Ok(looks)
        })();
        stop.store(true, Ordering::Relaxed);
        let replaced = replaces.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")))?;
        println!("{client}: {} looks, {replaced} replacements", outcome?);
        Ok::<(), anyhow::Error>(())
    })?;
    volume.settle(Duration::from_secs(60))?;
    reader.unmount()?;
    writer.unmount()
}

/// Changelogs cannot be read, listed or forged through a mount.
fn changelogs_are_private(sandbox: &Sandbox, shape: Shape, client: Client) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    let mount = volume.mount(client, "one")?;
    fs::create_dir(mount.join("directory"))?;
    fs::write(mount.join("file"), "text")?;
    for name in ["file", "directory", "."] {
        let path = mount.join(name);
        for key in ["trusted.afr.v-client-0", "trusted.afr.dirty", "trusted.glusterfs.afr.x"] {
            let set = setxattr(&path, key, &[0; 12], XattrFlags::empty());
            ensure!(set == Err(Errno::PERM), "setting {key} of {name} says {set:?}");
            let removed = removexattr(&path, key);
            ensure!(removed == Err(Errno::PERM), "removing {key} of {name} says {removed:?}");
        }
        let got = getxattr(&path, "trusted.afr.dirty", &mut [0; 64][..]);
        ensure!(got == Err(Errno::NODATA), "reading trusted.afr.dirty of {name} says {got:?}");
        setxattr(&path, "user.mine", b"1", XattrFlags::empty())?;
        let mut list = vec![0; 65_536];
        let length = listxattr(&path, &mut list)?;
        let list = String::from_utf8_lossy(&list[..length]).into_owned();
        ensure!(list.contains("user.mine") && !list.contains("afr"), "{name} lists {list:?}");
    }
    ensure!(volume.differences()?.is_empty());
    mount.unmount()
}

#[test]
fn never_old_on_replica_3() {
    scenario(|sandbox| never_old(sandbox, Shape::Replica3, Client::Rgfs, 2, &[]));
}

/// The first readable copy serves: it is the one that missed something.
#[test]
fn never_old_when_the_first_copy_missed_it() {
    let options = [("cluster.read-hash-mode", "0"), ("cluster.choose-local", "off")];
    scenario(|sandbox| never_old(sandbox, Shape::Replica3, Client::Rgfs, 0, &options));
}

/// The copy with the fewest running reads serves.
#[test]
fn never_old_when_reads_are_spread() {
    let options = [("cluster.read-hash-mode", "3"), ("cluster.choose-local", "off")];
    scenario(|sandbox| never_old(sandbox, Shape::Replica2, Client::Rgfs, 0, &options));
}

#[test]
fn never_old_on_an_arbiter_volume() {
    let options = [("cluster.read-hash-mode", "2"), ("cluster.choose-local", "off")];
    scenario(|sandbox| never_old(sandbox, Shape::Arbiter, Client::Rgfs, 0, &options));
}

#[test]
fn a_replaced_name_is_always_found() {
    scenario(|sandbox| replaced_while_looking(sandbox, Shape::Replica3, Client::Rgfs, None));
}

#[test]
fn a_replaced_name_is_found_while_a_brick_comes_and_goes() {
    scenario(|sandbox| replaced_while_looking(sandbox, Shape::Replica3, Client::Rgfs, Some(1)));
}

#[test]
fn changelogs_are_private_on_replica_3() {
    scenario(|sandbox| changelogs_are_private(sandbox, Shape::Replica3, Client::Rgfs));
}
