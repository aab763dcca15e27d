//! For tests: replicates over a cluster in memory, one per client, and short ways to use them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::types::LockOwner;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};

use super::Replicate;
use crate::graph::Environment;
use crate::graph::testing::{environment, volume};
use crate::reply::Payload;
use crate::simulation::{Cluster, Layout};
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

/// Three copies.
pub(super) const REPLICA_3: Layout = Layout { replicas: 3, arbiter: false };
/// Two copies and an arbiter.
pub(super) const ARBITER: Layout = Layout { replicas: 3, arbiter: true };

/// A replicated volume and its clients. Nothing takes time by itself.
pub(super) struct Replica {
    pub(super) cluster: Cluster,
    pub(super) clients: Vec<Arc<Replicate>>,
}

impl Replica {
    /// A volume whose bricks all are up.
    pub(super) fn new(layout: Layout, clients: usize) -> Self {
        Self::with(layout, clients, &[])
    }

    /// The same with options of the volfile.
    pub(super) fn with(layout: Layout, clients: usize, options: &[(&str, &str)]) -> Self {
        let cluster = Cluster::new(1, layout, clients);
        let mut options = options.to_vec();
        if layout.arbiter {
            options.push(("arbiter-count", "1"));
        }
        let clients = mounts(&cluster, &options);
        let replica = Replica { cluster, clients };
        replica.forget();
        replica
    }

    /// A file that all bricks have, made behind the backs of the clients.
    pub(super) fn file(&self, name: &str, number: u8) -> Arc<Inode> {
        let gfid = Gfid([number; 16]);
        for child in self.cluster.children(0) {
            let inode = Inode::known(gfid, FileType::Regular);
            let (loc, fd) = (Loc::entry(root(), name.to_owned(), inode.clone()), Fd::new(inode, libc::O_RDWR, 1));
            let (flags, xdata) = (libc::O_RDWR | libc::O_CREAT, Dict::empty().with("gfid-req", Value::Gfuuid(gfid)));
            self.cluster.block_on(child.create(&Context::internal(), &loc, flags, 0o644, 0, &fd, xdata)).unwrap();
        }
        self.forget();
        Inode::known(gfid, FileType::Regular)
    }

    /// [`Replica::file`], opened by a client.
    pub(super) fn open(&self, client: usize, inode: &Arc<Inode>) -> Arc<Fd> {
        let (context, loc) = (Context::internal(), Loc::inode(inode.clone()));
        let fd = Fd::new(inode.clone(), libc::O_RDWR, 1);
        let top = &self.clients[client];
        self.cluster.block_on(top.open(&context, &loc, libc::O_RDWR, &fd, Dict::NULL)).unwrap();
        self.forget();
        fd
    }

    /// Writes as a program does; answers the bytes written, and the rounds it took.
    pub(super) fn write(&self, client: usize, fd: &Arc<Fd>, text: &str, offset: u64) -> (Result<usize, Errno>, u32) {
        let context = program(client);
        let data = Payload::from_iter([Bytes::copy_from_slice(text.as_bytes())]);
        let top = &self.clients[client];
        let written = self.cluster.block_on(top.writev(&context, fd, data, offset, 0, Dict::NULL));
        (written.map(|reply| reply.written).map_err(|error| error.errno), context.rounds.count())
    }

    /// Changes the mode.
    pub(super) fn chmod(&self, client: usize, inode: &Arc<Inode>, mode: u32) -> (FopResult<()>, u32) {
        let (context, stat) = (program(client), Iatt { mode, ..Iatt::default() });
        let loc = Loc::inode(inode.clone());
        let set = self.clients[client].setattr(&context, &loc, &stat, 1, Dict::NULL);
        (self.cluster.block_on(set).map(|_| ()), context.rounds.count())
    }

    /// Lets everything that is due now happen, and forgets what was sent.
    pub(super) fn forget(&self) {
        self.cluster.settle();
        self.cluster.take_lines();
    }

    /// Lets everything that is due now happen, and tells what was sent.
    pub(super) fn sent(&self) -> Vec<String> {
        self.cluster.settle();
        self.cluster.take_lines()
    }

    /// Lets time pass, and tells what was sent.
    pub(super) fn sent_within(&self, time: Duration) -> Vec<String> {
        self.cluster.run_for(time);
        self.cluster.take_lines()
    }

    /// Changelog values on the bricks that are not zero, and locks that are held.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let locks = (0..self.cluster.bricks()).flat_map(|brick| self.cluster.locks(brick));
        self.cluster.marks().into_iter().chain(locks).collect()
    }
}

/// The replicate of each client of a cluster.
pub(super) fn mounts(cluster: &Cluster, options: &[(&str, &str)]) -> Vec<Arc<Replicate>> {
    let mount = |client| {
        let environment = Environment { clock: cluster.clock(client), ..environment() };
        let volume = volume("cluster/replicate", options);
        Replicate::new(&volume, cluster.children(client), &environment).unwrap()
    };
    (0..cluster.client_count()).map(mount).collect()
}

/// The root directory.
pub(super) fn root() -> Arc<Inode> {
    Inode::known(Gfid::ROOT, FileType::Directory)
}

/// A request of a program.
pub(super) fn program(client: usize) -> Context {
    Context { pid: 42, lock_owner: LockOwner::from_fuse(0xa0 + client as u64), ..Context::internal() }
}
