//! From the arguments to what is asked for: checks that need more than one option, defaults, names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tracing::level_filters::LevelFilter;

use super::arguments::Arguments;
use super::spec::{Spec, checked_host};
use super::{LOG_DIRECTORY, STATEDUMP_DIRECTORY, VERSION_LINE};
use crate::mount::options::{FuseOptions, KernelOptions, LogOptions, MountOptions, VolfileServer, VolfileSource};

/// Port of glusterd.
const GLUSTERD_PORT: u16 = 24007;
/// Volfile that is used when nothing else is named.
const DEFAULT_VOLFILE: &str = "/etc/glusterfs/glusterfs.vol";
/// Key that is asked for when no volume is named: a static volfile server answers with its `glusterfs.vol`.
const DEFAULT_KEY: &str = "glusterfs";
/// How long mounting may take by default.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(9);
/// Internal client that root squashing leaves alone (`GF_CLIENT_PID_NO_ROOT_SQUASH`).
const NO_ROOT_SQUASH_PID: i32 = -4;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Mount, after saying the warnings.
    Mount(Box<MountOptions>, Vec<String>),
    /// Print and succeed.
    Print(String),
}

/// A command line that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Exit code: 64 for usage, 255 for a bad value.
    pub code: i32,
    /// For standard error.
    pub message: String,
}

impl Refused {
    /// The command line is not understood.
    pub fn usage(message: impl Into<String>) -> Self {
        Refused { code: 64, message: message.into() }
    }

    /// A value is wrong, or asks for what cannot be done.
    pub fn value(message: impl Into<String>) -> Self {
        Refused { code: 255, message: message.into() }
    }
}

/// Reads a command line, the program's name first.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Request, Refused> {
    match Arguments::try_parse_from(arguments) {
        Ok(arguments) => resolve(arguments),
        Err(error) => refuse(&error),
    }
}

/// What clap's error means for the caller.
fn refuse(error: &clap::Error) -> Result<Request, Refused> {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Request::Print(message)),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::InvalidUtf8 => Err(Refused::value(message)),
        _ => Err(Refused::usage(message)),
    }
}

fn resolve(arguments: Arguments) -> Result<Request, Refused> {
    if let Some(text) = print_request(&arguments) {
        return Ok(Request::Print(format!("{text}\n")));
    }
    refuse_unsupported(&arguments)?;
    let mut warnings: Vec<String> =
        arguments.ignored.given().into_iter().map(|name| format!("{name} has no effect in rgfs")).collect();

    let (spec, mount_point) = match arguments.positional.as_slice() {
        [mount_point] => (None, mount_point),
        [spec, mount_point] => {
            let spec = Spec::parse(spec, Path::is_file).map_err(Refused::value)?;
            (Some(spec), mount_point)
        }
        _ => return Err(Refused::usage("no mount point given; try 'rgfs --help'")),
    };
    let mount_point = absolute(mount_point)?;
    let named = !arguments.volfile_server.is_empty() || arguments.volfile.is_some();
    if spec.is_some() && named {
        return Err(Refused::usage(
            "a volume is named twice: give SERVER:/VOLUME, or --volfile-server, or --volfile, not several of them",
        ));
    }

    let mut read_only = arguments.read_only;
    let mut subdir = arguments.subdir_mount.clone();
    let volfile = match spec {
        Some(Spec::File(path)) => VolfileSource::File(absolute(&path)?),
        Some(Spec::Volume(spec)) => {
            warnings.extend(spec.warnings);
            read_only |= spec.read_only;
            subdir = spec.subdir.or(subdir);
            VolfileSource::Servers { servers: servers(&arguments, &spec.servers)?, key: spec.key }
        }
        None if !arguments.volfile_server.is_empty() => VolfileSource::Servers {
            servers: servers(&arguments, &arguments.volfile_server)?,
            key: arguments.volfile_id.clone().unwrap_or_else(|| DEFAULT_KEY.to_owned()),
        },
        None => VolfileSource::File(absolute(arguments.volfile.as_deref().unwrap_or(Path::new(DEFAULT_VOLFILE)))?),
    };
    let display_name = arguments.fs_display_name.clone().unwrap_or_else(|| display_name(&volfile, subdir.as_deref()));
    let volfile = match volfile {
        VolfileSource::Servers { servers, key } if arguments.thin_client => {
            VolfileSource::Servers { servers, key: format!("gfproxy-client/{}", key.trim_start_matches('/')) }
        }
        other => other,
    };

    Ok(Request::Mount(
        Box::new(MountOptions {
            log: log_options(&arguments, &mount_point)?,
            mount_point,
            volfile,
            volume_name: arguments.volume_name.clone(),
            subdir,
            translator_options: arguments.xlator_option.clone(),
            process_name: arguments.process_name.clone().unwrap_or_else(|| "fuse".to_owned()),
            display_name,
            mount_timeout: arguments.mount_timeout.unwrap_or(MOUNT_TIMEOUT),
            daemonize: !arguments.no_daemon && !arguments.debug,
            pid_file: arguments.pid_file.as_deref().map(absolute).transpose()?,
            oom_score_adj: arguments.oom_score_adj,
            kernel: KernelOptions {
                read_only,
                acl: arguments.acl,
                extra: arguments.fuse_mountopts.iter().flat_map(|text| split_options(text)).collect(),
            },
            fuse: fuse_options(&arguments),
        }),
        warnings,
    ))
}

