//! Lookups and reads, over a cluster in memory: which copy is asked, in how many rounds, and that none is read that missed
//! something.

use std::sync::Arc;

use bytes::Bytes;
use rgfs_protocol::open_flags::host;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::Replicate;
use super::child_set::ChildSet;
use crate::graph::Environment;
use crate::graph::testing::{environment, volume};
use crate::reply::{LookupReply, Payload};
use crate::simulation::{Cluster, Layout};
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

const FILE: Gfid = Gfid([0x11; 16]);
const REPLICA_3: Layout = Layout { replicas: 3, arbiter: false };
const FIRST: &[(&str, &str)] = &[("read-hash-mode", "0"), ("choose-local", "off")];

/// A volume with the file `/f` ("old") on all bricks, and one client.
struct Volume {
    cluster: Cluster,
    top: Arc<Replicate>,
}

impl Volume {
    fn new(layout: Layout, options: &[(&str, &str)]) -> Self {
        let cluster = Cluster::new(1, layout, 1);
        for child in cluster.children(0) {
            let inode = file();
            let (loc, fd) = (Loc::entry(root(), "f", inode.clone()), Fd::new(inode, 2, 1));
            let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(FILE));
            let context = Context::internal();
            cluster.block_on(child.create(&context, &loc, 2 | host::O_CREAT, 0o644, 0, &fd, xdata)).unwrap();
            let data = Payload::from_iter([Bytes::from_static(b"old")]);
            cluster.block_on(child.writev(&context, &fd, data, 0, 0, Dict::NULL)).unwrap();
        }
        let environment = Environment { clock: cluster.clock(0), ..environment() };
        let volume = volume("cluster/replicate", options);
        let top = Replicate::new(&volume, cluster.children(0), &environment).unwrap();
        let volume = Volume { cluster, top };
        volume.sent();
        volume
    }

    fn sent(&self) -> Vec<String> {
        self.cluster.settle();
        self.cluster.take_lines()
    }

    /// Looks a name in the root up, for a program that offers a gfid as FUSE does.
    fn lookup(&self, context: &Context, name: &'static str) -> (FopResult<LookupReply>, Loc) {
        let loc = Loc::entry(root(), name, Inode::fresh());
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(Gfid([0x77; 16])));
        let found = self.cluster.block_on(self.top.lookup(context, &loc, xdata));
        if let Ok(reply) = &found {
            loc.inode.identify(reply.stat.gfid, reply.stat.file_type());
        }
        (found, loc)
    }

    fn open(&self) -> Arc<Fd> {
        let (_, loc) = self.lookup(&program(), "f");
        let fd = Fd::new(loc.inode.clone(), 0, 1);
        self.cluster.block_on(self.top.open(&program(), &Loc::inode(loc.inode), 0, &fd, Dict::NULL)).unwrap();
        self.sent();
        fd
    }

    fn read(&self, context: &Context, fd: &Arc<Fd>) -> Result<Vec<u8>, Errno> {
        let read = self.cluster.block_on(self.top.readv(context, fd, 100, 0, 0, Dict::NULL));
        read.map(|reply| reply.data.concat()).map_err(|error| error.errno)
    }

    fn getxattr(&self, name: Option<&str>) -> Result<Dict, Errno> {
        let (context, loc) = (program(), Loc::inode(file()));
        let read = self.cluster.block_on(self.top.getxattr(&context, &loc, name, Dict::NULL));
        read.map(|reply| reply.dict).map_err(|error| error.errno)
    }

    /// The copy of a brick gets new data.
    fn change(&self, brick: usize, data: &[u8]) {
        self.cluster.tamper(brick, "/f", |object| {
            object.data = data.to_vec();
            object.stat.size = data.len() as u64;
        });
    }

    /// The copy of a brick says that another missed data.
    fn accuse(&self, brick: usize, other: usize) {
        let key = format!("trusted.afr.v-client-{other}");
        self.cluster.put_xattr(brick, "/f", &key, Some(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    }
}

fn root() -> Arc<Inode> {
    Inode::known(Gfid::ROOT, FileType::Directory)
}

fn file() -> Arc<Inode> {
    Inode::known(FILE, FileType::Regular)
}

fn program() -> Context {
    Context { pid: 42, ..Context::internal() }
}

#[test]
fn everything_is_one_round_while_all_is_well() {
    let volume = Volume::new(REPLICA_3, &[("choose-local", "off")]);
    let context = program();
    let (found, loc) = volume.lookup(&context, "f");
    assert_eq!((found.unwrap().stat.size, context.rounds.count()), (3, 1));
    let sent = volume.sent();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].starts_with(r#"LOOKUP 0,1,2 / "f""#) && !sent[0].contains("gfid-req"), "{sent:?}");
    let context = program();
    volume.cluster.block_on(volume.top.stat(&context, &Loc::inode(loc.inode), Dict::NULL)).unwrap();
    assert_eq!((context.rounds.count(), context.rounds.requests()), (1, 1));
    let fd = volume.open();
    let context = program();
    assert_eq!(volume.read(&context, &fd).unwrap(), b"old");
    assert_eq!((context.rounds.count(), context.rounds.requests()), (1, 1));
    let context = program();
    let (missing, _) = volume.lookup(&context, "g");
    assert_eq!((missing.unwrap_err().errno, context.rounds.count()), (Errno::ENOENT, 1));
}

#[test]
fn a_copy_that_missed_a_write_is_not_read_when_it_comes_back() {
    for mode in ["0", "1", "2", "3", "4", "5"] {
        let volume = Volume::new(REPLICA_3, &[("read-hash-mode", mode), ("choose-local", "off")]);
        let fd = volume.open();
        assert_eq!(volume.read(&program(), &fd).unwrap(), b"old");
        volume.cluster.kill_brick(0);
        volume.sent();
        for brick in [1, 2] {
            volume.change(brick, b"new!");
            volume.accuse(brick, 0);
        }
        assert_eq!(volume.read(&program(), &fd).unwrap(), b"new!", "mode {mode}");
        volume.cluster.restart_brick(0);
        volume.cluster.run_for(std::time::Duration::from_secs(2));
        for _ in 0..3 {
            assert_eq!(volume.read(&program(), &fd).unwrap(), b"new!", "mode {mode}");
            let stat = volume.cluster.block_on(volume.top.fstat(&program(), &fd, Dict::NULL)).unwrap().stat;
            assert_eq!(stat.size, 4, "mode {mode}");
            assert_eq!(volume.lookup(&program(), "f").0.unwrap().stat.size, 4, "mode {mode}");
        }
        let known = volume.top.core.inode(&fd.inode).readable().unwrap();
        assert_eq!(known.data, ChildSet::all(3).without(0), "mode {mode}");
    }
}

#[test]
fn another_copy_is_read_when_one_fails() {
    let volume = Volume::new(REPLICA_3, FIRST);
    let fd = volume.open();
    volume.cluster.fail_next(0, "READ", Errno::EIO);
    let context = program();
    assert_eq!(volume.read(&context, &fd).unwrap(), b"old");
    // The read, all are asked how they are, another read.
    assert_eq!((context.rounds.count(), context.rounds.requests()), (3, 5));
    for brick in 0..3 {
        volume.cluster.fail_next(brick, "READ", Errno::EIO);
    }
    assert_eq!(volume.read(&program(), &fd), Err(Errno::EIO));
}

#[test]
fn a_short_copy_is_not_read() {
    let volume = Volume::new(REPLICA_3, FIRST);
    volume.change(2, b"old and appended");
    let fd = volume.open();
    assert_eq!(volume.read(&program(), &fd).unwrap(), b"old and appended");
}

#[test]
fn a_split_brain_is_told() {
    let volume =
        Volume::new(Layout { replicas: 2, arbiter: false }, &[("quorum-type", "fixed"), ("quorum-count", "1")]);
    let fd = volume.open();
    volume.accuse(0, 1);
    volume.accuse(1, 0);
    volume.top.core.inode(&fd.inode).set_stale();
    let error = volume.cluster.block_on(volume.top.readv(&program(), &fd, 10, 0, 0, Dict::NULL)).unwrap_err();
    assert_eq!(error.errno, Errno::EIO);
    let told = error.to_string();
    assert!(told.contains("v-client-0 accuses v-client-1, v-client-1 accuses v-client-0"), "{told}");
    assert_eq!(volume.lookup(&program(), "f").0.unwrap_err().errno, Errno::ENOTCONN);
    *volume.top.core.inode(&fd.inode).split_brain_choice.lock().unwrap() = Some(1);
    assert_eq!(volume.read(&program(), &fd).unwrap(), b"old");
}

#[test]
fn nothing_is_read_without_quorum() {
    let volume = Volume::new(REPLICA_3, FIRST);
    let fd = volume.open();
    volume.cluster.kill_brick(1);
    volume.cluster.kill_brick(2);
    volume.sent();
    assert_eq!(volume.read(&program(), &fd), Err(Errno::ENOTCONN));
    assert_eq!(volume.lookup(&program(), "f").0.unwrap_err().errno, Errno::ENOTCONN);
    // That a name is not there may be told by one.
    assert_eq!(volume.lookup(&program(), "g").0.unwrap_err().errno, Errno::ENOENT);
}

#[test]
fn the_arbiter_is_not_read() {
    let volume = Volume::new(Layout { replicas: 3, arbiter: true }, &[("arbiter-count", "1"), ("choose-local", "off")]);
    let fd = volume.open();
    for _ in 0..3 {
        assert_eq!(volume.read(&program(), &fd).unwrap(), b"old");
    }
    let sent = volume.sent();
    assert!(sent.iter().all(|line| !line.starts_with("READ 2")), "{sent:?}");
    // The good copy away, the stale one and the arbiter there.
    volume.accuse(0, 1);
    volume.accuse(2, 1);
    volume.cluster.kill_brick(0);
    volume.sent();
    assert_eq!(volume.lookup(&program(), "f").0.unwrap_err().errno, Errno::ENOTCONN);
    assert!(volume.read(&program(), &fd).is_err());
}

#[test]
fn a_name_that_one_brick_lost_comes_back() {
    let volume = Volume::new(REPLICA_3, FIRST);
    volume.cluster.lose(2, "/f");
    let (found, _) = volume.lookup(&program(), "f");
    assert_eq!(found.unwrap().stat.gfid, FILE);
    assert_eq!(volume.cluster.gfid(2, "/f"), Some(FILE));
    let locks: usize = (0..3).map(|brick| volume.cluster.locks(brick).len()).sum();
    assert_eq!(locks, 0);
}

#[test]
fn what_belongs_to_replicate_is_hidden() {
    let volume = Volume::new(REPLICA_3, FIRST);
    volume.accuse(0, 2);
    volume.cluster.put_xattr(0, "/f", "user.a", Some(b"1"));
    assert_eq!(volume.getxattr(Some("trusted.afr.v-client-2")), Err(Errno::ENODATA));
    let listed = volume.getxattr(None).unwrap();
    assert!(listed.contains("user.a") && !listed.contains("trusted.afr.v-client-2"), "{listed:?}");
    assert_eq!(volume.getxattr(Some("user.b")), Err(Errno::ENODATA));
    for name in [".landfill", ".glusterfs-anonymous-inode-1"] {
        assert_eq!(volume.lookup(&program(), name).0.unwrap_err().errno, Errno::EPERM);
    }
    let path =
        volume.getxattr(Some("trusted.glusterfs.pathinfo")).unwrap().bytes("trusted.glusterfs.pathinfo").unwrap();
    assert!(path.starts_with(b"(<REPLICATE:test> <POSIX(/brick0):host0:"), "{path:?}");
}

#[test]
fn attributes_are_not_told_by_a_copy_whose_content_alone_is_good() {
    let volume = Volume::new(REPLICA_3, FIRST);
    volume.cluster.tamper(0, "/f", |object| object.stat.uid = 9);
    for brick in [1, 2] {
        let missed_attributes = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        volume.cluster.put_xattr(brick, "/f", "trusted.afr.v-client-0", Some(&missed_attributes));
    }
    // Twice: by what the copies say just then, and by what is remembered.
    for _ in 0..2 {
        let (context, loc) = (program(), Loc::inode(file()));
        let reply = volume.cluster.block_on(volume.top.stat(&context, &loc, Dict::NULL)).unwrap();
        assert_eq!(reply.stat.uid, 0);
    }
}
