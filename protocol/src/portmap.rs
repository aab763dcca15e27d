//! The portmapper of glusterd: brick name to TCP port.