/// What `--version` and `--print-...` ask for.
fn print_request(arguments: &Arguments) -> Option<&'static str> {
    let requests = [
        (arguments.version, VERSION_LINE),
        (arguments.print_logdir, LOG_DIRECTORY),
        (arguments.print_statedumpdir, STATEDUMP_DIRECTORY),
        (arguments.print_xlatordir, "/usr/lib/glusterfs/rgfs/xlator"),
        (arguments.print_libexecdir, "/usr/libexec/glusterfs"),
    ];
    requests.into_iter().find(|(asked, _)| *asked).map(|(_, text)| text)
}

/// What would change the meaning of data or of access, and is not there, is refused rather than ignored.
fn refuse_unsupported(arguments: &Arguments) -> Result<(), Refused> {
    let unsupported = [
        (arguments.worm, "--worm"),
        (arguments.aux_gfid_mount, "--aux-gfid-mount"),
        (arguments.user_map_root.is_some(), "--user-map-root"),
        (arguments.secure_mgmt == Some(true), "--secure-mgmt"),
    ];
    match unsupported.into_iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(Refused::value(format!("{name} is not supported by rgfs; leave it out"))),
        None => Ok(()),
    }
}

/// Gives every server its port or takes it for a socket's path.
fn servers(arguments: &Arguments, names: &[String]) -> Result<Vec<VolfileServer>, Refused> {
    let unix = arguments.volfile_server_transport.as_deref() == Some("unix");
    let ports = &arguments.volfile_server_port;
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            if unix {
                return Ok(VolfileServer::Unix(PathBuf::from(name)));
            }
            let host = checked_host(name)
                .ok_or_else(|| Refused::value(format!("--volfile-server: '{name}' is not a host name or address")))?;
            let port = ports.get(index).or(ports.last()).copied().unwrap_or(GLUSTERD_PORT);
            Ok(VolfileServer::Tcp(host.to_owned(), port))
        })
        .collect()
}

/// `server:volume` as df and mount show it: the first server, the key as it was given, and the subdirectory.
fn display_name(volfile: &VolfileSource, subdir: Option<&str>) -> String {
    match volfile {
        VolfileSource::Servers { servers, key } => {
            let server = match servers.first() {
                Some(VolfileServer::Tcp(host, _)) => host.clone(),
                Some(VolfileServer::Unix(path)) => path.display().to_string(),
                None => String::new(),
            };
            format!("{server}:{key}{}", subdir.unwrap_or_default())
        }
        VolfileSource::File(path) => format!("{}{}", path.display(), subdir.unwrap_or_default()),
    }
}

/// Log file and level. The default file is named as the C client names it: `/a/b` logs to `a-b.log`.
fn log_options(arguments: &Arguments, mount_point: &Path) -> Result<LogOptions, Refused> {
    let default_level = if arguments.debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let level = arguments.log_level.unwrap_or(default_level);
    let file = match &arguments.log_file {
        Some(path) if path.as_os_str() == "-" => None,
        Some(path) => Some(absolute(path)?),
        None if arguments.debug => None,
        None => Some(default_log_file(mount_point)),
    };
    Ok(LogOptions { level, file })
}

