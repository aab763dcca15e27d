//! A connected socket, TCP or unix: made here within a deadline, then written by any thread and read by one task.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpSocket, UnixStream};

use super::endpoint::{ConnectError, Endpoint, SocketOptions};

/// A connected, non-blocking socket with a place in the poller of the runtime that made it.
#[derive(Debug)]
pub struct Stream {
    socket: AsyncFd<OwnedFd>,
}

/// Connects to `endpoint`, resolving its name first, and trying its addresses in turn. Must run on a network thread.
///
/// # Errors
/// When no address answers before `deadline`: the reason of the last one.
pub async fn connect(endpoint: &Endpoint, options: &SocketOptions, deadline: Instant) -> Result<Stream, ConnectError> {
    let start = Instant::now();
    let timed_out = |step| ConnectError::TimedOut { step, after: start.elapsed() };
    match endpoint {
        Endpoint::Unix { path } => {
            let stream = tokio::time::timeout_at(deadline.into(), UnixStream::connect(path))
                .await
                .map_err(|_| timed_out("connect"))?
                .and_then(UnixStream::into_std)
                .map_err(ConnectError::Connect)?;
            Stream::new(stream.into()).map_err(ConnectError::Connect)
        }
        Endpoint::Tcp { host, port } => {
            // getaddrinfo runs on a helper thread of the runtime, not on this one.
            let found = tokio::time::timeout_at(deadline.into(), tokio::net::lookup_host((&**host, *port)))
                .await
                .map_err(|_| timed_out("resolve the name"))?
                .map_err(|error| ConnectError::Resolve { host: host.clone(), error })?;
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in found.filter(|address| options.family.admits(address)).take(16) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            try_in_turn(host, &addresses, options, deadline).await
        }
    }
}

/// Each address gets its share of the time that is left.
async fn try_in_turn(
    host: &Arc<str>,
    addresses: &[SocketAddr],
    options: &SocketOptions,
    deadline: Instant,
) -> Result<Stream, ConnectError> {
    let family = match options.family {
        super::endpoint::Family::Inet => "IPv4",
        super::endpoint::Family::Inet6 => "IPv6",
        super::endpoint::Family::Any => "IP",
    };
    let mut last = ConnectError::NoAddress { host: host.clone(), family };
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - index) as u32;
        last = match tokio::time::timeout(share, connect_address(*address, options)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => ConnectError::Connect(error),
            Err(_) => ConnectError::TimedOut { step: "connect", after: share },
        };
    }
    Err(last)
}

async fn connect_address(address: SocketAddr, options: &SocketOptions) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // The window must be set before the connection is made, or the peer never learns of it.
    if let Some(window) = options.window {
        socket.set_recv_buffer_size(window)?;
        socket.set_send_buffer_size(window)?;
    }
    let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?.into_std()?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(keepalive) = &options.keepalive {
        let parameters = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&parameters)?;
    }
    if let Some(timeout) = options.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    Stream::new(stream.into())
}

impl Stream {
    /// Takes a connected, non-blocking socket. Must run on a network thread.
    ///
    /// # Errors
    /// When the poller does not take it.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` keeps its number open, and the same, for as long as it lives; nobody takes it out of the
        // `AsyncFd` before it is dropped as a whole.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(|error| error.into_parts().1)?;
        Ok(Stream { socket })
    }

    /// For waiting until the socket can be read or written.
    pub fn poller(&self) -> &AsyncFd<OwnedFd> {
        &self.socket
    }

    /// Writes as much as the socket takes now; from any thread.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing; else the connection is broken.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::sendmsg(self.socket.get_ref(), slices, &mut SendAncillaryBuffer::default(), flags);
        Ok(sent?)
    }

    /// Reads into `buffer`. 0 means that the peer has closed.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read now; else the connection is broken.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (received, _) = rustix::net::recv(self.socket.get_ref(), buffer, RecvFlags::DONTWAIT)?;
        Ok(received)
    }

    /// Appends at most `limit` bytes to `buffer`, which has room for them.
    ///
    /// # Errors
    /// As [`Stream::receive`].
    pub fn receive_into(&self, buffer: &mut BytesMut, limit: usize) -> io::Result<usize> {
        let room = buffer.spare_capacity_mut();
        let limit = limit.min(room.len());
        let ((filled, _), _) = rustix::net::recv(self.socket.get_ref(), &mut room[..limit], RecvFlags::DONTWAIT)?;
        let received = filled.len();
        let length = buffer.len() + received;
        // SAFETY: the `received` bytes behind the old length were just filled by the kernel.
        unsafe { buffer.set_len(length) };
        Ok(received)
    }

    /// Ends the connection in both directions: whoever waits for it wakes up.
    pub fn shutdown(&self) {
        // A socket that is not connected any more is as good.
        let _ = rustix::net::shutdown(self.socket.get_ref(), Shutdown::Both);
    }
}
