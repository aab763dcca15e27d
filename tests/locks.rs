//! Blocking locks: a process that waits for one can be interrupted and killed, and the brick then knows nothing of it.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::process::Signal;
use support::client::{Client, Mount};
use support::cluster::{Mountable, StaticCluster};
use support::process::Daemon;
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, scenario};
use support::statedump;
use support::wait;

/// How soon a signalled waiter must have ended.
const END_LIMIT: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(5);
/// Tells [`lock_helper`] what to do: `flock` or `fcntl`, and the file.
const KIND_VARIABLE: &str = "RGFS_TEST_LOCK_KIND";
const FILE_VARIABLE: &str = "RGFS_TEST_LOCK_FILE";

/// Not a test: the process that takes a lock and keeps it until it is killed. Without its variables it does nothing.
#[test]
#[ignore = "the helper process of the other tests"]
fn lock_helper() -> Result<()> {
    let (Ok(kind), Ok(path)) = (std::env::var(KIND_VARIABLE), std::env::var(FILE_VARIABLE)) else { return Ok(()) };
    let file = File::options().read(true).write(true).open(path)?;
    match kind.as_str() {
        "flock" => flock(&file, FlockOperation::LockExclusive)?,
        _ => fcntl_lock(&file, FlockOperation::LockExclusive)?,
    }
    loop {
        std::thread::park();
    }
}

/// Starts a process that takes the lock, or waits for it.
fn locker(sandbox: &Sandbox, kind: &str, file: &Path, name: &str) -> Result<Daemon> {
    // Whoever started the tests in the background may have had them ignore SIGINT, which processes inherit.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(std::env::current_exe()?);
    command
        .args(["--exact", "lock_helper", "--include-ignored", "--test-threads=1"])
        .env(KIND_VARIABLE, kind)
        .env(FILE_VARIABLE, file);
    Daemon::start(name, &mut command, &sandbox.log(name))
}

/// Waits until the brick holds `held` locks and has `waiting` more in its queue.
fn brick_has(brick: u32, held: usize, waiting: usize) -> Result<()> {
    let mut last = (0, 0);
    wait::for_value(&format!("{held} locks held and {waiting} waiting on the brick"), LIMIT, || {
        let dump = statedump::take(brick)?;
        last = (dump.posix_locks_held, dump.posix_locks_waiting);
        Ok((last == (held, waiting)).then_some(()))
    })
    .with_context(|| format!("the brick has {} held and {} waiting", last.0, last.1))
}

/// One waiter, one signal.
fn waiter_ends(sandbox: &Sandbox, brick: u32, holds: &Mount, waits: &Mount, kind: &str, signal: Signal) -> Result<()> {
    let mut holder = locker(sandbox, kind, &holds.join("file"), "holder")?;
    brick_has(brick, 1, 0)?;
    let mut waiter = locker(sandbox, kind, &waits.join("file"), "waiter")?;
    brick_has(brick, 1, 1)?;

    let start = Instant::now();
    waiter.signal(signal)?;
    waiter.wait(LIMIT).with_context(|| format!("{kind} does not end at {signal:?}"))?;
    let took = start.elapsed();
    ensure!(took < END_LIMIT, "{kind} ended {took:?} after {signal:?}");
    brick_has(brick, 1, 0)?;

    holder.kill()?;
    brick_has(brick, 0, 0)?;
    // And the lock can be had again, at once.
    let mut next = locker(sandbox, kind, &waits.join("file"), "next")?;
    brick_has(brick, 1, 0)?;
    next.kill()?;
    brick_has(brick, 0, 0)
}

/// On replicated volumes everybody queues at the first brick; the others are checked at the end.
fn waiters_can_be_ended(sandbox: &Sandbox, cluster: &dyn Mountable, client: Client, other: Client) -> Result<()> {
    let bricks = cluster.brick_ids()?;
    let brick = *bricks.first().context("no brick")?;
    let mount = cluster.mount(client, "one")?;
    let elsewhere = cluster.mount(other, "two")?;
    std::fs::write(mount.join("file"), "text")?;
    for kind in ["flock", "fcntl"] {
        for signal in [Signal::INT, Signal::KILL] {
            for holder in [&mount, &elsewhere] {
                waiter_ends(sandbox, brick, holder, &mount, kind, signal)
                    .with_context(|| format!("{kind}, {signal:?}, held through {}", holder.client()))?;
            }
        }
    }
    for brick in bricks {
        brick_has(brick, 0, 0)?;
    }
    // The mount goes on.
    std::fs::write(mount.join("another"), "text")?;
    ensure!(std::fs::read(elsewhere.join("another"))? == b"text");
    mount.unmount()?;
    elsewhere.unmount()
}

#[test]
fn a_waiter_for_a_lock_can_be_interrupted_and_killed() {
    scenario(|sandbox| waiters_can_be_ended(sandbox, &StaticCluster::start(sandbox, 1)?, Client::Rgfs, Client::C));
}

/// The yardstick.
#[test]
#[ignore = "says nothing about rgfs; run it when the test above fails"]
fn c_waiters_can_be_ended() {
    scenario(|sandbox| waiters_can_be_ended(sandbox, &StaticCluster::start(sandbox, 1)?, Client::C, Client::C));
}

/// A lock that is released is handed to the waiter, between the clients and both ways.
fn a_released_lock_is_handed_on(sandbox: &Sandbox, cluster: &dyn Mountable, client: Client) -> Result<()> {
    let bricks = cluster.brick_ids()?;
    let brick = *bricks.first().context("no brick")?;
    let ours = cluster.mount(client, "rgfs")?;
    let c = cluster.mount(Client::C, "c")?;
    std::fs::write(ours.join("file"), "text")?;
    for kind in ["flock", "fcntl"] {
        for (first, second) in [(&ours, &c), (&c, &ours), (&ours, &ours)] {
            let mut holder = locker(sandbox, kind, &first.join("file"), "holder")?;
            for brick in &bricks {
                brick_has(*brick, 1, 0)?;
            }
            let mut waiter = locker(sandbox, kind, &second.join("file"), "waiter")?;
            brick_has(brick, 1, 1)?;
            holder.kill()?;
            for brick in &bricks {
                brick_has(*brick, 1, 0).context("the waiter did not get the lock")?;
            }
            waiter.kill()?;
            for brick in &bricks {
                brick_has(*brick, 0, 0)?;
            }
        }
    }
    ours.unmount()?;
    c.unmount()
}

#[test]
fn a_released_lock_goes_to_the_waiter() {
    scenario(|sandbox| a_released_lock_is_handed_on(sandbox, &StaticCluster::start(sandbox, 1)?, Client::Rgfs));
}

#[test]
fn a_released_lock_goes_to_the_waiter_on_replica_3() {
    let start = |sandbox: &Sandbox| ReplicatedVolume::start(sandbox, Shape::Replica3);
    scenario(|sandbox| a_released_lock_is_handed_on(sandbox, &start(sandbox)?, Client::Rgfs));
}

#[test]
fn a_released_lock_goes_to_the_waiter_on_an_arbiter_volume() {
    let start = |sandbox: &Sandbox| ReplicatedVolume::start(sandbox, Shape::Arbiter);
    scenario(|sandbox| a_released_lock_is_handed_on(sandbox, &start(sandbox)?, Client::Rgfs));
}

#[test]
fn a_waiter_on_replica_3_can_be_interrupted_and_killed() {
    let start = |sandbox: &Sandbox| ReplicatedVolume::start(sandbox, Shape::Replica3);
    scenario(|sandbox| waiters_can_be_ended(sandbox, &start(sandbox)?, Client::Rgfs, Client::C));
}