/// `/var/log/glusterfs/` and the mount point with dashes for slashes.
fn default_log_file(mount_point: &Path) -> PathBuf {
    let name = mount_point.to_string_lossy();
    Path::new(LOG_DIRECTORY).join(format!("{}.log", name.trim_matches('/').replace('/', "-")))
}

fn fuse_options(arguments: &Arguments) -> FuseOptions {
    let defaults = FuseOptions::default();
    let queue = arguments.background_qlen;
    FuseOptions {
        entry_timeout: arguments.entry_timeout.unwrap_or(defaults.entry_timeout),
        attribute_timeout: arguments.attribute_timeout.unwrap_or(defaults.attribute_timeout),
        negative_timeout: arguments.negative_timeout.unwrap_or(defaults.negative_timeout),
        gid_timeout: arguments.gid_timeout.map_or(defaults.gid_timeout, |given| given.0),
        resolve_gids: arguments.resolve_gids,
        lru_limit: arguments.lru_limit.unwrap_or(defaults.lru_limit),
        invalidate_limit: arguments.invalidate_limit.unwrap_or(defaults.invalidate_limit),
        background_queue: queue,
        congestion_threshold: arguments.congestion_threshold.or(queue.map(|queue| queue / 4 * 3)),
        direct_io: arguments.direct_io_mode.unwrap_or_default(),
        keep_cache: arguments.fopen_keep_cache,
        auto_invalidation: arguments.auto_invalidation,
        use_readdirp: arguments.use_readdirp.unwrap_or(defaults.use_readdirp),
        reader_threads: arguments.reader_thread_count,
        writeback_cache: arguments.kernel_writeback_cache.unwrap_or(false),
        time_granularity: arguments.attr_times_granularity.unwrap_or(0),
        ino32: arguments.enable_ino32.unwrap_or(false),
        acl: arguments.acl,
        selinux: arguments.selinux,
        capability: arguments.capability,
        client_pid: arguments.client_pid.or(arguments.no_root_squash.then_some(NO_ROOT_SQUASH_PID)),
    }
}

/// Splits mount options at commas that are not inside double quotes (SELinux contexts have commas).
pub fn split_options(text: &str) -> Vec<String> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .filter(|option| !option.is_empty())
    .map(str::to_owned)
    .collect()
}

