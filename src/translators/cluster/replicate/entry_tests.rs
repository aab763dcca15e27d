//! Fops that change names, over a cluster in memory: what is sent to which brick, in which order, and what stays.

use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::types::XattropFlags;
use rgfs_protocol::{Dict, Errno, FileType, Gfid, Value};

use super::child_set::ChildSet;
use super::testing::{ARBITER, REPLICA_3, Replica, program, root};
use crate::reply::EntryReply;
use crate::simulation::Verdict;
use crate::{Fd, FopResult, Inode, Loc, Translator};

const GRANULAR: &[(&str, &str)] = &[("granular-entry-heal", "on")];
const FLAGS: i32 = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;

fn gfid(number: u8) -> Gfid {
    Gfid([number; 16])
}

fn request(number: u8) -> Dict {
    Dict::empty().with("gfid-req", Value::Gfuuid(gfid(number)))
}

fn entry(name: &str) -> Loc {
    Loc::entry(root(), name.to_owned(), Inode::fresh())
}

impl Replica {
    fn create(&self, client: usize, name: &str, number: u8) -> (FopResult<EntryReply>, Loc, Arc<Fd>) {
        let loc = entry(name);
        let fd = Fd::new(loc.inode.clone(), FLAGS, 1);
        let made = self.cluster.block_on(self.clients[client].create(
            &program(client),
            &loc,
            FLAGS,
            0o644,
            0,
            &fd,
            request(number),
        ));
        if let Ok(made) = &made {
            loc.inode.identify(made.stat.gfid, made.stat.file_type());
        }
        (made, loc, fd)
    }

    fn mkdir(&self, client: usize, name: &str, number: u8) -> FopResult<Loc> {
        let loc = entry(name);
        self.cluster.block_on(self.clients[client].mkdir(&program(client), &loc, 0o755, 0, request(number)))?;
        loc.inode.identify(gfid(number), FileType::Directory);
        Ok(loc)
    }

    fn unlink(&self, client: usize, loc: &Loc) -> FopResult<()> {
        self.cluster.block_on(self.clients[client].unlink(&program(client), loc, 0, Dict::NULL)).map(|_| ())
    }

    fn rmdir(&self, client: usize, loc: &Loc) -> FopResult<()> {
        self.cluster.block_on(self.clients[client].rmdir(&program(client), loc, 0, Dict::NULL)).map(|_| ())
    }

    fn rename(&self, client: usize, old: &Loc, new: &Loc) -> FopResult<()> {
        self.cluster.block_on(self.clients[client].rename(&program(client), old, new, Dict::NULL)).map(|_| ())
    }

    fn changelogs(&self, brick: usize, path: &str) -> [[i32; 3]; 2] {
        ["dirty", "v-client-2"].map(|who| self.cluster.changelog(brick, path, who))
    }
}

