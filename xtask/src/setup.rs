//! What a fresh Debian 12 machine lacks: packages, and the outside test suites from crates.io. Each step says what it does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use support::sandbox::say;

/// A program that must be there, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 10] = [
    ("glusterd", "glusterfs-server"),
    ("glusterfs", "glusterfs-client"),
    ("fusermount3", "fuse3"),
    ("getfattr", "attr"),
    ("setfacl", "acl"),
    ("ip", "iproute2"),
    ("flock", "util-linux"),
    ("cc", "build-essential"),
    ("ps", "procps"),
    ("fio", "fio"),
];
/// The outside suites, with the version that the tests were written for.
const SUITES: [(&str, &str); 2] = [("pjdfstest", "0.2.2"), ("fsx", "0.3.2")];

/// The top of the repository.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask lies in the repository")?.to_path_buf())
}

/// Runs a command with our own output; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    say(&format!("==> {shown}"));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("starting {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// cargo, in the top directory.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let root = root()?;
    // Subcommands that we installed ourselves are found too.
    let mut path = root.join("target/tools/bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(root).env("PATH", path);
    Ok(command)
}

/// Installs the Debian packages that are missing.
pub(crate) fn packages() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("this needs root: it starts bricks and mounts volumes");
    }
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !in_path(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        say(&format!("==> installing Debian packages: {}", missing.join(" ")));
        run(Command::new("apt-get").args(["-q", "-y", "update"]))?;
        run(Command::new("apt-get")
            .args(["-q", "-y", "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    ensure!(
        Path::new("/dev/fuse").exists() || run(Command::new("modprobe").arg("fuse")).is_ok(),
        "/dev/fuse is missing: this kernel has no FUSE"
    );
    Ok(())
}

/// Installs the outside suites into `target/tools`.
pub(crate) fn suites() -> Result<()> {
    SUITES.iter().try_for_each(|(name, version)| install(name, Some(version)))
}

/// Installs a crate's program into `target/tools`, unless it is there.
pub(crate) fn install(name: &str, version: Option<&str>) -> Result<()> {
    let tools = root()?.join("target/tools");
    if tools.join("bin").join(name).is_file() {
        return Ok(());
    }
    say(&format!("==> installing {name} from crates.io into target/tools"));
    let build = tools.join("build");
    run(cargo()?
        .args(["install", "--quiet", "--locked", "--root"])
        .arg(&tools)
        .arg("--target-dir")
        .arg(&build)
        .arg(version.map_or(name.to_owned(), |version| format!("{name}@{version}"))))?;
    std::fs::remove_dir_all(build)?;
    Ok(())
}

/// Builds `target/release/rgfs` and returns its path.
pub(crate) fn release_build() -> Result<PathBuf> {
    run(cargo()?.args(["build", "--release", "--bin", "rgfs"]))?;
    let program = root()?.join("target/release/rgfs");
    ensure!(program.is_file(), "{} was not built", program.display());
    Ok(program)
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons live in sbin, which a user's PATH may lack.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}
