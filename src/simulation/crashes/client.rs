//! A mount for these tests: what it looks up, what it does, what it sees.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rgfs_protocol::types::LockOwner;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::super::Cluster;
use super::scenario::{Fop, Scenario};
use super::tree::{Node, View};
use crate::graph::Environment;
use crate::graph::testing::{environment, volume};
use crate::reply::Payload;
use crate::translators::cluster::distribute::Distribute;
use crate::translators::cluster::replicate::Replicate;
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

/// How often the indices are looked through: a heal may need that of another object first.
const HEAL_ROUNDS: usize = 4;

/// A fop that only has to be started.
pub(super) type Ready = Pin<Box<dyn Future<Output = FopResult<()>> + Send>>;

/// The graph of a client.
pub(super) struct Client {
    number: usize,
    top: Arc<dyn Translator>,
    root: Arc<Inode>,
    replicas: Vec<Arc<Replicate>>,
    made: AtomicU64,
}

impl Client {
    pub(super) fn new(cluster: &Cluster, number: usize, scenario: &Scenario) -> Self {
        let environment = Environment { clock: cluster.clock(number), ..environment() };
        let bricks = cluster.children(number);
        let replicate = |(set, bricks): (usize, &[Arc<dyn Translator>])| {
            let mut volume = volume("cluster/replicate", &[("quorum-type", "auto"), ("granular-entry-heal", "on")]);
            volume.name = format!("v-replicate-{set}").into();
            Replicate::new(&volume, bricks.to_vec(), &environment).unwrap()
        };
        let replicas: Vec<_> = match scenario.copies {
            1 => Vec::new(),
            copies => bricks.chunks(copies).enumerate().map(replicate).collect(),
        };
        let subvolumes = match replicas.is_empty() {
            true => bricks,
            false => replicas.iter().map(|replica| replica.clone() as Arc<dyn Translator>).collect(),
        };
        let optimize = if scenario.optimize { "on" } else { "off" };
        let volume = volume("cluster/distribute", &[("lookup-optimize", optimize)]);
        let top = Distribute::new(&volume, subvolumes, &environment).unwrap();
        let root = Inode::known(Gfid::ROOT, FileType::Directory);
        Client { number, top, root, replicas, made: AtomicU64::new(0) }
    }

    /// Does what the self-heal daemon does: makes the copies of each subvolume equal.
    pub(super) fn heal_copies(&self, cluster: &Cluster) {
        let copies = cluster.bricks() / self.replicas.len().max(1);
        for _ in 0..HEAL_ROUNDS {
            for (set, replica) in self.replicas.iter().enumerate() {
                let bricks = set * copies..(set + 1) * copies;
                let pending: BTreeSet<Gfid> = bricks.clone().flat_map(|brick| cluster.pending_gfids(brick)).collect();
                for gfid in pending {
                    let kind = bricks.clone().find_map(|brick| cluster.object_of(brick, gfid));
                    let Some(object) = kind else { continue };
                    let _ = cluster.try_block_on(replica.heal(&Inode::known(gfid, object.stat.file_type())));
                }
            }
        }
    }

    fn context(&self) -> Context {
        Context { pid: 42, lock_owner: LockOwner::from_fuse(self.number as u64 + 1), ..Context::internal() }
    }

    fn identity(&self) -> Dict {
        let mut gfid = [self.number as u8 + 1; 16];
        gfid[8..].copy_from_slice(&self.made.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Dict::empty().with("gfid-req", Value::Gfuuid(Gfid(gfid)))
    }

    /// Looks a name up as if it had never been heard of.
    async fn find(&self, parent: &Arc<Inode>, name: &str) -> FopResult<Loc> {
        let loc = Loc::entry(parent.clone(), name.to_owned(), Inode::fresh());
        let found = self.top.lookup(&self.context(), &loc, self.identity()).await?;
        loc.inode.identify(found.stat.gfid, found.stat.file_type());
        Ok(loc)
    }

    async fn directory(&self, path: &str) -> FopResult<Arc<Inode>> {
        self.top.lookup(&self.context(), &Loc::inode(self.root.clone()), Dict::NULL).await?;
        let mut inode = self.root.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            inode = self.find(&inode, name).await?.inode;
        }
        Ok(inode)
    }

    /// A path whose last name may be free.
    async fn place(&self, path: &str) -> FopResult<Loc> {
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        let parent = self.directory(parent).await?;
        match self.find(&parent, name).await {
            Err(error) if error.errno == Errno::ENOENT => Ok(Loc::entry(parent, name.to_owned(), Inode::fresh())),
            other => other,
        }
    }

    pub(super) async fn mkdir(&self, path: &str) -> FopResult<Node> {
        let loc = self.place(path).await?;
        let made = self.top.mkdir(&self.context(), &loc, 0o755, 0, self.identity()).await?;
        Ok(Node::directory(made.stat.gfid))
    }

