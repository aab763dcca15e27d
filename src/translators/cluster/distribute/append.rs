//! Appends to a file that rebalance moves: what was appended at the source must be at the destination, once.
//!
//! Writing it where the source has put it could overwrite what others have appended at the destination: clients that do
//! not know each other's order there (`dht_writev2` repeats the write through an fd with O_APPEND), and those for which the
//! move is over already. Appending it as it is could put it there twice, because it may have been copied. So:
//!
//! - the destination is protected from rebalance: what is being copied is there, or will never be;
//! - clients of this kind look at the end of the destination one after the other, under a lock;
//! - what is not at its place there is appended by the brick, which never overwrites anything;
//! - those who come too early, before what others have appended earlier, wait for a while: so the order is that of the source, and
//!   nobody takes the equal record of another program for its own.
//!
//! Where others have changed the order already, or do not come, the record goes to the end.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::types::LockType;
use rgfs_protocol::{Dict, Errno, Value};

use super::core::{Core, as_root, to_the_end};
use super::keys;
use super::locks::Transaction;
use crate::reply::{Payload, WriteReply};
use crate::{Context, Fd, FopResult, Loc, Translator};

/// What is read at most to find a record among those that were appended at the same time, in bytes.
const SEARCHED: u64 = 4 << 20;
/// How long those are waited for who appended before.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long between two looks at the destination.
const PAUSE: Duration = Duration::from_millis(2);

/// An append that the source has done.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    /// The source was at least so long before, in bytes.
    start: u64,
    /// And so long afterwards. More than the data lies between if others appended at the same time.
    end: u64,
    /// What was appended.
    data: Bytes,
}

/// What a look at the destination says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is there.
    Done,
    /// It is to be appended.
    Append,
    /// Others come before.
    Wait,
}

impl Appended {
    /// From the source's answer; `data` is what it was asked to write.
    pub(super) fn new(answer: &WriteReply, data: &[Bytes]) -> Self {
        let mut data = data.concat();
        data.truncate(answer.written);
        let end = answer.post.size;
        let start = answer.pre.size.min(end.saturating_sub(data.len() as u64));
        Appended { start, end, data: data.into() }
    }

    /// Where it can be, as far as the answer tells it.
    fn region(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether that is all that lies there.
    fn is_alone(&self) -> bool {
        self.end - self.start == self.data.len() as u64
    }

    /// Its place among what lies in the region. Of equal ones it is the last: who comes first waits for the others.
    fn find(&self, region: &[u8]) -> Option<Range<u64>> {
        let at = region.windows(self.data.len().max(1)).rposition(|part| part == self.data)? as u64;
        Some(self.start + at..self.start + at + self.data.len() as u64)
    }

    /// What to do when the destination is `size` bytes long and holds `there` in the `place` of this, as far as it is so long.
    fn verdict(&self, size: u64, place: &Range<u64>, there: &[u8]) -> Verdict {
        match () {
            () if size < place.start => Verdict::Wait,
            () if !self.data.starts_with(there) || size == place.start => Verdict::Append,
            // Somebody is just writing it.
            () if size < place.end => Verdict::Wait,
            () => Verdict::Done,
        }
    }
}

impl Core {
    /// Brings what was appended at `source` to `aim`, where the file moves to.
    pub(super) async fn append_there(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        (source, aim): (usize, usize),
        appended: Appended,
        xdata: Dict,
    ) -> FopResult<()> {
        let (core, context, fd) = (self.clone(), context.clone(), fd.clone());
        let transaction = async move {
            let root = as_root(&context);
            // Of this append alone: one that is kept may lead to what an earlier migration left.
            let there = core.open_anew(&root, &fd, aim, libc::O_RDWR | libc::O_APPEND).await?;
            let place = core.place_at_source(&root, &fd, source, &appended).await;
            let until = core.clock.now() + PATIENCE;
            loop {
                let mut transaction = Transaction::new(&core, &context);
                transaction.inode(aim, keys::APPEND_DOMAIN, &fd.inode, LockType::Write).await?;
                let patient = core.clock.now() < until;
                let done = core.append_once(&context, &there, aim, (&appended, place.as_ref()), patient, &xdata).await;
                transaction.give_back().await;
                if done? || core.has_given_up(&root, &fd, source).await {
                    return Ok(());
                }
                core.clock.sleep(PAUSE).await;
            }
        };
        to_the_end(self, "append to a file that moves", transaction).await
    }

    /// Where the source has put it; `None` if that cannot be found out any more.
    async fn place_at_source(&self, root: &Context, fd: &Fd, source: usize, appended: &Appended) -> Option<Range<u64>> {
        if appended.is_alone() {
            return Some(appended.region());
        }
        let here = self.open_anew(root, fd, source, libc::O_RDONLY).await.ok()?;
        appended.find(&read(self.child(source), root, &here, appended.region()).await?)
    }

