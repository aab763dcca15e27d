//! The first field of fstab: `server:/volume`, `server1,server2:/volume/sub/dir`, or the path of a volfile.

use std::path::{Path, PathBuf};

/// What is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// A local volfile.
    File(PathBuf),
    /// A volume of a server.
    Volume(VolumeSpec),
}

/// `SERVER[,SERVER...]:[/]VOLUME[/SUBDIR]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Servers, in order; at least one.
    pub servers: Vec<String>,
    /// The volfile key, with the leading slash if it was given.
    pub key: String,
    /// Directory in the volume, with a leading slash.
    pub subdir: Option<String>,
    /// A snapshot: only to be read.
    pub read_only: bool,
    /// What was dropped, for people.
    pub warnings: Vec<String>,
}

/// Longest host name (`mount.glusterfs` drops longer ones).
const HOST_MAX: usize = 64;

impl Spec {
    /// Reads a spec. `is_file` says whether a path is a readable file.
    pub fn parse(text: &str, is_file: impl Fn(&Path) -> bool) -> Result<Spec, String> {
        let path = Path::new(text);
        if is_file(path) {
            return Ok(Spec::File(path.to_owned()));
        }
        VolumeSpec::parse(text).map(Spec::Volume)
    }
}

impl VolumeSpec {
    fn parse(text: &str) -> Result<VolumeSpec, String> {
        // Subdirectories may hold colons, and so do IPv6 addresses: ":/" separates, or else the last colon.
        let (hosts, volume) = text
            .split_once(":/")
            .map(|(hosts, _)| (hosts, &text[hosts.len() + 1..]))
            .or_else(|| text.rsplit_once(':'))
            .ok_or_else(|| format!("'{text}' is neither a readable volfile nor SERVER:/VOLUME"))?;
        let mut warnings = Vec::new();
        let mut servers = Vec::new();
        for host in hosts.split(',') {
            match checked_host(host) {
                Some(host) => servers.push(host.to_owned()),
                None => warnings.push(format!("'{host}' is not a host name or address; it is left out")),
            }
        }
        if servers.is_empty() {
            return Err(format!("'{text}' names no server; write SERVER:/VOLUME"));
        }
        let trimmed = volume.trim_end_matches('/');
        let bare = trimmed.trim_start_matches('/');
        if bare.is_empty() {
            return Err(format!("'{text}' names no volume; write SERVER:/VOLUME"));
        }
        if bare.starts_with("snaps/") {
            return Ok(VolumeSpec { servers, key: trimmed.into(), subdir: None, read_only: true, warnings });
        }
        let slashes = trimmed.len() - bare.len();
        let (key, subdir) = match bare.find('/') {
            Some(end) => (&trimmed[..slashes + end], Some(trimmed[slashes + end..].to_owned())),
            None => (trimmed, None),
        };
        Ok(VolumeSpec { servers, key: key.into(), subdir, read_only: false, warnings })
    }
}

/// A host name or address without the brackets of IPv6, or nothing when it cannot be one.
pub fn checked_host(text: &str) -> Option<&str> {
    let host = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    (!host.is_empty() && host.len() <= HOST_MAX && host.chars().all(fits)).then_some(host)
}

/// The hosts of `backup-volfile-servers`: separated by colons, IPv6 addresses in brackets.
pub fn colon_separated_hosts(text: &str) -> Vec<String> {
    let mut hosts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = match rest.strip_prefix('[').and_then(|inner| inner.find(']')) {
            // The bracket that was stripped and the one that was found.
            Some(close) => close + 2,
            None => rest.find(':').unwrap_or(rest.len()),
        };
        if let Some(host) = checked_host(&rest[..end]) {
            hosts.push(host.to_owned());
        }
        rest = rest[end..].trim_start_matches(':');
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(text: &str) -> (Vec<String>, String, Option<String>, bool) {
        match Spec::parse(text, |_| false).unwrap() {
            Spec::Volume(spec) => (spec.servers, spec.key, spec.subdir, spec.read_only),
            Spec::File(_) => panic!("a file"),
        }
    }

    #[test]
    fn specs() {
        type Row = (&'static str, &'static [&'static str], &'static str, Option<&'static str>, bool);
        let table: &[Row] = &[
            ("srv:vol", &["srv"], "vol", None, false),
            ("srv:/vol", &["srv"], "/vol", None, false),
            ("srv:/vol/", &["srv"], "/vol", None, false),
            ("a,b,c:/vol", &["a", "b", "c"], "/vol", None, false),
            ("srv:/vol/sub/dir", &["srv"], "/vol", Some("/sub/dir"), false),
            ("srv:vol/sub", &["srv"], "vol", Some("/sub"), false),
            ("srv:/vol/a:/b", &["srv"], "/vol", Some("/a:/b"), false),
            ("srv:/snaps/SNAP/vol", &["srv"], "/snaps/SNAP/vol", None, true),
            ("2001:db8::1:/vol", &["2001:db8::1"], "/vol", None, false),
            ("2001:db8::1:vol", &["2001:db8::1"], "vol", None, false),
            ("[2001:db8::1]:/vol", &["2001:db8::1"], "/vol", None, false),
            ("fe80::1%eth0:/vol", &["fe80::1%eth0"], "/vol", None, false),
            ("bad host,good:/vol", &["good"], "/vol", None, false),
        ];
        for (text, servers, key, subdir, read_only) in table {
            let expected = (
                servers.iter().map(|server| (*server).to_owned()).collect(),
                (*key).to_owned(),
                subdir.map(str::to_owned),
                *read_only,
            );
            assert_eq!(volume(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_spec() {
        for text in ["", "vol", "/missing.vol", "srv:", "srv:/", ":/vol", &format!("{}:/vol", "x".repeat(65))] {
            assert!(Spec::parse(text, |_| false).is_err(), "{text}");
        }
        assert_eq!(Spec::parse("/a.vol", |_| true), Ok(Spec::File("/a.vol".into())));
    }

    #[test]
    fn backup_servers() {
        assert_eq!(colon_separated_hosts("a:b:[::1]:c"), ["a", "b", "::1", "c"]);
        assert_eq!(colon_separated_hosts("::"), Vec::<String>::new());
        assert_eq!(colon_separated_hosts("[x"), Vec::<String>::new());
    }
}
