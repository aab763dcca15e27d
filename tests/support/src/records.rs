//! Numbered records that several writers append to one log: what the log holds afterwards tells which are missing, there twice, out of order,
//! or torn.

use anyhow::{Context, Result, ensure};

/// Bytes of a record. They are a part of a page: what crosses the end of one reaches a client in two writes (`fuse_fill_write_pages`), between
/// which another mount may append.
pub const LENGTH: usize = 32;
/// How much of a log an error shows, in lines on each side.
const AROUND: usize = 10;

/// What was excused in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Excused {
    /// Records that are there once more.
    pub repeated: usize,
    /// Records that are not where their turn is.
    pub lost: usize,
}

/// The record of that number, counted from 0, by that writer.
pub fn record(writer: usize, number: u64) -> String {
    format!("{:>LENGTH$}", format!("{writer:03} {number:018}\n"))
}

/// Whether a log holds all records of each writer, in their order, once. `expected` says how many each has written.
///
/// # Errors
/// Names the first line that is not as it should be, with what stands around it.
pub fn check(log: &str, text: &str, expected: &[u64]) -> Result<()> {
    check_but(log, text, expected, |_| false).map(drop)
}

/// The same. What writers that `is_excused` names lack, or have twice, is counted only.
///
/// # Errors
/// Those of [`check`].
pub fn check_but(log: &str, text: &str, expected: &[u64], is_excused: impl Fn(usize) -> bool) -> Result<Excused> {
    let mut next = vec![0; expected.len()];
    let mut excused = Excused::default();
    for (at, line) in text.lines().enumerate() {
        let (writer, number) = parse(line)
            .filter(|(writer, _)| *writer < next.len())
            .with_context(|| format!("{log}, {line:?} is no record: {}", around(text, at)))?;
        let awaited = std::mem::replace(&mut next[writer], number + 1);
        match () {
            () if number == awaited => {}
            () if !is_excused(writer) => {
                let later = text.lines().skip(at).position(|line| parse(line) == Some((writer, awaited)));
                let fate = later.map_or("is missing".to_owned(), |later| format!("stands {later} lines later"));
                anyhow::bail!("{log}, {line:?}, but {awaited} of that writer {fate}: {}", around(text, at));
            }
            () if number > awaited => excused.lost += usize::try_from(number - awaited)?,
            () => {
                excused.repeated += 1;
                next[writer] = awaited;
            }
        }
    }
    for (writer, (next, expected)) in next.iter().zip(expected).enumerate() {
        match expected.checked_sub(*next) {
            Some(lost) if lost == 0 || is_excused(writer) => excused.lost += usize::try_from(lost)?,
            _ => anyhow::bail!("{log} ends with {next} records of writer {writer}, who has written {expected}"),
        }
    }
    ensure!(text.is_empty() || text.ends_with('\n'), "{log} ends within a record");
    Ok(excused)
}

/// Writer and number.
fn parse(line: &str) -> Option<(usize, u64)> {
    let (writer, number) = line.trim_start().split_once(' ').filter(|_| line.len() + 1 == LENGTH)?;
    Some((writer.parse().ok()?, number.parse().ok()?))
}

/// The lines around one, with the offset of each.
fn around(text: &str, at: usize) -> String {
    let lines = text.lines().scan(0, |offset, line| {
        let begin = *offset;
        *offset += line.len() + 1;
        Some(format!("\n{begin:10} {line:?}"))
    });
    lines.skip(at.saturating_sub(AROUND)).take(2 * AROUND + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(records: &[(usize, u64)]) -> String {
        records.iter().map(|(writer, number)| record(*writer, *number)).collect()
    }

    #[test]
    fn finds_what_is_not_there_once_and_in_order() {
        for (records, expected, why) in [
            (&[(0, 0), (1, 0), (0, 1)][..], None, "all are there"),
            (&[(0, 0), (1, 0)], Some("ends with 1 records of writer 0"), "the last is missing"),
            (&[(1, 0), (0, 1)], Some("0 of that writer is missing"), "one is missing"),
            (&[(1, 0), (0, 1), (0, 0)], Some("0 of that writer stands 1 lines later"), "the order is wrong"),
            (&[(0, 0), (0, 0), (0, 1), (1, 0)], Some("1 of that writer stands 1 lines later"), "one is there twice"),
            (&[(0, 0), (1, 0), (0, 1), (0, 2)], Some("ends with 3 records of writer 0"), "nobody wrote that"),
            (&[(2, 0)], Some("is no record"), "who is that?"),
        ] {
            let found = check("log", &text(records), &[2, 1]).map_err(|error| error.to_string());
            match (found, expected) {
                (Ok(()), None) => {}
                (Err(found), Some(expected)) => assert!(found.contains(expected), "{why}: {found}"),
                (found, _) => panic!("{why}: {found:?}"),
            }
        }
        let torn = record(0, 0).replace(" 0000", "0000") + &record(0, 1);
        assert!(check("log", &torn, &[2]).is_err(), "a record is too short");
        assert!(check("log", record(0, 0).trim_end(), &[1]).is_err(), "the last one is torn");
    }

    #[test]
    fn counts_what_is_excused() {
        let but = |records: &[(usize, u64)], expected: &[u64]| {
            check_but("log", &text(records), expected, |writer| writer == 1).map_err(|error| error.to_string())
        };
        let excused = |repeated, lost| Ok(Excused { repeated, lost });
        assert_eq!(but(&[(1, 0), (0, 0), (1, 0), (1, 1)], &[1, 2]), excused(1, 0));
        assert_eq!(but(&[(1, 1), (0, 0), (1, 4)], &[1, 7]), excused(0, 5));
        assert!(but(&[(1, 0), (1, 1)], &[1, 2]).is_err(), "that of the other one is missing");
        assert!(but(&[(0, 0), (1, 0), (1, 1)], &[1, 1]).is_err(), "nobody wrote that");
    }
}
