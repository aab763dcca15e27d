//! Heals by the client, on real bricks: with the self-heal daemon off and the clients' heals on, what a brick missed is
//! repaired by looking at it through rgfs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use support::client::Client;
use support::cluster::Mountable;
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, scenario};

const LIMIT: Duration = Duration::from_secs(60);

/// Looks at everything below a directory.
fn look(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            look(&path)?;
        } else if kind.is_file() {
            fs::read(&path)?;
        } else {
            fs::read_link(&path)?;
        }
    }
    Ok(())
}

fn healed_by_looking(sandbox: &Sandbox, shape: Shape) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    for (key, value) in [
        ("cluster.self-heal-daemon", "off"),
        ("cluster.data-self-heal", "on"),
        ("cluster.metadata-self-heal", "on"),
        ("cluster.entry-self-heal", "on"),
    ] {
        volume.set(key, value)?;
    }
    let mount = volume.mount(Client::Rgfs, "before")?;
    fs::create_dir_all(mount.join("old/sub"))?;
    for name in ["changed", "moved", "removed", "linked"] {
        fs::write(mount.join(name), vec![b'x'; 300_000])?;
    }
    fs::write(mount.join("old/sub/deep"), "deep")?;
    volume.quiet(Duration::from_secs(20))?;
    volume.kill(1)?;
    fs::write(mount.join("changed"), vec![b'y'; 200_000])?;
    fs::set_permissions(mount.join("changed"), fs::Permissions::from_mode(0o600))?;
    fs::create_dir_all(mount.join("new/a"))?;
    fs::write(mount.join("new/a/file"), "inside")?;
    symlink("to", mount.join("new/link"))?;
    fs::rename(mount.join("moved"), mount.join("new/moved"))?;
    fs::remove_file(mount.join("removed"))?;
    fs::hard_link(mount.join("linked"), mount.join("new/linked"))?;
    fs::rename(mount.join("old/sub"), mount.join("new/sub"))?;
    mount.unmount()?;
    volume.restart()?;

    let start = Instant::now();
    for round in 0.. {
        let mount = volume.mount(Client::Rgfs, &format!("look-{round}"))?;
        look(mount.path())?;
        std::thread::sleep(Duration::from_millis(500));
        ensure!(fs::read(mount.join("changed"))? == vec![b'y'; 200_000]);
        mount.unmount()?;
        let mut left = volume.leftovers()?;
        // Notes of names that were not gone through one by one: bricks put them aside, for the self-heal daemon to clear away.
        left.retain(|line| !line.contains(": entry-changes has "));
        left.extend(volume.differences()?);
        if left.is_empty() {
            println!("healed in {} rounds", round + 1);
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            bail!("not healed:\n{}", left.join("\n"));
        }
    }
    Ok(())
}

#[test]
fn replica_3() {
    scenario(|sandbox| healed_by_looking(sandbox, Shape::Replica3));
}

#[test]
fn arbiter() {
    scenario(|sandbox| healed_by_looking(sandbox, Shape::Arbiter));
}
