//! Volfile text to words (`graph.l`).
//!
//! A word is a run of bytes without blanks, `"` and `\`, or a quoted string. `#` at the start of a word begins a comment.
//! A newline is just a blank, and vanishes inside a string. A backslash outside a string is skipped, so that
//! backslash-newline continues a line. Inside a string it protects the next byte.

use std::borrow::Cow;
use std::str;
use std::sync::Arc;

use nom::branch::alt;
use nom::bytes::complete::{is_a, is_not, tag, take};
use nom::combinator::{map, opt, value};
use nom::multi::{fold_many0, many0_count};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::error::{Error, Problem};
use super::{Position, limits};

/// A word and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word<'a> {
    /// What it says, unquoted.
    pub(super) text: Cow<'a, str>,
    /// A quoted word is never a keyword.
    pub(super) quoted: bool,
    /// Where it begins, in bytes.
    pub(super) offset: usize,
    /// Where it begins, for people.
    pub(super) position: Position,
}

impl Word<'_> {
    /// True for the keyword itself.
    pub(super) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }

    /// True for every keyword.
    pub(super) fn is_keyword(&self) -> bool {
        !self.quoted && KEYWORDS.contains(&&*self.text)
    }
}

/// The words that mean something. The odd one is in `graph.l` too.
pub(super) const KEYWORDS: [&str; 6] = ["volume", "type", "option", "subvolumes", "subvolumeS", "end-volume"];

/// Hands out the words of a text, one by one.
pub(super) struct Lexer<'a> {
    origin: &'a Arc<str>,
    text: &'a [u8],
    rest: &'a [u8],
    peeked: Option<Option<Word<'a>>>,
    /// Offset and place of the last word: counting goes on from there, so that it costs one pass over the text.
    counted: (usize, Position),
}

impl<'a> Lexer<'a> {
    /// Checks what must hold for the text as a whole. A NUL ends it, as in C.
    pub(super) fn new(origin: &'a Arc<str>, text: &'a [u8]) -> Result<Self, Error> {
        let length = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let text = &text[..length];
        let lexer = Lexer { origin, text, rest: text, peeked: None, counted: (0, Position { line: 1, column: 1 }) };
        if length > limits::TEXT {
            return Err(lexer.error(0, Problem::TooLong));
        }
        // The C client runs what stands between backticks, in comments and strings too: refuse before anything else.
        let backtick = |at: &usize| text[*at] == b'`' && (*at == 0 || text[*at - 1] != b'\\');
        if let Some(at) = (0..length).find(backtick) {
            return Err(lexer.error(at, Problem::CommandSubstitution));
        }
        Ok(lexer)
    }

    /// An error at a byte of this text.
    pub(super) fn error(&self, offset: usize, problem: Problem) -> Error {
        Error::new(self.origin, self.text, offset, problem)
    }

    /// Where the text came from.
    pub(super) fn origin(&self) -> &'a Arc<str> {
        self.origin
    }

    /// The end of the text, for errors.
    pub(super) fn end(&self) -> usize {
        self.text.trim_ascii_end().len()
    }

    /// The next word, left in place; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<&Word<'a>>, Error> {
        if self.peeked.is_none() {
            self.peeked = Some(self.read()?);
        }
        Ok(self.peeked.as_ref().and_then(Option::as_ref))
    }

    /// Takes the next word; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Word<'a>>, Error> {
        match self.peeked.take() {
            Some(word) => Ok(word),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Word<'a>>, Error> {
        let word = blank(self.rest).and_then(|(rest, _)| {
            self.rest = rest;
            opt(word).parse(rest)
        });
        let offset = self.text.len() - self.rest.len();
        match word {
            Ok((rest, Some((bytes, quoted)))) => {
                self.rest = rest;
                // Escaped backticks pass the first check; outside a string nothing unescapes them.
                if !quoted && bytes.contains(&b'`') {
                    return Err(self.error(offset, Problem::CommandSubstitution));
                }
                let text = match bytes {
                    Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
                    Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
                };
                let text = text.ok_or_else(|| self.error(offset, Problem::NotUtf8))?;
                Ok(Some(Word { text, quoted, offset, position: self.count(offset) }))
            }
            Ok((_, None)) if self.rest.is_empty() => Ok(None),
            // Every byte begins a blank, a word or a string; only the end of a string can be missing.
            Ok((_, None)) | Err(_) => Err(self.error(offset, Problem::UnterminatedString)),
        }
    }

    /// The place of the byte `offset`, which is behind all earlier ones.
    fn count(&mut self, offset: usize) -> Position {
        let (from, before) = self.counted;
        let position = before.advanced(&self.text[from..offset]);
        self.counted = (offset, position);
        position
    }
}

