//! The marks of replicate on the bricks: none are left when a healthy volume rests or is unmounted, and after a brick's absence exactly
//! the missed work is marked, so that a heal makes the copies equal.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{
    FallocateFlags, FileType, Mode, XattrFlags, copy_file_range, fallocate, mknodat, removexattr, setxattr,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use support::client::Client;
use support::cluster::Mountable;
use support::content::pattern;
use support::process::run;
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, scenario};
use support::wait;

/// A second of delay before marks are taken back, and some time to do so.
const REST_LIMIT: Duration = Duration::from_secs(2);
const HEAL_LIMIT: Duration = Duration::from_secs(60);
/// The clients look for a lost brick every three seconds.
const BACK_LIMIT: Duration = Duration::from_secs(15);

/// One of each operation that changes something.
fn change_everything(root: &Path) -> Result<()> {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("a/b/c"))?;
    fs::write(at("a/file"), pattern(300_000, 1))?;
    File::options().append(true).open(at("a/file"))?.write_all(b"appended")?;
    let file = File::options().read(true).write(true).open(at("a/file"))?;
    file.write_all_at(b"overwritten", 1000)?;
    file.set_len(200_000)?;
    file.sync_all()?;
    fallocate(&file, FallocateFlags::empty(), 200_000, 10_000)?;
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 8192)?;
    file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH))?;
    fs::set_permissions(at("a/file"), fs::Permissions::from_mode(0o640))?;
    chown(at("a/file"), Some(1), Some(2))?;
    setxattr(at("a/file"), "user.one", b"1", XattrFlags::empty())?;
    setxattr(at("a/file"), "user.two", b"2", XattrFlags::empty())?;
    removexattr(at("a/file"), "user.one")?;
    setxattr(at("a"), "user.one", b"1", XattrFlags::empty())?;
    fs::hard_link(at("a/file"), at("a/b/hard"))?;
    symlink("file", at("a/link"))?;
    mknodat(rustix::fs::CWD, at("a/fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0)?;
    fs::rename(at("a/link"), at("a/b/renamed"))?;
    fs::write(at("a/over"), "over")?;
    fs::rename(at("a/over"), at("a/b/hard"))?;
    fs::rename(at("a/b/c"), at("a/d"))?;
    fs::write(at("a/short"), "gone soon")?;
    fs::remove_file(at("a/short"))?;
    fs::create_dir(at("a/empty"))?;
    fs::remove_dir(at("a/empty"))?;
    // Open with truncation.
    fs::write(at("a/file"), "short")?;
    Ok(())
}

fn equal(volume: &ReplicatedVolume) -> Result<()> {
    let differences = volume.differences()?;
    ensure!(differences.is_empty(), "the copies differ:\n{}", differences.join("\n"));
    Ok(())
}

/// Nobody heals: the client itself must clean up, and the daemon must not hide it.
fn without_daemon(sandbox: &Sandbox, shape: Shape) -> Result<ReplicatedVolume> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    volume.set("cluster.self-heal-daemon", "off")?;
    Ok(volume)
}

fn rest_leaves_nothing(sandbox: &Sandbox, shape: Shape, client: Client) -> Result<()> {
    let volume = without_daemon(sandbox, shape)?;
    let mount = volume.mount(client, "one")?;
    change_everything(mount.path())?;
    // Still open, and written just now.
    let open = File::create_new(mount.join("open"))?;
    open.write_all_at(&pattern(100_000, 2), 0)?;
    println!("{client} on {shape:?}: nothing left after {:?}", volume.quiet(REST_LIMIT)?);
    equal(&volume)?;
    drop(open);
    mount.unmount()
}

fn unmount_leaves_nothing(sandbox: &Sandbox, shape: Shape, client: Client) -> Result<()> {
    let volume = without_daemon(sandbox, shape)?;
    for round in 0..3 {
        let mount = volume.mount(client, &format!("mount-{round}"))?;
        for number in 0..8 {
            fs::write(mount.join(format!("{round}-{number}")), pattern(50_000, number))?;
        }
        mount.unmount()?;
        // The client is gone and can do nothing any more; the bricks may still be busy with what it sent at last.
        volume.quiet(Duration::from_millis(500)).with_context(|| format!("after the unmount by {client}"))?;
        equal(&volume)?;
    }
    Ok(())
}

/// Waits until all bricks have as many clients as before.
fn wait_for_connections(volume: &ReplicatedVolume, before: &[usize]) -> Result<()> {
    wait::for_value("all clients are connected again", BACK_LIMIT, || {
        Ok(volume.connections()?.iter().zip(before).all(|(now, before)| now >= before).then_some(()))
    })
}

