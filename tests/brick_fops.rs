//! Every fop of one `protocol/client` against a real brick, without FUSE in between: what goes out is understood, and
//! what comes back is what the brick did.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rgfs::clock::RealClock;
use rgfs::graph::{Environment, Identity};
use rgfs::net::Network;
use rgfs::reply::Payload;
use rgfs::translators::protocol::client::Client;
use rgfs::{Context, Fd, FopResult, Inode, Loc, Translator, volfile};
use rgfs_protocol::types::{
    EntrylkCmd, EntrylkType, Flock, InodelkCmd, Lease, LkCmd, LockOwner, LockType, SeekWhat, XattropFlags, set_attr,
};
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Iatt, Value};
use support::cluster::StaticCluster;
use support::sandbox::scenario;
use support::{volfiles, wait};

const LIMIT: Duration = Duration::from_secs(10);
const O_RDWR: i32 = 2;

/// Bricks tell clients apart by a number of their own.
static LEAVES: AtomicU8 = AtomicU8::new(1);

/// A client of one brick, and who asks.
struct Leaf {
    client: Arc<Client>,
    root: Context,
    runtime: tokio::runtime::Runtime,
}

impl Leaf {
    fn new(cluster: &StaticCluster) -> Result<Self> {
        let remote = cluster.bricks[0].remote();
        let options = [
            format!("remote-host {}", remote.host),
            format!("remote-port {}", remote.port),
            format!("remote-subvolume {}", volfiles::BRICK_VOLUME),
        ];
        let text = volfiles::volume("leaf", "protocol/client", &options, &[]);
        let graph = volfile::parse(text.as_bytes())?;
        let volume = graph.volume("leaf").context("no volume")?;
        let network = Network::start(1)?;
        let environment = Environment {
            clock: Arc::new(RealClock::new(&network)),
            network,
            identity: Arc::new(Identity {
                context_id: Gfid::from_random([LEAVES.fetch_add(1, Ordering::Relaxed); 16]).to_string().into(),
                graph_id: 0,
                pid: std::process::id(),
                hostname: "here".into(),
                process_name: "test".into(),
            }),
            volfile_server: None,
            volfile_key: "leaf".into(),
            subdir_mount: None,
            volume_id: Arc::default(),
            connect_timeout: LIMIT,
        };
        let client = Client::new(volume, Vec::new(), &environment)?;
        wait::until("the brick is up", LIMIT, || client.events().is_up())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let root = Context { pid: 77, lock_owner: LockOwner::from_fuse(1), ..Context::internal() };
        Ok(Leaf { client, root, runtime })
    }

    fn run<T>(&self, fop: impl Future<Output = FopResult<T>>) -> FopResult<T> {
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(LIMIT, fop).await;
            answer.unwrap_or_else(|_| Err(rgfs::FopError::new(Errno::ETIMEDOUT, self.client.name(), "no answer")))
        })
    }
}

fn directory() -> Arc<Inode> {
    Inode::known(Gfid::ROOT, FileType::Directory)
}

fn entry(name: &str) -> Loc {
    Loc::entry(directory(), name.to_owned(), Inode::fresh())
}

fn gfid(number: u8) -> Gfid {
    Gfid::from_random([number; 16])
}

fn gfid_req(number: u8) -> Dict {
    Dict::NULL.with("gfid-req", Value::Gfuuid(gfid(number)))
}

fn known(stat: &Iatt) -> Loc {
    Loc::inode(Inode::known(stat.gfid, stat.file_type()))
}

fn data(text: &'static [u8]) -> Payload {
    [Bytes::from_static(text)].into_iter().collect()
}

fn flock(kind: LockType, start: u64, len: u64) -> Flock {
    Flock { kind, whence: 0, start, len, pid: 77, owner: LockOwner::default() }
}

fn refused<T: std::fmt::Debug>(result: FopResult<T>, errno: Errno) -> Result<()> {
    match result {
        Err(error) if error.errno == errno => Ok(()),
        other => bail!("not {errno}: {other:?}"),
    }
}

