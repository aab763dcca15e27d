//! From a volfile's graph to live translators.
