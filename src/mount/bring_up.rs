//! From a volfile's text to a graph that answers: parsed, built, connected, and its root directory looked up.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rgfs_protocol::{Dict, FileType, Gfid};

use super::failure::Failure;
use super::fetch::Fetched;
use super::options::{MountOptions, VolfileSource};
use crate::clock::RealClock;
use crate::context::Context;
use crate::event::Status;
use crate::graph::{Environment, Identity, LiveGraph};
use crate::inode::{Inode, Loc};
use crate::net::Network;
use crate::volfile::{self, Selection};

/// Builds the graph and waits until its root directory answers. `before` is the graph that it shall follow, and its number.
///
/// # Errors
/// The volfile is wrong, a brick refuses, no brick answers until `deadline`, or the root directory cannot be read.
pub(super) fn bring_up(
    options: &MountOptions,
    volfile: &Fetched,
    network: &Network,
    deadline: Instant,
    before: Option<(&LiveGraph, u32)>,
) -> Result<LiveGraph, Failure> {
    let selection =
        Selection { volume_name: options.volume_name.clone(), overrides: options.translator_options.clone() };
    let graph =
        volfile::load(&volfile.origin, &volfile.text, &selection).map_err(|error| Failure::new(error.to_string()))?;
    let number = before.map_or(0, |(_, number)| number);
    let environment = environment(options, volfile, network, number)?;
    // Leaves connect from the network threads; the graph is built inside the runtime for those that start a timer.
    let _entered = network.handle().enter();
    let live = match before {
        Some((before, _)) => LiveGraph::build_after(&graph, &environment, before),
        None => LiveGraph::build(&graph, &environment),
    }
    .map_err(|error| Failure::io(&volfile.origin, error))?;
    network.handle().block_on(async {
        match live.wait_ready(deadline).await {
            Status::Up => look_up_root(&live, options, deadline).await,
            Status::Down(why) => Err(Failure::new(format!("no brick can be used: {why}"))),
            Status::Refused(why) => Err(Failure::new(format!("access denied: {why}"))),
            Status::Connecting => Err(Failure::new(format!("bricks: {}; {}", live.bricks(), given_up(options)))),
        }
    })?;
    Ok(live)
}

/// The proof that the volume can be used.
async fn look_up_root(live: &LiveGraph, options: &MountOptions, deadline: Instant) -> Result<(), Failure> {
    let context = Context::internal();
    let root = Loc::inode(Inode::known(Gfid::ROOT, FileType::Directory));
    match tokio::time::timeout_at(deadline.into(), live.top().lookup(&context, &root, Dict::default())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure::new(format!("looking up the root directory: {error}"))),
        Err(_) => Err(Failure::new(format!("looking up the root directory: {}", given_up(options)))),
    }
}

fn given_up(options: &MountOptions) -> String {
    format!("given up after {} s (--mount-timeout)", options.mount_timeout.as_secs_f32())
}

/// What translators may know about this process.
fn environment(
    options: &MountOptions,
    volfile: &Fetched,
    network: &Network,
    graph_id: u32,
) -> Result<Environment, Failure> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::io("random numbers", error))?;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let key = match &options.volfile {
        VolfileSource::Servers { key, .. } => key.as_str(),
        VolfileSource::File(_) => "",
    };
    Ok(Environment {
        network: network.clone(),
        identity: Arc::new(Identity {
            context_id: Gfid::from_random(random).to_string().into(),
            graph_id,
            pid: std::process::id(),
            hostname: hostname.into(),
            process_name: options.process_name.as_str().into(),
        }),
        volfile_server: volfile.server.as_deref().map(Arc::from),
        volfile_key: key.into(),
        subdir_mount: options.subdir.as_deref().map(Arc::from),
        volume_id: Arc::new(OnceLock::new()),
        clock: Arc::new(RealClock::new(network)),
        // Shorter than the mount may take, so that a silent brick is named together with the question it left open.
        connect_timeout: options.mount_timeout.mul_f32(0.8),
    })
}
