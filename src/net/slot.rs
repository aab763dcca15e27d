//! Where an answer waits for its caller: one value, one waker.
//!
//! Like `tokio::sync::oneshot`, but outside of tokio's cooperative budget: an answer that is there is always taken, also
//! when a network thread completes hundreds of requests in one go.

use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

/// A value to come.
pub struct Slot<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    Waiting(Option<Waker>),
    Ready(T),
    Taken,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { state: Mutex::new(State::Waiting(None)) }
    }
}

impl<T> Slot<T> {
    /// Puts the value in and wakes the caller, who may run inside this call. A second value is dropped.
    pub fn complete(&self, value: T) {
        let waker = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let State::Waiting(waker) = &mut *state else { return };
            let waker = waker.take();
            *state = State::Ready(value);
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the value out, or leaves the waker. Pending for ever once the value was taken.
    pub fn poll(&self, waker: &Waker) -> Poll<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ready(value) => Poll::Ready(value),
            State::Waiting(old) => {
                let kept = match old {
                    Some(old) if old.will_wake(waker) => old,
                    _ => waker.clone(),
                };
                *state = State::Waiting(Some(kept));
                Poll::Pending
            }
            State::Taken => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_value_comes_once() {
        let slot = Slot::default();
        assert_eq!(slot.poll(Waker::noop()), Poll::Pending);
        slot.complete(1);
        slot.complete(2);
        assert_eq!(slot.poll(Waker::noop()), Poll::Ready(1));
        assert_eq!(slot.poll(Waker::noop()), Poll::Pending);
    }

    #[test]
    fn the_caller_runs_on_the_completing_thread() {
        let slot = Arc::new(Slot::default());
        let waiting = slot.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        crate::task::spawn(async move {
            let value: u32 = std::future::poll_fn(|context| waiting.poll(context.waker())).await;
            sender.send((value, std::thread::current().id())).unwrap();
        });
        let id = std::thread::spawn(move || {
            slot.complete(7);
            std::thread::current().id()
        })
        .join()
        .unwrap();
        assert_eq!(receiver.recv().unwrap(), (7, id));
    }
}