/// Blanks, comments and stray backslashes.
fn blank(input: &[u8]) -> IResult<&[u8], usize> {
    let comment = (tag(&b"#"[..]), opt(is_not(&b"\n"[..])));
    many0_count(alt((value((), is_a(&b" \t\r\n\\"[..])), value((), comment)))).parse(input)
}

/// A word, and whether it was quoted.
fn word(input: &[u8]) -> IResult<&[u8], (Cow<'_, [u8]>, bool)> {
    let plain = map(is_not(&b" \t\r\n\"\\"[..]), |bytes| (Cow::Borrowed(bytes), false));
    alt((plain, map(string, |bytes| (bytes, true)))).parse(input)
}

/// A quoted string, unquoted. Borrowed when nothing in it is escaped.
fn string(input: &[u8]) -> IResult<&[u8], Cow<'_, [u8]>> {
    let nothing = || &b""[..];
    let piece = alt((
        is_not(&b"\"\\\n"[..]),
        map(alt((tag(&b"\n"[..]), tag(&b"\\\n"[..]))), move |_| nothing()),
        preceded(tag(&b"\\"[..]), take(1usize)),
    ));
    let pieces = fold_many0(
        piece,
        || Cow::Borrowed(nothing()),
        |mut all: Cow<'_, [u8]>, piece: &[u8]| {
            if all.is_empty() {
                Cow::Borrowed(piece)
            } else {
                all.to_mut().extend_from_slice(piece);
                all
            }
        },
    );
    let (rest, (_, bytes, _)) = (tag(&b"\""[..]), pieces, tag(&b"\""[..])).parse(input)?;
    Ok((rest, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<(String, bool, usize)>, Problem> {
        let origin = "t".into();
        let mut lexer = Lexer::new(&origin, text.as_bytes()).map_err(|error| error.problem)?;
        let mut words = Vec::new();
        while let Some(word) = lexer.next().map_err(|error| error.problem)? {
            words.push((word.text.into_owned(), word.quoted, word.offset));
        }
        Ok(words)
    }

    #[test]
    fn words_strings_and_comments() {
        for (text, expected) in [
            ("", &[][..]),
            (" \t\r\n", &[]),
            ("# only a comment", &[]),
            ("a b", &[("a", false, 0), ("b", false, 2)]),
            ("foo#bar # x\r\ny", &[("foo#bar", false, 0), ("y", false, 13)]),
            ("foo\"bar\"", &[("foo", false, 0), ("bar", true, 3)]),
            (r#""a\nb\"c\\""#, &[("anb\"c\\", true, 0)]),
            ("\"a\nb\\\nc\"", &[("abc", true, 0)]),
            ("\"\"", &[("", true, 0)]),
            ("a\\\nb", &[("a", false, 0), ("b", false, 3)]),
            ("a\\b", &[("a", false, 0), ("b", false, 2)]),
            ("a#\"b\"", &[("a#", false, 0), ("b", true, 2)]),
            ("\"x\"#c", &[("x", true, 0)]),
            (r#""\`date\`""#, &[("`date`", true, 0)]),
            ("a\0`b", &[("a", false, 0)]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(word, quoted, at)| (word.to_string(), *quoted, *at)).collect();
            assert_eq!(words(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(words("a \"b"), Err(Problem::UnterminatedString));
        assert_eq!(words("a \"b\\\""), Err(Problem::UnterminatedString));
        assert_eq!(words("# `date`"), Err(Problem::CommandSubstitution));
        assert_eq!(words("\"`date`\""), Err(Problem::CommandSubstitution));
        assert_eq!(words("\\`date"), Err(Problem::CommandSubstitution));
        assert_eq!(words("`"), Err(Problem::CommandSubstitution));
    }
}
