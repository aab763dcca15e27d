//! File data goes from the brick's socket to the kernel without a copy in user space. rgfs counts what it copies; here the count is 0.

use std::fs::{self, File};
use std::io::Read;

use anyhow::{Result, ensure};
use support::client::Client;
use support::cluster::{Mountable, StaticCluster};
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::scenario;
use support::statedump;

const SIZE: usize = 32 << 20;

fn nothing_is_copied(cluster: &dyn Mountable) -> Result<()> {
    let content: Vec<u8> = (0..SIZE).map(|index| (index % 251) as u8).collect();
    let writer = cluster.mount(Client::Rgfs, "writer")?;
    fs::write(writer.join("big"), &content)?;
    fs::write(writer.join("small"), &content[..700])?;
    writer.unmount()?;

    // A new mount: nothing is in the page cache.
    let mut mount = cluster.mount(Client::Rgfs, "reader")?;
    let mut read = Vec::with_capacity(SIZE);
    File::open(mount.join("big"))?.read_to_end(&mut read)?;
    ensure!(read == content, "the file reads differently from what was written");
    ensure!(fs::read(mount.join("small"))? == content[..700]);

    let dump = statedump::take(mount.process().id())?;
    let bytes = statedump::counter(&dump.text, "fuse.bytes-read")?;
    // What the FUSE side copied, and what the connections to the bricks did.
    let copied = statedump::counter(&dump.text, "fuse.bytes-copied")? + statedump::counter(&dump.text, "bytes-copied")?;
    println!("{bytes} bytes read, {copied} copied");
    ensure!(bytes >= SIZE as u64, "only {bytes} bytes are counted as read");
    ensure!(copied == 0, "{copied} of {bytes} bytes were copied in user space");
    mount.unmount()
}

#[test]
fn none_on_one_brick() {
    scenario(|sandbox| nothing_is_copied(&StaticCluster::start(sandbox, 1)?));
}

#[test]
fn none_on_two_bricks() {
    scenario(|sandbox| nothing_is_copied(&StaticCluster::start(sandbox, 2)?));
}

#[test]
fn none_on_replica_3() {
    scenario(|sandbox| nothing_is_copied(&ReplicatedVolume::start(sandbox, Shape::Replica3)?));
}

#[test]
fn none_on_an_arbiter_volume() {
    scenario(|sandbox| nothing_is_copied(&ReplicatedVolume::start(sandbox, Shape::Arbiter)?));
}
