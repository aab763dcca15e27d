//! Translators that add or restrict semantics.

pub mod read_only;
pub mod utime;
