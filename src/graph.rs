//! From a volfile's graph to live translators.

mod environment;
mod error;

pub use environment::{Environment, Identity};
pub use error::BuildError;
