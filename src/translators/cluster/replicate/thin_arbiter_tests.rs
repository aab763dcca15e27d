//! Volumes with a thin arbiter over a cluster in memory: bricks 0 and 1 are the copies, brick 2 is the thin arbiter.

use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::types::{Flock, InodelkCmd, LockOwner, LockType};
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::testing::{Replica, mounts, program, root};
use crate::event::Status;
use crate::simulation::{Cluster, Running, Verdict};
use crate::{Context, Fd, FopResult, Inode, Loc, Translator};

const SECOND: Duration = Duration::from_secs(1);
const ID_FILE: &str = "/trusted.afr.v-ta-2.4711";
const OPTIONS: [(&str, &str); 2] =
    [("thin-arbiter", "host:/ta"), ("afr-pending-xattr", "v-client-0,v-client-1,v-ta-2.4711")];

/// A volume with a thin arbiter, whose root was looked up by every client.
fn volume(clients: usize) -> Replica {
    let cluster = Cluster::with_thin_arbiter(1, clients);
    let clients = mounts(&cluster, &OPTIONS);
    let volume = Replica { cluster, clients };
    for client in &volume.clients {
        volume.cluster.block_on(client.lookup(&program(0), &Loc::inode(root()), Dict::NULL)).unwrap();
    }
    volume.forget();
    volume
}

impl Replica {
    /// Makes a file through a client.
    fn make(&self, client: usize, name: &'static str, number: u8) -> FopResult<Arc<Fd>> {
        let inode = Inode::fresh();
        let fd = Fd::new(inode.clone(), libc::O_RDWR, 1);
        let (loc, flags) = (Loc::entry(root(), name, inode.clone()), libc::O_RDWR | libc::O_CREAT);
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(Gfid([number; 16])));
        let (top, context) = (&self.clients[client], program(client));
        let reply = self.cluster.block_on(top.create(&context, &loc, flags, 0o644, 0, &fd, xdata))?;
        inode.identify(reply.stat.gfid, FileType::Regular);
        Ok(fd)
    }

    /// A file that both copies have, empty, and nothing under way.
    fn empty_file(&self, number: u8) -> Arc<Fd> {
        let fd = self.make(0, "f", number).unwrap();
        self.forget();
        fd
    }

    fn read_all(&self, client: usize, fd: &Arc<Fd>) -> Result<String, Errno> {
        let (top, context) = (&self.clients[client], program(client));
        let reply = self.cluster.block_on(top.readv(&context, fd, 100, 0, 0, Dict::NULL));
        let bytes = |reply: crate::reply::ReadReply| reply.data.iter().flatten().copied().collect();
        reply.map(|reply| String::from_utf8(bytes(reply)).unwrap()).map_err(|error| error.errno)
    }

    /// A brick that was killed is back, and everybody knows.
    fn back(&self, brick: usize) {
        self.cluster.restart_brick(brick);
        self.cluster.run_for(SECOND);
        self.forget();
    }

    /// A brick is dead, and everybody knows.
    fn away(&self, brick: usize) {
        self.cluster.kill_brick(brick);
        self.cluster.run_for(SECOND);
        self.forget();
    }

    /// What the thin arbiter says of the copies.
    fn said(&self) -> [[i32; 3]; 2] {
        [0, 1].map(|copy| self.cluster.changelog(2, ID_FILE, &format!("v-client-{copy}")))
    }

    /// Locks in the domain that tells clients of healers.
    fn notify_locks(&self) -> usize {
        self.cluster.locks(2).iter().filter(|lock| lock.contains("afr.ta.dom-notify")).count()
    }

    /// Requests that the thin arbiter got since the last time.
    fn asked(&self) -> usize {
        self.cluster.settle();
        self.cluster.take_trace().iter().filter(|entry| entry.brick == 2).count()
    }

    /// A healer on a client's connection asks for the lock on all bytes, or gives it back.
    fn healer(&self, client: usize, kind: LockType) -> Running<FopResult<Dict>> {
        let arbiter = self.cluster.children(client)[2].clone();
        let gfid = self.cluster.gfid(2, ID_FILE).unwrap();
        let owner = LockOwner::from_fuse(0xbeef);
        self.cluster.spawn(async move {
            let context = Context { lock_owner: owner.clone(), ..Context::internal() };
            let flock = Flock { kind, whence: 0, start: 0, len: 0, pid: 0, owner };
            let cmd = if kind == LockType::Unlock { InodelkCmd::SetLk } else { InodelkCmd::SetLkW };
            let loc = Loc::inode(Inode::known(gfid, FileType::Regular));
            arbiter.inodelk(&context, "afr.ta.dom-notify", &loc, cmd, flock, Dict::NULL).await
        })
    }
}

