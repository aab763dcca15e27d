//! The record of calls and answers, decoded from the bytes that pass the proxies.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use bytes::Bytes;
use rgfs_protocol::auth::Credential;
use rgfs_protocol::fops::{Procedure, Reply, ReplyStatus, Request};
use rgfs_protocol::record::{Framer, MAX_RECORD, Space, Unpooled};
use rgfs_protocol::rpc::{CallHeader, FOPS, Message, ReplyHeader};
use rgfs_protocol::types::{EntrylkCmd, LockType};
use rgfs_protocol::xdr::Decoder;
use rgfs_protocol::{Dict, Errno, Gfid};

use crate::proxy::{Direction, Tap};

/// One file operation at one brick.
#[derive(Debug, Clone)]
pub struct Call {
    /// The brick, from 0.
    pub brick: usize,
    /// Which operation.
    pub procedure: Procedure,
    /// Its arguments.
    pub request: Request,
    /// Bytes of file data that went along.
    pub data: usize,
    /// Lock owner of the credential.
    pub owner: Bytes,
    /// Process id of the credential.
    pub pid: i32,
    /// Position among all calls and answers.
    pub sent: u64,
    /// When it passed the proxy.
    pub sent_at: Instant,
    /// What the brick said; `None` when the connection ended first.
    pub answer: Option<Answer>,
}

/// What a brick said to a call.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What the fop counts, or why it failed.
    pub outcome: Result<u32, Errno>,
    /// Further values.
    pub xdata: Dict,
    /// Position among all calls and answers.
    pub seen: u64,
    /// When it passed the proxy.
    pub seen_at: Instant,
}

/// Names of objects: the first one that each was seen with.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(HashMap<Gfid, String>);

impl Names {
    pub(super) fn of(&self, gfid: &Gfid) -> &str {
        if gfid.is_root() { "/" } else { self.0.get(gfid).map_or("(unknown)", String::as_str) }
    }

    fn learn(&mut self, gfid: Gfid, name: &Bytes) {
        if gfid.is_null() || gfid.is_root() || name.is_empty() || self.0.contains_key(&gfid) {
            return;
        }
        let mut label = String::from_utf8_lossy(name).into_owned();
        // Two objects with one name are told apart: bricks that disagree about a gfid must not look alike.
        while self.0.values().any(|known| *known == label) {
            label.push('\'');
        }
        self.0.insert(gfid, label);
    }
}

/// All that passed, since it was last taken.
#[derive(Default)]
pub(super) struct Log(Mutex<State>);

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Log")
    }
}

#[derive(Default)]
struct State {
    /// Calls and answers so far.
    events: u64,
    calls: Vec<Call>,
    connections: HashMap<u64, Connection>,
    names: Names,
    /// The first message that could not be decoded.
    broken: Option<String>,
}

/// One connection of a client with a brick.
struct Connection {
    to_brick: Framer<Unpooled>,
    to_client: Framer<Unpooled>,
    /// Calls that wait for an answer, by their id on this connection; as places in `calls`.
    waiting: HashMap<u32, usize>,
    /// Internal locks that are held.
    held: i64,
}

