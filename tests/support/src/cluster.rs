//! Clusters: static bricks with hand-written volfiles, and volumes that a real `glusterd` makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::brick::{Brick, wait_for_port};
use crate::client::{Client, Mount, Source};
use crate::process::{Daemon, run, signal_process};
use crate::sandbox::{GLUSTERD_HOST, Sandbox, server_address, server_name};
use crate::volfiles::{self, Remote, ReplicaSet, Role};
use crate::wait;

mod growth;

pub use growth::Moves;

/// The port of hand-written bricks, as in the days of `glusterfsd.vol`.
pub const STATIC_PORT: u16 = 6996;

/// Anything that can be mounted.
pub trait Mountable {
    /// The sandbox it lives in.
    fn sandbox(&self) -> &Sandbox;
    /// Where its volfile comes from.
    fn source(&self) -> Source;
    /// The process ids of its bricks.
    fn brick_ids(&self) -> Result<Vec<u32>>;

    /// Mounts it on a directory called `name` (unique in the sandbox).
    fn mount(&self, client: Client, name: &str) -> Result<Mount> {
        self.mount_with(client, name, &[])
    }

    /// The same, with more arguments for the client.
    fn mount_with(&self, client: Client, name: &str, extra: &[&str]) -> Result<Mount> {
        let path = self.sandbox().create(&format!("mnt/{name}"))?;
        Mount::new(client, &self.source(), &path, &self.sandbox().log(&format!("mnt-{name}")), extra)
    }
}

/// `i-server1` ... with one hand-written brick each, and the client volfile over all of them.
#[derive(Debug)]
pub struct StaticCluster {
    sandbox: Sandbox,
    /// The bricks, in the order of the volfile.
    pub bricks: Vec<Brick>,
    volfiles: PathBuf,
}

impl StaticCluster {
    /// Starts `count` bricks on port 6996 of the servers' addresses.
    pub fn start(sandbox: &Sandbox, count: usize) -> Result<Self> {
        Self::start_with(sandbox, count, &[])
    }

    /// The same with more options in the bricks' `protocol/server` volumes.
    pub fn start_with(sandbox: &Sandbox, count: usize, server_options: &[&str]) -> Result<Self> {
        let mut bricks = Vec::new();
        for number in 1..=count {
            // Short: a brick refuses paths over 4095 bytes, counted from its own root; those below a mount point may be as long.
            let (name, host) = (format!("b{number}"), server_name(number));
            let address = server_address(number);
            bricks.push(Brick::start(sandbox, Role::Plain, &name, &host, &address, STATIC_PORT, server_options)?);
        }
        let volfiles = sandbox.create("volfiles")?;
        let remotes: Vec<_> = bricks.iter().map(|brick| brick.remote().clone()).collect();
        fs::write(volfiles.join("glusterfs.vol"), volfiles::client(&remotes))?;
        Ok(Self { sandbox: sandbox.clone(), bricks, volfiles })
    }

    /// Starts the three bricks of a replica set on port 6996 of the servers' addresses, in directories that start with its name.
    pub fn start_replicated(sandbox: &Sandbox, set: &ReplicaSet) -> Result<Self> {
        const COPIES: usize = 3;
        let mut bricks = Vec::new();
        let mut remotes = Vec::new();
        for number in 1..=COPIES {
            let role = if set.arbiter && number == COPIES { Role::Arbiter(set) } else { Role::Copy(set) };
            let (name, host, address) =
                (format!("{}-b{number}", set.volume), server_name(number), server_address(number));
            bricks.push(Brick::start(sandbox, role, &name, &host, &address, STATIC_PORT, &[])?);
            remotes.push(Remote { name: set.client(number - 1), host, port: STATIC_PORT });
        }
        let volfiles = sandbox.create(&format!("{}-volfiles", set.volume))?;
        fs::write(volfiles.join("glusterfs.vol"), volfiles::replicated_client(set, &remotes))?;
        Ok(Self { sandbox: sandbox.clone(), bricks, volfiles })
    }

