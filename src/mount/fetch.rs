//! The volfile's text, from a file or from the servers.

use std::time::Instant;

use bytes::Bytes;

use super::failure::Failure;
use super::options::VolfileSource;
use crate::net::Network;

/// Largest volfile that is read, in bytes.
const VOLFILE_MAX: u64 = 64 * 1024 * 1024;

/// A volfile that was got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Where it came from, for error messages.
    pub(super) origin: String,
    /// The text. It may hold passwords: never log it.
    pub(super) text: Bytes,
    /// Host of the server that gave it.
    pub(super) server: Option<String>,
}

/// Gets the volfile.
///
/// # Errors
/// The file cannot be read; or no server was reached until `deadline`; or the one that answered refused.
pub(super) fn fetch(source: &VolfileSource, network: &Network, deadline: Instant) -> Result<Fetched, Failure> {
    match source {
        VolfileSource::File(path) => {
            let origin = path.display().to_string();
            let read = || {
                let mut text = Vec::new();
                std::io::Read::read_to_end(
                    &mut std::io::Read::take(std::fs::File::open(path)?, VOLFILE_MAX),
                    &mut text,
                )?;
                Ok::<_, std::io::Error>(Bytes::from(text))
            };
            let text = read().map_err(|error| Failure::io(format!("volfile {origin}"), error))?;
            Ok(Fetched { origin, text, server: None })
        }
        VolfileSource::Servers { servers, key } => {
            let _ = (network, deadline, servers, key);
            Err(Failure::new("volfile servers cannot be asked yet; use --volfile"))
        }
    }
}
