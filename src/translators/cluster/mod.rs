//! Translators that spread data over several children.

pub mod distribute;
mod join_all;
#[allow(unused, dead_code, reason = "its parts come one after the other")]
pub mod replicate;
#[cfg(test)]
mod nested_tests;
#[cfg(test)]
mod rounds;

pub use join_all::{JoinAll, join_all};
