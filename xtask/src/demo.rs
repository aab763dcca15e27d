//! `cargo xtask demo`: real bricks on this machine and a mount on /home/gfs, to look at. Two bricks with each file on one of them,
//! or with `--volume replicate` three bricks with each file on all of them.
//!
//! | name | address | what listens on port 6996 |
//! |---|---|---|
//! | i-server1 | 127.0.61.1 | `rgfs volfile-server`, which relays everything but volfile requests to the brick behind it |
//! | (no name) | 127.0.61.101 | the brick of i-server1, a real `glusterfsd` |
//! | i-server2 | 127.0.61.2 | the brick of i-server2, a real `glusterfsd` |
//! | i-server3 | 127.0.61.3 | the same of i-server3, in a replicated volume |
//!
//! A `glusterfsd` of the 2.x days served both its brick and the volfile on its one port. That of GlusterFS 10 serves only the brick;
//! with the volfile server in front of it, i-server1:6996 is both again, and the volfile names the bricks as they were named then:
//! `i-server1`, `i-server2`, port 6996.
//!
//! All it makes lies in [`HOME`], between two marker lines of /etc/hosts, and in the mount point; `--stop` takes all of it away.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::process::Signal;
use support::brick::holds;
use support::client::mount_line;
use support::process::signal_process;
use support::sandbox::{say, server_address, server_name};
use support::volfiles::{self, Remote, ReplicaSet, Role};
use support::wait;

use crate::setup;

