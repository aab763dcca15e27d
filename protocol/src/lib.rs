//! The GlusterFS wire protocol, sans-IO.
//!
//! Bytes go in, bytes come out, and time is an argument: this crate opens no socket, reads no clock and spawns nothing.
//! It encodes and decodes in both directions (client and server), because tests and the volfile server speak the
//! server side.
//!
//! A reader who knows GlusterFS finds `rpc/xdr/src/*.x` in [`fops`], [`handshake`], [`portmap`], [`dump`] and
//! [`callback`]; `rpc/rpc-lib` in [`record`], [`rpc`], [`auth`] and [`session`]; `libglusterfs/src/dict.c` in
//! [`dict`] and [`old_dict`].
#![forbid(unsafe_code)]

pub mod auth;
pub mod callback;
pub mod dict;
pub mod dump;
pub mod errno;
pub mod fops;
pub mod gfid;
pub mod handshake;
pub mod iatt;
pub mod old_dict;
pub mod open_flags;
pub mod portmap;
pub mod record;
pub mod rpc;
pub mod session;
pub mod types;
pub mod xdr;

pub use dict::{Dict, Value};
pub use errno::Errno;
pub use gfid::Gfid;
pub use iatt::{FileType, Iatt, Time};
pub use xdr::DecodeError;
