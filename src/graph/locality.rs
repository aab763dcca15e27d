//! Which brick of a `cluster/nufa` volume is on this host, when the volfile does not say it (`nufa.c:nufa_find_local_brick`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::volfile::{Graph, Volume};

/// The option that names the local subvolume.
const LOCAL: &str = "local-volume-name";
/// For so long the hosts of the bricks may be resolved: a part of the time that a mount has.
const PATIENCE: Duration = Duration::from_secs(2);
/// Any port does; nothing is sent there.
const DISCARD: u16 = 9;

/// The nufa volume with the name of the first brick below it that is on this host; `None` when there is nothing to add.
pub(super) fn located(graph: &Graph, volume: &Volume) -> Option<Volume> {
    if volume.kind.canonical != "cluster/nufa" || volume.options.text(LOCAL).is_some() {
        return None;
    }
    let brick = first_local(volume, bricks(graph, volume))?;
    let mut located = volume.clone();
    located.options = located.options.with(LOCAL, &brick);
    Some(located)
}

/// The bricks below a volume with their hosts, in the order of the volfile.
fn bricks(graph: &Graph, volume: &Volume) -> Vec<(Arc<str>, String)> {
    if volume.subvolumes.is_empty() {
        let host = volume.options.text("remote-host");
        return host.map(|host| (volume.name.clone(), host.to_owned())).into_iter().collect();
    }
    let below = |name: &Arc<str>| graph.volumes.iter().find(|volume| volume.name == *name);
    volume.subvolumes.iter().filter_map(below).flat_map(|child| bricks(graph, child)).collect()
}

/// The first brick on this host. A thread of its own asks, because a resolver that hangs cannot be interrupted.
fn first_local(nufa: &Volume, bricks: Vec<(Arc<str>, String)>) -> Option<Arc<str>> {
    let (answer, answered) = mpsc::channel();
    let ask = move || {
        let local = bricks.into_iter().find(|(_, host)| is_here(host));
        // Nobody listens any more when it took too long.
        let _ = answer.send(local.map(|(brick, _)| brick));
    };
    let asked = thread::Builder::new().name("locality".to_owned()).spawn(ask);
    let local = asked.map_err(|error| error.to_string());
    let local = local.and_then(|_| answered.recv_timeout(PATIENCE).map_err(|error| error.to_string()));
    local.unwrap_or_else(|error| {
        let name = &nufa.name;
        tracing::warn!("volume {name}: the hosts of its bricks are not resolved ({error}); set its option {LOCAL}");
        None
    })
}

/// Whether one of a host's addresses is of this host.
fn is_here(host: &str) -> bool {
    (host, DISCARD).to_socket_addrs().is_ok_and(|mut addresses| addresses.any(is_own))
}

/// Whether an address is of this host: what is sent to an own address comes from it, too. Nothing is sent to find out. (To
/// bind to it would prove nothing where `ip_nonlocal_bind` is set.)
fn is_own(address: SocketAddr) -> bool {
    if address.ip().is_loopback() {
        return true;
    }
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volfile::{Kind, Options, Position};

    fn volume(name: &str, kind: &'static str, below: &[&str], option: Option<(&str, &str)>) -> Volume {
        let name: Arc<str> = name.into();
        let mut options = Options::new(&name);
        if let Some((key, value)) = option {
            options = options.with(key, value);
        }
        let subvolumes = below.iter().map(|name| Arc::from(*name)).collect();
        let kind = Kind { canonical: kind, written: kind.into() };
        Volume { name, kind, options, subvolumes, position: Position { line: 1, column: 1 } }
    }

    #[test]
    fn this_host() {
        assert!(is_here("127.0.0.1"));
        assert!(is_here("127.0.0.2"));
        // An address of documentation, which nobody has.
        assert!(!is_here("192.0.2.1"));
    }

    #[test]
    fn the_first_brick_here_is_added() {
        let brick = |name, host| volume(name, "protocol/client", &[], Some(("remote-host", host)));
        let volumes = vec![
            brick("far", "192.0.2.1"),
            brick("here", "127.0.0.1"),
            brick("here-too", "127.0.0.1"),
            volume("pair", "cluster/replicate", &["far", "here"], None),
            volume("v", "cluster/nufa", &["pair", "here-too"], None),
        ];
        let graph = Graph { origin: "test".into(), volumes: volumes.into_iter().map(Arc::new).collect() };
        let nufa = graph.volumes.last().unwrap();
        assert_eq!(located(&graph, nufa).unwrap().options.text(LOCAL), Some("here"));
        let told = volume("v", "cluster/nufa", &["pair", "here-too"], Some((LOCAL, "far")));
        assert!(located(&graph, &told).is_none(), "what the volfile says counts");
        let distribute = volume("v", "cluster/distribute", &["pair", "here-too"], None);
        assert!(located(&graph, &distribute).is_none());
    }
}
