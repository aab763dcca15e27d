//! `cluster/distribute`: every name has one home among the children, found by a hash.

pub mod cookie;
pub mod hash;
pub mod keys;
pub mod layout;
pub mod linkto;
pub mod merge;
pub mod name;
pub mod new_layout;
pub mod options;
mod posix_regex;
pub mod space;
