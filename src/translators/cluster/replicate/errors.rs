//! Which error a fop returns when its children disagree, and when errors are no failure of a copy.

use rgfs_protocol::Errno;

use super::core::Replies;
use crate::{FopError, FopResult};

/// The errno that tells most (`afr_higher_errno`): ENODATA, ENOENT, ESTALE, ENOSPC, then whatever came last.
pub fn final_errno(errnos: impl IntoIterator<Item = Errno>) -> Option<Errno> {
    let rank = |errno: Errno| match errno {
        Errno::ENODATA => 4,
        Errno::ENOENT => 3,
        Errno::ESTALE => 2,
        Errno::ENOSPC => 1,
        _ => 0,
    };
    errnos.into_iter().reduce(|chosen, next| if rank(next) >= rank(chosen) { next } else { chosen })
}

/// The error of the child whose errno [`final_errno`] chooses; `None` when no child failed.
pub(super) fn final_error<T>(replies: &Replies<T>) -> Option<FopError> {
    let failures = || replies.iter().filter_map(|(_, reply)| reply.as_ref().err());
    let chosen = final_errno(failures().map(|error| error.errno))?;
    failures().rfind(|error| error.errno == chosen).cloned()
}

/// The errno with which every child failed, if that means the same for every copy (`afr_is_symmetric_error`). A brick
/// that went away (ENOTCONN) may or may not have done what it was told.
pub(super) fn symmetric_error<'a, T: 'a>(
    replies: impl IntoIterator<Item = &'a (usize, FopResult<T>)>,
) -> Option<Errno> {
    let mut errnos = replies.into_iter().map(|(_, reply)| reply.as_ref().err().map(|error| error.errno));
    let first = errnos.next()??;
    (first != Errno::ENOTCONN && errnos.all(|errno| errno == Some(first))).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_that_tells_most() {
        let cases: [(&[Errno], Option<Errno>); 5] = [
            (&[], None),
            (&[Errno::ENOTCONN, Errno::EIO], Some(Errno::EIO)),
            (&[Errno::ENOSPC, Errno::EIO], Some(Errno::ENOSPC)),
            (&[Errno::ENOENT, Errno::ENOSPC, Errno::ESTALE], Some(Errno::ENOENT)),
            (&[Errno::ENOENT, Errno::ENODATA], Some(Errno::ENODATA)),
        ];
        for (errnos, expected) in cases {
            assert_eq!(final_errno(errnos.iter().copied()), expected, "{errnos:?}");
        }
    }

    #[test]
    fn errors_that_all_copies_share() {
        let name = "v".into();
        let failed = |errno| Err::<(), _>(FopError::new(errno, &name, "test"));
        let all = |a, b| symmetric_error(&vec![(0, a), (1, b)]);
        assert_eq!(all(failed(Errno::ENOSPC), failed(Errno::ENOSPC)), Some(Errno::ENOSPC));
        assert_eq!(all(failed(Errno::ENOSPC), failed(Errno::EIO)), None);
        assert_eq!(all(failed(Errno::ENOSPC), Ok(())), None);
        assert_eq!(all(failed(Errno::ENOTCONN), failed(Errno::ENOTCONN)), None);
        assert_eq!(symmetric_error::<()>(&[]), None);
    }
}
