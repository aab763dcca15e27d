//! Bricks that are taken out of the volume.
//!
//! When an administrator removes bricks whose files have all moved away, glusterd stops them first, and tells clients about the
//! new volume a second later (`glusterd-brick-ops.c:glusterd_op_remove_brick`). Until then a client cannot know whether a name is on
//! a brick that does not answer, or nowhere. The C client takes it for nowhere, which makes files twice when the brick had only died;
//! here the fop waits for the graph without that brick, and is done again in it.
//!
//! Only a fop that failed because of such a brick is done again: either it had not begun to change anything elsewhere, or what
//! it had done is what the second try finds [done](super::repeat). The failure of a write that was acknowledged is no such failure,
//! though FLUSH or FSYNC report it: the second FLUSH would succeed, and the data be lost in silence.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rgfs_protocol::Errno;

use super::{Seat, Switch};
use crate::FopResult;
use crate::volfile::Graph;

/// How long after the first failure the next graph is waited for. A brick that died while its files were moved away must not
/// slow everything down until somebody repairs it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of the volumes that are leaving (`decommissioned-bricks` of distribute), and of all below them.
pub(in crate::graph) fn leaving(graph: &Graph) -> HashSet<Arc<str>> {
    let mut leaving: HashSet<Arc<str>> = HashSet::new();
    // Parents come after their children.
    for volume in graph.volumes.iter().rev() {
        leaving.extend(volume.options.list("decommissioned-bricks").into_iter().map(Arc::from));
        if leaving.contains(&volume.name) {
            leaving.extend(volume.subvolumes.iter().cloned());
        }
    }
    leaving
}

impl Seat {
    /// Whether this graph has a volume of that name.
    pub(super) fn knows(&self, name: &Arc<str>) -> bool {
        self.generation.graph.description.volumes.iter().any(|volume| volume.name == *name)
    }

    /// Bricks are leaving this graph.
    pub(super) fn is_shrinking(&self) -> bool {
        !self.generation.graph.leaving.is_empty()
    }
}

impl Switch {
    /// Gives the seat back; true when the fop failed for want of a brick that leaves the volume, and now there is another graph.
    pub(super) async fn outlasts<T>(&self, seat: Seat, result: &FopResult<T>) -> bool {
        let generation = match result {
            Err(error)
                if error.errno == Errno::ENOTCONN
                    && !error.is_late
                    && !seat.kept
                    && seat.generation.graph.leaving.contains(&error.origin) =>
            {
                seat.generation.clone()
            }
            _ => return false,
        };
        // The graph does not change while somebody has a seat in it.
        drop(seat);
        let first = *generation.bereft.get_or_init(Instant::now);
        let left = PATIENCE.saturating_sub(first.elapsed());
        let changed = async {
            loop {
                let opened = self.opened.notified();
                if !Arc::ptr_eq(&self.current(), &generation) {
                    return;
                }
                opened.await;
            }
        };
        tokio::select! {
            biased;
            () = changed => true,
            () = generation.graph.clock.sleep(left) => false,
        }
    }
}
