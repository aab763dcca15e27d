//! Counters, latency histograms per brick and fop, statedump.