    /// Makes a file that contains `text`.
    pub(super) async fn create(&self, path: &str, text: &str) -> FopResult<Node> {
        let (loc, context) = (self.place(path).await?, self.context());
        let fd = Fd::new(loc.inode.clone(), libc::O_RDWR, 42);
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        let made = self.top.create(&context, &loc, flags, 0o644, 0, &fd, self.identity()).await?;
        loc.inode.identify(made.stat.gfid, made.stat.file_type());
        if !text.is_empty() {
            let data = Payload::from_iter([Bytes::copy_from_slice(text.as_bytes())]);
            self.top.writev(&context, &fd, data, 0, 0, Dict::NULL).await?;
        }
        self.top.flush(&context, &fd, Dict::NULL).await?;
        Ok(Node::file(made.stat.gfid, text))
    }

    /// Looks up all that a fop needs, as the kernel does before it sends it.
    pub(super) async fn prepare(&self, fop: &Fop) -> FopResult<Ready> {
        let (context, top) = (self.context(), self.top.clone());
        Ok(match fop {
            Fop::Rename { old, new } => {
                let (old, new) = (self.place(old).await?, self.place(new).await?);
                if old.gfid() == new.gfid() {
                    // The kernel does nothing then, and mv(1) removes the old name.
                    return Ok(Box::pin(async move { top.unlink(&context, &old, 0, Dict::NULL).await.map(drop) }));
                }
                Box::pin(async move { top.rename(&context, &old, &new, Dict::NULL).await.map(drop) })
            }
            Fop::Link { old, new } => {
                let (old, new) = (self.place(old).await?, self.place(new).await?);
                let new = Loc { inode: old.inode.clone(), ..new };
                Box::pin(async move { top.link(&context, &old, &new, Dict::NULL).await.map(drop) })
            }
            Fop::Mkdir { path, .. } => {
                let loc = self.place(path).await?;
                let identity = fop.identity();
                Box::pin(async move { top.mkdir(&context, &loc, 0o755, 0, identity).await.map(drop) })
            }
            Fop::Rmdir { path } => {
                let loc = self.place(path).await?;
                Box::pin(async move { top.rmdir(&context, &loc, 0, Dict::NULL).await.map(drop) })
            }
            Fop::Unlink { path } => {
                let loc = self.place(path).await?;
                Box::pin(async move { top.unlink(&context, &loc, 0, Dict::NULL).await.map(drop) })
            }
            Fop::Create { path, .. } => {
                let loc = self.place(path).await?;
                let (identity, flags) = (fop.identity(), libc::O_RDWR | libc::O_CREAT | libc::O_EXCL);
                let fd = Fd::new(loc.inode.clone(), libc::O_RDWR, 42);
                Box::pin(async move { top.create(&context, &loc, flags, 0o644, 0, &fd, identity).await.map(drop) })
            }
        })
    }

    /// Looks at the whole tree: what is listed, and what is there when asked for by name. `known` are further names to ask
    /// for, before the listing or after it.
    pub(super) async fn look(&self, known: &[&str], lookups_first: bool) -> View {
        let mut view = View::default();
        if lookups_first {
            for path in known {
                let found = self.place(path).await;
                view.note_failure(path, &found);
            }
        }
        let mut directories = vec![String::new()];
        while let Some(path) = directories.pop() {
            let listed = match self.list(&path).await {
                Ok(listed) => listed,
                Err(error) => {
                    view.failures.push(format!("{path}/ cannot be listed: {error}"));
                    continue;
                }
            };
            let inside = known.iter().filter_map(|known| known.strip_prefix(path.as_str())?.strip_prefix('/'));
            let inside = inside.filter(|name| !name.contains('/')).map(str::to_owned);
            let mut names: Vec<String> = listed.iter().cloned().chain(inside).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = format!("{path}/{name}");
                view.listed.insert(path.clone(), listed.iter().filter(|listed| **listed == name).count());
                let found = self.place(&path).await;
                view.note_failure(&path, &found);
                let Ok(found) = found else { continue };
                if found.gfid().is_null() {
                    continue;
                }
                let node = match found.inode.is_dir() {
                    true => {
                        directories.push(path.clone());
                        Node::directory(found.gfid())
                    }
                    false => match self.read(&found.inode).await {
                        Ok(text) => Node::file(found.gfid(), &text),
                        Err(error) => Node::file(found.gfid(), &format!("cannot be read: {error}")),
                    },
                };
                view.names.insert(path, node);
            }
        }
        view
    }

    async fn list(&self, path: &str) -> FopResult<Vec<String>> {
        let (inode, context) = (self.directory(path).await?, self.context());
        let fd = Fd::new(inode.clone(), libc::O_DIRECTORY, 42);
        self.top.opendir(&context, &Loc::inode(inode), &fd, Dict::NULL).await?;
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let page = self.top.readdirp(&context, &fd, 400, offset, Dict::NULL).await?;
            let seen = page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.entry.name).into_owned());
            names.extend(seen.filter(|name| name != "." && name != ".."));
            match page.goes_on_at() {
                Some(next) => offset = next,
                None => return Ok(names),
            }
        }
    }

    async fn read(&self, inode: &Arc<Inode>) -> FopResult<String> {
        let (context, fd) = (self.context(), Fd::new(inode.clone(), libc::O_RDONLY, 42));
        self.top.open(&context, &Loc::inode(inode.clone()), libc::O_RDONLY, &fd, Dict::NULL).await?;
        let data = self.top.readv(&context, &fd, 4096, 0, 0, Dict::NULL).await?.data.concat();
        Ok(String::from_utf8_lossy(&data).into_owned())
    }
}
