//! What keeps a link alive: connect, serve until the connection ends, wait a little, connect again.
//!
//! On a fresh connection the fop layer reopens its files first ([`Hooks::connected`]); only then do fops pass and is `Up`
//! announced. When the storage behind a brick fails (CHILD_DOWN) the connection, its fds and its locks stay, but the brick
//! counts as down until CHILD_UP.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use rgfs_protocol::callback::Callback;
use rgfs_protocol::session::{Backoff, RECONNECT};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::handshake::{Attempt, Established, Failure, establish};
use super::link::{Channel, Hooks, Inner};
use crate::event::{Event, Status};
use crate::net::connection::CallbackHandler;

/// Runs until the link is dropped.
pub(super) async fn run(link: Arc<Inner>, handle: Handle, hooks: Weak<dyn Hooks>) {
    link.events.announce(&Event::Status(Status::Connecting));
    tokio::select! {
        never = live(&link, &handle, &hooks) => match never {},
        () = link.end.notified() => {}
    }
}

/// A type without values: a life has no end of its own.
enum Never {}

async fn live(link: &Arc<Inner>, handle: &Handle, hooks: &Weak<dyn Hooks>) -> Never {
    let mut backoff = Backoff::default();
    loop {
        let number = link.attempts.fetch_add(1, Ordering::Relaxed);
        let (storage, storage_news) = watch::channel(None);
        let (callbacks, options) = (callbacks(link, storage.clone()), link.options());
        let attempt = Attempt {
            name: &link.name,
            options: &options,
            environment: &link.environment,
            counters: &link.counters,
            handle,
            number,
        };
        let failure = match establish(&attempt, &callbacks).await {
            Ok(established) => {
                let start = Instant::now();
                // A callback may have overtaken us; it is the newer news.
                storage.send_if_modified(|works| works.replace(works.unwrap_or(established.storage)).is_none());
                let failure = serve(link, hooks, established, number, storage_news).await;
                if start.elapsed() >= RECONNECT {
                    backoff.worked();
                }
                failure
            }
            Err(failure) => failure,
        };
        announce_down(link, failure);
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Serves fops over one connection until it ends; returns why it did.
async fn serve(
    link: &Arc<Inner>,
    hooks: &Weak<dyn Hooks>,
    established: Established,
    generation: u64,
    mut storage: watch::Receiver<Option<bool>>,
) -> Failure {
    link.counters.connections.fetch_add(1, Ordering::Relaxed);
    let channel = Arc::new(Channel {
        name: link.name.clone(),
        generation,
        connection: established.connection,
        send_gids: link.options().send_gids,
    });
    link.establish(Some(channel.clone()));
    let mut reopened = false;
    let cause = loop {
        let works = storage.borrow_and_update().unwrap_or(false);
        if works && !reopened {
            let Some(hooks) = hooks.upgrade() else { break "the translator is gone".into() };
            tokio::select! {
                () = hooks.connected(&channel) => reopened = true,
                cause = channel.connection.closed() => break cause,
            }
            // The storage may have failed meanwhile.
            continue;
        }
        if works {
            tracing::info!(link = %link.name, peer = %channel.connection.peer(), generation, "connected");
            link.serve(Some(channel.clone()));
            link.events.announce(&Event::Status(Status::Up));
        } else {
            link.serve(None);
            let reason = format!("{}: the brick's storage is down", channel.connection.peer());
            announce_down(link, Failure { text: reason, refused: false });
        }
        tokio::select! {
            cause = channel.connection.closed() => break cause,
            changed = storage.changed() => if changed.is_err() {
                break channel.connection.closed().await;
            },
        }
    };
    link.serve(None);
    link.establish(None);
    link.set_cause(&cause);
    if let Some(hooks) = hooks.upgrade() {
        hooks.disconnected(generation);
    }
    Failure { text: cause.to_string(), refused: false }
}

/// Fops fail from now on, and everybody above hears why.
fn announce_down(link: &Inner, failure: Failure) {
    let cause: Arc<str> = failure.text.into();
    link.set_cause(&cause);
    let text: Arc<str> = format!("{}: {cause}", link.name).into();
    let status = if failure.refused { Status::Refused(text.clone()) } else { Status::Down(text.clone()) };
    if link.events.status() != status {
        tracing::warn!("{text}");
    }
    link.events.announce(&Event::Status(status));
}

/// What a brick calls back becomes an event, or news of its storage.
fn callbacks(link: &Arc<Inner>, storage: watch::Sender<Option<bool>>) -> CallbackHandler {
    // The connection holds the handler, and the link, by its task, the connection.
    let link = Arc::downgrade(link);
    Arc::new(move |callback| {
        let Some(link) = link.upgrade() else { return };
        match callback {
            Callback::CacheInvalidation(news) => {
                link.events.announce(&Event::CacheInvalidation { gfid: news.gfid, flags: news.flags });
            }
            Callback::InodelkContention(news) => link.events.announce(&Event::InodelkContention {
                gfid: news.gfid,
                flock: news.flock,
                domain: String::from_utf8_lossy(&news.domain).into(),
            }),
            Callback::ChildUp => drop(storage.send_replace(Some(true))),
            Callback::ChildDown => drop(storage.send_replace(Some(false))),
            // No lease is ever taken, volfiles come from the volfile server, and no brick sends the rest to a mount.
            _ => tracing::debug!(link = %link.name, procedure = callback.procedure(), "a callback without use here"),
        }
    })
}
