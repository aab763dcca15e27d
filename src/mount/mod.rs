//! The life of a mount: mount(2), daemonise, signals, readiness, unmount.

pub mod daemon;
pub mod failure;
pub mod kernel_mount;
pub mod logging;
pub mod mount_point;
pub mod options;
pub mod pid_file;
pub mod signals;
