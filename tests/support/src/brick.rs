//! One `glusterfsd` with a hand-written volfile, in our hands: start, kill, stop, continue, look inside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;

use crate::process::Daemon;
use crate::sandbox::Sandbox;
use crate::statedump::{self, Statedump};
use crate::volfiles::{self, Remote, Role};
use crate::wait;

/// How long a daemon may take to listen.
pub const START_LIMIT: Duration = Duration::from_secs(10);

/// A brick process and the directory that it exports.
#[derive(Debug)]
pub struct Brick {
    name: String,
    remote: Remote,
    directory: PathBuf,
    volfile: PathBuf,
    log: PathBuf,
    process: Option<Daemon>,
}

impl Brick {
    /// Lays out and starts a brick on `address`:`port`; clients find it as `host`.
    /// `extra` are more options of its `protocol/server` volume.
    pub fn start(
        sandbox: &Sandbox,
        role: Role,
        name: &str,
        host: &str,
        address: &str,
        port: u16,
        extra: &[&str],
    ) -> Result<Self> {
        let directory = sandbox.create(name)?;
        // The index translator wants this from whoever made the brick.
        fs::create_dir_all(directory.join(".glusterfs/indices"))?;
        let volfile = sandbox.directory().join(format!("{name}.vol"));
        fs::write(&volfile, volfiles::brick(role, &directory, address, port, extra))?;
        let mut brick = Self {
            name: name.to_owned(),
            remote: Remote { name: name.to_owned(), host: host.to_owned(), port },
            directory,
            volfile,
            log: sandbox.log(name),
            process: None,
        };
        brick.restart()?;
        Ok(brick)
    }

    /// How a client volfile names this brick.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The exported directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process, while it runs.
    pub fn process(&self) -> Result<&Daemon> {
        self.process.as_ref().ok_or_else(|| anyhow!("brick {} is not running", self.name))
    }

    /// Starts the process (again) and waits until its port is open.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = Command::new("glusterfsd");
        command.arg("-N").arg("-f").arg(&self.volfile).arg("-l").arg(&self.log);
        let mut process = Daemon::start(&self.name, &mut command, &self.log.with_extension("out"))?;
        wait_for_port(&self.remote.host, self.remote.port, &mut process)
            .with_context(|| format!("brick {}", self.name))?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => bail!("brick {} is not running", self.name),
        }
    }

    /// SIGSTOP: the brick stays connected and silent.
    pub fn pause(&self) -> Result<()> {
        self.process()?.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.process()?.signal(Signal::CONT)
    }

    /// Asks the brick for its state: locks held and waited for, open files.
    pub fn statedump(&self) -> Result<Statedump> {
        statedump::take(self.process()?.id())
    }

    /// Whether the file or directory at `path` (relative to the volume's root) lies on this brick.
    pub fn has(&self, path: &str) -> bool {
        holds(&self.directory, path)
    }
}

/// Whether the brick in `directory` holds the file or directory at `path` itself, and not just a linkto file of distribute.
pub fn holds(directory: &Path, path: &str) -> bool {
    // A linkto file is empty and has no mode bit but the sticky one (`dht-common.h`).
    fs::symlink_metadata(directory.join(path))
        .is_ok_and(|data| !(data.is_file() && data.mode() & 0o7777 == 0o1000 && data.len() == 0))
}

/// Waits until somebody listens on `host`:`port`, as long as `process` lives.
pub fn wait_for_port(host: &str, port: u16, process: &mut Daemon) -> Result<()> {
    wait::for_port(host, port, START_LIMIT, || match process.ended()? {
        Some(status) => bail!("the process ended with {status} before it listened on {host}:{port}"),
        None => Ok(()),
    })
}
