//! The old serialized dictionary of the handshake and of callbacks.