/// A file `name` that the brick has open.
fn create(leaf: &Leaf, name: &str, number: u8) -> Result<(Iatt, Arc<Fd>)> {
    let (c, me) = (&leaf.client, &leaf.root);
    let fd = Fd::new(Inode::fresh(), O_RDWR, 77);
    let made = leaf.run(c.create(me, &entry(name), O_RDWR | 0o100, 0o644, 0o022, &fd, gfid_req(number)))?;
    ensure!(made.stat.gfid == gfid(number) && made.postparent.gfid == Gfid::ROOT);
    fd.inode.identify(made.stat.gfid, made.stat.file_type());
    Ok((made.stat, fd))
}

fn names(leaf: &Leaf, brick: &Path) -> Result<()> {
    let (c, me) = (&leaf.client, &leaf.root);
    refused(leaf.run(c.lookup(me, &entry("missing"), Dict::NULL)), Errno::ENOENT)?;
    let made = leaf.run(c.mkdir(me, &entry("dir"), 0o777, 0o027, gfid_req(1)))?;
    ensure!(made.stat.mode == 0o040_750, "mode {:o}", made.stat.mode);
    refused(leaf.run(c.mkdir(me, &entry("dir"), 0o777, 0o027, gfid_req(2))), Errno::EEXIST)?;
    let made = leaf.run(c.mknod(me, &entry("device"), 0o020_600, 0x0501, 0, gfid_req(3)))?;
    ensure!(made.stat.rdev == 5 << 32 | 1);
    let made = leaf.run(c.symlink(me, &entry("symlink"), "the/target".into(), 0, gfid_req(4)))?;
    let read = leaf.run(c.readlink(me, &known(&made.stat), 4096, Dict::NULL))?;
    ensure!(read.target == "the/target");
    let (stat, _) = create(leaf, "file", 5)?;
    let linked = leaf.run(c.link(me, &known(&stat), &entry("link"), Dict::NULL))?;
    ensure!(linked.stat.nlink == 2 && linked.stat.gfid == stat.gfid);
    let renamed = leaf.run(c.rename(me, &entry("link"), &entry("renamed"), Dict::NULL))?;
    ensure!(renamed.stat.gfid == stat.gfid && brick.join("renamed").exists() && !brick.join("link").exists());
    leaf.run(c.unlink(me, &entry("renamed"), 0, Dict::NULL))?;
    refused(leaf.run(c.unlink(me, &entry("dir"), 0, Dict::NULL)), Errno::EISDIR)?;
    leaf.run(c.rmdir(me, &entry("dir"), 0, Dict::NULL))?;
    let found = leaf.run(c.lookup(me, &entry("file"), Dict::NULL))?;
    ensure!(found.stat.nlink == 1 && found.postparent.gfid == Gfid::ROOT);
    let nameless = leaf.run(c.lookup(me, &known(&stat), Dict::NULL))?;
    ensure!(nameless.stat.gfid == stat.gfid && nameless.postparent.is_absent());
    Ok(())
}

fn attributes(leaf: &Leaf) -> Result<()> {
    let (c, me) = (&leaf.client, &leaf.root);
    let (stat, fd) = create(leaf, "attributes", 10)?;
    let loc = known(&stat);
    ensure!(leaf.run(c.stat(me, &loc, Dict::NULL))?.stat.mode == 0o100_644);
    let wanted = Iatt { mode: 0o600, uid: 5, ..Iatt::default() };
    let set = leaf.run(c.setattr(me, &loc, &wanted, set_attr::MODE | set_attr::UID, Dict::NULL))?;
    ensure!((set.post.mode, set.post.uid, set.pre.uid) == (0o100_600, 5, 0));
    let set = leaf.run(c.fsetattr(me, &fd, &Iatt { gid: 6, ..Iatt::default() }, set_attr::GID, Dict::NULL))?;
    ensure!(set.post.gid == 6);
    ensure!(leaf.run(c.truncate(me, &loc, 1000, Dict::NULL))?.post.size == 1000);
    ensure!(leaf.run(c.ftruncate(me, &fd, 500, Dict::NULL))?.post.size == 500);
    ensure!(leaf.run(c.fstat(me, &fd, Dict::NULL))?.stat.size == 500);
    let stranger = Context { uid: 1000, gid: 1000, ..me.clone() };
    leaf.run(c.access(me, &loc, 4, Dict::NULL))?;
    refused(leaf.run(c.access(&stranger, &loc, 4, Dict::NULL)), Errno::EACCES)?;
    ensure!(leaf.run(c.statfs(me, &Loc::inode(directory()), Dict::NULL))?.statfs.namemax == 255);
    Ok(())
}