#[test]
fn nobody_is_asked_while_both_copies_are_there() {
    let volume = volume(2);
    assert_eq!(volume.cluster.tree(2).keys().collect::<Vec<_>>(), [ID_FILE], "made at the first lookup, once");
    let fd = volume.empty_file(1);
    assert_eq!(volume.write(0, &fd, "hello", 0).0, Ok(5));
    assert_eq!(volume.read_all(0, &fd).unwrap(), "hello");
    volume.chmod(0, &fd.inode, 0o600).0.unwrap();
    volume.cluster.run_for(2 * SECOND);
    assert_eq!(volume.asked(), 0);
    assert_eq!(volume.leftovers(), [""; 0]);
}

#[test]
fn the_bad_copy_is_told_once_and_remembered() {
    let volume = volume(1);
    let fd = volume.empty_file(1);
    volume.away(1);
    assert_eq!(volume.write(0, &fd, "one", 0).0, Ok(3));
    assert_eq!(volume.said(), [[0; 3], [1, 0, 0]]);
    assert_eq!(volume.cluster.changelog(0, "/f", "v-client-1"), [1, 0, 0], "noted before the answer");
    assert_eq!(volume.cluster.changelog(0, "/f", "dirty"), [0; 3]);
    assert_eq!(volume.notify_locks(), 1);
    // Two locks, the mark, one unlock.
    assert_eq!(volume.asked(), 4);
    assert_eq!(volume.write(0, &fd, "two", 0).0, Ok(3));
    volume.chmod(0, &fd.inode, 0o600).0.unwrap();
    volume.make(0, "g", 2).unwrap();
    assert_eq!(volume.asked(), 0, "it is remembered");
    assert_eq!(volume.cluster.changelog(0, "/f", "v-client-1"), [2, 1, 0]);
    assert_eq!(volume.cluster.changelog(0, "/g", "v-client-1"), [1, 1, 0]);
    assert_eq!(volume.said(), [[0; 3], [1, 0, 0]]);
    // The copy accuses the other one by itself.
    assert_eq!(volume.read_all(0, &fd).unwrap(), "two");
    assert_eq!(volume.asked(), 0);
}

#[test]
fn a_copy_that_fails_in_the_operation_is_as_bad_as_one_that_is_away() {
    let volume = volume(1);
    let fd = volume.empty_file(1);
    volume.cluster.fail_next(0, "WRITE", Errno::ENOSPC);
    assert_eq!(volume.write(0, &fd, "one", 0).0, Ok(3));
    assert_eq!(volume.said(), [[1, 0, 0], [0; 3]]);
    assert_eq!(volume.cluster.changelog(1, "/f", "v-client-0"), [1, 0, 0]);
    volume.cluster.fail_next(1, "SETATTR", Errno::EIO);
    assert_eq!(volume.chmod(0, &fd.inode, 0o600).0.unwrap_err().errno, Errno::EIO);
    assert_eq!(volume.cluster.changelog(0, "/f", "v-client-1"), [0; 3], "the bad copy accuses nobody");
    volume.cluster.fail_next(0, "CREATE", Errno::ENOSPC);
    volume.make(0, "g", 2).unwrap();
    assert_eq!(volume.cluster.changelog(1, "/", "v-client-0"), [0, 0, 1]);
    assert_eq!(volume.cluster.changelog(1, "/g", "v-client-0"), [1, 1, 0]);
}

#[test]
fn the_bad_copy_alone_serves_nothing() {
    let volume = volume(2);
    let fd = volume.empty_file(1);
    volume.away(1);
    assert_eq!(volume.write(0, &fd, "new", 0).0, Ok(3));
    volume.back(1);
    volume.away(0);
    for client in [0, 1] {
        let inode = Inode::known(fd.gfid(), FileType::Regular);
        let fd = volume.open(client, &inode);
        assert_eq!(volume.write(client, &fd, "bad", 0).0, Err(Errno::EIO), "client {client}");
        assert_eq!(volume.read_all(client, &fd), Err(Errno::EIO), "client {client}");
        assert_eq!(volume.chmod(client, &inode, 0o600).0.unwrap_err().errno, Errno::EIO, "client {client}");
        assert_eq!(volume.make(client, "h", 9).unwrap_err().errno, Errno::EIO, "client {client}");
    }
    let accusing = |mark: &String| mark.starts_with("1:") && mark.contains("v-client-0");
    assert!(!volume.cluster.marks().iter().any(accusing), "{:?}", volume.cluster.marks());
    assert_ne!(volume.cluster.changelog(1, "/", "dirty"), [0; 3], "the names may differ");
    assert_eq!(volume.said(), [[0; 3], [1, 0, 0]]);
    volume.back(0);
    assert_eq!(volume.read_all(0, &fd).unwrap(), "new");
    let own = volume.notify_locks();
    assert_eq!(own, 2, "each client keeps the lock under which it was told");
}

