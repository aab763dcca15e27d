//! A change that is given up in the middle, by a panic, takes nobody else with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rgfs_protocol::types::{Flock, InodelkCmd, XattropFlags};
use rgfs_protocol::{Dict, Errno, Gfid, Iatt};

use super::Replicate;
use super::testing::{REPLICA_3, program};
use crate::graph::Environment;
use crate::graph::testing::{environment, volume};
use crate::reply::{Payload, PrePostReply, WriteReply, XattrReply};
use crate::simulation::{Cluster, Verdict};
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

const SECOND: Duration = Duration::from_secs(1);

/// A child that panics when the answer to a fop comes: the one so many answers of that fop from now.
struct Panicking {
    below: [Arc<dyn Translator>; 1],
    next: Mutex<Option<(&'static str, usize)>>,
}

impl Panicking {
    fn answered(&self, fop: &str) {
        let now = {
            let mut next = self.next.lock().unwrap();
            match &mut *next {
                Some((at, 0)) if *at == fop => next.take().is_some(),
                Some((at, more)) if *at == fop => {
                    *more -= 1;
                    false
                }
                _ => false,
            }
        };
        assert!(!now, "on purpose, in {fop}");
    }
}

#[async_trait]
impl Translator for Panicking {
    fn name(&self) -> &Arc<str> {
        self.below[0].name()
    }

    fn kind(&self) -> &'static str {
        "test"
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &self.below
    }

    async fn writev(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        data: Payload,
        offset: u64,
        flags: u32,
        xdata: Dict,
    ) -> FopResult<WriteReply> {
        let reply = self.child().writev(c, fd, data, offset, flags, xdata).await;
        self.answered("WRITE");
        reply
    }

    async fn fsync(&self, c: &Context, fd: &Arc<Fd>, datasync: bool, xdata: Dict) -> FopResult<PrePostReply> {
        let reply = self.child().fsync(c, fd, datasync, xdata).await;
        self.answered("FSYNC");
        reply
    }

    async fn setattr(&self, c: &Context, loc: &Loc, stat: &Iatt, valid: u32, xdata: Dict) -> FopResult<PrePostReply> {
        let reply = self.child().setattr(c, loc, stat, valid, xdata).await;
        self.answered("SETATTR");
        reply
    }

    async fn finodelk(
        &self,
        c: &Context,
        domain: &str,
        fd: &Arc<Fd>,
        cmd: InodelkCmd,
        flock: Flock,
        xdata: Dict,
    ) -> FopResult<Dict> {
        let reply = self.child().finodelk(c, domain, fd, cmd, flock, xdata).await;
        self.answered("FINODELK");
        reply
    }

    async fn fxattrop(
        &self,
        c: &Context,
        fd: &Arc<Fd>,
        flags: XattropFlags,
        dict: Dict,
        xdata: Dict,
    ) -> FopResult<XattrReply> {
        let reply = self.child().fxattrop(c, fd, flags, dict, xdata).await;
        self.answered("FXATTROP");
        reply
    }
}

struct Bench {
    cluster: Cluster,
    clients: Vec<Arc<Replicate>>,
    trap: Arc<Panicking>,
    file: Arc<Inode>,
}

impl Bench {
    /// Two clients and a file; of the first client's children the second may panic.
    fn new() -> Self {
        let cluster = Cluster::new(1, REPLICA_3, 2);
        let mut children = cluster.children(0);
        let trap = Arc::new(Panicking { below: [children[1].clone()], next: Mutex::new(None) });
        children[1] = trap.clone();
        let mount = |client, children| {
            let environment = Environment { clock: cluster.clock(client), ..environment() };
            Replicate::new(&volume("cluster/replicate", &[]), children, &environment).unwrap()
        };
        let clients = vec![mount(0, children), mount(1, cluster.children(1))];
        cluster.settle();
        let gfid = Gfid([7; 16]);
        let (root, inode) = (super::testing::root(), Inode::fresh());
        let (loc, fd) = (Loc::entry(root, "f", inode.clone()), Fd::new(inode, 2, 1));
        let xdata = Dict::empty().with("gfid-req", rgfs_protocol::Value::Gfuuid(gfid));
        let flags = 2 | rgfs_protocol::open_flags::host::O_CREAT;
        cluster.block_on(clients[0].create(&program(0), &loc, flags, 0o644, 0, &fd, xdata)).unwrap();
        let file = Inode::known(gfid, rgfs_protocol::FileType::Regular);
        Bench { cluster, clients, trap, file }
    }

    fn open(&self, client: usize) -> Arc<Fd> {
        let fd = Fd::new(self.file.clone(), 2, 1);
        let loc = Loc::inode(self.file.clone());
        self.cluster.block_on(self.clients[client].open(&program(client), &loc, 2, &fd, Dict::NULL)).unwrap();
        fd
    }

