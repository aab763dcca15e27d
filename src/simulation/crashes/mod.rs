//! Distribute on the simulated cluster: a client dies in the middle of a fop on names, at each point where it waits.
//! Afterwards another client must see what was before or what should come after, and nothing else.
//!
//! - [`scenario`]: which fop, on which places, chosen by hand or by a seed;
//! - [`client`]: a mount, and what it does;
//! - [`tree`]: what a client sees of a volume, and how that is judged.
//!
//! What the protocol cannot promise is in [`scenario::Scenario::allowed`], and in `docs/SEMANTICS.md`.
//!
//! `RGFS_SEEDS` says how many seeds are tried (1,000 by default), `RGFS_FIRST_SEED` from where on; `RGFS_SEED` runs one,
//! with `RGFS_POINT` as the number of events before the crash, and prints all that happened.

mod client;
mod scenario;
mod tree;

use std::time::Duration;

use super::{Cluster, Layout, Random};
use crate::FopResult;
use crate::translators::cluster::distribute::planted::{Fault, plant};
use client::Client;
use scenario::{Fop, Operation, Scenario};
use tree::{Excused, Tree};

/// Long enough for all that is under way, and for bricks to notice a dead client.
const REST: Duration = Duration::from_secs(5);

/// Number of the client that makes the tree.
const MAKER: usize = 0;
/// The one that dies.
const VICTIM: usize = 1;
/// The one that looks.
const LOOKER: usize = 2;
/// The one that does it once more.
const SUCCESSOR: usize = 3;

/// What came of a scenario with a crash.
struct Outcome {
    /// Events of the fop until it was answered, or until the crash.
    events: u64,
    violations: Vec<String>,
    /// Requests, for people.
    story: Vec<String>,
}

/// Runs a scenario in which the client dies after so many events of its fop, or when it is answered.
fn run(scenario: Scenario, crash: u64, record: bool) -> Outcome {
    let layout = Layout { replicas: scenario.subvolumes * scenario.copies, arbiter: false };
    let cluster = Cluster::random(scenario.seed, layout, 4);
    let client = |number| Client::new(&cluster, number, &scenario);
    cluster.settle();
    let (before, fop) = scenario.prepare(&cluster, &client(MAKER));
    let after = fop.applied_to(&before);
    cluster.run_for(REST);

    let victim = client(VICTIM);
    let ready = cluster.block_on(victim.prepare(&fop)).unwrap_or_else(|error| panic!("{scenario:?}: {error}"));
    cluster.settle();
    cluster.record(record);
    let (answer, events) = run_until(&cluster, ready, crash);
    cluster.crash_client(VICTIM);
    cluster.run_for(REST);
    let mut story = cluster.take_timed_lines();
    story.push(format!("CRASH after {events} events"));

    let known: Vec<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
    let looker = client(LOOKER);
    looker.heal_copies(&cluster);
    let seen = cluster.try_block_on(async {
        let seen = looker.look(&known, scenario.lookups_first).await;
        // The first look may meet both names of a directory, or copies that differ without a mark, and heals that.
        let heals = scenario.operation == Operation::RenameDirectory || scenario.copies > 1;
        if heals { looker.look(&known, true).await } else { seen }
    });
    looker.heal_copies(&cluster);
    story.extend(cluster.take_timed_lines());
    let Some(seen) = seen else {
        return Outcome { events, violations: vec!["a look hangs".to_owned()], story };
    };
    story.extend(seen.described());
    let allowed = match answer {
        Some(_) => vec![after.clone()],
        None => scenario.allowed(&fop, &before, &after),
    };
    let mut violations: Vec<String> =
        answer.and_then(Result::err).map(|error| format!("the fop fails: {error}")).into_iter().collect();
    violations.extend(seen.violations(&allowed, scenario.excused(&fop)));
    violations.extend(tree::damage(&cluster, &scenario, &seen.names));
    if seen.names != after && violations.is_empty() && scenario.can_be_repeated() {
        violations.extend(again(&cluster, &client(SUCCESSOR), &fop, &after, scenario.excused(&fop)));
        story.extend(cluster.take_timed_lines());
    }
    cluster.run_for(REST);
    for brick in 0..cluster.bricks() {
        violations.extend(cluster.locks(brick).iter().map(|lock| format!("left behind on brick {brick}: {lock}")));
    }
    Outcome { events, violations, story }
}