fn file_data(leaf: &Leaf) -> Result<()> {
    let (c, me) = (&leaf.client, &leaf.root);
    let (stat, fd) = create(leaf, "data", 20)?;
    let pieces = [Bytes::from_static(b"hello, "), Bytes::from_static(b"gluster!")].into_iter().collect();
    let wrote = leaf.run(c.writev(me, &fd, pieces, 0, 0, Dict::NULL))?;
    ensure!((wrote.written, wrote.pre.size, wrote.post.size) == (15, 0, 15));
    let read = leaf.run(c.readv(me, &fd, 100, 7, 0, Dict::NULL))?;
    ensure!(read.data.concat() == b"gluster!" && read.end_of_file && read.stat.size == 15);
    let read = leaf.run(c.readv(me, &fd, 100, 100, 0, Dict::NULL))?;
    ensure!(read.data.is_empty() && read.end_of_file);
    leaf.run(c.fsync(me, &fd, true, Dict::NULL))?;
    leaf.run(c.fallocate(me, &fd, false, 0, 65536, Dict::NULL))?;
    ensure!(leaf.run(c.zerofill(me, &fd, 65536, 4096, Dict::NULL))?.post.size == 69632);
    leaf.run(c.discard(me, &fd, 8192, 8192, Dict::NULL))?;
    ensure!(leaf.run(c.seek(me, &fd, 0, SeekWhat::Hole, Dict::NULL))?.offset <= 8192);
    ensure!(leaf.run(c.seek(me, &fd, 0, SeekWhat::Data, Dict::NULL))?.offset == 0);
    refused(leaf.run(c.seek(me, &fd, 1 << 40, SeekWhat::Data, Dict::NULL)), Errno::ENXIO)?;
    ensure!(leaf.run(c.rchecksum(me, &fd, 0, 15, Dict::NULL))?.strong.len() == 32);
    let (_, copy) = create(leaf, "copy", 21)?;
    let copied = leaf.run(c.copy_file_range(me, &fd, 7, &copy, 0, 7, 0, Dict::NULL))?;
    ensure!((copied.copied, copied.post.size, copied.source.gfid) == (7, 7, stat.gfid));
    leaf.run(c.flush(me, &fd, Dict::NULL))?;

    let reader = Fd::new(fd.inode.clone(), 0, 77);
    leaf.run(c.open(me, &known(&stat), 0, &reader, Dict::NULL))?;
    refused(leaf.run(c.writev(me, &reader, data(b"x"), 0, 0, Dict::NULL)), Errno::EBADF)?;
    // As one that was opened while the brick was away: it is opened there when it is needed, if the brick has the file.
    let late = Fd::new(fd.inode.clone(), 0, 77);
    ensure!(leaf.run(c.fstat(me, &late, Dict::NULL))?.stat.gfid == stat.gfid);
    let nowhere = Fd::new(Inode::known(gfid(99), FileType::Regular), 0, 77);
    refused(leaf.run(c.fstat(me, &nowhere, Dict::NULL)), Errno::EBADFD)
}

