//! A server of volfiles from a directory: `DIR/ID.vol` for the id `ID`. For rgfs and for the C client alike.
//!
//! It speaks what a mount asks of a volfile server: GETSPEC, program discovery, PING. A client stays connected, and hears
//! FETCHSPEC when anything in the directory changed. Nobody is trusted: names lead nowhere but into the directory, sizes
//! and numbers are bounded, and a peer that is silent or does not read holds up nobody else.
//!
//! - One leading `/` of an id is ignored. An empty id means `glusterfs`.
//! - An id may have several parts (`snaps/S/V`); none may be empty or begin with a dot.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rgfs_protocol::Errno;
use rgfs_protocol::callback::Callback;
use rgfs_protocol::dump::{self, DumpReply, PingReply, ProgramDetail};
use rgfs_protocol::handshake::{GetspecReply, GetspecRequest, procedure};
use rgfs_protocol::record::{Framer, Space, Unpooled, mark};
use rgfs_protocol::rpc::{self, CallHeader, Message, OpaqueAuth, Program, Rejection, ReplyHeader};
use rgfs_protocol::xdr::{Decoder, Encoder};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::relay::{asks_for_volfile, relay};

/// Most clients at a time; one mount keeps one connection.
const MAX_CLIENTS: usize = 4096;

/// Longest call, in bytes: an id, a credential and a small dictionary.
const MAX_CALL: usize = 8 << 10;

/// Largest volfile, in bytes.
const MAX_VOLFILE: u64 = 4 << 20;

/// Longest id, in bytes; as glusterd has it.
const MAX_ID: usize = 254;

/// Volfiles that are read and sent at the same time.
const MAX_BUSY: usize = 16;

/// A peer that has asked nothing for so long after it connected is sent away.
const FIRST_CALL: Duration = Duration::from_secs(60);

/// A peer must take an answer within this time.
const WRITE: Duration = Duration::from_secs(30);

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Most files of the directory that are watched.
const MAX_FILES: usize = 65_536;

struct Server {
    directory: PathBuf,
    /// Peers that do not come for a volfile are handed to this brick.
    brick: Option<SocketAddr>,
    busy: Semaphore,
}

/// Serves the volfiles of `directory` to whoever connects to `listener`, until `shutdown` is done. Must run on a tokio
/// runtime with I/O and time. With a `brick` the port is the brick's too: whoever does not begin with GETSPEC is relayed to it.
///
/// # Errors
/// When the directory cannot be read or the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    directory: PathBuf,
    brick: Option<SocketAddr>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    std::fs::read_dir(&directory)?;
    let server = Arc::new(Server { directory, brick, busy: Semaphore::new(MAX_BUSY) });
    let (changed, changes) = watch::channel(());
    // Dropping the set, when this returns, ends its tasks.
    let mut tasks = JoinSet::new();
    tasks.spawn(look(server.directory.clone(), changed));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                // One task is the one that looks at the directory.
                Ok((_, peer)) if tasks.len() > MAX_CLIENTS => {
                    tracing::warn!(%peer, "turned away: {MAX_CLIENTS} clients are connected");
                }
                Ok((stream, peer)) => {
                    tasks.spawn(attend(server.clone(), stream, peer, changes.clone()));
                }
                Err(error) => {
                    // Out of descriptors, perhaps: it may pass.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

/// Serves one client until it leaves.
async fn attend(server: Arc<Server>, stream: TcpStream, peer: SocketAddr, changes: watch::Receiver<()>) {
    tracing::debug!(%peer, "connected");
    let attended = async {
        match server.brick {
            Some(brick) if !asks_for_volfile(&stream).await? => relay(stream, brick).await,
            _ => converse(&server, stream, changes).await,
        }
    };
    match attended.await {
        Ok(()) => tracing::debug!(%peer, "left"),
        Err(error) => tracing::info!(%peer, %error, "dropped"),
    }
}

async fn converse(server: &Server, mut stream: TcpStream, mut changes: watch::Receiver<()>) -> io::Result<()> {
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(true)?;
    // A mount that died without a word is found by the kernel.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
    let mut framer = Framer::new(Unpooled, MAX_CALL);
    let mut fetched = false;
    loop {
        let received = tokio::select! {
            received = receive(&mut framer, &mut stream) => received?,
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                if fetched {
                    send(&mut stream, &fetchspec()).await?;
                }
                continue;
            }
            () = tokio::time::sleep(FIRST_CALL), if !fetched => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "asked for nothing"));
            }
        };
        if received == 0 {
            return Ok(());
        }
        while let Some(record) = framer.next_record().map_err(invalid)? {
            let mut decoder = Decoder::new(record);
            let Message::Call(call) = Message::decode(&mut decoder).map_err(invalid)? else { continue };
            let _turn = server.busy.acquire().await.map_err(invalid)?;
            let answer = answer(server, &call, &mut decoder).await;
            fetched |= call.program == rpc::HANDSHAKE;
            send(&mut stream, &answer).await?;
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Receives once; a receive that is given up has received nothing.
async fn receive(framer: &mut Framer<Unpooled>, stream: &mut TcpStream) -> io::Result<usize> {
    match framer.space(false) {
        Space::Shared(buffer, _) => stream.read_buf(buffer).await,
        Space::Own(space) => {
            let count = stream.read(space).await?;
            framer.filled(count);
            Ok(count)
        }
    }
}

async fn send(stream: &mut TcpStream, record: &[u8]) -> io::Result<()> {
    tokio::time::timeout(WRITE, stream.write_all(record))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "does not read its answers")))
}

