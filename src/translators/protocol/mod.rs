//! Translators that speak to other machines.

pub mod client;
