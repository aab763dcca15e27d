//! What all parts of a cluster share ([`World`]), and the record of every request that a client sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rgfs_protocol::{Dict, Errno, Gfid, Value};

use super::brick::Call;
use super::cluster::Timing;
use super::schedule::Schedule;
use super::storage::Object;

/// Time, chance, numbers and the record.
pub(crate) struct World {
    pub(super) schedule: Arc<Schedule>,
    pub(super) timing: Timing,
    recording: AtomicBool,
    trace: Mutex<Vec<Entry>>,
    next: AtomicU64,
}

/// A request in the record.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// When it was sent.
    pub(crate) at: Duration,
    /// Number of the event in which it was sent: those of one event are in parallel.
    pub(crate) event: u64,
    /// To which brick.
    pub(crate) brick: usize,
    /// What.
    pub(crate) call: Call,
    /// How it failed, if it did.
    pub(crate) failure: Option<Errno>,
    id: u64,
}

impl World {
    pub(super) fn new(seed: u64, timing: Timing) -> Arc<Self> {
        Arc::new(World {
            schedule: Schedule::new(seed),
            timing,
            recording: AtomicBool::new(timing == Timing::Instant),
            trace: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    /// A number that nothing else has.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn is_random(&self) -> bool {
        self.timing == Timing::Random
    }

    /// A coin; with fixed timing it always falls on the same side.
    pub(super) fn toss(&self) -> bool {
        self.is_random() && self.schedule.random(|random| random.chance(50))
    }

    /// How long a message is under way: mostly some microseconds, at times much longer, so that messages overtake.
    pub(super) fn delay(&self) -> Duration {
        if !self.is_random() {
            return Duration::ZERO;
        }
        self.schedule.random(|random| {
            let most = if random.chance(5) { 8000 } else { 300 };
            random.between(Duration::from_micros(20), Duration::from_micros(most))
        })
    }

    /// Lets `action` happen within `most`; with fixed timing at once.
    pub(super) fn soon(&self, most: Duration, action: impl FnOnce() + Send + 'static) {
        if self.is_random() {
            let delay = self.schedule.random(|random| random.between(Duration::ZERO, most));
            self.schedule.after(delay, action);
        } else {
            action();
        }
    }

    /// Whether requests are recorded.
    pub(super) fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    pub(super) fn record_from_now_on(&self, record: bool) {
        self.recording.store(record, Ordering::Relaxed);
    }

    pub(super) fn record(&self, id: u64, brick: usize, call: &Call) {
        if self.is_recording() {
            let (at, event) = (self.schedule.now(), self.schedule.happened());
            let entry = Entry { at, event, brick, call: call.clone(), failure: None, id };
            self.trace.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        }
    }

    /// A recorded request failed.
    pub(super) fn record_failure(&self, id: u64, errno: Errno) {
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = trace.iter_mut().rev().find(|entry| entry.id == id) {
            entry.failure = Some(errno);
        }
    }

    pub(super) fn take_trace(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.trace.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A changelog of an object: `who` is `dirty` or `v-client-N`. Zeros when there is none.
pub(crate) fn changelog(object: &Object, who: &str) -> [i32; 3] {
    let value = object.xattrs.get(&format!("trusted.afr.{who}"));
    value.and_then(|value| counters(&Value::Ptr(value.clone()))).unwrap_or_default()
}

/// The three counters of a changelog.
pub(crate) fn counters(value: &Value) -> Option<[i32; 3]> {
    let bytes = value.as_bytes()?;
    let number = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    (bytes.len() == 12).then_some(())?;
    Some([number(0)?, number(4)?, number(8)?])
}

impl Entry {
    /// Changelog deltas of an XATTROP by short key (`dirty`, `v-client-2`), those that are all zero left out.
    pub(crate) fn deltas(&self) -> BTreeMap<String, [i32; 3]> {
        let pairs = self.call.dict.iter().filter_map(|(key, value)| {
            let counters = counters(value).filter(|counters| *counters != [0; 3])?;
            Some((short_key(key), counters))
        });
        pairs.collect()
    }

    /// The request without its brick: `FXATTROP /f {dirty[1,0,0] …0} xdata{…}`. `name_of` tells how to call an object.
    pub(crate) fn line(&self, name_of: &dyn Fn(Gfid) -> String) -> String {
        let call = &self.call;
        let mut line = format!("{} {}", call.fop, name_of(call.gfid));
        if let Some(name) = &call.name {
            line += &format!(" {:?}", String::from_utf8_lossy(name));
        }
        if !call.detail.is_empty() {
            line += &format!(" {}", call.detail);
        }
        if !call.dict.is_empty() {
            line += &format!(" {}", render(&call.dict));
        }
        if !call.xdata.is_empty() {
            line += &format!(" xdata{}", render(&call.xdata));
        }
        line
    }
}

fn short_key(key: &[u8]) -> String {
    let key = String::from_utf8_lossy(key);
    key.strip_prefix("trusted.afr.").unwrap_or(&key).to_owned()
}

/// A dictionary in short: changelogs as counters, and those that are zero as `…0`.
pub(crate) fn render(dict: &Dict) -> String {
    let (mut shown, mut zeros) = (Vec::new(), false);
    for (key, value) in dict.iter() {
        match (counters(value), value) {
            (Some([0, 0, 0]), _) => zeros = true,
            (Some([d, m, e]), _) => shown.push(format!("{}[{d},{m},{e}]", short_key(key))),
            (None, Value::Int(number)) => shown.push(format!("{}={number}", short_key(key))),
            (None, Value::Uint(number)) => shown.push(format!("{}=u64 {number}", short_key(key))),
            (None, Value::Gfuuid(gfid)) => shown.push(format!("{}={gfid}", short_key(key))),
            (None, value) => {
                let text = value.as_bytes().unwrap_or_default();
                shown.push(format!("{}={:?}", short_key(key), String::from_utf8_lossy(&text)));
            }
        }
    }
    if zeros {
        shown.push("…0".to_owned());
    }
    format!("{{{}}}", shown.join(" "))
}

/// The record with equal requests that were sent to several bricks in one go as one line: `ENTRYLK 0,1,2 …`.
/// Requests of another client than the first are marked with its number.
pub(crate) fn merged(entries: &[Entry], name_of: &dyn Fn(Gfid) -> String) -> Vec<String> {
    struct Group {
        event: u64,
        bricks: Vec<usize>,
        client: usize,
        line: String,
    }
    let mut groups: Vec<Group> = Vec::new();
    for entry in entries {
        let line = entry.line(name_of);
        let same = groups.iter_mut().rev().take_while(|group| group.event == entry.event).find(|group| {
            group.client == entry.call.client && group.line == line && !group.bricks.contains(&entry.brick)
        });
        match same {
            Some(group) => group.bricks.push(entry.brick),
            None => {
                groups.push(Group { event: entry.event, bricks: vec![entry.brick], client: entry.call.client, line })
            }
        }
    }
    let shown = groups.into_iter().map(|group| {
        let bricks = group.bricks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let (fop, rest) = group.line.split_once(' ').unwrap_or((&group.line, ""));
        let client = if group.client == 0 { String::new() } else { format!("c{}: ", group.client) };
        format!("{client}{fop} {bricks} {rest}").trim_end().to_owned()
    });
    shown.collect()
}
