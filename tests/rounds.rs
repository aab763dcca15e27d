//! How many requests reach the brick per operation: for serial work each one is a round trip, and round trips cost more than all else.
//!
//! Counted by the brick itself (its statedump), so both clients are counted alike. rgfs needs no more than the C client, and no more
//! than the table says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use support::client::Client;
use support::cluster::{Mountable, StaticCluster};
use support::sandbox::{Sandbox, scenario};
use support::statedump::arrived;

type Operation = fn(&Path) -> Result<()>;

/// Name, the most requests that rgfs may need on one brick, and the operation in a directory that holds `old` (4 KiB) and `empty/`.
const OPERATIONS: [(&str, u64, Operation); 9] = [
    // LOOKUP
    ("stat", 1, |at| Ok(fs::symlink_metadata(at.join("old")).map(drop)?)),
    // LOOKUP
    ("stat of a missing name", 1, |at| {
        ensure!(!at.join("missing").exists());
        Ok(())
    }),
    // LOOKUP, OPEN, READ, RELEASE: without locks there is nothing that a FLUSH would do
    ("open, read 4 KiB, close", 4, |at| Ok(fs::read(at.join("old")).map(drop)?)),
    // LOOKUP, CREATE, RELEASE
    ("create, close", 3, |at| Ok(File::create_new(at.join("new")).map(drop)?)),
    // LOOKUP, CREATE, WRITE, RELEASE
    ("create, write 1 KiB, close", 4, |at| Ok(File::create_new(at.join("newer"))?.write_all(&[0x5a; 1024])?)),
    // LOOKUP, MKDIR
    ("mkdir", 2, |at| Ok(fs::create_dir(at.join("directory"))?)),
    // LOOKUP, LOOKUP, RENAME
    ("rename", 3, |at| Ok(fs::rename(at.join("old"), at.join("renamed"))?)),
    // LOOKUP, UNLINK
    ("unlink", 2, |at| Ok(fs::remove_file(at.join("old"))?)),
    // LOOKUP, RMDIR
    ("rmdir", 2, |at| Ok(fs::remove_dir(at.join("empty"))?)),
];

/// The requests of each operation, each on a mount of its own, so that no cache answers.
fn requests(cluster: &StaticCluster, client: Client, tag: &str) -> Result<Vec<BTreeMap<String, u64>>> {
    let brick = [cluster.bricks[0].process()?.id()];
    let mut seen = Vec::new();
    for (index, (name, _, operation)) in OPERATIONS.iter().enumerate() {
        let place = format!("{tag}-{index}");
        let preparing = cluster.mount(Client::C, "preparing")?;
        fs::create_dir_all(preparing.join(&place).join("empty"))?;
        fs::write(preparing.join(&place).join("old"), [0x5a; 4096])?;
        preparing.unmount()?;

        let mount = cluster.mount(client, &place)?;
        let directory = mount.join(&place);
        // The directory itself is known already, as a working directory is.
        ensure!(fs::symlink_metadata(&directory)?.is_dir());
        arrived(&brick)?;
        operation(&directory).with_context(|| format!("{client}: {name}"))?;
        seen.push(arrived(&brick)?);
        mount.unmount()?;
    }
    Ok(seen)
}

fn compare(sandbox: &Sandbox, client: Client) -> Result<()> {
    let cluster = StaticCluster::start(sandbox, 1)?;
    let of_c = requests(&cluster, Client::C, "c")?;
    let ours = requests(&cluster, client, "ours")?;
    let mut broken = Vec::new();
    for ((name, most, _), (c, ours)) in OPERATIONS.iter().zip(of_c.iter().zip(&ours)) {
        let (c_count, our_count) = (c.values().sum::<u64>(), ours.values().sum::<u64>());
        println!("{name}: C {c_count} {c:?}; {client} {our_count} {ours:?}; at most {most}");
        if our_count > *most || our_count > c_count {
            broken.push(*name);
        }
    }
    ensure!(broken.is_empty(), "too many requests: {broken:?}");
    Ok(())
}

#[test]
fn no_more_requests_than_needed_on_one_brick() {
    scenario(|sandbox| compare(sandbox, Client::Rgfs));
}
