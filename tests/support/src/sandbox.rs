//! A scenario runs in mount, pid and network namespaces of its own.
//!
//! The test binary executes itself again for that: `#[test] fn t() { sandbox::scenario(|s| ...) }` starts
//! `unshare --mount --pid --net --fork --kill-child --mount-proc THIS-BINARY --exact t`, and in that second process the
//! very same call prepares the namespaces and runs the closure. So
//!
//! - /run, /var/lib/glusterd, /var/log/glusterfs and /etc/hosts are private: several clusters stand side by side;
//! - every port is free, and 127.x addresses and host names are the scenario's own;
//! - the scenario is process 1 of its pid namespace: when it ends, or is killed, or the outer test dies, every daemon dies with it,
//!   and every mount goes away with the mount namespace;
//! - file operations of the test code happen inside, where the mounts are.
//!
//! Bricks lie in the sandbox directory below `target/` (a disk file system: bricks need `trusted.*` xattrs), which is removed at the end.
//! With `RGFS_KEEP_SANDBOX=1` it stays, to look at logs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::process::{run, wait_for_end};

/// Set in the inner process: the directory of the sandbox.
const DIRECTORY_VARIABLE: &str = "RGFS_SANDBOX_DIRECTORY";
/// Where that directory is seen inside: short, for the paths of unix sockets are.
const DIRECTORY: &str = "/run/box";
/// Set by the user: keep the directory.
const KEEP_VARIABLE: &str = "RGFS_KEEP_SANDBOX";
/// A scenario that takes longer than this is hung.
const SCENARIO_LIMIT: Duration = Duration::from_secs(300);
/// The same for the long runs that [`SOAK_VARIABLE`] asks for.
const SOAK_LIMIT: Duration = Duration::from_secs(3600);
/// Set by `cargo xtask soak`: scenarios take their time.
pub const SOAK_VARIABLE: &str = "RGFS_SOAK";
/// An address that glusterd takes for a real one (it refuses 127.x in brick names).
pub const GLUSTERD_ADDRESS: &str = "10.61.0.1";
/// The host name of [`GLUSTERD_ADDRESS`].
pub const GLUSTERD_HOST: &str = "i-glusterd";
/// How many `i-serverN` host names a sandbox knows.
const SERVERS: usize = 9;

/// The inside of a sandbox: its private directory.
#[derive(Debug, Clone)]
pub struct Sandbox {
    directory: PathBuf,
}

/// The host name of the server `number` (from 1).
pub fn server_name(number: usize) -> String {
    format!("i-server{number}")
}

/// The address of the server `number` (from 1).
pub fn server_address(number: usize) -> String {
    format!("127.0.61.{number}")
}

impl Sandbox {
    /// The sandbox that this process runs in, prepared for use; `None` outside.
    pub fn enter() -> Result<Option<Self>> {
        let Some(disk) = std::env::var_os(DIRECTORY_VARIABLE) else { return Ok(None) };
        let sandbox = Self { directory: PathBuf::from(DIRECTORY) };
        sandbox.prepare(Path::new(&disk)).context("preparing the sandbox")?;
        Ok(Some(sandbox))
    }

    /// The private directory, on a disk.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new empty directory in the sandbox.
    pub fn create(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(path)
    }

    /// The log file of a daemon.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join("log").join(format!("{name}.log"))
    }

    fn prepare(&self, disk: &Path) -> Result<()> {
        let private = |name: &str, target: &str| -> Result<()> {
            let source = self.create(name)?;
            fs::create_dir_all(target)?;
            mount_bind(&source, target).with_context(|| format!("a private {target}"))
        };
        mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).context("a private /run")?;
        fs::create_dir_all("/run/gluster")?;
        fs::create_dir_all(&self.directory)?;
        mount_bind(disk, &self.directory).context("the private directory")?;
        private("glusterd", "/var/lib/glusterd")?;
        private("log", "/var/log/glusterfs")?;

        let mut hosts = format!("127.0.0.1 localhost\n::1 localhost\n{GLUSTERD_ADDRESS} {GLUSTERD_HOST}\n");
        for number in 1..=SERVERS {
            hosts += &format!("{} {}\n", server_address(number), server_name(number));
        }
        let file = self.directory.join("hosts");
        fs::write(&file, hosts)?;
        mount_bind(&file, "/etc/hosts").context("a private /etc/hosts")?;

        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        run(Command::new("ip").args(["address", "add", &format!("{GLUSTERD_ADDRESS}/32"), "dev", "lo"]))?;
        Ok(())
    }
}

