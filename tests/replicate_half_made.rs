//! What bricks and the self-heal daemon leave behind that only an administrator can mend, and tests of replicated volumes therefore clear
//! away.
//!
//! A brick that is killed in the middle of a CREATE leaves a file without a gfid. The self-heal daemon tries in vain to remove it, and no
//! client can look at it. rgfs does not list it and answers what the C client answers.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use support::client::Client;
use support::cluster::Mountable;
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, scenario};

/// How long the self-heal daemon is given for what it cannot do. It does all else within a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take when it can.
const HEAL_LIMIT: Duration = Duration::from_secs(60);

fn half_made(sandbox: &Sandbox) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, Shape::Replica2)?;
    volume.remove_instead_of_parking()?;
    let mounts = [volume.mount(Client::Rgfs, "ours")?, volume.mount(Client::C, "theirs")?];
    fs::create_dir(mounts[0].join("directory"))?;
    fs::write(mounts[0].join("directory/kept"), "text")?;
    volume.kill(1)?;
    fs::write(mounts[0].join("directory/made"), "text")?;
    fs::remove_file(mounts[0].join("directory/made"))?;
    let half_made = volume.brick(1)?.join("directory/made");
    fs::write(&half_made, "")?;
    volume.restart()?;
    let Err(unhealed) = volume.settle(PATIENCE) else { anyhow::bail!("the self-heal daemon can heal it") };
    println!("as expected: {unhealed:#}");
    for mount in &mounts {
        let client = mount.client();
        let Err(error) = fs::symlink_metadata(mount.join("directory/made")) else { anyhow::bail!("{client} sees it") };
        ensure!(Errno::from_io_error(&error) == Some(Errno::NODATA), "{client} says {error}");
        let listed = fs::read_dir(mount.join("directory"))?.map(|entry| Ok(entry?.file_name()));
        ensure!(listed.collect::<Result<Vec<_>>>()? == ["kept"], "{client} lists it");
    }
    fs::remove_file(&half_made)?;
    volume.settle(HEAL_LIMIT).context("without it all heals")?;
    mounts.into_iter().try_for_each(support::client::Mount::unmount)
}

/// What [`ReplicatedVolume::settle_after_renames`] builds upon.
fn empty_without_marks(sandbox: &Sandbox) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, Shape::Replica3)?;
    let mount = volume.mount(Client::Rgfs, "mount")?;
    fs::write(mount.join("file"), "text")?;
    volume.settle(HEAL_LIMIT)?;
    fs::write(volume.brick(0)?.join("file"), "")?;
    ensure!(volume.settle(PATIENCE).is_err(), "the self-heal daemon finds it by itself");
    volume.settle_after_renames(0, HEAL_LIMIT, &|_| false)?;
    ensure!(fs::read(volume.brick(0)?.join("file"))? == b"text");
    mount.unmount()
}

#[test]
fn an_empty_copy_that_nobody_accuses_takes_a_full_heal() {
    scenario(empty_without_marks);
}

#[test]
fn a_file_without_a_gfid_is_nobodys() {
    scenario(half_made);
}