/// A file stays open over the absence of a brick, and is written before, meanwhile and after.
fn open_writer_survives(sandbox: &Sandbox, shape: Shape, client: Client, victim: usize) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    let mount = volume.mount(client, "one")?;
    let file = File::options().read(true).write(true).create_new(true).open(mount.join("open"))?;
    let write = |place: u64| -> Result<()> {
        file.write_all_at(&pattern(10_000, place), place * 10_000)?;
        Ok(file.sync_all()?)
    };
    write(0)?;
    let before = volume.connections()?;
    volume.kill(victim)?;
    write(1)?;
    write(2)?;
    volume.restart()?;
    write(3)?;
    wait_for_connections(&volume, &before)?;
    volume.settle(HEAL_LIMIT)?;
    // Whole again: what is written now through the old descriptor reaches all copies, and accuses none.
    write(4)?;
    write(1)?;
    volume.quiet(REST_LIMIT)?;
    equal(&volume)?;
    for place in 0..5 {
        let mut bytes = vec![0; 10_000];
        file.read_exact_at(&mut bytes, place * 10_000)?;
        ensure!(bytes == pattern(10_000, place), "piece {place} differs");
    }
    drop(file);
    mount.unmount()
}

/// Everything that can be missed is missed by one brick.
fn absent_brick_is_healed(sandbox: &Sandbox, shape: Shape, client: Client, victim: usize) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    let mount = volume.mount(client, "one")?;
    fs::create_dir(mount.join("old"))?;
    change_everything(&mount.join("old"))?;
    for number in 0..10 {
        fs::write(mount.join(format!("old/{number}")), pattern(100_000, number))?;
    }
    fs::create_dir(mount.join("removed"))?;
    fs::write(mount.join("removed/file"), "text")?;
    let before = volume.connections()?;

    volume.kill(victim)?;
    fs::create_dir(mount.join("new"))?;
    change_everything(&mount.join("new"))?;
    // Truncated by the open itself.
    fs::write(mount.join("old/0"), "short")?;
    fs::remove_file(mount.join("old/1"))?;
    fs::rename(mount.join("old/2"), mount.join("new/2"))?;
    fs::rename(mount.join("old/3"), mount.join("old/4"))?;
    fs::hard_link(mount.join("old/5"), mount.join("new/5"))?;
    fs::set_permissions(mount.join("old/6"), fs::Permissions::from_mode(0o600))?;
    setxattr(mount.join("old/7"), "user.x", b"y", XattrFlags::empty())?;
    fs::remove_dir_all(mount.join("removed"))?;
    // Gone, and there again as something else.
    fs::remove_file(mount.join("old/8"))?;
    fs::create_dir(mount.join("old/8"))?;
    let marked = volume.leftovers()?;
    ensure!(!marked.is_empty(), "nothing says what the brick missed");

    volume.restart()?;
    wait_for_connections(&volume, &before)?;
    println!("{client} on {shape:?}: healed after {:?}", volume.settle(HEAL_LIMIT)?);
    ensure!(fs::read(mount.join("old/0"))? == b"short");
    ensure!(fs::read(mount.join("new/2"))? == pattern(100_000, 2));
    ensure!(fs::read(mount.join("old/4"))? == pattern(100_000, 3));
    ensure!(!mount.join("removed").exists() && mount.join("old/8").is_dir());
    private_directory_is_hidden(&volume, mount.path())?;
    mount.unmount()
}

/// What the self-heal daemon removes it parks in a directory in the root, which is nobody else's business.
fn private_directory_is_hidden(volume: &ReplicatedVolume, root: &Path) -> Result<()> {
    let prefix = ".glusterfs-anonymous-inode";
    let private = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(prefix);
    let mut found = None;
    for brick in volume.bricks() {
        for entry in fs::read_dir(brick)? {
            let name = entry?.file_name();
            if private(&name) {
                found = Some(name);
            }
        }
    }
    let found = found.context("the self-heal daemon made no directory of its own")?;
    for entry in fs::read_dir(root)? {
        ensure!(!private(&entry?.file_name()), "{found:?} is listed");
    }
    let error = fs::symlink_metadata(root.join(&found)).err().with_context(|| format!("{found:?} can be seen"))?;
    ensure!(error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()), "{found:?} says {error}");
    ensure!(fs::create_dir(root.join(format!("{prefix}-of-mine"))).is_err(), "a private name can be made");
    Ok(())
}

/// Copied by the kernel or by the client, but on all bricks.
fn copied_on_all_bricks(sandbox: &Sandbox, shape: Shape, client: Client) -> Result<()> {
    let volume = without_daemon(sandbox, shape)?;
    let mount = volume.mount(client, "one")?;
    let content = pattern(3_000_000, 5);
    fs::write(mount.join("from"), &content)?;
    let from = File::open(mount.join("from"))?;
    let to = File::options().read(true).write(true).create_new(true).open(mount.join("to"))?;
    let mut copied = 0;
    while copied < content.len() {
        match copy_file_range(&from, None, &to, None, content.len() - copied) {
            Ok(0) => break,
            Ok(count) => copied += count,
            // The client does not offer it: then nobody can do it wrong.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) if copied == 0 => {
                copied = std::io::copy(&mut &from, &mut &to)? as usize;
            }
            Err(error) => return Err(error).context("copy_file_range"),
        }
    }
    drop((from, to));
    run(Command::new("cp").arg("--reflink=auto").arg(mount.join("from")).arg(mount.join("cp")))?;
    ensure!(fs::read(mount.join("to"))? == content && fs::read(mount.join("cp"))? == content);
    volume.quiet(REST_LIMIT)?;
    equal(&volume)?;
    mount.unmount()
}

