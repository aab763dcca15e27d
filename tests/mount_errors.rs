//! A mount that cannot work fails within ten seconds, with an exit code other than 0 and one line that names the server and the step.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::client::{Client, mount_line};
use support::cluster::{GlusterdVolume, StaticCluster};
use support::process::Daemon;
use support::sandbox::{GLUSTERD_HOST, Sandbox, scenario};
use support::wait;

const LIMIT: Duration = Duration::from_secs(10);

/// Runs rgfs as a user does, and expects it to fail with one line that contains all of `words`.
fn fails(sandbox: &Sandbox, arguments: &[&str], words: &[&str]) -> Result<()> {
    let mount_point = sandbox.create("mnt/nothing")?;
    let output = sandbox.directory().join("said");
    let start = Instant::now();
    let mut command = Command::new(Client::Rgfs.program()?);
    command.arg(format!("--log-file={}", sandbox.log("rgfs").display())).args(arguments).arg(&mount_point);
    let mut process = Daemon::start("rgfs", &mut command, &output)?;
    let status = process.wait(LIMIT + Duration::from_secs(2))?;
    let took = start.elapsed();
    let said = fs::read_to_string(&output)?;
    let said = said.trim_end();
    println!("{arguments:?}: {status} after {took:?}: {said}");

    ensure!(!status.success(), "the mount succeeded");
    ensure!(status.code().is_some(), "it died: {status}");
    ensure!(took < LIMIT, "it took {took:?}");
    ensure!(said.lines().count() == 1, "more or less than one line:\n{said}");
    for word in words {
        ensure!(said.to_lowercase().contains(&word.to_lowercase()), "the line does not name '{word}': {said}");
    }
    ensure!(mount_line(&mount_point)?.is_none(), "something stays mounted");
    // The daemon that told its parent of the failure ends right behind it.
    wait::for_value("no process of rgfs is left", Duration::from_secs(1), || Ok((!left_running()?).then_some(())))
}

/// Whether any rgfs runs in this sandbox, but for the volfile server.
fn left_running() -> Result<bool> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let mut words = line.split(|byte| *byte == 0);
        let is_ours = words.next().is_some_and(|program| program.ends_with(b"/rgfs"));
        if is_ours && words.next() != Some(b"volfile-server") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn wrong_host() {
    scenario(|sandbox| {
        fails(sandbox, &["--volfile-server=no-such-host", "--volfile-id=v"], &["no-such-host", "resolve"])
    });
}

#[test]
fn wrong_port() {
    scenario(|sandbox| {
        fails(
            sandbox,
            &["--volfile-server=i-server1", "--volfile-server-port=6996"],
            &["i-server1:6996", "volfile", "refused"],
        )
    });
}

#[test]
fn wrong_volume_at_our_volfile_server() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 1)?;
        let _server = cluster.serve_volfiles("127.0.61.9", 6996)?;
        fails(
            sandbox,
            &["--volfile-server=i-server9", "--volfile-server-port=6996", "--volfile-id=nothing"],
            &["i-server9", "nothing"],
        )
    });
}

#[test]
fn wrong_volume_at_glusterd() {
    scenario(|sandbox| {
        let _volume = GlusterdVolume::start(sandbox, "v", 1, &[])?;
        let server = format!("--volfile-server={GLUSTERD_HOST}");
        fails(sandbox, &[&server, "--volfile-id=nothing"], &[GLUSTERD_HOST, "nothing"])
    });
}

#[test]
fn volume_not_started() {
    scenario(|sandbox| {
        let volume = GlusterdVolume::start(sandbox, "v", 1, &[])?;
        volume.gluster(&["stop", "v"])?;
        let server = format!("--volfile-server={GLUSTERD_HOST}");
        fails(sandbox, &[&server, "--volfile-id=v"], &[GLUSTERD_HOST])
    });
}

fn with_file(sandbox: &Sandbox, path: &Path, words: &[&str]) -> Result<()> {
    fails(sandbox, &["-f", path.to_str().context("a path in UTF-8")?], words)
}

#[test]
fn refused_by_address() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start_with(sandbox, 1, &["auth.addr.brick.reject *"])?;
        with_file(sandbox, &cluster.volfile_directory().join("glusterfs.vol"), &["i-server1", "refuse"])
    });
}

#[test]
fn wrong_export() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 1)?;
        let text = fs::read_to_string(cluster.volfile_directory().join("glusterfs.vol"))?;
        let path = sandbox.directory().join("wrong.vol");
        fs::write(&path, text.replace("remote-subvolume brick", "remote-subvolume nothing"))?;
        with_file(sandbox, &path, &["i-server1", "nothing"])
    });
}

#[test]
fn bricks_that_do_not_run() {
    scenario(|sandbox| {
        let mut cluster = StaticCluster::start(sandbox, 2)?;
        for brick in &mut cluster.bricks {
            brick.kill()?;
        }
        with_file(sandbox, &cluster.volfile_directory().join("glusterfs.vol"), &["i-server1"])
    });
}

#[test]
fn a_silent_brick() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 1)?;
        cluster.bricks[0].pause()?;
        with_file(sandbox, &cluster.volfile_directory().join("glusterfs.vol"), &["i-server1"])?;
        cluster.bricks[0].resume()
    });
}

#[test]
fn a_silent_volfile_server() {
    scenario(|sandbox| {
        // The kernel accepts for it; nobody ever answers.
        let _listener = TcpListener::bind("127.0.61.1:6996")?;
        fails(
            sandbox,
            &["--volfile-server=i-server1", "--volfile-server-port=6996"],
            &["i-server1:6996", "volfile", "answer"],
        )
    });
}

#[test]
fn broken_volfiles() {
    scenario(|sandbox| {
        let path = sandbox.directory().join("broken.vol");
        let cases = [
            ("", vec!["broken.vol"]),
            ("volume v\n  option a b\nend-volume\n", vec!["broken.vol", "2"]),
            ("volume v\n  type no/such\nend-volume\n", vec!["no/such"]),
            ("volume v\n  type protocol/client\n  option x `id`\nend-volume\n", vec!["broken.vol", "3", "command"]),
            ("volume v\n  type features/utime\n  subvolumes missing\nend-volume\n", vec!["missing"]),
            ("volume v\n  type features/shard\n  subvolumes w\nend-volume\n", vec!["broken.vol", "w"]),
        ];
        for (text, words) in cases {
            fs::write(&path, text)?;
            with_file(sandbox, &path, &words).with_context(|| format!("volfile {text:?}"))?;
        }
        Ok(())
    });
}

/// A translator that would change what data means, and that rgfs does not have: refused, never left out.
#[test]
fn a_translator_that_is_missing() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 2)?;
        let text = fs::read_to_string(cluster.volfile_directory().join("glusterfs.vol"))?;
        let path = sandbox.directory().join("replica.vol");
        fs::write(&path, text.replace("cluster/distribute", "cluster/disperse"))?;
        with_file(sandbox, &path, &["cluster/disperse"])
    });
}

#[test]
fn a_mount_point_that_is_missing() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 1)?;
        let output = sandbox.directory().join("said");
        let mut command = Command::new(Client::Rgfs.program()?);
        command.arg("-f").arg(cluster.volfile_directory().join("glusterfs.vol")).arg("/run/box/mnt/missing");
        let mut process = Daemon::start("rgfs", &mut command, &output)?;
        ensure!(!process.wait(LIMIT)?.success());
        let said = fs::read_to_string(output)?;
        ensure!(said.trim_end().lines().count() == 1 && said.contains("/run/box/mnt/missing"), "it says: {said}");
        Ok(())
    });
}
