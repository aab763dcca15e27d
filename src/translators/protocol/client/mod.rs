//! `protocol/client`: one brick.

pub mod link;
