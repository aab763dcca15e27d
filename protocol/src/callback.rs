//! Calls from the server to the client: FETCHSPEC, upcalls, lock contention.
