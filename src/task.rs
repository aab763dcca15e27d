//! Runs requests to completion on the threads that have something to do for them.
//!
//! A task is polled first where it was started (the thread that read the request from /dev/fuse), and then by whoever
//! wakes it (the thread that read the answer from a socket). There is no queue and no hand-off between threads in
//! between: at most two thread wake-ups for a request that asks one brick once. The C client gets the same from its two
//! threads, `fuse_thread_proc` and the event poller.
//!
//! Consequences for code that wakes (completes a channel, releases a semaphore): do it with no lock held, because the
//! woken task runs inside the call. A task that is woken from inside another task runs when that one has returned.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Starts `future`: it is polled before this returns, and later by its wakers.
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    run(Arc::new(Task { state: AtomicU8::new(RUNNING), future: Mutex::new(Some(Box::pin(future))) }));
}

/// Nobody polls; a wake-up starts a poll.
const IDLE: u8 = 0;
/// Somebody polls, or is about to.
const RUNNING: u8 = 1;
/// Somebody polls and must poll once more.
const NOTIFIED: u8 = 2;
/// Finished.
const DONE: u8 = 3;

struct Task {
    state: AtomicU8,
    // Contended never: only the thread that moved `state` to RUNNING locks it.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if self.claim() {
            run(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.claim() {
            run(self.clone());
        }
    }
}

impl Task {
    /// Takes the right to poll. False when another thread has it (and will poll again) or the task is done.
    fn claim(&self) -> bool {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
                IDLE => Some(RUNNING),
                RUNNING => Some(NOTIFIED),
                _ => None,
            })
            .is_ok_and(|before| before == IDLE)
    }

    fn poll(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        let mut slot = self.future.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(future) = slot.as_mut() else { return };
            // A panic must not end the thread, on which others wait for their answers: it ends this task alone.
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
                Ok(Poll::Pending) => {}
                ended => {
                    if ended.is_err() {
                        tracing::error!("a task panicked; it is given up");
                    }
                    let _ = catch_unwind(AssertUnwindSafe(|| *slot = None));
                    self.state.store(DONE, Ordering::Release);
                    return;
                }
            }
            // The lock must be free before the state says IDLE, or the next poller would wait for it.
            let again = self.state.compare_exchange(NOTIFIED, RUNNING, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if again {
                continue;
            }
            drop(slot);
            match self.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                // Notified between the two: this thread still has the right to poll.
                Err(_) => {
                    self.state.store(RUNNING, Ordering::Release);
                    slot = self.future.lock().unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

thread_local! {
    /// True while a task is polled on this thread.
    static POLLING: Cell<bool> = const { Cell::new(false) };
    /// Tasks woken meanwhile.
    static WOKEN: RefCell<VecDeque<Arc<Task>>> = const { RefCell::new(VecDeque::new()) };
}

/// Polls a claimed task, now or when the task that is polled on this thread has returned.
fn run(task: Arc<Task>) {
    if POLLING.replace(true) {
        WOKEN.with_borrow_mut(|woken| woken.push_back(task));
        return;
    }
    let mut next = Some(task);
    while let Some(task) = next {
        task.poll();
        next = WOKEN.with_borrow_mut(VecDeque::pop_front);
    }
    POLLING.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::thread;
    use tokio::sync::oneshot;

    #[test]
    fn starts_here_and_completes_on_the_waking_thread() {
        let (sender, receiver) = oneshot::channel::<u32>();
        let (threads, seen) = mpsc::channel();
        spawn(async move {
            threads.send(thread::current().id()).unwrap();
            receiver.await.unwrap();
            threads.send(thread::current().id()).unwrap();
        });
        assert_eq!(seen.try_recv().unwrap(), thread::current().id());
        let waker = thread::spawn(move || {
            sender.send(7).unwrap();
            thread::current().id()
        });
        let id = waker.join().unwrap();
        assert_eq!(seen.recv().unwrap(), id);
    }

    #[test]
    fn a_wake_during_the_poll_is_not_lost() {
        for _ in 0..2000 {
            let (first, first_receiver) = oneshot::channel::<()>();
            let (second, second_receiver) = oneshot::channel::<()>();
            let done = Arc::new(AtomicUsize::new(0));
            let counter = done.clone();
            let a = thread::spawn(move || {
                let _ = first.send(());
            });
            let b = thread::spawn(move || {
                let _ = second.send(());
            });
            spawn(async move {
                let _ = first_receiver.await;
                let _ = second_receiver.await;
                counter.fetch_add(1, Ordering::SeqCst);
            });
            a.join().unwrap();
            b.join().unwrap();
            assert_eq!(done.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn a_panic_ends_its_task_and_no_other() {
        let (sender, receiver) = oneshot::channel::<()>();
        let (given_up, news) = oneshot::channel::<()>();
        let done = Arc::new(AtomicUsize::new(0));
        let counter = done.clone();
        spawn(async move {
            let _ = receiver.await;
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let counter = done.clone();
        spawn(async move {
            assert!(news.await.is_err(), "what the task held is dropped");
            counter.fetch_add(1, Ordering::SeqCst);
        });
        spawn(async move {
            let _held = given_up;
            let _ = sender.send(());
            panic!("on purpose");
        });
        assert_eq!(done.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_task_that_wakes_another_runs_first() {
        let (sender, receiver) = oneshot::channel::<()>();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (outer, inner) = (order.clone(), order.clone());
        spawn(async move {
            let _ = receiver.await;
            inner.lock().unwrap().push("woken");
        });
        spawn(async move {
            let _ = sender.send(());
            outer.lock().unwrap().push("waker");
        });
        assert_eq!(*order.lock().unwrap(), ["waker", "woken"]);
    }
}
