//! The command line: glusterfs spellings, the mount helper, subcommands.

pub mod arguments;
pub mod documents;
pub mod mount_helper;
pub mod mount_options;
pub mod request;
pub mod spec;
pub mod values;

/// Answer of `--version`. Scripts take the second word for the version of GlusterFS that is spoken.
pub const VERSION_LINE: &str = concat!("glusterfs 10.3 (rgfs ", env!("CARGO_PKG_VERSION"), ", a native client)");

/// Where logs are written.
pub const LOG_DIRECTORY: &str = "/var/log/glusterfs";

/// Where statedumps are written.
pub const STATEDUMP_DIRECTORY: &str = "/var/run/gluster";
