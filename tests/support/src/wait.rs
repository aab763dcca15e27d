//! Waiting for a condition: polled often, bounded by a deadline, and an error that says what never came true.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` gives a value; fails after `limit` with an error that names `what`.
pub fn for_value<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            bail!("waited {limit:?} in vain for: {what}");
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until `condition` is true and returns how long that took.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<Duration> {
    let start = Instant::now();
    for_value(what, limit, || Ok(condition().then_some(())))?;
    Ok(start.elapsed())
}
