//! Sockets: connect, one router per connection, reconnect, and the threads that do it.
