//! The file system as the kernel sees it, over the top translator of a graph.
//!
//! [`FileSystem`] takes typed requests and gives typed answers; it knows nothing of the transport and is tested without a
//! mount. `edge` is the only place that knows the `fuser` crate: it turns what the kernel says into calls of
//! [`FileSystem`] and its answers into replies, and runs the loops that read /dev/fuse.
//!
//! Numbers: the kernel names an inode by a *nodeid* that [`inode_table`] hands out, keyed by gfid, so that hard links share
//! one. `fuser` 0.18 puts the nodeid and `st_ino` of an answer into one field, so the table prefers the number that every
//! GlusterFS client shows as `st_ino` (the low half of the gfid) and takes another one if that is in use by another gfid;
//! the generation is made of the other half.

mod absent;
pub mod attributes;
pub mod caller;
pub mod counters;
pub mod edge;
pub mod file_system;
mod gfid_source;
pub mod handles;
pub mod in_flight;
pub mod inode_table;
pub mod interrupt;
pub mod list_ahead;
pub mod locks;
pub mod notifications;
pub mod options;
pub mod page_cache;
pub mod readahead;
#[cfg(test)]
pub mod testing;
pub mod xattr_names;

pub use caller::Caller;
pub use edge::{Server, serve};
pub use file_system::FileSystem;
pub use options::Options;
