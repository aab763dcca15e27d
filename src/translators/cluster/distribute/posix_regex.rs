//! POSIX extended regular expressions, by the C library itself.
//!
//! The C client hands its hash regexes to regcomp(3); a regex that groups differently would send a name to another
//! brick, so the same function decides here.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A compiled extended regex. Matching works in the C locale: byte by byte.
pub(super) struct PosixRegex(libc::regex_t);

// SAFETY: regexec(3) is thread-safe for a compiled regex (POSIX requires it); nothing here changes it after regcomp.
unsafe impl Send for PosixRegex {}
// SAFETY: as above.
unsafe impl Sync for PosixRegex {}

impl PosixRegex {
    /// Compiles `pattern`; `None` when the C library refuses it.
    pub(super) fn compile(pattern: &str) -> Option<Self> {
        let pattern = CString::new(pattern).ok()?;
        let mut regex = MaybeUninit::<libc::regex_t>::uninit();
        // SAFETY: `pattern` is NUL-terminated; regcomp initialises `regex` when it returns 0.
        let result = unsafe { libc::regcomp(regex.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED) };
        // SAFETY: initialised, as regcomp returned 0.
        (result == 0).then(|| PosixRegex(unsafe { regex.assume_init() }))
    }

    /// Where group 1 lies in `text`, if the regex matches and the group took part. A text with a NUL matches nothing.
    pub(super) fn first_group(&self, text: &[u8]) -> Option<Range<usize>> {
        let text = CString::new(text).ok()?;
        let mut groups = [libc::regmatch_t { rm_so: -1, rm_eo: -1 }; 2];
        // SAFETY: the regex is compiled, `text` is NUL-terminated, and `groups` holds the two elements announced.
        let result = unsafe { libc::regexec(&self.0, text.as_ptr(), groups.len(), groups.as_mut_ptr(), 0) };
        if result != 0 {
            return None;
        }
        Some(usize::try_from(groups[1].rm_so).ok()?..usize::try_from(groups[1].rm_eo).ok()?)
    }
}

impl Drop for PosixRegex {
    fn drop(&mut self) {
        // SAFETY: compiled once, freed once.
        unsafe { libc::regfree(&mut self.0) }
    }
}

impl std::fmt::Debug for PosixRegex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PosixRegex")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_posix_ones() {
        let regex = PosixRegex::compile("^(a|ab)(c|bcd)").unwrap();
        // Leftmost-longest: "abcd" as a whole, by a + bcd.
        assert_eq!(regex.first_group(b"abcd"), Some(0..1));
        assert_eq!(regex.first_group(b"x"), None);
        assert_eq!(PosixRegex::compile("no group").unwrap().first_group(b"no group"), None);
        assert!(PosixRegex::compile("(").is_none());
    }
}
