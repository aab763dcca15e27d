//! A network that can be cut: a TCP relay between one client and one brick.
//!
//! Cutting it is better than stopping the client with SIGSTOP: with a stopped FUSE server every process that this test starts would
//! hang in `exec`, which closes (and so flushes) the test's open files.
//!
//! A [`Tap`] sees all that passes: [`wire`](crate::wire) records with one what a client says to its bricks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Which way bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the brick.
    ToBrick,
    /// From the brick to the client.
    ToClient,
}

/// Sees what passes, before it is passed on: what it notes down in the order of its calls is an order that could be observed.
pub trait Tap: Send + Sync {
    /// Bytes of a connection, which has a number that no other one of this process has.
    fn passes(&self, connection: u64, direction: Direction, bytes: &[u8]);

    /// The connection ended; nothing follows.
    fn ended(&self, connection: u64);
}

/// Listens on one address and relays to another, until cut.
pub struct Proxy {
    listen: SocketAddr,
    brick: SocketAddr,
    tap: Option<Arc<dyn Tap>>,
    line: Option<Line>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Proxy({} to {})", self.listen, self.brick)
    }
}

/// One life of the line between two cuts.
#[derive(Debug)]
struct Line {
    stop: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: thread::JoinHandle<()>,
}

impl Proxy {
    /// Starts relaying.
    pub fn start(listen: SocketAddr, brick: SocketAddr) -> Result<Self> {
        Self::start_tapped(listen, brick, None)
    }

    /// The same, with somebody who looks at all that passes.
    pub fn start_tapped(listen: SocketAddr, brick: SocketAddr, tap: Option<Arc<dyn Tap>>) -> Result<Self> {
        let mut proxy = Self { listen, brick, tap, line: None };
        proxy.restore()?;
        Ok(proxy)
    }

    /// Breaks every connection and refuses new ones.
    pub fn cut(&mut self) {
        let Some(line) = self.line.take() else { return };
        line.stop.store(true, Ordering::Release);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.listen);
        let _ = line.acceptor.join();
        for stream in line.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Relays again.
    pub fn restore(&mut self) -> Result<()> {
        self.cut();
        let listener = TcpListener::bind(self.listen).with_context(|| format!("listening on {}", self.listen))?;
        let (stop, streams) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, kept, brick, tap) = (stop.clone(), streams.clone(), self.brick, self.tap.clone());
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                // A brick that is away refuses: the client sees its connection closed.
                let _ = join(client, brick, tap.as_ref(), &kept);
            }
        });
        self.line = Some(Line { stop, streams, acceptor });
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Joins a client to the brick; the threads end with their streams.
fn join(
    client: TcpStream,
    brick: SocketAddr,
    tap: Option<&Arc<dyn Tap>>,
    kept: &Mutex<Vec<TcpStream>>,
) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let connection = NEXT.fetch_add(1, Ordering::Relaxed);
    let brick = TcpStream::connect_timeout(&brick, Duration::from_secs(1))?;
    let ways = [
        (Direction::ToBrick, client.try_clone()?, brick.try_clone()?),
        (Direction::ToClient, brick.try_clone()?, client.try_clone()?),
    ];
    // Neither side waits for more: what a client sends in two pieces must not wait for an acknowledgement.
    client.set_nodelay(true)?;
    brick.set_nodelay(true)?;
    for (direction, from, to) in ways {
        let tap = tap.cloned();
        thread::spawn(move || {
            let _ = relay(&from, &to, |bytes| {
                if let Some(tap) = &tap {
                    tap.passes(connection, direction, bytes);
                }
            });
            if let Some(tap) = &tap {
                tap.ended(connection);
            }
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    kept.lock().unwrap_or_else(PoisonError::into_inner).extend([client, brick]);
    Ok(())
}

fn relay(mut from: &TcpStream, mut to: &TcpStream, look: impl Fn(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &buffer[..count];
        look(bytes);
        to.write_all(bytes)?;
    }
}