/// A whole record, with its word.
fn record(fill: impl FnOnce(&mut Encoder)) -> Bytes {
    let mut encoder = Encoder::default();
    encoder.u32(0);
    fill(&mut encoder);
    encoder.patch_u32(0, mark(encoder.len() - 4));
    encoder.finish().freeze()
}

fn fetchspec() -> Bytes {
    record(|encoder| {
        let credential = OpaqueAuth { flavor: rgfs_protocol::auth::AUTH_NONE, body: Bytes::new() };
        let procedure = Callback::FetchSpec.procedure();
        CallHeader { xid: 1, program: rpc::CALLBACK, procedure, credential }.encode(encoder);
    })
}

/// The answer to any call.
async fn answer(server: &Server, call: &CallHeader, arguments: &mut Decoder) -> Bytes {
    let good = |body: &dyn Fn(&mut Encoder)| {
        record(|encoder| {
            ReplyHeader::success(call.xid).encode(encoder);
            body(encoder);
        })
    };
    let bad = |rejection| record(|encoder| ReplyHeader { xid: call.xid, outcome: Err(rejection) }.encode(encoder));
    match (call.program, call.procedure) {
        (rpc::HANDSHAKE, procedure::GETSPEC) => match GetspecRequest::decode(arguments) {
            Ok(request) => {
                let reply = getspec(server, &request.key).await;
                good(&|encoder| reply.encode(encoder))
            }
            Err(_) => bad(Rejection::GarbageArguments),
        },
        (rpc::DUMP, dump::DUMP) => good(&|encoder| programs().encode(encoder)),
        (rpc::DUMP, dump::PING) | (rpc::HANDSHAKE, procedure::PING) => {
            good(&|encoder| PingReply::default().encode(encoder))
        }
        (rpc::HANDSHAKE | rpc::DUMP, _) => bad(Rejection::ProcedureUnavailable),
        (Program { number, .. }, _) => match [rpc::HANDSHAKE, rpc::DUMP].iter().find(|known| known.number == number) {
            Some(Program { version, .. }) => bad(Rejection::ProgramMismatch { low: *version, high: *version }),
            None => bad(Rejection::ProgramUnavailable),
        },
    }
}

fn programs() -> DumpReply {
    let detail = |name: &'static str, program: Program| ProgramDetail {
        name: Bytes::from_static(name.as_bytes()),
        number: u64::from(program.number),
        version: u64::from(program.version),
    };
    let programs = vec![detail("GF-DUMP", rpc::DUMP), detail("Gluster Handshake", rpc::HANDSHAKE)];
    DumpReply { programs, ..DumpReply::default() }
}