fn listing(leaf: &Leaf) -> Result<()> {
    let (c, me) = (&leaf.client, &leaf.root);
    for number in 0..200 {
        leaf.run(c.mkdir(me, &entry(&format!("entry-{number}")), 0o755, 0, gfid_req(30u8.wrapping_add(number))))?;
    }
    let fd = Fd::new(directory(), 0o200_000, 77);
    leaf.run(c.opendir(me, &Loc::inode(directory()), &fd, Dict::NULL))?;
    let (mut plain, mut plus) = (BTreeSet::new(), BTreeSet::new());
    let mut offset = 0;
    loop {
        let list = leaf.run(c.readdir(me, &fd, 4096, offset, Dict::NULL))?;
        plain.extend(list.entries.iter().map(|entry| entry.name.clone()));
        match list.entries.last() {
            Some(last) if !list.end => offset = last.offset,
            _ => break,
        }
    }
    offset = 0;
    loop {
        let list = leaf.run(c.readdirp(me, &fd, 131_072, offset, Dict::NULL))?;
        for each in &list.entries {
            ensure!(each.entry.name == ".." || each.stat.ino == each.entry.ino, "{each:?}");
            plus.insert(each.entry.name.clone());
        }
        match list.entries.last() {
            Some(last) if !list.end => offset = last.entry.offset,
            _ => break,
        }
    }
    ensure!(plain == plus && plain.contains(&b"entry-199"[..]) && plain.len() > 202, "{} names", plain.len());
    leaf.run(c.fsyncdir(me, &fd, false, Dict::NULL))?;
    Ok(())
}

fn xattrs(leaf: &Leaf) -> Result<()> {
    let (c, me) = (&leaf.client, &leaf.root);
    let (stat, fd) = create(leaf, "xattrs", 240)?;
    let loc = known(&stat);
    let value = || Dict::NULL.with("user.a", Value::Ptr(Bytes::from_static(b"1")));
    leaf.run(c.setxattr(me, &loc, value(), 0, Dict::NULL))?;
    refused(leaf.run(c.setxattr(me, &loc, value(), 1, Dict::NULL)), Errno::EEXIST)?;
    leaf.run(c.fsetxattr(me, &fd, Dict::NULL.with("user.b", Value::Ptr(Bytes::from_static(b"22"))), 0, Dict::NULL))?;
    let one = leaf.run(c.getxattr(me, &loc, Some("user.a"), Dict::NULL))?;
    ensure!(one.dict.bytes("user.a").as_deref() == Some(&b"1"[..]));
    let one = leaf.run(c.fgetxattr(me, &fd, Some("user.b"), Dict::NULL))?;
    ensure!(one.dict.bytes("user.b").as_deref() == Some(&b"22"[..]));
    let all = leaf.run(c.getxattr(me, &loc, None, Dict::NULL))?;
    ensure!(all.dict.contains("user.a") && all.dict.contains("user.b"));
    leaf.run(c.removexattr(me, &loc, "user.a", Dict::NULL))?;
    leaf.run(c.fremovexattr(me, &fd, "user.b", Dict::NULL))?;
    refused(leaf.run(c.getxattr(me, &loc, Some("user.a"), Dict::NULL)), Errno::ENODATA)?;
    refused(leaf.run(c.getxattr(me, &loc, Some("trusted.gfid"), Dict::NULL)), Errno::ENODATA)?;
    let one = || Dict::NULL.with("trusted.sum", Value::Ptr(Bytes::from_static(&[0, 0, 0, 1])));
    leaf.run(c.xattrop(me, &loc, XattropFlags::AddArray, one(), Dict::NULL))?;
    let sum = leaf.run(c.fxattrop(me, &fd, XattropFlags::AddArray, one(), Dict::NULL))?;
    ensure!(sum.dict.bytes("trusted.sum").as_deref() == Some(&[0, 0, 0, 2][..]));
    Ok(())
}

