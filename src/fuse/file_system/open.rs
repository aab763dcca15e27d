//! OPEN, CREATE, FLUSH, FSYNC, RELEASE.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rgfs_protocol::{Dict, Iatt};

use super::super::inode_table::Node;
use super::super::page_cache::Version;
use super::{Caller, Entry, FRESH, FileSystem, Opened, on_inode};
use crate::{Context, Fd, FopResult, Inode, Loc};

impl FileSystem {
    /// Opens a file. Attributes that are not fresh are fetched beside the OPEN, so that what another client closed before
    /// is seen.
    ///
    /// # Errors
    /// Those of open(2).
    pub async fn open(&self, caller: &Caller, nodeid: u64, flags: i32) -> FopResult<Opened> {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        if writes {
            self.check_writable("open")?;
        }
        let (context, node) = self.on_behalf_at(caller, nodeid, "open")?;
        let flags = self.brick_flags(flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY));
        let truncates = flags & libc::O_TRUNC != 0;
        if truncates && context.uid != 0 {
            self.before_write(&context, &node).await?;
        }
        let fd = Fd::new(node.inode.clone(), flags, context.pid);
        let (opened, stat) = tokio::join!(
            async { on_inode!(self, &context, &node, |loc| self.top.open(&context, loc, flags, &fd, Dict::NULL)) },
            async { if truncates { None } else { self.attributes_at_open(&context, &node).await } },
        );
        let xdata = opened?;
        let keep_cache = {
            let mut state = node.state();
            match stat {
                Some(stat) => state.pages.opened(Version::from(&stat)),
                None => {
                    state.pages.forget();
                    if truncates {
                        state.attributes = None;
                        state.changed = Some(Instant::now());
                    }
                    false
                }
            }
        };
        Ok(self.opened(node, fd, &xdata, keep_cache))
    }

    async fn attributes_at_open(&self, context: &Context, node: &Node) -> Option<Iatt> {
        let known = node.state().attributes;
        match known {
            Some((stat, seen)) if seen.elapsed() < FRESH => Some(stat),
            _ => self.fetch_attributes(context, node, None).await.ok(),
        }
    }

    fn opened(&self, node: Arc<Node>, fd: Arc<Fd>, xdata: &Dict, keep_cache: bool) -> Opened {
        let direct_io = self.options.direct_io || xdata.int("direct-io-mode") == Some(1);
        let handle = self.handles.open_file(node, fd);
        Opened { handle, direct_io, keep_cache: keep_cache && self.options.keep_cache && !direct_io }
    }

    /// Flags for the brick. With write-back the kernel reads on files that are open for writing alone, and appends by
    /// offset.
    fn brick_flags(&self, flags: i32) -> i32 {
        if !self.options.writeback_cache {
            return flags;
        }
        let flags = flags & !libc::O_APPEND;
        if flags & libc::O_ACCMODE == libc::O_WRONLY { flags & !libc::O_ACCMODE | libc::O_RDWR } else { flags }
    }

    /// Makes a file and opens it; without O_EXCL opens the one that is there.
    ///
    /// # Errors
    /// Those of open(2).
    pub async fn create(
        &self,
        caller: &Caller,
        parent: u64,
        name: Bytes,
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> FopResult<(Entry, Opened)> {
        self.check_writable("create")?;
        let (context, directory) = self.on_behalf_at(caller, parent, "create")?;
        let (mode, umask, xdata) = self.creation(mode, umask, "create")?;
        let flags = self.brick_flags(flags);
        let inode = Inode::fresh();
        let place = Loc::entry(directory.inode.clone(), name.clone(), inode.clone());
        let fd = Fd::new(inode.clone(), flags, context.pid);
        let reply = on_inode!(self, &context, &directory, |_loc| self.top.create(
            &context,
            &place,
            flags,
            mode,
            umask,
            &fd,
            xdata.clone()
        ))?;
        let (node, entry) = self.made(&directory, &name, &inode, &reply)?;
        node.state().pages.opened(Version::from(&reply.stat));
        Ok((entry, self.opened(node, fd, &reply.xdata, false)))
    }

    /// A descriptor was closed. Goes to the translators always: one that buffers writes has errors to report, and the
    /// leaf knows whether the brick holds locks of this owner.
    ///
    /// # Errors
    /// Those of close(2): what went wrong with earlier writes.
    pub async fn flush(&self, caller: &Caller, handle: u64, lock_owner: u64) -> FopResult<()> {
        let file = self.file(handle, "flush")?;
        let context = self.callers.context(caller, Some(lock_owner));
        self.top.flush(&context, &file.fd, Dict::NULL).await?;
        Ok(())
    }

    /// Brings a file to stable storage.
    ///
    /// # Errors
    /// Those of fsync(2).
    pub async fn fsync(&self, caller: &Caller, handle: u64, datasync: bool) -> FopResult<()> {
        let (context, file) = (self.context(caller), self.file(handle, "fsync")?);
        let reply = self.top.fsync(&context, &file.fd, datasync, Dict::NULL).await?;
        file.node.note(&reply.post, Instant::now());
        Ok(())
    }

    /// The last descriptor of an open file was closed. The brick is told when the last request with it has ended.
    pub fn release(&self, handle: u64) {
        self.handles.close_file(handle);
    }
}
