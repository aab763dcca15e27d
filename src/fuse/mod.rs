//! The file system as the kernel sees it.
