//! The `-o` options of mount(8) in the spelling of `rgfs` itself (`mount.glusterfs.in`).

use super::request::{Refused, split_options};
use super::spec::colon_separated_hosts;
use super::values;

/// What `-o` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// Options for `rgfs`.
    pub arguments: Vec<String>,
    /// Further volfile servers, in order.
    pub backup_servers: Vec<String>,
    /// `transport=tcp` asks for the key with that ending (`vol.tcp`).
    pub transport_suffix: Option<String>,
    /// Change the flags of the mount that is there.
    pub remount: bool,
    /// For standard error.
    pub warnings: Vec<String>,
}

/// Options with a value that `rgfs` has under the same name.
const SAME_NAME: &[&str] = &[
    "log-level",
    "log-file",
    "direct-io-mode",
    "volume-name",
    "attribute-timeout",
    "entry-timeout",
    "negative-timeout",
    "gid-timeout",
    "lru-limit",
    "invalidate-limit",
    "background-qlen",
    "congestion-threshold",
    "oom-score-adj",
    "use-readdirp",
    "event-history",
    "reader-thread-count",
    "auto-invalidation",
    "kernel-writeback-cache",
    "attr-times-granularity",
    "dump-fuse",
    "fuse-flush-handle-interrupt",
    "fuse-dev-eperm-ratelimit-ns",
    "io-engine",
    "xlator-option",
    "fuse-mountopts",
    "fopen-keep-cache",
    "mount-timeout",
    "pid-file",
    "fs-display-name",
    "client-pid",
    "inode-table-size",
];

/// Options with a value and another name.
const OTHER_NAME: &[(&str, &str)] = &[
    ("server-port", "volfile-server-port"),
    ("volfile-server-port", "volfile-server-port"),
    ("volume-id", "volfile-id"),
    ("fetch-attempts", "volfile-max-fetch-attempts"),
];

/// Options without a value that `rgfs` has under the same name.
const FLAGS: &[&str] = &[
    "acl",
    "selinux",
    "capability",
    "worm",
    "enable-ino32",
    "aux-gfid-mount",
    "thin-client",
    "resolve-gids",
    "global-threading",
    "localtime-logging",
    "mem-accounting",
    "fopen-keep-cache",
    "auto-invalidation",
    "kernel-writeback-cache",
];

/// Options for mount(8), systemd or people, of no concern here.
const FOR_OTHERS: &[&str] = &[
    "rw",
    "auto",
    "noauto",
    "defaults",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "async",
    "mand",
    "nomand",
    "silent",
    "loud",
    "iversion",
    "noiversion",
];

/// Options that the kernel gets.
const FOR_KERNEL: &[&str] = &[
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazyatime",
    "nolazyatime",
    "lazytime",
    "nolazytime",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "auto_unmount",
    "sync",
    "dirsync",
];

/// SELinux options with a value, for the kernel.
const CONTEXTS: &[&str] = &["context", "fscontext", "defcontext", "rootcontext"];

/// Options of halo replication: set on the replicate translators.
const HALO: &[&str] = &["halo-max-latency", "halo-max-replicas", "halo-min-replicas"];

/// Translates the texts of all `-o`.
///
/// # Errors
/// An option is unknown or lacks its value.
pub fn translate<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Translated, Refused> {
    let mut result = Translated::default();
    let mut single_backup = None;
    for option in texts.into_iter().flat_map(split_options) {
        match option.split_once('=') {
            Some(("backupvolfile-server", server)) => single_backup = Some(server.to_owned()),
            Some((name, value)) => result.with_value(name, value, &option)?,
            None => result.flag(&option)?,
        }
    }
    if result.backup_servers.is_empty() {
        result.backup_servers.extend(single_backup);
    }
    Ok(result)
}

impl Translated {
    fn push(&mut self, name: &str, value: &str) {
        self.arguments.push(format!("--{name}={value}"));
    }

