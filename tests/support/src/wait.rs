//! Waiting for a condition: polled often, bounded by a deadline, and an error that says what never came true.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

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

/// Waits until somebody listens on `host`:`port`; `alive` may give up earlier.
pub fn for_port(host: &str, port: u16, limit: Duration, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
    let address = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("resolving {host}"))?
        .next()
        .ok_or_else(|| anyhow!("{host} has no address"))?;
    for_value(&format!("{host}:{port} listens"), limit, || {
        alive()?;
        Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok().map(drop))
    })
}
