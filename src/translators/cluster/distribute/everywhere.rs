//! What to make of a name that was asked for on all subvolumes (`dht_lookup_everywhere_done`).

use rgfs_protocol::{Errno, Gfid};

use super::linkto;
use crate::FopResult;
use crate::reply::LookupReply;

/// What one subvolume has under the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// The data of a file, or anything else that is neither directory nor linkto.
    Data(Gfid),
    /// A linkto file; `target` is `None` for a subvolume that this graph does not know.
    Linkto {
        /// Where it points.
        target: Option<usize>,
        /// Its gfid: that of the file it stands for.
        gfid: Gfid,
        /// The brick said that nobody has it open.
        closed: bool,
    },
    /// An entry without gfid, or no answer.
    Failed(Errno),
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a directory: look it up as one.
    Directory,
    /// The file is at `cached`. With `link` a linkto is to be made on the hashed subvolume.
    File {
        /// Where the file is.
        cached: usize,
        /// The hashed subvolume knows nothing of it yet.
        link: bool,
    },
    /// The linkto on the hashed subvolume points elsewhere, or is that of another file: remove it (guarded), then as
    /// [`Verdict::File`] with `link`.
    Relink {
        /// Where the file is.
        cached: usize,
    },
    /// There is no such name.
    Missing {
        /// A linkto was seen somewhere: a file may be on the move, ask once more.
        again: bool,
    },
    /// The name cannot be served.
    Error(Errno),
}

/// Reads one answer. `index_of` finds a subvolume by name.
pub fn classify(reply: &FopResult<LookupReply>, index_of: impl Fn(&[u8]) -> Option<usize>) -> Found {
    match reply {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => Found::Nothing,
        Err(error) => Found::Failed(error.errno),
        Ok(reply) if reply.stat.is_dir() => Found::Directory,
        Ok(reply) if linkto::is_linkto(&reply.stat, &reply.xdata) => Found::Linkto {
            target: linkto::target(&reply.xdata).and_then(|name| index_of(&name)),
            gfid: reply.stat.gfid,
            closed: reply.xdata.int(super::keys::OPEN_FD_COUNT) == Some(0),
        },
        Ok(reply) => Found::Data(reply.stat.gfid),
    }
}

/// Judges the answers of all subvolumes. `known` is the gfid of the inode in a revalidation.
pub fn judge(found: &[Found], hashed: Option<usize>, known: Option<Gfid>) -> Verdict {
    let at_hashed = hashed.and_then(|index| found.get(index)).copied();
    let directories = found.iter().filter(|one| **one == Found::Directory).count();
    let mut data = found.iter().enumerate().filter_map(|(index, one)| match one {
        Found::Data(gfid) => Some((index, *gfid)),
        _ => None,
    });
    // A file that exists twice: the copy at its home counts, then that of the first subvolume.
    let first = data.next();
    let chosen = match (at_hashed, hashed) {
        (Some(Found::Data(gfid)), Some(index)) => Some((index, gfid)),
        _ => first,
    };
    let Some((cached, gfid)) = chosen else {
        return if directories > 0 { Verdict::Directory } else { nothing(found) };
    };
    if directories > 0 {
        return Verdict::Error(Errno::EIO);
    }
    if known.is_some_and(|known| known != gfid) {
        return Verdict::Error(Errno::ENOENT);
    }
    match (known, at_hashed) {
        (Some(_), _) | (None, Some(Found::Data(_)) | None) => Verdict::File { cached, link: false },
        (None, Some(Found::Linkto { target: Some(target), gfid: linked, closed })) if target == cached => {
            match (linked == gfid, closed) {
                (true, _) => Verdict::File { cached, link: false },
                // A rename over the file was interrupted. The C client refuses the name for ever.
                (false, true) => Verdict::Relink { cached },
                (false, false) => Verdict::Error(Errno::ESTALE),
            }
        }
        // A linkto that this graph does not understand may be right: an older client must leave it.
        (None, Some(Found::Linkto { target: None, .. })) => Verdict::File { cached, link: false },
        (None, Some(Found::Linkto { closed: true, .. })) => Verdict::Relink { cached },
        (None, Some(Found::Nothing)) => Verdict::File { cached, link: true },
        (None, Some(_)) => Verdict::File { cached, link: false },
    }
}

fn nothing(found: &[Found]) -> Verdict {
    let failure = |errno| found.contains(&Found::Failed(errno));
    // "Unreachable" must never become "not there": a create would make a second file of that name.
    if failure(Errno::ENOTCONN) {
        return Verdict::Error(Errno::ENOTCONN);
    }
    let other = found.iter().find_map(|one| match one {
        Found::Failed(errno) => Some(*errno),
        _ => None,
    });
    if let Some(errno) = other {
        return Verdict::Error(errno);
    }
    Verdict::Missing { again: found.iter().any(|one| matches!(one, Found::Linkto { .. })) }
}