fn internal_locks(leaf: &Leaf) -> Result<()> {
    let (c, me) = (&leaf.client, &leaf.root);
    let other = Context { lock_owner: LockOwner::from_fuse(2), ..me.clone() };
    let (stat, fd) = create(leaf, "internal", 241)?;
    let loc = known(&stat);
    let (set, wait) = (InodelkCmd::SetLk, InodelkCmd::SetLkW);
    leaf.run(c.inodelk(me, "domain", &loc, wait, flock(LockType::Write, 0, 0), Dict::NULL))?;
    let taken = c.finodelk(&other, "domain", &fd, set, flock(LockType::Write, 5, 5), Dict::NULL);
    refused(leaf.run(taken), Errno::EAGAIN)?;
    leaf.run(c.finodelk(&other, "other", &fd, set, flock(LockType::Write, 5, 5), Dict::NULL))?;
    leaf.run(c.finodelk(&other, "other", &fd, set, flock(LockType::Unlock, 5, 5), Dict::NULL))?;
    leaf.run(c.inodelk(me, "domain", &loc, set, flock(LockType::Unlock, 0, 0), Dict::NULL))?;

    let root = Loc::inode(directory());
    let dir = Fd::new(directory(), 0o200_000, 77);
    leaf.run(c.opendir(me, &root, &dir, Dict::NULL))?;
    let write = EntrylkType::Write;
    leaf.run(c.entrylk(me, "domain", &root, Some(b"name"), EntrylkCmd::Lock, write, Dict::NULL))?;
    let try_lock = EntrylkCmd::LockNonBlocking;
    refused(leaf.run(c.fentrylk(&other, "domain", &dir, Some(b"name"), try_lock, write, Dict::NULL)), Errno::EAGAIN)?;
    refused(leaf.run(c.fentrylk(&other, "domain", &dir, None, try_lock, write, Dict::NULL)), Errno::EAGAIN)?;
    leaf.run(c.entrylk(me, "domain", &root, Some(b"name"), EntrylkCmd::Unlock, write, Dict::NULL))?;
    leaf.run(c.fentrylk(&other, "domain", &dir, None, try_lock, write, Dict::NULL))?;
    leaf.run(c.fentrylk(&other, "domain", &dir, None, EntrylkCmd::Unlock, write, Dict::NULL))?;
    Ok(())
}

fn posix_locks(leaf: &Leaf, cluster: &StaticCluster) -> Result<()> {
    let (c, me) = (&leaf.client, &leaf.root);
    let other = Context { lock_owner: LockOwner::from_fuse(2), pid: 88, ..me.clone() };
    let (_, fd) = create(leaf, "posix", 242)?;
    let write = || flock(LockType::Write, 10, 20);
    leaf.run(c.lk(me, &fd, LkCmd::SetLk, write(), Dict::NULL))?;
    refused(leaf.run(c.lk(&other, &fd, LkCmd::SetLk, write(), Dict::NULL)), Errno::EAGAIN)?;
    let asked = leaf.run(c.lk(&other, &fd, LkCmd::GetLk, flock(LockType::Write, 0, 0), Dict::NULL))?;
    ensure!((asked.flock.kind, asked.flock.start, asked.flock.len) == (LockType::Write, 10, 20), "{asked:?}");

    // A wait that its caller gives up is cancelled at the brick.
    let held_and_blocked = |held: usize, blocked: usize| {
        wait::for_value("the brick's locks", LIMIT, || {
            let dump = cluster.bricks[0].statedump()?;
            Ok(((dump.posix_locks_held, dump.posix_locks_waiting) == (held, blocked)).then_some(()))
        })
    };
    let waiting = c.lk(&other, &fd, LkCmd::SetLkW, write(), Dict::NULL);
    leaf.runtime.block_on(async {
        let mut waiting = Box::pin(waiting);
        std::future::poll_fn(|poll| {
            assert!(waiting.as_mut().poll(poll).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        held_and_blocked(1, 1)
    })?;
    held_and_blocked(1, 0)?;

    // One whose caller stays is granted.
    leaf.runtime.block_on(async {
        let waiting = c.lk(&other, &fd, LkCmd::SetLkW, write(), Dict::NULL);
        let release = c.lk(me, &fd, LkCmd::SetLk, flock(LockType::Unlock, 0, 0), Dict::NULL);
        let (granted, released) = tokio::join!(waiting, release);
        released?;
        granted.map(drop)
    })?;
    leaf.run(c.flush(&other, &fd, Dict::NULL))?;
    held_and_blocked(0, 0)
}

fn exotic(leaf: &Leaf) -> Result<()> {
    let (c, me) = (&leaf.client, &leaf.root);
    refused(leaf.run(c.ipc(me, 0, Dict::NULL)), Errno::EOPNOTSUPP)?;
    // The brick has no leases translator.
    let (stat, _) = create(leaf, "lease", 243)?;
    ensure!(leaf.run(c.lease(me, &known(&stat), Lease { cmd: 2, kind: 1, ..Lease::default() }, Dict::NULL)).is_err());
    Ok(())
}

#[test]
fn a_real_brick_understands_every_fop() {
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 1)?;
        let leaf = Leaf::new(&cluster)?;
        let brick = cluster.bricks[0].directory();
        names(&leaf, brick).context("names")?;
        attributes(&leaf).context("attributes")?;
        file_data(&leaf).context("file data")?;
        listing(&leaf).context("listing")?;
        xattrs(&leaf).context("xattrs")?;
        internal_locks(&leaf).context("internal locks")?;
        posix_locks(&leaf, &cluster).context("posix locks")?;
        exotic(&leaf).context("exotic")
    });
}

