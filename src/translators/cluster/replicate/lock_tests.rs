//! Locks, over a cluster in memory: who gets them, who waits, and that none is left.

use rgfs_protocol::Errno;
use smallvec::SmallVec;

use super::child_set::ChildSet;
use super::core::with_own_locks;
use super::lock::{Lockee, Locks};
use super::target::Target;
use super::testing::{REPLICA_3, Replica, program, root};
use crate::FopResult;
use crate::simulation::Verdict;

impl Replica {
    fn lock(&self, client: usize) -> FopResult<Locks> {
        let core = self.clients[client].core.clone();
        let context = with_own_locks(&program(client));
        let lockees = SmallVec::from_iter([whole()]);
        let on = core.snapshot().up;
        self.cluster.block_on(core.lock(&context, &core.name, lockees, on))
    }

    fn lock_for_heal(&self, client: usize, alone: bool) -> Locks {
        let core = self.clients[client].core.clone();
        let context = with_own_locks(&program(client));
        let on = core.snapshot().up;
        match alone {
            true => self.cluster.block_on(core.lock_for_heal_alone(&context, &core.heal_domain, whole(), on)),
            false => self.cluster.block_on(core.lock_for_heal(&context, &core.heal_domain, whole(), on)),
        }
    }

    fn locks_at(&self, brick: usize) -> usize {
        self.cluster.settle();
        self.cluster.locks(brick).len()
    }
}

fn whole() -> Lockee {
    Lockee::content(Target::Inode(root()))
}

#[test]
fn a_free_lock_is_one_round_and_is_given_back_when_dropped() {
    let replica = Replica::new(REPLICA_3, 1);
    let locks = replica.lock(0).unwrap();
    assert_eq!(locks.children(), ChildSet::all(3));
    assert_eq!(replica.sent().len(), 1);
    assert_eq!(replica.locks_at(1), 1);
    drop(locks);
    assert_eq!([0, 1, 2].map(|brick| replica.locks_at(brick)), [0; 3]);
    let locks = replica.lock(0).unwrap();
    replica.cluster.block_on(locks.unlock());
    assert_eq!(replica.locks_at(0), 0);
}

#[test]
fn a_child_that_refuses_is_left_out_after_all_others_were_asked_again() {
    let replica = Replica::new(REPLICA_3, 1);
    replica.cluster.add_rule(1, |call| match call.fop == "INODELK" && !call.unlock {
        true => Verdict::Fail(Errno::ESTALE),
        false => Verdict::Pass,
    });
    let locks = replica.lock(0).unwrap();
    assert_eq!(locks.children(), ChildSet::all(3).without(1));
    assert_eq!(locks.refusal().unwrap().errno, Errno::ESTALE);
    let sent = replica.sent();
    let steps: Vec<&str> = sent.iter().map(|line| line.split(" / ").next().unwrap()).collect();
    assert_eq!(steps, ["INODELK 0,1,2", "INODELK 0,2", "INODELK 0", "INODELK 1,2"], "{sent:#?}");
    drop(locks);
    assert_eq!([0, 1, 2].map(|brick| replica.locks_at(brick)), [0; 3]);
}

#[test]
fn behind_the_first_lock_nothing_is_held_while_another_is_waited_for() {
    let replica = Replica::new(REPLICA_3, 1);
    // Once in the first attempt, and once more when the first lock is held.
    replica.cluster.fail_next(1, "INODELK", Errno::EAGAIN);
    replica.cluster.fail_next(1, "INODELK", Errno::EAGAIN);
    let locks = replica.lock(0).unwrap();
    assert_eq!(locks.children(), ChildSet::all(3));
    let sent = replica.sent();
    let steps: Vec<&str> = sent.iter().map(|line| line.split(" / ").next().unwrap()).collect();
    let expected = ["INODELK 0,1,2", "INODELK 0,2", "INODELK 0", "INODELK 1,2", "INODELK 2", "INODELK 1", "INODELK 2"];
    assert_eq!(steps, expected, "{sent:#?}");
    assert!(sent[4].contains("UNLCK"), "{sent:#?}");
    drop(locks);
    assert_eq!([0, 1, 2].map(|brick| replica.locks_at(brick)), [0; 3]);
}

