//! Fetching the volfile (`glusterfsd-mgmt.c`): ask the servers in turn, then stay connected to hear of changes.
//!
//! A server that cannot be reached hands over to the next one; one that answers, even with an error, is final, as in C.
//! Afterwards a [`Subscription`] fetches again whenever the server says that something changed (FETCHSPEC names no volume,
//! so most of these are for others), and after every reconnect, because news may have been missed meanwhile.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rgfs_protocol::Errno;
use rgfs_protocol::auth::Caller;
use rgfs_protocol::callback::Callback;
use rgfs_protocol::handshake::{GetspecReply, GetspecRequest, procedure};
use rgfs_protocol::rpc::HANDSHAKE;
use rgfs_protocol::session::{RECONNECT, Timing};
use rgfs_protocol::xdr::Decoder;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::Network;
use super::connection::{CallError, Connection, Request, Settings};
use super::endpoint::{Endpoint, SocketOptions};
use super::stream;

/// Port of glusterd.
pub const DEFAULT_PORT: u16 = 24007;

/// Most servers that are kept in the list, those that servers named included.
const MAX_SERVERS: usize = 64;

/// What to fetch, from where, and how long to try.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The servers, in the order in which they are asked.
    pub servers: Vec<Endpoint>,
    /// Which volfile (`--volfile-id`), with or without a leading `/`.
    pub id: Arc<str>,
    /// How long one server may take, from name resolution to its answer.
    pub per_server: Duration,
    /// How long all of them may take.
    pub overall: Duration,
    /// Socket options.
    pub socket: SocketOptions,
}

impl FetchRequest {
    /// A request with usual patience: 10 s for each server, a minute for all.
    pub fn new(servers: Vec<Endpoint>, id: &str) -> Self {
        FetchRequest {
            servers,
            id: id.into(),
            per_server: Duration::from_secs(10),
            overall: Duration::from_secs(60),
            socket: SocketOptions::default(),
        }
    }

    fn volume(&self) -> &str {
        self.id.strip_prefix('/').unwrap_or(&self.id)
    }
}

/// Why one server gave no volfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The server.
    pub server: Endpoint,
    /// What happened, and what to do about it.
    pub reason: String,
    /// The server answered: there is no sense in asking another one.
    pub answered: bool,
    /// The errno with which it refused.
    pub errno: Option<Errno>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.server, self.reason)
    }
}

/// Why there is no volfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is nobody to ask.
    #[error("no volfile server is named")]
    NoServers,
    /// No server gave the volfile.
    #[error("cannot fetch the volfile of '{id}': {}", join(.errors))]
    Failed {
        /// Which volfile.
        id: Arc<str>,
        /// What each server that was asked said.
        errors: Vec<ServerError>,
    },
}

