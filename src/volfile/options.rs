//! The `option` lines of a volume, with typed getters.
//!
//! A getter takes the canonical name and the older ones, separated by `|`: `"frame-timeout|rpc-timeout"`. They are
//! looked up in that order (`options.c`). A value that does not fit is an error that names volume, option, value and
//! place.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::Position;
use super::value::{self, PercentOrSize};

/// Options of one volume. The last line for a name wins; printing hides passwords.
#[derive(Clone, PartialEq, Default)]
pub struct Options {
    volume: Arc<str>,
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq)]
struct Entry {
    key: Arc<str>,
    value: Arc<str>,
    place: Place,
}

/// Where an option was given.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// In the volfile.
    Volfile(Position),
    /// By `--xlator-option`.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Volfile(position) => write!(f, "at {position} of the volfile"),
            Place::CommandLine => f.write_str("from --xlator-option"),
        }
    }
}

/// An option whose value cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("volume {volume}: option {key} {value:?} ({place}) is not {expected}")]
pub struct OptionError {
    /// Name of the volume.
    pub volume: Arc<str>,
    /// The option, as written.
    pub key: Arc<str>,
    /// The value; hidden when it is a password.
    pub value: Arc<str>,
    /// Where it was given.
    pub place: Place,
    /// What would be accepted: "a boolean (on, off, …)".
    pub expected: Arc<str>,
}

/// True for options whose values must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    key.ends_with("password")
}

/// What is shown instead of a password.
pub(super) const HIDDEN: &str = "***";

impl Options {
    /// No options, of the volume of that name.
    pub fn new(volume: &Arc<str>) -> Self {
        Options { volume: volume.clone(), entries: Vec::new() }
    }

    /// Sets an option, replacing an older value.
    pub fn set(&mut self, key: &str, value: &str, place: Place) {
        let value = Arc::from(value);
        match self.entries.iter_mut().find(|entry| &*entry.key == key) {
            Some(entry) => {
                entry.value = value;
                entry.place = place;
            }
            None => self.entries.push(Entry { key: key.into(), value, place }),
        }
    }

