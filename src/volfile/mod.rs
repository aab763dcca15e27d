//! Volfile text to a checked graph description.