impl Connection {
    fn new() -> Self {
        let framer = || Framer::new(Unpooled, MAX_RECORD);
        Self { to_brick: framer(), to_client: framer(), waiting: HashMap::new(), held: 0 }
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn names(&self) -> Names {
        self.state().names.clone()
    }

    /// The calls so far, if each is answered and no internal lock is held.
    pub(super) fn take_if_settled(&self) -> Result<Option<Vec<Call>>> {
        let mut state = self.state();
        if let Some(broken) = &state.broken {
            bail!("the recorder cannot decode a message: {broken}");
        }
        let settled =
            state.connections.values().all(|connection| connection.waiting.is_empty() && connection.held == 0);
        Ok(settled.then(|| std::mem::take(&mut state.calls)))
    }

    /// The calls so far, whatever is still missing.
    pub(super) fn so_far(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// What keeps it from being settled, for errors.
    pub(super) fn unsettled(&self) -> String {
        let state = self.state();
        let waiting: Vec<String> = state
            .connections
            .values()
            .flat_map(|connection| connection.waiting.values())
            .filter_map(|&place| state.calls.get(place))
            .map(|call| format!("{} at brick {}", call.procedure.name(), call.brick))
            .collect();
        let held: i64 = state.connections.values().map(|connection| connection.held).sum();
        format!("without an answer: {waiting:?}; internal locks held: {held}")
    }
}

/// The tap at one brick's proxy.
#[derive(Debug)]
pub(super) struct BrickTap {
    brick: usize,
    log: Arc<Log>,
}

impl BrickTap {
    pub(super) fn new(brick: usize, log: Arc<Log>) -> Self {
        Self { brick, log }
    }
}

impl Tap for BrickTap {
    fn passes(&self, connection: u64, direction: Direction, bytes: &[u8]) {
        let state = &mut *self.log.state();
        let entry = state.connections.entry(connection).or_insert_with(Connection::new);
        let framer = match direction {
            Direction::ToBrick => &mut entry.to_brick,
            Direction::ToClient => &mut entry.to_client,
        };
        let done = match records(framer, bytes) {
            Ok(records) => records.into_iter().try_for_each(|record| state.message(self.brick, connection, record)),
            Err(error) => Err(error),
        };
        if let (Err(error), None) = (done, &state.broken) {
            state.broken = Some(format!("{direction:?} of brick {}: {error:#}", self.brick));
        }
    }

    fn ended(&self, connection: u64) {
        self.log.state().connections.remove(&connection);
    }
}

/// Gives bytes to a framer; the records that are complete now.
fn records(framer: &mut Framer<Unpooled>, mut bytes: &[u8]) -> Result<Vec<Bytes>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let count = match framer.space(false) {
            Space::Shared(buffer, room) => {
                let count = room.min(bytes.len());
                buffer.extend_from_slice(&bytes[..count]);
                count
            }
            Space::Own(space) => {
                let count = space.len().min(bytes.len());
                space[..count].copy_from_slice(&bytes[..count]);
                framer.filled(count);
                count
            }
        };
        bytes = &bytes[count..];
        while let Some(record) = framer.next_record()? {
            records.push(record);
        }
    }
    Ok(records)
}

impl State {
    fn message(&mut self, brick: usize, connection: u64, record: Bytes) -> Result<()> {
        let mut decoder = Decoder::new(record);
        match Message::decode(&mut decoder)? {
            // Callbacks of the brick, handshakes and pings are of other programs.
            Message::Call(header) if header.program == FOPS => self.call(brick, connection, &header, decoder.rest()),
            Message::Call(_) => Ok(()),
            Message::Reply(header) => self.answer(connection, header, decoder.rest()),
        }
    }

