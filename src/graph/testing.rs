//! For tests of translators: surroundings without a network, and volumes without a volfile.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Environment, Identity};
use crate::clock::RealClock;
use crate::net::Network;
use crate::volfile::{Graph, Kind, Options, Position, Volume, parse};

/// Surroundings of a process that has no volfile server and one network thread for all tests.
pub(crate) fn environment() -> Environment {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    let network = NETWORK.get_or_init(|| Network::start(1).unwrap()).clone();
    Environment {
        clock: Arc::new(RealClock::new(&network)),
        network,
        identity: Arc::new(Identity {
            context_id: "11111111-1111-4111-8111-111111111111".into(),
            graph_id: 0,
            pid: 1,
            hostname: "here".into(),
            process_name: "fuse".into(),
        }),
        volfile_server: None,
        volfile_key: "test".into(),
        subdir_mount: None,
        volume_id: Arc::default(),
        connect_timeout: Duration::from_secs(1),
    }
}

/// A volume named `test` of that type, without children.
pub(crate) fn volume(kind: &'static str, options: &[(&str, &str)]) -> Volume {
    let name: Arc<str> = "test".into();
    let none = Options::new(&name);
    let options = options.iter().fold(none, |options, (key, value)| options.with(key, value));
    let kind = Kind { canonical: kind, written: kind.into() };
    Volume { name, kind, options, subvolumes: Vec::new(), position: Position::default() }
}

/// A graph from its text.
pub(crate) fn graph(text: &str) -> Graph {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}
