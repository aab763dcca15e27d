//! Translators that spread data over several children.

pub mod distribute;
mod join_all;
#[cfg(test)]
mod nested_tests;
pub mod replicate;
#[cfg(test)]
mod rounds;

pub use join_all::{JoinAll, join_all};