/// The daemon leaves the current directory, so paths are made absolute first.
fn absolute(path: impl AsRef<Path>) -> Result<PathBuf, Refused> {
    let path = path.as_ref();
    std::path::absolute(path).map_err(|error| Refused::value(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::options::DirectIo;

    fn request(line: &str) -> Result<Request, Refused> {
        parse(std::iter::once("rgfs").chain(line.split_whitespace()).map(str::to_owned))
    }

    fn mount(line: &str) -> MountOptions {
        match request(line) {
            Ok(Request::Mount(options, _)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn tcp(host: &str, port: u16) -> VolfileServer {
        VolfileServer::Tcp(host.into(), port)
    }

    #[test]
    fn the_first_command_line_of_all() {
        let options = mount("--volfile-server=i-server1 --volfile-server-port=6996 /home/gfs");
        let servers = vec![tcp("i-server1", 6996)];
        assert_eq!(options.volfile, VolfileSource::Servers { servers, key: "glusterfs".into() });
        assert_eq!(options.display_name, "i-server1:glusterfs");
        assert_eq!(options.log.file.as_deref(), Some(Path::new("/var/log/glusterfs/home-gfs.log")));
        assert!(options.daemonize);
        assert_eq!(options.mount_timeout, Duration::from_secs(9));
    }

    #[test]
    fn volumes_and_servers() {
        type Row = (&'static str, Vec<VolfileServer>, &'static str, &'static str, Option<&'static str>);
        let table: &[Row] = &[
            ("-s a --volfile-id=v /m", vec![tcp("a", 24007)], "v", "a:v", None),
            ("-s a --volfile-id /v /m -s b", vec![tcp("a", 24007), tcp("b", 24007)], "/v", "a:/v", None),
            ("a,b:/v/d /m", vec![tcp("a", 24007), tcp("b", 24007)], "/v", "a:/v/d", Some("/d")),
            ("a:v --subdir-mount=/x/ /m", vec![tcp("a", 24007)], "v", "a:v/x", Some("/x")),
            (
                "-s a -s b -s c --volfile-server-port=1 --volfile-server-port=2 /m",
                vec![tcp("a", 1), tcp("b", 2), tcp("c", 2)],
                "glusterfs",
                "a:glusterfs",
                None,
            ),
            ("--thin-client a:/v /m", vec![tcp("a", 24007)], "gfproxy-client/v", "a:/v", None),
            (
                "--volfile-server-transport=unix -s /run/x /m",
                vec![VolfileServer::Unix("/run/x".into())],
                "glusterfs",
                "/run/x:glusterfs",
                None,
            ),
        ];
        for (line, servers, key, display_name, subdir) in table {
            let options = mount(line);
            let expected = VolfileSource::Servers { servers: servers.clone(), key: (*key).into() };
            assert_eq!(options.volfile, expected, "{line}");
            assert_eq!(options.display_name, *display_name, "{line}");
            assert_eq!(options.subdir.as_deref(), *subdir, "{line}");
        }
        assert_eq!(mount("-f /a.vol /m").volfile, VolfileSource::File("/a.vol".into()));
        assert_eq!(mount("/m").volfile, VolfileSource::File(DEFAULT_VOLFILE.into()));
        assert!(mount("a:/snaps/S/v /m").kernel.read_only);
    }

    #[test]
    fn abbreviations_and_optional_values() {
        let options = mount("--volfile-server=a --fopen --use-readdirp=no --direct-io --gid-timeout=-1 --ent 2.5 /m");
        assert_eq!(options.fuse.keep_cache, Some(true));
        assert!(!options.fuse.use_readdirp);
        assert_eq!(options.fuse.direct_io, DirectIo::On);
        assert_eq!(options.fuse.gid_timeout, None);
        assert_eq!(options.fuse.entry_timeout, Duration::from_millis(2500));
        let options = mount("--background-qlen=100 --fuse-mountopts=noatime,context=\"a,b\" --no-root-squash a:v /m");
        assert_eq!(options.fuse.congestion_threshold, Some(75));
        assert_eq!(options.kernel.extra, ["noatime", "context=\"a,b\""]);
        assert_eq!(options.fuse.client_pid, Some(-4));
        let options = mount("--debug -L TRACE a:v /m");
        assert_eq!((options.log.level, options.log.file, options.daemonize), (LevelFilter::TRACE, None, false));
    }

    #[test]
    fn what_is_refused() {
        let table = [
            ("", 64),
            ("--unknown /m", 64),
            ("a:v /m extra", 64),
            ("--volfile /m", 64),
            ("-s a b:v /m", 64),
            ("--entry-timeout=soon a:v /m", 255),
            ("--xlator-option=nonsense a:v /m", 255),
            ("--log-level=LOUD a:v /m", 255),
            ("--volfile-server-port=0 a:v /m", 255),
            ("--volfile-server-transport=rdma a:v /m", 255),
            ("--worm a:v /m", 255),
            ("--secure-mgmt a:v /m", 255),
            ("novolume /m", 255),
        ];
        for (line, code) in table {
            assert_eq!(request(line).unwrap_err().code, code, "{line}");
        }
    }

    #[test]
    fn what_only_prints() {
        assert_eq!(request("--print-logdir"), Ok(Request::Print("/var/log/glusterfs\n".into())));
        match request("--version") {
            Ok(Request::Print(text)) => assert!(text.starts_with("glusterfs "), "{text}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(request("-?"), Ok(Request::Print(_))));
    }

    #[test]
    fn ignored_options_warn() {
        match request("--log-format=no-msg-id --mem-accounting a:v /m") {
            Ok(Request::Mount(_, warnings)) => assert_eq!(warnings.len(), 2),
            other => panic!("{other:?}"),
        }
    }
}
