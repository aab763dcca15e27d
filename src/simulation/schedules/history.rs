//! What was written when, by whom, and whether it was acknowledged; and from that, what a read may see.
//!
//! Every value that is ever written is unique. A write may take effect at any moment from its begin to its end. One that
//! failed may still have reached a copy, and may be seen from then on or not, until something newer was acknowledged.
//! What was acknowledged must be seen, unless something else was written at the same time or later.
//!
//! One case is softer, because the protocol is: what a brick missed that was away from the beginning of a write is noted
//! on the others only with the post-operation, up to a second after the write was acknowledged. Until then a client that
//! sees that brick may read the old content there; and when the writer dies before, until the copies were healed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rgfs_protocol::Gfid;

use super::durability::{Change, Durability, Power};

/// Values from here on are those of truncations: they read as 0, like what was never written.
pub(super) const EMPTY: u64 = 1 << 40;

/// Something that holds one value at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    /// A piece of a file.
    Region(usize),
    /// The uid of a file.
    Owner,
    /// An xattr of a file.
    Xattr,
}

/// A field of a file.
pub(super) type Register = (usize, Field);

#[derive(Clone, Copy, Debug)]
struct Write {
    value: u64,
    begin: u64,
    end: Option<u64>,
    acknowledged: bool,
    /// Who wrote, and when it ended.
    by: Writer,
    ended: Duration,
    /// What it is to a power cut, and whether it was synced since.
    change: Change,
    synced: bool,
}

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer {
    /// Which client.
    pub(super) client: usize,
    /// It saw all bricks, both when it began and when it ended.
    pub(super) saw_all: bool,
}

/// How much a read must know.
#[derive(Clone, Copy, Debug)]
pub(super) enum Strictness {
    /// Everything.
    Full,
    /// All but what was acknowledged lately without all bricks. The time now.
    Settled(Duration),
}

/// Longer than the marks of a write without all bricks may take.
pub(super) const SETTLED: Duration = Duration::from_secs(4);

impl Write {
    fn begun(by: Writer, value: u64, begin: u64) -> Self {
        let change = if value >= EMPTY { Change::Size } else { Change::Lasting };
        Write { value, begin, end: None, acknowledged: false, by, ended: Duration::ZERO, change, synced: false }
    }

    fn over(&mut self, by: Writer, end: u64, acknowledged: bool, now: Duration) {
        self.by.saw_all &= by.saw_all;
        (self.end, self.acknowledged, self.ended) = (Some(end), acknowledged, now);
    }

    /// Whether everybody must know of it.
    fn binds(&self, strictness: Strictness, state: &State) -> bool {
        let unsettled = |now| self.change != Change::Lasting && state.durability.is_unsettled(now);
        state.durability.is_promised(self.change, self.synced)
            && match strictness {
                Strictness::Settled(now) if unsettled(now) => false,
                _ if self.by.saw_all => true,
                Strictness::Full => true,
                Strictness::Settled(now) => self.ended + SETTLED < now && !state.crashed.contains(&self.by.client),
            }
    }

    /// That client asked for a sync, and was told that it is done.
    fn note_sync(&mut self, client: usize, sync: u64, durability: &Durability) {
        let is_older = self.by.client == client && self.acknowledged && self.end.is_some_and(|end| end < sync);
        self.synced |= is_older && durability.is_synced(self.begin, sync);
    }
}

#[derive(Default)]
struct State {
    moment: u64,
    values: u64,
    registers: BTreeMap<Register, Vec<Write>>,
    /// Records of logs: (log, record).
    records: BTreeMap<(usize, u64), Write>,
    crashed: BTreeSet<usize>,
    durability: Durability,
    /// Changes of names and attributes that have begun and not ended, by number.
    unmarked: BTreeMap<u64, (Gfid, Unmarked)>,
    /// Renames that have begun and not ended: what is moved, and where to.
    moving: BTreeMap<u64, (Gfid, (Gfid, String))>,
    /// Files whose owner removed them, and was not told that they are gone.
    doomed: BTreeSet<Gfid>,
    /// Names in directories that somebody tried to change, and was not told that it was done.
    undone: BTreeSet<(Gfid, String)>,
    log: Vec<String>,
    violations: Vec<String>,
}

/// All that the clients of a cluster did.
#[derive(Clone, Default)]
pub(super) struct History(Arc<Mutex<State>>);

