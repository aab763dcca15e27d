//! Whether a graph that was just built will serve.

use std::sync::Arc;

use tokio::sync::watch;

use crate::Translator;
use crate::event::Status;

/// A counter that moves whenever one of some translators announces something.
pub(super) struct News(Arc<watch::Sender<u64>>);

impl News {
    /// Listens to `translators`.
    pub(super) fn of<'a>(translators: impl Iterator<Item = &'a Arc<dyn Translator>>) -> Self {
        let sender = Arc::new(watch::Sender::new(0));
        for translator in translators {
            translator.events().subscribe_for(&sender, |sender, _| sender.send_modify(|count| *count += 1));
        }
        News(sender)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// What the statuses of the top and of the bricks mean for somebody who waits: `Connecting` means wait on.
pub(super) fn verdict(top: &Status, bricks: &[(Arc<str>, Status)]) -> Status {
    if *top == Status::Up {
        return Status::Up;
    }
    let hopeless = |status: &Status| matches!(status, Status::Down(_) | Status::Refused(_));
    if let Status::Refused(why) = top {
        return Status::Refused(if bricks.is_empty() { why.clone() } else { report(bricks).into() });
    }
    if bricks.is_empty() || !bricks.iter().all(|(_, status)| hopeless(status)) {
        return Status::Connecting;
    }
    let text = report(bricks).into();
    match bricks.iter().any(|(_, status)| matches!(status, Status::Refused(_))) {
        true => Status::Refused(text),
        false => Status::Down(text),
    }
}

/// Every brick and what it said last.
pub(super) fn report(bricks: &[(Arc<str>, Status)]) -> String {
    let line = |(name, status): &(Arc<str>, Status)| {
        let why = match status {
            Status::Connecting => "no answer yet",
            Status::Up => "up",
            Status::Down(why) | Status::Refused(why) => why,
        };
        // Leaves mostly begin with their name themselves.
        if why.starts_with(&**name) { why.to_owned() } else { format!("{name}: {why}") }
    };
    bricks.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let down = || Status::Down("a: connection refused".into());
        let refused = || Status::Refused("wrong password".into());
        let text = "a: connection refused; b: wrong password";
        for (top, a, b, expected) in [
            (Status::Connecting, Status::Connecting, Status::Connecting, Status::Connecting),
            (Status::Connecting, down(), Status::Connecting, Status::Connecting),
            (down(), down(), Status::Connecting, Status::Connecting),
            (Status::Connecting, Status::Up, down(), Status::Connecting),
            (Status::Up, Status::Up, down(), Status::Up),
            (Status::Up, down(), Status::Connecting, Status::Up),
            (Status::Connecting, down(), refused(), Status::Refused(text.into())),
            (refused(), down(), refused(), Status::Refused(text.into())),
            (down(), down(), down(), Status::Down("a: connection refused; b: a: connection refused".into())),
        ] {
            let bricks = [("a".into(), a), ("b".into(), b)];
            assert_eq!(verdict(&top, &bricks), expected, "{top:?} {bricks:?}");
        }
    }
}
