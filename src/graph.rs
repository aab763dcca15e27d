//! From a volfile's graph to live translators.
//!
//! [`LiveGraph::build`] makes them bottom-up, each from its `volume` section, its children and the [`Environment`].
//! Volumes that only cache or report are left out, and named in one line of the log; volumes that would change what data
//! means, and are not implemented, make the build fail (`treatment`). The leaves begin to connect when they are built;
//! [`LiveGraph::wait_ready`] waits for what comes of it. A graph that follows another one ([`LiveGraph::build_after`]) takes
//! over its connections to bricks that stay; the [`Switch`] leads from the one to the other.

mod environment;
mod error;
mod locality;
mod ready;
mod switch;
#[cfg(test)]
#[allow(dead_code, reason = "each test uses a part of it")]
pub(crate) mod testing;
mod treatment;

pub use environment::{Environment, Identity};
pub use error::BuildError;
pub use switch::{Generation, OpenFds, Switch};

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::Translator;
use crate::clock::Clock;
use crate::event::Status;
use crate::inode::KeySpan;
use crate::translators::cluster::distribute::Distribute;
use crate::translators::cluster::replicate::Replicate;
use crate::translators::features::read_only::ReadOnly;
use crate::translators::features::utime::Utime;
use crate::translators::pass_through::PassThrough;
use crate::translators::performance::write_behind::WriteBehind;
use crate::translators::protocol::client::Client;
use crate::volfile::{Graph, Volume};
use treatment::Treatment;

/// A graph at work.
pub struct LiveGraph {
    description: Graph,
    top: Arc<dyn Translator>,
    leaves: Vec<Arc<dyn Translator>>,
    /// Names of the leaves that no graph before had.
    new_leaves: HashSet<Arc<str>>,
    /// The keys of the state that each translator leaves on inodes and fds.
    keys: HashMap<Arc<str>, KeySpan>,
    /// Names of the volumes that are being taken out.
    leaving: HashSet<Arc<str>>,
    clock: Arc<dyn Clock>,
    news: ready::News,
}

impl LiveGraph {
    /// Builds all translators. The leaves begin to connect.
    ///
    /// # Errors
    /// The first volume that cannot be built.
    pub fn build(graph: &Graph, environment: &Environment) -> Result<Self, BuildError> {
        Self::build_with(graph, environment, None, construct)
    }

    /// Builds a graph that shall follow `before`. Bricks that are in both keep their connection, and with it what is open
    /// and locked there.
    ///
    /// # Errors
    /// The first volume that cannot be built.
    pub fn build_after(graph: &Graph, environment: &Environment, before: &Self) -> Result<Self, BuildError> {
        Self::build_with(graph, environment, Some(before), construct)
    }

    fn build_with(
        graph: &Graph,
        environment: &Environment,
        before: Option<&Self>,
        mut construct: impl FnMut(
            &Volume,
            Vec<Arc<dyn Translator>>,
            &Environment,
        ) -> Result<Arc<dyn Translator>, BuildError>,
    ) -> Result<Self, BuildError> {
        // Nothing may begin to connect in a graph that cannot be built.
        for volume in &graph.volumes {
            check(volume)?;
        }
        learn_volume_id(graph, environment);
        let keep_name = children_of_clusters(graph);
        let mut built: HashMap<Arc<str>, Arc<dyn Translator>> = HashMap::new();
        let (mut leaves, mut passed_through) = (Vec::new(), Vec::new());
        let (mut new_leaves, mut keys) = (HashSet::new(), HashMap::new());
        for volume in &graph.volumes {
            let located = locality::located(graph, volume);
            let volume = located.as_ref().unwrap_or(volume);
            let children = children(volume, &built)?;
            let translator = match treatment::of(volume.kind.canonical) {
                Treatment::Build | Treatment::NotImplemented(_) => {
                    let (translator, made) = match before.and_then(|before| before.leaf_for(volume)) {
                        Some(kept) => kept,
                        None => {
                            let (made, span) = KeySpan::of(|| construct(volume, children, environment));
                            if volume.subvolumes.is_empty() {
                                new_leaves.insert(volume.name.clone());
                            }
                            (made?, span)
                        }
                    };
                    keys.insert(volume.name.clone(), made);
                    translator
                }
                Treatment::PassThrough | Treatment::PassThroughWarning(_) => {
                    passed_through.push(format!("{} ({})", volume.name, volume.kind));
                    let [child] = BuildError::only_child(volume, children)?;
                    if keep_name.contains(&volume.name) {
                        PassThrough::new(volume.name.clone(), volume.kind.canonical, child)
                    } else {
                        child
                    }
                }
            };
            if volume.subvolumes.is_empty() {
                leaves.push(translator.clone());
            }
            built.insert(volume.name.clone(), translator);
        }
        if !passed_through.is_empty() {
            tracing::info!("not needed by this client, passed through: {}", passed_through.join(", "));
        }
        let top = graph.top().and_then(|top| built.remove(&top.name)).ok_or(BuildError::Empty)?;
        let news = ready::News::of(leaves.iter().chain([&top]));
        let (leaving, clock) = (switch::leaving(graph), environment.clock.clone());
        Ok(LiveGraph { description: graph.clone(), top, leaves, new_leaves, keys, leaving, clock, news })
    }

    /// The connection to the brick that `volume` describes, with its keys, if this graph has it.
    fn leaf_for(&self, volume: &Volume) -> Option<(Arc<dyn Translator>, KeySpan)> {
        let leaf = self.leaves.iter().find(|leaf| *leaf.name() == volume.name)?;
        let keys = self.keys.get(&volume.name)?;
        leaf.reconfigure(volume).then(|| (leaf.clone(), keys.clone()))
    }

