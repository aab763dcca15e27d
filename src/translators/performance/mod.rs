//! Translators that cache or delay.

pub mod write_behind;