    /// One look at the destination, and what follows from it. False if that was too early.
    async fn append_once(
        &self,
        context: &Context,
        there: &Arc<Fd>,
        aim: usize,
        (appended, place): (&Appended, Option<&Range<u64>>),
        patient: bool,
        xdata: &Dict,
    ) -> FopResult<bool> {
        let (root, child) = (as_root(context), self.child(aim));
        // A write of nothing: over replicas that is in one order with the writes of rebalance everywhere, as an xattr would not be. When the
        // move is over, rebalance takes its protection away: it must not come back then on one replica and not on the other.
        let moves = !is_complete(child, &root, there).await;
        let protection = match moves {
            true => Dict::empty().with(keys::PROTECT_WRITES, Value::Uint(1)),
            false => Dict::NULL,
        };
        let size = child.writev(&root, there, Payload::new(), 0, 0, protection).await?.post.size;
        let known = place.cloned().unwrap_or(appended.region());
        let found = match known.start < size {
            true => read(child, &root, there, known.start..size.min(known.end)).await,
            false => Some(Bytes::new()),
        };
        let verdict = match (place, found) {
            (Some(place), Some(found)) => appended.verdict(size, place, &found),
            (None, Some(found)) if appended.find(&found).is_some() => Verdict::Done,
            _ => Verdict::Append,
        };
        if verdict == Verdict::Wait && patient {
            return Ok(false);
        }
        if verdict != Verdict::Done {
            child.writev(context, there, [appended.data.clone()].into(), size, 0, xdata.clone()).await?;
        }
        if moves && is_complete(child, &root, there).await {
            // Rebalance has taken the protection away, or has left that to us: it would be copied with the file.
            match child.fremovexattr(&root, there, keys::PROTECT_WRITES, Dict::NULL).await {
                Err(error) if error.errno != Errno::ENODATA => {
                    tracing::info!(%error, "a file that has moved stays protected from rebalance");
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Whether a move was given up: then the source is all there is.
    async fn has_given_up(&self, root: &Context, fd: &Fd, source: usize) -> bool {
        let loc = Loc::inode(fd.inode.clone());
        let linkto = self.child(source).getxattr(root, &loc, Some(keys::LINKTO), Dict::NULL).await;
        linkto.is_err_and(|error| error.errno == Errno::ENODATA)
    }

    async fn open_anew(&self, root: &Context, fd: &Fd, index: usize, flags: i32) -> FopResult<Arc<Fd>> {
        let kept = fd.flags & (libc::O_SYNC | libc::O_DSYNC);
        let anew = Fd::new(fd.inode.clone(), flags | kept, fd.pid);
        self.child(index).open(root, &Loc::inode(fd.inode.clone()), flags | kept, &anew, Dict::NULL).await?;
        Ok(anew)
    }
}

/// Whether all of the file is at its destination: rebalance writes nothing any more.
async fn is_complete(child: &Arc<dyn Translator>, root: &Context, there: &Arc<Fd>) -> bool {
    let linkto = child.fgetxattr(root, there, Some(keys::LINKTO), Dict::NULL).await;
    linkto.is_err_and(|error| error.errno == Errno::ENODATA)
}

/// Reads a range; `None` if all of it cannot be had.
async fn read(child: &Arc<dyn Translator>, context: &Context, fd: &Arc<Fd>, range: Range<u64>) -> Option<Bytes> {
    if range.end - range.start > SEARCHED {
        return None;
    }
    let mut bytes = Vec::new();
    while let Some(left) = (range.end - range.start).checked_sub(bytes.len() as u64).filter(|left| *left > 0) {
        let (size, at) = (left.min(1 << 20) as u32, range.start + bytes.len() as u64);
        let data = child.readv(context, fd, size, at, 0, Dict::NULL).await.ok()?.data.concat();
        if data.is_empty() {
            return None;
        }
        bytes.extend_from_slice(&data);
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use rgfs_protocol::Iatt;

    use super::*;

    fn size(size: u64) -> Iatt {
        Iatt { size, ..Iatt::default() }
    }

    /// "ab" was appended to a source that was `before` long, and is `source` afterwards.
    fn ab(before: u64, source: &str) -> Appended {
        let answer = WriteReply { written: 2, pre: size(before), post: size(source.len() as u64), xdata: Dict::NULL };
        Appended::new(&answer, &[Bytes::from_static(b"abcd")])
    }

    fn part(of: &str, range: Range<u64>) -> &[u8] {
        let end = (range.end as usize).min(of.len());
        of.as_bytes().get(range.start as usize..end).unwrap_or_default()
    }

    #[test]
    fn where_the_source_has_put_it() {
        for (before, source, expected, why) in [
            (3, "012ab", Some(3..5), "alone"),
            (3, "012abxyz", Some(3..5), "before another one"),
            (3, "012xyzab", Some(6..8), "behind another one"),
            (3, "012abab", Some(5..7), "of equal ones the last"),
            (3, "012xyz", None, "it was truncated meanwhile"),
        ] {
            let one = ab(before, source);
            let region = part(source, one.region());
            assert_eq!((one.find(region), one.is_alone()), (expected, source == "012ab"), "{why}");
        }
    }

    #[test]
    fn nothing_is_lost_or_doubled() {
        use Verdict::{Append, Done, Wait};
        for (there, expected, why) in [
            ("012", Append, "nobody was here"),
            ("012ab", Done, "it was copied"),
            ("012abxy", Done, "and another one came"),
            ("012a", Wait, "it is being copied"),
            ("01", Wait, "another one is to come before"),
            ("012xy", Append, "another one was faster"),
            ("012xyz", Append, "and longer"),
            ("012x", Append, "or shorter"),
        ] {
            let one = ab(3, "012ab");
            let place = one.region();
            let found = part(there, place.clone());
            assert_eq!(one.verdict(there.len() as u64, &place, found), expected, "{why}");
        }
    }

    #[test]
    fn an_answer_without_sense() {
        let answer = WriteReply { written: 2, pre: size(9), post: size(1), xdata: Dict::NULL };
        let one = Appended::new(&answer, &[Bytes::from_static(b"ab")]);
        assert_eq!((one.region(), one.find(b"x")), (0..1, None), "it was truncated at the same time");
    }
}
