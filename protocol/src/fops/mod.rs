//! The file-operation program (GlusterFS 4.x v1, [`rpc::FOPS`](crate::rpc::FOPS)): every procedure, both directions.
//!
//! A message is a list of fields in the order of the wire (`glusterfs4-xdr.x`), declared in [`request`] and [`reply`]
//! with one macro. [`Procedure`] names the operations; [`Fop`] ties a request to its procedure and its reply.
//! What the fields are made of is in `wire`, the numbers of enumerations in `codes`, small structures in `structs`.
//!
//! File data is not part of a message: it follows the fields of a WRITE or PUT call and of a READ reply, unpadded, to
//! the end of the record. Take it with [`Decoder::rest`](crate::xdr::Decoder::rest), a slice of the record.

mod codes;
#[macro_use]
mod message;
mod procedure;
pub mod reply;
pub mod request;
mod structs;
mod wire;

pub use message::{Fop, Reply as ReplyStatus};
pub use procedure::{Procedure, Reply, Request};
pub use structs::{MAX_LIST, MAX_LOCK_OWNER};
pub use wire::{MAX_STRING, Wire};

/// The anonymous fd (`GF_ANON_FD_NO`): the brick opens by gfid, on demand, for reading and writing.
pub const ANONYMOUS_FD: i64 = -2;

#[cfg(test)]
mod tests;