/// Lets so many events happen, or as many as the fop takes; also its answer, if it has one.
fn run_until(cluster: &Cluster, fop: client::Ready, crash: u64) -> (Option<FopResult<()>>, u64) {
    let mut running = cluster.spawn(fop);
    let mut answer = running.result();
    let mut events = 0;
    while answer.is_none() && events < crash && cluster.schedule().step() {
        events += 1;
        answer = running.result();
    }
    (answer, events)
}

/// Does once more what was interrupted: nothing may stand in its way.
fn again(cluster: &Cluster, client: &Client, fop: &Fop, after: &Tree, excused: Excused<'_>) -> Vec<String> {
    let repeated = cluster.try_block_on(async {
        client.prepare(fop).await?.await?;
        let known: Vec<&str> = after.keys().map(String::as_str).collect();
        Ok::<_, crate::FopError>(client.look(&known, true).await)
    });
    match repeated {
        Some(Ok(seen)) => {
            let violations = seen.violations(std::slice::from_ref(after), excused);
            violations.into_iter().map(|one| format!("done again: {one}")).collect()
        }
        Some(Err(error)) => vec![format!("it cannot be done again: {error}")],
        None => vec!["doing it again hangs".to_owned()],
    }
}

/// Lets the client die at points of a scenario, all of them or so many that the seed chooses; answers the first violations.
fn first_violations(scenario: Scenario, points: Option<u64>) -> Option<(u64, Vec<String>)> {
    let mut random = Random::new(scenario.seed ^ 0xdead);
    let whole = run(scenario, u64::MAX, false);
    let at: Vec<u64> = match points {
        None => (0..whole.events).collect(),
        Some(points) => (0..points).map(|_| random.below(whole.events)).collect(),
    };
    let interrupted = at.into_iter().map(|at| (at, run(scenario, at, false).violations));
    let all = [(u64::MAX, whole.violations)].into_iter().chain(interrupted);
    all.into_iter().find(|(_, violations)| !violations.is_empty())
}

/// Runs scenarios on all processors; answers what is wrong with them, in words.
fn failing(scenarios: &[Scenario], points: Option<u64>) -> Vec<String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = |thread: usize| {
        let mine = scenarios.iter().skip(thread).step_by(threads);
        let told = mine.filter_map(|scenario| {
            let (point, violations) = first_violations(*scenario, points)?;
            Some(format!("RGFS_SEED={} RGFS_POINT={point} {scenario:?}: {violations:#?}", scenario.seed))
        });
        told.collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a scenario panicked")).collect()
    })
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_client_that_dies_leaves_what_was_or_what_comes() {
    if let Some(seed) = number_from_environment("RGFS_SEED") {
        let scenario = Scenario::of(seed);
        let point = number_from_environment("RGFS_POINT");
        let point = point.or_else(|| first_violations(scenario, None).map(|(point, _)| point)).unwrap_or(u64::MAX);
        let outcome = run(scenario, point, true);
        println!("{scenario:?}\n{}", outcome.story.join("\n"));
        assert!(outcome.violations.is_empty(), "seed {seed}, point {point}: {:#?}", outcome.violations);
        return;
    }
    let from = number_from_environment("RGFS_FIRST_SEED").unwrap_or(0);
    let seeds = from..from + number_from_environment("RGFS_SEEDS").unwrap_or(1000);
    let scenarios: Vec<Scenario> = seeds.map(Scenario::of).collect();
    let failed = failing(&scenarios, Some(1));
    assert!(failed.is_empty(), "{} of {}: {}", failed.len(), scenarios.len(), failed.join("\n"));
}

#[test]
fn no_point_of_any_rename_or_link_is_a_bad_one_to_die() {
    let failed = failing(&scenario::all_places(), None);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn no_point_of_a_fop_on_directories_is_a_bad_one_to_die() {
    let failed = failing(&scenario::all_directories(), None);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The simulation finds a mistake that is made on purpose.
fn finds(fault: Fault, scenarios: &[Scenario]) {
    plant(Some(fault));
    let found = scenarios.iter().any(|scenario| first_violations(*scenario, None).is_some());
    plant(None);
    assert!(found, "{} scenarios ran as if nothing were wrong with {fault:?}", scenarios.len());
}

#[test]
fn a_linkto_that_comes_last_is_found() {
    finds(Fault::LinktoLast, &scenario::all_places());
}

#[test]
fn a_directory_that_is_made_where_it_has_another_name_is_found() {
    finds(Fault::MakeWhatWasRenamed, &scenario::all_directories());
}
