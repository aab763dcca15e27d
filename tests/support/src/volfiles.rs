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

/// A replica set of hand-written bricks, named as glusterd names one: the names go on the wire and into xattrs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Name of the volume.
    pub volume: String,
    /// Whether the last brick keeps no file data.
    pub arbiter: bool,
}

impl ReplicaSet {
    /// Name of the `cluster/replicate` volume, which is also the lock domain.
    pub fn translator(&self) -> String {
        format!("{}-replicate-0", self.volume)
    }

    /// Name of the `protocol/client` volume of the brick `index` (from 0), which is also its part of a changelog key.
    pub fn client(&self, index: usize) -> String {
        format!("{}-client-{index}", self.volume)
    }
}

/// What a hand-written brick is to its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// It stands alone, or under `cluster/distribute`.
    Plain,
    /// It holds copies of a replica set.
    Copy(&'a ReplicaSet),
    /// It is the arbiter of a replica set.
    Arbiter(&'a ReplicaSet),
}

/// A brick volfile with the translators that change what a client sees; `extra` are more lines of the `protocol/server` volume.
///
/// The same stack as glusterd writes, less what is off by default there (trash, changelog, bitrot, quota, worm, leases).
pub fn brick(role: Role, directory: &Path, bind_address: &str, port: u16, extra: &[&str]) -> String {
    let directory = directory.display();
    let mut layers = vec![("posix", "storage/posix", vec![format!("directory {directory}")])];
    if let Role::Arbiter(_) = role {
        layers.push(("arbiter", "features/arbiter", vec![]));
    }
    let mut index = vec![format!("index-base {directory}/.glusterfs/indices")];
    if let Role::Copy(set) | Role::Arbiter(set) = role {
        index.push("xattrop-dirty-watchlist trusted.afr.dirty".to_owned());
        index.push(format!("xattrop-pending-watchlist trusted.afr.{}-", set.volume));
    }
    layers.extend([
        ("access-control", "features/access-control", vec![]),
        ("locks", "features/locks", vec![]),
        ("upcall", "features/upcall", vec!["cache-invalidation off".to_owned()]),
        ("io-threads", "performance/io-threads", vec![]),
        ("index", "features/index", index),
        (BRICK_VOLUME, "debug/io-stats", vec![]),
    ]);
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
    let names: Vec<&str> = bricks.iter().map(|brick| brick.name.as_str()).collect();
    match names.as_slice() {
        [only] => leaves(bricks) + &utime(only),
        several => leaves(bricks) + &volume("distribute", "cluster/distribute", &[], several) + &utime("distribute"),
    }
}

/// A client volfile: the bricks themselves, `cluster/replicate` over them as glusterd configures it, and `features/utime` on top.
/// The bricks bear the names of [`ReplicaSet::client`].
pub fn replicated_client(set: &ReplicaSet, bricks: &[Remote]) -> String {
    let names: Vec<&str> = bricks.iter().map(|brick| brick.name.as_str()).collect();
    let mut options = vec![
        format!("afr-pending-xattr {}", names.join(",")),
        "granular-entry-heal on".to_owned(),
        "use-anonymous-inode yes".to_owned(),
    ];
    if set.arbiter {
        options.push("arbiter-count 1".to_owned());
    }
    let name = set.translator();
    leaves(bricks) + &volume(&name, "cluster/replicate", &options, &names) + &utime(&name)
}

fn leaves(bricks: &[Remote]) -> String {
    let leaf = |brick: &Remote| {
        let options = [
            "transport-type tcp".to_owned(),
            format!("remote-host {}", brick.host),
            format!("remote-port {}", brick.port),
            format!("remote-subvolume {BRICK_VOLUME}"),
        ];
        volume(&brick.name, "protocol/client", &options, &[])
    };
    bricks.iter().map(leaf).collect()
}

fn utime(below: &str) -> String {
    volume("utime", "features/utime", &["noatime on".to_owned()], &[below])
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
