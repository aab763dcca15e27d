//! A volume of two copies and a real thin arbiter (`features/thin-arbiter` of the installed GlusterFS): who is called bad, what
//! the other copy serves then, and that the self-heal daemon is let in.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::io::Errno;
use support::backends::read_attributes;
use support::brick::Brick;
use support::client::{Client, Mount, Source};
use support::cluster::STATIC_PORT;
use support::process::Daemon;
use support::sandbox::{Sandbox, scenario, server_address, server_name};
use support::volfiles::{self, Remote, ReplicaSet, Role};
use support::{statedump, wait};

/// Until a client or healer knows that a brick came or went.
const NEWS_LIMIT: Duration = Duration::from_secs(20);
/// Until the self-heal daemon has healed, and has told the thin arbiter.
const HEAL_LIMIT: Duration = Duration::from_secs(60);

struct Volume {
    sandbox: Sandbox,
    copies: [Brick; 2],
    arbiter: PathBuf,
    _arbiter_process: Daemon,
    client_volfile: String,
}

impl Volume {
    fn start(sandbox: &Sandbox) -> Result<Self> {
        let set = ReplicaSet { volume: "ta".into(), arbiter: false };
        let copy = |index: usize| {
            let (name, number) = (format!("ta-b{index}"), index + 1);
            let (host, address) = (server_name(number), server_address(number));
            Brick::start(sandbox, Role::Copy(&set), &name, &host, &address, STATIC_PORT, &[])
        };
        let copies = [copy(0)?, copy(1)?];
        let (arbiter, address) = (sandbox.create("ta")?, server_address(3));
        fs::create_dir_all(arbiter.join(".glusterfs/indices"))?;
        // As `setup-thin-arbiter.sh` lays it out; access control is not in it.
        let volfile = volfiles::brick(Role::Copy(&set), &arbiter, &address, STATIC_PORT, &[])
            .replace("type features/access-control", "type features/thin-arbiter")
            .replace("type features/locks\n", "type features/locks\n    option notify-contention yes\n");
        let (path, log) = (sandbox.directory().join("ta.vol"), sandbox.log("ta"));
        fs::write(&path, volfile)?;
        let mut command = Command::new("glusterfsd");
        command.arg("-N").arg("-f").arg(&path).arg("-l").arg(&log);
        let arbiter_process = Daemon::start("thin arbiter", &mut command, &log.with_extension("out"))?;
        wait::for_port(&address, STATIC_PORT, NEWS_LIMIT, || Ok(()))?;

        let remote = |(number, name): (usize, String)| Remote { name, host: server_name(number), port: STATIC_PORT };
        let remotes = [(1, set.client(0)), (2, set.client(1)), (3, "ta-ta-2".into())].map(remote);
        let client_volfile = volfiles::replicated_client(&set, &remotes)
            .replace("type cluster/replicate\n", "type cluster/replicate\n    option thin-arbiter i-server3:/ta\n");
        Ok(Self { sandbox: sandbox.clone(), copies, arbiter, _arbiter_process: arbiter_process, client_volfile })
    }

    fn mount(&self, client: Client, name: &str) -> Result<Mount> {
        let path = self.sandbox.directory().join(format!("{name}.vol"));
        fs::write(&path, &self.client_volfile)?;
        let directory = self.sandbox.create(&format!("mnt/{name}"))?;
        Mount::new(client, &Source::File(path), &directory, &self.sandbox.log(&format!("mnt-{name}")), &[])
    }

