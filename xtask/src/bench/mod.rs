//! `cargo xtask bench`: rgfs against the C client, on the same volume, in the same run.
//!
//! For each kind of volume the task runs itself again in a sandbox (namespaces of its own), starts the volume there, and in every
//! round runs every row with every client, in alternating order. A row starts on a fresh mount, so that no client profits from what
//! an earlier row left in its caches. The loads are compiled code in this process; what is compared are medians over the rounds.

mod report;
mod workload;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use support::client::{Client, Mount, PROGRAM_VARIABLE};
use support::cluster::{GlusterdVolume, Mountable, StaticCluster};
use support::sandbox::{self, Sandbox, say};
use support::statedump;

use crate::setup;
use workload::Workload;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Which clients, in this order
    #[arg(long, value_delimiter = ',', default_values = ["c", "rgfs"])]
    clients: Vec<ClientName>,
    /// Only these rows
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Workload>,
    /// How often each row runs with each client
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What is mounted: these volumes, one after the other
    #[arg(long, value_delimiter = ',', default_values = ["distribute", "replicate", "distributed"])]
    volume: Vec<VolumeKind>,
    /// Bricks on the disk; without it they lie in memory, so that the clients are measured and not the disk
    #[arg(long)]
    on_disk: bool,
    /// Files in the tree of the large listings
    #[arg(long, default_value_t = 100_000)]
    listed: u64,
    /// Put the table of each volume into docs/PERFORMANCE.md
    #[arg(long)]
    write: bool,
    /// The volume of this sandbox: set by the bench itself when it starts again inside
    #[arg(long, hide = true)]
    inside: Option<VolumeKind>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClientName {
    C,
    Rgfs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VolumeKind {
    /// Two bricks, made by glusterd, with its defaults
    Distribute,
    /// Replica 3, made by glusterd, with its defaults
    Replicate,
    /// Two sets of three copies, made by glusterd, with its defaults: large listings
    Distributed,
    /// One hand-written brick: nothing above `protocol/client`, for profiles
    Static,
}

impl VolumeKind {
    /// The word of the command line, which the markers of docs/PERFORMANCE.md use too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Distribute => "distribute",
            Self::Replicate => "replicate",
            Self::Distributed => "distributed",
            Self::Static => "static",
        }
    }

    /// The rows of this volume when none are named.
    fn rows(self) -> Vec<Workload> {
        let lists_much = |row: &Workload| row.shares_its_tree();
        let all = Workload::value_variants().iter().copied();
        all.filter(|row| lists_much(row) == (self == Self::Distributed)).collect()
    }
}

impl ClientName {
    fn client(self) -> Client {
        match self {
            Self::C => Client::C,
            Self::Rgfs => Client::Rgfs,
        }
    }
}

/// One run of one row with one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) client: Client,
    pub(crate) workload: Workload,
    pub(crate) wall: Duration,
    /// User and system time of the client's process.
    pub(crate) cpu: Duration,
    pub(crate) operations: u64,
    /// Fops that arrived at the bricks.
    pub(crate) requests: u64,
    /// File bytes that rgfs copied in user space, per byte read; it counts them itself.
    pub(crate) copied: Option<f64>,
}

/// For one volume.
const TIME_LIMIT: Duration = Duration::from_secs(1800);

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(sandbox) = Sandbox::enter()? {
        let kind = options.inside.context("inside a sandbox the bench knows its volume")?;
        return inside(options, kind, &sandbox);
    }
    setup::packages()?;
    let mut environment = Vec::new();
    if options.clients.contains(&ClientName::Rgfs) && std::env::var_os(PROGRAM_VARIABLE).is_none() {
        environment.push((PROGRAM_VARIABLE, setup::release_build()?));
    }
    let given: Vec<String> = std::env::args().skip(1).collect();
    for kind in &options.volume {
        let arguments = [given.clone(), vec!["--inside".to_owned(), kind.name().to_owned()]].concat();
        let outcome = sandbox::launch("bench", &arguments, &environment, TIME_LIMIT, true)?;
        ensure!(outcome.status.success(), "the bench of the {} volume failed: {}", kind.name(), outcome.status);
    }
    Ok(())
}

