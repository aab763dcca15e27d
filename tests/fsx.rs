//! `fsx`: random reads, writes, mapped reads and writes, truncations, holes and copies on one file; every read is compared.
//!
//! The long run (5 seeds of 20,000 operations) is `cargo xtask soak`; `RGFS_SOAK=1` asks for it here.

use anyhow::Result;
use support::client::Client;
use support::cluster::{GlusterdVolume, Mountable, StaticCluster};
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

/// With the translators that glusterd puts on top by default: buffered writes must not show in what is read.
#[test]
fn rgfs_on_a_volume_of_glusterd() {
    scenario(|sandbox| no_mismatch(sandbox, Client::Rgfs, &GlusterdVolume::start(sandbox, "fsx", 2, &[])?));
}

/// The yardstick: the configuration asks for nothing that a brick cannot do.
#[test]
#[ignore = "says nothing about rgfs; run it when fsx fails"]
fn c_on_two_bricks() {
    scenario(|sandbox| no_mismatch(sandbox, Client::C, &StaticCluster::start(sandbox, 2)?));
}