fn join(errors: &[ServerError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A volfile, and the connection that it came over.
#[derive(Debug)]
pub struct Fetched {
    /// Its text.
    pub volfile: Bytes,
    /// Who gave it.
    pub server: Endpoint,
    /// Further servers that this one named.
    pub others: Vec<Endpoint>,
    link: Management,
}

/// An open connection to a volfile server.
#[derive(Debug)]
struct Management {
    server: Endpoint,
    connection: Connection,
    /// The server has said that something changed.
    news: Arc<Notify>,
}

/// Fetches the volfile. May be awaited anywhere: the work is done on a network thread.
///
/// # Errors
/// When no server gives it: what each one said.
pub async fn fetch(network: &Network, request: &FetchRequest) -> Result<Fetched, FetchError> {
    let (sender, receiver) = oneshot::channel();
    let (handle, request) = (network.handle().clone(), request.clone());
    let runtime = handle.clone();
    let id = request.id.clone();
    handle.spawn(async move {
        let _ = sender.send(try_servers(&runtime, &request, &request.servers).await);
    });
    // Without an answer the network threads have ended.
    receiver.await.unwrap_or(Err(FetchError::Failed { id, errors: Vec::new() }))
}

async fn try_servers(handle: &Handle, request: &FetchRequest, servers: &[Endpoint]) -> Result<Fetched, FetchError> {
    if servers.is_empty() {
        return Err(FetchError::NoServers);
    }
    let end = Instant::now() + request.overall;
    let mut errors = Vec::new();
    for server in servers {
        let deadline = end.min(Instant::now() + request.per_server);
        let link = match Management::connect(handle, request, server, deadline).await {
            Ok(link) => link,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        match link.getspec(request, deadline).await {
            Ok((volfile, others)) => return Ok(Fetched { volfile, server: server.clone(), others, link }),
            Err(error) => {
                let answered = error.answered;
                errors.push(error);
                if answered {
                    break;
                }
            }
        }
    }
    Err(FetchError::Failed { id: request.id.clone(), errors })
}

impl Management {
    async fn connect(
        handle: &Handle,
        request: &FetchRequest,
        server: &Endpoint,
        deadline: Instant,
    ) -> Result<Self, ServerError> {
        let stream = stream::connect(server, &request.socket, deadline).await.map_err(|error| ServerError {
            server: server.clone(),
            reason: error.to_string(),
            answered: false,
            errno: None,
        })?;
        let news = Arc::new(Notify::new());
        let told = news.clone();
        let settings = Settings {
            peer: server.to_string().into(),
            // The C client does not ping volfile servers either; keepalive finds those that are gone.
            timing: Timing { ping: Duration::ZERO, ..Timing::default() },
            counters: Arc::default(),
            callbacks: Arc::new(move |callback| {
                if callback == Callback::FetchSpec {
                    told.notify_one();
                }
            }),
        };
        Ok(Management { server: server.clone(), connection: Connection::start(handle, stream, settings), news })
    }

    async fn getspec(&self, request: &FetchRequest, deadline: Instant) -> Result<(Bytes, Vec<Endpoint>), ServerError> {
        let error =
            |reason: String, answered| ServerError { server: self.server.clone(), reason, answered, errno: None };
        let lost = |failure: CallError| match failure {
            CallError::Disconnected(cause) => {
                let cause = cause.strip_prefix(&format!("{}: ", self.server)).unwrap_or(&cause).to_owned();
                error(format!("{cause}, instead of an answer to GETSPEC; is this a volfile server?"), false)
            }
            CallError::Rejected(rejection) => error(format!("not a volfile server: {rejection}"), true),
            other => error(other.to_string(), false),
        };
        let asked = GetspecRequest::new(&request.id);
        let call = self
            .connection
            .call(Request::new(HANDSHAKE, procedure::GETSPEC, Caller::NOBODY), |encoder| asked.encode(encoder))
            .map_err(lost)?;
        let body = match tokio::time::timeout_at(deadline.into(), call).await {
            Ok(answer) => answer.map_err(lost)?,
            Err(_) => {
                let patience = request.per_server.as_secs_f32();
                return Err(error(format!("connected, but no answer to GETSPEC within {patience} s"), false));
            }
        };
        let reply = GetspecReply::decode(&mut Decoder::new(body))
            .map_err(|wrong| error(format!("the answer to GETSPEC makes no sense: {wrong}"), true))?;
        match reply.volfile() {
            Some(volfile) => {
                let others = reply.servers().into_iter().take(MAX_SERVERS);
                Ok((volfile, others.map(|text| Endpoint::parse(text, DEFAULT_PORT)).collect()))
            }
            None => {
                let refused = error(refusal(&reply, request.volume(), &self.server), true);
                Err(ServerError { errno: Some(Errno::from_wire(reply.op_errno)), ..refused })
            }
        }
    }
}

/// Words for a server that has no volfile for us.
fn refusal(reply: &GetspecReply, volume: &str, server: &Endpoint) -> String {
    let place = match server {
        Endpoint::Tcp { host, .. } => host.to_string(),
        Endpoint::Unix { path } => path.display().to_string(),
    };
    if volume.is_empty() {
        return "no volume named; give --volfile-id=VOLUME".to_owned();
    }
    match Errno::from_wire(reply.op_errno) {
        Errno::ENOENT => format!("volume '{volume}' does not exist on {place}"),
        Errno::ENOSYS | Errno::EOPNOTSUPP if !reply.spec.is_empty() => {
            format!("a brick answers there, which serves no volfiles: {}", String::from_utf8_lossy(&reply.spec))
        }
        Errno::EOPNOTSUPP => {
            format!("{place} gives volume '{volume}' only to clients of another op-version; upgrade this client")
        }
        Errno::EINVAL => format!("{place} does not accept '{volume}' as the name of a volume"),
        errno => format!("{place} has no volfile for '{volume}': {errno}"),
    }
}

/// Watches for changes of the volfile until it is dropped.
#[derive(Debug)]
pub struct Subscription {
    // Dropping it ends the task.
    _end: oneshot::Sender<()>,
}

impl Fetched {
    /// Stays connected: `on_change` gets every later volfile that differs from the one before. It runs on a network thread
    /// and must not block.
    pub fn subscribe(
        self,
        network: &Network,
        request: FetchRequest,
        on_change: impl Fn(Bytes) + Send + Sync + 'static,
    ) -> Subscription {
        let (end, ended) = oneshot::channel::<()>();
        let handle = network.handle().clone();
        let runtime = handle.clone();
        handle.spawn(async move {
            tokio::select! {
                () = follow(self, &runtime, request, on_change) => {}
                _ = ended => {}
            }
        });
        Subscription { _end: end }
    }
}

async fn follow(fetched: Fetched, handle: &Handle, request: FetchRequest, on_change: impl Fn(Bytes)) {
    let Fetched { mut volfile, mut link, others, .. } = fetched;
    let mut servers = request.servers.clone();
    add(&mut servers, others);
    loop {
        tokio::select! {
            () = link.news.notified() => {}
            cause = link.connection.closed() => {
                tracing::warn!("volfile server {cause}; connecting again");
                tokio::time::sleep(RECONNECT).await;
                link = loop {
                    match try_servers(handle, &request, &servers).await {
                        Ok(fetched) => {
                            changed(&mut volfile, fetched.volfile, &on_change);
                            add(&mut servers, fetched.others);
                            break fetched.link;
                        }
                        Err(error) => tracing::debug!("{error}"),
                    }
                    tokio::time::sleep(RECONNECT).await;
                };
                continue;
            }
        }
        match link.getspec(&request, Instant::now() + request.per_server).await {
            Ok((new, _)) => changed(&mut volfile, new, &on_change),
            Err(error) => {
                tracing::warn!("cannot fetch the volfile again: {error}");
                if !error.answered {
                    link.connection.close(error.reason);
                }
            }
        }
    }
}

fn changed(old: &mut Bytes, new: Bytes, on_change: &impl Fn(Bytes)) {
    if *old == new {
        tracing::debug!("the volfile has not changed");
        return;
    }
    *old = new.clone();
    on_change(new);
}

fn add(servers: &mut Vec<Endpoint>, others: Vec<Endpoint>) {
    for other in others {
        if servers.len() < MAX_SERVERS && !servers.contains(&other) {
            servers.push(other);
        }
    }
}

#[cfg(test)]
#[path = "volfile_tests.rs"]
mod tests;
