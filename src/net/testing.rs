//! A peer for tests: the server's side of a connection, scripted, on a thread of its own, with blocking reads.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::callback::Callback;
use rgfs_protocol::record::mark;
use rgfs_protocol::rpc::{self, CallHeader, Message, OpaqueAuth, Rejection, ReplyHeader};
use rgfs_protocol::xdr::{Decoder, Encoder};
use tokio::runtime::Handle;

use super::connection::{Connection, Settings};
use super::stream::Stream;

/// Longest time that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The server's end of a stream.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
}

/// A call that a peer got.
pub(crate) struct Incoming {
    pub(crate) header: CallHeader,
    pub(crate) arguments: Decoder,
}

impl<S: Read + Write> Peer<S> {
    /// The next call; `None` when the client has closed. Pings are answered here, unless `pings` says to return them.
    pub(crate) fn next(&mut self) -> Option<Incoming> {
        loop {
            let call = self.next_with_pings()?;
            if call.header.program == rpc::DUMP && call.header.procedure == rgfs_protocol::dump::PING {
                self.answer(call.header.xid, |encoder| rgfs_protocol::dump::PingReply::default().encode(encoder));
                continue;
            }
            return Some(call);
        }
    }

    pub(crate) fn next_with_pings(&mut self) -> Option<Incoming> {
        let mut word = [0; 4];
        self.stream.read_exact(&mut word).ok()?;
        let mut record = vec![0; (u32::from_be_bytes(word) & 0x7fff_ffff) as usize];
        self.stream.read_exact(&mut record).ok()?;
        let mut arguments = Decoder::new(record.into());
        match Message::decode(&mut arguments).unwrap() {
            Message::Call(header) => Some(Incoming { header, arguments }),
            Message::Reply(header) => panic!("a client answered: {header:?}"),
        }
    }

    pub(crate) fn answer(&mut self, xid: u32, body: impl FnOnce(&mut Encoder)) {
        self.reply(ReplyHeader::success(xid), body);
    }

    pub(crate) fn reject(&mut self, xid: u32, rejection: Rejection) {
        self.reply(ReplyHeader { xid, outcome: Err(rejection) }, |_| {});
    }

    fn reply(&mut self, header: ReplyHeader, body: impl FnOnce(&mut Encoder)) {
        self.record(|encoder| {
            header.encode(encoder);
            body(encoder);
        });
    }

    pub(crate) fn callback(&mut self, callback: &Callback) {
        self.record(|encoder| {
            let credential = OpaqueAuth { flavor: 0, body: Bytes::new() };
            CallHeader { xid: 1, program: rpc::CALLBACK, procedure: callback.procedure(), credential }.encode(encoder);
            callback.encode(encoder);
        });
    }

    fn record(&mut self, fill: impl FnOnce(&mut Encoder)) {
        let mut encoder = Encoder::default();
        encoder.u32(0);
        fill(&mut encoder);
        encoder.patch_u32(0, mark(encoder.len() - 4));
        // The client may have gone; its tests notice.
        let _ = self.stream.write_all(&encoder.finish());
    }
}

/// A connection over a socket pair, and its other end.
pub(crate) fn pair(handle: &Handle, settings: Settings) -> (Connection, Peer<std::os::unix::net::UnixStream>) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let stream = {
        let _context = handle.enter();
        Stream::new(OwnedFd::from(ours)).unwrap()
    };
    (Connection::start(handle, stream, settings), Peer { stream: theirs })
}

/// A loopback port where nobody listens, and nobody else can begin to while the socket is kept.
pub(crate) fn refusing_port() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// Runs a future on this thread until it is done, or fails the test.
pub(crate) fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    crate::task::spawn(async move {
        let _ = sender.send(future.await);
    });
    receiver.recv_timeout(PATIENCE).unwrap()
}

/// Settings with the C client's times, that ignore callbacks.
pub(crate) fn settings() -> Settings {
    Settings {
        peer: Arc::from("server:49152"),
        timing: rgfs_protocol::session::Timing::default(),
        counters: Arc::default(),
        callbacks: Arc::new(|_| {}),
    }
}
