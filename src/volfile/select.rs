//! What the command line says about a graph: `--volume-name` and `--xlator-option`.

use std::fmt;
use std::sync::Arc;

use super::options::{HIDDEN, Place, is_secret};
use super::{Graph, limits};

/// Which part of a volfile to use, and with which options.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The volume to take as the top instead of the last one.
    pub volume_name: Option<String>,
    /// Options that replace those of the file.
    pub overrides: Vec<Override>,
}

/// A `--xlator-option`: `PATTERN.key=value`, for all volumes whose name the pattern matches as fnmatch(3) does.
#[derive(Clone, PartialEq, Eq)]
pub struct Override {
    pattern: String,
    key: String,
    value: String,
}

/// A `--xlator-option` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--xlator-option needs VOLUME-PATTERN.OPTION=VALUE, such as '*-client-*.ping-timeout=10'")]
pub struct OverrideError;

impl std::str::FromStr for Override {
    type Err = OverrideError;

    fn from_str(text: &str) -> Result<Self, OverrideError> {
        // The pattern ends at the first dot, the key at the first equals sign (glusterfsd.c:gf_remember_xlator_option).
        let (pattern, rest) = text.split_once('.').ok_or(OverrideError)?;
        let (key, value) = rest.split_once('=').ok_or(OverrideError)?;
        if pattern.is_empty() || key.is_empty() || value.is_empty() || text.len() > limits::VALUE {
            return Err(OverrideError);
        }
        Ok(Override { pattern: pattern.into(), key: key.into(), value: value.into() })
    }
}

impl fmt::Debug for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if is_secret(&self.key) { HIDDEN } else { &self.value };
        write!(f, "{}.{}={value}", self.pattern, self.key)
    }
}

impl Override {
    /// Sets the option in all volumes that match. Returns how many did.
    pub(super) fn apply(&self, graph: &mut Graph) -> usize {
        let matching = graph.volumes.iter_mut().filter(|volume| matches(&self.pattern, &volume.name));
        matching.map(|volume| Arc::make_mut(volume).options.set(&self.key, &self.value, Place::CommandLine)).count()
    }
}

/// fnmatch(3) without flags: `*`, `?`, `[a-z]`, `[!a]` and `\`.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut position) = (0, 0);
    // Where to go on after the last star: behind it in the pattern, and one letter further in the name.
    let mut star: Option<(usize, usize)> = None;
    while position < name.len() {
        let step = match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, position));
                at += 1;
                continue;
            }
            Some(_) => one(&pattern[at..], name[position]),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => {
                at += length;
                position += 1;
            }
            (None, Some((behind, from))) => {
                at = behind;
                position = from + 1;
                star = Some((behind, position));
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}

/// Matches one letter with the beginning of a pattern. Returns how long that is.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', literal, ..] => (*literal == letter).then_some(2),
        ['[', ..] => match bracket(pattern, letter) {
            Some((found, length)) => found.then_some(length),
            // Without an end it is a bracket like any letter.
            None => (letter == '[').then_some(1),
        },
        [literal, ..] => (*literal == letter).then_some(1),
        [] => None,
    }
}

/// Whether a letter is in the set at the beginning of a pattern, and how long the set is; `None` when it has no end.
fn bracket(pattern: &[char], letter: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let (mut at, mut found) = (first, false);
    loop {
        match pattern.get(at)? {
            ']' if at > first => return Some((found != negated, at + 1)),
            low => match (pattern.get(at + 1), pattern.get(at + 2)) {
                (Some('-'), Some(high)) if *high != ']' => {
                    found |= (*low..=*high).contains(&letter);
                    at += 3;
                }
                _ => {
                    found |= *low == letter;
                    at += 1;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "v-client-0", true),
            ("v-client-0", "v-client-0", true),
            ("v-client-0", "v-client-01", false),
            ("*-client-*", "v-client-0", true),
            ("*replicate*", "v-replicate-0", true),
            ("*replicate*", "v-disperse-0", false),
            ("v-client-?", "v-client-1", true),
            ("v-client-?", "v-client-", false),
            ("v-client-[0-2]", "v-client-2", true),
            ("v-client-[0-2]", "v-client-3", false),
            ("v-client-[!0-2]", "v-client-3", true),
            ("v-client-[]a]", "v-client-]", true),
            ("[x", "[x", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_hard_pattern_takes_no_longer_than_its_product() {
        let pattern = "*a".repeat(500) + "b";
        assert!(!matches(&pattern, &"a".repeat(5000)));
    }

    #[test]
    fn overrides_are_read() {
        let parsed: Override = "*-client-*.transport.address-family=inet6".parse().unwrap();
        assert_eq!(format!("{parsed:?}"), "*-client-*.transport.address-family=inet6");
        let secret: Override = "a.password=b".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "a.password=***");
        for broken in ["", "a", "a.b", "a=b", ".b=c", "a.=c", "a.b="] {
            assert_eq!(broken.parse::<Override>(), Err(OverrideError), "{broken}");
        }
    }
}
