//! The three tasks of a connection, on its network thread: one reads, one writes what did not fit into the socket, one
//! watches the clock.
//!
//! The reader is where requests are completed: it finds the caller of an answer and wakes it with no lock held, so the
//! caller's future runs inside the reader, and may send the next request from there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use rgfs_protocol::DecodeError;
use rgfs_protocol::callback::Callback;
use rgfs_protocol::record::{Framer, MAX_RECORD, RecordError, Space};
use rgfs_protocol::rpc::{self, CallHeader, Message as Header};
use rgfs_protocol::session::{Answered, Due};
use rgfs_protocol::xdr::{Decoder, Encoder};

use super::connection::{CallError, Shared};
use super::endpoint::brief;
use super::outgoing::{Batch, Message};
use super::pool::Pool;
use crate::observe::counters::OTHER;

/// Receives in a row before the reader lets other connections of its thread have a turn.
const TURN: usize = 64;

/// Answers without file data up to this size, in bytes, are copied out of the receive buffer.
const COPIED: usize = 4096;

/// Why the reader ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("connection closed by the peer")]
    Eof,
    #[error("{}", brief(.0))]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("not a GlusterFS peer, or a broken one: {0}")]
    Header(#[from] DecodeError),
}

/// Reads until the connection ends, then fails all who wait.
pub(super) async fn read(shared: Arc<Shared>) {
    let mut ending = Ending { shared, cause: String::from("nobody reads its answers any more") };
    let end = match receive(&ending.shared).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    ending.cause = end.to_string();
}

/// Fails all who wait, however the reader ends: also by a panic, or with its runtime. Nobody else would.
struct Ending {
    shared: Arc<Shared>,
    cause: String,
}

impl Drop for Ending {
    fn drop(&mut self) {
        end(&self.shared, &self.cause);
    }
}

fn end(shared: &Shared, cause: &str) {
    let cause: Arc<str> = format!("{}: {cause}", shared.settings.peer).into();
    let (cause, waiters) = {
        let mut state = shared.state();
        // A cause that was noted before is why the socket ended.
        let cause = state.closed.get_or_insert(cause).clone();
        (cause, state.session.handle_disconnect())
    };
    let queued = shared.outgoing().abandon();
    drop(queued);
    shared.stream.shutdown();
    shared.closed.send_replace(Some(cause.clone()));
    shared.writer.notify_one();
    shared.timer.notify_one();
    for waiter in waiters {
        shared.settings.counters.failure(waiter.slot);
        waiter.answer.complete(Err(CallError::Disconnected(cause.clone())));
    }
}

/// A type without values: `receive` returns only errors.
enum Never {}

