//! `cluster/distribute`: every name has one home among the children, found by a hash.
