//! What a client knows of its thin arbiter (`afr_ta_set_fop_state`, `afr_ta_process_onwireq`,
//! `afr_handle_inodelk_contention`). Decisions without I/O.
//!
//! Two copies alone cannot tell which of them is the good one when each was seen without the other. A thin arbiter keeps
//! one file for all files of a replica set, and on it one fact: which copy missed something. It never says that of both,
//! so a change that only one copy made succeeds only if the thin arbiter agrees that the other one may be called bad.
//!
//! Its answer is remembered, so that not every change must ask. While it is remembered a lock is held on the arbiter's
//! file, one byte that nobody else has. A healer that wants to call both copies good again asks for the lock on all bytes;
//! the brick tells those who hold a byte. They let what goes by the answer come to its end, forget the answer, and give
//! the lock back. An answer that outlived its lock would let a stale copy be taken for the good one.

/// Advice to a change that only one copy made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// It succeeds; say [`Knowledge::finished`] when it is noted on the copy.
    Agreed,
    /// Only the bad copy made it: it fails.
    Refused,
    /// Ask the thin arbiter, and say [`Knowledge::answered`].
    Ask,
    /// Somebody asks, or the answer is being forgotten: wait to be woken, and come again.
    Wait,
    /// The thin arbiter cannot be reached.
    Down,
}

/// What the thin arbiter said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The copy that missed something.
    pub(super) bad: usize,
    /// The byte of the lock under which it was said, and which is still held.
    pub(super) lock: u64,
}

/// What the one who asked does with the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard<W> {
    /// What becomes of its own change; `None` when the connection is another one by now, and the answer worth nothing.
    pub(super) agreed: Option<bool>,
    /// The lock to give back; say [`Knowledge::released`] then.
    pub(super) release: Option<u64>,
    /// Changes to be woken.
    pub(super) wake: Vec<W>,
}

/// How a change that went by the answer ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// The answer was true until the end.
    pub(super) valid: bool,
    /// The lock to give back; say [`Knowledge::released`] then.
    pub(super) release: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unknown,
    /// One request is on the wire. It will be forgotten after the change that asked.
    Asking {
        forget: bool,
    },
    Known {
        answer: Answer,
        forget: bool,
    },
    /// The lock is on its way back.
    Releasing,
}

/// The memory of one client. `W` is whatever wakes a waiting change.
#[derive(Debug)]
pub(super) struct Knowledge<W> {
    phase: Phase,
    up: bool,
    /// Number of the connection. Locks end with their connection, and so does all that was said under them.
    generation: u32,
    /// Changes that go by the answer.
    running: usize,
    waiting: Vec<W>,
}

impl<W> Default for Knowledge<W> {
    fn default() -> Self {
        Knowledge { phase: Phase::Unknown, up: false, generation: 0, running: 0, waiting: Vec::new() }
    }
}

