//! A graph as volfile text again.

use std::fmt::{self, Write};

use super::lexer::KEYWORDS;
use super::{Graph, Volume};

impl Graph {
    /// The graph as a volfile, **passwords among it**: what [`super::parse`] reads back. To show a graph, print it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for volume in &self.volumes {
            // Writing to a String does not fail.
            let _ = write_volume(&mut text, volume, volume.options.iter());
        }
        text
    }
}

impl fmt::Display for Graph {
    /// The graph as a volfile, without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.volumes.iter().try_for_each(|volume| write_volume(f, volume, volume.options.shown()))
    }
}

fn write_volume<'a>(
    out: &mut impl Write,
    volume: &Volume,
    options: impl Iterator<Item = (&'a str, &'a str)>,
) -> fmt::Result {
    writeln!(out, "volume {}", Quoted(&volume.name))?;
    writeln!(out, "    type {}", Quoted(&volume.kind.written))?;
    for (key, value) in options {
        writeln!(out, "    option {} {}", Quoted(key), Quoted(value))?;
    }
    if !volume.subvolumes.is_empty() {
        out.write_str("    subvolumes")?;
        for child in &volume.subvolumes {
            write!(out, " {}", Quoted(child))?;
        }
        out.write_char('\n')?;
    }
    out.write_str("end-volume\n\n")
}

/// A word, in quotes where it needs them.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let special = |letter| matches!(letter, ' ' | '\t' | '\r' | '\n' | '"' | '\\' | '`');
        if !self.0.is_empty() && !self.0.starts_with('#') && !self.0.contains(special) && !KEYWORDS.contains(&self.0) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for letter in self.0.chars() {
            if matches!(letter, '"' | '\\' | '`') {
                f.write_char('\\')?;
            }
            f.write_char(letter)?;
        }
        f.write_char('"')
    }
}
