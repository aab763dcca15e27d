//! The simulation itself: what bricks answer, what faults do, and that a seed is a schedule.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rgfs_protocol::open_flags::host;
use rgfs_protocol::types::{EntrylkCmd, EntrylkType, Flock, InodelkCmd, LkCmd, LockOwner, LockType, XattropFlags};
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::*;
use crate::event::{Event, Status};
use crate::reply::Payload;
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

const REPLICA_3: Layout = Layout { replicas: 3, arbiter: false };
const DOMAIN: &str = "v-replicate-0";

fn root() -> Arc<Inode> {
    Inode::known(Gfid::ROOT, FileType::Directory)
}

fn gfid(number: u8) -> Gfid {
    Gfid::from_random([number; 16])
}

fn owned(owner: u64) -> Context {
    Context { lock_owner: LockOwner::from_fuse(owner), ..Context::internal() }
}

fn flock(kind: LockType, start: u64, len: u64) -> Flock {
    Flock { kind, whence: 0, start, len, pid: 1, owner: LockOwner::default() }
}

fn gfid_req(gfid: Gfid) -> Dict {
    Dict::empty().with("gfid-req", Value::Gfuuid(gfid))
}

fn payload(text: &str) -> Payload {
    Payload::from_iter([Bytes::copy_from_slice(text.as_bytes())])
}

/// Makes a file on one brick and opens it.
async fn create(child: &Arc<dyn Translator>, name: &str, id: u8, flags: i32) -> FopResult<Arc<Fd>> {
    let inode = Inode::known(gfid(id), FileType::Regular);
    let loc = Loc::entry(root(), name.to_owned(), inode.clone());
    let fd = Fd::new(inode, flags, 1);
    child.create(&Context::internal(), &loc, flags | host::O_CREAT, 0o644, 0, &fd, gfid_req(gfid(id))).await?;
    Ok(fd)
}

async fn write(child: &Arc<dyn Translator>, fd: &Arc<Fd>, text: &str, offset: u64) -> FopResult<usize> {
    let reply = child.writev(&Context::internal(), fd, payload(text), offset, 0, Dict::NULL).await?;
    Ok(reply.written)
}

fn errno<T: std::fmt::Debug>(result: FopResult<T>) -> Errno {
    result.unwrap_err().errno
}

#[test]
fn files_are_made_written_read_and_looked_up() {
    let cluster = Cluster::new(1, REPLICA_3, 1);
    let child = cluster.children(0).remove(0);
    cluster.block_on(async {
        let fd = create(&child, "f", 1, host::O_APPEND | 2).await.unwrap();
        assert_eq!(errno(create(&child, "f", 2, host::O_EXCL).await), Errno::EEXIST);
        write(&child, &fd, "one", 100).await.unwrap();
        write(&child, &fd, "two", 0).await.unwrap();
        let context = Context::internal();
        let read = child.readv(&context, &fd, 100, 0, 0, Dict::NULL).await.unwrap();
        assert_eq!(read.data.concat(), b"onetwo");
        let loc = |name: &'static str| Loc::entry(root(), name, Inode::fresh());
        let asked = Dict::empty().with("glusterfs.content", Value::Uint(64)).with("link-count", Value::str("x"));
        let found = child.lookup(&context, &loc("f"), asked.clone()).await.unwrap();
        assert_eq!(found.stat.size, 6);
        assert_eq!(found.xdata.bytes("glusterfs.content").unwrap(), "onetwo");
        let missing = child.lookup(&context, &loc("g"), asked).await.unwrap_err();
        assert_eq!((missing.errno, missing.xdata.unwrap().int("link-count")), (Errno::ENOENT, Some(0)));
        let unknown = Loc::inode(Inode::known(gfid(9), FileType::Regular));
        assert_eq!(errno(child.lookup(&context, &unknown, Dict::NULL).await), Errno::ESTALE);
        let dir = Loc::entry(root(), "d", Inode::fresh());
        assert_eq!(errno(child.mkdir(&context, &dir, 0o755, 0, Dict::NULL).await), Errno::EPERM);
        let known = gfid_req(gfid(1)).with("glusterfs-internal-fop", Value::Int(1));
        let again = child.mknod(&context, &loc("h"), 0o100_644, 0, 0, known).await.unwrap();
        assert_eq!((again.stat.gfid, again.stat.nlink), (gfid(1), 2));
        let open = Loc::inode(fd.inode.clone());
        child.open(&context, &open, host::O_TRUNC | 2, &Fd::new(fd.inode.clone(), 2, 1), Dict::NULL).await.unwrap();
        assert_eq!(child.stat(&context, &open, Dict::NULL).await.unwrap().stat.size, 0, "O_TRUNC would show");
    });
}

