//! `fsx`: random reads, writes, mapped reads and writes, truncations, holes and copies on one file; every read is compared.
//!
//! The long run (5 seeds of 20,000 operations) is `cargo xtask soak`; `RGFS_SOAK=1` asks for it here.

use std::time::Duration;

use anyhow::{Result, ensure};
use support::client::Client;
use support::cluster::{GlusterdVolume, Mountable, StaticCluster};
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, is_soak, scenario};
use support::suites;

fn no_mismatch(sandbox: &Sandbox, client: Client, cluster: &dyn Mountable) -> Result<()> {
    let operations = if is_soak() { 20_000 } else { 4_000 };
    let mount = cluster.mount(client, "fsx")?;
    let scratch = sandbox.create("scratch")?;
    for seed in 1..=5 {
        suites::fsx(mount.path(), &scratch, seed, operations)?;
    }
    mount.unmount()
}

#[test]
fn rgfs_on_one_brick() {
    scenario(|sandbox| no_mismatch(sandbox, Client::Rgfs, &StaticCluster::start(sandbox, 1)?));
}

#[test]
fn rgfs_on_two_bricks() {
    scenario(|sandbox| no_mismatch(sandbox, Client::Rgfs, &StaticCluster::start(sandbox, 2)?));
}

#[test]
#[ignore = "long: `cargo xtask soak` runs it; two bricks stand for it in every change"]
fn rgfs_on_three_bricks() {
    scenario(|sandbox| no_mismatch(sandbox, Client::Rgfs, &StaticCluster::start(sandbox, 3)?));
}

#[test]
#[ignore = "long: `cargo xtask soak` runs it; two bricks stand for it in every change"]
fn rgfs_on_seven_bricks() {
    scenario(|sandbox| no_mismatch(sandbox, Client::Rgfs, &StaticCluster::start(sandbox, 7)?));
}

/// With the translators that glusterd puts on top by default: buffered writes must not show in what is read.
#[test]
fn rgfs_on_a_volume_of_glusterd() {
    scenario(|sandbox| no_mismatch(sandbox, Client::Rgfs, &GlusterdVolume::start(sandbox, "fsx", 2, &[])?));
}

/// On replicated volumes the copies must be equal at the end, too. The long run asks for as much as elsewhere.
fn no_mismatch_and_equal_copies(sandbox: &Sandbox, client: Client, shape: Shape) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    let operations = if is_soak() { 20_000 } else { 1_500 };
    let mount = volume.mount(client, "fsx")?;
    let scratch = sandbox.create("scratch")?;
    for seed in 1..=if is_soak() { 5 } else { 2 } {
        suites::fsx(mount.path(), &scratch, seed, operations)?;
    }
    mount.unmount()?;
    volume.quiet(Duration::from_secs(2))?;
    let differences = volume.differences()?;
    ensure!(differences.is_empty(), "the copies differ: {differences:?}");
    Ok(())
}

#[test]
fn rgfs_on_replica_3() {
    scenario(|sandbox| no_mismatch_and_equal_copies(sandbox, Client::Rgfs, Shape::Replica3));
}

#[test]
fn rgfs_on_replica_2() {
    scenario(|sandbox| no_mismatch_and_equal_copies(sandbox, Client::Rgfs, Shape::Replica2));
}

#[test]
fn rgfs_on_an_arbiter_volume() {
    scenario(|sandbox| no_mismatch_and_equal_copies(sandbox, Client::Rgfs, Shape::Arbiter));
}

#[test]
fn rgfs_on_distributed_sets() {
    scenario(|sandbox| no_mismatch_and_equal_copies(sandbox, Client::Rgfs, Shape::Distributed));
}

/// The yardstick: the configuration asks for nothing that a brick cannot do.
#[test]
#[ignore = "says nothing about rgfs; run it when fsx fails"]
fn c_on_two_bricks() {
    scenario(|sandbox| no_mismatch(sandbox, Client::C, &StaticCluster::start(sandbox, 2)?));
}
