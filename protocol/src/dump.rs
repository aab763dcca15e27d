//! GF-DUMP: which programs a server has, and PING.
