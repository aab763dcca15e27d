//! A mount for the programs of a schedule.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rgfs_protocol::open_flags::host;
use rgfs_protocol::types::LockOwner;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Time, Value};

use super::history::{History, Strictness, Unmarked, Writer};
use crate::clock::Clock;
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

/// A mount: the graph of a client, and the inodes that its kernel knows.
pub(super) struct Mount {
    pub(super) client: usize,
    pub(super) top: Arc<dyn Translator>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) history: History,
    inodes: Mutex<BTreeMap<Gfid, Arc<Inode>>>,
    /// Names that were looked up: directory, name, what was there.
    names: Mutex<BTreeMap<(Gfid, String), Arc<Inode>>>,
}

impl Mount {
    pub(super) fn new(client: usize, top: Arc<dyn Translator>, clock: Arc<dyn Clock>, history: &History) -> Arc<Self> {
        let root = Inode::known(Gfid::ROOT, FileType::Directory);
        let inodes = Mutex::new(BTreeMap::from([(Gfid::ROOT, root)]));
        Arc::new(Mount { client, top, clock, history: history.clone(), inodes, names: Mutex::default() })
    }

    /// Who writes now.
    pub(super) fn writer(&self) -> Writer {
        let saw_all = self.top.children().iter().all(|child| child.events().is_up());
        Writer { client: self.client, saw_all }
    }

    /// How much a read must know now, while bricks may come and go.
    pub(super) fn settled(&self) -> Strictness {
        Strictness::Settled(self.clock.now())
    }

    /// Who asks.
    pub(super) fn context(&self, task: u64) -> Context {
        let now = self.clock.now();
        Context {
            lock_owner: LockOwner::from_fuse(1000 + task),
            pid: 100 + self.client as i32,
            time: Time { sec: 1_000_000 + now.as_secs() as i64, nsec: now.subsec_nanos() },
            ..Context::internal()
        }
    }

    /// The one inode of a gfid.
    pub(super) fn link(&self, inode: &Arc<Inode>, stat: &Iatt) -> Arc<Inode> {
        inode.identify(stat.gfid, stat.file_type());
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        inodes.entry(stat.gfid).or_insert_with(|| inode.clone()).clone()
    }

    pub(super) fn root(&self) -> Arc<Inode> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)[&Gfid::ROOT].clone()
    }

    /// As the FUSE layer does it: with the inode that the name led to before, if any.
    pub(super) async fn lookup(&self, context: &Context, parent: &Arc<Inode>, name: &str) -> FopResult<Arc<Inode>> {
        let key = (parent.gfid(), name.to_owned());
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            let loc = Loc::entry(parent.clone(), name.to_owned(), known.clone());
            match self.top.lookup(context, &loc, Dict::NULL).await {
                Ok(reply) if reply.stat.gfid == known.gfid() => return Ok(known),
                Err(error) if !matches!(error.errno, Errno::ENOENT | Errno::ESTALE) => return Err(error),
                _ => drop(self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)),
            }
        }
        let loc = Loc::entry(parent.clone(), name.to_owned(), Inode::fresh());
        let reply = self.top.lookup(context, &loc, Dict::NULL).await?;
        Ok(self.name(parent, name, &loc.inode, &reply.stat))
    }

    /// The one inode of what an answer described; it is remembered under that name.
    pub(super) fn name(&self, parent: &Arc<Inode>, name: &str, inode: &Arc<Inode>, stat: &Iatt) -> Arc<Inode> {
        let inode = self.link(inode, stat);
        let key = (parent.gfid(), name.to_owned());
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(key, inode.clone());
        inode
    }

    pub(super) async fn create(
        &self,
        context: &Context,
        (parent, name): (&Arc<Inode>, &str),
        flags: i32,
        gfid: Gfid,
    ) -> FopResult<(Arc<Inode>, Arc<Fd>)> {
        let _under_way = self.history.unmarked(Unmarked::Names, &[parent.gfid()]);
        let tried = self.history.tries(parent.gfid(), name);
        let inode = Inode::fresh();
        let loc = Loc::entry(parent.clone(), name.to_owned(), inode.clone());
        let fd = Fd::new(inode.clone(), flags, context.pid);
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(gfid));
        let reply = self.top.create(context, &loc, flags | host::O_CREAT, 0o644, 0o22, &fd, xdata).await?;
        tried.done();
        Ok((self.name(parent, name, &inode, &reply.stat), fd))
    }

    pub(super) async fn mkdir(
        &self,
        context: &Context,
        (parent, name): (&Arc<Inode>, &str),
        gfid: Gfid,
    ) -> FopResult<Arc<Inode>> {
        let _under_way = self.history.unmarked(Unmarked::Names, &[parent.gfid()]);
        let tried = self.history.tries(parent.gfid(), name);
        let loc = Loc::entry(parent.clone(), name.to_owned(), Inode::fresh());
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(gfid));
        let reply = self.top.mkdir(context, &loc, 0o755, 0o22, xdata).await?;
        tried.done();
        Ok(self.name(parent, name, &loc.inode, &reply.stat))
    }

    pub(super) async fn open(&self, context: &Context, inode: &Arc<Inode>, flags: i32) -> FopResult<Arc<Fd>> {
        let fd = Fd::new(inode.clone(), flags, context.pid);
        self.top.open(context, &Loc::inode(inode.clone()), flags, &fd, Dict::NULL).await?;
        Ok(fd)
    }

    pub(super) async fn read(&self, context: &Context, fd: &Arc<Fd>, size: u32) -> FopResult<Vec<u8>> {
        Ok(self.top.readv(context, fd, size, 0, 0, Dict::NULL).await?.data.concat())
    }
}
