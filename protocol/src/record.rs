//! Record marking: fragments of a TCP stream to whole records.
