//! Whether the kernel may keep the pages of a file that is opened again.
//!
//! The kernel keeps pages over an open only when told so (KEEP_CACHE). They are right as long as nobody else changed the
//! file since they were filled; a change shows in size, mtime or ctime. ctime counts because a writer whose clock is
//! behind does not move mtime (bricks keep the larger one). The C client keeps the pages always and counts on
//! `md-cache` to notice; this is the scheme that needs nobody.

use rgfs_protocol::{Iatt, Time};

/// A state of a file's content, as far as attributes tell one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    size: u64,
    mtime: Time,
    ctime: Time,
}

impl From<&Iatt> for Version {
    fn from(stat: &Iatt) -> Self {
        Version { size: stat.size, mtime: stat.mtime, ctime: stat.ctime }
    }
}

/// What the kernel's pages of one file show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages {
    version: Option<Version>,
}

impl Pages {
    /// The file is opened and looks like `now`. True when the kernel may keep its pages; else it drops them, and those
    /// that it reads from now on show `now`.
    pub fn opened(&mut self, now: Version) -> bool {
        let keep = self.version == Some(now);
        self.version = Some(now);
        keep
    }

    /// A read showed the file in that state.
    pub fn read(&mut self, now: Version) {
        if self.version.is_some_and(|version| version != now) {
            self.version = None;
        }
    }

    /// A write or truncate through this mount changed the file; the kernel changed its pages likewise. Somebody else's
    /// change in between shows as a `before` that is not what the pages show.
    pub fn changed(&mut self, before: Version, after: Version) {
        if self.version.is_some() {
            self.version = (self.version == Some(before)).then_some(after);
        }
    }

    /// Nothing is known any more.
    pub fn forget(&mut self) {
        self.version = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(second: i64) -> Version {
        Version { size: 1, mtime: Time::default(), ctime: Time { sec: second, nsec: 0 } }
    }

    #[test]
    fn pages_are_kept_while_nothing_changes() {
        let mut pages = Pages::default();
        assert!(!pages.opened(version(1)));
        assert!(pages.opened(version(1)));
        assert!(!pages.opened(version(2)));
        assert!(pages.opened(version(2)));
    }

    #[test]
    fn own_changes_keep_them_and_foreign_ones_do_not() {
        let mut pages = Pages::default();
        pages.opened(version(1));
        pages.changed(version(1), version(2));
        assert!(pages.opened(version(2)));
        pages.changed(version(3), version(4));
        assert!(!pages.opened(version(4)));
        pages.read(version(5));
        assert!(!pages.opened(version(5)));
    }
}
