//! What can be wrong with a volfile, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

use super::Position;
use super::limits;
use super::options::HIDDEN;

/// A volfile that cannot be used. Prints as one line: place, problem, the line of the file, remedy.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// Where the text came from.
    pub origin: Arc<str>,
    /// Where in it.
    pub position: Position,
    /// The line of the text, shortened, without passwords.
    pub line: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a volfile.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Problem {
    #[error("the text is longer than {} bytes", limits::TEXT)]
    TooLong,
    #[error("command substitution is not supported")]
    CommandSubstitution,
    #[error("this is not UTF-8 text")]
    NotUtf8,
    #[error("this quoted string never ends")]
    UnterminatedString,
    #[error("there is no volume in the text")]
    NoVolume,
    #[error("expected {expected}, found {found}")]
    Unexpected { expected: &'static str, found: String },
    #[error("volume {volume} has no end-volume")]
    NoEnd { volume: String },
    #[error("volume {volume} has no type line before this {found}")]
    NoType { volume: String, found: String },
    #[error("duplicate '{keyword}' line in volume {volume}")]
    DuplicateLine { volume: String, keyword: &'static str },
    #[error("option {key} has no value")]
    NoValue { key: String },
    #[error("option {key} has more than one value")]
    TwoValues { key: String },
    #[error("{what} is longer than {limit} bytes")]
    WordTooLong { what: &'static str, limit: usize },
    #[error("more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("volume {name} is defined again; the first one is at line {first}")]
    DuplicateVolume { name: String, first: u32 },
    #[error("volume {parent} has the subvolume {child}, but no volume of that name is defined above it")]
    UnknownSubvolume { parent: String, child: String },
    #[error("volume {parent} is a subvolume of itself")]
    OwnSubvolume { parent: String },
    #[error("volume {parent} has the subvolume {child} twice")]
    RepeatedSubvolume { parent: String, child: String },
    #[error("volume {volume} of type {kind} has {found} subvolumes, but it needs {needed}")]
    SubvolumeCount { volume: String, kind: String, needed: &'static str, found: usize },
    #[error("volume {volume} is the top of more than {} levels", limits::DEPTH)]
    TooDeep { volume: String },
    #[error("volume {volume} has the unknown type {kind}")]
    UnknownType { volume: String, kind: String },
    #[error("type {kind} was removed from GlusterFS; {why}")]
    RemovedType { kind: String, why: &'static str },
    #[error("this is a brick volfile: type {kind} belongs to a server")]
    BrickType { kind: String },
    #[error("type {kind} cannot be part of a client's graph: {why}")]
    UnfitType { kind: String, why: &'static str },
    #[error("two tops: no volume uses {other}, and none uses {top}, the last one")]
    TwoTops { other: String, top: String },
    #[error("there is no volume named {name}")]
    NoSuchVolume { name: String },
}

impl Problem {
    /// What the reader can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Problem::TooLong | Problem::TooMany { .. } | Problem::TooDeep { .. } => "is this really a volfile?",
            Problem::CommandSubstitution => "write the value itself instead of `command`",
            Problem::NotUtf8 => "write names and values in UTF-8",
            Problem::UnterminatedString => "close it with \"",
            Problem::NoVolume => "a volfile needs at least one `volume NAME … end-volume`",
            Problem::Unexpected { .. } => {
                "a section is: volume NAME, type TYPE, option KEY VALUE…, subvolumes NAME…, end-volume"
            }
            Problem::NoEnd { .. } => "add a line `end-volume` after its last option or subvolumes line",
            Problem::NoType { .. } => "put the line `type TYPE` directly under `volume NAME`",
            Problem::DuplicateLine { .. } => "keep one of the lines",
            Problem::NoValue { .. } => "write `option KEY VALUE`",
            Problem::TwoValues { .. } => "put a value that has blanks into double quotes",
            Problem::WordTooLong { .. } => "shorten it",
            Problem::DuplicateVolume { .. } => "give each volume a name of its own",
            Problem::UnknownSubvolume { .. } => "check the spelling, and define children above their parents",
            Problem::OwnSubvolume { .. } => "name the volumes below it",
            Problem::RepeatedSubvolume { .. } => "name each subvolume once",
            Problem::SubvolumeCount { .. } => "correct the subvolumes line",
            Problem::UnknownType { .. } => "check the spelling of the type",
            Problem::RemovedType { .. } => "read the data with the GlusterFS release that wrote it",
            Problem::BrickType { .. } => "give the client volfile of the volume instead",
            Problem::UnfitType { .. } => "remove this volume from the file",
            Problem::TwoTops { .. } => "remove one of them, or choose with --volume-name=NAME",
            Problem::NoSuchVolume { .. } => "give --volume-name one of the names in the file",
        }
    }
}

impl Error {
    /// An error at the byte `offset` of `text`.
    pub(super) fn new(origin: &Arc<str>, text: &[u8], offset: usize, problem: Problem) -> Self {
        let line = shown_line(text, offset.min(text.len()));
        Error { origin: origin.clone(), position: Position::of(text, offset), line, problem }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names may hold anything that a quoted string can, but an error is one printable line.
        let problem: String =
            self.problem.to_string().chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        write!(f, "{}:{}: {problem}", self.origin, self.position)?;
        if !self.line.is_empty() {
            write!(f, " (line: {})", self.line)?;
        }
        write!(f, "; {}", self.problem.remedy())
    }
}

impl std::error::Error for Error {}

/// The line around `offset`, trimmed, printable, shortened. What follows the word `password` is hidden, in this line
/// and, since a newline has no meaning, also when the word ends the text before it.
fn shown_line(text: &[u8], offset: usize) -> String {
    const LONGEST: usize = 100;
    const SECRET: &[u8] = b"password";
    let start = text[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let end = text[offset..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| offset + length);
    let before = text[..start].trim_ascii_end();
    // A quote or a line continuation may stand between the key and its value.
    let before = before.trim_ascii_end().strip_suffix(b"\"").unwrap_or(before);
    let before = before.strip_suffix(b"\\").unwrap_or(before).trim_ascii_end();
    if before.ends_with(SECRET) {
        return HIDDEN.into();
    }
    let mut line = &text[start..end];
    let mut hidden = false;
    if let Some(secret) = line.windows(SECRET.len()).position(|window| window == SECRET) {
        hidden = secret + SECRET.len() < line.trim_ascii_end().len();
        line = &line[..secret + SECRET.len()];
    }
    let line = String::from_utf8_lossy(line.trim_ascii());
    let mut shown: String = line.chars().take(LONGEST).flat_map(|letter| letter.escape_debug()).collect();
    shown = shown.replace("\\\"", "\"").replace("\\'", "'").replace("\\t", " ");
    if line.chars().count() > LONGEST {
        shown.push('…');
    } else if hidden {
        shown.push(' ');
        shown.push_str(HIDDEN);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_without_passwords() {
        for (text, offset, expected) in [
            ("volume a\n  type b\n", 12, "type b"),
            ("option password hush x", 21, "option password ***"),
            ("option password\n  \"hush\" x", 20, "***"),
            ("option password \\\nhush x", 23, "***"),
            ("option password", 3, "option password"),
            ("a\tb\u{1}", 0, "a b\\u{1}"),
            ("", 0, ""),
        ] {
            assert_eq!(shown_line(text.as_bytes(), offset), expected, "{text:?}");
        }
        assert!(shown_line(&[b'x'; 5000], 4000).len() < 120);
    }
}
