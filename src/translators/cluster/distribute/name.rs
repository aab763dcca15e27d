//! Which part of a name is hashed (`dht-hashfn.c:dht_hash_compute`).
//!
//! rsync writes `.file.AbCdEf` and renames it to `file`. Hashing only `file` in both cases puts the temporary file where
//! the final one belongs, so that the rename stays on one subvolume.

use super::hash::hash;
use super::posix_regex::PosixRegex;

/// What is written in the volfile for "no regex at all".
const DISABLED: &str = "none";
/// The regex that is in force when `rsync-hash-regex` is not set.
const DEFAULT_RSYNC: &str = r"^\.(.+)\.[^.]+$";

/// The rules in force: `extra-hash-regex` first, then `rsync-hash-regex`.
#[derive(Debug, Default)]
pub struct NameRules {
    extra: Option<PosixRegex>,
    rsync: Rsync,
}

#[derive(Debug, Default)]
enum Rsync {
    /// The default regex, matched by hand: it is on the path of every lookup.
    #[default]
    Default,
    Custom(PosixRegex),
    Off,
}

impl NameRules {
    /// Rules from the values of the two options. A regex that does not compile counts as absent, as in the C client.
    pub fn new(extra: Option<&str>, rsync: Option<&str>) -> Self {
        let compile = |pattern: &str| {
            let regex = PosixRegex::compile(pattern);
            if regex.is_none() {
                tracing::warn!(pattern, "hash regex does not compile, ignored as the C client does");
            }
            regex
        };
        NameRules {
            extra: extra.filter(|pattern| *pattern != DISABLED).and_then(compile),
            rsync: match rsync {
                None | Some(DEFAULT_RSYNC) => Rsync::Default,
                Some(DISABLED) => Rsync::Off,
                Some(pattern) => compile(pattern).map_or(Rsync::Off, Rsync::Custom),
            },
        }
    }

    /// The part of `name` that is hashed.
    pub fn hashed_part<'name>(&self, name: &'name [u8]) -> &'name [u8] {
        let group = self.extra.as_ref().and_then(|regex| shorter_group(regex, name));
        group
            .or_else(|| match &self.rsync {
                Rsync::Default => default_rsync_group(name),
                Rsync::Custom(regex) => shorter_group(regex, name),
                Rsync::Off => None,
            })
            .unwrap_or(name)
    }

    /// Hash of a name for its placement.
    pub fn hash(&self, name: &[u8]) -> u32 {
        hash(self.hashed_part(name))
    }
}

fn shorter_group<'name>(regex: &PosixRegex, name: &'name [u8]) -> Option<&'name [u8]> {
    name.get(regex.first_group(name)?).filter(|group| group.len() < name.len())
}

/// Group 1 of [`DEFAULT_RSYNC`]: between the leading dot and the last one, both parts not empty.
fn default_rsync_group(name: &[u8]) -> Option<&[u8]> {
    let inner = name.strip_prefix(b".")?;
    let last_dot = inner.iter().rposition(|byte| *byte == b'.')?;
    let suffix = inner.get(last_dot + 1..)?;
    inner.get(..last_dot).filter(|group| !group.is_empty() && !suffix.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn temporary_names_of_rsync() {
        let rules = NameRules::default();
        let table: &[(&str, &str)] = &[
            (".file1.AbCdEf", "file1"),
            (".a.b.c", "a.b"),
            ("..x.y", ".x"),
            (".hidden", ".hidden"),
            (".x.", ".x."),
            ("file1.tmp", "file1.tmp"),
            (".", "."),
            ("..", ".."),
            ("...", "..."),
            ("..a", "..a"),
            ("", ""),
        ];
        for (name, part) in table {
            assert_eq!(rules.hashed_part(name.as_bytes()), part.as_bytes(), "{name}");
        }
    }

    #[test]
    fn options() {
        let part = |extra, rsync, name: &'static str| {
            String::from_utf8_lossy(NameRules::new(extra, rsync).hashed_part(name.as_bytes())).into_owned()
        };
        assert_eq!(part(None, Some("none"), ".f.x"), ".f.x");
        assert_eq!(part(Some("^(.*)~$"), None, "f~"), "f");
        assert_eq!(part(Some("^(.*)~$"), None, ".f.x"), "f");
        assert_eq!(part(Some("("), None, ".f.x"), "f");
        assert_eq!(part(None, Some("^(.+)[.]part$"), "f.part"), "f");
        assert_eq!(part(None, Some("^(.+)$"), "whole"), "whole");
    }

    proptest! {
        #[test]
        fn the_hand_made_match_is_the_regex(name in "[.ab\n]{0,8}") {
            let regex = PosixRegex::compile(DEFAULT_RSYNC).unwrap();
            prop_assert_eq!(default_rsync_group(name.as_bytes()), shorter_group(&regex, name.as_bytes()));
        }
    }
}
