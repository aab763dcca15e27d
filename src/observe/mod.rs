//! Counters, latency histograms per brick and fop, statedump.

pub mod counters;
pub mod histogram;
pub mod operations;
pub mod statedump;

pub use counters::ConnectionCounters;
pub use histogram::Histogram;
pub use operations::Operations;
pub use statedump::Statedump;
