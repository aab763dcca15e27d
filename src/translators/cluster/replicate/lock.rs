//! The locks of transactions, in the domain that all clients and the self-heal daemon share (`afr-lk-common.c`).
//!
//! First all locks are asked of all children at once, without waiting. When any child refuses, everything that was granted
//! is given back, and then the locks are waited for one after the other: lockee after lockee in the order of gfids and
//! names, and each of them child after child. All clients wait in that order, and so never for each other in a circle.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::types::LockType;

use super::child_set::ChildSet;
use super::core::Core;
use super::target::Target;
use crate::{Context, FopResult, Inode};

/// Start of the range that stands for the attributes of an inode (`LLONG_MAX - 1`); the brick moves it into a domain of its own.
pub(super) const METADATA_START: u64 = 0x7fff_ffff_ffff_fffe;

/// Something to be locked.
#[derive(Clone, Debug)]
pub(super) enum Lockee {
    /// A range of an inode; length 0 is to the end.
    Range {
        /// The inode.
        target: Target,
        /// First byte.
        start: u64,
        /// Bytes.
        len: u64,
    },
    /// A name in a directory; `None` for all names.
    Entry {
        /// The directory.
        parent: Arc<Inode>,
        /// The name.
        name: Option<Bytes>,
    },
}

/// Locks that are held.
pub(super) struct Locks {
    core: Arc<Core>,
    context: Context,
    domain: Arc<str>,
    /// In locking order, each with the children that granted it.
    held: Vec<(Lockee, ChildSet)>,
}
