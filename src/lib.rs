//! rgfs: a native GlusterFS client.
//!
//! Arrows go one way: `fuse -> graph -> translators -> net -> protocol`. The shape is drawn in `docs/ARCHITECTURE.md`.

pub mod cli;
pub mod clock;
pub mod context;
pub mod error;
pub mod event;
pub mod fd;
pub mod fuse;
pub mod graph;
pub mod inode;
pub mod mount;
pub mod net;
pub mod observe;
pub mod reply;
#[cfg(test)]
pub(crate) mod simulation;
pub mod task;
pub mod translator;
pub mod translators;
pub mod volfile;

pub use context::Context;
pub use error::{FopError, FopResult};
pub use fd::Fd;
pub use inode::{Inode, Loc};
pub use translator::{ListingParts, Translator};
