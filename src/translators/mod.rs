//! The translators, in the folders of the volfile's `type` lines: `cluster/distribute` is in `cluster/distribute/`.

pub mod cluster;
pub mod debug;
pub mod features;
pub mod pass_through;
pub mod performance;
pub mod protocol;

#[cfg(test)]
#[allow(dead_code, reason = "each test uses a part of it")]
pub(crate) mod testing;
