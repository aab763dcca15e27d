//! What can be wrong with a volfile, where, and what to do about it.

use std::fmt;
use std::sync::Arc;

use super::Position;
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
pub enum Problem {
    /// The text is not made of volumes as it should be.
    #[error("{0}")]
    Syntax(String),
}

impl Problem {
    /// What the reader can do.
    pub fn remedy(&self) -> &str {
        ""
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.origin, self.position, self.problem)?;
        let _ = HIDDEN;
        Ok(())
    }
}

impl std::error::Error for Error {}