    fn with_value(&mut self, name: &str, value: &str, option: &str) -> Result<(), Refused> {
        match name {
            "log-level" if values::log_level(value).is_err() => {
                self.warnings.push(format!("invalid log-level {value}: INFO is used"));
                self.push(name, "INFO");
            }
            _ if SAME_NAME.contains(&name) => self.push(name, value),
            "backup-volfile-servers" => self.backup_servers = colon_separated_hosts(value),
            "process-name" => self.push(name, &format!("fuse.{value}")),
            "transport" => {
                self.transport_suffix = Some(value.to_owned());
                self.push("volfile-server-transport", value);
            }
            "subdir-mount" => self.push(name, &format!("/{}", value.trim_start_matches('/'))),
            "volfile-check" => self.arguments.push("--volfile-check".into()),
            "root-squash" | "no-root-squash" => {
                let yes = values::boolean(value).map_err(|right| Refused::value(format!("{option}: {right}")))?;
                if yes == (name == "no-root-squash") {
                    self.arguments.push("--no-root-squash".into());
                }
            }
            _ if CONTEXTS.contains(&name) => self.push("fuse-mountopts", option),
            _ if HALO.contains(&name) => self.push("xlator-option", &format!("*replicate*.{option}")),
            "comment" => {}
            _ if name.starts_with("x-") || name.starts_with("X-") => {}
            _ => match OTHER_NAME.iter().find(|(theirs, _)| *theirs == name) {
                Some((_, ours)) => self.push(ours, value),
                None => return Err(Refused { code: 1, message: format!("Invalid option {name}") }),
            },
        }
        Ok(())
    }

    fn flag(&mut self, name: &str) -> Result<(), Refused> {
        match name {
            "ro" => self.arguments.push("--read-only".into()),
            "remount" => self.remount = true,
            "no-root-squash" => self.arguments.push("--no-root-squash".into()),
            _ if FLAGS.contains(&name) => self.arguments.push(format!("--{name}")),
            _ if FOR_KERNEL.contains(&name) => self.push("fuse-mountopts", name),
            _ if FOR_OTHERS.contains(&name) || name.starts_with("x-") || name.starts_with("X-") => {}
            _ => {
                let lacks_value = SAME_NAME.contains(&name) || OTHER_NAME.iter().any(|(theirs, _)| *theirs == name);
                let reason = if lacks_value { "needs a value" } else { "is unknown" };
                return Err(Refused { code: 1, message: format!("Invalid option {name}: it {reason}") });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_option() {
        let table: &[(&str, &[&str])] = &[
            ("defaults,_netdev,nofail,x-systemd.automount,x-a=b,comment=c,user", &[]),
            ("log-level=WARNING,ro", &["--log-level=WARNING", "--read-only"]),
            ("log-level=LOUD", &["--log-level=INFO"]),
            ("server-port=6996", &["--volfile-server-port=6996"]),
            ("subdir-mount=a/b", &["--subdir-mount=/a/b"]),
            ("process-name=x", &["--process-name=fuse.x"]),
            ("halo-max-latency=5", &["--xlator-option=*replicate*.halo-max-latency=5"]),
            ("root-squash=no", &["--no-root-squash"]),
            ("root-squash=yes", &[]),
            ("no-root-squash=yes", &["--no-root-squash"]),
            ("context=\"a:b:c1,c2\"", &["--fuse-mountopts=context=\"a:b:c1,c2\""]),
            ("noatime,nosuid", &["--fuse-mountopts=noatime", "--fuse-mountopts=nosuid"]),
            ("fopen-keep-cache=off,acl", &["--fopen-keep-cache=off", "--acl"]),
            ("fopen-keep-cache", &["--fopen-keep-cache"]),
        ];
        for (text, arguments) in table {
            assert_eq!(translate([*text]).unwrap().arguments, *arguments, "{text}");
        }
    }

    #[test]
    fn servers() {
        let table: &[(&str, &[&str])] = &[
            ("backup-volfile-servers=a:b", &["a", "b"]),
            ("backupvolfile-server=c", &["c"]),
            ("backupvolfile-server=c,backup-volfile-servers=a:[::1]", &["a", "::1"]),
        ];
        for (text, servers) in table {
            assert_eq!(translate([*text]).unwrap().backup_servers, *servers, "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for text in ["nonsense", "nonsense=1", "log-file", "root-squash=perhaps", "gid-timeout"] {
            assert!(translate([text]).is_err(), "{text}");
        }
    }
}
