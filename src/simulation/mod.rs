//! A simulated cluster: bricks in memory, clients with connections to them, faults, and time under control.
//!
//! Everything happens on one thread and through one queue of events ([`schedule`]): a request arrives at its brick, an
//! answer at its client, a timer ends. The executor of [`crate::task`] runs a task inside the call that wakes it, so
//! an event is over when everything that it made possible has been done. All chance comes from a seed: one seed is one
//! schedule, and can be repeated.
//!
//! A [`brick`] consists of [`storage`], [`locks`], [`posix_locks`] and the [`index`]; [`operations`] are the fops on
//! it. A [`connection`] is what a client's replicate has as child, in the place of `protocol/client`; [`fops`] are its
//! fops, made of [`requests`] and [`held_locks`]. [`cluster`] puts all together and makes the faults; [`inspection`] looks at it from outside; [`trace`] is the record of what was asked.
#![allow(dead_code, reason = "a test bench: what one test does not use, the next will")]

mod brick;
mod cluster;
mod connection;
#[cfg(test)]
mod crashes;
mod fops;
mod held_locks;
mod index;
mod inspection;
mod locks;
mod operations;
mod posix_locks;
mod requests;
mod schedule;
#[cfg(test)]
mod schedules;
mod storage;
#[cfg(test)]
mod tests;
mod trace;

#[allow(unused_imports, reason = "as above")]
pub(crate) use brick::{Call, Verdict};
#[allow(unused_imports, reason = "as above")]
pub(crate) use cluster::{Cluster, Layout, Running, Timing};
#[allow(unused_imports, reason = "as above")]
pub(crate) use schedule::Random;
#[allow(unused_imports, reason = "as above")]
pub(crate) use trace::{Entry, merged};
