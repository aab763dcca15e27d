//! A volume in memory for tests.