impl<W> Knowledge<W> {
    /// The connection came or went. Returns whom to wake.
    pub(super) fn connected(&mut self, up: bool) -> Vec<W> {
        if up == self.up {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        *self = Knowledge { up, generation: self.generation.wrapping_add(1), ..Knowledge::default() };
        waiting
    }

    /// True when the thin arbiter can be asked.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// Number of the connection, for what is said later.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// A change was made by one copy, and missed by `failed`. `waker` is asked for when it has to wait.
    pub(super) fn consult(&mut self, failed: usize, waker: impl FnOnce() -> W) -> Advice {
        if !self.up {
            return Advice::Down;
        }
        match self.phase {
            Phase::Unknown => {
                self.phase = Phase::Asking { forget: false };
                Advice::Ask
            }
            Phase::Known { answer, forget: false } if answer.bad == failed => {
                self.running += 1;
                Advice::Agreed
            }
            Phase::Known { forget: false, .. } => Advice::Refused,
            Phase::Asking { .. } | Phase::Known { forget: true, .. } | Phase::Releasing => {
                self.waiting.push(waker());
                Advice::Wait
            }
        }
    }

    /// The thin arbiter answered the change that `failed` missed, or not; in that case no lock is held.
    pub(super) fn answered(&mut self, generation: u32, failed: usize, answer: Option<Answer>) -> Heard<W> {
        let Phase::Asking { forget } = self.phase else {
            return Heard { agreed: None, release: None, wake: Vec::new() };
        };
        if generation != self.generation {
            return Heard { agreed: None, release: None, wake: Vec::new() };
        }
        let Some(answer) = answer else {
            self.phase = Phase::Unknown;
            return Heard { agreed: Some(false), release: None, wake: std::mem::take(&mut self.waiting) };
        };
        let agreed = answer.bad == failed;
        self.phase = Phase::Known { answer, forget };
        self.running += usize::from(agreed);
        let wake = if forget { Vec::new() } else { std::mem::take(&mut self.waiting) };
        Heard { agreed: Some(agreed), release: self.try_release(), wake }
    }

    /// A change that was agreed to is noted on the copy that made it.
    pub(super) fn finished(&mut self, generation: u32) -> Finished {
        if generation != self.generation {
            return Finished { valid: false, release: None };
        }
        self.running = self.running.saturating_sub(1);
        Finished { valid: true, release: self.try_release() }
    }

    /// A healer wants the lock. Returns the lock if it must be given back at once; say [`Knowledge::released`] then.
    pub(super) fn contended(&mut self) -> Option<u64> {
        match &mut self.phase {
            Phase::Asking { forget } | Phase::Known { forget, .. } => *forget = true,
            Phase::Unknown | Phase::Releasing => {}
        }
        self.try_release()
    }

    /// The lock was given back. Returns whom to wake.
    pub(super) fn released(&mut self, generation: u32) -> Vec<W> {
        if generation != self.generation || self.phase != Phase::Releasing {
            return Vec::new();
        }
        self.phase = Phase::Unknown;
        std::mem::take(&mut self.waiting)
    }

    fn try_release(&mut self) -> Option<u64> {
        match self.phase {
            Phase::Known { answer, forget: true } if self.running == 0 => {
                self.phase = Phase::Releasing;
                Some(answer.lock)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD_1: Option<Answer> = Some(Answer { bad: 1, lock: 7 });

    fn connected() -> Knowledge<u32> {
        let mut knowledge = Knowledge::default();
        assert_eq!(knowledge.consult(1, || 0), Advice::Down);
        assert!(knowledge.connected(true).is_empty() && knowledge.is_up());
        knowledge
    }

    /// Asked for a change that copy 1 missed, with this answer.
    fn asked(answer: Option<Answer>) -> (Knowledge<u32>, Heard<u32>) {
        let mut knowledge = connected();
        assert_eq!(knowledge.consult(1, || 0), Advice::Ask);
        let heard = knowledge.answered(1, 1, answer);
        (knowledge, heard)
    }

    fn heard(agreed: Option<bool>, release: Option<u64>, wake: &[u32]) -> Heard<u32> {
        Heard { agreed, release, wake: wake.to_vec() }
    }

    #[test]
    fn an_answer_is_remembered() {
        let (mut knowledge, first) = asked(BAD_1);
        assert_eq!(first, heard(Some(true), None, &[]));
        assert_eq!(knowledge.consult(1, || 0), Advice::Agreed);
        assert_eq!(knowledge.consult(0, || 0), Advice::Refused);
        for _ in 0..2 {
            assert_eq!(knowledge.finished(1), Finished { valid: true, release: None });
        }
        assert_eq!(knowledge.consult(1, || 0), Advice::Agreed, "also when nothing runs");
    }

    #[test]
    fn a_refusal_says_that_the_other_copy_is_bad() {
        let (mut knowledge, first) = asked(Some(Answer { bad: 0, lock: 7 }));
        assert_eq!(first, heard(Some(false), None, &[]));
        assert_eq!(knowledge.consult(1, || 0), Advice::Refused);
        assert_eq!(knowledge.consult(0, || 0), Advice::Agreed);
    }

    #[test]
    fn one_asks_and_the_others_wait() {
        let mut knowledge = connected();
        assert_eq!(knowledge.consult(1, || 1), Advice::Ask);
        assert_eq!(knowledge.consult(1, || 2), Advice::Wait);
        assert_eq!(knowledge.consult(0, || 3), Advice::Wait);
        assert_eq!(knowledge.answered(1, 1, None), heard(Some(false), None, &[2, 3]));
        assert_eq!(knowledge.consult(1, || 2), Advice::Ask, "no answer: the next one asks");
        assert_eq!(knowledge.consult(0, || 3), Advice::Wait);
        assert_eq!(knowledge.answered(1, 1, BAD_1), heard(Some(true), None, &[3]));
        assert_eq!(knowledge.consult(0, || 3), Advice::Refused);
    }

    #[test]
    fn a_healer_gets_the_lock_when_the_last_change_is_over() {
        let (mut knowledge, _) = asked(BAD_1);
        assert_eq!(knowledge.consult(1, || 0), Advice::Agreed);
        assert_eq!(knowledge.contended(), None);
        assert_eq!(knowledge.consult(1, || 5), Advice::Wait);
        assert_eq!(knowledge.finished(1).release, None);
        assert_eq!(knowledge.contended(), None, "it is told twice");
        assert_eq!(knowledge.finished(1), Finished { valid: true, release: Some(7) });
        assert_eq!(knowledge.consult(0, || 6), Advice::Wait);
        assert_eq!(knowledge.contended(), None);
        assert_eq!(knowledge.released(1), [5, 6]);
        assert_eq!(knowledge.consult(0, || 0), Advice::Ask, "it is forgotten");
    }

    #[test]
    fn a_healer_gets_the_lock_at_once_when_nothing_runs() {
        let (mut knowledge, _) = asked(BAD_1);
        knowledge.finished(1);
        assert_eq!(knowledge.contended(), Some(7));
        assert!(knowledge.released(1).is_empty());
        assert_eq!(connected().contended(), None, "nothing is held");
    }

    #[test]
    fn a_healer_that_comes_during_the_request_gets_the_lock_after_it() {
        for (bad, release) in [(1, None), (0, Some(7))] {
            let mut knowledge = connected();
            knowledge.consult(1, || 0);
            knowledge.consult(1, || 2);
            assert_eq!(knowledge.contended(), None);
            let answer = Some(Answer { bad, lock: 7 });
            assert_eq!(knowledge.answered(1, 1, answer), heard(Some(bad == 1), release, &[]));
            if bad == 1 {
                assert_eq!(knowledge.finished(1).release, Some(7));
            }
            assert_eq!(knowledge.released(1), [2]);
        }
    }

    #[test]
    fn nothing_is_known_over_another_connection() {
        let (mut knowledge, _) = asked(BAD_1);
        knowledge.contended();
        knowledge.consult(1, || 4);
        assert_eq!(knowledge.connected(false), [4]);
        assert!(knowledge.connected(false).is_empty());
        assert_eq!(knowledge.consult(1, || 0), Advice::Down);
        assert_eq!(knowledge.finished(1), Finished { valid: false, release: None });
        knowledge.connected(true);
        assert_eq!(knowledge.consult(0, || 0), Advice::Ask);
        assert_eq!(knowledge.answered(1, 1, BAD_1), heard(None, None, &[]), "an answer of the old one");
        assert!(knowledge.released(1).is_empty());
        assert_eq!(knowledge.consult(0, || 0), Advice::Wait, "the new one is still on the wire");
        let answer = Some(Answer { bad: 0, lock: 8 });
        assert_eq!(knowledge.answered(3, 0, answer), heard(Some(true), None, &[0]));
    }
}
