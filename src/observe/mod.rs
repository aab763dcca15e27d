//! Counters, latency histograms per brick and fop, statedump.

pub mod histogram;
pub mod statedump;

pub use histogram::Histogram;
pub use statedump::Statedump;
