//! From a volfile's graph to live translators.

mod environment;
mod error;
#[cfg(test)]
#[allow(dead_code, reason = "each test uses a part of it")]
pub(crate) mod testing;

pub use environment::{Environment, Identity};
pub use error::BuildError;
