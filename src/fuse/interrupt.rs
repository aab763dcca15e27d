//! Lets signalled callers go.
//!
//! The kernel tells an interrupted request by INTERRUPT, which `fuser` answers with ENOSYS; from then on the kernel never
//! sends it again, and a caller stays in uninterruptible sleep until its request is answered, SIGKILL or not. So a thread
//! looks from time to time whether the callers of requests that wait for long have signals pending, and ends their wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::in_flight::{InFlight, Kind, Parked};

/// Waits shorter than this are not looked at.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often is looked while something waits.
const BUSY_TICK: Duration = Duration::from_millis(100);
/// How often is looked whether something waits.
const IDLE_TICK: Duration = Duration::from_millis(250);
/// How long the cancelling of a lock at its brick may take before the caller is let go without.
const CANCEL_TIME: Duration = Duration::from_millis(250);

/// Signals that wait for a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// One that the thread would take: a waiting lock ends with EINTR.
    pub deliverable: bool,
    /// SIGKILL, or what the kernel turned into one.
    pub fatal: bool,
}

/// The signals in a `/proc/TID/status`.
pub fn parse_signals(status: &str) -> Option<Signals> {
    let (mut pending, mut withheld, mut lines) = (0u64, 0u64, 0);
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let target = match name {
            "SigPnd" | "ShdPnd" => &mut pending,
            "SigBlk" | "SigIgn" => &mut withheld,
            _ => continue,
        };
        *target |= u64::from_str_radix(value.trim(), 16).ok()?;
        lines += 1;
    }
    let kill = 1 << (libc::SIGKILL - 1);
    (lines == 4).then_some(Signals { deliverable: pending & (!withheld | kill) != 0, fatal: pending & kill != 0 })
}

/// What to do about a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Leave,
    /// Its caller is signalled: tell it (again).
    Tell,
    /// It was told, did not end, and its caller is being killed. A caller that lives on is not let go with a lock that it
    /// may get later.
    Abandon,
}

fn judge(parked: &Parked, signals: Signals, now: Instant) -> Verdict {
    match (&parked.kind, parked.signalled) {
        (Kind::Lock(_), Some(told)) if signals.fatal && now.saturating_duration_since(told) >= CANCEL_TIME => {
            Verdict::Abandon
        }
        (Kind::Lock(_), _) if signals.deliverable => Verdict::Tell,
        (Kind::Ordinary, None) if signals.fatal => Verdict::Tell,
        _ => Verdict::Leave,
    }
}

/// The thread that looks. It ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts watching `registry`. Requests that it wakes run on its thread, inside `runtime`.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(registry: &Arc<InFlight>, runtime: tokio::runtime::Handle) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, watched) = (stop.clone(), Arc::downgrade(registry));
        let thread = thread::Builder::new().name("fuse-signals".into()).spawn(move || {
            let _entered = runtime.enter();
            watch(&watched, &stopped);
        })?;
        registry.set_watcher(thread.thread().clone());
        Ok(Watcher { stop, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(registry: &Weak<InFlight>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let Some(registry) = registry.upgrade() else { return };
        let waiting = look(&registry, Instant::now(), |pid| {
            parse_signals(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
        });
        drop(registry);
        thread::park_timeout(if waiting > 0 { BUSY_TICK } else { IDLE_TICK });
    }
}

/// One look at all that waits; `signals` tells those of a thread. Returns how many wait.
fn look(registry: &InFlight, now: Instant, signals: impl Fn(u32) -> Option<Signals>) -> usize {
    // /proc is read with no lock held, once per thread.
    let mut suspects: HashMap<u32, Signals> = HashMap::new();
    let waiting = registry.examine(|parked| {
        if parked.pid != 0 && now.saturating_duration_since(parked.since) >= PATIENCE {
            suspects.insert(parked.pid, Signals::default());
        }
        false
    });
    if suspects.is_empty() {
        return waiting;
    }
    for (pid, found) in &mut suspects {
        *found = signals(*pid).unwrap_or_default();
    }
    registry.examine(|parked| {
        let verdict = suspects.get(&parked.pid).map_or(Verdict::Leave, |signals| judge(parked, *signals, now));
        if verdict == Verdict::Leave {
            return false;
        }
        parked.signalled.get_or_insert(now);
        if let Kind::Lock(interrupt) = &parked.kind {
            match verdict {
                Verdict::Abandon => interrupt.abandon(),
                _ => interrupt.tell(),
            }
        }
        true
    })
}

#[cfg(test)]
mod tests {
    use super::super::in_flight::Interrupt;
    use super::*;
    use std::task::Waker;

    fn status(pending: u64, shared: u64, blocked: u64, ignored: u64) -> String {
        format!(
            "Name:\tx\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\n"
        )
    }

    #[test]
    fn signals_are_read_from_status() {
        let interrupt = 1 << (libc::SIGINT - 1);
        let kill = 1 << (libc::SIGKILL - 1);
        for (text, deliverable, fatal) in [
            (status(0, 0, 0, 0), false, false),
            (status(0, interrupt, 0, 0), true, false),
            (status(interrupt, 0, interrupt, 0), false, false),
            (status(0, interrupt, 0, interrupt), false, false),
            (status(kill, 0, kill, 0), true, true),
        ] {
            assert_eq!(parse_signals(&text), Some(Signals { deliverable, fatal }), "{text}");
        }
        assert_eq!(parse_signals("SigPnd:\t0\n"), None);
        assert!(parse_signals(&std::fs::read_to_string("/proc/thread-self/status").unwrap()).is_some());
    }

    #[test]
    fn locks_end_at_any_signal_and_others_at_a_fatal_one() {
        let registry = Arc::new(InFlight::default());
        let start = Instant::now();
        let park = |pid, kind| {
            let waker = Waker::noop().clone();
            registry.park(Parked { name: "SETLKW", unique: 0, pid, since: start, kind, signalled: None, waker })
        };
        let word = Arc::new(Interrupt::default());
        let lock = park(7, Kind::Lock(word.clone()));
        let read = park(7, Kind::Ordinary);
        let kernel = park(7, Kind::Kernel);
        let soft = Signals { deliverable: true, fatal: false };
        let hard = Signals { deliverable: true, fatal: true };
        let look_at = |milliseconds, signals| {
            look(&registry, start + Duration::from_millis(milliseconds), |_| Some(signals));
        };
        look_at(50, soft);
        assert_eq!(word.rounds(), 0, "too young");
        look_at(150, soft);
        assert_eq!(word.rounds(), 1);
        assert!(lock.is_signalled() && !read.is_signalled());
        look_at(450, soft);
        assert_eq!(word.rounds(), 2);
        assert!(!word.is_abandoned(), "a caller that lives on waits for the brick");
        look_at(550, hard);
        assert!(word.is_abandoned());
        assert!(read.is_signalled() && !kernel.is_signalled());
    }

    #[test]
    fn the_watcher_stops() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let registry = Arc::new(InFlight::default());
        drop(Watcher::start(&registry, runtime.handle().clone()).unwrap());
    }
}
