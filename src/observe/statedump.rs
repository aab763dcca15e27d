//! Statedumps: what the process has in hand, as text, in the C client's style (`statedump.c`): `[section]` and
//! `key=value` lines, one section per translator.

use std::fmt::{self, Display, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::Status;
use crate::translator::Translator;

/// Translators that one dump visits at most; a graph has fewer.
const TRANSLATORS_MAX: usize = 100_000;

/// A dump in the making.
#[derive(Debug, Default)]
pub struct Statedump {
    text: String,
}

impl Statedump {
    /// Begins a section.
    pub fn section(&mut self, name: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{}[{}]", if self.text.is_empty() { "" } else { "\n" }, OneLine(&name));
    }

    /// Adds a line. Values of keys that name a password are blanked.
    pub fn line(&mut self, key: &str, value: &dyn Display) {
        let _ = if key.contains("password") {
            writeln!(self.text, "{key}=***")
        } else {
            writeln!(self.text, "{key}={}", OneLine(value))
        };
    }

    /// Adds a section for each translator below and including `top`, parents first.
    pub fn graph(&mut self, top: &Arc<dyn Translator>) {
        let mut visited: Vec<*const ()> = Vec::new();
        let mut waiting = vec![top.clone()];
        while let Some(translator) = waiting.pop() {
            let identity = Arc::as_ptr(&translator).cast::<()>();
            if visited.contains(&identity) || visited.len() >= TRANSLATORS_MAX {
                continue;
            }
            visited.push(identity);
            self.section(format_args!("{}.{}", translator.kind(), translator.name()));
            self.line("status", &StatusText(translator.events().status()));
            translator.dump(&mut |key, value| self.line(key, value));
            waiting.extend(translator.children().iter().rev().cloned());
        }
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the dump to `glusterdump.PID.dump.EPOCH` in `directory`; `epoch` in seconds. Returns the path.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, directory: &Path, pid: u32, epoch: u64) -> io::Result<PathBuf> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(format!("glusterdump.{pid}.dump.{epoch}"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(self.text.as_bytes())?;
        // As in the C client's dumps: who waits for a dump sees that it is whole.
        writeln!(file, "\nDUMP-END-TIME: {epoch}")?;
        Ok(path)
    }
}

/// The directory that the text of `glusterdump.options` asks for (`path=DIR`), if it is absolute.
pub fn requested_directory(options: &str) -> Option<PathBuf> {
    let path = options.lines().rev().find_map(|line| line.trim().strip_prefix("path="))?;
    let path = PathBuf::from(path.trim());
    path.is_absolute().then_some(path)
}

/// A value that stays on its line.
struct OneLine<T>(T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Filter<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| self.0.write_char(if c.is_control() { ' ' } else { c }))
            }
        }
        write!(Filter(f), "{}", self.0)
    }
}

struct StatusText(Status);

impl Display for StatusText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Status::Connecting => f.write_str("connecting"),
            Status::Up => f.write_str("up"),
            Status::Down(why) => write!(f, "down: {why}"),
            Status::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_lines() {
        let mut dump = Statedump::default();
        dump.section("global");
        dump.line("a", &1);
        dump.line("password", &"secret");
        dump.section("x\ny");
        dump.line("b", &"two\nlines");
        assert_eq!(dump.text(), "[global]\na=1\npassword=***\n\n[x y]\nb=two lines\n");
    }

    #[test]
    fn where_to_write() {
        assert_eq!(requested_directory("all=yes\npath=/a/b\n"), Some("/a/b".into()));
        assert_eq!(requested_directory("path=relative"), None);
        assert_eq!(requested_directory(""), None);
        let directory = tempfile::tempdir().unwrap();
        let path = Statedump::default().write(directory.path(), 7, 9).unwrap();
        assert_eq!(path, directory.path().join("glusterdump.7.dump.9"));
    }
}
