//! A network that can be cut: a TCP relay between one client and one brick.
//!
//! Cutting it is better than stopping the client with SIGSTOP: with a stopped FUSE server every process that this test starts would
//! hang in `exec`, which closes (and so flushes) the test's open files.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Listens on one address and relays to another, until cut.
#[derive(Debug)]
pub struct Proxy {
    listen: SocketAddr,
    brick: SocketAddr,
    line: Option<Line>,
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
        let mut proxy = Self { listen, brick, line: None };
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
        let (stopped, kept, brick) = (stop.clone(), streams.clone(), self.brick);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                // A brick that is away refuses: the client sees its connection closed.
                let _ = join(client, brick, &kept);
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
fn join(client: TcpStream, brick: SocketAddr, kept: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    let brick = TcpStream::connect_timeout(&brick, Duration::from_secs(1))?;
    for (from, to) in [(client.try_clone()?, brick.try_clone()?), (brick.try_clone()?, client.try_clone()?)] {
        thread::spawn(move || {
            let _ = io::copy(&mut &from, &mut &to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    kept.lock().unwrap_or_else(PoisonError::into_inner).extend([client, brick]);
    Ok(())
}