    /// The directory with `glusterfs.vol`.
    pub fn volfile_directory(&self) -> &Path {
        &self.volfiles
    }

    /// Starts `rgfs volfile-server` for this cluster's volfiles on `host`:`port`.
    pub fn serve_volfiles(&self, host: &str, port: u16) -> Result<Daemon> {
        let log = self.sandbox.log("volfile-server");
        let mut command = Command::new(Client::Rgfs.program()?);
        command
            .arg("volfile-server")
            .arg(format!("--directory={}", self.volfiles.display()))
            .arg(format!("--listen={host}:{port}"));
        let mut server = Daemon::start("rgfs volfile-server", &mut command, &log.with_extension("out"))?;
        wait_for_port(host, port, &mut server).context("rgfs volfile-server")?;
        Ok(server)
    }

    /// The bricks that hold `path`, as numbers from 0.
    pub fn bricks_with(&self, path: &str) -> Vec<usize> {
        (0..self.bricks.len()).filter(|&index| self.bricks[index].has(path)).collect()
    }
}

impl Mountable for StaticCluster {
    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn source(&self) -> Source {
        Source::File(self.volfiles.join("glusterfs.vol"))
    }

    fn brick_ids(&self) -> Result<Vec<u32>> {
        self.bricks.iter().map(|brick| Ok(brick.process()?.id())).collect()
    }
}

/// A volume made and started by a real `glusterd`, with its defaults.
#[derive(Debug)]
pub struct GlusterdVolume {
    sandbox: Sandbox,
    name: String,
    bricks: Vec<PathBuf>,
    _glusterd: Arc<Daemon>,
}

impl GlusterdVolume {
    /// Starts glusterd, creates a volume of `bricks` bricks with `arguments` (such as `["replica", "3"]`) and starts it.
    pub fn start(sandbox: &Sandbox, name: &str, bricks: usize, arguments: &[&str]) -> Result<Self> {
        Self::start_below(sandbox, sandbox.directory(), name, bricks, arguments)
    }

    /// The same, with the bricks' directories below `place`.
    pub fn start_below(sandbox: &Sandbox, place: &Path, name: &str, bricks: usize, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new("glusterd");
        command.arg("-N").arg(format!("--log-file={}", sandbox.log("glusterd").display()));
        let mut glusterd = Daemon::start("glusterd", &mut command, &sandbox.log("glusterd").with_extension("out"))?;
        wait_for_port(GLUSTERD_HOST, 24007, &mut glusterd)?;
        // The port is open before glusterd can answer the command line.
        wait::until("glusterd answers", Duration::from_secs(20), || {
            Command::new("gluster").arg("pool").arg("list").output().is_ok_and(|output| output.status.success())
        })?;

        Self::create(sandbox, place, Arc::new(glusterd), name, bricks, arguments)
    }

    /// Creates and starts another volume of the same glusterd.
    pub fn beside(&self, name: &str, bricks: usize, arguments: &[&str]) -> Result<Self> {
        Self::create(&self.sandbox, self.sandbox.directory(), self._glusterd.clone(), name, bricks, arguments)
    }

    fn create(
        sandbox: &Sandbox,
        place: &Path,
        glusterd: Arc<Daemon>,
        name: &str,
        bricks: usize,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut directories = Vec::new();
        let mut create = Command::new("gluster");
        create.args(["--mode=script", "volume", "create", name]).args(arguments);
        for number in 1..=bricks {
            let directory = place.join(format!("{name}-b{number}"));
            fs::create_dir_all(&directory)?;
            create.arg(format!("{GLUSTERD_HOST}:{}", directory.display()));
            directories.push(directory);
        }
        run(create.arg("force"))?;
        let volume = Self { sandbox: sandbox.clone(), name: name.to_owned(), bricks: directories, _glusterd: glusterd };
        volume.gluster(&["start", name])?;
        volume.wait_for_bricks()?;
        Ok(volume)
    }