async fn getspec(server: &Server, key: &[u8]) -> GetspecReply {
    let failed = |errno: Errno| GetspecReply { op_ret: -1, op_errno: errno.raw(), ..GetspecReply::default() };
    let Some(name) = file_name(key) else { return failed(Errno::EINVAL) };
    let path = server.directory.join(name);
    let shown = path.display().to_string();
    match tokio::task::spawn_blocking(move || read(&path)).await {
        Ok(Ok(text)) => GetspecReply {
            // At most MAX_VOLFILE.
            op_ret: i32::try_from(text.len()).unwrap_or(i32::MAX),
            spec: text.into(),
            ..GetspecReply::default()
        },
        Ok(Err(error)) => {
            tracing::info!("{shown}: {error}");
            failed(match error.kind() {
                io::ErrorKind::NotFound => Errno::ENOENT,
                io::ErrorKind::PermissionDenied => Errno::EACCES,
                io::ErrorKind::FileTooLarge => Errno::EFBIG,
                _ => Errno::EIO,
            })
        }
        Err(_) => failed(Errno::EIO),
    }
}

/// The file of an id, below the directory; `None` for an id that could lead elsewhere.
fn file_name(key: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key).ok()?;
    let id = key.strip_prefix('/').unwrap_or(key);
    let id = if id.is_empty() { "glusterfs" } else { id };
    let harmless = |part: &str| !part.is_empty() && !part.starts_with('.');
    let good = id.len() <= MAX_ID && !id.contains('\0') && id.split('/').all(harmless);
    good.then(|| format!("{id}.vol"))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    // A fifo must not hold us up.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_VOLFILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_VOLFILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than a volfile may be"));
    }
    Ok(text)
}

/// What tells one state of a file from another.
type Stamp = (PathBuf, Option<SystemTime>, u64, u64);

/// Tells `changed` whenever a volfile appeared, went or was written.
async fn look(directory: PathBuf, changed: watch::Sender<()>) {
    let mut before: Option<Vec<Stamp>> = None;
    loop {
        let place = directory.clone();
        let now = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            stamps(&place, 3, &mut found);
            found.sort();
            found
        })
        .await
        .unwrap_or_default();
        if before.as_ref().is_some_and(|before| *before != now) {
            tracing::info!("{}: volfiles have changed", directory.display());
            changed.send_replace(());
        }
        before = Some(now);
        tokio::time::sleep(LOOK).await;
    }
}

