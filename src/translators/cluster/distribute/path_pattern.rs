//! Shell patterns of paths, by the C library itself: the C client hands those of `cluster/switch` to fnmatch(3).

use std::ffi::{CStr, CString};

/// A pattern. `*` and `?` match slashes too, and a backslash is one.
#[derive(Debug)]
pub(super) struct PathPattern(CString);

impl PathPattern {
    /// Takes a pattern; `None` when it holds a NUL.
    pub(super) fn new(pattern: &str) -> Option<Self> {
        CString::new(pattern).ok().map(PathPattern)
    }

    /// Whether it matches the whole of `path`.
    pub(super) fn matches(&self, path: &CStr) -> bool {
        // SAFETY: both are NUL-terminated strings that live through the call; fnmatch only reads them.
        unsafe { libc::fnmatch(self.0.as_ptr(), path.as_ptr(), libc::FNM_NOESCAPE) == 0 }
    }
}
