//! What is there is there all the time: while another client renames over it, and while a brick comes and goes.

use std::sync::Arc;
use std::time::Duration;

use rgfs_protocol::{Dict, FileType, Gfid, Value};

use super::testing::{REPLICA_3, Replica, mounts, program, root};
use crate::simulation::{Cluster, Layout};
use crate::{Fd, Inode, Loc, Translator};

const FLAGS: i32 = libc::O_RDWR | libc::O_CREAT;

#[test]
fn a_name_is_found_while_it_is_renamed_over() {
    for seed in 0..60 {
        let cluster = Cluster::random(seed, REPLICA_3, 2);
        let clients = mounts(&cluster, &[]);
        cluster.run_for(Duration::from_secs(1));
        if seed % 2 == 1 {
            cluster.kill_brick((seed % 3) as usize);
            cluster.run_for(Duration::from_secs(1));
        }
        let writer = clients[1].clone();
        let rename = move |number: u8| {
            let top = writer.clone();
            async move {
                let old = Loc::entry(root(), format!("f.{number}"), Inode::fresh());
                let fd = Fd::new(old.inode.clone(), FLAGS, 1);
                let gfid = Gfid([number + 1; 16]);
                let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(gfid));
                top.create(&program(1), &old, FLAGS, 0o644, 0, &fd, xdata).await.unwrap();
                old.inode.identify(gfid, FileType::Regular);
                let new = Loc::entry(root(), "f", Inode::fresh());
                top.rename(&program(1), &old, &new, Dict::NULL).await.unwrap();
            }
        };
        cluster.block_on(rename(0));
        let mut busy = cluster.spawn(async move {
            for number in 1..30 {
                rename(number).await;
            }
        });
        let (mut failures, mut looks) = (Vec::new(), 0);
        while busy.result().is_none() {
            let loc = Loc::entry(root(), "f", Inode::fresh());
            if let Err(error) = cluster.block_on(clients[0].lookup(&program(0), &loc, Dict::NULL)) {
                failures.push(error.to_string());
            }
            looks += 1;
        }
        assert!(failures.is_empty(), "seed {seed}: {} of {looks}: {}", failures.len(), failures[0]);
    }
}

#[test]
fn a_brick_that_comes_and_goes_fails_no_read() {
    for seed in 0..20 {
        let cluster = Cluster::random(seed, REPLICA_3, 1);
        let clients = mounts(&cluster, &[]);
        cluster.run_for(Duration::from_secs(1));
        let (top, brick) = (clients[0].clone(), (seed % 3) as usize);
        let place = Loc::entry(root(), "f", Inode::fresh());
        let fd = Fd::new(place.inode.clone(), FLAGS, 1);
        let xdata = Dict::empty().with("gfid-req", Value::Gfuuid(Gfid([9; 16])));
        cluster.block_on(top.create(&program(0), &place, FLAGS, 0o644, 0, &fd, xdata)).unwrap();
        place.inode.identify(Gfid([9; 16]), FileType::Regular);
        let mut busy = cluster.spawn(async move {
            let mut errors = Vec::new();
            for _ in 0..400 {
                let context = program(0);
                let inode = Loc::inode(place.inode.clone());
                let found = top.lookup(&context, &place, Dict::NULL).await.map(|_| ());
                let seen = top.stat(&context, &inode, Dict::NULL).await.map(|_| ());
                let other = Fd::new(inode.inode.clone(), libc::O_RDONLY, 1);
                let opened = top.open(&context, &inode, libc::O_RDONLY, &other, Dict::NULL).await.map(|_| ());
                let read = top.readv(&context, &other, 10, 0, 0, Dict::NULL).await.map(|_| ());
                let held = top.fstat(&context, &fd, Dict::NULL).await.map(|_| ());
                errors.extend([found, seen, opened, read, held].into_iter().filter_map(Result::err));
            }
            errors
        });
        let errors = loop {
            cluster.run_for(Duration::from_millis(3 + seed));
            match cluster.is_running(brick) {
                true => cluster.kill_brick(brick),
                false => cluster.restart_brick(brick),
            }
            if let Some(errors) = busy.result() {
                break errors;
            }
            cluster.run_for(Duration::from_millis(600));
        };
        assert!(errors.is_empty(), "seed {seed}: {}: {}", errors.len(), errors[0]);
    }
}

/// The kernel remembers names for a second: it asks for the rename without a look that would have healed the name.
#[test]
fn a_rename_of_what_a_copy_missed_is_a_rename_that_it_missed() {
    for good in [0, 1] {
        let layout = Layout { replicas: 2, arbiter: false };
        let replica = Replica::with(layout, 1, &[("granular-entry-heal", "on")]);
        let (cluster, top) = (&replica.cluster, &replica.clients[0]);
        let (other, moved) = (replica.file("name", 1), replica.file("moved", 2));
        let rename = |inode: &Arc<Inode>, over: Arc<Inode>, old: &str, new: &str| {
            let (old, new) =
                (Loc::entry(root(), old.to_owned(), inode.clone()), Loc::entry(root(), new.to_owned(), over));
            cluster.block_on(top.rename(&program(0), &old, &new, Dict::NULL))
        };
        cluster.kill_brick(1 - good);
        cluster.run_for(Duration::from_secs(1));
        rename(&moved, other, "moved", "name").unwrap();
        cluster.restart_brick(1 - good);
        cluster.run_for(Duration::from_secs(10));
        let reply = rename(&moved, Inode::fresh(), "name", "new").unwrap();
        assert_eq!(reply.stat.gfid, moved.gfid(), "brick {good} is right");
        for _ in 0..2 {
            cluster.block_on(top.heal(&root())).unwrap();
        }
        assert_eq!(cluster.compare_bricks(), Vec::<String>::new(), "brick {good} is right");
        assert_eq!(cluster.gfid(1 - good, "/new"), Some(moved.gfid()), "brick {good} is right");
    }
}