/// The brick dies and comes back: what was open is open again, with its locks; what was removed is lost.
#[test]
fn fds_and_locks_survive_the_brick() {
    scenario(|sandbox| {
        let mut cluster = StaticCluster::start(sandbox, 1)?;
        let leaf = Leaf::new(&cluster)?;
        let (c, me) = (&leaf.client, &leaf.root);
        let (_, fd) = create(&leaf, "kept", 1)?;
        leaf.run(c.lk(me, &fd, LkCmd::SetLk, flock(LockType::Write, 0, 0), Dict::NULL))?;
        let (_, removed) = create(&leaf, "removed", 2)?;
        leaf.run(c.unlink(me, &entry("removed"), 0, Dict::NULL))?;
        cluster.bricks[0].kill()?;
        wait::until("the client notices", LIMIT, || !c.events().is_up())?;
        refused(leaf.run(c.fstat(me, &fd, Dict::NULL)), Errno::ENOTCONN)?;
        cluster.bricks[0].restart()?;
        wait::until("the brick is up again", LIMIT, || c.events().is_up())?;
        leaf.run(c.writev(me, &fd, data(b"still here"), 0, 0, Dict::NULL))?;
        ensure!(cluster.bricks[0].statedump()?.posix_locks_held == 1);
        refused(leaf.run(c.readv(me, &removed, 10, 0, 0, Dict::NULL)), Errno::EBADFD)?;
        drop(fd);
        wait::for_value("the lock ends with its fd", LIMIT, || {
            Ok((cluster.bricks[0].statedump()?.posix_locks_held == 0).then_some(()))
        })
    });
}

/// A brick lets nobody remove a file on which a process of another client holds an inode lock; for the lock of an internal process it
/// does not wait. cluster/distribute takes its locks as one, so that a rename and a heal cannot wait for each other.
#[test]
fn removals_wait_for_the_locks_of_processes_only() {
    const INTERNAL: i32 = -4;
    scenario(|sandbox| {
        let cluster = StaticCluster::start(sandbox, 1)?;
        let (holder, remover) = (Leaf::new(&cluster)?, Leaf::new(&cluster)?);
        let lock = |pid: i32, loc: &Loc, kind| {
            let context = Context { pid, ..holder.root.clone() };
            let lock = holder.client.inodelk(&context, "domain", loc, InodelkCmd::SetLk, flock(kind, 0, 0), Dict::NULL);
            holder.run(lock)
        };
        let (stat, _) = create(&holder, "moving", 1)?;
        lock(INTERNAL, &known(&stat), LockType::Write)?;
        remover.run(remover.client.unlink(&remover.root, &entry("moving"), 0, Dict::NULL))?;
        lock(INTERNAL, &known(&stat), LockType::Unlock)?;

        let (stat, _) = create(&holder, "locked", 2)?;
        lock(77, &known(&stat), LockType::Write)?;
        let name = entry("locked");
        let mut unlink = remover.client.unlink(&remover.root, &name, 0, Dict::NULL);
        let early = remover.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), &mut unlink).await });
        ensure!(early.is_err(), "the brick no longer waits: {early:?}");
        lock(77, &known(&stat), LockType::Unlock)?;
        remover.run(unlink)?;
        Ok(())
    });
}
