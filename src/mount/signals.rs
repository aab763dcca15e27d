//! Signals: blocked in every thread, and taken one by one by the thread that waits for them. No handler ever runs.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT: unmount and end.
    End,
    /// SIGHUP: reopen the log, look at the volfile again.
    Reload,
    /// SIGUSR1: write a statedump.
    Dump,
    /// SIGUSR2: asks the C client for metrics; they are in the statedump.
    Metrics,
}

/// Signals that are waited for.
const WAITED: [(i32, Signal); 5] = [
    (libc::SIGTERM, Signal::End),
    (libc::SIGINT, Signal::End),
    (libc::SIGHUP, Signal::Reload),
    (libc::SIGUSR1, Signal::Dump),
    (libc::SIGUSR2, Signal::Metrics),
];

/// The blocked signals, to be waited for.
#[derive(Clone, Copy)]
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks the signals in this thread and all that it will start. SIGPIPE is ignored by Rust's start-up code already.
    ///
    /// # Errors
    /// The system refuses; it never does.
    #[allow(unsafe_code)]
    pub fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set that it is given; all pointers are valid for the calls.
        let (set, failed) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            for (number, _) in WAITED {
                libc::sigaddset(&mut set, number);
            }
            (set, libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()))
        };
        if failed == 0 { Ok(Signals(set)) } else { Err(io::Error::from_raw_os_error(failed)) }
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// The system refuses; it never does.
    #[allow(unsafe_code)]
    pub fn wait(&self) -> io::Result<Signal> {
        loop {
            let mut number = 0;
            // SAFETY: the set was initialised by `block`, and `number` outlives the call.
            let failed = unsafe { libc::sigwait(&self.0, &mut number) };
            match WAITED.iter().find(|(waited, _)| *waited == number) {
                Some((_, signal)) if failed == 0 => return Ok(*signal),
                _ if failed == 0 || failed == libc::EINTR => {}
                _ => return Err(io::Error::from_raw_os_error(failed)),
            }
        }
    }
}