    /// The keys of those translators that `next` did not take over.
    fn keys_without(&self, next: &Self) -> Vec<KeySpan> {
        let gone = self.keys.iter().filter(|(name, keys)| next.keys.get(*name) != Some(keys));
        gone.map(|(_, keys)| keys.clone()).collect()
    }

    /// The volfile's graph that this was built from.
    pub fn description(&self) -> &Graph {
        &self.description
    }

    /// The translator that is the file system.
    pub fn top(&self) -> &Arc<dyn Translator> {
        &self.top
    }

    /// The translators that speak to bricks, in the order of the volfile.
    pub fn leaves(&self) -> &[Arc<dyn Translator>] {
        &self.leaves
    }

    /// What every brick said last, for people: `v-client-0: connection refused; v-client-1: up`.
    pub fn bricks(&self) -> String {
        ready::report(&self.statuses())
    }

    /// Waits until the graph serves fops, until it is clear that it will not (every brick is down or refuses), or until
    /// `deadline`. Must run in a tokio runtime with time.
    ///
    /// Returns `Up`; or `Down` or `Refused` with a text that names every brick and its reason; or `Connecting` when the
    /// deadline passed.
    pub async fn wait_ready(&self, deadline: Instant) -> Status {
        let mut news = self.news.subscribe();
        loop {
            // What comes after this mark wakes the wait below.
            news.mark_unchanged();
            let verdict = ready::verdict(&self.top.events().status(), &self.statuses());
            if verdict != Status::Connecting {
                if verdict == Status::Up && self.statuses().iter().any(|(_, status)| *status != Status::Up) {
                    tracing::warn!("not all bricks can be used: {}", self.bricks());
                }
                return verdict;
            }
            let changed = tokio::time::timeout_at(deadline.into(), news.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return Status::Connecting;
            }
        }
    }

    /// Waits until every brick that no graph before had is up. False when `deadline` came first.
    pub async fn wait_new_bricks(&self, deadline: Instant) -> bool {
        let mut news = self.news.subscribe();
        loop {
            news.mark_unchanged();
            let mut new = self.leaves.iter().filter(|leaf| self.new_leaves.contains(leaf.name()));
            if new.all(|leaf| leaf.events().is_up()) {
                return true;
            }
            if !matches!(tokio::time::timeout_at(deadline.into(), news.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    /// Lets go of the translators. A connection closes when the last user of its leaf has let go as well: call this when
    /// the file system above has answered what it had taken.
    pub fn shutdown(self) {
        tracing::debug!("the graph of {} ends", self.description.origin);
    }

    fn statuses(&self) -> Vec<(Arc<str>, Status)> {
        self.leaves.iter().map(|leaf| (leaf.name().clone(), leaf.events().status())).collect()
    }
}

/// Makes the translator of a volume: the list of what is implemented.
fn construct(
    volume: &Volume,
    children: Vec<Arc<dyn Translator>>,
    environment: &Environment,
) -> Result<Arc<dyn Translator>, BuildError> {
    Ok(match volume.kind.canonical {
        "protocol/client" => Client::new(volume, children, environment)?,
        "cluster/distribute" | "cluster/nufa" | "cluster/switch" => Distribute::new(volume, children, environment)?,
        "cluster/replicate" => Replicate::new(volume, children, environment)?,
        "features/utime" => Utime::new(volume, children, environment)?,
        "features/read-only" => ReadOnly::new(volume, children, environment)?,
        "performance/write-behind" => WriteBehind::new(volume, children, environment)?,
        _ => return Err(not_implemented(volume, "mount this volume with the GlusterFS client")),
    })
}

/// Refuses what is not implemented, and warns of what is only half so.
fn check(volume: &Volume) -> Result<(), BuildError> {
    match treatment::of(volume.kind.canonical) {
        Treatment::NotImplemented(remedy) => return Err(not_implemented(volume, remedy)),
        Treatment::PassThroughWarning(loss) => {
            tracing::warn!("volume {} ({}) is passed through: {loss}", volume.name, volume.kind);
        }
        Treatment::Build | Treatment::PassThrough => {}
    }
    Ok(())
}

fn not_implemented(volume: &Volume, remedy: &str) -> BuildError {
    BuildError::NotImplemented { volume: volume.name.clone(), kind: volume.kind.written.clone(), remedy: remedy.into() }
}

fn children(
    volume: &Volume,
    built: &HashMap<Arc<str>, Arc<dyn Translator>>,
) -> Result<Vec<Arc<dyn Translator>>, BuildError> {
    let find = |name: &Arc<str>| {
        built.get(name).cloned().ok_or_else(|| BuildError::refused(volume, format!("its subvolume {name} is missing")))
    };
    volume.subvolumes.iter().map(find).collect()
}

/// Names that are written into xattrs.
fn children_of_clusters(graph: &Graph) -> HashSet<Arc<str>> {
    let clusters = graph.volumes.iter().filter(|volume| volume.kind.canonical.starts_with("cluster/"));
    clusters.flat_map(|volume| volume.subvolumes.iter().cloned()).collect()
}

/// Newer volfiles tell the volume's id in io-stats; otherwise the first brick does.
fn learn_volume_id(graph: &Graph, environment: &Environment) {
    let reports = graph.volumes.iter().filter(|volume| volume.kind.canonical == "debug/io-stats");
    if let Some(id) = reports.filter_map(|volume| volume.options.text("volume-id")).next() {
        environment.volume_id.get_or_init(|| id.into());
    }
}

#[cfg(test)]
mod tests;
