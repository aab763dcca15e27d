//! Where to connect, with which socket options, and why it did not work.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A peer to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host name or address, and a port.
    Tcp {
        /// Name, IPv4 or IPv6 address (without brackets).
        host: Arc<str>,
        /// Port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
    },
}

impl Endpoint {
    /// A host and a port.
    pub fn tcp(host: &str, port: u16) -> Self {
        Endpoint::Tcp { host: host.into(), port }
    }

    /// Reads `host`, `host:port`, `address`, `[v6-address]:port`, a bare IPv6 address, or a path that begins with `/`.
    pub fn parse(text: &str, default_port: u16) -> Self {
        if text.starts_with('/') {
            return Endpoint::Unix { path: text.into() };
        }
        let plain = || Endpoint::tcp(text.trim_start_matches('[').trim_end_matches(']'), default_port);
        let Some((host, port)) = text.rsplit_once(':') else { return plain() };
        // More than one colon without brackets: an IPv6 address and no port.
        if host.contains(':') && !host.ends_with(']') {
            return plain();
        }
        match port.parse() {
            Ok(port) => Endpoint::tcp(host.trim_start_matches('[').trim_end_matches(']'), port),
            Err(_) => plain(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix { path } => write!(f, "{}", path.display()),
        }
    }
}

/// Which addresses of a host are tried (`transport.address-family`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Family {
    /// All, in the resolver's order.
    #[default]
    Any,
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

impl Family {
    /// True when `address` may be tried.
    pub fn admits(self, address: &SocketAddr) -> bool {
        match self {
            Family::Any => true,
            Family::Inet => address.is_ipv4(),
            Family::Inet6 => address.is_ipv6(),
        }
    }
}

/// When the kernel asks an idle peer whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first question.
    pub idle: Duration,
    /// Time between questions.
    pub interval: Duration,
    /// Questions without an answer that end the connection.
    pub count: u32,
}

/// Options of a socket. The default is the C client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Which addresses are tried.
    pub family: Family,
    /// Send small records at once.
    pub nodelay: bool,
    /// Keepalive of the kernel; `None` for none.
    pub keepalive: Option<Keepalive>,
    /// How long sent bytes may stay unacknowledged; `None` for the kernel's default.
    pub user_timeout: Option<Duration>,
    /// Size of the kernel's buffers in bytes; `None` lets the kernel tune them.
    pub window: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions {
            family: Family::Any,
            nodelay: true,
            keepalive: Some(Keepalive { idle: Duration::from_secs(20), interval: Duration::from_secs(2), count: 9 }),
            user_timeout: Some(Duration::from_secs(42)),
            window: None,
        }
    }
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name means nothing.
    #[error("cannot resolve the name {host}: {}", brief(.error))]
    Resolve {
        /// The name.
        host: Arc<str>,
        /// What the resolver says.
        error: io::Error,
    },
    /// The name has no address of the wanted family.
    #[error("{host} has no {family} address")]
    NoAddress {
        /// The name.
        host: Arc<str>,
        /// The family.
        family: &'static str,
    },
    /// The system turned the connection down.
    #[error("{}", brief(.0))]
    Connect(#[source] io::Error),
    /// The time was up.
    #[error("no answer to the attempt to {step} within {} s", .after.as_secs_f32())]
    TimedOut {
        /// `resolve the name` or `connect`.
        step: &'static str,
        /// How long was waited.
        after: Duration,
    },
}

/// What went wrong in words, without the number that `io::Error` adds.
pub(crate) fn brief(error: &io::Error) -> String {
    match error.kind() {
        kind @ (io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::TimedOut) => kind.to_string(),
        io::ErrorKind::NotFound => "no such socket".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("server", "server:24007"),
            ("server:1", "server:1"),
            ("10.0.0.1:6996", "10.0.0.1:6996"),
            ("fe80::1", "[fe80::1]:24007"),
            ("[fe80::1]:5", "[fe80::1]:5"),
            ("[fe80::1]", "[fe80::1]:24007"),
            ("server:x", "server:x:24007"),
            ("/run/glusterd.socket", "/run/glusterd.socket"),
        ] {
            let shown = Endpoint::parse(text, 24007).to_string();
            // A name with a colon can be no name; it is shown like an address and fails to resolve.
            assert_eq!(shown.replace(['[', ']'], ""), expected.replace(['[', ']'], ""), "{text}");
        }
    }
}
