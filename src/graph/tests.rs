//! Graphs over scripted leaves.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::testing::{environment, graph};
use super::*;
use crate::event::Event;
use crate::event::EventSource;
use crate::translators::testing::Recorder;
use crate::volfile::parse;

/// Stands for any translator that has children and a status of its own.
struct Cluster {
    name: Arc<str>,
    kind: &'static str,
    children: Vec<Arc<dyn Translator>>,
    events: EventSource,
}

impl Translator for Cluster {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn children(&self) -> &[Arc<dyn Translator>] {
        &self.children
    }

    fn events(&self) -> &EventSource {
        &self.events
    }
}

fn scripted(
    volume: &Volume,
    children: Vec<Arc<dyn Translator>>,
    environment: &Environment,
) -> Result<Arc<dyn Translator>, BuildError> {
    Ok(match volume.kind.canonical {
        "protocol/client" => Recorder::new(&volume.name),
        kind if kind.starts_with("cluster/") => {
            Arc::new(Cluster { name: volume.name.clone(), kind, children, events: EventSource::default() })
        }
        _ => construct(volume, children, environment)?,
    })
}

fn build(text: &str) -> Result<LiveGraph, BuildError> {
    LiveGraph::build_with(&graph(text), &environment(), None, scripted)
}

/// `name(child child)`, as it is live.
fn shape(translator: &Arc<dyn Translator>) -> String {
    let children: Vec<String> = translator.children().iter().map(shape).collect();
    if children.is_empty() {
        translator.name().to_string()
    } else {
        format!("{}({})", translator.name(), children.join(" "))
    }
}

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/volfiles/glusterd");
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn caches_are_left_out_but_names_under_distribute_stay() {
    for (name, expected) in [
        ("one-brick.vol", "one-write-behind(one-utime(one-dht(one-client-0)))"),
        ("every-performance.vol", "perf-write-behind(perf-utime(perf-dht(perf-client-0 perf-client-1)))"),
        ("ctime-off.vol", "noctime-write-behind(noctime-dht(noctime-client-0 noctime-client-1))"),
        ("gfproxy-client.vol", "odd-write-behind(odd-utime(odd-gfproxy-client))"),
        (
            "parallel-readdir.vol",
            "prd-write-behind(prd-utime(prd-dht(prd-readdir-ahead-0(prd-client-0) \
             prd-readdir-ahead-1(prd-client-1) prd-readdir-ahead-2(prd-client-2))))",
        ),
    ] {
        let live = build(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(shape(live.top()), expected, "{name}");
    }
    let live = build(&fixture("distribute.vol")).unwrap();
    assert_eq!(live.leaves().len(), 3);
    assert_eq!(live.bricks(), "dist-client-0: up; dist-client-1: up; dist-client-2: up");
}

/// As [`scripted`], but with the real replicate.
fn with_replicas(
    volume: &Volume,
    children: Vec<Arc<dyn Translator>>,
    environment: &Environment,
) -> Result<Arc<dyn Translator>, BuildError> {
    match volume.kind.canonical {
        "cluster/replicate" => construct(volume, children, environment),
        _ => scripted(volume, children, environment),
    }
}

#[test]
fn replica_sets_are_built() {
    for (name, expected) in [
        ("replica-3.vol", "rep-dht(rep-replicate-0(rep-client-0 rep-client-1 rep-client-2))"),
        ("arbiter.vol", "arb-dht(arb-replicate-0(arb-client-0 arb-client-1 arb-client-2))"),
    ] {
        let built = LiveGraph::build_with(&graph(&fixture(name)), &environment(), None, with_replicas);
        let live = built.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(shape(live.top()).contains(expected), "{}", shape(live.top()));
    }
}

#[test]
fn what_would_change_data_is_refused() {
    for (name, volume, kind) in [
        ("disperse-4+2.vol", "disp-disperse-0", "cluster/disperse"),
        ("shard.vol", "shard-shard", "features/shard"),
        ("compression.vol", "cdc-cdc", "features/cdc"),
        ("cloudsync.vol", "cs-cloudsync", "features/cloudsync"),
        ("snapshots-visible.vol", "uss-snapview-client", "features/snapview-client"),
    ] {
        let mut connected = Vec::new();
        let built =
            LiveGraph::build_with(&graph(&fixture(name)), &environment(), None, |volume, children, environment| {
                connected.push(volume.name.clone());
                scripted(volume, children, environment)
            });
        let error = built.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("volume {volume}: type {kind} is not implemented yet: ")), "{error}");
        assert_eq!(connected, [], "{name}");
    }
}

#[test]
fn an_option_that_cannot_be_used_stops_the_build() {
    let text = fixture("one-brick.vol").replace("noatime on", "noatime perhaps");
    let error = build(&text).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("volume one-utime: option noatime \"perhaps\" (at "), "{error}");
}