#[test]
fn xattrop_adds_and_reads_back_without_making_keys() {
    let cluster = Cluster::new(1, REPLICA_3, 1);
    let child = cluster.children(0).remove(0);
    let delta = |d: i32, e: i32| {
        let value: Vec<u8> = [d, 0, e].iter().flat_map(|number| number.to_be_bytes()).collect();
        Value::Ptr(value.into())
    };
    let loc = Loc::inode(root());
    let ask = |dirty, pending| {
        let dict = Dict::empty().with("trusted.afr.dirty", dirty).with("trusted.afr.v-client-2", pending);
        let xdata = Dict::empty().with("glusterfs.xattrop-entry-create", Value::str("f"));
        let context = Context::internal();
        let reply = child.xattrop(&context, &loc, XattropFlags::AddArray, dict, xdata);
        cluster.block_on(reply).unwrap().dict
    };
    let reply = ask(delta(0, 0), delta(0, 1));
    assert_eq!(cluster.xattr(0, "/", "trusted.afr.dirty"), None);
    assert_eq!(reply.get("trusted.afr.dirty"), Some(&delta(0, 0)));
    assert_eq!(ask(delta(1, 0), delta(0, 1)).get("trusted.afr.v-client-2"), Some(&delta(0, 2)));
    assert_eq!(cluster.changelog(0, "/", "v-client-2"), [0, 0, 2]);
    assert_eq!(cluster.pending_gfids(0), [Gfid::ROOT]);
    ask(delta(-1, 0), delta(0, -2));
    assert!(cluster.pending_gfids(0).is_empty() && cluster.marks().is_empty());
    assert!(cluster.index(0).entry_changes[&Gfid::ROOT].contains(&b"f"[..]));
    let lines = cluster.take_lines();
    assert_eq!(lines[0], r#"XATTROP 0 / {v-client-2[0,0,1] …0} xdata{glusterfs.xattrop-entry-create="f"}"#);
}

#[test]
fn a_waiting_lock_is_granted_when_the_holder_is_gone() {
    let cluster = Cluster::new(1, REPLICA_3, 2);
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = heard.clone();
    let children = [cluster.children(0).remove(1), cluster.children(1).remove(1)];
    children[0].events().subscribe(move |event| {
        if let Event::InodelkContention { gfid, domain, .. } = event {
            noted.lock().unwrap().push((*gfid, domain.to_string()));
        }
    });
    let lock = |client: usize, cmd| {
        let child = children[client].clone();
        async move {
            let whole = flock(LockType::Write, 0, 0);
            child.inodelk(&owned(1), DOMAIN, &Loc::inode(root()), cmd, whole, Dict::NULL).await
        }
    };
    cluster.block_on(lock(0, InodelkCmd::SetLk)).unwrap();
    assert_eq!(errno(cluster.block_on(lock(1, InodelkCmd::SetLk))), Errno::EAGAIN, "one owner, two connections");
    let mut waiting = cluster.spawn(lock(1, InodelkCmd::SetLkW));
    cluster.settle();
    assert!(waiting.result().is_none());
    assert_eq!(*heard.lock().unwrap(), [(Gfid::ROOT, DOMAIN.to_owned())]);
    assert_eq!(cluster.locks(1).len(), 2);
    cluster.crash_client(0);
    cluster.settle();
    assert!(waiting.result().unwrap().is_ok());
    cluster.kill_brick(1);
    assert!(cluster.locks(1).is_empty());
}

#[test]
fn counts_are_told_when_asked_for() {
    let cluster = Cluster::new(1, REPLICA_3, 1);
    let child = cluster.children(0).remove(0);
    cluster.block_on(async {
        let context = owned(5);
        let fd = create(&child, "f", 1, 2).await.unwrap();
        child
            .finodelk(&context, DOMAIN, &fd, InodelkCmd::SetLk, flock(LockType::Write, 0, 0), Dict::NULL)
            .await
            .unwrap();
        let loc = Loc::inode(root());
        let (cmd, kind) = (EntrylkCmd::LockNonBlocking, EntrylkType::Write);
        child.entrylk(&context, DOMAIN, &loc, Some(b"f"), cmd, kind, Dict::NULL).await.unwrap();
        let asked = Dict::empty()
            .with("glusterfs.inodelk-count", Value::Int(0))
            .with("glusterfs.parent-entrylk", Value::Int(0));
        let found = child.lookup(&context, &Loc::entry(root(), "f", Inode::fresh()), asked).await.unwrap();
        assert_eq!(found.xdata.int("glusterfs.inodelk-count"), Some(1));
        assert_eq!(found.xdata.int("glusterfs.parent-entrylk"), Some(1));
        let asked = Dict::empty()
            .with("glusterfs.inodelk-dom-count", Value::str(DOMAIN))
            .with("glusterfs.open-active-fd-count", Value::Uint(4))
            .with("glusterfs.write-is-append", Value::Uint(4));
        let reply = child.writev(&context, &fd, payload("x"), 7, 0, asked).await.unwrap();
        assert_eq!(reply.xdata.int("glusterfs.inodelk-count"), Some(1));
        assert_eq!(reply.xdata.int("glusterfs.open-active-fd-count"), Some(1));
        assert_eq!(reply.xdata.int("glusterfs.write-is-append"), Some(0));
    });
}

#[test]
fn the_record_shows_what_goes_in_parallel() {
    let cluster = Cluster::new(1, REPLICA_3, 1);
    let children = cluster.children(0);
    let (cmd, kind) = (EntrylkCmd::LockNonBlocking, EntrylkType::Write);
    let context = owned(5);
    cluster.block_on(async {
        let loc = Loc::inode(root());
        let all =
            children.iter().map(|child| child.entrylk(&context, DOMAIN, &loc, Some(b"f1"), cmd, kind, Dict::NULL));
        crate::translators::cluster::join_all(all).await;
        for child in &children[..2] {
            child.entrylk(&context, DOMAIN, &loc, None, EntrylkCmd::Lock, kind, Dict::NULL).await.unwrap();
        }
    });
    let lines = cluster.take_lines();
    let expected = [
        r#"ENTRYLK 0,1,2 / LOCK_NB WR "f1" dom=v-replicate-0"#,
        "ENTRYLK 0 / LOCK WR NULL dom=v-replicate-0",
        "ENTRYLK 1 / LOCK WR NULL dom=v-replicate-0",
    ];
    assert_eq!(lines, expected);
    assert_eq!(context.rounds.count(), 3);
}

#[test]
fn an_arbiter_keeps_no_data() {
    let cluster = Cluster::new(1, Layout { replicas: 3, arbiter: true }, 1);
    let child = cluster.children(0).remove(2);
    cluster.block_on(async {
        let fd = create(&child, "f", 1, 2).await.unwrap();
        let asked = Dict::empty()
            .with("glusterfs.open-active-fd-count", Value::Uint(4))
            .with("glusterfs.write-is-append", Value::Uint(4));
        let reply = child.writev(&Context::internal(), &fd, payload("x"), 7, 0, asked).await.unwrap();
        assert_eq!((reply.written, reply.post.size), (1, 0));
        assert_eq!(reply.xdata.int("glusterfs.write-is-append"), Some(1));
        assert!(!reply.xdata.contains("glusterfs.open-active-fd-count"));
        child.ftruncate(&Context::internal(), &fd, 100, Dict::NULL).await.unwrap();
        let read = child.readv(&Context::internal(), &fd, 1, 0, 0, Dict::NULL).await;
        assert_eq!(errno(read), Errno::ENOSYS);
    });
    assert_eq!(cluster.object(2, "/f").unwrap().stat.size, 0);
}

#[test]
fn files_are_open_again_before_a_brick_counts_as_up() {
    let cluster = Cluster::new(1, REPLICA_3, 1);
    let child = cluster.children(0).remove(0);
    let other = cluster.children(0).remove(1);
    let (first, second) = cluster
        .block_on(async { (create(&child, "f", 1, 2).await.unwrap(), create(&other, "g", 2, 2).await.unwrap()) });
    cluster.kill_brick(0);
    assert!(!child.events().is_up());
    assert_eq!(errno(cluster.block_on(write(&child, &first, "x", 0))), Errno::ENOTCONN);
    cluster.restart_brick(0);
    assert!(child.events().is_up());
    cluster.block_on(write(&child, &first, "x", 0)).unwrap();
    // Not open there, and the gfid is unknown.
    assert_eq!(errno(cluster.block_on(write(&child, &second, "x", 0))), Errno::ENOENT);
    let reply = cluster.block_on(child.flush(&Context::internal(), &second, Dict::NULL));
    assert_eq!(errno(reply), Errno::EBADFD);
}

#[test]
fn a_power_cut_takes_unsynced_data_and_a_kill_does_not() {
    let cluster = Cluster::new(1, REPLICA_3, 1);
    let child = cluster.children(0).remove(0);
    let fd = cluster.block_on(create(&child, "f", 1, 2)).unwrap();
    cluster.block_on(write(&child, &fd, "safe", 0)).unwrap();
    cluster.block_on(child.fsync(&Context::internal(), &fd, true, Dict::NULL)).unwrap();
    cluster.block_on(write(&child, &fd, "lost", 4)).unwrap();
    cluster.kill_brick(0);
    cluster.restart_brick(0);
    assert_eq!(cluster.data(0, "/f").unwrap(), b"safelost");
    cluster.power_cut_brick(0);
    cluster.restart_brick(0);
    assert_eq!(cluster.data(0, "/f").unwrap(), b"safe");
}

#[test]
fn posix_locks_end_with_flush() {
    let cluster = Cluster::new(1, REPLICA_3, 2);
    let children = [cluster.children(0).remove(0), cluster.children(1).remove(0)];
    cluster.block_on(async {
        let mine = create(&children[0], "f", 1, 2).await.unwrap();
        let theirs = create(&children[1], "f", 1, 2).await.unwrap();
        let lock = |client: usize, fd: &Arc<Fd>, kind| {
            let (child, fd) = (children[client].clone(), fd.clone());
            async move { child.lk(&owned(3), &fd, LkCmd::SetLk, flock(kind, 0, 10), Dict::NULL).await.map(drop) }
        };
        lock(0, &mine, LockType::Write).await.unwrap();
        assert_eq!(errno(lock(1, &theirs, LockType::Read).await), Errno::EAGAIN);
        children[0].flush(&owned(3), &mine, Dict::NULL).await.unwrap();
        lock(1, &theirs, LockType::Read).await.unwrap();
    });
}

#[test]
fn rules_make_requests_fail_or_wait() {
    let cluster = Cluster::new(1, REPLICA_3, 1);
    let child = cluster.children(0).remove(0);
    cluster.fail_next(0, "CREATE", Errno::EPERM);
    assert_eq!(errno(cluster.block_on(create(&child, "f", 1, 2))), Errno::EPERM);
    let fd = cluster.block_on(create(&child, "f", 1, 2)).unwrap();
    cluster.next(0, "WRITE", Verdict::Short(2));
    assert_eq!(cluster.block_on(write(&child, &fd, "four", 0)).unwrap(), 2);
    cluster.next(0, "WRITE", Verdict::Wait(Duration::from_secs(5)));
    cluster.block_on(write(&child, &fd, "four", 0)).unwrap();
    assert_eq!(cluster.now(), Duration::from_secs(5));
    cluster.next(0, "WRITE", Verdict::FailAfter(Errno::EIO));
    assert_eq!(errno(cluster.block_on(write(&child, &fd, "done", 0))), Errno::EIO);
    assert_eq!(cluster.data(0, "/f").unwrap(), b"done");
}

#[test]
fn bricks_are_compared() {
    let cluster = Cluster::new(1, Layout { replicas: 3, arbiter: true }, 1);
    let children = cluster.children(0);
    for child in &children {
        let fd = cluster.block_on(create(child, "f", 1, 2)).unwrap();
        cluster.block_on(write(child, &fd, "data", 0)).unwrap();
    }
    assert_eq!(cluster.compare_bricks(), [""; 0]);
    cluster.put_xattr(1, "/f", "trusted.afr.v-client-0", Some(&[0; 12]));
    assert_eq!(cluster.compare_bricks(), [""; 0]);
    cluster.put_xattr(1, "/f", "user.x", Some(b"1"));
    assert_eq!(cluster.compare_bricks().len(), 1);
    cluster.put_xattr(1, "/f", "user.x", None);
    cluster.lose(2, "/f");
    assert_eq!(cluster.compare_bricks().len(), 1);
}

/// Two clients write one file on three bricks while one of these comes and goes; returns all that there was to see.
fn turmoil(seed: u64) -> String {
    let cluster = Cluster::random(seed, REPLICA_3, 2);
    cluster.record(true);
    let mut running = Vec::new();
    for client in 0..2 {
        let children = cluster.children(client);
        running.push(cluster.spawn(async move {
            let mut seen = Vec::new();
            for (number, child) in children.iter().enumerate().cycle().take(60) {
                let Ok(fd) = create(child, "f", 1, 2).await else { continue };
                let text = format!("{client}{number}");
                seen.push(format!("{:?}", write(child, &fd, &text, 0).await.map_err(|error| error.errno)));
                let whole = flock(LockType::Write, 0, 0);
                let locked = child.finodelk(&owned(1), DOMAIN, &fd, InodelkCmd::SetLkW, whole, Dict::NULL).await;
                seen.push(format!("{:?}", locked.map_err(|error| error.errno).map(drop)));
                let whole = flock(LockType::Unlock, 0, 0);
                let _ = child.finodelk(&owned(1), DOMAIN, &fd, InodelkCmd::SetLk, whole, Dict::NULL).await;
            }
            seen
        }));
    }
    for round in 0..6 {
        cluster.run_for(Duration::from_millis(3));
        match round {
            0 => cluster.kill_brick(1),
            1 => cluster.cut(0, 2),
            3 => cluster.restart_brick(1),
            4 => cluster.heal_cut(0, 2),
            _ => {}
        }
    }
    cluster.run_until_idle();
    let seen: Vec<_> = running.iter_mut().map(Running::result).collect();
    let data: Vec<_> = (0..3).map(|brick| cluster.data(brick, "/f")).collect();
    format!("{seen:?} {data:?} {:?} {}", cluster.now(), cluster.take_lines().join("\n"))
}

#[test]
fn one_seed_gives_one_schedule() {
    for seed in 0..20 {
        let (first, second) = (turmoil(seed), turmoil(seed));
        assert!(first == second, "seed {seed} went two ways");
    }
    assert_ne!(turmoil(1), turmoil(2));
}

#[test]
fn a_crashed_client_goes_no_further() {
    let cluster = Cluster::random(4, REPLICA_3, 2);
    let child = cluster.children(0).remove(0);
    let mut running = cluster.spawn(async move {
        let fd = create(&child, "f", 1, 2).await.unwrap();
        for _ in 0..1000 {
            write(&child, &fd, "x", 0).await.unwrap();
        }
    });
    cluster.run_for(Duration::from_millis(10));
    cluster.crash_client(0);
    cluster.run_until_idle();
    assert!(running.result().is_none());
    assert!(!cluster.is_alive(0));
}

#[test]
fn a_cut_is_noticed_later_by_the_brick() {
    let cluster = Cluster::random(4, REPLICA_3, 2);
    let child = cluster.children(0).remove(0);
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = heard.clone();
    child.events().subscribe(move |event| {
        if let Event::Status(status) = event {
            noted.lock().unwrap().push(*status == Status::Up);
        }
    });
    cluster.block_on(async {
        let (loc, whole) = (Loc::inode(root()), flock(LockType::Write, 0, 0));
        child.inodelk(&owned(1), DOMAIN, &loc, InodelkCmd::SetLk, whole, Dict::NULL).await.unwrap();
    });
    cluster.cut(0, 0);
    assert_eq!(cluster.locks(0).len(), 1);
    assert_eq!(*heard.lock().unwrap(), [false]);
    cluster.heal_cut(0, 0);
    cluster.run_until_idle();
    assert!(cluster.locks(0).is_empty());
    assert_eq!(*heard.lock().unwrap(), [false, true]);
}
