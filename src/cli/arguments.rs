//! The options of the `glusterfs` binary, as clap reads them (`glusterfsd.c:gf_options`).

#![allow(rustdoc::broken_intra_doc_links, reason = "the comments are the help texts; brackets hold defaults")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use tracing::level_filters::LevelFilter;

use super::values::{self, GidTimeout};
use crate::mount::options::DirectIo;
use crate::volfile::Override;

/// Mounts a GlusterFS volume.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "rgfs",
    infer_long_args = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true,
    override_usage = "rgfs [OPTIONS] [SERVER[,SERVER...]:/VOLUME[/SUBDIR] | VOLFILE] MOUNTPOINT\n       \
                      rgfs mount-helper SPEC MOUNTPOINT [-o OPTIONS]\n       \
                      rgfs volfile-server --directory DIRECTORY --listen ADDRESS:PORT",
    after_help = "BOOL is on or off, yes or no, true or false, enable or disable; without a value it means on.\n\
                  Long options may be abbreviated as long as they stay unambiguous."
)]
pub struct Arguments {
    /// What to mount (or use --volfile-server or --volfile), and where
    #[arg(value_name = "MOUNTPOINT", num_args = 0..=2)]
    pub positional: Vec<String>,

    /// Volfile server; give it several times for failover
    #[arg(long, short = 's', value_name = "HOST", action = ArgAction::Append)]
    pub volfile_server: Vec<String>,
    /// Port of the volfile servers; the n-th one belongs to the n-th server, the last one to all further ones [24007]
    #[arg(long, value_name = "PORT", action = ArgAction::Append, value_parser = clap::value_parser!(u16).range(1..))]
    pub volfile_server_port: Vec<u16>,
    /// Transport of the volfile servers; with unix each server is the path of a socket
    #[arg(long, value_name = "tcp|socket|unix", value_parser = ["tcp", "socket", "unix"])]
    pub volfile_server_transport: Option<String>,
    /// Name of the volume, or key of the volfile [glusterfs]
    #[arg(long, value_name = "KEY")]
    pub volfile_id: Option<String>,
    /// Local volfile [/etc/glusterfs/glusterfs.vol]
    #[arg(long, short = 'f', visible_alias = "spec-file", value_name = "FILE")]
    pub volfile: Option<PathBuf>,
    /// Volume of the volfile that becomes the file system [the last one]
    #[arg(long, value_name = "NAME")]
    pub volume_name: Option<String>,
    /// Sets an option of the translators whose names fit PATTERN
    #[arg(long, value_name = "PATTERN.KEY=VALUE", action = ArgAction::Append)]
    pub xlator_option: Vec<Override>,
    /// How long mounting may take before it is given up [10]
    #[arg(long, value_name = "SECONDS", value_parser = values::time_limit)]
    pub mount_timeout: Option<Duration>,

    /// Log level: TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL or NONE [INFO]
    #[arg(long, short = 'L', value_name = "LEVEL", value_parser = values::log_level)]
    pub log_level: Option<LevelFilter>,
    /// Log file, - for standard error [/var/log/glusterfs/MOUNT-POINT.log]
    #[arg(long, short = 'l', value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Stay in the foreground, log level DEBUG, log to standard error
    #[arg(long)]
    pub debug: bool,
    /// Stay in the foreground
    #[arg(long, short = 'N')]
    pub no_daemon: bool,
    /// File that will hold the process id
    #[arg(long, short = 'p', value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// A mark to be seen in ps
    #[arg(long, short = 'r', value_name = "TEXT")]
    pub run_id: Option<String>,
    /// A mark to be seen in ps
    #[arg(long, value_name = "NAME")]
    pub process_name: Option<String>,
    /// Likelihood of being killed when memory is short, -1000 to 1000
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: Option<i32>,

