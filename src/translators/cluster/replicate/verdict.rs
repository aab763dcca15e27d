//! What the answers of all copies to one change mean (`afr_handle_quorum`, `afr_set_in_flight_sb_status`).

use super::child_set::ChildSet;
use super::quorum::Quorum;

/// What is known when the last copy has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Number of copies in all.
    pub(super) count: usize,
    /// Client quorum.
    pub(super) quorum: Quorum,
    /// Copies to which the change was sent.
    pub(super) sent: ChildSet,
    /// Copies that did all of it.
    pub(super) done: ChildSet,
    /// All copies failed for the same reason, which is theirs and not the network's.
    pub(super) symmetric: bool,
    /// Copies that were good before the change; `None` where that does not matter (names in directories).
    pub(super) good: Option<ChildSet>,
}

/// What becomes of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done; `failed` copies missed it, and the others must say so before the application hears of success.
    Done {
        /// Copies that missed it.
        failed: ChildSet,
    },
    /// No copy did it, for the same reason: nothing happened.
    Refused,
    /// Some copies may have done it, too few or the wrong ones for success: the mark that something was begun stays, and
    /// nobody accuses anybody, for elsewhere another client may see just the other copies.
    Unclear,
}

/// Judges a change.
pub(super) fn judge(facts: &Facts) -> Verdict {
    if facts.symmetric {
        return Verdict::Refused;
    }
    let good_copy_has_it = facts.good.is_none_or(|good| !good.and(facts.done).is_empty());
    if facts.done.is_empty() || !facts.quorum.met(facts.done, facts.count) || !good_copy_has_it {
        return Verdict::Unclear;
    }
    Verdict::Done { failed: facts.sent.minus(facts.done) }
}

/// Whether the arbiter allows a change to be sent (`afr_txn_arbitrate_fop`): not when the arbiter is the only copy that
/// nobody accuses, for it has no data. `accused` is what the copies say in their changelogs.
pub(super) fn arbiter_allows(copies: ChildSet, accused: ChildSet, arbiter: usize) -> bool {
    let sources = copies.minus(accused);
    sources.len() >= 2 || !sources.contains(arbiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: u16) -> ChildSet {
        ChildSet(bits)
    }

    #[test]
    fn table() {
        let all = ChildSet::all(3);
        for (sent, done, symmetric, good, expected) in [
            (0b111, 0b111, false, 0b111, Verdict::Done { failed: ChildSet::EMPTY }),
            (0b111, 0b011, false, 0b111, Verdict::Done { failed: set(0b100) }),
            (0b011, 0b011, false, 0b011, Verdict::Done { failed: ChildSet::EMPTY }),
            // Quorum is lost in the operation.
            (0b111, 0b001, false, 0b111, Verdict::Unclear),
            (0b111, 0, false, 0b111, Verdict::Unclear),
            (0b111, 0, true, 0b111, Verdict::Refused),
            // The only good copy missed it.
            (0b111, 0b110, false, 0b001, Verdict::Unclear),
            (0b111, 0b110, false, 0b011, Verdict::Done { failed: set(0b001) }),
        ] {
            let facts = Facts {
                count: 3,
                quorum: Quorum::Auto,
                sent: set(sent),
                done: set(done),
                symmetric,
                good: Some(set(good)),
            };
            assert_eq!(judge(&facts), expected, "{facts:?}");
        }
        let without_quorum = Facts {
            count: 2,
            quorum: Quorum::None,
            sent: ChildSet::all(2),
            done: set(0b10),
            symmetric: false,
            good: None,
        };
        assert_eq!(judge(&without_quorum), Verdict::Done { failed: set(0b01) });
        assert!(arbiter_allows(all, set(0b001), 2));
        assert!(!arbiter_allows(all, set(0b011), 2));
        assert!(!arbiter_allows(set(0b110), set(0b010), 2));
        assert!(arbiter_allows(set(0b011), set(0b001), 2));
        assert!(arbiter_allows(set(0b011), set(0b011), 2), "another gate refuses that");
    }
}
