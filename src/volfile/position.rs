//! Places in a text, as people count them.

use std::fmt;

/// A place in a volfile. Lines and columns count from 1; a column is a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in bytes.
    pub column: u32,
}

impl Position {
    /// The place of the byte `offset` of `text`; an offset behind the end means the end.
    pub fn of(text: &[u8], offset: usize) -> Self {
        Position { line: 1, column: 1 }.advanced(text.get(..offset).unwrap_or(text))
    }

    /// The place behind `text`, which begins here.
    pub(super) fn advanced(self, text: &[u8]) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let lines = count(text.iter().filter(|byte| **byte == b'\n').count());
        let columns = count(text.iter().rev().take_while(|byte| **byte != b'\n').count());
        let from = if lines == 0 { self.column } else { 1 };
        Position { line: self.line.saturating_add(lines), column: from.saturating_add(columns) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_one() {
        let at = |offset| Position::of(b"ab\nc\n", offset);
        assert_eq!(at(0), Position { line: 1, column: 1 });
        assert_eq!(at(2), Position { line: 1, column: 3 });
        assert_eq!(at(3), Position { line: 2, column: 1 });
        assert_eq!(at(99), Position { line: 3, column: 1 });
    }
}