/// Changes that begin without a mark while all bricks are there: when a client dies in the middle of one, the copies may
/// differ, and none of them knows. Only a client that looks finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unmarked {
    /// Names in a directory.
    Names,
    /// Attributes.
    Attributes,
}

/// While it lives, a change is under way; for ever, when its client dies.
pub(super) struct UnderWay(History, Vec<u64>);

impl UnderWay {
    /// Its owner was told that nobody knows what came of it. That stays so for ever, too.
    pub(super) fn stays_unknown(mut self) {
        self.1.clear();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        for number in &self.1 {
            state.unmarked.remove(number);
            state.moving.remove(number);
        }
    }
}

/// A change of a name that has begun.
pub(super) struct Try(Option<(History, (Gfid, String))>);

impl Try {
    /// It was acknowledged. An earlier one of that name that failed stays noted.
    pub(super) fn done(self) {
        if let Some((history, at)) = self.0 {
            history.state().undone.remove(&at);
        }
    }
}

/// A write that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    register: Register,
    at: usize,
}

impl History {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment later than all before it.
    pub(super) fn moment(&self) -> u64 {
        let mut state = self.state();
        state.moment += 1;
        state.moment
    }

    /// A value that was never written before; never 0, which stands for "nothing was written".
    pub(super) fn value(&self) -> u64 {
        let mut state = self.state();
        state.values += 1;
        state.values
    }

    /// Notes what happens, for people.
    pub(super) fn note(&self, text: String) {
        self.state().log.push(text);
    }

