//! OPEN (`afr-open.c`).

use std::sync::Arc;

use rgfs_protocol::open_flags::host::{O_ACCMODE, O_TRUNC};
use rgfs_protocol::{Dict, Errno};

use super::changelog::Kind;
use super::core::{Core, successes};
use super::errors::final_error;
use super::target::Target;
use crate::{Context, Fd, FopResult, Loc};

impl Core {
    pub(super) async fn open(
        self: &Arc<Self>,
        context: &Context,
        loc: &Loc,
        flags: i32,
        fd: &Arc<Fd>,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let snapshot = self.snapshot();
        self.check_quorum(snapshot, "open")?;
        // A file of which no copy is good. The children are asked only when what is known does not tell.
        let readable = self.readable_for(context, &Target::Inode(loc.inode.clone()), Kind::Data, snapshot).await;
        if let Err(error) = readable
            && !(error.errno == Errno::EIO && self.is_looked_at(&loc.inode))
        {
            return Err(error);
        }
        // Emptying a file is a change like any other, and must be noted in the changelog.
        let harmless = flags & !O_TRUNC;
        let replies = self.ask(snapshot.up, |_, child| child.open(context, loc, harmless, fd, xdata.clone())).await;
        let opened = successes(&replies);
        self.fd(fd).set_opened(opened);
        if opened.is_empty() || !self.has_quorum(opened) {
            return Err(final_error(&replies).unwrap_or_else(|| self.no_quorum(opened, "open")));
        }
        if flags & O_TRUNC != 0 {
            match flags & O_ACCMODE {
                // A brick does not change a file through an fd for reading.
                0 => self.truncate(context, loc, 0, Dict::NULL).await?,
                _ => self.ftruncate(context, fd, 0, Dict::NULL).await?,
            };
        }
        self.any(replies, "open")
    }
}
