//! Translators that report.
