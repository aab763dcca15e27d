//! Translators that spread data over several children.

pub mod distribute;
mod join_all;

pub use join_all::{JoinAll, join_all};
