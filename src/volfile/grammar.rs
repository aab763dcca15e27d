//! Words to `volume` sections (`graph.y`).
//!
//! ```text
//! file    = section { section }
//! section = "volume" NAME "type" TYPE { option } [ "subvolumes" NAME { NAME } { option } ] "end-volume"
//! option  = "option" KEY VALUE
//! ```
//!
//! The C grammar wants an option or a subvolume in every section; a section without any is harmless and accepted here.

use super::error::{Error, Problem};
use super::lexer::{Lexer, Word};
use super::limits;

/// A section as it stands in the text.
pub(super) struct Section<'a> {
    /// Name; its offset is the place of the section.
    pub(super) name: Word<'a>,
    /// Type.
    pub(super) kind: Word<'a>,
    /// Keys and values that are not empty, in order, repetitions among them.
    pub(super) options: Vec<(Word<'a>, Word<'a>)>,
    /// Children.
    pub(super) subvolumes: Vec<Word<'a>>,
}

/// Reads the next section; `None` at the end of the text.
pub(super) fn section<'a>(lexer: &mut Lexer<'a>) -> Result<Option<Section<'a>>, Error> {
    match lexer.next()? {
        None => return Ok(None),
        Some(word) if word.is("volume") => {}
        Some(word) => return Err(unexpected(lexer, "the word volume", &word)),
    }
    let name = name(lexer, "the name of a volume")?;
    let kind = type_line(lexer, &name)?;
    let mut section = Section { name, kind, options: Vec::new(), subvolumes: Vec::new() };
    loop {
        let Some(word) = lexer.next()? else {
            return Err(lexer.error(lexer.end(), Problem::NoEnd { volume: section.name.text.into() }));
        };
        if word.is("end-volume") {
            return Ok(Some(section));
        } else if word.is("option") {
            option_line(lexer, &mut section)?;
        } else if word.is("subvolumes") || word.is("subvolumeS") {
            subvolumes_line(lexer, &mut section, &word)?;
        } else if word.is("type") {
            let volume = section.name.text.into();
            return Err(lexer.error(word.offset, Problem::DuplicateLine { volume, keyword: "type" }));
        } else if word.is("volume") {
            return Err(lexer.error(word.offset, Problem::NoEnd { volume: section.name.text.into() }));
        } else {
            return Err(unexpected(lexer, "option, subvolumes or end-volume", &word));
        }
    }
}

fn type_line<'a>(lexer: &mut Lexer<'a>, volume: &Word<'a>) -> Result<Word<'a>, Error> {
    let volume = || volume.text.clone().into_owned();
    match lexer.next()? {
        None => Err(lexer.error(lexer.end(), Problem::NoEnd { volume: volume() })),
        Some(word) if word.is("type") => name(lexer, "a type"),
        Some(word) if word.is_keyword() => {
            Err(lexer.error(word.offset, Problem::NoType { volume: volume(), found: word.text.into() }))
        }
        Some(word) => Err(unexpected(lexer, "the word type", &word)),
    }
}

fn option_line<'a>(lexer: &mut Lexer<'a>, section: &mut Section<'a>) -> Result<(), Error> {
    let key = name(lexer, "the name of an option")?;
    let no_value = |key: &Word<'a>| Problem::NoValue { key: key.text.clone().into() };
    let value = match lexer.next()? {
        Some(word) if !word.is_keyword() => word,
        _ => return Err(lexer.error(key.offset, no_value(&key))),
    };
    if value.text.len() > limits::VALUE {
        let problem = Problem::WordTooLong { what: "the value of an option", limit: limits::VALUE };
        return Err(lexer.error(value.offset, problem));
    }
    if let Some(word) = lexer.peek()?
        && !word.is_keyword()
    {
        let offset = word.offset;
        return Err(lexer.error(offset, Problem::TwoValues { key: key.text.into() }));
    }
    // The C client logs "Invalid argument" for an empty value and goes on without the line.
    if !value.text.is_empty() {
        if section.options.len() == limits::OPTIONS {
            let problem = Problem::TooMany { what: "options in a volume", limit: limits::OPTIONS };
            return Err(lexer.error(key.offset, problem));
        }
        section.options.push((key, value));
    }
    Ok(())
}

fn subvolumes_line<'a>(lexer: &mut Lexer<'a>, section: &mut Section<'a>, keyword: &Word<'a>) -> Result<(), Error> {
    if !section.subvolumes.is_empty() {
        let volume = section.name.text.clone().into();
        return Err(lexer.error(keyword.offset, Problem::DuplicateLine { volume, keyword: "subvolumes" }));
    }
    section.subvolumes.push(name(lexer, "the name of a subvolume")?);
    while lexer.peek()?.is_some_and(|word| !word.is_keyword()) {
        section.subvolumes.push(name(lexer, "the name of a subvolume")?);
    }
    Ok(())
}

/// A word that is neither empty nor a keyword nor too long.
fn name<'a>(lexer: &mut Lexer<'a>, what: &'static str) -> Result<Word<'a>, Error> {
    match lexer.next()? {
        None => {
            Err(lexer.error(lexer.end(), Problem::Unexpected { expected: what, found: "the end of the text".into() }))
        }
        Some(word) if word.is_keyword() || word.text.is_empty() => Err(unexpected(lexer, what, &word)),
        Some(word) if word.text.len() > limits::NAME => {
            Err(lexer.error(word.offset, Problem::WordTooLong { what, limit: limits::NAME }))
        }
        Some(word) => Ok(word),
    }
}

fn unexpected(lexer: &Lexer<'_>, expected: &'static str, word: &Word<'_>) -> Error {
    // A stray word may be a part of a password: keywords alone are repeated here, and the line is shown without it.
    let found = match word.is_keyword() {
        true => format!("the keyword {}", word.text),
        false => "another word".into(),
    };
    lexer.error(word.offset, Problem::Unexpected { expected, found })
}