async fn receive(shared: &Shared) -> Result<Never, End> {
    let mut framer = Framer::new(Pool::default(), MAX_RECORD);
    let counters = &shared.settings.counters;
    let mut turn = 0;
    let mut copied = 0;
    loop {
        let mut ready = shared.stream.poller().readable().await?;
        loop {
            let large = shared.state().session.large_awaited();
            let (received, wanted) = match framer.space(large) {
                Space::Shared(buffer, limit) => (shared.stream.receive_into(buffer, limit), limit),
                Space::Own(space) => {
                    let wanted = space.len();
                    let received = shared.stream.receive(space);
                    if let Ok(count) = received {
                        framer.filled(count);
                    }
                    (received, wanted)
                }
            };
            counters.reads.fetch_add(1, Ordering::Relaxed);
            let received = match received {
                Ok(0) => return Err(End::Eof),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            let mut records = 0;
            while let Some(record) = framer.next_record()? {
                handle(shared, record, now)?;
                records += 1;
            }
            if records == 0 {
                shared.state().session.handle_received(now);
            }
            if framer.copied() != copied {
                counters.copied.fetch_add(framer.copied() - copied, Ordering::Relaxed);
                copied = framer.copied();
            }
            turn += 1;
            if received < wanted {
                // Less than there was room for: the socket is empty, and the poller tells when it is not any more.
                ready.clear_ready();
                break;
            }
            if turn >= TURN {
                break;
            }
        }
        if turn >= TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// An answer completes its caller, a callback is handed on.
fn handle(shared: &Shared, record: Bytes, now: Instant) -> Result<(), DecodeError> {
    let size = record.len() + 4;
    let mut decoder = Decoder::new(record);
    match Header::decode(&mut decoder)? {
        Header::Reply(header) => {
            let answered = shared.state().session.handle_answer(now, header.xid);
            match answered {
                Answered::Call(waiter) => {
                    let time = now.saturating_duration_since(waiter.started);
                    shared.settings.counters.answer(waiter.slot, size, time);
                    let answer = match header.outcome {
                        Ok(()) => {
                            let body = decoder.rest();
                            let copy = !waiter.has_data && body.len() <= COPIED;
                            Ok(if copy { Bytes::copy_from_slice(&body) } else { body })
                        }
                        Err(rejection) => Err(CallError::Rejected(rejection)),
                    };
                    waiter.answer.complete(answer);
                }
                Answered::Ping | Answered::Orphan => {}
                Answered::Unknown => {
                    tracing::debug!(peer = %shared.settings.peer, xid = header.xid, "an answer that nobody waits for");
                }
            }
        }
        Header::Call(header) if header.program == rpc::CALLBACK => {
            shared.state().session.handle_received(now);
            match Callback::decode(header.procedure, &mut decoder) {
                Ok(callback) => (shared.settings.callbacks)(callback),
                Err(error) => tracing::warn!(peer = %shared.settings.peer, %error, "a callback that makes no sense"),
            }
        }
        Header::Call(header) => {
            tracing::debug!(peer = %shared.settings.peer, ?header, "a call for a program that clients do not have");
        }
    }
    Ok(())
}

/// Writes what callers could not, whenever the socket takes bytes again.
pub(super) async fn write(shared: Arc<Shared>) {
    loop {
        shared.writer.notified().await;
        if shared.closed.borrow().is_some() {
            return;
        }
        loop {
            let Ok(mut ready) = shared.stream.poller().writable().await else { return };
            let mut batch = Batch::new();
            if !shared.outgoing().resume(&mut batch) {
                break;
            }
            if shared.write(batch) == 0 {
                // The poller believed in room that callers have used up since.
                ready.clear_ready();
            } else {
                shared.state().session.handle_progress(Instant::now());
            }
            if shared.closed.borrow().is_some() {
                return;
            }
        }
    }
}

/// Pings, fails late calls, and drops a peer that is dead.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        if shared.closed.borrow().is_some() {
            return;
        }
        let due = {
            let mut state = shared.state();
            let due = state.session.poll_timeout();
            state.timer_sleeps = due.is_none();
            due
        };
        match due {
            None => shared.timer.notified().await,
            Some(due) => {
                // A new call never makes the deadline earlier than what is slept for by more than the call is young;
                // only the end of the connection is worth waking up for.
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = shared.timer.notified() => {}
                }
            }
        }
        let now = Instant::now();
        let due = shared.state().session.handle_timeout(now);
        match due {
            Due::Nothing => {}
            Due::Ping(xid) => shared.send(ping(xid), now),
            Due::Expired(waiters) => {
                for waiter in waiters {
                    shared.settings.counters.failure(waiter.slot);
                    waiter.answer.complete(Err(CallError::TimedOut(shared.settings.timing)));
                }
            }
            Due::Dead => {
                let timeout = shared.settings.timing.ping.as_secs_f32();
                let peer = &shared.settings.peer;
                shared.fail(format!("{peer}: no sign of life for {timeout} s (ping-timeout)").into());
            }
        }
    }
}

fn ping(xid: u32) -> Message {
    let mut encoder = Encoder::with_capacity(64);
    // Record word: 24 bytes of header, an empty credential and an empty verifier.
    encoder.u32(rgfs_protocol::record::mark(40));
    CallHeader::encode_front(&mut encoder, xid, rpc::DUMP, rgfs_protocol::dump::PING);
    for _ in 0..4 {
        encoder.u32(0);
    }
    Message { head: encoder.finish(), slot: OTHER, ..Message::default() }
}
