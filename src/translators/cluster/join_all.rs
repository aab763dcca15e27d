//! Waiting for several children at once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs all futures at the same time; answers their outputs in order when the last one is done. The futures of
/// [`Translator`](crate::Translator) fit as they are; box others.
pub fn join_all<F: Future + Unpin>(futures: impl IntoIterator<Item = F>) -> JoinAll<F> {
    JoinAll { slots: futures.into_iter().map(Slot::Running).collect() }
}

/// The future of [`join_all`].
pub struct JoinAll<F: Future> {
    slots: Vec<Slot<F>>,
}

enum Slot<F: Future> {
    Running(F),
    Done(F::Output),
}

// Outputs are moved, never pinned; the futures are Unpin themselves.
impl<F: Future + Unpin> Unpin for JoinAll<F> {}

impl<F: Future + Unpin> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut running = false;
        for slot in &mut self.slots {
            if let Slot::Running(future) = slot {
                match Pin::new(future).poll(context) {
                    Poll::Ready(output) => *slot = Slot::Done(output),
                    Poll::Pending => running = true,
                }
            }
        }
        if running {
            return Poll::Pending;
        }
        let done = std::mem::take(&mut self.slots).into_iter().filter_map(|slot| match slot {
            Slot::Done(output) => Some(output),
            Slot::Running(_) => None,
        });
        Poll::Ready(done.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::sync::oneshot;

    #[test]
    fn outputs_come_in_order_when_all_are_there() {
        let (first, first_receiver) = oneshot::channel::<u32>();
        let (second, second_receiver) = oneshot::channel::<u32>();
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        crate::task::spawn(async move {
            let outputs = join_all([first_receiver, second_receiver]).await;
            *slot.lock().unwrap() = Some(outputs.into_iter().flatten().collect::<Vec<_>>());
        });
        second.send(2).unwrap();
        assert_eq!(*result.lock().unwrap(), None);
        first.send(1).unwrap();
        assert_eq!(*result.lock().unwrap(), Some(vec![1, 2]));
    }
}
