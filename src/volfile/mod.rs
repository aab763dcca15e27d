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
//! - `select`: `--volume-name` and `--xlator-option`.

mod error;
mod options;
mod position;
mod value;

pub use error::{Error, Problem};
pub use options::{OptionError, Options, Place};
pub use position::Position;
pub use value::PercentOrSize;

use std::fmt;
use std::sync::Arc;

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

    /// The volume of that name.
    pub fn volume(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.iter().find(|volume| &*volume.name == name)
    }
}
