//! The cluster harness: real GlusterFS daemons for the integration tests, the bench and the demo.
//!
//! Where to look:
//!
//! - [`sandbox`]: every scenario runs in namespaces of its own, so that clusters stand side by side and leave nothing behind;
//! - [`volfiles`]: the text of hand-written brick and client volfiles;
//! - [`brick`]: one `glusterfsd` that can be killed, stopped, continued and looked into;
//! - [`cluster`]: static clusters of such bricks, and volumes made by a real `glusterd`;
//! - [`replicated`]: replicated volumes of every kind, made by a real `glusterd`: bricks die and return, heals are waited for;
//! - [`heal_info`]: what `gluster volume heal VOLUME info` says;
//! - [`backends`]: the copies on the bricks, compared byte by byte, and the marks of replicate on them;
//! - [`tampering`]: damage done to the bricks of a distribute volume; [`picture`]: what is there afterwards, made comparable;
//! - [`load`]: mixed work whose every acknowledged result is remembered;
//! - [`close`]: what `close` answers;
//! - [`content`]: bytes that follow from a seed; [`records`]: what several writers append to one log;
//! - [`client`]: a mount by the C client or by rgfs; every scenario takes the client as a parameter;
//! - [`proxy`]: a network that can be cut;
//! - [`statedump`]: which locks a brick holds;
//! - [`suites`]: the outside suites `pjdfstest` and `fsx`;
//! - [`wire`]: what a client says to its bricks, recorded and made comparable;
//! - [`wait`]: waiting for a condition with a deadline, never for a time.
//!
//! A test looks like this:
//!
//! ```no_run
//! use support::{client::Client, cluster::{Mountable, StaticCluster}, sandbox};
//!
//! fn a_scenario() {
//!     sandbox::scenario(|sandbox| {
//!         let cluster = StaticCluster::start(sandbox, 2)?;
//!         let mount = cluster.mount(Client::Rgfs, "one")?;
//!         std::fs::write(mount.path().join("file"), "text")?;
//!         mount.unmount()
//!     });
//! }
//! ```

pub mod backends;
pub mod brick;
pub mod client;
pub mod close;
pub mod cluster;
pub mod content;
pub mod heal_info;
pub mod load;
pub mod picture;
pub mod positions;
pub mod process;
pub mod proxy;
pub mod records;
pub mod replicated;
pub mod sandbox;
pub mod statedump;
pub mod suites;
pub mod tampering;
pub mod volfiles;
pub mod wait;
pub mod wire;
