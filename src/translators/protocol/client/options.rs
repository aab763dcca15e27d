//! The options of a `protocol/client` volume: where its brick is and how long to wait for it (`client.c`, `name.c`).

use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::session::Timing;

use crate::graph::{BuildError, Environment};
use crate::net::endpoint::{Endpoint, Family, Keepalive, SocketOptions};
use crate::volfile::Volume;

/// Port of glusterd, which knows the ports of its bricks.
pub const PORTMAPPER: u16 = 24007;

/// Where the brick is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// On a host; without a port its glusterd is asked for it, before every connection.
    Host {
        /// `remote-host`.
        host: Arc<str>,
        /// `remote-port`.
        port: Option<u16>,
    },
    /// Behind a unix socket of this machine.
    Unix(Arc<str>),
}

/// What the volume section says.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Where the brick is.
    pub remote: Remote,
    /// Its path: the name of the brick for glusterd and for itself.
    pub subvolume: Arc<str>,
    /// Ping and frame timeout.
    pub timing: Timing,
    /// Socket options.
    pub socket: SocketOptions,
    /// Send supplementary groups; the brick resolves them itself when off (`server.manage-gids`).
    pub send_gids: bool,
    /// Every option as it was written: SETVOLUME carries them all.
    pub verbatim: Vec<(String, String)>,
}

impl LinkOptions {
    /// Reads the options of `volume`.
    ///
    /// # Errors
    /// When one is missing, cannot be used, or asks for what this client cannot do.
    pub fn new(volume: &Volume, environment: &Environment) -> Result<Self, BuildError> {
        let options = &volume.options;
        refuse_unknown_transport(volume)?;
        let subvolume =
            options.text("remote-subvolume").ok_or_else(|| BuildError::missing(volume, "remote-subvolume"))?;
        let remote = match options.text("transport.socket.connect-path|connect-path") {
            Some(path) => Remote::Unix(path.into()),
            None => {
                let host =
                    options.text("remote-host|transport.socket.remote-host").or(environment.volfile_server.as_deref());
                let names = "remote-port|transport.remote-port|transport.socket.remote-port";
                // The range admits no port that does not fit.
                let port = options.integer(names, 0..=65535)?.and_then(|port| u16::try_from(port).ok());
                Remote::Host {
                    host: host.ok_or_else(|| BuildError::missing(volume, "remote-host"))?.into(),
                    port: port.filter(|port| *port > 0),
                }
            }
        };
        let default = Timing::default();
        let ping = options.time("ping-timeout", 0..=1013)?.unwrap_or(default.ping);
        let frame = options.time("frame-timeout|rpc-timeout", 0..=86_400)?.unwrap_or(default.frame);
        let frame = if frame.is_zero() { Duration::MAX } else { frame };
        Ok(LinkOptions {
            remote,
            subvolume: subvolume.into(),
            timing: Timing { ping, frame },
            socket: socket_options(volume)?,
            send_gids: options.boolean("send-gids")?.unwrap_or(true),
            verbatim: options.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        })
    }

    /// Where to connect first: the brick, or the glusterd that knows its port.
    pub fn first_endpoint(&self) -> Endpoint {
        match &self.remote {
            Remote::Host { host, port } => Endpoint::Tcp { host: host.clone(), port: port.unwrap_or(PORTMAPPER) },
            Remote::Unix(path) => Endpoint::Unix { path: (&**path).into() },
        }
    }

    /// The brick on a port that glusterd named.
    pub fn on_port(&self, port: u16) -> Endpoint {
        match &self.remote {
            Remote::Host { host, .. } => Endpoint::Tcp { host: host.clone(), port },
            Remote::Unix(_) => self.first_endpoint(),
        }
    }
}

fn refuse_unknown_transport(volume: &Volume) -> Result<(), BuildError> {
    let options = &volume.options;
    if let Some(transport) = options.text("transport-type") {
        let known = ["tcp", "socket", "unix", "tcp/client", "unix/client", "socket/client"];
        if !known.contains(&transport) {
            return Err(options.refuse("transport-type", "a transport of this client (tcp, socket, unix)").into());
        }
    }
    if options.boolean("transport.socket.ssl-enabled|ssl-enabled")?.unwrap_or(false) {
        let reason = "TLS to bricks is not implemented yet; use the C client for this volume, or turn `client.ssl` off";
        return Err(BuildError::refused(volume, reason));
    }
    Ok(())
}