    /// Mount read-only
    #[arg(long)]
    pub read_only: bool,
    /// POSIX ACLs
    #[arg(long)]
    pub acl: bool,
    /// Pass security.selinux to the bricks
    #[arg(long)]
    pub selinux: bool,
    /// Pass security.capability to the bricks
    #[arg(long)]
    pub capability: bool,
    /// Write once, read many (not supported: refused)
    #[arg(long)]
    pub worm: bool,
    /// Access by /.gfid (not supported: refused)
    #[arg(long)]
    pub aux_gfid_mount: bool,
    /// Swap a user with root (not supported: refused)
    #[arg(long, value_name = "USER")]
    pub user_map_root: Option<String>,
    /// TLS to the volfile servers (not supported: on is refused)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on", value_parser = values::boolean)]
    pub secure_mgmt: Option<bool>,
    /// Directory of the volume that becomes the root
    #[arg(long, value_name = "/PATH", value_parser = values::subdir)]
    pub subdir_mount: Option<String>,
    /// Inode numbers of 32 bits
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on", value_parser = values::boolean)]
    pub enable_ino32: Option<bool>,
    /// Let a gfproxy server do the work
    #[arg(long)]
    pub thin_client: bool,
    /// How long the kernel may trust names [1]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub entry_timeout: Option<Duration>,
    /// How long the kernel may trust attributes [1]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub attribute_timeout: Option<Duration>,
    /// How long the kernel may trust that a name does not exist [0]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub negative_timeout: Option<Duration>,
    /// How long groups of processes are remembered; -1: send none [300]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = values::gid_timeout)]
    pub gid_timeout: Option<GidTimeout>,
    /// Ask the user database for groups, not /proc
    #[arg(long)]
    pub resolve_gids: bool,
    /// Inodes kept before the kernel is asked to forget some; 0: no limit [65536]
    #[arg(long, value_name = "N")]
    pub lru_limit: Option<u64>,
    /// Invalidations in flight to the kernel; 0: no limit [0]
    #[arg(long, value_name = "N")]
    pub invalidate_limit: Option<u64>,
    /// Requests that the kernel may have in the background
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(16..))]
    pub background_qlen: Option<u16>,
    /// Background requests from which the kernel calls the mount congested [3/4 of --background-qlen]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(12..))]
    pub congestion_threshold: Option<u16>,
    /// Bypass the page cache: on, off, auto [auto]
    #[arg(long, value_name = "BOOL|auto", num_args = 0..=1, require_equals = true, default_missing_value = "on", value_parser = values::direct_io)]
    pub direct_io_mode: Option<DirectIo>,
    /// Keep pages over close and open
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on", value_parser = values::boolean)]
    pub fopen_keep_cache: Option<bool>,
    /// Drop pages when size or mtime change
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on", value_parser = values::boolean)]
    pub auto_invalidation: Option<bool>,
    /// List directories with attributes [on]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on", value_parser = values::boolean)]
    pub use_readdirp: Option<bool>,
    /// Threads that read requests, 1 to 64
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub reader_thread_count: Option<u16>,
    /// The kernel delays and merges writes: fast, but other clients see them late [off]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on", value_parser = values::boolean)]
    pub kernel_writeback_cache: Option<bool>,
    /// Granularity of times, in nanoseconds [0: the finest]
    #[arg(long, value_name = "NANOSECONDS", value_parser = clap::value_parser!(u32).range(..=1_000_000_000))]
    pub attr_times_granularity: Option<u32>,
    /// Further options of mount(8), separated by commas
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true, action = ArgAction::Append)]
    pub fuse_mountopts: Vec<String>,
    /// Source shown by df and mount [SERVER:VOLUME]
    #[arg(long, value_name = "NAME")]
    pub fs_display_name: Option<String>,
    /// Process id that all requests carry; negative for internal clients
    #[arg(long, value_name = "PID", allow_hyphen_values = true)]
    pub client_pid: Option<i32>,
    /// Root stays root (honoured by bricks for trusted clients)
    #[arg(long)]
    pub no_root_squash: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub ignored: Ignored,

    /// Print where translators would lie, and exit
    #[arg(long)]
    pub print_xlatordir: bool,
    /// Print where statedumps are written, and exit
    #[arg(long)]
    pub print_statedumpdir: bool,
    /// Print where logs are written, and exit
    #[arg(long)]
    pub print_logdir: bool,
    /// Print where helpers would lie, and exit
    #[arg(long)]
    pub print_libexecdir: bool,
    /// Print the version, and exit
    #[arg(long, short = 'V')]
    pub version: bool,
    /// Print this help, and exit
    #[arg(long, short = '?', short_alias = 'h', visible_alias = "usage", action = ArgAction::Help)]
    help: Option<bool>,
}

/// Options of the C client that have no meaning here: accepted, and mentioned once in the log.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Accepted and ignored")]
#[allow(missing_docs)]
pub struct Ignored {
    #[arg(long, hide = true, value_name = "LOGGER")]
    pub logger: Option<String>,
    #[arg(long, hide = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    #[arg(long, hide = true, value_name = "N")]
    pub log_buf_size: Option<String>,
    #[arg(long, hide = true, value_name = "SECONDS")]
    pub log_flush_timeout: Option<String>,
    #[arg(long, hide = true)]
    pub localtime_logging: bool,
    #[arg(long, short = 'S', hide = true, value_name = "PATH")]
    pub socket_file: Option<String>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub mac_compat: Option<String>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub global_threading: Option<String>,
    #[arg(long, hide = true, value_name = "ENGINE")]
    pub io_engine: Option<String>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub global_timer_wheel: Option<String>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub event_history: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    pub dump_fuse: Option<String>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub fuse_flush_handle_interrupt: Option<String>,
    #[arg(long, hide = true, value_name = "NANOSECONDS")]
    pub fuse_dev_eperm_ratelimit_ns: Option<String>,
    #[arg(long, hide = true)]
    pub no_mem_accounting: bool,
    #[arg(long, hide = true)]
    pub mem_accounting: bool,
    #[arg(long, hide = true, value_name = "N")]
    pub volfile_max_fetch_attempts: Option<String>,
    #[arg(long, hide = true)]
    pub volfile_check: bool,
    #[arg(long, hide = true, value_name = "N")]
    pub inode_table_size: Option<String>,
}

impl Ignored {
    /// Names of those that were given.
    pub fn given(&self) -> Vec<&'static str> {
        let texts = [
            ("--logger", &self.logger),
            ("--log-format", &self.log_format),
            ("--log-buf-size", &self.log_buf_size),
            ("--log-flush-timeout", &self.log_flush_timeout),
            ("--socket-file", &self.socket_file),
            ("--mac-compat", &self.mac_compat),
            ("--global-threading", &self.global_threading),
            ("--io-engine", &self.io_engine),
            ("--global-timer-wheel", &self.global_timer_wheel),
            ("--event-history", &self.event_history),
            ("--dump-fuse", &self.dump_fuse),
            ("--fuse-flush-handle-interrupt", &self.fuse_flush_handle_interrupt),
            ("--fuse-dev-eperm-ratelimit-ns", &self.fuse_dev_eperm_ratelimit_ns),
            ("--volfile-max-fetch-attempts", &self.volfile_max_fetch_attempts),
            ("--inode-table-size", &self.inode_table_size),
        ];
        let flags = [
            ("--localtime-logging", self.localtime_logging),
            ("--no-mem-accounting", self.no_mem_accounting),
            ("--mem-accounting", self.mem_accounting),
            ("--volfile-check", self.volfile_check),
        ];
        let texts = texts.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name);
        texts.chain(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| name)).collect()
    }
}
