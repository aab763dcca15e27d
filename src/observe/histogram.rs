//! How long things take: a histogram that many threads feed without a lock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets: below 1 µs, below 2 µs, below 4 µs, ... and the last one for all from about half an hour.
const BUCKETS: usize = 32;

/// Durations, counted in buckets that double, from a microsecond on.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    total: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(microseconds)].fetch_add(1, Ordering::Relaxed);
        self.total.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Mean of all durations; zero when there are none.
    pub fn mean(&self) -> Duration {
        let total = self.total.load(Ordering::Relaxed);
        total.checked_div(self.count()).map_or(Duration::ZERO, Duration::from_micros)
    }

    /// A bound below which the given part of all durations lies: `quantile(99, 100)`. Zero when there are none.
    pub fn quantile(&self, part: u64, whole: u64) -> Duration {
        let count = self.count();
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if seen > 0 && seen.saturating_mul(whole) >= count.saturating_mul(part) {
                return Duration::from_micros(1 << index);
            }
        }
        Duration::ZERO
    }
}

/// Index of the bucket: the number of bits of the microseconds.
fn bucket(microseconds: u64) -> usize {
    let bits = u64::BITS - microseconds.leading_zeros();
    (bits as usize).min(BUCKETS - 1)
}

impl fmt::Display for Histogram {
    /// `count=3 mean=12µs p50<16µs p99<32µs | <16µs:2 <32µs:1`, empty buckets left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count() == 0 {
            return f.write_str("count=0");
        }
        let (mean, half, most) = (self.mean(), self.quantile(50, 100), self.quantile(99, 100));
        write!(f, "count={} mean={mean:?} p50<{half:?} p99<{most:?}", self.count())?;
        let mut separator = " |";
        for (index, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Ordering::Relaxed);
            if count > 0 {
                write!(f, "{separator} <{:?}:{count}", Duration::from_micros(1 << index))?;
                separator = "";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double() {
        for (microseconds, expected) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1 << 40, BUCKETS - 1), (u64::MAX, 31)]
        {
            assert_eq!(bucket(microseconds), expected, "{microseconds}");
        }
    }

    #[test]
    fn figures() {
        let histogram = Histogram::default();
        assert_eq!((histogram.mean(), histogram.quantile(99, 100)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(histogram.to_string(), "count=0");
        for microseconds in [10, 10, 10, 1000] {
            histogram.record(Duration::from_micros(microseconds));
        }
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.mean(), Duration::from_micros(257));
        assert_eq!(histogram.quantile(1, 2), Duration::from_micros(16));
        assert_eq!(histogram.quantile(99, 100), Duration::from_micros(1024));
        assert!(histogram.to_string().ends_with("| <16µs:3 <1.024ms:1"), "{histogram}");
    }
}