fn socket_options(volume: &Volume) -> Result<SocketOptions, BuildError> {
    let options = &volume.options;
    let default = SocketOptions::default();
    let families = ["inet", "inet6", "inet/inet6", "inet6/inet", "unspec", "unix"];
    let family =
        match options.one_of("transport.address-family|transport.socket.address-family|address-family", &families)? {
            Some("inet") => Family::Inet,
            Some("inet6") => Family::Inet6,
            _ => Family::Any,
        };
    let keepalive = options.boolean("transport.socket.keepalive|transport.keepalive")?.unwrap_or(true);
    let seconds = |names: &str, fallback: Duration| {
        options.time(names, 0..=86_400).map(|time| time.filter(|time| !time.is_zero()).unwrap_or(fallback))
    };
    let idle = seconds("transport.socket.keepalive-time|transport.keepalive-time", Duration::from_secs(20))?;
    let interval = seconds("transport.socket.keepalive-interval|transport.keepalive-interval", Duration::from_secs(2))?;
    let count = options.integer("transport.socket.keepalive-count|transport.keepalive-count", 0..=127)?;
    let count = count.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0).unwrap_or(9);
    let user_timeout = match options.time("transport.tcp-user-timeout|tcp-user-timeout", 0..=1013)? {
        Some(timeout) if timeout.is_zero() => None,
        Some(timeout) => Some(timeout),
        None => default.user_timeout,
    };
    let window =
        options.size("transport.tcp-window-size|tcp-window-size|transport.window-size|window-size", 0..=1 << 30)?;
    Ok(SocketOptions {
        family,
        nodelay: options.boolean("transport.socket.nodelay|transport.tcp-nodelay|tcp-nodelay")?.unwrap_or(true),
        keepalive: keepalive.then_some(Keepalive { idle, interval, count }),
        user_timeout,
        window: window.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{environment, volume};

    fn read(options: &[(&str, &str)]) -> Result<LinkOptions, BuildError> {
        LinkOptions::new(&volume("protocol/client", options), &environment())
    }

    #[test]
    fn places() {
        for (options, endpoint) in [
            (&[("remote-host", "srv")][..], "srv:24007"),
            (&[("remote-host", "srv"), ("remote-port", "49152")], "srv:49152"),
            (&[("remote-host", "::1"), ("transport.remote-port", "1")], "[::1]:1"),
            (&[("remote-host", "srv"), ("remote-port", "0")], "srv:24007"),
            (&[("transport.socket.connect-path", "/run/brick.socket")], "/run/brick.socket"),
        ] {
            let options = [options, &[("remote-subvolume", "/b")]].concat();
            assert_eq!(read(&options).unwrap().first_endpoint().to_string(), endpoint);
        }
    }

    #[test]
    fn times() {
        let base = [("remote-host", "srv"), ("remote-subvolume", "/b")];
        let options = read(&base).unwrap();
        assert_eq!(
            (options.timing, options.socket, options.send_gids),
            (Timing::default(), SocketOptions::default(), true)
        );
        let more = [
            ("ping-timeout", "0"),
            ("rpc-timeout", "0"),
            ("transport.tcp-user-timeout", "0"),
            ("transport.socket.keepalive-time", "5"),
            ("transport.address-family", "inet6"),
            ("send-gids", "off"),
        ];
        let options = read(&[&base[..], &more].concat()).unwrap();
        assert_eq!(options.timing, Timing { ping: Duration::ZERO, frame: Duration::MAX });
        assert_eq!((options.socket.user_timeout, options.socket.family), (None, Family::Inet6));
        assert_eq!(options.socket.keepalive.unwrap().idle, Duration::from_secs(5));
        assert!(!options.send_gids);
        assert_eq!(options.verbatim.len(), 8);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (options, expected) in [
            (&[("remote-host", "srv")][..], "remote-subvolume"),
            (&[("remote-host", "srv"), ("remote-subvolume", "/b"), ("transport-type", "rdma")], "transport-type"),
            (&[("remote-host", "srv"), ("remote-subvolume", "/b"), ("transport.socket.ssl-enabled", "on")], "TLS"),
            (&[("remote-host", "srv"), ("remote-subvolume", "/b"), ("remote-port", "70000")], "remote-port"),
            (&[("remote-host", "srv"), ("remote-subvolume", "/b"), ("ping-timeout", "soon")], "ping-timeout"),
        ] {
            let error = read(options).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("test"), "{error}");
        }
    }
}