/// A small brick is full: the write succeeds on the others, and only the full one is accused.
fn one_full_brick(sandbox: &Sandbox, shape: Shape, client: Client) -> Result<()> {
    let place = ReplicatedVolume::place(sandbox, 1);
    fs::create_dir_all(&place)?;
    mount("tmpfs", &place, "tmpfs", MountFlags::empty(), Some(c"size=24m,mode=755"))?;
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    let outcome = fill_one_brick(&volume, client);
    drop(volume);
    unmount(&place, UnmountFlags::DETACH)?;
    outcome
}

fn fill_one_brick(volume: &ReplicatedVolume, client: Client) -> Result<()> {
    let mount = volume.mount(client, "one")?;
    let file = File::create_new(mount.join("big"))?;
    for piece in 0..32 {
        file.write_all_at(&pattern(1 << 20, piece), piece << 20).with_context(|| format!("MiB {piece}"))?;
        file.sync_data().with_context(|| format!("fsync after MiB {piece}"))?;
    }
    drop(file);
    let accusations = volume.mutual_accusations()?;
    ensure!(accusations.is_empty(), "copies accuse each other: {accusations:?}");
    wait::for_value("the full brick is accused, and no other", REST_LIMIT, || {
        let marks = volume.leftovers()?;
        let accuses = |client: usize| marks.iter().any(|mark| mark.contains(&format!("v-client-{client}=")));
        Ok((accuses(1) && !accuses(0) && !accuses(2)).then_some(()))
    })?;
    for piece in 0..32 {
        let mut bytes = vec![0; 1 << 20];
        File::open(mount.join("big"))?.read_exact_at(&mut bytes, piece << 20)?;
        ensure!(bytes == pattern(1 << 20, piece), "MiB {piece} differs");
    }
    // Room again: the rest of the volume heals.
    fs::write(mount.join("small"), "small")?;
    fs::remove_file(mount.join("big"))?;
    volume.settle(HEAL_LIMIT)?;
    mount.unmount()
}

#[test]
fn none_after_a_rest_on_replica_3() {
    scenario(|sandbox| rest_leaves_nothing(sandbox, Shape::Replica3, Client::Rgfs));
}

#[test]
fn none_after_a_rest_on_replica_2() {
    scenario(|sandbox| rest_leaves_nothing(sandbox, Shape::Replica2, Client::Rgfs));
}

#[test]
fn none_after_a_rest_on_an_arbiter_volume() {
    scenario(|sandbox| rest_leaves_nothing(sandbox, Shape::Arbiter, Client::Rgfs));
}

#[test]
fn none_after_a_rest_on_distributed_sets() {
    scenario(|sandbox| rest_leaves_nothing(sandbox, Shape::Distributed, Client::Rgfs));
}

#[test]
fn none_after_an_unmount_of_replica_3() {
    scenario(|sandbox| unmount_leaves_nothing(sandbox, Shape::Replica3, Client::Rgfs));
}

#[test]
fn none_after_an_unmount_of_an_arbiter_volume() {
    scenario(|sandbox| unmount_leaves_nothing(sandbox, Shape::Arbiter, Client::Rgfs));
}

#[test]
fn an_open_file_outlives_a_restart_on_replica_3() {
    scenario(|sandbox| open_writer_survives(sandbox, Shape::Replica3, Client::Rgfs, 0));
}

#[test]
fn an_open_file_outlives_a_restart_on_an_arbiter_volume() {
    scenario(|sandbox| open_writer_survives(sandbox, Shape::Arbiter, Client::Rgfs, 1));
}

#[test]
fn what_a_brick_missed_is_healed_on_replica_3() {
    scenario(|sandbox| absent_brick_is_healed(sandbox, Shape::Replica3, Client::Rgfs, 2));
}

#[test]
fn what_a_brick_missed_is_healed_on_replica_2() {
    scenario(|sandbox| absent_brick_is_healed(sandbox, Shape::Replica2, Client::Rgfs, 0));
}

#[test]
fn what_a_brick_missed_is_healed_on_an_arbiter_volume() {
    scenario(|sandbox| absent_brick_is_healed(sandbox, Shape::Arbiter, Client::Rgfs, 0));
}

#[test]
fn what_the_arbiter_missed_is_healed() {
    scenario(|sandbox| absent_brick_is_healed(sandbox, Shape::Arbiter, Client::Rgfs, 2));
}

#[test]
fn what_a_brick_missed_is_healed_on_distributed_sets() {
    scenario(|sandbox| absent_brick_is_healed(sandbox, Shape::Distributed, Client::Rgfs, 1));
}

#[test]
fn a_copied_file_is_on_all_bricks() {
    scenario(|sandbox| copied_on_all_bricks(sandbox, Shape::Replica3, Client::Rgfs));
}

#[test]
fn a_full_brick_is_accused_and_no_other() {
    scenario(|sandbox| one_full_brick(sandbox, Shape::Replica3, Client::Rgfs));
}
