//! Appends to a file that rebalance moves: what was appended is in the file in the end, once.
//!
//! Where the file has [come to rest](super::home) is looked whether it is there:
//!
//! - what is not at its place is appended by the brick, which never overwrites anything;
//! - those who come too early, before what others have appended earlier, wait for a while: so the order is that of the source, and
//!   nobody takes the equal record of another program for its own. Where others have changed the order already, or do not come, the record
//!   goes to the end.
//!
//! The C client appends at the destination as well (`dht_writev2`), where the record may be already, or others instead of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::Dict;

use super::core::{Core, as_root, to_the_end};
use super::follow::Target;
use super::home::{Found, Home};
use super::linkto;
use super::migration::{Family, Seen};
use crate::reply::{Payload, WriteReply};
use crate::{Context, Fd, FopResult, Translator};

/// What is read at most to find a record among those that were appended at the same time, in bytes.
const SEARCHED: u64 = 4 << 20;
/// How long those are waited for who appended before.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long between two looks at the file.
const PAUSE: Duration = Duration::from_millis(2);

/// An append that a subvolume has done.
#[derive(Clone, Debug)]
struct Appended {
    /// The file was at least so long before, in bytes.
    start: u64,
    /// And so long afterwards. More than the data lies between if others appended at the same time.
    end: u64,
    /// What was appended.
    data: Bytes,
}

/// What a look at the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is there.
    Done,
    /// It is to be appended.
    Append,
    /// Others come before.
    Wait,
}

/// An answer, and who gave it. For [`Core::on_file`] it tells nothing of the file: what is to be done about a move is done here.
struct Placed<'a> {
    child: &'a Arc<dyn Translator>,
    reply: WriteReply,
}

impl Seen for Placed<'_> {
    fn mode(&self) -> Option<u32> {
        None
    }
}

/// What became of an append at one subvolume.
struct Put {
    /// Index of the subvolume.
    at: usize,
    appended: Appended,
    /// Where it is; `None` if that could not be found out.
    place: Option<Range<u64>>,
    /// What it was appended to was a linkto: nothing was copied from there, but it may have become the file.
    on_linkto: bool,
}

/// What became of an append at the file's home.
enum Outcome {
    There,
    Appended(Box<WriteReply>),
    TooEarly,
}

/// An append that met a move.
struct Append {
    core: Arc<Core>,
    context: Context,
    root: Context,
    fd: Arc<Fd>,
    data: Bytes,
    /// The first one is what the application's call has done.
    puts: Vec<Put>,
    xdata: Dict,
}

impl Appended {
    /// From the answer; `data` is what was to be written.
    fn new(answer: &WriteReply, mut data: Bytes) -> Self {
        data.truncate(answer.written);
        let end = answer.post.size;
        let start = answer.pre.size.min(end.saturating_sub(data.len() as u64));
        Appended { start, end, data }
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

    /// What to do when the file is `size` bytes long and holds `there` in the `place` of this, as far as it is so long.
    fn verdict(&self, size: u64, place: &Range<u64>, there: &[u8]) -> Verdict {
        match () {
            () if size < place.start => Verdict::Wait,
            () if size < place.end || self.data != there => Verdict::Append,
            () => Verdict::Done,
        }
    }
}

/// Whether an answer may show a file on the move. It may have been flipped between the two looks at it.
fn is_moving(reply: &WriteReply) -> bool {
    [&reply.pre, &reply.post].iter().any(|stat| linkto::has_migration_marks(stat) || linkto::has_linkto_mode(stat))
}

fn is_on_linkto(reply: &WriteReply) -> bool {
    linkto::has_linkto_mode(&reply.pre) || linkto::has_linkto_mode(&reply.post)
}

impl Core {
    /// WRITE through an fd with O_APPEND.
    pub(super) async fn append(
        self: &Arc<Self>,
        context: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        let placed = self
            .on_file(context, Target::Fd(fd), Family::Change, xdata.clone(), |child, xdata, _| {
                let data = data.clone();
                async move {
                    let reply = child.writev(context, fd, data, offset, flags, xdata).await?;
                    Ok(Placed { child, reply })
                }
            })
            .await?;
        if self.only().is_some() || !is_moving(&placed.reply) {
            return Ok(placed.reply);
        }
        let at = self.index_of(placed.child.name().as_bytes()).unwrap_or_default();
        let mode = placed.reply.post.mode;
        if placed.reply.pre.mode == mode && self.has_bits_of_user(context, Target::Fd(fd), at, mode).await {
            return Ok(placed.reply);
        }
        let mut data = data.concat();
        data.truncate(placed.reply.written);
        let append = Append {
            core: self.clone(),
            context: context.clone(),
            root: as_root(context),
            fd: fd.clone(),
            data: data.into(),
            puts: Vec::new(),
            xdata,
        };
        to_the_end(self, "append to a file that moves", append.run(at, placed.reply)).await
    }
}

impl Append {
    /// Sees to it that what a subvolume has answered so holds wherever the file is in the end.
    async fn run(mut self, was_at: usize, first: WriteReply) -> FopResult<WriteReply> {
        let core = self.core.clone();
        self.note(was_at, &first).await;
        let until = core.clock.now() + PATIENCE;
        let mut at = was_at;
        loop {
            let home = match core.settle(&self.context, Target::Fd(&self.fd), at).await? {
                Found::Home(home) => home,
                Found::Nameless(index) => {
                    let data = [self.data.clone()].into();
                    return core.child(index).writev(&self.context, &self.fd, data, 0, 0, self.xdata).await;
                }
                Found::Removed(error) if self.puts.iter().all(|put| put.on_linkto) => return Err(error),
                Found::Removed(_) => return Ok(hidden(first)),
            };
            at = home.at;
            let outcome = self.at_home(&home, core.clock.now() < until).await;
            let stat = home.stat;
            // If that fails, the next fop finds out.
            let _ = home.lead(&self.context, &self.fd, was_at, first.post.nlink == 0).await;
            home.leave().await;
            match outcome? {
                Outcome::There => {
                    return Ok(WriteReply { written: first.written, pre: stat, post: stat, xdata: Dict::NULL });
                }
                Outcome::Appended(answer) if !is_moving(&answer) => return Ok(*answer),
                Outcome::Appended(answer) => self.note(at, &answer).await,
                Outcome::TooEarly => core.clock.sleep(PAUSE).await,
            }
        }
    }

