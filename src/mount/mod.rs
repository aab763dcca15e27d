//! The life of a mount: mount(2), daemonise, signals, readiness, unmount.

pub mod options;
