//! `protocol/client`: one brick.
