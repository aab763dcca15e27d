//! Sockets: connect, one router per connection, reconnect, and the threads that do it.

pub mod threads;

pub use threads::Network;
