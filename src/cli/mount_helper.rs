//! `mount.glusterfs`: what mount(8) and fstab call. Translates its spellings and lets `rgfs` do the work, in a process of
//! its own so that ps shows the command line that everybody knows.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use clap::{ArgAction, Parser};

use super::mount_options::{Translated, translate};
use super::request::{Refused, Request, parse};
use super::spec::Spec;
use crate::mount::kernel_mount::{FILE_SYSTEM_TYPE, remount};
use crate::mount::mount_point::mounts;

/// The mount point has this volume already.
const EXIT_MOUNTED: i32 = 32;
/// The mount point is one that must not be covered.
const EXIT_BAD_PLACE: i32 = 2;

/// Mounts a GlusterFS volume for mount(8).
#[derive(Clone, Debug, Parser)]
#[command(
    name = "mount.glusterfs",
    disable_version_flag = true,
    override_usage = "mount.glusterfs SERVER[,SERVER...]:/VOLUME[/SUBDIR] MOUNTPOINT [-o OPTIONS]\n       \
                      mount.glusterfs VOLFILE MOUNTPOINT [-o OPTIONS]"
)]
pub struct HelperArguments {
    /// SERVER:/VOLUME, or a volfile
    #[arg(required_unless_present = "version")]
    pub spec: Option<String>,
    /// A directory
    #[arg(required_unless_present = "version")]
    pub mount_point: Option<String>,
    /// Mount options, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS", action = ArgAction::Append, allow_hyphen_values = true)]
    pub options: Vec<String>,
    /// Say what is done
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// Check the options, do not mount
    #[arg(short = 'f')]
    pub fake: bool,
    /// Accepted: /etc/mtab is never written
    #[arg(short = 'n')]
    pub no_mtab: bool,
    /// Accepted: unknown options are always refused
    #[arg(short = 's')]
    pub sloppy: bool,
    /// Mount read-only
    #[arg(short = 'r')]
    pub read_only: bool,
    /// Mount read-write
    #[arg(short = 'w')]
    pub read_write: bool,
    /// Accepted: the mount namespace is the caller's
    #[arg(short = 'N', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Accepted: the file system type
    #[arg(short = 't', value_name = "TYPE")]
    pub kind: Option<String>,
    /// Print the version
    #[arg(short = 'V', long)]
    pub version: bool,
}

/// What the helper does after reading its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Run `rgfs` with these arguments.
    Run {
        /// The mount point, also the last argument.
        mount_point: String,
        /// Arguments, without the program's name.
        arguments: Vec<String>,
        /// For standard error.
        warnings: Vec<String>,
        /// Only check.
        fake: bool,
        /// Print the command.
        verbose: bool,
    },
    /// Change the flags of the mount that is there.
    Remount(Vec<String>),
    /// Print the version.
    Version,
}

/// Reads the arguments, the program's name first. `is_file` says whether a path is a readable file.
///
/// # Errors
/// What is wrong with them, with an exit code; 0 for a request of help.
pub fn plan(arguments: &[String], is_file: impl Fn(&Path) -> bool) -> Result<Plan, Refused> {
    let helper = HelperArguments::try_parse_from(arguments)
        .map_err(|error| Refused { code: i32::from(error.use_stderr()), message: error.to_string() })?;
    let (Some(spec), Some(mount_point)) = (&helper.spec, &helper.mount_point) else { return Ok(Plan::Version) };
    let mut translated = translate(helper.options.iter().map(String::as_str))?;
    if helper.read_only && !helper.read_write {
        translated.arguments.push("--read-only".into());
    }
    let spec = Spec::parse(spec, is_file).map_err(|message| Refused { code: 1, message })?;
    let mut warnings = std::mem::take(&mut translated.warnings);
    let remount = translated.remount;
    let arguments = command_line(spec, translated, mount_point, &mut warnings);
    if remount {
        return Ok(Plan::Remount(arguments));
    }
    let (fake, verbose) = (helper.fake, helper.verbose > 0);
    Ok(Plan::Run { mount_point: mount_point.clone(), arguments, warnings, fake, verbose })
}