#[test]
fn io_stats_may_tell_the_volume_id() {
    let environment = environment();
    let text = fixture("one-brick.vol").replace("option log-level", "option volume-id abc\n    option log-level");
    LiveGraph::build_with(&graph(&text), &environment, None, scripted).unwrap();
    assert_eq!(environment.volume_id.get().map(|id| &**id), Some("abc"));
}

#[test]
fn a_graph_without_volumes_is_refused() {
    let nothing = Graph { origin: "none".into(), volumes: Vec::new() };
    assert!(matches!(LiveGraph::build(&nothing, &environment()), Err(BuildError::Empty)));
    assert!(parse(b"").is_err());
}

fn announce(translator: &Arc<dyn Translator>, status: Status) {
    translator.events().announce(&Event::Status(status));
}

#[tokio::test]
async fn waiting_ends_when_the_top_is_up() {
    let live = build(&fixture("distribute.vol")).unwrap();
    let top = live.top().clone();
    let soon = Instant::now() + Duration::from_secs(60);
    let (status, ()) = tokio::join!(live.wait_ready(soon), async { announce(&top, Status::Up) });
    assert_eq!(status, Status::Up);
    live.shutdown();
}

#[tokio::test]
async fn waiting_ends_when_all_bricks_are_lost_and_names_them() {
    let live = build(&fixture("one-brick.vol")).unwrap();
    let brick = live.leaves()[0].clone();
    announce(&brick, Status::Connecting);
    let soon = Instant::now() + Duration::from_secs(60);
    let lose = async { announce(&brick, Status::Down("10.0.0.1:49152: connection refused".into())) };
    let (status, ()) = tokio::join!(live.wait_ready(soon), lose);
    assert_eq!(status, Status::Down("one-client-0: 10.0.0.1:49152: connection refused".into()));
}

#[tokio::test]
async fn waiting_ends_at_the_deadline() {
    let live = build(&fixture("one-brick.vol")).unwrap();
    assert_eq!(live.wait_ready(Instant::now()).await, Status::Connecting);
    assert_eq!(live.bricks(), "one-client-0: up");
}

#[tokio::test]
async fn a_brick_that_refuses_connections_is_named() {
    // Nobody listens on this port once the listener is gone.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "volume lonely type protocol/client option remote-host 127.0.0.1 option remote-port {port} \
         option remote-subvolume /brick end-volume"
    );
    let live = LiveGraph::build(&graph(&text), &environment()).unwrap();
    match live.wait_ready(Instant::now() + Duration::from_secs(60)).await {
        Status::Down(why) => {
            assert!(why.starts_with("lonely: ") && why.contains(&format!("127.0.0.1:{port}")), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_volfile_of_glusterd_comes_to_life_whole() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let here = format!("remote-host 127.0.0.1\n    option remote-port {port}");
    let text = fixture("parallel-readdir.vol").replace("remote-host i-server1", &here);
    let live = LiveGraph::build(&graph(&text), &environment()).unwrap();
    assert_eq!(live.leaves().len(), 3);
    match live.wait_ready(Instant::now() + Duration::from_secs(60)).await {
        Status::Down(why) => {
            for brick in ["prd-client-0: ", "prd-client-1: ", "prd-client-2: "] {
                assert!(why.contains(brick), "{why}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bricks_that_stay_keep_their_connection() {
    let brick = |name: &str, path: &str, more: &str| {
        format!(
            "volume {name} type protocol/client option remote-host 127.0.0.1 option remote-port 1 \
             option remote-subvolume {path} {more} end-volume "
        )
    };
    let top = "volume top type cluster/distribute subvolumes";
    let build = |text: String, before: Option<&LiveGraph>| match before {
        Some(before) => LiveGraph::build_after(&graph(&text), &environment(), before).unwrap(),
        None => LiveGraph::build(&graph(&text), &environment()).unwrap(),
    };
    let first = build(format!("{}{}{top} a b end-volume", brick("a", "/a", ""), brick("b", "/b", "")), None);
    // Timeouts are for the next connection; another path is another brick; strict-locks is a promise about what is open.
    let tuned = brick("a", "/a", "option ping-timeout 7");
    let text = format!("{tuned}{}{}{top} a b c end-volume", brick("b", "/moved", ""), brick("c", "/c", ""));
    let second = build(text, Some(&first));
    let kept = |index: usize| Arc::ptr_eq(&first.leaves()[index], &second.leaves()[index]);
    assert!(kept(0) && !kept(1));
    assert_eq!(first.keys_without(&second).len(), 2, "distribute's and the moved brick's");
    assert!(!second.wait_new_bricks(Instant::now()).await);
    let third = build(format!("{}{top} a end-volume", brick("a", "/a", "option strict-locks on")), Some(&second));
    assert!(!Arc::ptr_eq(&second.leaves()[0], &third.leaves()[0]));
}
