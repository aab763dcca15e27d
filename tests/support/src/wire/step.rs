//! What was said in one step of a script: transactions, as each brick saw them, in a form that two clients can be compared by.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::Duration;

use super::describe::{self, Group};
use super::log::{Call, Names};

pub use super::describe::Phase;

/// All transactions of one step.
#[derive(Debug, Clone)]
pub struct Step {
    name: String,
    lines: Vec<Line>,
}

/// One call, described.
#[derive(Debug, Clone)]
struct Line {
    call: Call,
    group: Group,
    phase: Phase,
    /// The call and the class of its owner.
    text: String,
    answer: String,
}

impl Step {
    pub(super) fn new(name: &str, calls: Vec<Call>, names: Names) -> Self {
        // The owner of the lock that each transaction holds at each brick.
        let mut holders: HashMap<(usize, Group), bytes::Bytes> = HashMap::new();
        let mut lines = Vec::new();
        for call in calls {
            let Some(describe::Description { group, phase, text }) = describe::describe(&call, &names) else {
                continue;
            };
            let lock_letter = if group == Group::Entry { "T" } else { "I" };
            let key = (call.brick, group.clone());
            let owner = match (phase, holders.get(&key)) {
                (Phase::Lock, _) if call.owner.iter().all(|&byte| byte == 0) => "none",
                (Phase::Lock, _) => {
                    holders.insert(key, call.owner.clone());
                    lock_letter
                }
                (_, Some(holder)) if *holder == call.owner => lock_letter,
                (Phase::Unlock, _) => "?",
                _ => "A",
            };
            let (text, answer) = (format!("{text}  {owner}"), describe::answer(&call));
            lines.push(Line { call, group, phase, text, answer });
        }
        Self { name: name.to_owned(), lines }
    }

    /// The name that the script gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, without the calls for which `left_out` says so (it sees one line each).
    pub fn text(&self, left_out: impl Fn(&str) -> bool) -> String {
        let mut sequences: BTreeMap<Group, BTreeMap<usize, Vec<&Line>>> = BTreeMap::new();
        for line in self.lines.iter().filter(|line| !left_out(&line.text)) {
            sequences.entry(line.group.clone()).or_default().entry(line.call.brick).or_default().push(line);
        }
        let mut text = String::new();
        for (group, bricks) in sequences {
            let mut blocks: Vec<(Vec<usize>, Vec<String>)> = Vec::new();
            for (brick, lines) in bricks {
                let lines = canonical(&lines);
                match blocks.iter_mut().find(|(_, known)| *known == lines) {
                    Some((bricks, _)) => bricks.push(brick),
                    None => blocks.push((vec![brick], lines)),
                }
            }
            for (bricks, lines) in blocks {
                let bricks: Vec<String> = bricks.iter().map(|brick| format!("C{brick}")).collect();
                let _ = writeln!(text, "{} {}", bricks.join(" "), group.title());
                for line in lines {
                    let _ = writeln!(text, "    {line}");
                }
            }
        }
        text
    }

    /// What one brick was told, call by call in the order of sending.
    pub fn lines(&self, brick: usize) -> Vec<String> {
        let of_brick = self.lines.iter().filter(|line| line.call.brick == brick);
        of_brick.map(|line| format!("{} -> {}", line.text, line.answer)).collect()
    }

    /// Where a phase of a transaction began before every brick had answered the one before; empty when all is in order.
    pub fn disorder(&self) -> Vec<String> {
        let mut transactions: HashMap<&Group, Vec<&Line>> = HashMap::new();
        let mut found = Vec::new();
        for line in self.lines.iter().filter(|line| line.phase != Phase::Outside) {
            let transaction = transactions.entry(&line.group).or_default();
            let begun = |phase| transaction.iter().any(|earlier| earlier.phase == phase);
            // A lock after an unlock, or a mark after a last word, begins the next transaction on this object.
            let again = match line.phase {
                Phase::Lock => begun(Phase::Unlock),
                Phase::PreOp => begun(Phase::PostOp),
                _ => false,
            };
            if again {
                transaction.clear();
            }
            for earlier in transaction.iter() {
                if earlier.phase > line.phase {
                    found.push(format!("'{}' came after '{}'", line.text, earlier.text));
                } else if earlier.phase < line.phase && answered_after(earlier, line) {
                    found.push(format!("'{}' did not wait for the answer to '{}'", line.text, earlier.text));
                }
            }
            transaction.push(line);
        }
        found
    }

