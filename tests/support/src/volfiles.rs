//! The text of hand-written volfiles: the brick side (`glusterfsd.vol`) and the client side (`glusterfs.vol`).

use std::path::Path;

/// The name of the exported volume on a hand-written brick.
pub const BRICK_VOLUME: &str = "brick";

/// One brick as a client volfile names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Name of the `protocol/client` volume.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A brick volfile with the translators that change what a client sees; `extra` are more lines of the `protocol/server` volume.
///
/// The same stack as glusterd writes, less what is off by default there (trash, changelog, bitrot, quota, worm, leases).
pub fn brick(directory: &Path, bind_address: &str, port: u16, extra: &[&str]) -> String {
    let directory = directory.display();
    let layers = [
        ("posix", "storage/posix", vec![format!("directory {directory}")]),
        ("access-control", "features/access-control", vec![]),
        ("locks", "features/locks", vec![]),
        ("upcall", "features/upcall", vec!["cache-invalidation off".to_owned()]),
        ("io-threads", "performance/io-threads", vec![]),
        ("index", "features/index", vec![format!("index-base {directory}/.glusterfs/indices")]),
        (BRICK_VOLUME, "debug/io-stats", vec![]),
    ];
    let mut text = String::new();
    let mut below: Option<&str> = None;
    for (name, kind, options) in &layers {
        text += &volume(name, kind, options, below.as_slice());
        below = Some(name);
    }
    let mut options = vec![
        "transport-type tcp".to_owned(),
        "transport.address-family inet".to_owned(),
        format!("transport.socket.bind-address {bind_address}"),
        format!("transport.socket.listen-port {port}"),
        format!("auth-path {BRICK_VOLUME}"),
    ];
    if extra.iter().all(|line| !line.starts_with("auth.")) {
        options.push(format!("auth.addr.{BRICK_VOLUME}.allow *"));
    }
    options.extend(extra.iter().map(|line| (*line).to_owned()));
    text + &volume("server", "protocol/server", &options, &[BRICK_VOLUME])
}

/// A client volfile: the bricks themselves, `cluster/distribute` over them if there are several, and `features/utime` on top.
pub fn client(bricks: &[Remote]) -> String {
    let mut text = String::new();
    for brick in bricks {
        let options = [
            "transport-type tcp".to_owned(),
            format!("remote-host {}", brick.host),
            format!("remote-port {}", brick.port),
            format!("remote-subvolume {BRICK_VOLUME}"),
        ];
        text += &volume(&brick.name, "protocol/client", &options, &[]);
    }
    let names: Vec<&str> = bricks.iter().map(|brick| brick.name.as_str()).collect();
    let below = match names.as_slice() {
        [only] => *only,
        several => {
            text += &volume("distribute", "cluster/distribute", &[], several);
            "distribute"
        }
    };
    text + &volume("utime", "features/utime", &["noatime on".to_owned()], &[below])
}

/// One volume of a volfile; `options` are `key value` lines.
pub fn volume(name: &str, kind: &str, options: &[String], subvolumes: &[&str]) -> String {
    let mut text = format!("volume {name}\n    type {kind}\n");
    for option in options {
        text += &format!("    option {option}\n");
    }
    if !subvolumes.is_empty() {
        text += &format!("    subvolumes {}\n", subvolumes.join(" "));
    }
    text + "end-volume\n\n"
}
