//! A mount by one of the two clients. Every scenario takes the client as a parameter, so that the C client is the yardstick.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use crate::process::Daemon;
use crate::wait;

/// How long a mount may take to answer.
const MOUNT_LIMIT: Duration = Duration::from_secs(15);
/// The inode number of the root of a GlusterFS mount.
const ROOT_INODE: u64 = 1;

/// Which client mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// The `glusterfs` of the GlusterFS project.
    C,
    /// Ours.
    Rgfs,
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::C => "glusterfs (C)",
            Self::Rgfs => "rgfs",
        })
    }
}

impl Client {
    /// The program. For rgfs: `$RGFS_BINARY`, or the one built next to this program.
    pub fn program(self) -> Result<PathBuf> {
        match self {
            Self::C => Ok(PathBuf::from("glusterfs")),
            Self::Rgfs => rgfs_program(),
        }
    }

    /// The command that mounts `source` on `mount_point` and stays in the foreground.
    pub fn command(self, source: &Source, mount_point: &Path, log: &Path) -> Result<Command> {
        let mut command = Command::new(self.program()?);
        command.arg("--no-daemon").arg(format!("--log-file={}", log.display()));
        match source {
            Source::File(path) => {
                command.arg("-f").arg(path);
            }
            Source::Server { host, port, volume } => {
                command.arg(format!("--volfile-server={host}"));
                if let Some(port) = port {
                    command.arg(format!("--volfile-server-port={port}"));
                }
                // The C client knows no default; ours is this one.
                match (volume, self) {
                    (Some(volume), _) => command.arg(format!("--volfile-id={volume}")),
                    (None, Self::C) => command.arg("--volfile-id=glusterfs"),
                    (None, Self::Rgfs) => &mut command,
                };
            }
        }
        command.arg(mount_point);
        Ok(command)
    }
}

/// Names the rgfs to run; without it, the one that was built next to the running program.
pub const PROGRAM_VARIABLE: &str = "RGFS_BINARY";

fn rgfs_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE) {
        return Ok(PathBuf::from(path));
    }
    let program = std::env::current_exe()?;
    // target/PROFILE/deps/TEST-hash or target/PROFILE/xtask.
    for directory in program.ancestors().skip(1).take(2) {
        let candidate = directory.join("rgfs");
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("no rgfs next to {}: build it, or name it in {PROGRAM_VARIABLE}", program.display())
}

/// Where the volfile comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A volfile server: glusterd, or `rgfs volfile-server`.
    Server {
        /// Host name or address.
        host: String,
        /// TCP port; `None` is glusterd's.
        port: Option<u16>,
        /// The volume's name; `None` is the client's default.
        volume: Option<String>,
    },
}

/// A mounted volume; unmounted and its client ended when dropped.
#[derive(Debug)]
pub struct Mount {
    client: Client,
    path: PathBuf,
    process: Daemon,
}

impl Mount {
    /// Mounts and waits until the root answers. `extra` are more arguments for the client.
    pub fn new(client: Client, source: &Source, path: &Path, log: &Path, extra: &[&str]) -> Result<Self> {
        fs::create_dir_all(path)?;
        let mut command = client.command(source, path, log)?;
        command.args(extra);
        let mut process = Daemon::start(&client.to_string(), &mut command, &log.with_extension("out"))?;
        wait::for_value(&format!("{client} mounts {}", path.display()), MOUNT_LIMIT, || {
            if let Some(status) = process.ended()? {
                let said = fs::read_to_string(log.with_extension("out")).unwrap_or_default();
                bail!("{client} ended with {status}: {said}");
            }
            // The C client mounts before it can answer: ENOTCONN until then.
            let answered = fs::metadata(path).is_ok_and(|data| data.ino() == ROOT_INODE);
            Ok((is_mounted(path)? && answered).then_some(()))
        })?;
        Ok(Self { client, path: path.to_path_buf(), process })
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below the mount point.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Which client serves it.
    pub fn client(&self) -> Client {
        self.client
    }

    /// The client's process.
    pub fn process(&mut self) -> &mut Daemon {
        &mut self.process
    }

    /// User and system time of the client's process.
    pub fn cpu_time(&self) -> Result<Duration> {
        self.process.cpu_time()
    }

    /// Unmounts and waits for the client's end.
    pub fn unmount(mut self) -> Result<()> {
        unmount(&self.path, UnmountFlags::empty()).with_context(|| format!("unmounting {}", self.path.display()))?;
        self.process.wait(Duration::from_secs(10))?;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // After unmount() both are no-ops that fail; when a test fails they clean up.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
        let _ = self.process.signal(Signal::KILL);
    }
}

/// Whether a GlusterFS volume is mounted on `path`.
pub fn is_mounted(path: &Path) -> Result<bool> {
    Ok(mount_line(path)?.is_some_and(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("fuse"))))
}

/// The line of /proc/mounts for `path`.
pub fn mount_line(path: &Path) -> Result<Option<String>> {
    let path = path.to_string_lossy();
    let table = fs::read_to_string("/proc/self/mounts")?;
    Ok(table.lines().rev().find(|line| line.split(' ').nth(1) == Some(&*path)).map(str::to_owned))
}