    /// From the last answer to an operation whose line contains `what` to the first post-op after it.
    pub fn rest_before_post_op(&self, what: &str) -> Option<Duration> {
        let answers = self.lines.iter().filter(|line| line.phase == Phase::Op && line.text.contains(what));
        let last = answers.filter_map(|line| line.call.answer.as_ref()).max_by_key(|answer| answer.seen)?;
        let next = self.lines.iter().find(|line| line.phase == Phase::PostOp && line.call.sent > last.seen)?;
        Some(next.call.sent_at.saturating_duration_since(last.seen_at))
    }
}

fn answered_after(earlier: &Line, line: &Line) -> bool {
    earlier.call.answer.as_ref().is_some_and(|answer| answer.seen > line.call.sent)
}

/// The lines in the order of sending, but neighbours of one fop and phase sorted, and so are their answers: of calls that go out
/// together it is left to chance which is first.
fn canonical(lines: &[&Line]) -> Vec<String> {
    let alike =
        |a: &&Line, b: &&Line| a.phase == b.phase && a.call.procedure == b.call.procedure && a.phase != Phase::Op;
    let mut texts = Vec::new();
    for run in lines.chunk_by(alike) {
        let mut calls: Vec<&str> = run.iter().map(|line| line.text.as_str()).collect();
        let mut answers: Vec<&str> = run.iter().map(|line| line.answer.as_str()).collect();
        calls.sort_unstable();
        answers.sort_unstable();
        texts.extend(calls.iter().zip(answers).map(|(call, answer)| format!("{call} -> {answer}")));
    }
    texts
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use rgfs_protocol::fops::{Procedure, Request, request};
    use rgfs_protocol::types::{Flock, InodelkCmd, LockType, XattropFlags};
    use rgfs_protocol::{Dict, Gfid, Value};

    use super::super::log::{Answer, Call, Names};
    use super::Step;

    /// A call to a brick that was sent and answered then.
    fn call(brick: usize, request: Request, owner: &'static [u8], sent: u64, seen: u64) -> Call {
        let now = Instant::now();
        let answer = Answer { outcome: Ok(0), xdata: Dict::NULL, seen, seen_at: now };
        let procedure: Procedure = request.procedure();
        let owner = Bytes::from_static(owner);
        Call { brick, procedure, request, data: 0, owner, pid: 0, sent, sent_at: now, answer: Some(answer) }
    }

    fn lock(kind: LockType) -> Request {
        let flock = Flock { kind, ..Flock::none() };
        let volume = Bytes::from_static(b"v-replicate-0");
        let cmd = InodelkCmd::SetLk;
        Request::Inodelk(request::Inodelk { gfid: Gfid::ROOT, cmd, kind, flock, volume, xdata: Dict::NULL })
    }

    fn mark(data: i32) -> Request {
        let value = [data.to_be_bytes(), [0; 4], [0; 4]].concat();
        let dict = Dict::NULL.with("trusted.afr.dirty", Value::Ptr(value.into()));
        let flags = XattropFlags::AddArray;
        Request::Xattrop(request::Xattrop { gfid: Gfid::ROOT, flags, dict, xdata: Dict::NULL })
    }

    fn truncate() -> Request {
        Request::Truncate(request::Truncate { gfid: Gfid::ROOT, offset: 5, xdata: Dict::NULL })
    }

    fn step(calls: Vec<Call>) -> Step {
        Step::new("test", calls, Names::default())
    }

    #[test]
    fn a_transaction_is_told_with_the_classes_of_owners() {
        let step = step(vec![
            call(0, lock(LockType::Write), b"1", 1, 2),
            call(0, mark(1), b"1", 3, 4),
            call(0, truncate(), b"2", 5, 6),
            call(0, mark(-1), b"1", 7, 8),
            call(0, lock(LockType::Unlock), b"3", 9, 10),
        ]);
        assert_eq!(
            step.text(|_| false),
            "C0 data /\n    INODELK / SETLK WR 0,0 v-replicate-0  I -> 0\n    XATTROP / AddArray {dirty[1,0,0]}  I -> 0\n    \
             TRUNCATE / off=5  A -> 0\n    XATTROP / AddArray {dirty[-1,0,0]}  I -> 0\n    \
             INODELK / SETLK UNLCK 0,0 v-replicate-0  ? -> 0\n"
        );
        assert_eq!(step.disorder(), Vec::<String>::new());
    }

    #[test]
    fn no_phase_begins_before_all_bricks_answered_the_one_before() {
        let early = step(vec![
            call(0, lock(LockType::Write), b"1", 1, 3),
            call(1, lock(LockType::Write), b"1", 2, 5),
            call(0, mark(1), b"1", 4, 6),
        ]);
        assert_eq!(early.disorder().len(), 1, "{:?}", early.disorder());
        let turned = step(vec![call(0, mark(1), b"1", 1, 2), call(0, lock(LockType::Write), b"1", 3, 4)]);
        assert_eq!(turned.disorder().len(), 1, "{:?}", turned.disorder());
    }
}