    /// [`Options::set`] for building in one expression, as if it came from the command line.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.set(key, value, Place::CommandLine);
        self
    }

    /// Number of options.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names and values, passwords among them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| (&*entry.key, &*entry.value))
    }

    /// Names and values as they may be shown: without passwords.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(key, value)| (key, if is_secret(key) { HIDDEN } else { value }))
    }

    /// The value as it was written.
    pub fn text(&self, names: &str) -> Option<&str> {
        self.find(names).map(|entry| &*entry.value)
    }

    /// A boolean (`on`, `off`, and the other words of GlusterFS).
    ///
    /// # Errors
    /// When the value is no such word.
    pub fn boolean(&self, names: &str) -> Result<Option<bool>, OptionError> {
        self.typed(names, value::boolean, || "a boolean (on, off, yes, no, true, false, enable, disable, 1, 0)".into())
    }

    /// A whole number in `range`.
    ///
    /// # Errors
    /// When the value is no number, or outside.
    pub fn integer(&self, names: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, OptionError> {
        self.typed(
            names,
            |text| value::integer(text).filter(|number| range.contains(number)),
            || format!("a whole number from {} to {}", range.start(), range.end()),
        )
    }

    /// A number of bytes in `range`.
    ///
    /// # Errors
    /// When the value is no size, or outside.
    pub fn size(&self, names: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, OptionError> {
        self.typed(
            names,
            |text| value::size(text).filter(|bytes| range.contains(bytes)),
            || format!("a size from {} to {} bytes, such as 131072 or 128KB", range.start(), range.end()),
        )
    }

    /// A share of 0 to 100.
    ///
    /// # Errors
    /// When the value is no such share.
    pub fn percent(&self, names: &str) -> Result<Option<f64>, OptionError> {
        self.typed(names, value::percent, || "a percentage from 0 to 100".into())
    }

    /// A share or a number of bytes.
    ///
    /// # Errors
    /// When the value is neither.
    pub fn percent_or_size(&self, names: &str) -> Result<Option<PercentOrSize>, OptionError> {
        self.typed(names, value::percent_or_size, || "a percentage or a size, such as 10% or 5GB".into())
    }

    /// A time in `range`, in seconds.
    ///
    /// # Errors
    /// When the value is no time, or outside.
    pub fn time(&self, names: &str, range: RangeInclusive<u64>) -> Result<Option<Duration>, OptionError> {
        self.typed(
            names,
            |text| value::seconds(text).filter(|seconds| range.contains(seconds)).map(Duration::from_secs),
            || format!("a time from {} to {} seconds, such as 42 or 10min", range.start(), range.end()),
        )
    }

    /// One of the words `allowed`, in their spelling.
    ///
    /// # Errors
    /// When the value is none of them.
    pub fn one_of(&self, names: &str, allowed: &[&'static str]) -> Result<Option<&'static str>, OptionError> {
        self.typed(
            names,
            |text| allowed.iter().copied().find(|word| *word == text),
            || format!("one of {}", allowed.join(", ")),
        )
    }

    /// The parts of a value that are separated by commas, without blanks around them; empty when the option is absent.
    pub fn list(&self, names: &str) -> Vec<&str> {
        let text = self.text(names).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
    }

    /// An error about the option `names`, for values that a translator itself finds wrong. `expected` follows "is not".
    pub fn refuse(&self, names: &str, expected: impl Into<Arc<str>>) -> OptionError {
        match self.find(names) {
            Some(entry) => self.error(entry, expected.into()),
            None => OptionError {
                volume: self.volume.clone(),
                key: names.split('|').next().unwrap_or_default().into(),
                value: "".into(),
                place: Place::CommandLine,
                expected: expected.into(),
            },
        }
    }

    fn typed<T>(
        &self,
        names: &str,
        read: impl FnOnce(&str) -> Option<T>,
        expected: impl FnOnce() -> String,
    ) -> Result<Option<T>, OptionError> {
        let Some(entry) = self.find(names) else { return Ok(None) };
        match read(&entry.value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.error(entry, expected().into())),
        }
    }

    fn find(&self, names: &str) -> Option<&Entry> {
        names.split('|').find_map(|name| self.entries.iter().find(|entry| &*entry.key == name))
    }

    fn error(&self, entry: &Entry, expected: Arc<str>) -> OptionError {
        let value = if is_secret(&entry.key) { HIDDEN.into() } else { entry.value.clone() };
        OptionError { volume: self.volume.clone(), key: entry.key.clone(), value, place: entry.place.clone(), expected }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let mut options = Options::new(&"v-client-0".into());
        options.set("rpc-timeout", "30", Place::Volfile(Position { line: 4, column: 10 }));
        options.with("strict-locks", "maybe").with("password", "hush").with("list", "a, b,,c")
    }

    #[test]
    fn older_names_are_found_after_the_canonical_one() {
        let mut options = options();
        let names = "frame-timeout|rpc-timeout";
        assert_eq!(options.integer(names, 0..=86400), Ok(Some(30)));
        options.set("frame-timeout", "20", Place::CommandLine);
        assert_eq!(options.time(names, 0..=86400), Ok(Some(Duration::from_secs(20))));
        assert_eq!(options.integer("other", 0..=1), Ok(None));
        assert_eq!(options.list("list"), ["a", "b", "c"]);
    }

    #[test]
    fn the_last_value_wins() {
        let options = Options::new(&"v".into()).with("a", "1").with("a", "2");
        assert_eq!((options.text("a"), options.len()), (Some("2"), 1));
    }

    #[test]
    fn errors_name_volume_option_value_and_place() {
        assert_eq!(
            options().integer("rpc-timeout", 0..=10).unwrap_err().to_string(),
            "volume v-client-0: option rpc-timeout \"30\" (at 4:10 of the volfile) is not a whole number from 0 to 10"
        );
        assert_eq!(
            options().boolean("strict-locks").unwrap_err().to_string(),
            "volume v-client-0: option strict-locks \"maybe\" (from --xlator-option) is not a boolean (on, off, yes, no, \
             true, false, enable, disable, 1, 0)"
        );
    }

    #[test]
    fn passwords_are_never_shown() {
        let options = options();
        assert!(!format!("{options:?}").contains("hush"));
        assert!(!options.integer("password", 0..=1).unwrap_err().to_string().contains("hush"));
        assert!(!format!("{:?}", options.integer("password", 0..=1)).contains("hush"));
        assert_eq!(options.text("password"), Some("hush"));
    }
}
