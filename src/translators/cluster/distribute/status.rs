//! When distribute is up (`dht_notify`): once every child has been heard of, as long as one is up.

use std::sync::Arc;

use super::core::Core;
use crate::event::{Event, Status};

/// The status of the whole from those of the children. `None` while one of them is still unknown.
pub fn overall(children: &[Status]) -> Option<Status> {
    if children.contains(&Status::Connecting) {
        return None;
    }
    if children.contains(&Status::Up) {
        return Some(Status::Up);
    }
    // All are away: one that refuses says more than one that cannot be reached.
    let refused = children.iter().find(|status| matches!(status, Status::Refused(_)));
    refused.or(children.first()).cloned()
}

/// Listens to the children, and announces what they add up to.
pub(super) fn watch(core: &Arc<Core>) {
    for (index, child) in core.children.iter().enumerate() {
        child.events().subscribe_for(core, move |core, event| match event {
            Event::Status(status) => {
                if *status == Status::Up && core.only().is_none() {
                    core.ask_usage_of(index);
                }
                update(core);
            }
            other => core.events.announce(other),
        });
    }
    // A child may have spoken before anybody listened.
    for (index, child) in core.children.iter().enumerate() {
        if child.events().is_up() && core.only().is_none() {
            core.ask_usage_of(index);
        }
    }
    update(core);
}

fn update(core: &Core) {
    let now = || overall(&core.children.iter().map(|child| child.events().status()).collect::<Vec<_>>());
    keep_up(now, |status| core.events.announce(&Event::Status(status)));
}

/// Announces what `now` says until that is what was announced last: between the two another thread may have announced
/// newer news of another child, and ours would bury it for good.
fn keep_up(now: impl Fn() -> Option<Status>, announce: impl Fn(Status)) {
    let mut said = None;
    while let Some(status) = now() {
        if said.as_ref() == Some(&status) {
            return;
        }
        announce(status.clone());
        said = Some(status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_news_do_not_bury_new_ones() {
        // Another thread hears of a child that is up, and says so, between our question and our answer.
        let questions = std::cell::Cell::new(0);
        let said = std::cell::RefCell::new(Vec::new());
        let down = Status::Down("a".into());
        let now = || {
            questions.set(questions.get() + 1);
            Some(if questions.get() == 1 { down.clone() } else { Status::Up })
        };
        keep_up(now, |status| said.borrow_mut().push(status));
        assert_eq!(said.into_inner(), [down, Status::Up]);
    }

    #[test]
    fn table() {
        let down = || Status::Down("a".into());
        let refused = || Status::Refused("b".into());
        for (children, expected) in [
            (vec![Status::Up, Status::Connecting], None),
            (vec![Status::Up, down()], Some(Status::Up)),
            (vec![down(), down()], Some(down())),
            (vec![down(), refused()], Some(refused())),
            (vec![Status::Up, refused()], Some(Status::Up)),
        ] {
            assert_eq!(overall(&children), expected, "{children:?}");
        }
    }
}
