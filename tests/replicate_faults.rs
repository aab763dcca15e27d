//! Bricks of replicated volumes die under load and come back: nothing fails while there is a quorum, nothing acknowledged is lost, and
//! the self-heal daemon makes the copies equal. Without a quorum writes are refused, and no copy accuses another for it.
//!
//! The long run is `cargo xtask soak`; `RGFS_SOAK=1` asks for it here.

use std::time::Duration;

use anyhow::{Context, Result};
use support::client::Client;
use support::cluster::Mountable;
use support::load::{Acknowledged, under_load};
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, is_soak, scenario};

/// How long the self-heal daemon may take. It reaches a brick that is back after some seconds.
const HEAL_LIMIT: Duration = Duration::from_secs(60);

/// How long the load runs in each of its phases: healthy, one brick dead, healing.
fn phase() -> Duration {
    if is_soak() { Duration::from_secs(20) } else { Duration::from_secs(4) }
}

/// Everything acknowledged is there, through a fresh mount of either client.
fn all_there(volume: &ReplicatedVolume, client: Client, name: &str, acknowledged: &Acknowledged) -> Result<()> {
    for reader in [client, Client::C] {
        let mount = volume.mount(reader, &format!("{name}-{reader:?}"))?;
        acknowledged.verify(mount.path()).with_context(|| format!("read through {reader}"))?;
        mount.unmount()?;
    }
    Ok(())
}

/// One brick after the other dies and returns under load. Before the next one dies the copies are equal: a new file whose only other copy
/// is not healed yet could not be looked up with a quorum, and its refusal would be right.
fn killed_in_turn(sandbox: &Sandbox, client: Client, shape: Shape, victims: &[usize]) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    volume.remove_instead_of_parking()?;
    let scratch = sandbox.create("scratch")?;
    let mount = volume.mount(client, "load")?;
    let mut written = Vec::new();
    for victim in victims {
        written.push(under_load(mount.path(), &format!("load-{victim}"), &scratch, |load| {
            load.go_on(phase())?;
            volume.kill(*victim)?;
            load.go_on(phase())?;
            volume.restart()?;
            load.go_on(phase())
        })?);
        println!("{client}: {shape:?} healed after {:?}", volume.settle(HEAL_LIMIT)?);
    }
    for (number, acknowledged) in written.iter().enumerate() {
        println!("{client}: {shape:?}: {} operations acknowledged", acknowledged.operations);
        acknowledged.verify(mount.path()).context("read through the mount that wrote")?;
        all_there(&volume, client, &format!("check-{number}"), acknowledged)?;
    }
    mount.unmount()?;
    volume.settle(HEAL_LIMIT).map(drop)
}

#[test]
fn one_brick_of_replica_3_dies() {
    scenario(|sandbox| killed_in_turn(sandbox, Client::Rgfs, Shape::Replica3, &[1]));
}

#[test]
fn one_brick_of_replica_2_dies() {
    scenario(|sandbox| killed_in_turn(sandbox, Client::Rgfs, Shape::Replica2, &[1]));
}

/// A data brick: the arbiter must know which of the two data bricks is good.
#[test]
fn one_data_brick_of_an_arbiter_volume_dies() {
    scenario(|sandbox| killed_in_turn(sandbox, Client::Rgfs, Shape::Arbiter, &[0]));
}

#[test]
fn the_arbiter_dies() {
    scenario(|sandbox| killed_in_turn(sandbox, Client::Rgfs, Shape::Arbiter, &[2]));
}

/// A brick of the second replica set.
#[test]
fn one_brick_of_distributed_sets_dies() {
    scenario(|sandbox| killed_in_turn(sandbox, Client::Rgfs, Shape::Distributed, &[4]));
}

#[test]
fn two_bricks_of_replica_3_die_in_turn() {
    scenario(|sandbox| killed_in_turn(sandbox, Client::Rgfs, Shape::Replica3, &[0, 2]));
}

#[test]
fn two_data_bricks_of_an_arbiter_volume_die_in_turn() {
    scenario(|sandbox| killed_in_turn(sandbox, Client::Rgfs, Shape::Arbiter, &[0, 1]));
}
