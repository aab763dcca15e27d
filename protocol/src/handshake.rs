//! The handshake program: GETSPEC, SETVOLUME and their kin.
