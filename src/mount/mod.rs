//! The life of a mount: mount(2), daemonise, signals, readiness, unmount.

mod bring_up;
pub mod daemon;
mod dump;
pub mod failure;
mod fetch;
mod fuse_options;
mod keeper;
pub mod kernel_mount;
mod life;
pub mod logging;
pub mod mount_point;
pub mod options;
pub mod pid_file;
pub mod signals;

pub use life::run;