/// Runs the body of a test inside a sandbox; panics (fails the test) when it fails, with its output and the daemons' last log lines.
///
/// Call it as the only thing that a `#[test]` function does: the function runs once outside and once inside.
pub fn scenario(body: impl FnOnce(&Sandbox) -> Result<()>) {
    let result = match Sandbox::enter() {
        Ok(Some(sandbox)) => body(&sandbox),
        Ok(None) => again_inside(),
        Err(error) => Err(error),
    };
    // With the alternate form an error prints its causes and no backtrace.
    assert!(result.is_ok(), "{:#}", result.err().unwrap_or_else(|| anyhow!("")));
}

/// Outside: runs the same test in a new sandbox and shows what it printed.
fn again_inside() -> Result<()> {
    let thread = std::thread::current();
    let test = thread.name().context("the test's thread has no name")?.to_owned();
    let arguments = ["--exact", &test, "--nocapture", "--test-threads=1", "--include-ignored"].map(str::to_owned);
    let limit = if is_soak() { SOAK_LIMIT } else { SCENARIO_LIMIT };
    let outcome = launch(&test, &arguments, &[], limit, false)?;
    // print!, not stdout(): the test runner captures it.
    print!("{}", outcome.output);
    ensure!(outcome.status.success(), "the scenario failed ({}); its output and logs stand above", outcome.status);
    ensure!(outcome.output.contains("1 passed"), "the inner process did not run the test {test}");
    Ok(())
}

/// How a sandboxed process ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed; empty if it wrote to our own output.
    pub output: String,
}

/// Whether the long runs are asked for.
pub fn is_soak() -> bool {
    std::env::var_os(SOAK_VARIABLE).is_some()
}

/// Runs this program again, with `arguments`, in a new sandbox. `attached` lets it use our own output.
pub fn launch(
    name: &str,
    arguments: &[String],
    environment: &[(&str, PathBuf)],
    limit: Duration,
    attached: bool,
) -> Result<Outcome> {
    ensure!(rustix::process::geteuid().is_root(), "bricks and mounts need root: run this as root");
    let directory = new_directory(name)?;
    let program = std::env::current_exe()?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        .arg(program)
        .args(arguments)
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .env(DIRECTORY_VARIABLE, &directory)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    let output = directory.join("output");
    if !attached {
        let file = fs::File::create(&output)?;
        command.stdout(file.try_clone()?).stderr(file);
    }
    let mut child = command.spawn().context("starting setpriv and unshare (util-linux)")?;
    let end = wait_for_end(&mut child, limit);
    if end.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let mut text = if attached { String::new() } else { String::from_utf8_lossy(&fs::read(&output)?).into_owned() };
    if !end.as_ref().is_ok_and(ExitStatus::success) {
        text += &last_log_lines(&directory.join("log"));
    }
    if attached {
        eprint!("{text}");
    }
    if std::env::var_os(KEEP_VARIABLE).is_none() {
        remove(&directory)?;
    }
    match end {
        Ok(status) => Ok(Outcome { status, output: text }),
        Err(error) => {
            print!("{text}");
            Err(error.context("the scenario hangs"))
        }
    }
}

/// A fresh directory for a sandbox, below the build's target directory; what dead runs left there is removed.
fn new_directory(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program
        .ancestors()
        .find(|path| path.join("CACHEDIR.TAG").exists())
        .map_or_else(|| PathBuf::from("/var/tmp"), Path::to_path_buf);
    let root = target.join("sandbox");
    fs::create_dir_all(&root)?;
    for entry in fs::read_dir(&root)?.flatten() {
        let owner = entry.file_name().to_string_lossy().rsplit('-').next().and_then(|id| id.parse::<u32>().ok());
        if owner.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            // A neighbour may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = root.join(format!("{name}-{number}-{}", std::process::id()));
    fs::create_dir(&directory)?;
    Ok(directory)
}

fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))
}

/// The ends of all logs below `directory`.
fn last_log_lines(directory: &Path) -> String {
    const LINES: usize = 25;
    let mut text = String::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &last_log_lines(&path);
        } else if let Ok(bytes) = fs::read(&path) {
            let log = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("\n--- {} ({} lines)\n", path.display(), lines.len());
            text += &lines[lines.len().saturating_sub(LINES)..].join("\n");
            text.push('\n');
        }
    }
    text
}

/// Prints at once, for progress lines of attached sandboxes.
pub fn say(text: &str) {
    println!("{text}");
    let _ = std::io::stdout().flush();
}