/// The command line as the C helper would make it.
fn command_line(spec: Spec, translated: Translated, mount_point: &str, warnings: &mut Vec<String>) -> Vec<String> {
    let mut arguments = Vec::new();
    let names_process = translated.arguments.iter().any(|argument| argument.starts_with("--process-name="));
    if !names_process {
        arguments.push("--process-name=fuse".to_owned());
    }
    arguments.extend(translated.arguments);
    match spec {
        Spec::File(path) => arguments.push(format!("--volfile={}", path.display())),
        Spec::Volume(spec) => {
            warnings.extend(spec.warnings);
            let servers = spec.servers.into_iter().chain(translated.backup_servers);
            arguments.extend(servers.map(|server| format!("--volfile-server={server}")));
            let suffix =
                translated.transport_suffix.filter(|suffix| suffix == "tcp").map(|suffix| format!(".{suffix}"));
            arguments.push(format!("--volfile-id={}{}", spec.key, suffix.unwrap_or_default()));
            arguments.extend(spec.subdir.map(|subdir| format!("--subdir-mount={subdir}")));
            if spec.read_only {
                arguments.push("--read-only".into());
            }
        }
    }
    arguments.push(mount_point.to_owned());
    arguments
}

/// Runs the helper and returns its exit code.
pub fn run(arguments: &[String]) -> i32 {
    match plan(arguments, |path| fs::File::open(path).is_ok() && path.is_file()) {
        Ok(Plan::Version) => {
            println!("{}", super::VERSION_LINE);
            0
        }
        Ok(Plan::Run { mount_point, arguments, warnings, fake, verbose }) => {
            for warning in warnings {
                eprintln!("WARNING: {warning}");
            }
            if verbose {
                println!("rgfs {}", arguments.join(" "));
            }
            match check_place(Path::new(&mount_point)) {
                Err(refused) => say(&refused),
                Ok(()) if fake => check_only(arguments),
                Ok(()) => start(&mount_point, &arguments),
            }
        }
        Ok(Plan::Remount(arguments)) => change(arguments),
        Err(refused) => say(&refused),
    }
}

fn say(refused: &Refused) -> i32 {
    if refused.code == 0 {
        print!("{refused}");
    } else {
        eprintln!("{}", refused.message.trim_end());
    }
    refused.code
}

/// `rgfs`'s own opinion of the command line.
fn check_only(arguments: Vec<String>) -> i32 {
    match parse(std::iter::once("rgfs".to_owned()).chain(arguments)) {
        Ok(_) => 0,
        Err(refused) => say(&Refused { code: 1, ..refused }),
    }
}

fn start(mount_point: &str, arguments: &[String]) -> i32 {
    let status = std::env::current_exe().and_then(|program| Command::new(program).args(arguments).status());
    match status {
        Ok(status) if status.success() => 0,
        Ok(_) => {
            eprintln!("Mounting glusterfs on {mount_point} failed.");
            1
        }
        Err(error) => {
            eprintln!("Mounting glusterfs on {mount_point} failed: cannot start rgfs: {error}");
            1
        }
    }
}

/// Sets the kernel's flags of the mount that is there; what the client itself was told stays as it was.
fn change(arguments: Vec<String>) -> i32 {
    let result = match parse(std::iter::once("rgfs".to_owned()).chain(arguments)) {
        Ok(Request::Mount(options, _)) => remount(&options.mount_point, &options.kernel).map_err(|error| Refused {
            code: 1,
            message: format!("remount {}: {error}", options.mount_point.display()),
        }),
        Ok(Request::Print(_)) => Ok(()),
        Err(refused) => Err(Refused { code: 1, ..refused }),
    };
    result.map_or_else(|refused| say(&refused), |()| 0)
}