#[test]
fn new_names_are_made_only_where_the_thin_arbiter_agrees() {
    let volume = volume(1);
    volume.away(0);
    volume.make(0, "f", 1).unwrap();
    assert_eq!(volume.said(), [[1, 1, 0], [0; 3]], "as of what was made");
    assert_eq!(volume.cluster.changelog(1, "/f", "v-client-0"), [1, 1, 0]);
    assert_eq!(volume.cluster.changelog(1, "/", "v-client-0"), [0, 0, 1]);
    assert_eq!(volume.cluster.changelog(1, "/", "dirty"), [0; 3]);
    volume.back(0);
    // Optimistic: nothing was noted before.
    volume.cluster.fail_next(1, "CREATE", Errno::ENOSPC);
    assert_eq!(volume.make(0, "g", 2).unwrap_err().errno, Errno::EIO);
    assert_eq!(volume.cluster.changelog(0, "/g", "v-client-1"), [0; 3]);
    assert_eq!(volume.cluster.changelog(0, "/", "v-client-1"), [0; 3]);
    assert_eq!(volume.cluster.changelog(0, "/", "dirty"), [0, 0, 1]);
}

#[test]
fn without_the_thin_arbiter_both_copies_are_needed() {
    let volume = volume(1);
    let fd = volume.empty_file(1);
    volume.away(2);
    assert_eq!(volume.write(0, &fd, "both", 0).0, Ok(4));
    assert_eq!(volume.read_all(0, &fd).unwrap(), "both");
    volume.make(0, "g", 2).unwrap();
    volume.cluster.run_for(2 * SECOND);
    volume.cluster.fail_next(1, "WRITE", Errno::ENOSPC);
    assert_eq!(volume.write(0, &fd, "half", 0).0, Err(Errno::ENOTCONN));
    assert_eq!(volume.cluster.changelog(0, "/f", "v-client-1"), [0; 3]);
    assert_eq!(volume.cluster.changelog(0, "/f", "dirty"), [1, 0, 0], "healers see that something may differ");
    volume.away(1);
    assert_eq!(volume.write(0, &fd, "one", 0).0, Err(Errno::ENOTCONN));
    assert_eq!(volume.read_all(0, &fd), Err(Errno::ENOTCONN));
    assert_eq!(volume.chmod(0, &fd.inode, 0o600).0.unwrap_err().errno, Errno::ENOTCONN);
    assert_eq!(volume.make(0, "h", 3).unwrap_err().errno, Errno::ENOTCONN);
    assert_eq!(volume.sent(), [""; 0]);
    volume.back(2);
    assert_eq!(volume.read_all(0, &fd).unwrap(), "half", "nobody is accused");
}

#[test]
fn a_copy_that_is_alone_is_read_when_nobody_calls_it_bad() {
    let volume = volume(1);
    let fd = volume.empty_file(1);
    assert_eq!(volume.write(0, &fd, "hello", 0).0, Ok(5));
    volume.cluster.run_for(2 * SECOND);
    volume.away(1);
    assert_eq!(volume.read_all(0, &fd).unwrap(), "hello");
    // A lock, the question, the unlock.
    assert_eq!(volume.asked(), 3);
    assert_eq!(volume.cluster.locks(2), [""; 0]);
    // It is lost while it is asked.
    volume.back(1);
    volume.cluster.fail_next(0, "LOOKUP", Errno::EIO);
    volume.cluster.fail_next(0, "FSTAT", Errno::EIO);
    assert_eq!(volume.read_all(0, &fd).unwrap(), "hello");
    assert_eq!(volume.asked(), 3);
}

#[test]
fn a_healer_that_waits_is_let_in_and_the_answer_is_forgotten() {
    let volume = volume(2);
    let fd = volume.empty_file(1);
    volume.away(1);
    assert_eq!(volume.write(0, &fd, "one", 0).0, Ok(3));
    let mut healer = volume.healer(1, LockType::Write);
    volume.cluster.run_for(SECOND);
    assert!(healer.result().unwrap().is_ok());
    assert_eq!(volume.notify_locks(), 1, "the healer's alone");
    volume.forget();
    // Who writes now must ask again, after the healer.
    let (top, late) = (volume.clients[0].clone(), fd.clone());
    let mut write = volume.cluster.spawn(async move {
        let data = crate::reply::Payload::from_iter([bytes::Bytes::from_static(b"two")]);
        top.writev(&program(0), &late, data, 0, 0, Dict::NULL).await
    });
    volume.cluster.run_for(SECOND);
    assert!(write.result().is_none());
    assert!(volume.healer(1, LockType::Unlock).result().is_none());
    volume.cluster.run_for(SECOND);
    assert_eq!(write.result().unwrap().unwrap().written, 3);
    assert_eq!(volume.said(), [[0; 3], [2, 0, 0]]);
    assert_eq!(volume.notify_locks(), 1);
}

