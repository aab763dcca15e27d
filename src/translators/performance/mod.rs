//! Translators that cache or delay.
