//! Follows the volfile: when it has changed, the mount goes over to the graph that it describes now
//! (`glusterfsd-mgmt.c:mgmt_getspec_cbk`).
//!
//! The new graph is built and connected beside the one that serves, on a thread of its own; what can be kept of the old one
//! is its connections to bricks that stay. Only a graph that answers takes over. Until then, and if it never does, the mount
//! goes on with the old one, and tries again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bring_up::bring_up;
use super::failure::Failure;
use super::fetch::Fetched;
use super::options::MountOptions;
use crate::fuse::FileSystem;
use crate::graph::{LiveGraph, Switch};
use crate::inode::KeySpan;
use crate::net::Network;

/// How long bricks that are new in the graph are waited for before it takes over without them.
const NEW_BRICKS: Duration = Duration::from_secs(10);
/// How long fops may take to end before the change is put off.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time between attempts.
const AGAIN: Duration = Duration::from_secs(5);

/// What a [`Keeper`] is told.
#[derive(Debug)]
pub(super) enum News {
    /// The volfile, as it is now.
    Volfile(Bytes),
    /// A graph has ended; the keys of its translators.
    Ended(Vec<KeySpan>),
}

/// Who sees to it that the graph at work is that of the volfile.
pub(super) struct Keeper {
    pub(super) options: MountOptions,
    pub(super) network: Network,
    pub(super) switch: Arc<Switch>,
    pub(super) file_system: Arc<FileSystem>,
    /// Where the volfile came from.
    pub(super) origin: String,
    /// Host of the server that gave it.
    pub(super) server: Option<String>,
    /// The text that the graph at work was made of.
    pub(super) text: Bytes,
}

impl Keeper {
    /// Starts the thread. What it is told goes to `news`, whose other end is `sender`.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(super) fn start(self, (sender, news): (Sender<News>, Receiver<News>)) -> std::io::Result<()> {
        std::thread::Builder::new().name("volfile".to_owned()).spawn(move || self.run(&sender, &news)).map(drop)
    }

    /// A way to tell a keeper.
    pub(super) fn channel() -> (Sender<News>, Receiver<News>) {
        channel()
    }

    fn run(mut self, sender: &Sender<News>, news: &Receiver<News>) {
        let mut wanted: Option<Bytes> = None;
        loop {
            let heard = match wanted {
                Some(_) => news.recv_timeout(AGAIN),
                None => news.recv().map_err(RecvTimeoutError::from),
            };
            match heard {
                Ok(News::Ended(keys)) => {
                    self.file_system.forget_contexts(&keys);
                    continue;
                }
                Ok(News::Volfile(text)) if text == self.text => {
                    tracing::info!("no change in volfile");
                    wanted = None;
                }
                Ok(News::Volfile(text)) => wanted = Some(text),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let Some(text) = wanted.take() else { continue };
            match self.go_over_to(text.clone(), sender) {
                Ok(true) => self.text = text,
                Ok(false) => wanted = Some(text),
                Err(failure) => {
                    tracing::error!("the volfile changed, but cannot be used: {failure}; going on with the old one");
                    wanted = Some(text);
                }
            }
        }
    }

    /// False when it must be tried again.
    fn go_over_to(&self, text: Bytes, sender: &Sender<News>) -> Result<bool, Failure> {
        let before = self.switch.current();
        let volfile = Fetched { origin: self.origin.clone(), text, server: self.server.clone(), link: None };
        let deadline = Instant::now() + self.options.mount_timeout;
        let number = before.number().wrapping_add(1);
        tracing::info!("the volfile changed; building graph {number}");
        let next = bring_up(&self.options, &volfile, &self.network, deadline, Some((before.graph(), number)))?;
        Ok(self.network.handle().block_on(self.turn(next, number, sender)))
    }

    async fn turn(&self, next: LiveGraph, number: u32, sender: &Sender<News>) -> bool {
        if !next.wait_new_bricks(Instant::now() + NEW_BRICKS).await {
            tracing::warn!("not all bricks of the new volfile can be reached: {}", next.bricks());
        }
        let sender = sender.clone();
        let forget = move |keys| {
            // Nobody is there to forget at the end of the mount.
            let _ = sender.send(News::Ended(keys));
        };
        let turned = self.switch.turn(next, || self.file_system.open_fds(), PATIENCE, forget).await;
        match &turned {
            Ok(()) => tracing::info!("graph {number} serves now"),
            Err(_) => tracing::info!("operations are still at work in the old graph; the change is put off"),
        }
        turned.is_ok()
    }
}