#[test]
fn a_healer_waits_for_the_changes_that_go_by_the_answer() {
    let volume = volume(2);
    let fd = volume.empty_file(1);
    volume.away(1);
    assert_eq!(volume.write(0, &fd, "one", 0).0, Ok(3));
    // The next one is agreed to from memory, and its note takes a while.
    let mut notes = 0;
    volume.cluster.add_rule(0, move |call| {
        notes += i32::from(call.fop == "FXATTROP");
        if call.fop == "FXATTROP" && notes == 2 { Verdict::Wait(3 * SECOND) } else { Verdict::Pass }
    });
    let (top, late) = (volume.clients[0].clone(), fd.clone());
    let mut write = volume.cluster.spawn(async move {
        let data = crate::reply::Payload::from_iter([bytes::Bytes::from_static(b"two")]);
        top.writev(&program(0), &late, data, 0, 0, Dict::NULL).await
    });
    volume.cluster.run_for(SECOND);
    let mut healer = volume.healer(1, LockType::Write);
    volume.cluster.run_for(SECOND);
    assert!(healer.result().is_none() && write.result().is_none());
    volume.cluster.run_for(2 * SECOND);
    assert!(write.result().unwrap().is_ok());
    assert!(healer.result().unwrap().is_ok());
}

#[test]
fn a_healer_is_not_kept_out_by_a_request_that_failed() {
    let volume = volume(2);
    let fd = volume.empty_file(1);
    volume.away(1);
    volume.cluster.fail_next(2, "XATTROP", Errno::EIO);
    assert_eq!(volume.write(0, &fd, "one", 0).0, Err(Errno::EIO));
    volume.cluster.settle();
    assert_eq!(volume.cluster.locks(2), [""; 0]);
    assert_eq!(volume.write(0, &fd, "two", 0).0, Ok(3), "the next one asks again");
}

#[test]
fn an_answer_does_not_outlive_its_connection() {
    let volume = volume(1);
    let fd = volume.empty_file(1);
    volume.away(1);
    assert_eq!(volume.write(0, &fd, "one", 0).0, Ok(3));
    volume.away(2);
    volume.back(2);
    assert_eq!(volume.write(0, &fd, "two", 0).0, Ok(3));
    assert_eq!(volume.said(), [[0; 3], [2, 0, 0]], "asked again");
    // The connection breaks after the answer, before the note.
    let mut notes = 0;
    volume.cluster.add_rule(0, move |call| {
        notes += i32::from(call.fop == "FXATTROP");
        if call.fop == "FXATTROP" && notes == 2 { Verdict::Wait(3 * SECOND) } else { Verdict::Pass }
    });
    let (top, late) = (volume.clients[0].clone(), fd.clone());
    let mut write = volume.cluster.spawn(async move {
        let data = crate::reply::Payload::from_iter([bytes::Bytes::from_static(b"333")]);
        top.writev(&program(0), &late, data, 0, 0, Dict::NULL).await
    });
    volume.cluster.run_for(SECOND);
    volume.away(2);
    volume.cluster.run_for(3 * SECOND);
    assert_eq!(write.result().unwrap().unwrap_err().errno, Errno::EIO);
}

#[test]
fn changes_ask_one_after_the_other_and_share_the_answer() {
    let volume = volume(1);
    let fds: Vec<_> = [("a", 1), ("b", 2), ("c", 3)].map(|(name, n)| volume.make(0, name, n).unwrap()).into();
    volume.away(0);
    let writes: Vec<_> = fds
        .iter()
        .map(|fd| {
            let (top, fd) = (volume.clients[0].clone(), fd.clone());
            volume.cluster.spawn(async move {
                let data = crate::reply::Payload::from_iter([bytes::Bytes::from_static(b"x")]);
                top.writev(&program(0), &fd, data, 0, 0, Dict::NULL).await
            })
        })
        .collect();
    for write in writes {
        volume.cluster.block_on(write).unwrap();
    }
    assert_eq!(volume.said(), [[1, 0, 0], [0; 3]]);
    assert_eq!(volume.asked(), 4);
}

#[test]
fn a_thin_arbiter_that_is_away_keeps_nobody_waiting() {
    let cluster = Cluster::with_thin_arbiter(1, 1);
    cluster.cut(0, 2);
    cluster.settle();
    let clients = mounts(&cluster, &OPTIONS);
    assert_eq!(clients[0].events().status(), Status::Up, "it said that it is down");
    assert_eq!(clients[0].children().len(), 3);
}