    fn start_healer(&self) -> Result<Daemon> {
        let options = ["iam-self-heal-daemon yes", "self-heal-daemon on", "heal-timeout 5", "data-self-heal on"];
        let options = options.iter().chain(&["metadata-self-heal on", "entry-self-heal on"]);
        let options: String = options.map(|option| format!("    option {option}\n")).collect();
        let kind = "type cluster/replicate\n";
        let volfile = self.client_volfile.replace(kind, &format!("{kind}{options}"));
        let (path, log) = (self.sandbox.directory().join("glustershd.vol"), self.sandbox.log("glustershd"));
        fs::write(&path, volfile)?;
        let mut command = Command::new("glusterfs");
        command.arg("-N").arg("--process-name").arg("glustershd").arg("-f").arg(&path).arg("-l").arg(&log);
        Daemon::start("glustershd", &mut command, &log.with_extension("out"))
    }

    /// The copies that the thin arbiter calls bad.
    fn bad(&self) -> Result<Vec<String>> {
        let marks: BTreeMap<String, Vec<u8>> = read_attributes(&self.arbiter.join("trusted.afr.ta-ta-2"))?;
        let bad = marks
            .into_iter()
            .filter(|(key, value)| key.starts_with("trusted.afr.ta-client-") && value.iter().any(|byte| *byte != 0));
        Ok(bad.map(|(key, _)| key.trim_start_matches("trusted.afr.").to_owned()).collect())
    }
}

/// Waits until rgfs knows that these copies are up, and no others.
fn knows(mount: &mut Mount, up: &str) -> Result<()> {
    let id = mount.process().id();
    wait::for_value(&format!("rgfs sees the copies {up}"), NEWS_LIMIT, || {
        let text = statedump::take(id)?.text;
        Ok(text.lines().any(|line| line.contains("children-up") && line.contains(up)).then_some(()))
    })
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn the_stale_copy_is_known_until_it_is_healed() {
    scenario(|sandbox| {
        let mut volume = Volume::start(sandbox)?;
        let mut mount = volume.mount(Client::Rgfs, "ours")?;
        knows(&mut mount, "{0, 1}")?;
        fs::write(mount.join("f"), "old")?;
        wait::until("the file on the thin arbiter", NEWS_LIMIT, || volume.bad().is_ok())?;
        ensure!(volume.bad()?.is_empty());

        volume.copies[1].kill()?;
        knows(&mut mount, "{0}")?;
        fs::write(mount.join("f"), "new")?;
        fs::write(mount.join("g"), "made without the other copy")?;
        ensure!(volume.bad()? == ["ta-client-1"], "{:?}", volume.bad()?);
        ensure!(fs::read(mount.join("f"))? == b"new");
        let theirs = volume.mount(Client::C, "theirs")?;
        ensure!(fs::read(theirs.join("f"))? == b"new", "the C client takes another copy for the good one");
        theirs.unmount()?;

        volume.copies[1].restart()?;
        knows(&mut mount, "{0, 1}")?;
        volume.copies[0].kill()?;
        knows(&mut mount, "{1}")?;
        let eio = Some(Errno::IO.raw_os_error());
        ensure!(errno(fs::write(mount.join("h"), "on the stale copy")) == eio);
        let fresh = volume.mount(Client::Rgfs, "fresh")?;
        ensure!(errno(fs::read(fresh.join("f"))) == eio, "the stale copy was read");
        ensure!(errno(fs::write(fresh.join("f"), "on the stale copy")) == eio);
        fresh.unmount()?;
        ensure!(volume.bad()? == ["ta-client-1"]);

        volume.copies[0].restart()?;
        knows(&mut mount, "{0, 1}")?;
        // It gets the lock that our client holds, heals, and takes the marks back.
        let healer = volume.start_healer()?;
        wait::for_value("the self-heal daemon calls both copies good", HEAL_LIMIT, || {
            Ok(volume.bad()?.is_empty().then_some(()))
        })?;
        drop(healer);
        ensure!(fs::read(volume.copies[1].directory().join("g"))? == b"made without the other copy");

        volume.copies[0].kill()?;
        knows(&mut mount, "{1}")?;
        fs::write(mount.join("f"), "newest")?;
        ensure!(volume.bad()? == ["ta-client-0"], "it was not forgotten: {:?}", volume.bad()?);
        mount.unmount()
    });
}