/// Refuses places that must not be covered. A dead mount is left to `rgfs`, which takes it away.
fn check_place(mount_point: &Path) -> Result<(), Refused> {
    let name = mount_point.display();
    let refuse = |code, message| Err(Refused { code, message });
    match fs::metadata(mount_point) {
        Ok(metadata) if metadata.is_dir() => {}
        Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
        _ => return refuse(1, format!("ERROR: Mount point does not exist: {name} is not a directory")),
    }
    let place = fs::canonicalize(mount_point).unwrap_or_else(|_| mount_point.to_owned());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if mounts(&table).any(|mount| mount.mount_point == place && mount.kind == FILE_SYSTEM_TYPE) {
        return refuse(EXIT_MOUNTED, format!("{name} is already mounted"));
    }
    if place == Path::new("/") || place == Path::new("/tmp") {
        return refuse(EXIT_BAD_PLACE, format!("ERROR: {name} cannot be used as a mount point"));
    }
    let mut gfid = [0_u8; 16];
    if rustix::fs::getxattr(&place, "trusted.gfid", &mut gfid).is_ok() {
        return refuse(EXIT_BAD_PLACE, format!("ERROR: {name} lies on a brick and cannot be used as a mount point"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(line: &str) -> Result<Plan, Refused> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        plan(&words, |path| path == Path::new("/etc/glusterfs/client.vol"))
    }

    #[test]
    fn lines_of_fstab() {
        let table: &[(&str, &str)] = &[
            (
                "mount.glusterfs srv1:/vol /mnt/vol -o rw,_netdev,backup-volfile-servers=srv2:srv3,log-level=WARNING",
                "--process-name=fuse --log-level=WARNING --volfile-server=srv1 --volfile-server=srv2 \
                 --volfile-server=srv3 --volfile-id=/vol /mnt/vol",
            ),
            (
                "mount.rgfs srv1,srv2:/vol/projects /mnt/p -n -v -o acl,noatime -o nofail",
                "--process-name=fuse --acl --fuse-mountopts=noatime --volfile-server=srv1 --volfile-server=srv2 \
                 --volfile-id=/vol --subdir-mount=/projects /mnt/p",
            ),
            (
                "mount.glusterfs /etc/glusterfs/client.vol /mnt/v -r -t glusterfs",
                "--process-name=fuse --read-only --volfile=/etc/glusterfs/client.vol /mnt/v",
            ),
            (
                "mount.glusterfs srv:vol /m -o transport=tcp,process-name=x",
                "--volfile-server-transport=tcp --process-name=fuse.x --volfile-server=srv --volfile-id=vol.tcp /m",
            ),
            (
                "mount.glusterfs srv:/snaps/S/vol /m",
                "--process-name=fuse --volfile-server=srv --volfile-id=/snaps/S/vol --read-only /m",
            ),
        ];
        for (line, expected) in table {
            match planned(line) {
                Ok(Plan::Run { arguments, .. }) => {
                    assert_eq!(
                        arguments.join(" "),
                        expected.split_whitespace().collect::<Vec<_>>().join(" "),
                        "{line}"
                    );
                    let words = std::iter::once("rgfs".to_owned()).chain(arguments);
                    assert!(matches!(parse(words), Ok(Request::Mount(..))), "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn other_plans() {
        assert_eq!(planned("mount.glusterfs -V"), Ok(Plan::Version));
        assert!(matches!(planned("mount.glusterfs a:/v /m -o remount,ro"), Ok(Plan::Remount(_))));
        assert!(matches!(planned("mount.glusterfs a:/v /m -f"), Ok(Plan::Run { fake: true, .. })));
        for (line, code) in [
            ("mount.glusterfs a:/v", 1),
            ("mount.glusterfs novolume /m", 1),
            ("mount.glusterfs a:/v /m -o nonsense", 1),
            ("mount.glusterfs -h", 0),
        ] {
            assert_eq!(planned(line).unwrap_err().code, code, "{line}");
        }
    }
}
