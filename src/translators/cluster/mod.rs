//! Translators that spread data over several children.

pub mod distribute;
