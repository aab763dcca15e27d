//! The xattr commands that deal a directory's ranges out anew: `distribute.fix.layout`, which an administrator sets after bricks were
//! added, and `distribute.directory-spread-count` (`dht-selfheal.c:dht_fix_directory_layout`).
//!
//! Each subvolume keeps as much of its old range as possible. No file is moved: those off their new homes are found by asking
//! everywhere, until a rebalance has moved them.

use std::sync::Arc;

use rgfs_protocol::{Dict, Errno};

use super::core::{Core, DirectoryState, as_root, to_the_end};
use super::locks::Transaction;
use crate::{Context, FopError, FopResult, Inode};

/// Deals the ranges of a directory out anew.
const FIX_LAYOUT: &[u8] = b"distribute.fix.layout";
/// The same, among so many subvolumes: a decimal number.
const SPREAD_COUNT: &[u8] = b"distribute.directory-spread-count";

/// What is asked for by setting these xattrs, if anything: the number of subvolumes that get a range; 0 for all.
///
/// # Errors
/// The value that makes no sense.
pub(super) fn requested(dict: &Dict, spread: usize, children: usize) -> Result<Option<usize>, String> {
    for (name, value) in dict.iter() {
        if name.as_ref() == FIX_LAYOUT {
            return Ok(Some(spread));
        }
        if name.as_ref() == SPREAD_COUNT {
            let bytes = value.as_bytes().unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim().to_owned();
            return match text.parse() {
                Ok(count) if (1..=children).contains(&count) => Ok(Some(count)),
                _ => Err(text),
            };
        }
    }
    Ok(None)
}

impl Core {
    /// Carries out a command that is hidden in a request to set xattrs; `None` when there is none.
    pub(super) async fn command(
        self: &Arc<Self>,
        context: &Context,
        inode: &Arc<Inode>,
        dict: &Dict,
    ) -> Option<FopResult<Dict>> {
        let refused =
            |detail: &'static str| Some(Err(self.error(Errno::EOPNOTSUPP, "fix the layout").with_detail(detail)));
        let spread = match requested(dict, self.options.spread, self.children.len()) {
            Ok(None) => return None,
            Ok(Some(_)) if !inode.is_dir() => return refused("only directories have one"),
            Ok(Some(_)) if self.only().is_some() => return Some(Ok(Dict::NULL)),
            Ok(Some(spread)) => spread,
            Err(_) => return refused("the spread is no number of subvolumes"),
        };
        if context.uid != 0 {
            return Some(Err(self.error(Errno::EPERM, "fix the layout").with_detail("only root may")));
        }
        let (core, root, inode) = (self.clone(), as_root(context), inode.clone());
        let fixed = to_the_end(self, "fix the layout", async move { core.fix_layout(&root, &inode, spread).await });
        Some(fixed.await.map(|()| Dict::NULL))
    }

    async fn fix_layout(self: &Arc<Self>, context: &Context, inode: &Arc<Inode>, spread: usize) -> FopResult<()> {
        let known = self.layout_of(context, inode).await?;
        // Weights are the sizes of the bricks as they are now.
        self.ask_usage().await;
        let mut transaction = Transaction::new(self, context);
        transaction.whole_layout(inode).await?;
        let seen = self.read_layout(context, inode).await?;
        let anomalies = seen.anomalies();
        if anomalies.is_unknown() {
            return Err(self.unfixed("a child does not answer"));
        }
        if anomalies.missing > 0 {
            return Err(self.unfixed("a child does not have the directory; look it up by name first"));
        }
        // Ranges that a user has set are the user's.
        if !seen.is_set_by_user() {
            let start = self.start_of(context, inode, &seen).await;
            let layout = self.write_fixed_layout(context, inode, &seen, start, spread).await?;
            let anomalies = layout.anomalies();
            self.remember_directory(inode, DirectoryState::new(layout, known.mds));
            if anomalies.is_unknown() || anomalies.is_broken_ring() {
                return Err(self.unfixed("a child did not take its range"));
            }
        }
        transaction.release();
        Ok(())
    }

    fn unfixed(&self, detail: &'static str) -> FopError {
        self.error(Errno::ENOTCONN, "fix the layout").with_detail(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgfs_protocol::Value;

    #[test]
    fn commands() {
        let of = |name: &'static str, value: &str| requested(&Dict::empty().with(name, Value::str(value)), 5, 3);
        assert_eq!(of("user.a", "yes"), Ok(None));
        assert_eq!(of("distribute.fix.layout", "yes"), Ok(Some(5)));
        assert_eq!(of("distribute.directory-spread-count", "2"), Ok(Some(2)));
        for nonsense in ["0", "4", "two", ""] {
            assert_eq!(of("distribute.directory-spread-count", nonsense), Err(nonsense.to_owned()));
        }
    }
}