fn inside(options: &Options, kind: VolumeKind, sandbox: &Sandbox) -> Result<()> {
    say(&format!("volume: {}", kind.name()));
    let volume = start_volume(options, kind, sandbox).context("starting the volume")?;
    let rows = if options.rows.is_empty() { kind.rows() } else { options.rows.clone() };
    if rows.iter().any(|row| row.shares_its_tree()) {
        say(&format!("a tree of {} files for both clients", options.listed));
        let mount = volume.mount(Client::Rgfs, "bench")?;
        workload::create_shared_tree(mount.path(), options.listed)?;
        mount.unmount()?;
    }
    let mut samples = Vec::new();
    for round in 0..options.rounds {
        let mut clients = options.clients.clone();
        if round % 2 == 1 {
            clients.reverse();
        }
        say(&format!("round {} of {}", round + 1, options.rounds));
        // The rows of one client make a whole: create, then stat and list and unlink what was created.
        for &row in &rows {
            for &name in &clients {
                let sample = measure(&*volume, name.client(), row)?;
                let complete = !row.shares_its_tree() || sample.operations == options.listed;
                ensure!(complete, "{}: {} lists {} files", name.client(), row.title(), sample.operations);
                samples.push(sample);
            }
        }
        for &name in &clients {
            let mount = volume.mount(name.client(), "clean")?;
            workload::clean(&directory(&mount))?;
            mount.unmount()?;
        }
    }
    let table = report::table(&samples, &rows);
    say(&format!("\n{table}"));
    if options.write {
        let given = std::env::args().skip(1).take_while(|word| word != "--inside").filter(|word| word != "--write");
        let command = given.collect::<Vec<_>>().join(" ");
        report::write(kind, &format!("cargo xtask {command}"), &table)?;
    }
    Ok(())
}

fn start_volume(options: &Options, kind: VolumeKind, sandbox: &Sandbox) -> Result<Box<dyn Mountable>> {
    // /run is a tmpfs of the sandbox's own.
    let place = if options.on_disk { sandbox.directory().to_path_buf() } else { PathBuf::from("/run/bricks") };
    let glusterd =
        |bricks, arguments: &[&str]| GlusterdVolume::start_below(sandbox, &place, "bench", bricks, arguments);
    Ok(match kind {
        VolumeKind::Distribute => Box::new(glusterd(2, &[])?),
        VolumeKind::Replicate => Box::new(glusterd(3, &["replica", "3"])?),
        VolumeKind::Distributed => Box::new(glusterd(6, &["replica", "3"])?),
        VolumeKind::Static => Box::new(StaticCluster::start(sandbox, 1)?),
    })
}

/// Each client works in a directory of its own.
fn directory(mount: &Mount) -> PathBuf {
    mount.join(match mount.client() {
        Client::C => "c",
        Client::Rgfs => "rgfs",
    })
}

fn measure(volume: &dyn Mountable, client: Client, row: Workload) -> Result<Sample> {
    let mut mount = volume.mount(client, "bench")?;
    let bricks = volume.brick_ids()?;
    let directory = if row.shares_its_tree() { mount.path().to_path_buf() } else { directory(&mount) };
    std::fs::create_dir_all(&directory)?;
    row.prepare(&directory).with_context(|| format!("{client}: preparing {}", row.title()))?;

    statedump::arrived(&bricks)?;
    let cpu_before = mount.cpu_time()?;
    let start = Instant::now();
    let operations = row.run(&directory).with_context(|| format!("{client}: {}", row.title()))?;
    let wall = start.elapsed();
    let cpu = mount.cpu_time()?.saturating_sub(cpu_before);
    let requests = statedump::arrived(&bricks)?.values().sum();
    let copied = if client == Client::Rgfs { copied_per_byte(mount.process().id()) } else { None };
    mount.unmount()?;
    say(&format!(
        "  {:32} {:14} {:8.3} s wall  {:8.3} s cpu",
        row.title(),
        client.to_string(),
        wall.as_secs_f64(),
        cpu.as_secs_f64()
    ));
    Ok(Sample { client, workload: row, wall, cpu, operations, requests, copied })
}

/// None if nothing was read, or if this rgfs does not count.
fn copied_per_byte(id: u32) -> Option<f64> {
    let dump = statedump::take(id).ok()?;
    let read = statedump::counter(&dump.text, "fuse.bytes-read").ok()?;
    let copied = statedump::counter(&dump.text, "fuse.bytes-copied").ok()?
        + statedump::counter(&dump.text, "bytes-copied").ok()?;
    (read > 0).then(|| copied as f64 / read as f64)
}