#[test]
fn a_healthy_create_is_a_lock_and_the_create() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    let context = program(0);
    let loc = entry("f1");
    let fd = Fd::new(loc.inode.clone(), FLAGS, 1);
    let made =
        replica.cluster.block_on(replica.clients[0].create(&context, &loc, FLAGS, 0o644, 0, &fd, request(1))).unwrap();
    assert_eq!((made.stat.gfid, context.rounds.count()), (gfid(1), 2));
    let owners = replica.cluster.take_trace();
    assert!(owners.iter().filter(|sent| sent.call.fop == "CREATE").all(|sent| sent.call.owner == context.lock_owner));
    let locks = owners.iter().filter(|sent| sent.call.fop == "ENTRYLK");
    assert!(locks.clone().count() >= 3 && locks.clone().all(|sent| sent.call.owner != context.lock_owner));
    replica.forget();
    let (_, loc, fd) = replica.create(0, "f2", 2);
    let sent = replica.sent();
    let middle = format!("xdata{{gfid-req={}}}", gfid(2));
    assert_eq!(sent.len(), 3, "{sent:#?}");
    assert_eq!(sent[0], r#"ENTRYLK 0,1,2 / LOCK_NB WR "f2" dom=test"#);
    assert!(sent[1].starts_with(r#"CREATE 0,1,2 / "f2""#) && sent[1].ends_with(&middle), "{}", sent[1]);
    assert_eq!(sent[2], r#"ENTRYLK 0,1,2 / UNLOCK "f2" dom=test"#);
    assert_eq!(replica.leftovers(), [""; 0]);
    // Open everywhere, and known to be good everywhere: the next look is one round to one copy.
    let core = &replica.clients[0].core;
    assert_eq!(core.fd(&fd).opened(), ChildSet::all(3));
    let context = program(0);
    replica.cluster.block_on(replica.clients[0].stat(&context, &Loc::inode(loc.inode.clone()), Dict::NULL)).unwrap();
    assert_eq!((context.rounds.count(), replica.sent().len()), (1, 1));
}

#[test]
fn every_healthy_fop_takes_two_rounds_and_leaves_nothing() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    let top = &replica.clients[0];
    let dir = replica.mkdir(0, "d", 1).unwrap();
    let (_, file, _) = replica.create(0, "f", 2);
    let run = |what: &str, count: u32| {
        assert_eq!(count, 2, "{what}");
        let sent = replica.sent();
        assert_eq!(sent.len(), if what.contains("two names") { 5 } else { 3 }, "{what}: {sent:#?}");
        assert_eq!(replica.leftovers(), [""; 0], "{what}");
    };
    replica.forget();
    let context = program(0);
    replica.cluster.block_on(top.mknod(&context, &entry("n"), 0o010_644, 0, 0, request(3))).unwrap();
    run("mknod", context.rounds.count());
    let context = program(0);
    replica.cluster.block_on(top.symlink(&context, &entry("s"), "f".into(), 0, request(4))).unwrap();
    run("symlink", context.rounds.count());
    let context = program(0);
    let name = Loc::entry(dir.inode.clone(), "l", file.inode.clone());
    replica.cluster.block_on(top.link(&context, &file, &name, Dict::NULL)).unwrap();
    run("link", context.rounds.count());
    let context = program(0);
    replica.cluster.block_on(top.rename(&context, &name, &entry("r"), Dict::NULL)).unwrap();
    run("rename, two names", context.rounds.count());
    let context = program(0);
    replica.cluster.block_on(top.unlink(&context, &file, 0, Dict::NULL)).unwrap();
    run("unlink", context.rounds.count());
    let context = program(0);
    replica.cluster.block_on(top.rmdir(&context, &dir, 0, Dict::NULL)).unwrap();
    run("rmdir, two names", context.rounds.count());
    assert_eq!(replica.cluster.compare_bricks(), [""; 0]);
}

#[test]
fn one_brick_down_is_noted_before_and_after() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    replica.cluster.kill_brick(2);
    replica.forget();
    let (made, ..) = replica.create(0, "down1", 1);
    made.unwrap();
    let sent = replica.sent();
    let expected = [
        r#"ENTRYLK 0,1 / LOCK_NB WR "down1" dom=test"#,
        r#"XATTROP 0,1 / {dirty[0,0,1] …0} xdata{glusterfs.xattrop-entry-create="down1"}"#,
        r#"CREATE 0,1 / "down1" "#,
        r#"XATTROP 0,1 /down1 {v-client-2[1,1,0] …0}"#,
        r#"XATTROP 0,1 / {dirty[0,0,-1] v-client-2[0,0,1] …0} xdata{glusterfs.xattrop-entry-create="down1"}"#,
        r#"ENTRYLK 0,1 / UNLOCK "down1" dom=test"#,
    ];
    assert_eq!(sent.len(), expected.len(), "{sent:#?}");
    for (sent, expected) in sent.iter().zip(expected) {
        assert!(sent == expected || expected.ends_with(' ') && sent.starts_with(expected), "{sent}");
    }
    for brick in [0, 1] {
        assert_eq!(replica.changelogs(brick, "/"), [[0; 3], [0, 0, 1]]);
        assert_eq!(replica.changelogs(brick, "/down1"), [[0; 3], [1, 1, 0]]);
        let index = replica.cluster.index(brick);
        assert!(index.entry_changes[&Gfid::ROOT].contains(&b"down1"[..]));
        assert_eq!(replica.cluster.pending_gfids(brick).len(), 2);
    }
    replica.mkdir(0, "d", 2).unwrap();
    replica.forget();
    assert_eq!(replica.changelogs(0, "/d"), [[0; 3], [1, 1, 1]]);
    let top = &replica.clients[0];
    replica.cluster.block_on(top.symlink(&program(0), &entry("s1"), "x".into(), 0, request(3))).unwrap();
    replica.forget();
    assert_eq!(replica.changelogs(0, "/s1"), [[0; 3]; 2]);
    let old = Loc::entry(root(), "s1", Inode::known(gfid(3), FileType::Symlink));
    replica.rename(0, &old, &entry("s1r")).unwrap();
    let sent = replica.sent();
    let expected = [
        r#"ENTRYLK 0,1 / LOCK_NB WR "s1" dom=test"#,
        r#"ENTRYLK 0,1 / LOCK_NB WR "s1r" dom=test"#,
        r#"XATTROP 0,1 / {dirty[0,0,1] …0} xdata{glusterfs.xattrop-entry-create="s1r"}"#,
        r#"XATTROP 0,1 / {dirty[0,0,1] …0} xdata{glusterfs.xattrop-entry-create="s1"}"#,
    ];
    assert_eq!(sent[..4], expected, "{sent:#?}");
    assert!(sent[4].starts_with("RENAME 0,1 "), "{sent:#?}");
    for (sent, name) in sent[5..7].iter().zip(["s1r", "s1"]) {
        let marks = "XATTROP 0,1 / {dirty[0,0,-1] v-client-2[0,0,1] …0}";
        assert_eq!(*sent, format!("{marks} xdata{{glusterfs.xattrop-entry-create=\"{name}\"}}"));
    }
    assert_eq!(sent.len(), 9);
    assert_eq!(replica.changelogs(0, "/"), [[0; 3], [0, 0, 5]]);
}

#[test]
fn a_copy_that_fails_is_accused_before_the_application_goes_on() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    replica.cluster.fail_next(2, "CREATE", Errno::EPERM);
    let (made, loc, fd) = replica.create(0, "midfail", 1);
    made.unwrap();
    for brick in [0, 1] {
        // Without waiting for anything more.
        assert_eq!(replica.changelogs(brick, "/"), [[0; 3], [0, 0, 1]]);
        assert_eq!(replica.changelogs(brick, "/midfail"), [[0; 3], [1, 1, 0]]);
    }
    let sent = replica.sent();
    // Not before the copies told whether others are accused already.
    assert!(sent[2].starts_with("LOOKUP 0,1,2 / "), "{sent:#?}");
    assert_eq!(sent[3], r#"XATTROP 0,1 /midfail {v-client-2[1,1,0] …0}"#);
    let mark = r#"XATTROP 0,1 / {v-client-2[0,0,1] …0} xdata{glusterfs.xattrop-entry-create="midfail"}"#;
    assert_eq!(sent[4..], [mark, r#"ENTRYLK 0,1,2 / UNLOCK "midfail" dom=test"#], "{sent:#?}");
    let core = &replica.clients[0].core;
    assert_eq!(core.fd(&fd).opened(), ChildSet::all(2));
    assert!(core.inode(&loc.inode).is_stale());
    assert_eq!(core.inode(&loc.inode).readable(), None);
}

#[test]
fn a_quorum_lost_in_the_operation_leaves_dirty_and_accuses_nobody() {
    for (granular, name) in [(GRANULAR, r#" xdata{glusterfs.xattrop-entry-create="f"}"#), (&[], "")] {
        let replica = Replica::with(REPLICA_3, 1, granular);
        replica.cluster.fail_next(1, "CREATE", Errno::ENOTCONN);
        replica.cluster.next(2, "CREATE", Verdict::FailAfter(Errno::ENOTCONN));
        let (made, ..) = replica.create(0, "f", 1);
        assert_eq!(made.unwrap_err().errno, Errno::ENOTCONN);
        let sent = replica.sent();
        assert_eq!(sent[2..3], [format!("XATTROP 0 / {{dirty[0,0,1]}}{name}")], "{sent:#?}");
        assert_eq!(replica.cluster.marks(), ["0: / trusted.afr.dirty [0, 0, 1]"]);
        assert_eq!(replica.cluster.pending_gfids(0), [Gfid::ROOT]);
    }
}

#[test]
fn errors_that_all_share_leave_nothing() {
    for errno in [Errno::ENOSPC, Errno::EIO] {
        let replica = Replica::with(REPLICA_3, 1, GRANULAR);
        (0..3).for_each(|brick| replica.cluster.fail_next(brick, "MKDIR", errno));
        assert_eq!(replica.mkdir(0, "d", 1).unwrap_err().errno, errno);
        let sent = replica.sent();
        assert_eq!((sent.len(), replica.leftovers().len()), (3, 0), "{sent:#?}");
        // With one brick down the note from before goes away again.
        replica.cluster.kill_brick(1);
        [0, 2].iter().for_each(|brick| replica.cluster.fail_next(*brick, "MKDIR", errno));
        assert_eq!(replica.mkdir(0, "d", 1).unwrap_err().errno, errno);
        let sent = replica.sent();
        assert_eq!(sent[3], "XATTROP 0,2 / {dirty[0,0,-1] …0}", "{sent:#?}");
        assert_eq!(replica.leftovers(), [""; 0]);
    }
}

/// A brick forgets the names of a directory that accuses nobody when an XATTROP has no xdata at all: C clients send such a one
/// when they fail to rename into the directory, and for attributes.
#[test]
fn names_stay_noted_when_others_have_nothing_to_note() {
    type Other = fn(&Replica);
    let others: [(&str, Other); 3] = [
        ("an error that all share", |replica| {
            (0..2).for_each(|brick| replica.cluster.fail_next(brick, "UNLINK", Errno::EACCES));
            let kept = Loc::entry(old_directory(), "kept", Inode::known(gfid(3), FileType::Regular));
            assert_eq!(replica.unlink(1, &kept).unwrap_err().errno, Errno::EACCES);
        }),
        ("attributes that are changed by nobody", |replica| {
            (0..2).for_each(|brick| replica.cluster.fail_next(brick, "SETATTR", Errno::EACCES));
            assert_eq!(replica.chmod(1, &old_directory(), 0o700).0.unwrap_err().errno, Errno::EACCES);
        }),
        ("a C client", |replica| {
            let zeros = Dict::empty().with("trusted.afr.v-client-2", Value::Ptr(vec![0; 12].into()));
            for child in &replica.cluster.children(1)[..2] {
                let (context, loc) = (program(1), Loc::inode(old_directory()));
                let xattrop = child.xattrop(&context, &loc, XattropFlags::AddArray, zeros.clone(), Dict::NULL);
                replica.cluster.block_on(xattrop).unwrap();
            }
        }),
    ];
    for (who, other) in others {
        let replica = Replica::with(REPLICA_3, 2, GRANULAR);
        replica.mkdir(0, "old", 1).unwrap();
        let token = Loc::entry(old_directory(), "token", Inode::fresh());
        replica.cluster.block_on(replica.clients[0].mkdir(&program(0), &token, 0o755, 0, request(2))).unwrap();
        token.inode.identify(gfid(2), FileType::Directory);
        replica.cluster.kill_brick(2);
        replica.forget();
        (0..2).for_each(|brick| replica.cluster.next(brick, "RENAME", Verdict::Wait(Duration::from_secs(1))));
        let (top, old) = (replica.clients[0].clone(), token.clone());
        let renaming = async move { top.rename(&program(0), &old, &entry("new"), Dict::NULL).await.map(|_| ()) };
        let mut renaming = replica.cluster.spawn(renaming);
        replica.cluster.run_for(Duration::from_millis(500));
        other(&replica);
        replica.cluster.settle();
        let noted = |directory, name: &str| {
            let has =
                |brick| replica.cluster.index(brick).entry_changes.get(&directory)?.get(name.as_bytes()).map(|_| ());
            has(0).and(has(1)).is_some()
        };
        assert!(renaming.result().is_none(), "{who}: the rename is under way");
        assert_eq!(noted(gfid(1), "token"), who != "a C client", "{who}, while the rename is under way");
        replica.cluster.run_until_idle();
        renaming.result().unwrap().unwrap();
        assert_eq!(replica.changelogs(0, "/old"), [[0; 3], [0, 0, 1]], "{who}");
        assert!(noted(gfid(1), "token") && noted(Gfid::ROOT, "new"), "{who}");
    }
}

/// The directory of [`names_stay_noted_when_others_have_nothing_to_note`].
fn old_directory() -> Arc<Inode> {
    Inode::known(gfid(1), FileType::Directory)
}

#[test]
fn a_directory_that_is_not_empty_on_one_copy_is_no_failure_of_it() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    let dir = replica.mkdir(0, "d", 1).unwrap();
    replica.cluster.fail_next(1, "RMDIR", Errno::ENOTEMPTY);
    replica.rmdir(0, &dir).unwrap();
    replica.cluster.settle();
    assert_eq!(replica.leftovers(), [""; 0]);
}

#[test]
fn locks_of_a_rename_are_waited_for_in_the_order_of_all_clients() {
    let replica = Replica::new(REPLICA_3, 2);
    // The parents' gfids and the root's: 00..01 < 05.. < 09..
    let (high, low) = (replica.mkdir(0, "high", 9).unwrap(), replica.mkdir(0, "low", 5).unwrap());
    let moved = Loc::entry(high.inode.clone(), "a", Inode::fresh());
    replica.cluster.block_on(replica.clients[0].mkdir(&program(0), &moved, 0o755, 0, request(11))).unwrap();
    moved.inode.identify(gfid(11), FileType::Directory);
    let over = Loc::entry(low.inode.clone(), "b", Inode::fresh());
    replica.cluster.block_on(replica.clients[0].mkdir(&program(0), &over, 0o755, 0, request(7))).unwrap();
    over.inode.identify(gfid(7), FileType::Directory);
    replica.forget();
    // Somebody holds one of the names at one brick.
    let other = replica.cluster.children(1).remove(1);
    let low_dir = Loc::inode(low.inode.clone());
    use rgfs_protocol::types::{EntrylkCmd, EntrylkType};
    let name = Some(&b"b"[..]);
    let theirs = program(1);
    let lock = other.entrylk(&theirs, "test", &low_dir, name, EntrylkCmd::Lock, EntrylkType::Write, Dict::NULL);
    replica.cluster.block_on(lock).unwrap();
    let top = replica.clients[0].clone();
    let mut renaming =
        replica.cluster.spawn(async move { top.rename(&program(0), &moved, &over, Dict::NULL).await.map(|_| ()) });
    replica.cluster.settle();
    assert!(renaming.result().is_none());
    let unlock = other.entrylk(&theirs, "test", &low_dir, name, EntrylkCmd::Unlock, EntrylkType::Write, Dict::NULL);
    replica.cluster.block_on(unlock).unwrap();
    replica.cluster.settle();
    renaming.result().unwrap().unwrap();
    let sent: Vec<String> = replica.sent().into_iter().filter(|line| line.starts_with("ENTRYLK")).collect();
    let tried = [r#"/low LOCK_NB WR "b""#, r#"/low/b LOCK_NB WR NULL"#, r#"/high LOCK_NB WR "a""#];
    for (sent, tried) in sent.iter().zip(tried) {
        let tried = tried.replace("/low/b", &gfid(7).to_string());
        assert_eq!(*sent, format!("ENTRYLK 0,1,2 {tried} dom=test"));
    }
    let given_back = sent.iter().position(|line| line.contains("UNLOCK")).unwrap();
    assert_eq!(given_back, 3, "{sent:#?}");
    assert!(sent[3].starts_with("ENTRYLK 0,2 /low UNLOCK"), "{sent:#?}");
    let waited: Vec<&String> = sent.iter().filter(|line| line.contains(" LOCK WR") && !line.contains("c1:")).collect();
    let waited: Vec<String> = waited.into_iter().map(|line| line.replace(" dom=test", "")).collect();
    let victim = gfid(7).to_string();
    let each = [r#"/low LOCK WR "b""#.to_owned(), format!("{victim} LOCK WR NULL"), r#"/high LOCK WR "a""#.to_owned()];
    let expected: Vec<String> =
        each.iter().flat_map(|what| (0..3).map(move |brick| format!("ENTRYLK {brick} {what}"))).collect();
    assert_eq!(waited, expected, "{sent:#?}");
    assert_eq!(replica.leftovers(), [""; 0]);
    assert_eq!(replica.cluster.compare_bricks(), [""; 0]);
}

#[test]
fn two_clients_rename_against_each_other_and_both_go_on() {
    let replica = Replica::new(REPLICA_3, 2);
    let (a, b) = (replica.mkdir(0, "a", 1).unwrap(), replica.mkdir(0, "b", 2).unwrap());
    for (dir, name, number) in [(&a, "x", 3), (&b, "y", 4)] {
        let loc = Loc::entry(dir.inode.clone(), name, Inode::fresh());
        replica
            .cluster
            .block_on(replica.clients[0].mknod(&program(0), &loc, 0o100_644, 0, 0, request(number)))
            .unwrap();
    }
    let loc = |dir: &Loc, name: &'static str, number| {
        Loc::entry(dir.inode.clone(), name, Inode::known(gfid(number), FileType::Regular))
    };
    let start = |client: usize, old: Loc, new: Loc| {
        let top = replica.clients[client].clone();
        replica.cluster.spawn(async move { top.rename(&program(client), &old, &new, Dict::NULL).await.map(|_| ()) })
    };
    let one = start(0, loc(&a, "x", 3), loc(&b, "y", 4));
    let two = start(1, loc(&b, "y", 4), loc(&a, "x", 3));
    let results = [replica.cluster.block_on(one), replica.cluster.block_on(two)];
    assert!(results.iter().any(Result::is_ok), "{results:?}");
    replica.cluster.settle();
    assert_eq!(replica.leftovers(), [""; 0]);
    assert_eq!(replica.cluster.compare_bricks(), [""; 0]);
}

#[test]
fn names_of_a_file_that_goes_are_marked_on_the_directory_alone() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    let (_, one, _) = replica.create(0, "one", 1);
    let (_, two, _) = replica.create(0, "two", 2);
    replica.cluster.kill_brick(2);
    replica.unlink(0, &one).unwrap();
    let name = Loc::entry(root(), "three", two.inode.clone());
    replica.cluster.block_on(replica.clients[0].link(&program(0), &two, &name, Dict::NULL)).unwrap();
    replica.cluster.settle();
    assert_eq!(replica.cluster.pending_gfids(0), [Gfid::ROOT]);
    assert_eq!(replica.changelogs(0, "/"), [[0; 3], [0, 0, 2]]);
    assert_eq!(replica.cluster.index(0).entry_changes[&Gfid::ROOT].len(), 2);
}

#[test]
fn too_few_bricks_are_refused_before_anything_is_sent() {
    let replica = Replica::new(REPLICA_3, 1);
    replica.cluster.kill_brick(0);
    replica.cluster.kill_brick(1);
    replica.forget();
    assert_eq!(replica.create(0, "f", 1).0.unwrap_err().errno, Errno::ENOTCONN);
    assert_eq!(replica.sent(), [""; 0]);
}

#[test]
fn a_directory_whose_only_good_copy_is_the_arbiters_does_not_change() {
    let replica = Replica::with(ARBITER, 1, GRANULAR);
    replica.cluster.kill_brick(0);
    replica.forget();
    let accusation = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    replica.cluster.put_xattr(2, "/", "trusted.afr.v-client-1", Some(&accusation));
    assert_eq!(replica.create(0, "f", 1).0.unwrap_err().errno, Errno::ENOTCONN);
    let sent = replica.sent();
    assert!(sent.iter().all(|line| !line.starts_with("CREATE")), "{sent:#?}");
    assert_eq!(sent.last().unwrap(), r#"ENTRYLK 1,2 / UNLOCK "f" dom=test"#);
    replica.cluster.put_xattr(2, "/", "trusted.afr.v-client-1", None);
    replica.create(0, "f", 1).0.unwrap();
}

#[test]
fn a_new_file_on_an_arbiter_volume_is_read_from_the_others() {
    let replica = Replica::new(ARBITER, 1);
    let (made, loc, _) = replica.create(0, "f", 1);
    made.unwrap();
    let readable = replica.clients[0].core.inode(&loc.inode).readable().unwrap();
    assert_eq!(readable.both(), ChildSet::all(2));
}

#[test]
fn a_file_that_was_there_is_not_taken_for_a_new_one() {
    let replica = Replica::new(REPLICA_3, 1);
    replica.file("f", 7);
    let loc = entry("f");
    let fd = Fd::new(loc.inode.clone(), FLAGS, 1);
    let flags = libc::O_RDWR | libc::O_CREAT;
    let opened = replica
        .cluster
        .block_on(replica.clients[0].create(&program(0), &loc, flags, 0o644, 0, &fd, request(1)))
        .unwrap();
    assert_eq!(opened.stat.gfid, gfid(7));
    assert_eq!(replica.clients[0].core.inode(&loc.inode).readable(), None);
}

#[test]
fn a_copy_whose_connection_broke_under_the_lock_has_failed() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    // It answers late; meanwhile another connection breaks and comes back.
    replica.cluster.next(0, "CREATE", Verdict::AnswerLate(std::time::Duration::from_secs(1)));
    let top = replica.clients[0].clone();
    let loc = entry("f");
    let fd = Fd::new(loc.inode.clone(), FLAGS, 1);
    let mut creating = replica
        .cluster
        .spawn(async move { top.create(&program(0), &loc, FLAGS, 0o644, 0, &fd, request(1)).await.map(|_| ()) });
    replica.cluster.settle();
    replica.cluster.cut(0, 2);
    replica.cluster.heal_cut(0, 2);
    replica.cluster.settle();
    assert!(replica.cluster.is_connected(0, 2));
    assert!(creating.result().is_none());
    replica.cluster.run_for(std::time::Duration::from_secs(2));
    creating.result().unwrap().unwrap();
    assert_eq!(replica.changelogs(0, "/"), [[0; 3], [0, 0, 1]]);
    assert_eq!(replica.changelogs(1, "/f"), [[0; 3], [1, 1, 0]]);
}

#[test]
fn an_interrupted_caller_leaves_nothing_half_done() {
    let replica = Replica::new(REPLICA_3, 1);
    replica.cluster.next(1, "MKDIR", Verdict::AnswerLate(std::time::Duration::from_secs(1)));
    let loc = entry("d");
    let context = program(0);
    {
        let mut making = Box::pin(replica.clients[0].mkdir(&context, &loc, 0o755, 0, request(1)));
        let mut polled = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(making.as_mut().poll(&mut polled).is_pending());
    }
    replica.cluster.run_for(std::time::Duration::from_secs(2));
    assert_eq!(replica.leftovers(), [""; 0]);
    assert_eq!(replica.cluster.compare_bricks(), [""; 0]);
    assert!(replica.cluster.gfid(0, "/d").is_some());
}

#[test]
fn private_names_and_nameless_directories_are_refused() {
    let replica = Replica::new(REPLICA_3, 1);
    for name in [".landfill", ".glusterfs-anonymous-inode-1"] {
        assert_eq!(replica.create(0, name, 1).0.unwrap_err().errno, Errno::EPERM);
    }
    let context =
        replica.cluster.block_on(replica.clients[0].mkdir(&program(0), &entry("d"), 0o755, 0, Dict::NULL)).unwrap_err();
    assert_eq!(context.errno, Errno::EPERM);
    assert_eq!(replica.sent(), [""; 0]);
}

#[test]
fn a_create_that_finds_another_file_on_one_brick_does_not_write_to_it() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    let file = replica.file("f", 7);
    // One brick missed that the file went.
    replica.cluster.lose(1, "/f");
    replica.cluster.lose(2, "/f");
    let loc = entry("f");
    let flags = libc::O_RDWR | libc::O_CREAT;
    let fd = Fd::new(loc.inode.clone(), flags, 1);
    let context = program(0);
    let create = replica.clients[0].create(&context, &loc, flags, 0o644, 0, &fd, request(8));
    let error = replica.cluster.block_on(create).unwrap_err();
    assert_eq!(error.errno, Errno::ESTALE, "the caller looks again, and opens what it finds");
    replica.cluster.settle();
    assert_eq!((replica.cluster.gfid(0, "/f"), replica.cluster.gfid(1, "/f")), (Some(file.gfid()), Some(gfid(8))));
    for brick in [1, 2] {
        assert_eq!(replica.cluster.changelog(brick, "/", "v-client-0"), [0, 0, 1]);
        assert_eq!(replica.cluster.changelog(brick, "/f", "v-client-0"), [1, 1, 0]);
    }
}

#[test]
fn nothing_is_made_on_a_copy_that_does_not_know_that_the_name_is_taken() {
    let replica = Replica::with(REPLICA_3, 1, GRANULAR);
    replica.mkdir(0, "d", 9).unwrap();
    // The second brick missed it, and the third one is away.
    replica.cluster.lose(1, "/d");
    replica.cluster.put_xattr(0, "/", "trusted.afr.v-client-1", Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
    replica.cluster.kill_brick(2);
    replica.forget();
    assert_eq!(replica.mkdir(0, "d", 10).unwrap_err().errno, Errno::EEXIST);
    replica.cluster.settle();
    assert_eq!(replica.cluster.gfid(1, "/d"), None);
    assert_eq!(replica.cluster.changelog(1, "/", "dirty"), [0; 3], "nothing changed anywhere");
    replica.mkdir(0, "e", 11).unwrap();
    assert_eq!(replica.cluster.gfid(1, "/e"), Some(gfid(11)));
}
