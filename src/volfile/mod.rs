//! Volfile text to a checked description of a graph.
//!
//! A volfile is a list of `volume … end-volume` sections, children before parents; the last one is the top. [`parse`]
//! reads one as `graph.l` and `graph.y` do, but never runs a command and never drops a child silently; [`load`] also
//! applies what the command line says about the graph ([`Selection`]).
//!
//! - `lexer`: bytes to words, with a place for each;
//! - `grammar`: words to sections;
//! - `check`: sections to a [`Graph`] that cannot surprise the builder;
//! - `kinds`: what the `type` names mean, old ones among them;
//! - `options`, `value`: typed access to `option` lines;
//! - `select`: `--volume-name` and `--xlator-option`;
//! - `print`: a graph as text again.

mod check;
mod error;
mod grammar;
mod kinds;
mod lexer;
mod limits;
mod options;
mod position;
mod print;
mod select;
mod value;

pub use error::{Error, Problem};
pub use options::{OptionError, Options, Place};
pub use position::Position;
pub use select::{Override, OverrideError, Selection, matches};
pub use value::PercentOrSize;

use std::fmt;
use std::sync::Arc;

/// Reads a volfile: its last volume is the top.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(text: &[u8]) -> Result<Graph, Error> {
    load("volfile", text, &Selection::default())
}

/// Reads a volfile that came from `origin` (a file name, or a server and a key) and applies the command line.
///
/// # Errors
/// The first thing that is wrong with the part of it that is used.
pub fn load(origin: &str, text: &[u8], selection: &Selection) -> Result<Graph, Error> {
    let mut graph = check::graph(&origin.into(), text, selection.volume_name.as_deref())?;
    for option in &selection.overrides {
        if option.apply(&mut graph) == 0 {
            tracing::warn!("--xlator-option {option:?} matches no volume of {origin}");
        }
    }
    Ok(graph)
}

/// A checked volfile: every subvolume is defined above its parents, every type is one that a client may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Where the text came from: a file name, or the server and key.
    pub origin: Arc<str>,
    /// The volumes, children before parents. The last one is the top.
    pub volumes: Vec<Arc<Volume>>,
}

/// A `volume` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Its name. Distribute and replicate write children's names into xattrs: never change one.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Its `option` lines.
    pub options: Options,
    /// Names of its children, in order; all are defined above.
    pub subvolumes: Vec<Arc<str>>,
    /// Where the section begins.
    pub position: Position,
}

/// The `type` of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The current name: `cluster/replicate` for a file that says `cluster/afr`.
    pub canonical: &'static str,
    /// As the file says it.
    pub written: Arc<str>,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Graph {
    /// The volume that is the file system.
    pub fn top(&self) -> Option<&Arc<Volume>> {
        self.volumes.last()
    }

    /// The `log-level` that the volume's administrator has set for its clients (`diagnostics.client-log-level`).
    pub fn log_level(&self) -> Option<&str> {
        let reports = self.volumes.iter().rev().filter(|volume| volume.kind.canonical == "debug/io-stats");
        reports.filter_map(|volume| volume.options.text("log-level")).next()
    }

    /// The volume of that name.
    pub fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.iter().find(|volume| &*volume.name == name)
    }
}

#[cfg(test)]
mod tests;
