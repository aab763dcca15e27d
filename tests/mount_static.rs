//! A static volume, in the way of the old `glusterfsd.vol`: hand-written bricks on port 6996 and a volfile server.
//! The C client is mounted at the same time; what one writes the other reads, byte for byte.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use support::client::{Client, Mount, Source, mount_line};
use support::cluster::{Mountable, StaticCluster};
use support::content::pattern;
use support::process::run;
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, scenario, server_name};

/// Writes a tree on one mount and compares it on the other.
fn written_here_is_read_there(writer: &Mount, reader: &Mount, name: &str) -> Result<()> {
    let directory = writer.join(name);
    fs::create_dir(&directory)?;
    let sizes = [0, 1, 4095, 4096, 131_072, 131_073, 1_048_576, 5_000_001];
    for (index, size) in sizes.into_iter().enumerate() {
        let mut file = fs::File::create(directory.join(format!("file-{index}")))?;
        // In odd pieces, so that requests do not begin at page borders.
        for piece in pattern(size, index as u64).chunks(70_001) {
            file.write_all(piece)?;
        }
        file.sync_all()?;
    }
    std::os::unix::fs::symlink("file-1", directory.join("link"))?;
    fs::hard_link(directory.join("file-2"), directory.join("hard"))?;
    fs::rename(directory.join("file-0"), directory.join("renamed"))?;

    let seen = reader.join(name);
    for (index, size) in sizes.into_iter().enumerate().skip(1) {
        let read = fs::read(seen.join(format!("file-{index}")))?;
        ensure!(read == pattern(size, index as u64), "file-{index} of {size} bytes differs on {}", reader.client());
    }
    ensure!(fs::read(seen.join("link"))? == pattern(1, 1));
    ensure!(fs::read(seen.join("hard"))? == pattern(4095, 2));
    let mut names: Vec<_> = fs::read_dir(&seen)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    let listed: Vec<_> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let expected = ["file-1", "file-2", "file-3", "file-4", "file-5", "file-6", "file-7", "hard", "link", "renamed"];
    ensure!(listed == expected, "{} lists {listed:?}", reader.client());
    Ok(())
}

fn both_ways(sandbox: &Sandbox, bricks: usize, first: Client, second: Client) -> Result<()> {
    both_ways_on(&StaticCluster::start(sandbox, bricks)?, first, second)
}

fn both_ways_on(cluster: &dyn Mountable, first: Client, second: Client) -> Result<()> {
    let one = cluster.mount(first, "one")?;
    let two = cluster.mount(second, "two")?;
    written_here_is_read_there(&one, &two, "from-one")?;
    written_here_is_read_there(&two, &one, "from-two")?;
    one.unmount()?;
    two.unmount()
}

/// The harness itself, with nothing of ours in it.
#[test]
fn two_c_clients_share_two_bricks() {
    scenario(|sandbox| both_ways(sandbox, 2, Client::C, Client::C));
}

#[test]
fn c_and_rgfs_share_one_brick() {
    scenario(|sandbox| both_ways(sandbox, 1, Client::C, Client::Rgfs));
}

#[test]
fn c_and_rgfs_share_two_bricks() {
    scenario(|sandbox| both_ways(sandbox, 2, Client::Rgfs, Client::C));
}

/// Volumes of a real glusterd: the copies are equal at the end. The C client leaves marks when it is unmounted soon after a write, so
/// the self-heal daemon has something to do.
fn both_ways_on_copies(sandbox: &Sandbox, shape: Shape) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    both_ways_on(&volume, Client::Rgfs, Client::C)?;
    volume.settle(Duration::from_secs(30)).map(drop)
}

#[test]
fn c_and_rgfs_share_a_replica_3() {
    scenario(|sandbox| both_ways_on_copies(sandbox, Shape::Replica3));
}

#[test]
fn c_and_rgfs_share_a_replica_2() {
    scenario(|sandbox| both_ways_on_copies(sandbox, Shape::Replica2));
}

#[test]
fn c_and_rgfs_share_an_arbiter_volume() {
    scenario(|sandbox| both_ways_on_copies(sandbox, Shape::Arbiter));
}

#[test]
fn c_and_rgfs_share_distributed_sets() {
    scenario(|sandbox| both_ways_on_copies(sandbox, Shape::Distributed));
}

/// Both clients fetch the volfile from our server, rgfs with the command of the old days: no volume is named.
#[test]
fn both_clients_mount_from_our_volfile_server() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 2)?;
        let _server = cluster.serve_volfiles("127.0.61.9", 6996)?;
        let source = Source::Server { host: server_name(9), port: Some(6996), volume: None };
        let mount = |client, name: &str| {
            Mount::new(client, &source, &sandbox.create(&format!("mnt/{name}"))?, &sandbox.log(name), &[])
        };
        let c = mount(Client::C, "c")?;
        let ours = mount(Client::Rgfs, "rgfs")?;
        written_here_is_read_there(&c, &ours, "from-c")?;
        written_here_is_read_there(&ours, &c, "from-rgfs")?;
        ours.unmount()?;
        c.unmount()
    });
}

/// The exact command: it returns when the mount is usable, the mount is a `fuse.glusterfs`, and umount ends the daemon.
#[test]
fn the_command_of_the_old_days_mounts_and_returns() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 2)?;
        let _server = cluster.serve_volfiles("127.0.61.9", 6996)?;
        let home = sandbox.create("home/gfs")?;
        run(Command::new(Client::Rgfs.program()?)
            .args(["--volfile-server=i-server9", "--volfile-server-port=6996"])
            .arg(&home))?;
        let line = mount_line(&home)?.unwrap_or_default();
        ensure!(line.starts_with("i-server9:"), "unexpected source: {line}");
        ensure!(line.contains(" fuse.glusterfs "), "unexpected type: {line}");
        fs::write(home.join("file"), "text")?;
        ensure!(cluster.bricks_with("file").len() == 1, "a file lies on one brick of two");
        run(Command::new("umount").arg(&home))?;
        ensure!(mount_line(&home)?.is_none());
        Ok(())
    });
}
