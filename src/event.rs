//! News that travel up the graph (`notify`, `GF_EVENT_*`): children that come and go, and what bricks call back.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

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

type Listener = Box<dyn Fn(&Event) + Send + Sync>;

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
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
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
            listener(event);
        }
    }
}
