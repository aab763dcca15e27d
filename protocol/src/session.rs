//! One connection as a state machine: calls in flight, orphans, ping timer, deadlines, reconnect backoff.
