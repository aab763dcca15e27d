//! Heals that a client does on the side when a volume's options ask for it (`afr_throttled_selfheal`): a few at a time, a
//! bounded number waiting, and none twice.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rgfs_protocol::Gfid;

use super::super::core::Core;
use super::inspect::Needs;
use crate::{Inode, task};

/// The heals under way, and those that wait.
#[derive(Default)]
pub(in super::super) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    healers: usize,
    waiting: VecDeque<Arc<Inode>>,
    /// Waiting or under way.
    known: HashSet<Gfid>,
}

impl State {
    /// Whether a healer must be started for `inode`; `None` when it waits for one, or is refused.
    fn enqueue(&mut self, inode: &Arc<Inode>, healers: usize, waiting: usize) -> Option<()> {
        let full = self.healers + self.waiting.len() >= healers.saturating_add(waiting);
        if healers == 0 || full || !self.known.insert(inode.gfid()) {
            return None;
        }
        self.waiting.push_back(inode.clone());
        (self.healers < healers).then(|| self.healers += 1)
    }

    /// The next one for a healer that is done with `last`; `None` ends the healer.
    fn next(&mut self, last: Option<Gfid>) -> Option<Arc<Inode>> {
        if let Some(last) = last {
            self.known.remove(&last);
        }
        let next = self.waiting.pop_front();
        self.healers -= usize::from(next.is_none());
        next
    }
}

impl Core {
    /// What this client may heal.
    fn client_heals(&self) -> Needs {
        Needs { data: self.options.data_heal, metadata: self.options.metadata_heal, entry: self.options.entry_heal }
    }

    /// Heals an object in the background, if this client heals at all: a brick that is up was seen to have missed something.
    pub(in super::super) fn heal_in_background(self: &Arc<Self>, inode: &Arc<Inode>) {
        let allowed = self.client_heals();
        if !allowed.any() || inode.gfid().is_null() {
            return;
        }
        let start = self.heals.state.lock().unwrap_or_else(PoisonError::into_inner).enqueue(
            inode,
            self.options.background_heals,
            self.options.heal_queue,
        );
        if start.is_none() {
            return;
        }
        let core = self.clone();
        task::spawn(async move {
            let mut last = None;
            loop {
                let next = core.heals.state.lock().unwrap_or_else(PoisonError::into_inner).next(last);
                let Some(inode) = next else { return };
                if let Err(error) = core.heal_object(&inode, allowed, core.judge()).await {
                    tracing::debug!("{}: {} was not healed: {error}", core.name, inode.gfid());
                }
                last = Some(inode.gfid());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::FileType;

    #[test]
    fn a_few_at_a_time_and_none_twice() {
        let inode = |number: u8| Inode::known(Gfid([number; 16]), FileType::Regular);
        let mut state = State::default();
        assert_eq!(state.enqueue(&inode(1), 1, 1), Some(()));
        let first = state.next(None).unwrap();
        assert_eq!(state.enqueue(&inode(1), 1, 1), None, "it is being healed");
        assert_eq!(state.enqueue(&inode(2), 1, 1), None, "it waits");
        assert_eq!(state.enqueue(&inode(3), 1, 1), None, "too many");
        let second = state.next(Some(first.gfid())).unwrap();
        assert_eq!(second.gfid(), Gfid([2; 16]));
        assert!(state.next(Some(second.gfid())).is_none());
        assert_eq!((state.healers, state.known.len()), (0, 0));
        assert_eq!(State::default().enqueue(&inode(1), 0, 9), None, "switched off");
    }
}