    /// A write; `None` when it hangs.
    fn write(&self, client: usize, fd: &Arc<Fd>, text: &'static str) -> Option<Result<(), Errno>> {
        let (context, data) = (program(client), Payload::from_iter([Bytes::from_static(text.as_bytes())]));
        let written = self.clients[client].writev(&context, fd, data, 0, 0, Dict::NULL);
        let written = self.cluster.try_block_on(written)?;
        Some(written.map(drop).map_err(|error| error.errno))
    }

    fn spring(&self, fop: &'static str, more: usize) {
        *self.trap.next.lock().unwrap() = Some((fop, more));
    }

    fn has_sprung(&self) -> bool {
        self.trap.next.lock().unwrap().is_none()
    }

    fn no_lock_is_left(&self) -> bool {
        (0..3).all(|brick| self.cluster.locks(brick).is_empty())
    }
}

#[test]
fn a_panic_of_a_write_stops_no_other_one() {
    // Where it happens, and whether the application had its answer before.
    for (fop, more, answered) in [
        ("FINODELK", 0, false),
        ("FXATTROP", 0, false),
        ("WRITE", 0, false),
        ("FSYNC", 0, true),
        ("FXATTROP", 1, true),
        ("FINODELK", 1, true),
    ] {
        let bench = Bench::new();
        let (ours, theirs) = (bench.open(0), bench.open(1));
        // At another place than the end: then it is synced.
        bench.write(0, &ours, "12345678").unwrap().unwrap();
        bench.cluster.run_for(3 * SECOND);
        bench.spring(fop, more);
        let first = bench.write(0, &ours, "first");
        assert_eq!(first, Some(if answered { Ok(()) } else { Err(Errno::EIO) }), "{fop} {more}");
        bench.cluster.run_for(3 * SECOND);
        assert!(bench.has_sprung(), "{fop} {more}");
        assert_eq!(bench.write(0, &ours, "second"), Some(Ok(())), "{fop} {more}: the next one of this client");
        bench.cluster.run_for(3 * SECOND);
        assert_eq!(bench.write(1, &theirs, "third"), Some(Ok(())), "{fop} {more}: the next one of another client");
        bench.cluster.run_for(3 * SECOND);
        assert!(bench.no_lock_is_left(), "{fop} {more}");
        assert_eq!(bench.cluster.try_block_on(bench.clients[0].drain()), Some(()), "{fop} {more}: it can be unmounted");
    }
}

/// What its copies did is not known: they stay marked, so that a healer compares them.
#[test]
fn what_a_write_left_behind_that_panicked_stays_marked() {
    let bench = Bench::new();
    let fd = bench.open(0);
    bench.spring("WRITE", 0);
    assert_eq!(bench.write(0, &fd, "lost"), Some(Err(Errno::EIO)));
    bench.cluster.run_for(3 * SECOND);
    assert_eq!([0, 1, 2].map(|brick| bench.cluster.changelog(brick, "/f", "dirty")), [[1, 0, 0]; 3]);
}

#[test]
fn who_waits_for_a_write_that_panics_goes_on() {
    let bench = Bench::new();
    let fd = bench.open(0);
    bench.cluster.next(0, "WRITE", Verdict::Wait(SECOND / 10));
    bench.spring("WRITE", 0);
    let write = |text: &'static str| {
        let (top, fd) = (bench.clients[0].clone(), fd.clone());
        let data = Payload::from_iter([Bytes::from_static(text.as_bytes())]);
        bench.cluster.spawn(async move { top.writev(&program(0), &fd, data, 0, 0, Dict::NULL).await })
    };
    let (mut first, mut second) = (write("first"), write("second"));
    bench.cluster.run_for(SECOND);
    assert_eq!(first.result().unwrap().unwrap_err().errno, Errno::EIO);
    assert_eq!(second.result().unwrap().unwrap().written, 6);
    bench.cluster.run_for(3 * SECOND);
    assert!(bench.no_lock_is_left());
}

#[test]
fn a_panic_of_a_change_of_attributes_stops_no_other_one() {
    let bench = Bench::new();
    let chmod = |mode| {
        let (stat, loc) = (Iatt { mode, ..Iatt::default() }, Loc::inode(bench.file.clone()));
        let context = program(0);
        bench
            .cluster
            .try_block_on(bench.clients[0].setattr(&context, &loc, &stat, 1, Dict::NULL))
            .map(|set| set.is_ok())
    };
    bench.spring("SETATTR", 0);
    assert_eq!(chmod(0o600), Some(false));
    assert_eq!(chmod(0o640), Some(true));
    bench.cluster.run_for(3 * SECOND);
    assert!(bench.no_lock_is_left());
    assert_eq!([0, 1, 2].map(|brick| bench.cluster.changelog(brick, "/f", "dirty")), [[0, 1, 0]; 3]);
}
