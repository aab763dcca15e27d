//! What a mount is asked to do: the command line as typed values, with no trace of how it was spelt.

use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::volfile::Override;

/// Everything that one mount needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct MountOptions {
    /// Where to mount.
    pub mount_point: PathBuf,
    /// Where the volfile comes from.
    pub volfile: VolfileSource,
    /// Volume of the volfile that becomes the file system; the last one when absent.
    pub volume_name: Option<String>,
    /// Directory of the volume that becomes the root, beginning with `/`; the bricks enforce it.
    pub subdir: Option<String>,
    /// Options set on top of the volfile's.
    pub translator_options: Vec<Override>,
    /// Name of this client for the bricks (`fuse`, `fuse.NAME`).
    pub process_name: String,
    /// First field of /proc/mounts (`server:/volume`).
    pub display_name: String,
    /// How long the whole mount may take, from the first connection to the answer of the root directory.
    pub mount_timeout: Duration,
    /// Where and how much to log.
    pub log: LogOptions,
    /// Go to the background once mounted.
    pub daemonize: bool,
    /// File that holds the process id, locked for life.
    pub pid_file: Option<PathBuf>,
    /// `oom_score_adj` of the process, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// What the kernel is told by mount(2).
    pub kernel: KernelOptions,
    /// What the FUSE layer is told.
    pub fuse: FuseOptions,
}

/// Where the volfile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolfileSource {
    /// Volfile servers, asked in this order for the volfile of that key.
    Servers {
        /// At least one.
        servers: Vec<VolfileServer>,
        /// `--volfile-id`, as given.
        key: String,
    },
    /// A local file.
    File(PathBuf),
}

/// A volfile server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolfileServer {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Path of a socket.
    Unix(PathBuf),
}

impl std::fmt::Display for VolfileServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VolfileServer::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            VolfileServer::Tcp(host, port) => write!(f, "{host}:{port}"),
            VolfileServer::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Where and how much to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Most detailed level that is logged.
    pub level: LevelFilter,
    /// File, or standard error when absent.
    pub file: Option<PathBuf>,
}

/// What mount(2) is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelOptions {
    /// Mount read-only.
    pub read_only: bool,
    /// POSIX ACLs: the kernel does not decide by mode bits alone (`default_permissions` is left out).
    pub acl: bool,
    /// Further options, as of mount(8): `noatime`, `nosuid`, `context=...`.
    pub extra: Vec<String>,
}

/// `--direct-io-mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectIo {
    /// As the opener asks (`O_DIRECT`).
    #[default]
    Auto,
    /// Every file bypasses the page cache.
    On,
    /// No file does, but those opened with `O_DIRECT`.
    Off,
}

/// What the FUSE layer is told. `None` leaves the decision to it.
#[derive(Clone, Debug, PartialEq)]
pub struct FuseOptions {
    /// How long the kernel may trust a name.
    pub entry_timeout: Duration,
    /// How long the kernel may trust attributes.
    pub attribute_timeout: Duration,
    /// How long the kernel may trust that a name does not exist; zero: not at all.
    pub negative_timeout: Duration,
    /// How long the groups of a process are remembered; `None`: no groups are sent at all.
    pub gid_timeout: Option<Duration>,
    /// Ask the user database for groups, not /proc.
    pub resolve_gids: bool,
    /// Inodes kept before the kernel is asked to forget some; 0: no limit.
    pub lru_limit: u64,
    /// Invalidations in flight to the kernel; 0: no limit.
    pub invalidate_limit: u64,
    /// Requests that the kernel may have in the background.
    pub background_queue: Option<u16>,
    /// Background requests from which the kernel calls the mount congested.
    pub congestion_threshold: Option<u16>,
    /// Who bypasses the page cache.
    pub direct_io: DirectIo,
    /// Keep pages over close and open.
    pub keep_cache: Option<bool>,
    /// The kernel drops pages when size or mtime change.
    pub auto_invalidation: Option<bool>,
    /// List directories with attributes.
    pub use_readdirp: bool,
    /// Threads that read requests.
    pub reader_threads: Option<u16>,
    /// The kernel delays and merges writes.
    pub writeback_cache: bool,
    /// Granularity of times, in nanoseconds; 0: the finest.
    pub time_granularity: u32,
    /// Inode numbers of 32 bits.
    pub ino32: bool,
    /// POSIX ACLs.
    pub acl: bool,
    /// Pass `security.selinux` to the bricks.
    pub selinux: bool,
    /// Pass `security.capability` to the bricks.
    pub capability: bool,
    /// Process id that all requests carry, for internal clients (-1 gsyncd, -3 rebalance, -4 no root squash).
    pub client_pid: Option<i32>,
}

impl Default for FuseOptions {
    fn default() -> Self {
        FuseOptions {
            entry_timeout: Duration::from_secs(1),
            attribute_timeout: Duration::from_secs(1),
            negative_timeout: Duration::ZERO,
            gid_timeout: Some(Duration::from_secs(300)),
            resolve_gids: false,
            lru_limit: 65536,
            invalidate_limit: 0,
            background_queue: None,
            congestion_threshold: None,
            direct_io: DirectIo::Auto,
            keep_cache: None,
            auto_invalidation: None,
            use_readdirp: true,
            reader_threads: None,
            writeback_cache: false,
            time_granularity: 0,
            ino32: false,
            acl: false,
            selinux: false,
            capability: false,
            client_pid: None,
        }
    }
}
