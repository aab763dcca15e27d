//! The volfile's text, from a file or from the servers.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::failure::Failure;
use super::options::{VolfileServer, VolfileSource};
use crate::net::volfile::{self, FetchError, FetchRequest};
use crate::net::{Endpoint, Network};

/// Largest volfile that is read, in bytes.
const VOLFILE_MAX: u64 = 4 << 20;
/// A server has at least this long to answer, however many there are.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// A volfile that was got.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Where it came from, for error messages.
    pub(super) origin: String,
    /// The text. It may hold passwords: never log it.
    pub(super) text: Bytes,
    /// Host of the server that gave it.
    pub(super) server: Option<String>,
    /// The connection to that server, and what to ask it for.
    pub(super) link: Option<(volfile::Fetched, FetchRequest)>,
}

/// Gets the volfile.
///
/// # Errors
/// The file cannot be read; or no server was reached until `deadline`; or the one that answered refused.
pub(super) fn fetch(source: &VolfileSource, network: &Network, deadline: Instant) -> Result<Fetched, Failure> {
    match source {
        VolfileSource::File(path) => {
            let origin = path.display().to_string();
            let text = read(path).map_err(|error| Failure::io(format!("volfile {origin}"), error))?;
            Ok(Fetched { origin, text, server: None, link: None })
        }
        VolfileSource::Servers { servers, key } => {
            let request = request(servers, key, deadline.saturating_duration_since(Instant::now()));
            let fetched =
                network.handle().block_on(volfile::fetch(network, &request)).map_err(|error| failure(&error))?;
            let server = match &fetched.server {
                Endpoint::Tcp { host, .. } => Some(host.to_string()),
                Endpoint::Unix { .. } => None,
            };
            let origin = format!("{key} of {}", fetched.server);
            Ok(Fetched { origin, text: fetched.volfile.clone(), server, link: Some((fetched, request)) })
        }
    }
}

fn read(path: &Path) -> io::Result<Bytes> {
    let mut text = Vec::new();
    File::open(path)?.take(VOLFILE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > VOLFILE_MAX {
        return Err(io::Error::other(format!("larger than {VOLFILE_MAX} bytes")));
    }
    Ok(text.into())
}

/// All servers share the time, so that one that stays silent leaves some for the next.
fn request(servers: &[VolfileServer], key: &str, overall: Duration) -> FetchRequest {
    let endpoints = servers.iter().map(|server| match server {
        VolfileServer::Tcp(host, port) => Endpoint::tcp(host, *port),
        VolfileServer::Unix(path) => Endpoint::Unix { path: path.as_path().into() },
    });
    let count = u32::try_from(servers.len()).unwrap_or(u32::MAX).max(1);
    let per_server = (overall / count).max(PATIENCE_MIN).min(overall);
    FetchRequest { per_server, overall, ..FetchRequest::new(endpoints.collect(), key) }
}

/// A refusal has the server's errno as exit code, as in the C client; otherwise nobody was reached.
fn failure(error: &FetchError) -> Failure {
    let refusal = match error {
        FetchError::Failed { errors, .. } => errors.iter().find_map(|error| error.errno),
        FetchError::NoServers => None,
    };
    match refusal {
        Some(errno) => Failure::refused(errno, error.to_string()),
        None => Failure::no_server(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use rgfs_protocol::Errno;

    use super::*;
    use crate::net::volfile::ServerError;

    #[test]
    fn servers_share_the_time() {
        let servers: Vec<_> = ["a", "b"].map(|host| VolfileServer::Tcp(host.into(), 1)).into();
        let asked = request(&servers, "v", Duration::from_secs(10));
        assert_eq!((asked.per_server, asked.overall), (Duration::from_secs(5), Duration::from_secs(10)));
        let hurried = request(&servers, "v", Duration::from_millis(500));
        assert_eq!(hurried.per_server, Duration::from_millis(500));
    }

    #[test]
    fn exit_codes() {
        let server = Endpoint::tcp("srv", 24007);
        for (errno, code) in [(None, 107), (Some(Errno::ENOENT), 2)] {
            let error = ServerError { server: server.clone(), reason: "why".into(), answered: errno.is_some(), errno };
            let error = FetchError::Failed { id: "v".into(), errors: vec![error] };
            assert_eq!(failure(&error).code, code);
        }
    }
}
