//! rgfs: a native GlusterFS client.
//!
//! Arrows go one way: `fuse -> graph -> translators -> net -> protocol`. The shape is drawn in `docs/ARCHITECTURE.md`.

pub mod context;
pub mod error;
pub mod event;
pub mod fd;
pub mod inode;
pub mod reply;
pub mod task;
pub mod translator;

pub use context::Context;
pub use error::{FopError, FopResult};
pub use fd::Fd;
pub use inode::{Inode, Loc};
pub use translator::Translator;