/// Everything of the demo but the mount point.
const HOME: &str = "/var/lib/rgfs-demo";
const MOUNT_POINT: &str = "/home/gfs";
/// Where rgfs logs for that mount point.
const MOUNT_LOG: &str = "/var/log/glusterfs/home-gfs.log";
const PORT: u16 = 6996;
const HOSTS: &str = "/etc/hosts";
const HOSTS_BEGIN: &str = "# rgfs demo: begin";
const HOSTS_END: &str = "# rgfs demo: end";
/// The brick behind the volfile server of i-server1.
const FIRST_BRICK_ADDRESS: &str = "127.0.61.101";
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Options {
    /// Unmount, end the daemons and remove all that the demo made
    #[arg(long)]
    stop: bool,
    /// How the bricks make a volume
    #[arg(long, value_enum, default_value_t = VolumeKind::Distribute)]
    volume: VolumeKind,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VolumeKind {
    /// Two bricks, each file on one of them
    Distribute,
    /// Three bricks, each file on all of them
    Replicate,
}

impl VolumeKind {
    fn bricks(self) -> usize {
        match self {
            Self::Distribute => 2,
            Self::Replicate => 3,
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.stop {
        return stop();
    }
    ensure!(!Path::new(HOME).exists(), "{HOME} exists: a demo runs already; stop it with `cargo xtask demo --stop`");
    let mounted = mount_line(Path::new(MOUNT_POINT))?;
    ensure!(mounted.is_none(), "{MOUNT_POINT} is mounted already: {}", mounted.unwrap_or_default());
    setup::packages()?;
    let program = setup::release_build()?;
    if let Err(error) = start(&program, options.volume) {
        say("==> it failed; cleaning up");
        let logs = last_lines();
        stop()?;
        return Err(error.context(format!("the demo did not start\n{logs}")));
    }
    Ok(())
}

fn start(program: &Path, kind: VolumeKind) -> Result<()> {
    name_hosts(kind)?;
    start_bricks(kind)?;
    start_volfile_server(program)?;
    mount(program)?;
    write_and_read(kind)?;
    explain(program, kind)
}

/// Lets i-server1 and its neighbours be found.
fn name_hosts(kind: VolumeKind) -> Result<()> {
    let mut lines = format!("{HOSTS_BEGIN}\n");
    for number in 1..=kind.bricks() {
        lines += &format!("{} {}\n", server_address(number), server_name(number));
    }
    lines += &format!("{HOSTS_END}\n");
    let text = fs::read_to_string(HOSTS)?;
    ensure!(!text.contains(HOSTS_BEGIN), "{HOSTS} has lines of a demo: `cargo xtask demo --stop` removes them");
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    fs::write(HOSTS, format!("{text}{separator}{lines}"))?;
    say(&format!("==> {HOSTS}: i-server1 is 127.0.61.1, and so on to i-server{}", kind.bricks()));
    Ok(())
}

/// The file without the demo's lines.
fn without_our_lines(text: &str) -> String {
    let mut ours = false;
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        ours |= line.trim_end() == HOSTS_BEGIN;
        if !ours {
            kept += line;
        }
        ours &= line.trim_end() != HOSTS_END;
    }
    kept
}

fn brick_directory(number: usize) -> PathBuf {
    Path::new(HOME).join(format!("brick{number}"))
}

fn start_bricks(kind: VolumeKind) -> Result<()> {
    let home = Path::new(HOME);
    fs::create_dir_all(home.join("volfiles"))?;
    let set = ReplicaSet { volume: "demo".to_owned(), arbiter: false };
    let role = match kind {
        VolumeKind::Distribute => Role::Plain,
        VolumeKind::Replicate => Role::Copy(&set),
    };
    let mut remotes = Vec::new();
    for number in 1..=kind.bricks() {
        let directory = brick_directory(number);
        fs::create_dir_all(directory.join(".glusterfs/indices"))?;
        let address = if number == 1 { FIRST_BRICK_ADDRESS.to_owned() } else { server_address(number) };
        let volfile = home.join(format!("glusterfsd-{number}.vol"));
        fs::write(&volfile, volfiles::brick(role, &directory, &address, PORT, &[]))?;
        // It becomes a daemon by itself.
        setup::run(
            Command::new("glusterfsd")
                .arg("-f")
                .arg(&volfile)
                .arg("-p")
                .arg(home.join(format!("brick{number}.pid")))
                .arg("-l")
                .arg(home.join(format!("brick{number}.log"))),
        )?;
        wait::for_port(&address, PORT, LIMIT, || Ok(())).with_context(|| format!("brick {number}"))?;
        let name = match role {
            Role::Plain => format!("brick{number}"),
            Role::Copy(set) | Role::Arbiter(set) => set.client(number - 1),
        };
        remotes.push(Remote { name, host: server_name(number), port: PORT });
    }
    let client = match kind {
        VolumeKind::Distribute => volfiles::client(&remotes),
        VolumeKind::Replicate => volfiles::replicated_client(&set, &remotes),
    };
    fs::write(home.join("volfiles/glusterfs.vol"), client)?;
    Ok(())
}

fn start_volfile_server(program: &Path) -> Result<()> {
    let home = Path::new(HOME);
    let log = fs::File::create(home.join("volfile-server.log"))?;
    let mut command = Command::new(program);
    command
        .arg("volfile-server")
        .arg(format!("--directory={HOME}/volfiles"))
        .arg(format!("--listen={}:{PORT}", server_address(1)))
        .arg(format!("--brick={FIRST_BRICK_ADDRESS}:{PORT}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    say(&format!("==> {command:?}"));
    // It outlives us: its id goes to a file, as those of the bricks do.
    let mut server = command.spawn().context("starting rgfs volfile-server")?;
    fs::write(home.join("volfile-server.pid"), server.id().to_string())?;
    wait::for_port(&server_name(1), PORT, LIMIT, || match server.try_wait()? {
        Some(status) => bail!("rgfs volfile-server ended: {status}"),
        None => Ok(()),
    })
}

/// The command of the old days, found through PATH.
fn mount(program: &Path) -> Result<()> {
    if !Path::new(MOUNT_POINT).exists() {
        fs::create_dir_all(MOUNT_POINT)?;
        fs::write(Path::new(HOME).join("mount-point-is-ours"), "")?;
    }
    let mut path = program.parent().context("rgfs lies in a directory")?.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    setup::run(
        Command::new("rgfs")
            .args(["--volfile-server=i-server1", "--volfile-server-port=6996", MOUNT_POINT])
            .env("PATH", path),
    )?;
    let line = mount_line(Path::new(MOUNT_POINT))?.with_context(|| format!("nothing is mounted on {MOUNT_POINT}"))?;
    say(&format!("    {line}"));
    Ok(())
}

fn write_and_read(kind: VolumeKind) -> Result<()> {
    say("\nWriting, reading back, and looking at the bricks:\n");
    say(&format!("    {:34} {:>9}  lies on", "file", "bytes"));
    let names = ["hello.txt", "apple", "banana", "cherry", "date", "elderberry"];
    for (index, name) in names.into_iter().enumerate() {
        let path = Path::new(MOUNT_POINT).join(name);
        let content = format!("{name}: written through rgfs\n").repeat(1 << (2 * index));
        fs::write(&path, &content)?;
        let read = fs::read(&path)?;
        ensure!(read == content.as_bytes(), "{} reads differently from what was written", path.display());
        let bricks: Vec<String> = (1..=kind.bricks())
            .filter(|&number| holds(&brick_directory(number), name))
            .map(|number| format!("{} ({})", server_name(number), brick_directory(number).display()))
            .collect();
        say(&format!("    {:34} {:>9}  {}", path.display(), read.len(), bricks.join(", ")));
    }
    Ok(())
}

fn explain(program: &Path, kind: VolumeKind) -> Result<()> {
    let more = match kind {
        VolumeKind::Distribute => String::new(),
        VolumeKind::Replicate => format!(
            "\x20   kill $(cat {HOME}/brick3.pid)       a brick goes away: all goes on without it\n\
             \x20   getfattr -d -m. -e hex {HOME}/brick1/apple    who missed what, after the next write to it\n\
             \x20   glusterfsd -f {HOME}/glusterfsd-3.vol -p {HOME}/brick3.pid -l {HOME}/brick3.log\n\
             \x20                                                     it comes back (nothing heals it here: no self-heal daemon runs)\n"
        ),
    };
    let directory = program.parent().context("rgfs lies in a directory")?.display();
    say(&format!(
        "\n{MOUNT_POINT} is mounted. Look around:\n\n\
         \x20   ls -l {MOUNT_POINT}; df -h {MOUNT_POINT}; grep gfs /proc/mounts\n\
         \x20   cat {HOME}/volfiles/glusterfs.vol        the volfile that rgfs asked i-server1 for\n\
         \x20   ls -l {HOME}/brick?                 what is on the bricks\n\
         \x20   cat {MOUNT_LOG}                 what rgfs says\n\
         \x20   PATH={directory}:$PATH rgfs --help\n\
         \x20   mkdir /mnt/c; glusterfs --volfile-server=i-server1 --volfile-server-port=6996 --volfile-id=glusterfs /mnt/c\n\
         \x20                                                     the C client on the same volume, at the same time\n\
         {more}\n\
         i-server1:6996 is `rgfs volfile-server`: it answers for volfiles and hands all else to the brick behind it\n\
         (a glusterfsd of today serves no volfiles); behind the port 6996 of the others is a glusterfsd itself.\n\n\
         Stop, and remove all of it:\n\n    cargo xtask demo --stop"
    ));
    Ok(())
}

/// The ends of the daemons' logs, for a demo that does not start.
fn last_lines() -> String {
    let mut text = String::new();
    for name in ["brick1.log", "brick2.log", "brick3.log", "volfile-server.log"] {
        let path = Path::new(HOME).join(name);
        let Ok(log) = fs::read_to_string(&path) else { continue };
        let lines: Vec<&str> = log.lines().collect();
        text += &format!("--- {}\n{}\n", path.display(), lines[lines.len().saturating_sub(10)..].join("\n"));
    }
    text
}

fn stop() -> Result<()> {
    let home = Path::new(HOME);
    if mount_line(Path::new(MOUNT_POINT))?.is_some_and(|line| line.contains(" fuse")) {
        setup::run(Command::new("umount").arg(MOUNT_POINT))
            .with_context(|| format!("somebody uses {MOUNT_POINT}; leave it and try again"))?;
    }
    for name in ["volfile-server", "brick1", "brick2", "brick3"] {
        end_process(&home.join(format!("{name}.pid")))?;
    }
    let hosts = fs::read_to_string(HOSTS)?;
    let without = without_our_lines(&hosts);
    if without != hosts {
        fs::write(HOSTS, without)?;
        say(&format!("==> {HOSTS}: the demo's lines are gone"));
    }
    if home.join("mount-point-is-ours").exists() {
        fs::remove_dir(MOUNT_POINT).with_context(|| format!("removing {MOUNT_POINT}"))?;
    }
    if home.exists() {
        fs::remove_dir_all(home)?;
        // The log of the mount is the demo's only if there was a demo.
        let _ = fs::remove_file(MOUNT_LOG);
    }
    say("==> nothing of the demo is left");
    Ok(())
}

/// Ends the process whose id is in `file`, if it is still one of the demo's.
fn end_process(file: &Path) -> Result<()> {
    let Ok(text) = fs::read_to_string(file) else { return Ok(()) };
    let id: u32 = text.trim().parse().with_context(|| file.display().to_string())?;
    let ours = || fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains(HOME));
    if ours() {
        signal_process(id, Signal::TERM)?;
        if wait::until("a daemon ends", LIMIT, || !ours()).is_err() {
            signal_process(id, Signal::KILL)?;
            wait::until("a killed daemon ends", LIMIT, || !ours())?;
        }
        say(&format!("==> ended process {id} ({})", file.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::without_our_lines;

    #[test]
    fn only_the_lines_between_the_markers_go() {
        let before = "127.0.0.1 localhost\n";
        let with = format!("{before}# rgfs demo: begin\n127.0.61.1 i-server1\n# rgfs demo: end\n::1 localhost\n");
        assert_eq!(without_our_lines(&with), format!("{before}::1 localhost\n"));
        assert_eq!(without_our_lines(before), before);
    }
}