    /// Remembers what a subvolume has done.
    async fn note(&mut self, at: usize, answer: &WriteReply) {
        let appended = Appended::new(answer, self.data.clone());
        let place = match appended.is_alone() {
            true => Some(appended.region()),
            false => match self.core.open_anew(&self.root, &self.fd.inode, at, libc::O_RDONLY).await {
                Ok(file) => read(self.core.child(at), &self.root, &file, appended.region())
                    .await
                    .and_then(|region| appended.find(&region)),
                Err(_) => None,
            },
        };
        self.puts.push(Put { at, appended, place, on_linkto: is_on_linkto(answer) });
    }

    /// Appends it where the file is, unless it is there.
    async fn at_home(&self, home: &Home, patient: bool) -> FopResult<Outcome> {
        let mut early = false;
        for put in &self.puts {
            match self.verdict(home, put).await {
                Verdict::Done => return Ok(Outcome::There),
                Verdict::Wait => early = true,
                Verdict::Append => {}
            }
        }
        if early && patient {
            return Ok(Outcome::TooEarly);
        }
        let (child, data) = (self.core.child(home.at), [self.data.clone()].into());
        let answer = child.writev(&self.context, &home.file, data, home.stat.size, 0, self.xdata.clone()).await?;
        Ok(Outcome::Appended(Box::new(answer)))
    }

    /// Whether what was put somewhere is in the file.
    async fn verdict(&self, home: &Home, put: &Put) -> Verdict {
        // Also where it was put: the file may have gone without it, and have come back.
        if put.on_linkto && put.at != home.at {
            return Verdict::Append;
        }
        let region = put.place.clone().unwrap_or(put.appended.region());
        let size = home.stat.size;
        let found = match region.start < size {
            true => read(self.core.child(home.at), &self.root, &home.file, region.start..size.min(region.end)).await,
            false => Some(Bytes::new()),
        };
        match (&put.place, found) {
            (Some(place), Some(found)) => match put.appended.verdict(size, place, &found) {
                Verdict::Wait if put.on_linkto => Verdict::Append,
                verdict => verdict,
            },
            (None, Some(found)) if put.appended.find(&found).is_some() => Verdict::Done,
            _ => Verdict::Append,
        }
    }
}

fn hidden(mut reply: WriteReply) -> WriteReply {
    reply.hide();
    reply
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
        Appended::new(&answer, Bytes::from_static(b"abcd"))
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
            ("012a", Append, "another one was faster, and begins like it"),
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
        let one = Appended::new(&answer, Bytes::from_static(b"ab"));
        assert_eq!((one.region(), one.find(b"x")), (0..1, None), "it was truncated at the same time");
    }
}