/// Subvolumes whose linkto stands for nothing, when no file was found: nobody has it open, and its target is known and
/// has no file. What cannot be told stays: without its linkto a file that comes back would be lost.
pub fn stale_linktos(found: &[Found]) -> Vec<usize> {
    let all_answered = !found.iter().any(|one| matches!(one, Found::Failed(_)));
    let is_stale = |one: &Found| match one {
        Found::Linkto { target: Some(target), closed: true, .. } => match found.get(*target) {
            Some(Found::Nothing | Found::Directory) => true,
            Some(Found::Linkto { .. }) => all_answered,
            _ => false,
        },
        _ => false,
    };
    found.iter().enumerate().filter(|(_, one)| is_stale(one)).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::Found::*;
    use super::*;

    const A: Gfid = Gfid([1; 16]);
    const B: Gfid = Gfid([2; 16]);

    fn link(target: Option<usize>, gfid: Gfid) -> Found {
        Linkto { target, gfid, closed: true }
    }

    #[test]
    fn verdicts() {
        let file = |cached, link| Verdict::File { cached, link };
        let missing = |again| Verdict::Missing { again };
        type Row<'a> = (&'a [Found], Option<usize>, Option<Gfid>, Verdict);
        let table: &[Row<'_>] = &[
            (&[Nothing, Nothing], Some(0), None, missing(false)),
            (&[Data(A), Nothing], Some(0), None, file(0, false)),
            (&[Nothing, Data(A)], Some(0), None, file(1, true)),
            (&[Nothing, Data(A)], None, None, file(1, false)),
            (&[link(Some(1), A), Data(A)], Some(0), None, file(1, false)),
            (&[link(Some(1), B), Data(A)], Some(0), None, Verdict::Relink { cached: 1 }),
            (
                &[Linkto { target: Some(1), gfid: B, closed: false }, Data(A)],
                Some(0),
                None,
                Verdict::Error(Errno::ESTALE),
            ),
            (&[link(Some(2), A), Data(A), Nothing], Some(0), None, Verdict::Relink { cached: 1 }),
            (&[Linkto { target: Some(2), gfid: A, closed: false }, Data(A), Nothing], Some(0), None, file(1, false)),
            (&[link(None, A), Data(A)], Some(0), None, file(1, false)),
            (&[link(None, A), Nothing], Some(0), None, missing(true)),
            (&[link(Some(1), A), Nothing], Some(0), None, missing(true)),
            (&[Nothing, link(Some(0), A)], Some(0), None, missing(true)),
            (&[link(Some(1), A), Failed(Errno::ENOTCONN)], Some(0), None, Verdict::Error(Errno::ENOTCONN)),
            (&[Nothing, Failed(Errno::ENOTCONN)], Some(0), None, Verdict::Error(Errno::ENOTCONN)),
            (&[Nothing, Directory], Some(0), None, Verdict::Directory),
            (&[Data(A), Directory], Some(0), None, Verdict::Error(Errno::EIO)),
            (&[Data(A), Data(A)], Some(1), None, file(1, false)),
            (&[Nothing, Data(A)], Some(0), Some(A), file(1, false)),
            (&[Nothing, Data(A)], Some(0), Some(B), Verdict::Error(Errno::ENOENT)),
            (&[Failed(Errno::ENOTCONN), Data(A)], Some(0), None, file(1, false)),
        ];
        for (found, hashed, known, verdict) in table {
            assert_eq!(judge(found, *hashed, *known), *verdict, "{found:?} {hashed:?} {known:?}");
        }
    }

    #[test]
    fn linktos_that_lead_nowhere() {
        let open = Linkto { target: Some(1), gfid: A, closed: false };
        let table: &[(&[Found], &[usize])] = &[
            (&[link(Some(1), A), Nothing], &[0]),
            (&[Nothing, link(Some(0), A)], &[1]),
            (&[open, Nothing], &[]),
            (&[link(None, A), Nothing], &[]),
            (&[link(Some(1), A), Failed(Errno::ENOTCONN)], &[]),
            (&[link(Some(1), A), Data(A)], &[]),
            (&[link(Some(1), A), Directory], &[0]),
            (&[link(Some(1), A), link(Some(0), A)], &[0, 1]),
            (&[link(Some(0), A), Nothing], &[0]),
            (&[link(Some(1), A), link(Some(2), A), Failed(Errno::ENOTCONN)], &[]),
        ];
        for (found, stale) in table {
            assert_eq!(stale_linktos(found), *stale, "{found:?}");
        }
    }
}