    /// The notes so far.
    pub(super) fn notes(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Something happened that must never happen.
    pub(super) fn violation(&self, text: String) {
        let mut state = self.state();
        state.log.push(format!("VIOLATION: {text}"));
        state.violations.push(text);
    }

    /// What happened that must never happen.
    pub(super) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// A write of `value` begins.
    pub(super) fn begin(&self, by: Writer, register: Register, value: u64) -> Begun {
        let begin = self.moment();
        let mut state = self.state();
        let writes = state.registers.entry(register).or_default();
        writes.push(Write::begun(by, value, begin));
        Begun { register, at: writes.len() - 1 }
    }

    /// It ended.
    pub(super) fn end(&self, by: Writer, begun: Begun, acknowledged: bool, now: Duration) {
        let end = self.moment();
        if let Some(writes) = self.state().registers.get_mut(&begun.register) {
            writes[begun.at].over(by, end, acknowledged, now);
        }
    }

    /// It changed bytes of a file in a way that a power cut may undo; `synced` when they were on disk with the answer.
    pub(super) fn fades(&self, begun: Begun, change: Change, synced: bool) {
        if let Some(writes) = self.state().registers.get_mut(&begun.register) {
            (writes[begun.at].change, writes[begun.at].synced) = (change, synced);
        }
    }

    /// A client synced a file; it asked at `sync`, and was told that it is done.
    pub(super) fn synced(&self, client: usize, file: usize, sync: u64) {
        let mut state = self.state();
        let State { registers, durability, .. } = &mut *state;
        let regions = (file, Field::Region(0))..(file, Field::Owner);
        for write in registers.range_mut(regions).flat_map(|(_, writes)| writes) {
            write.note_sync(client, sync, durability);
        }
    }

    /// The same for a log.
    pub(super) fn log_synced(&self, client: usize, log: usize, sync: u64) {
        let mut state = self.state();
        let State { records, durability, .. } = &mut *state;
        for (_, write) in records.range_mut((log, 0)..(log + 1, 0)) {
            write.note_sync(client, sync, durability);
        }
    }

    /// Which power cuts the schedule has.
    pub(super) fn expect_power_cuts(&self, power: Power) {
        self.state().durability.power = power;
    }

    /// A brick loses power.
    pub(super) fn power_cut(&self, now: Duration) {
        let moment = self.moment();
        self.state().durability.cut(moment, now);
    }

    /// Whether a change of the bytes of a file may have been lost on a brick, and none of them tell.
    pub(super) fn may_differ(&self, file: usize) -> bool {
        let state = self.state();
        let mut writes = state.registers.range((file, Field::Region(0))..(file + 1, Field::Region(0)));
        writes.any(|(_, writes)| writes.iter().any(|write| !state.durability.is_promised(write.change, write.synced)))
    }

    /// The same for a log.
    pub(super) fn log_may_differ(&self, log: usize) -> bool {
        let state = self.state();
        let mut records = state.records.range((log, 0)..(log + 1, 0));
        records.any(|(_, write)| !state.durability.is_promised(write.change, write.synced))
    }

    /// A read that began at `begin` saw `value`.
    pub(super) fn check(&self, who: &str, register: Register, value: u64, (begin, strictness): (u64, Strictness)) {
        let complaint = {
            let state = self.state();
            let writes = state.registers.get(&register).map_or(&[][..], Vec::as_slice);
            complaint(writes, value, begin, |write| write.binds(strictness, &state))
        };
        if let Some(complaint) = complaint {
            self.violation(format!("{who}: {register:?} is {value}: {complaint}"));
        }
    }

    /// A change of these objects begins, and ends when what is returned is dropped.
    pub(super) fn unmarked(&self, what: Unmarked, objects: &[Gfid]) -> UnderWay {
        let numbers = objects.iter().map(|gfid| {
            let number = self.moment();
            self.state().unmarked.insert(number, (*gfid, what));
            number
        });
        UnderWay(self.clone(), numbers.collect())
    }

    /// A rename begins, and ends when what is returned is dropped.
    pub(super) fn moves(&self, moved: Gfid, directory: Gfid, name: &str) -> UnderWay {
        let number = self.moment();
        self.state().moving.insert(number, (moved, (directory, name.to_owned())));
        UnderWay(self.clone(), vec![number])
    }

    /// Renames that never ended, because their clients died, or of which it is not known what came of them.
    pub(super) fn half_moved(&self) -> Vec<(Gfid, (Gfid, String))> {
        self.state().moving.values().cloned().collect()
    }

    /// What changes that never ended were about.
    pub(super) fn never_ended(&self) -> BTreeSet<(Gfid, Unmarked)> {
        self.state().unmarked.values().copied().collect()
    }

    /// Notes a change of a name that was not done, as far as its owner knows: take it when it begins, and say when it is done.
    pub(super) fn tries(&self, directory: Gfid, name: &str) -> Try {
        let at = (directory, name.to_owned());
        let is_new = self.state().undone.insert(at.clone());
        Try(is_new.then(|| (self.clone(), at)))
    }

    /// Names of which a change failed or never ended: directory and name.
    pub(super) fn undone(&self) -> Vec<(Gfid, String)> {
        self.state().undone.iter().cloned().collect()
    }

    /// Whether a change of that name failed or never ended.
    pub(super) fn is_undone(&self, directory: Gfid, name: &[u8]) -> bool {
        let Ok(name) = std::str::from_utf8(name) else { return false };
        self.state().undone.contains(&(directory, name.to_owned()))
    }

    /// The only name of a file is about to be removed.
    pub(super) fn dooms(&self, gfid: Gfid) {
        self.state().doomed.insert(gfid);
    }

    /// It is removed.
    pub(super) fn removed(&self, gfid: Gfid) {
        self.state().doomed.remove(&gfid);
    }

    /// Forgets removals that `counts` says did nothing.
    pub(super) fn retain_doomed(&self, counts: impl FnMut(&Gfid) -> bool) {
        self.state().doomed.retain(counts);
    }

    /// Files whose removal failed or never ended.
    pub(super) fn doomed(&self) -> BTreeSet<Gfid> {
        self.state().doomed.clone()
    }

    /// A record is about to be appended to a log.
    pub(super) fn append(&self, by: Writer, log: usize, record: u64) {
        let begin = self.moment();
        self.state().records.insert((log, record), Write { change: Change::Size, ..Write::begun(by, record, begin) });
    }

    /// It was acknowledged.
    pub(super) fn appended(&self, by: Writer, log: usize, record: u64, now: Duration) {
        let end = self.moment();
        if let Some(write) = self.state().records.get_mut(&(log, record)) {
            write.over(by, end, true, now);
        }
    }

    /// A client died.
    pub(super) fn crashed(&self, client: usize) {
        self.state().crashed.insert(client);
    }

    /// A read of a log that began at `begin` saw these records.
    pub(super) fn check_log(&self, who: &str, log: usize, seen: &[u64], (begin, strictness): (u64, Strictness)) {
        let mut complaints = Vec::new();
        {
            let state = self.state();
            for ((_, record), write) in state.records.range((log, 0)..(log + 1, 0)) {
                let count = seen.iter().filter(|seen| *seen == record).count();
                if count > 1 {
                    complaints.push(format!("{who}: log {log} has record {record} {count} times"));
                } else if count == 0 && write.end.is_some_and(|end| end < begin) && write.binds(strictness, &state) {
                    complaints.push(format!("{who}: log {log} has lost record {record}"));
                }
            }
            for record in seen.iter().filter(|record| !state.records.contains_key(&(log, **record))) {
                complaints.push(format!("{who}: log {log} has record {record}, which nobody wrote"));
            }
        }
        complaints.into_iter().for_each(|complaint| self.violation(complaint));
    }
}

/// Why `value` cannot have been read by a read that began at `begin`.
fn complaint(writes: &[Write], value: u64, begin: u64, binds: impl Fn(&Write) -> bool) -> Option<String> {
    // When the write that it may come from was over; `None` while it is not.
    let mut sources: Vec<Option<u64>> = writes
        .iter()
        .filter(|write| if value == 0 { write.value >= EMPTY } else { write.value == value })
        .map(|write| write.end)
        .collect();
    if value == 0 {
        sources.push(Some(0));
    }
    let mut complaint = "nobody wrote that".to_owned();
    for over in sources {
        let newer = writes.iter().find(|write| {
            write.acknowledged
                && write.end.is_some_and(|end| end < begin)
                && over.is_some_and(|over| write.begin > over)
                && binds(write)
        });
        match newer {
            None => return None,
            Some(newer) => complaint = format!("{} was acknowledged since", newer.value),
        }
    }
    Some(complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYBODY: Writer = Writer { client: 0, saw_all: true };
    const REGISTER: Register = (0, Field::Owner);

    impl History {
        fn write(&self, by: Writer, value: u64, acknowledged: bool) {
            self.end(by, self.begin(by, REGISTER, value), acknowledged, Duration::ZERO);
        }

        fn sees(&self, value: u64, strictness: Strictness) -> bool {
            let before = self.violations().len();
            self.check("r", REGISTER, value, (self.moment(), strictness));
            self.violations().len() == before
        }
    }

    #[test]
    fn an_acknowledged_write_hides_what_was_before_it() {
        let history = History::default();
        history.write(EVERYBODY, 1, true);
        history.write(EVERYBODY, 2, false);
        assert!(history.sees(1, Strictness::Full) && history.sees(2, Strictness::Full), "it failed: seen or not");
        let running = history.begin(EVERYBODY, REGISTER, 3);
        let fourth = history.begin(EVERYBODY, REGISTER, 4);
        let during = history.moment();
        history.end(EVERYBODY, fourth, true, Duration::ZERO);
        history.check("r", REGISTER, 2, (during, Strictness::Full));
        assert!(history.violations().is_empty() && history.sees(3, Strictness::Full));
        history.end(EVERYBODY, running, true, Duration::ZERO);
        for value in [0, 1, 2, 9] {
            assert!(!history.sees(value, Strictness::Full), "{value}");
        }
    }

    #[test]
    fn a_write_that_a_brick_missed_is_known_to_all_a_little_later() {
        let history = History::default();
        history.write(Writer { client: 1, saw_all: false }, 1, true);
        assert!(history.sees(0, Strictness::Settled(Duration::from_secs(1))));
        assert!(!history.sees(0, Strictness::Settled(Duration::from_secs(9))));
        history.crashed(1);
        assert!(history.sees(0, Strictness::Settled(Duration::from_secs(9))));
        assert!(!history.sees(0, Strictness::Full));
    }

    #[test]
    fn a_truncation_reads_as_nothing() {
        let history = History::default();
        history.write(EVERYBODY, 1, true);
        history.write(EVERYBODY, EMPTY + 2, true);
        assert!(history.sees(0, Strictness::Full));
        history.write(EVERYBODY, 3, true);
        assert!(!history.sees(0, Strictness::Full));
    }

    #[test]
    fn records_of_a_log_are_there_once() {
        let history = History::default();
        for record in [5, 6] {
            history.append(EVERYBODY, 0, record);
        }
        history.appended(EVERYBODY, 0, 5, Duration::ZERO);
        history.check_log("r", 0, &[5], (history.moment(), Strictness::Full));
        assert!(history.violations().is_empty());
        history.check_log("r", 0, &[6, 6, 7], (history.moment(), Strictness::Full));
        assert_eq!(history.violations().len(), 3);
    }
}
