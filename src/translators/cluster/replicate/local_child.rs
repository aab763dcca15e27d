//! Looks for a child on this machine, to read from it (option `choose-local`, `afr_attempt_local_discovery`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rgfs_protocol::Dict;

use super::child_set::ChildSet;
use super::core::Core;
use crate::{Context, Inode, Loc, task};

/// Where a brick is: `<POSIX(/brick):host:/brick/path>`.
const PATHINFO: &str = "trusted.glusterfs.pathinfo";

impl Core {
    /// Asks these children in the background on which machine they are, once per generation. `root` is the volume's.
    pub(super) fn look_for_local_child(self: &Arc<Self>, root: &Arc<Inode>, children: ChildSet) {
        let options = &self.options;
        if !options.choose_local || options.read_child.is_some() || options.read_child_index.is_some() {
            return;
        }
        let generation = self.snapshot().generation;
        if self.discovered.swap(generation, Ordering::AcqRel) == generation {
            return;
        }
        let (core, loc) = (self.clone(), Loc::inode(root.clone()));
        let children = children.and(self.data_children());
        task::spawn(async move {
            let (context, loc) = (&Context::internal(), &loc);
            let replies = core.ask(children, |_, child| child.getxattr(context, loc, Some(PATHINFO), Dict::NULL)).await;
            let here = rustix::system::uname();
            for (index, reply) in replies {
                let path = reply.ok().and_then(|reply| reply.dict.bytes(PATHINFO));
                if path.is_some_and(|path| host(&path) == Some(here.nodename().to_bytes())) {
                    tracing::info!(child = %core.child(index).name(), "is on this machine; reads go there");
                    core.preferred.store(index, Ordering::Relaxed);
                }
            }
        });
    }
}

/// The host in what one brick tells: between the first and the last colon.
fn host(path: &[u8]) -> Option<&[u8]> {
    let first = path.iter().position(|byte| *byte == b':')?;
    let last = path.iter().rposition(|byte| *byte == b':')?;
    path.get(first + 1..last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(host(b"<POSIX(/bricks/a):server1:/bricks/a/>"), Some(b"server1".as_slice()));
        assert_eq!(host(b"<POSIX(/bricks/a):fe80::1:/bricks/a/>"), Some(b"fe80::1".as_slice()));
        assert_eq!(host(b"no:host"), None);
        assert_eq!(host(b"nothing"), None);
    }
}
