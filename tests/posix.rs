//! `pjdfstest`: POSIX conformance, case by case.
//!
//! The C client runs the same cases on the same volume, and the disk below runs them too: rgfs fails nothing that C passes, and what
//! C fails and the disk passes either passes with rgfs or stands in `tests/expectations/pjdfstest.md` with the reason.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use support::client::Client;
use support::cluster::{GlusterdVolume, Mountable, StaticCluster};
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, scenario};
use support::suites::{self, Verdict};

/// Known failures that no client can cure, one table row each: `| case | proof |`.
const EXPECTATIONS: &str = include_str!("expectations/pjdfstest.md");

fn expected() -> Vec<&'static str> {
    EXPECTATIONS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(case, _)| case)).collect()
}

/// The cases that failed and their words.
fn failures(verdicts: &BTreeMap<String, Verdict>) -> BTreeMap<&str, &str> {
    verdicts
        .iter()
        .filter_map(|(name, verdict)| match verdict {
            Verdict::Fail(said) => Some((name.as_str(), said.as_str())),
            Verdict::Pass | Verdict::Skip(_) => None,
        })
        .collect()
}

fn compare(sandbox: &Sandbox, start: impl FnOnce() -> Result<Box<dyn Mountable>>) -> Result<()> {
    let disk = sandbox.create("disk")?;
    let scratch = sandbox.create("scratch")?;
    let on_disk = suites::pjdfstest(&disk, &scratch)?;
    let cluster = start()?;
    let run = |client, name: &str| -> Result<_> {
        let mount = cluster.mount(client, name)?;
        let verdicts = suites::pjdfstest(mount.path(), &scratch)?;
        mount.unmount()?;
        Ok(verdicts)
    };
    let with_c = run(Client::C, "c")?;
    let with_rgfs = run(Client::Rgfs, "rgfs")?;
    ensure!(with_rgfs.len() == with_c.len(), "rgfs ran {} cases, C {}", with_rgfs.len(), with_c.len());

    let (disk_fails, c_fails, rgfs_fails) = (failures(&on_disk), failures(&with_c), failures(&with_rgfs));
    println!(
        "{} cases; failures: disk {}, C {}, rgfs {}",
        on_disk.len(),
        disk_fails.len(),
        c_fails.len(),
        rgfs_fails.len()
    );
    for (case, said) in &c_fails {
        println!("C fails     {case}: {said}");
    }
    for (case, said) in &rgfs_fails {
        println!("rgfs fails  {case}: {said}");
    }
    let expected = expected();
    let unexpected: Vec<_> =
        rgfs_fails.keys().filter(|case| !disk_fails.contains_key(*case) && !expected.contains(*case)).collect();
    let worse: Vec<_> = rgfs_fails.keys().filter(|case| !c_fails.contains_key(*case)).collect();
    let stale: Vec<_> = expected.iter().filter(|case| with_rgfs.get(**case) == Some(&Verdict::Pass)).collect();
    ensure!(worse.is_empty(), "rgfs fails what the C client passes: {worse:?}");
    ensure!(unexpected.is_empty(), "rgfs fails what the disk passes, and no expectation says so: {unexpected:?}");
    ensure!(stale.is_empty(), "passes now: take it out of tests/expectations/pjdfstest.md: {stale:?}");
    Ok(())
}

#[test]
fn pjdfstest_on_one_brick() {
    scenario(|sandbox| compare(sandbox, || Ok(Box::new(StaticCluster::start(sandbox, 1)?))));
}

#[test]
fn pjdfstest_on_two_bricks() {
    scenario(|sandbox| compare(sandbox, || Ok(Box::new(StaticCluster::start(sandbox, 2)?))));
}

#[test]
#[ignore = "long: `cargo xtask soak` runs it; two bricks stand for it in every change"]
fn pjdfstest_on_three_bricks() {
    scenario(|sandbox| compare(sandbox, || Ok(Box::new(StaticCluster::start(sandbox, 3)?))));
}

#[test]
#[ignore = "long: `cargo xtask soak` runs it; two bricks stand for it in every change"]
fn pjdfstest_on_seven_bricks() {
    scenario(|sandbox| compare(sandbox, || Ok(Box::new(StaticCluster::start(sandbox, 7)?))));
}

/// With the translators that glusterd puts on top by default, write-behind among them. The short name keeps the bricks' paths as short as
/// the mount's: of a path that fits the limit of the mount but not that of the brick, the brick says ESTALE.
#[test]
fn pjdfstest_on_a_volume_of_glusterd() {
    scenario(|sandbox| compare(sandbox, || Ok(Box::new(GlusterdVolume::start(sandbox, "v", 2, &[])?))));
}

fn compare_on(shape: Shape) {
    scenario(|sandbox| compare(sandbox, || Ok(Box::new(ReplicatedVolume::start(sandbox, shape)?))));
}

#[test]
fn pjdfstest_on_replica_3() {
    compare_on(Shape::Replica3);
}

#[test]
#[ignore = "long: `cargo xtask soak` runs it; replica 3 stands for it in every change"]
fn pjdfstest_on_replica_2() {
    compare_on(Shape::Replica2);
}

#[test]
#[ignore = "long: `cargo xtask soak` runs it; replica 3 stands for it in every change"]
fn pjdfstest_on_an_arbiter_volume() {
    compare_on(Shape::Arbiter);
}

#[test]
fn pjdfstest_on_distributed_sets() {
    compare_on(Shape::Distributed);
}
