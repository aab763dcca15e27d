//! News that travel up the graph (`notify`, `GF_EVENT_*`): children that come and go, and what bricks call back.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use rgfs_protocol::Gfid;
use rgfs_protocol::types::Flock;

/// Whether a translator can serve fops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing is known yet.
    Connecting,
    /// Fops are served.
    Up,
    /// Fops fail with ENOTCONN; the text says why ("vol-client-0: 10.0.0.1:49152: connection refused").
    Down(Arc<str>),
    /// The brick refused this client; waiting will not help.
    Refused(Arc<str>),
}

/// News of a translator for those above it.
#[derive(Clone, Debug)]
pub enum Event {
    /// The status changed.
    Status(Status),
    /// Another client changed the inode (CACHE_INVALIDATION; `flags` as in `upcall-utils.h`).
    CacheInvalidation {
        /// Which inode.
        gfid: Gfid,
        /// `UP_*` bits.
        flags: u32,
    },
    /// Somebody waits for a lock that this client holds (INODELK_CONTENTION).
    InodelkContention {
        /// Which inode.
        gfid: Gfid,
        /// The held lock.
        flock: Flock,
        /// Lock domain.
        domain: Arc<str>,
    },
}

/// A listener, which is called as long as it says that it is alive.
struct Listener {
    hear: Box<dyn Fn(&Event) + Send + Sync>,
    is_alive: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Where a translator announces its news. Listeners run on the announcing thread and must not block.
#[derive(Default)]
pub struct EventSource {
    status: Mutex<Option<Status>>,
    listeners: RwLock<Vec<Listener>>,
}

impl EventSource {
    /// The last announced status.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or(Status::Connecting)
    }

    /// True when fops are served.
    pub fn is_up(&self) -> bool {
        matches!(*self.status.lock().unwrap_or_else(PoisonError::into_inner), Some(Status::Up))
    }

    /// Adds a listener. It hears what comes from now on; ask [`EventSource::status`] for what was.
    pub fn subscribe(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        self.add(Listener { hear: Box::new(listener), is_alive: Box::new(|| true) });
    }

    /// [`EventSource::subscribe`] on behalf of `owner`, which this does not keep alive. A brick outlives the graphs that it
    /// serves one after the other.
    pub fn subscribe_for<T: Send + Sync + 'static>(
        &self,
        owner: &Arc<T>,
        listener: impl Fn(&Arc<T>, &Event) + Send + Sync + 'static,
    ) {
        let owner = Arc::downgrade(owner);
        let alive: Weak<T> = owner.clone();
        let hear = move |event: &Event| {
            if let Some(owner) = owner.upgrade() {
                listener(&owner, event);
            }
        };
        self.add(Listener { hear: Box::new(hear), is_alive: Box::new(move || alive.strong_count() > 0) });
    }

    fn add(&self, listener: Listener) {
        let mut listeners = self.listeners.write().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| (listener.is_alive)());
        listeners.push(listener);
    }

    /// Tells all listeners. A status equal to the last one is not repeated.
    pub fn announce(&self, event: &Event) {
        if let Event::Status(new) = event {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            if status.as_ref() == Some(new) {
                return;
            }
            *status = Some(new.clone());
        }
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            (listener.hear)(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_go_with_their_owners() {
        let source = EventSource::default();
        let heard = Arc::new(Mutex::new(0));
        let other = Arc::new(());
        for _ in 0..3 {
            let owner = Arc::new(heard.clone());
            source.subscribe_for(&owner, |heard, _| *heard.lock().unwrap() += 1);
            source.announce(&Event::CacheInvalidation { gfid: Gfid::ROOT, flags: 0 });
        }
        source.announce(&Event::CacheInvalidation { gfid: Gfid::ROOT, flags: 0 });
        source.subscribe_for(&other, |_, _| {});
        assert_eq!((*heard.lock().unwrap(), source.listeners.read().unwrap().len()), (3, 1));
    }
}
