//! What the command line may say about the FUSE side of a mount. Names are those of the C client's options.

use std::time::Duration;

/// Settings of a mount. [`Options::default`] is what the C client does by default, but for the larger queues.
#[derive(Clone, Debug)]
pub struct Options {
    /// `entry-timeout`: how long the kernel believes that a name leads to an inode.
    pub entry_timeout: Duration,
    /// `attribute-timeout`: how long the kernel believes attributes.
    pub attribute_timeout: Duration,
    /// `negative-timeout`: how long the kernel believes that a name does not exist. Zero: it asks each time.
    pub negative_timeout: Duration,
    /// `gid-timeout`: how long the supplementary groups of a process are believed. `None`: none are sent.
    pub gid_timeout: Option<Duration>,
    /// `client-pid`: the process that all requests name, negative for internal clients.
    pub client_pid: Option<i32>,
    /// `use-readdirp`: directories are listed with attributes.
    pub use_readdirp: bool,
    /// `fopen-keep-cache`: pages of a file that did not change are kept over close and open.
    pub keep_cache: bool,
    /// `attr-times-granularity`: what the kernel rounds times to; zero: not at all.
    pub time_granularity: Duration,
    /// `lru-limit`: inodes that the kernel may hold before it is asked to forget some: when nothing is found any more, and at once
    /// when there are twice as many. 0: no limit.
    pub lru_limit: usize,
    /// `direct-io-mode`: no page cache, every read and write goes to the bricks.
    pub direct_io: bool,
    /// `kernel-writeback-cache`: the kernel collects writes. Other clients see them late, appends of two clients corrupt.
    pub writeback_cache: bool,
    /// `acl`: POSIX ACLs, evaluated by the kernel and inherited by the bricks.
    pub acl: bool,
    /// `selinux`: `security.selinux` (and `security.capability`) reach the bricks.
    pub selinux: bool,
    /// `capability`: `security.capability` reaches the bricks.
    pub capability: bool,
    /// `read-only`: everything that changes something fails with EROFS.
    pub read_only: bool,
    /// `enable-ino32`: inode numbers fit in 32 bits.
    pub ino32: bool,
    /// `reader-thread-count`: threads that read /dev/fuse, each from a descriptor of its own.
    pub reader_threads: usize,
    /// `background-qlen`: background requests (readahead, asynchronous I/O) that the kernel may have open.
    pub background_queue: u16,
    /// `congestion-threshold`: background requests from which the kernel calls the mount congested. `None`: three quarters.
    pub congestion_threshold: Option<u16>,
    /// Largest WRITE that the kernel may send, in bytes; the kernel lowers it to what it can.
    pub max_write: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            entry_timeout: Duration::from_secs(1),
            attribute_timeout: Duration::from_secs(1),
            negative_timeout: Duration::ZERO,
            gid_timeout: Some(Duration::from_secs(300)),
            client_pid: None,
            use_readdirp: true,
            keep_cache: true,
            time_granularity: Duration::ZERO,
            lru_limit: 65_536,
            direct_io: false,
            writeback_cache: false,
            acl: false,
            selinux: false,
            capability: false,
            read_only: false,
            ino32: false,
            reader_threads: 2,
            background_queue: 512,
            congestion_threshold: None,
            max_write: 1 << 20,
        }
    }
}