    /// Waits until glusterd calls every brick online.
    fn wait_for_bricks(&self) -> Result<()> {
        wait::until("all bricks are online", Duration::from_secs(20), || {
            self.bricks.iter().all(|directory| {
                let brick = format!("{GLUSTERD_HOST}:{}", directory.display());
                self.gluster(&["status", &self.name, &brick])
                    .is_ok_and(|text| text.lines().any(|line| line.contains(" Y ")))
            })
        })?;
        Ok(())
    }

    /// The volume's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SIGKILL to a brick (from 0), and waits for its end.
    pub fn kill_brick(&self, index: usize) -> Result<()> {
        kill_daemon(self.brick_process(index)?, &format!("brick {index}"))
    }

    /// SIGKILL to the volume's self-heal daemon. It comes back with [`GlusterdVolume::restart_bricks`].
    pub fn kill_healer(&self) -> Result<()> {
        let file = format!("/run/gluster/shd/{0}/{0}-shd.pid", self.name);
        let id = fs::read_to_string(&file).with_context(|| file.clone())?.trim().parse()?;
        kill_daemon(id, "self-heal daemon")
    }

    /// Starts the bricks that are down and waits until all are online. Clients and the self-heal daemon come back on their own.
    pub fn restart_bricks(&self) -> Result<()> {
        self.gluster(&["start", &self.name, "force"])?;
        self.wait_for_bricks()
    }

    /// Stops the volume: no brick runs, and none remembers anything when [`restart_bricks`](Self::restart_bricks) has started them.
    pub fn stop(&self) -> Result<()> {
        let bricks = self.brick_ids()?;
        self.gluster(&["stop", &self.name])?;
        bricks.into_iter().try_for_each(|id| wait_for_death(id, "brick"))
    }

    /// Runs `gluster volume ARGUMENTS`.
    pub fn gluster(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new("gluster").args(["--mode=script", "volume"]).args(arguments))
    }

    /// Sets a volume option.
    pub fn set(&self, key: &str, value: &str) -> Result<String> {
        self.gluster(&["set", &self.name, key, value])
    }

    /// The bricks' directories.
    pub fn bricks(&self) -> &[PathBuf] {
        &self.bricks
    }

    /// The process id of a brick (from 0), from glusterd's pid files.
    pub fn brick_process(&self, index: usize) -> Result<u32> {
        let directory = self.bricks.get(index).ok_or_else(|| anyhow!("no brick {index}"))?;
        let name = directory.to_string_lossy().trim_start_matches('/').replace('/', "-");
        let file = format!("/run/gluster/vols/{}/{GLUSTERD_HOST}-{name}.pid", self.name);
        Ok(fs::read_to_string(&file).with_context(|| file.clone())?.trim().parse()?)
    }
}

/// Waits for the end of a daemon that glusterd started.
fn wait_for_death(id: u32, what: &str) -> Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    wait::until(&format!("the {what} is dead"), Duration::from_secs(10), || {
        // An orphan of the first process of its namespace, which is this one: nobody else reaps it, and glusterd takes a process
        // that is not reaped for a running one.
        let _ = waitpid(pid, WaitOptions::NOHANG);
        !Path::new(&format!("/proc/{id}")).exists()
    })?;
    Ok(())
}

impl Mountable for GlusterdVolume {
    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn source(&self) -> Source {
        Source::Server { host: GLUSTERD_HOST.to_owned(), port: None, volume: Some(self.name.clone()) }
    }

    fn brick_ids(&self) -> Result<Vec<u32>> {
        (0..self.bricks.len()).map(|index| self.brick_process(index)).collect()
    }
}

fn kill_daemon(id: u32, name: &str) -> Result<()> {
    signal_process(id, Signal::KILL).with_context(|| format!("killing the {name}"))?;
    wait_for_death(id, name)
}
