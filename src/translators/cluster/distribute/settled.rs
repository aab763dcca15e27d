//! Whether what was repeated at the destination of a move is where the file is.
//!
//! What is repeated may come too late: the move is over meanwhile, and the file moves on from there, or has moved on; or it was given up,
//! and the file moves elsewhere. A destination in use and what is left of a file that moved on look alike. So the source is asked, *after* the
//! change at the destination: as long as it is the source, or the whole file again, nothing is lost. If it is not, and the destination is
//! still there, the change came before the move ended.

use bytes::Bytes;
use rgfs_protocol::{Dict, Iatt, Value};

use super::core::{Core, as_root};
use super::follow::Target;
use super::migration::{Seen, is_missing};
use super::{keys, linkto};
use crate::reply::StatReply;
use crate::{Context, FopResult, Loc};

/// What a file is on the subvolume from which it moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is being moved to the subvolume of that name.
    Source(Bytes),
    /// All of it is there, and stays.
    Whole,
    /// It has moved, or was removed.
    Left,
    /// The subvolume does not tell.
    Unknown,
}

impl Presence {
    /// From the answer to a STAT that asks for the linkto.
    pub(super) fn of(answer: &FopResult<StatReply>) -> Self {
        let reply = match answer {
            Ok(reply) => reply,
            Err(error) if is_missing(error.errno) => return Presence::Left,
            Err(_) => return Presence::Unknown,
        };
        if reply.stat.nlink == 0 || linkto::is_linkto(&reply.stat, &reply.xdata) {
            return Presence::Left;
        }
        match linkto::target(&reply.xdata).filter(|_| linkto::has_migration_marks(&reply.stat)) {
            Some(name) => Presence::Source(name),
            None => Presence::Whole,
        }
    }
}

/// What is to be done when a change was repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Settled,
    /// Once more, at another destination: there was another move.
    Elsewhere,
    /// The destination is the source of another move now: repeat it there.
    Repeat,
    /// The file has left the destination: do it where the file is.
    Follow,
}

/// What an answer of the destination tells without further questions.
fn at_once(repeated: &impl Seen) -> Option<Then> {
    let mode = repeated.mode()?;
    let stat = Iatt { mode, ..Default::default() };
    match () {
        () if linkto::has_migration_marks(&stat) => Some(Then::Repeat),
        () if linkto::has_linkto_mode(&stat) || repeated.links() == Some(0) => None,
        () => Some(Then::Settled),
    }
}

impl Core {
    /// Attributes of a file on a subvolume, and its linkto.
    pub(super) async fn look(&self, context: &Context, target: Target<'_>, at: usize) -> FopResult<StatReply> {
        let (root, child) = (as_root(context), self.child(at));
        let request = Dict::empty().with(keys::LINKTO, Value::Uint(256));
        match target {
            Target::Loc(loc) => child.stat(&root, &Loc::inode(loc.inode.clone()), request).await,
            Target::Fd(fd) => child.fstat(&root, fd, request).await,
        }
    }

    /// What a file is on a subvolume.
    async fn presence(&self, context: &Context, target: Target<'_>, at: usize) -> Presence {
        Presence::of(&self.look(context, target, at).await)
    }

    /// Whether the bits of a mode that an answer showed are no marks, and no linkto's: a file that has them still, and no linkto.
    pub(super) async fn has_bits_of_user(&self, context: &Context, target: Target<'_>, at: usize, mode: u32) -> bool {
        let now = self.look(context, target, at).await;
        now.is_ok_and(|now| now.stat.mode == mode && !now.xdata.contains(keys::LINKTO))
    }

    /// What to do after a change of a file that moves from `source` to `aim` was repeated there with that answer.
    pub(super) async fn after_repeating(
        &self,
        context: &Context,
        (source, here): (usize, Target<'_>),
        (aim, there): (usize, Target<'_>),
        repeated: &impl Seen,
    ) -> Then {
        if let Some(then) = at_once(repeated) {
            return then;
        }
        match self.presence(context, here, source).await {
            Presence::Source(name) if self.index_of(&name) != Some(aim) => Then::Elsewhere,
            Presence::Left => match self.presence(context, there, aim).await {
                Presence::Left => Then::Follow,
                _ => Then::Settled,
            },
            _ => Then::Settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use rgfs_protocol::Errno;

    use super::*;
    use crate::FopError;
    use crate::reply::WriteReply;

    fn told(mode: u32, nlink: u32, name: Option<&'static str>) -> FopResult<StatReply> {
        let mut xdata = Dict::empty();
        if let Some(name) = name {
            xdata.set(keys::LINKTO, Value::Ptr(Bytes::from_static(name.as_bytes())));
        }
        Ok(StatReply { stat: Iatt { mode, nlink, ..Iatt::default() }, xdata })
    }

    #[test]
    fn what_a_file_is() {
        let source = Presence::Source(Bytes::from_static(b"v-1"));
        for (mode, nlink, name, expected, why) in [
            (0o103_644, 1, Some("v-1\0"), source, "it moves"),
            (0o103_644, 1, None, Presence::Whole, "a user likes these bits"),
            (0o100_644, 1, Some("v-1\0"), Presence::Whole, "the move was given up just now"),
            (0o100_644, 1, None, Presence::Whole, "it does not move"),
            (0o101_000, 1, Some("v-1\0"), Presence::Left, "it has moved"),
            (0o101_000, 0, Some("v-1\0"), Presence::Left, "and is removed"),
            (0o103_644, 0, Some("v-1\0"), Presence::Left, "removed while it moved"),
            (0o101_000, 1, None, Presence::Whole, "a user likes that mode"),
        ] {
            assert_eq!(Presence::of(&told(mode, nlink, name)), expected, "{why}");
        }
        let failed = |errno| Presence::of(&Err(FopError::new(errno, &"v".into(), "fstat")));
        assert_eq!(failed(Errno::ESTALE), Presence::Left);
        assert_eq!(failed(Errno::ENOTCONN), Presence::Unknown);
    }

    #[test]
    fn what_an_answer_tells_at_once() {
        for (mode, nlink, expected, why) in [
            (0o100_644, 1, Some(Then::Settled), "the move is over"),
            (0o103_644, 1, Some(Then::Repeat), "and the next has begun"),
            (0o101_000, 1, None, "a destination, or what is left"),
            (0o100_644, 0, None, "it was removed, or is what an earlier move has left"),
        ] {
            let post = Iatt { mode, nlink, ..Iatt::default() };
            assert_eq!(at_once(&WriteReply { post, ..WriteReply::default() }), expected, "{why}");
        }
        assert_eq!(at_once(&Dict::NULL), None, "no attributes");
    }
}