#[test]
fn without_any_child_the_last_error_counts_and_without_locks_there_is_no_going_on() {
    let replica = Replica::new(REPLICA_3, 1);
    for (errno, bricks) in [(Errno::ENOENT, 0..3), (Errno::ENOSYS, 1..2)] {
        for brick in bricks {
            replica.cluster.add_rule(brick, move |call| match call.fop == "INODELK" && !call.unlock {
                true => Verdict::Fail(errno),
                false => Verdict::Pass,
            });
        }
        assert_eq!(replica.lock(0).err().unwrap().errno, errno);
        assert_eq!([0, 1, 2].map(|brick| replica.locks_at(brick)), [0; 3]);
        (0..3).for_each(|brick| replica.cluster.clear_rules(brick));
    }
}

#[test]
fn a_lock_whose_connection_broke_is_not_held() {
    let replica = Replica::new(REPLICA_3, 1);
    let locks = replica.lock(0).unwrap();
    replica.cluster.cut(0, 2);
    replica.cluster.heal_cut(0, 2);
    replica.cluster.settle();
    assert!(replica.cluster.is_connected(0, 2));
    assert_eq!(locks.children(), ChildSet::all(3));
    assert_eq!(locks.still_held(), ChildSet::all(2));
}

#[test]
fn a_request_that_was_not_answered_in_time_is_taken_back() {
    let replica = Replica::new(REPLICA_3, 1);
    // It is granted, and the answer says that nothing was heard of it.
    replica.cluster.next(2, "INODELK", Verdict::FailAfter(Errno::ENOTCONN));
    let locks = replica.lock(0).unwrap();
    assert_eq!(locks.children(), ChildSet::all(3));
    let sent = replica.sent();
    assert!(sent[1].starts_with("INODELK 0,1,2 ") && sent[1].contains("UNLCK"), "{sent:#?}");
    drop(locks);
    assert_eq!(replica.locks_at(2), 0);
}

#[test]
fn a_healer_waits_only_where_another_holds_the_lock() {
    let replica = Replica::new(REPLICA_3, 1);
    replica.cluster.fail_next(1, "INODELK", Errno::ESTALE);
    let locks = replica.lock_for_heal(0, false);
    assert_eq!((locks.children(), replica.sent().len()), (ChildSet::all(3).without(1), 1));
    drop(locks);
    replica.forget();
    replica.cluster.fail_next(1, "INODELK", Errno::EAGAIN);
    let locks = replica.lock_for_heal(0, false);
    assert_eq!((locks.children(), replica.sent().len()), (ChildSet::all(3), 4));
}

#[test]
fn of_several_healers_the_one_with_most_children_waits() {
    let replica = Replica::new(REPLICA_3, 1);
    replica.cluster.fail_next(1, "INODELK", Errno::EAGAIN);
    let locks = replica.lock_for_heal(0, true);
    assert_eq!((locks.children(), replica.sent().len()), (ChildSet::all(3), 4));
    drop(locks);
    replica.forget();
    [0, 1].iter().for_each(|brick| replica.cluster.fail_next(*brick, "INODELK", Errno::EAGAIN));
    let locks = replica.lock_for_heal(0, true);
    assert_eq!((locks.children(), replica.sent().len()), (ChildSet::one(2), 1));
    drop(locks);
    assert_eq!(replica.locks_at(2), 0);
}

#[test]
fn clients_that_want_the_same_names_never_wait_in_a_circle() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::simulation::{Cluster, Layout};

    for seed in 0..30 {
        let layout = Layout { replicas: 3, arbiter: false };
        let cluster = Cluster::random(seed, layout, 3);
        let clients = super::testing::mounts(&cluster, &[]);
        let done = Arc::new(AtomicUsize::new(0));
        for (client, top) in clients.iter().enumerate() {
            for number in 0..5 {
                let (core, done) = (top.core.clone(), done.clone());
                crate::task::spawn(async move {
                    let names = [b"a", b"b", b"c"].map(|name| bytes::Bytes::from_static(name));
                    let pick = |at: usize| Lockee::name(&root(), &names[(client + number + at) % 3]);
                    let lockees = SmallVec::from_iter([pick(0), pick(1)]);
                    let context = with_own_locks(&program(client));
                    let on = core.snapshot().up;
                    let locks = core.lock(&context, &core.name, lockees, on).await.unwrap();
                    assert_eq!(locks.children().len(), on.len());
                    locks.unlock().await;
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
        }
        cluster.run_until_idle();
        assert_eq!(done.load(Ordering::Relaxed), 15, "seed {seed}");
        cluster.check_exclusion().unwrap();
        assert!((0..3).all(|brick| cluster.locks(brick).is_empty()), "seed {seed}");
    }
}
