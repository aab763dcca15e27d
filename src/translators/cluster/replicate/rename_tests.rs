//! A name that another client renames over, again and again, is there all the time.

use rgfs_protocol::{Dict, FileType, Gfid, Value};

use super::testing::{REPLICA_3, mounts, program, root};
use crate::simulation::Cluster;
use crate::{Fd, Inode, Loc, Translator};

const FLAGS: i32 = libc::O_RDWR | libc::O_CREAT;

#[test]
fn a_name_is_found_while_it_is_renamed_over() {
    for seed in 0..60 {
        let cluster = Cluster::random(seed, REPLICA_3, 2);
        let clients = mounts(&cluster, &[]);
        cluster.run_for(std::time::Duration::from_secs(1));
        if seed % 2 == 1 {
            cluster.kill_brick((seed % 3) as usize);
            cluster.run_for(std::time::Duration::from_secs(1));
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
