//! Requests, one for each procedure, in groups: names, inodes, file data, directories, xattrs, locks, the exotic.

mod directory;
mod entry;
mod inode;
mod io;
mod lock;
mod special;
mod xattr;

pub use directory::*;
pub use entry::*;
pub use inode::*;
pub use io::*;
pub use lock::*;
pub use special::*;
pub use xattr::*;
