//! Sockets: connect, one router per connection, reconnect, and the threads that do it.
//!
//! - [`threads`]: the network threads and how connections are spread over them;
//! - [`endpoint`]: where to connect, and with which socket options;
//! - [`stream`]: a connected socket, TCP or unix, that any thread may write and one task reads;
//! - [`pool`]: buffers for large records, used again and again;
//! - [`slot`]: where an answer waits for its caller;
//! - [`outgoing`]: requests on their way into the socket;
//! - [`connection`] and `router`: calls out, answers and callbacks in;
//! - [`volfile`]: fetching the volfile, and hearing that it changed;
//! - [`volfile_server`]: serving volfiles from a directory.

pub mod connection;
pub mod endpoint;
pub mod outgoing;
pub mod pool;
pub mod relay;
mod router;
pub mod slot;
pub mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub mod threads;
pub mod volfile;
pub mod volfile_server;

pub use connection::{CallError, Connection};
pub use endpoint::Endpoint;
pub use threads::Network;