/// Stamps of the volfiles in `directory` and `depth` levels below.
fn stamps(directory: &Path, depth: u32, found: &mut Vec<Stamp>) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten().take(MAX_FILES) {
        if found.len() >= MAX_FILES {
            return;
        }
        let path = entry.path();
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if metadata.is_dir() && depth > 0 {
            stamps(&path, depth - 1, found);
        } else if path.extension().is_some_and(|extension| extension == "vol") {
            found.push((path, metadata.modified().ok(), metadata.len(), metadata.ino()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::{PATIENCE, wait};
    use crate::net::volfile::{FetchRequest, fetch};
    use crate::net::{Endpoint, Network};
    use std::sync::mpsc;

    #[test]
    fn ids_stay_inside_the_directory() {
        for (key, expected) in [
            (&b"/vol"[..], Some("vol.vol")),
            (b"vol", Some("vol.vol")),
            (b"", Some("glusterfs.vol")),
            (b"/", Some("glusterfs.vol")),
            (b"snaps/s/v", Some("snaps/s/v.vol")),
            (b"vol.tcp-fuse", Some("vol.tcp-fuse.vol")),
            (b"../etc/passwd", None),
            (b"/../x", None),
            (b"a/../../x", None),
            (b"//etc/x", None),
            (b"a//b", None),
            (b".hidden", None),
            (b"nul\0x", None),
            (b"\xff", None),
            (&[b'x'; 255], None),
        ] {
            assert_eq!(file_name(key).as_deref(), expected, "{}", key.escape_ascii());
        }
    }

    /// A server on a thread of its own; it ends with the returned sender.
    fn start(directory: &Path) -> (Endpoint, tokio::sync::oneshot::Sender<()>, Network) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::tcp("127.0.0.1", listener.local_addr().unwrap().port());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let network = Network::start(1).unwrap();
        let directory = directory.to_owned();
        network.handle().spawn(async move {
            serve(listener, directory, None, async {
                let _ = stopped.await;
            })
            .await
            .unwrap();
        });
        (endpoint, stop, network)
    }

    #[test]
    fn our_own_client_fetches_and_hears_changes() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("vol.vol"), "volume one").unwrap();
        let (endpoint, _stop, _server) = start(directory.path());
        // Somebody who connects and says nothing is in nobody's way.
        let Endpoint::Tcp { port, .. } = endpoint else { panic!() };
        let _idle = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let network = Network::start(1).unwrap();
        let get = |id: &str| {
            let (network, request) = (network.clone(), FetchRequest::new(vec![endpoint.clone()], id));
            wait(async move { fetch(&network, &request).await.map(|fetched| (fetched, request)) })
        };
        let (fetched, request) = get("/vol").unwrap();
        assert_eq!(fetched.volfile, "volume one");
        for (id, expected) in [("gone", "volume 'gone' does not exist on 127.0.0.1"), ("../vol", "does not accept")] {
            let error = get(id).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let (told, changes) = mpsc::channel();
        let _subscription = fetched.subscribe(&network, request, move |volfile| told.send(volfile).unwrap());
        // The server may look at the directory for the first time only after this: so it is changed until it is heard.
        let mut number = 0;
        let heard = loop {
            number += 1;
            assert!(number < 20, "no change was heard");
            std::fs::write(directory.path().join("vol.vol"), "volume ".repeat(number)).unwrap();
            if let Ok(heard) = changes.recv_timeout(2 * LOOK) {
                break heard;
            }
        };
        assert_eq!(heard, "volume ".repeat(number));
    }

    #[test]
    fn other_calls_are_turned_down_politely() {
        use crate::net::connection::{CallError, Connection, Request};
        use crate::net::endpoint::SocketOptions;
        use crate::net::stream;
        use rgfs_protocol::auth::Caller;
        let directory = tempfile::tempdir().unwrap();
        let (endpoint, _stop, _server) = start(directory.path());
        let network = Network::start(1).unwrap();
        let handle = network.handle().clone();
        let (sender, receiver) = mpsc::channel();
        let runtime = handle.clone();
        handle.spawn(async move {
            let deadline = std::time::Instant::now() + PATIENCE;
            let stream = stream::connect(&endpoint, &SocketOptions::default(), deadline).await.unwrap();
            let connection = Connection::start(&runtime, stream, crate::net::testing::settings());
            let ask = async |program, procedure| {
                connection.call(Request::new(program, procedure, Caller::NOBODY), |_| {}).unwrap().await
            };
            let old = Program { version: 1, ..rpc::HANDSHAKE };
            let reply = DumpReply::decode(&mut Decoder::new(ask(rpc::DUMP, 1).await.unwrap())).unwrap();
            assert!(reply.has(rpc::HANDSHAKE) && !reply.has(rpc::FOPS));
            assert_eq!(ask(rpc::DUMP, 2).await.unwrap().len(), 12);
            for (program, procedure, expected) in [
                (rpc::PORTMAP, 1, Rejection::ProgramUnavailable),
                (rpc::HANDSHAKE, 1, Rejection::ProcedureUnavailable),
                (rpc::HANDSHAKE, 2, Rejection::GarbageArguments),
                (old, 2, Rejection::ProgramMismatch { low: 2, high: 2 }),
            ] {
                let Err(CallError::Rejected(rejection)) = ask(program, procedure).await else { panic!() };
                assert_eq!(rejection, expected);
            }
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(PATIENCE).unwrap();
    }
}