    fn call(&mut self, brick: usize, connection: u64, header: &CallHeader, body: Bytes) -> Result<()> {
        let Some(procedure) = Procedure::from_number(header.procedure) else {
            bail!("unknown procedure {}", header.procedure);
        };
        let (request, data) = Request::decode(procedure, body)?;
        let credential = Credential::decode(&header.credential)?;
        if let Some((name, xdata)) = new_object(&request)
            && let Some(gfid) = xdata.bytes("gfid-req").and_then(|bytes| Some(Gfid(bytes.as_ref().try_into().ok()?)))
        {
            self.names.learn(gfid, name);
        }
        self.events += 1;
        self.calls.push(Call {
            brick,
            procedure,
            request,
            data: data.len(),
            owner: Bytes::copy_from_slice(&credential.owner.0),
            pid: credential.pid,
            sent: self.events,
            sent_at: Instant::now(),
            answer: None,
        });
        let place = self.calls.len() - 1;
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.waiting.insert(header.xid, place);
        }
        Ok(())
    }

    fn answer(&mut self, connection: u64, header: ReplyHeader, body: Bytes) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&connection) else { return Ok(()) };
        // The answer to another program's call, or to one whose connection ended.
        let Some(place) = connection.waiting.remove(&header.xid) else { return Ok(()) };
        let Some(call) = self.calls.get_mut(place) else { return Ok(()) };
        self.events += 1;
        let mut answer =
            Answer { outcome: Err(Errno::EIO), xdata: Dict::NULL, seen: self.events, seen_at: Instant::now() };
        if header.outcome.is_ok() {
            let (reply, _) = Reply::decode(call.procedure, body)?;
            if let (Reply::Lookup(found), Request::Lookup(asked)) = (&reply, &call.request)
                && found.op_ret() >= 0
            {
                self.names.learn(found.stat.gfid, &asked.name);
            }
            read_answer(&reply, &mut answer);
            if answer.outcome.is_ok() {
                connection.held += lock_change(&call.request);
            }
        }
        call.answer = Some(answer);
        Ok(())
    }
}

/// The name and xdata of a request that makes an object.
fn new_object(request: &Request) -> Option<(&Bytes, &Dict)> {
    match request {
        Request::Create(request) => Some((&request.name, &request.xdata)),
        Request::Mknod(request) => Some((&request.name, &request.xdata)),
        Request::Mkdir(request) => Some((&request.name, &request.xdata)),
        Request::Symlink(request) => Some((&request.name, &request.xdata)),
        _ => None,
    }
}

/// 1 for a request that takes an internal lock, −1 for one that gives it back.
fn lock_change(request: &Request) -> i64 {
    let change = |given_back| if given_back { -1 } else { 1 };
    match request {
        Request::Inodelk(request) => change(request.kind == LockType::Unlock),
        Request::Finodelk(request) => change(request.kind == LockType::Unlock),
        Request::Entrylk(request) => change(request.cmd == EntrylkCmd::Unlock),
        Request::Fentrylk(request) => change(request.cmd == EntrylkCmd::Unlock),
        _ => 0,
    }
}

/// Takes what counts out of a reply that [`describe`](super::describe) may want to show.
fn read_answer(reply: &Reply, answer: &mut Answer) {
    let status: &dyn Status = match reply {
        Reply::Inodelk(reply)
        | Reply::Finodelk(reply)
        | Reply::Entrylk(reply)
        | Reply::Fentrylk(reply)
        | Reply::Flush(reply)
        | Reply::Setxattr(reply)
        | Reply::Fsetxattr(reply)
        | Reply::Removexattr(reply)
        | Reply::Fremovexattr(reply) => reply,
        Reply::Write(reply)
        | Reply::Fsync(reply)
        | Reply::Truncate(reply)
        | Reply::Ftruncate(reply)
        | Reply::Fallocate(reply)
        | Reply::Discard(reply)
        | Reply::Zerofill(reply)
        | Reply::Setattr(reply)
        | Reply::Fsetattr(reply)
        | Reply::Unlink(reply)
        | Reply::Rmdir(reply) => reply,
        Reply::Mknod(reply) | Reply::Mkdir(reply) | Reply::Symlink(reply) | Reply::Link(reply) => reply,
        Reply::Xattrop(reply) | Reply::Fxattrop(reply) => reply,
        Reply::Create(reply) => reply,
        Reply::Rename(reply) => reply,
        // The others change nothing and are not shown.
        _ => {
            answer.outcome = Ok(0);
            return;
        }
    };
    (answer.outcome, answer.xdata) = status.status();
}

/// What is shown of every reply.
trait Status {
    fn status(&self) -> (Result<u32, Errno>, Dict);
}

impl<T: ReplyStatus> Status for T {
    fn status(&self) -> (Result<u32, Errno>, Dict) {
        (self.outcome(), self.xdata().clone())
    }
}
