//! What translators get from the process they live in.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::net::Network;

/// The surroundings of a graph: handed to every translator when it is built.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The network threads; each brick connection lives on one of them.
    pub network: Network,
    /// Who this client is, for the bricks.
    pub identity: Arc<Identity>,
    /// Host that gave the volfile: the brick host of leaves without `remote-host`.
    pub volfile_server: Option<Arc<str>>,
    /// Name under which the volfile was asked for (`--volfile-id`); bricks log it.
    pub volfile_key: Arc<str>,
    /// Directory of the volume that is to be the root (`--subdir-mount`), with its leading `/`.
    pub subdir_mount: Option<Arc<str>>,
    /// Id of the volume, once the first brick or the volfile has told it. Every later brick must agree.
    pub volume_id: Arc<OnceLock<Arc<str>>>,
    /// Time, for translators that wait or act later.
    pub clock: Arc<dyn Clock>,
    /// How long to wait for a brick to be reached, from name resolution to the answer of SETVOLUME.
    pub connect_timeout: Duration,
}

/// Who this client is. Bricks tell clients apart by the text that [`Identity::process_uuid`] makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random UUID of this process, in text form.
    pub context_id: Arc<str>,
    /// Number of the graph in this process: 0 for the first.
    pub graph_id: u32,
    /// Process id.
    pub pid: u32,
    /// Name of this machine.
    pub hostname: Arc<str>,
    /// `fuse`, or what `--process-name` says.
    pub process_name: Arc<str>,
}

impl Identity {
    /// The name of one connection of one leaf in SETVOLUME (`client-handshake.c:client_setvolume`): a brick keeps
    /// locks and fds by it. `attempt` must be another number for every connection, or the brick would merge the new one
    /// with what is left of the old.
    pub fn process_uuid(&self, leaf: &str, attempt: u64) -> String {
        format!(
            "CTX_ID:{}-GRAPH_ID:{}-PID:{}-HOST:{}-PC_NAME:{leaf}-RECON_NO:-{attempt}",
            self.context_id, self.graph_id, self.pid, self.hostname
        )
    }
}
