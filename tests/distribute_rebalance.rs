//! A volume grows and shrinks while the C client and rgfs work on it: add-brick with rebalance, then remove-brick. No program sees
//! an error, and afterwards every file is there once, with the content that was acknowledged, through both clients.
//!
//! The long run is `RGFS_SOAK=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{FlockOperation, flock, lgetxattr};
use rustix::io::Errno;
use support::client::{Client, Mount};
use support::cluster::{GlusterdVolume, Mountable};
use support::content::{Random, pattern};
use support::records::{self, Excused, record};
use support::sandbox::{Sandbox, is_soak, scenario};

/// The directories between which files are renamed.
const PLACES: usize = 4;
/// Files that all workers append to.
const LOGS: usize = 16;
/// Files that a worker keeps open all the time, and writes blocks of.
const OPEN: usize = 3;
const BLOCK: usize = 4096;
const BLOCKS: usize = 64;
const WORKERS: usize = 4;
const MOVE_LIMIT: Duration = Duration::from_secs(900);
/// What the C client needs, so that what is lost is not lost by it. rgfs has the defaults.
///
/// - It asks for the volume's commit hash when its root is looked up. With the one from before the rebalance it takes files that have moved
///   for missing, for as long as nobody does that; so it shall look for them everywhere.
/// - It writes through an anonymous fd when a file has moved since it was opened (`client_get_remote_fd`). Appends then go to the offset that
///   its kernel takes for the end, onto what others have appended. Not so with `strict-locks`.
const C_ARGUMENTS: [&str; 2] =
    ["--xlator-option=*dht.lookup-optimize=off", "--xlator-option=*-client-*.strict-locks=on"];
/// How many of its own appends the C client may lose: what it repeats at the destination of a move may be copied over.
const LOST_BY_C: usize = 5;
/// How often the C client may try an operation again.
const ATTEMPTS: u32 = 20;
/// How often files are moved off leaving bricks before that counts as failed: those that are locked or written stay at first.
const ROUNDS: usize = 20;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    length: usize,
    seed: u64,
}

/// What a worker has made, as far as it was acknowledged.
#[derive(Debug, Default)]
struct Made {
    client: Option<Client>,
    files: BTreeMap<PathBuf, Known>,
    /// Records in each log.
    appended: Vec<u64>,
    /// The seed of each block of each open file.
    blocks: BTreeMap<PathBuf, Vec<Option<u64>>>,
    operations: BTreeMap<&'static str, usize>,
    /// What names held before another file replaced theirs.
    replaced: BTreeMap<PathBuf, Known>,
    /// Names that it took away.
    gone: BTreeSet<PathBuf>,
}

/// What all workers share.
#[derive(Debug)]
struct Board {
    stop: AtomicBool,
    /// Files to be created yet.
    quota: AtomicUsize,
    total: usize,
    start: Instant,
    /// What the C client failed and did when asked again.
    excused: AtomicUsize,
}

impl Board {
    fn created(&self) -> usize {
        self.total - self.quota.load(Ordering::Relaxed).min(self.total)
    }

    /// The right to create one more. What is left when bricks come and go lasts for a while of that.
    fn claim(&self, random: &mut Random) -> bool {
        if self.created() >= self.total / 2 && random.below(8) != 0 {
            return false;
        }
        self.quota.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Does an operation; `attempt` is 0 at first. What rgfs is asked must work at once. The C client fails operations on names that are
/// there (ENOENT, ESTALE) when rebalance moves the file between two of its steps, some (EINVAL) when the volume changes between two of
/// them, with other C clients alone as well (`the_c_client_alone`), and some (ENOTCONN) in the second between the end of a brick that is
/// taken out and the news of it: it may try again.
fn patiently<T>(client: Client, board: &Board, mut operation: impl FnMut(u32) -> Result<T>) -> Result<T> {
    for attempt in 0..ATTEMPTS {
        match operation(attempt) {
            Err(error) if client == Client::C && is_excused(&error) => {
                board.excused.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
            result => return result,
        }
    }
    operation(ATTEMPTS)
}

fn is_excused(error: &anyhow::Error) -> bool {
    let errno = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    [Errno::NOENT, Errno::STALE, Errno::INVAL, Errno::NOTCONN]
        .iter()
        .any(|excused| errno == Some(excused.raw_os_error()))
}

struct Worker<'a> {
    client: Client,
    root: &'a Path,
    number: usize,
    random: Random,
    names: usize,
    made: Made,
    open: Vec<(PathBuf, File)>,
    board: &'a Board,
}

impl<'a> Worker<'a> {
    fn new(mount: &'a Mount, number: usize, board: &'a Board) -> Result<Self> {
        let (client, root) = (mount.client(), mount.path());
        let made = Made { client: Some(client), appended: vec![0; LOGS], ..Made::default() };
        let random = Random::new(number as u64 + 1);
        let mut worker = Worker { client, root, number, random, names: 0, made, open: Vec::new(), board };
        for _ in 0..OPEN {
            let path = worker.name();
            let file = File::create_new(root.join(&path)).with_context(|| format!("creating {}", path.display()))?;
            worker.made.blocks.insert(path.clone(), vec![None; BLOCKS]);
            worker.open.push((path, file));
        }
        Ok(worker)
    }

    fn name(&mut self) -> PathBuf {
        self.names += 1;
        format!("place-{}/w{}-{}", self.random.below(PLACES), self.number, self.names).into()
    }

    fn any(&mut self) -> Option<PathBuf> {
        let at = self.random.below(self.made.files.len());
        self.made.files.keys().nth(at).cloned()
    }

    fn work(mut self) -> Result<Made> {
        while !self.board.stop.load(Ordering::Relaxed) || self.board.created() < self.board.total {
            let kind = match self.random.below(100) {
                0..35 if self.board.claim(&mut self.random) => "create",
                35..55 => "append",
                55..70 => "rename",
                70..75 => "unlink",
                75..85 => "write",
                85..90 => "miss",
                _ => "read",
            };
            let done = match kind {
                "create" => self.create(),
                "append" => self.append(),
                "rename" => self.rename(),
                "unlink" => self.unlink(),
                "write" => self.write(),
                "miss" => self.miss(),
                _ => self.read(),
            };
            let time = || self.board.start.elapsed();
            done.with_context(|| {
                format!("worker {} on {} after {:?}, {kind}", self.number, self.root.display(), time())
            })?;
            *self.made.operations.entry(kind).or_default() += 1;
            // Rebalance needs its share of the machine, and leaves files that are written or renamed meanwhile to the next round.
            std::thread::sleep(Duration::from_millis(if is_soak() { 3 } else { 12 }));
        }
        Ok(self.made)
    }

    fn create(&mut self) -> Result<()> {
        let path = self.name();
        let length = if self.random.below(20) == 0 { self.random.below(1 << 19) } else { self.random.below(1 << 13) };
        let known = Known { length, seed: self.random.number() };
        let step = |step: &str| format!("{step} {}", path.display());
        let full = self.root.join(&path);
        let mut file = patiently(self.client, self.board, |attempt| {
            let made = if attempt == 0 { File::create_new(&full) } else { File::create(&full) };
            made.with_context(|| step("creating"))
        })?;
        file.write_all(&pattern(known.length, known.seed)).with_context(|| step("filling"))?;
        drop(file);
        self.made.files.insert(path, known);
        Ok(())
    }

    /// Adds a record to a log, under a lock. With O_APPEND: a lock that was waited for while rebalance moved the file excludes nobody
    /// (`dht-rebalance.c:dht_migrate_file` says so).
    fn append(&mut self) -> Result<()> {
        let number = self.random.below(LOGS);
        let path = self.root.join(format!("logs/{number}"));
        let step = |step: &str| format!("{step} {}", path.display());
        let mut file = patiently(self.client, self.board, |_| {
            let file = File::options().append(true).open(&path).with_context(|| step("opening"))?;
            flock(&file, FlockOperation::LockExclusive)
                .map_err(std::io::Error::from)
                .with_context(|| step("locking"))?;
            Ok(file)
        })?;
        let record = record(self.number, self.made.appended[number]);
        file.write_all(record.as_bytes()).with_context(|| step("appending to"))?;
        self.made.appended[number] += 1;
        flock(&file, FlockOperation::Unlock).with_context(|| step("unlocking"))
    }

    /// One in four replaces another file. Not through the C client: while rebalance moves the file that is replaced, that fails with
    /// EEXIST, or leaves a name for which it says ESTALE from then on.
    fn rename(&mut self) -> Result<()> {
        let Some(from) = self.any() else { return Ok(()) };
        let to = match self.random.below(4) {
            0 if self.client == Client::Rgfs && self.has_plenty() => self.any().unwrap_or_default(),
            _ => self.name(),
        };
        if from == to {
            return Ok(());
        }
        let (old, new) = (self.root.join(&from), self.root.join(&to));
        patiently(self.client, self.board, |attempt| match fs::rename(&old, &new) {
            // It failed after it had worked.
            Err(_) if attempt > 0 && !old.exists() && new.exists() => Ok(()),
            result => result.with_context(|| format!("{} to {}", from.display(), to.display())),
        })?;
        let known = self.made.files.remove(&from).ok_or_else(|| anyhow!("unknown"))?;
        self.made.gone.insert(from);
        if let Some(before) = self.made.files.insert(to.clone(), known) {
            self.made.replaced.insert(to, before);
        }
        Ok(())
    }

    /// Most of what is created stays, for the comparison at the end.
    fn has_plenty(&self) -> bool {
        let created = self.made.operations.get("create").copied().unwrap_or_default();
        self.made.files.len() * 4 > created * 3
    }

    fn unlink(&mut self) -> Result<()> {
        if !self.has_plenty() {
            return Ok(());
        }
        let Some(path) = self.any() else { return Ok(()) };
        let full = self.root.join(&path);
        patiently(self.client, self.board, |_| fs::remove_file(&full).with_context(|| path.display().to_string()))?;
        self.made.files.remove(&path);
        self.made.gone.insert(path);
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let (at, number, seed) = (self.random.below(OPEN), self.random.below(BLOCKS), self.random.number());
        let (path, file) = &self.open[at];
        file.write_all_at(&pattern(BLOCK, seed), (number * BLOCK) as u64)
            .with_context(|| format!("block {number} of {}", path.display()))?;
        if let Some(blocks) = self.made.blocks.get_mut(path) {
            blocks[number] = Some(seed);
        }
        Ok(())
    }

    /// A name that was taken away is not back. Through the C client some are (see [`was_removed_by_c`]).
    fn miss(&mut self) -> Result<()> {
        let gone: Vec<&PathBuf> = self.made.gone.iter().filter(|path| !self.made.files.contains_key(*path)).collect();
        if self.client == Client::C || gone.is_empty() {
            return Ok(());
        }
        let path = gone[self.random.below(gone.len())];
        let found = fs::symlink_metadata(self.root.join(path));
        let errno = found.as_ref().err().and_then(std::io::Error::raw_os_error);
        ensure!(errno == Some(Errno::NOENT.raw_os_error()), "{} is back: {found:?}", path.display());
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let Some(path) = self.any() else { return Ok(()) };
        let known = self.made.files[&path];
        let before = self.made.replaced.get(&path).copied();
        patiently(self.client, self.board, |_| {
            check_file(self.root, &path, known).with_context(|| format!("it is {known:?}, and was {before:?} before"))
        })
    }
}

fn check_file(root: &Path, path: &Path, known: Known) -> Result<()> {
    let bytes = fs::read(root.join(path)).with_context(|| format!("reading {}", path.display()))?;
    ensure!(
        bytes == pattern(known.length, known.seed),
        "{} holds {} bytes that are not the {} acknowledged ones",
        path.display(),
        bytes.len(),
        known.length
    );
    Ok(())
}

/// Whether the C client took that name away. It may be back: the linkto that an earlier layout left of it is one inode with the one that
/// the file gets on that brick under its next name, and becomes the file when rebalance moves it there (`the_c_client_alone` shows it).
fn was_removed_by_c(made: &[Made], name: &Path) -> bool {
    made.iter().any(|made| made.client == Some(Client::C) && made.gone.contains(name))
}

/// Whether a name is one of a worker on the C client: nobody else does anything with it.
fn is_of_c(made: &[Made], name: &Path) -> bool {
    let mut of_c = made.iter().filter(|made| made.client == Some(Client::C));
    of_c.any(|made| made.files.contains_key(name) || made.blocks.contains_key(name) || made.gone.contains(name))
}

/// The subvolume that is the home of a name, as the C client says.
fn home(mount: &Path, path: &Path) -> Result<String> {
    let (directory, name) = path.parent().zip(path.file_name()).context("not a name in a directory")?;
    let key = format!("dht.file.hashed-subvol.{}", name.to_string_lossy());
    let mut value = [0; 256];
    let length = lgetxattr(mount.join(directory), key.as_str(), &mut value).with_context(|| key.clone())?;
    Ok(String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned())
}

/// Compares what a mount shows with what all workers were told.
fn check(root: &Path, made: &[Made]) -> Result<()> {
    let mut expected: Vec<PathBuf> =
        made.iter().flat_map(|made| made.files.keys().chain(made.blocks.keys())).cloned().collect();
    expected.sort();
    let mut listed = Vec::new();
    for place in 0..PLACES {
        let place = format!("place-{place}");
        for entry in fs::read_dir(root.join(&place))? {
            listed.push(Path::new(&place).join(entry?.file_name()));
        }
    }
    listed.sort();
    let missing: Vec<_> = expected.iter().filter(|path| listed.binary_search(path).is_err()).take(10).collect();
    let surplus: Vec<_> = listed.iter().filter(|path| expected.binary_search(path).is_err()).collect();
    let (of_c, surplus): (Vec<_>, Vec<_>) = surplus.into_iter().partition(|path| was_removed_by_c(made, path));
    println!("{} names are back that the C client had removed", of_c.len());
    let twice: Vec<_> = listed.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).take(10).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty() && twice.is_empty(),
        "missing {missing:?}, should not be there {surplus:?}, listed twice {twice:?}"
    );
    for made in made {
        for (path, known) in &made.files {
            check_file(root, path, *known)?;
        }
        for (path, blocks) in &made.blocks {
            let file = File::open(root.join(path)).with_context(|| format!("opening {}", path.display()))?;
            for (number, seed) in blocks.iter().enumerate() {
                let Some(seed) = seed else { continue };
                let mut bytes = vec![0; BLOCK];
                file.read_exact_at(&mut bytes, (number * BLOCK) as u64)
                    .with_context(|| format!("reading block {number} of {}", path.display()))?;
                ensure!(bytes == pattern(BLOCK, *seed), "block {number} of {} is not what was written", path.display());
            }
        }
    }
    check_logs(root, made)
}

/// All records are in the logs, once. Those of the C client may be there more often: it appends to the destination of a migration what may
/// have been copied there already (`dht-inode-write.c:dht_writev2` repeats the write through an fd that has O_APPEND there too).
fn check_logs(root: &Path, made: &[Made]) -> Result<()> {
    let mut of_c = Excused::default();
    for number in 0..LOGS {
        let log = format!("logs/{number}");
        let expected: Vec<u64> = made.iter().map(|made| made.appended[number]).collect();
        let is_of_c = |writer: usize| made[writer].client == Some(Client::C);
        let Excused { repeated, lost } =
            records::check_but(&log, &fs::read_to_string(root.join(&log))?, &expected, is_of_c)?;
        of_c.repeated += repeated;
        of_c.lost += lost;
    }
    println!("appends of the C client: {of_c:?}");
    ensure!(of_c.lost <= LOST_BY_C, "too many appends of the C client are lost");
    Ok(())
}

/// What is on a brick: files, and linktos with where they lead to.
#[derive(Debug, Default)]
struct OnBrick {
    data: Vec<PathBuf>,
    linktos: Vec<(PathBuf, String)>,
}

fn read_brick(brick: &Path) -> Result<OnBrick> {
    let mut found = OnBrick::default();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(brick.join(&directory))? {
            let path = directory.join(entry?.file_name());
            if path.starts_with(".glusterfs") || path.to_string_lossy().starts_with(".glusterfs-anonymous") {
                continue;
            }
            let data = fs::symlink_metadata(brick.join(&path))?;
            let mut target = [0; 256];
            let length = lgetxattr(brick.join(&path), "trusted.glusterfs.dht.linkto", &mut target);
            match length {
                _ if data.is_dir() => waiting.push(path),
                Ok(length) if data.mode() & 0o7777 == 0o1000 => {
                    let target = String::from_utf8_lossy(&target[..length]).trim_end_matches('\0').to_owned();
                    found.linktos.push((path, target));
                }
                _ => found.data.push(path),
            }
        }
    }
    Ok(found)
}

/// Every file is on one subvolume alone, and every linkto leads to where its file is. `bricks` are the first of each subvolume, with
/// its name. Two kinds are not rgfs's: those of names that only the C client has worked with (it knows only of the linkto where the
/// layout of the time puts the name), and those of files that are there, off the homes of their names. These are of earlier layouts:
/// rebalance leaves them, no lookup comes across them, and removing or renaming the file through rgfs takes them along.
fn check_bricks(bricks: &[(String, PathBuf)], mount: &Path, made: &[Made]) -> Result<()> {
    let mut homes: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let mut linktos = Vec::new();
    for (name, brick) in bricks {
        let found = read_brick(brick)?;
        for path in found.data {
            homes.entry(path).or_default().push(name.clone());
        }
        linktos.extend(found.linktos.into_iter().map(|(path, target)| (name.clone(), path, target)));
    }
    let doubles: Vec<_> = homes.iter().filter(|(_, homes)| homes.len() > 1).take(10).collect();
    ensure!(doubles.is_empty(), "on several subvolumes: {doubles:?}");
    let leads = |path: &PathBuf, target: &String| homes.get(path).is_some_and(|homes| homes[0] == *target);
    let nowhere = linktos.iter().filter(|(_, path, target)| !leads(path, target));
    let (of_c, of_rgfs): (Vec<_>, Vec<_>) = nowhere.partition(|(_, path, _)| is_of_c(made, path));
    let (mut old, mut lost) = (0, Vec::new());
    for linkto in of_rgfs {
        match homes.contains_key(&linkto.1) && home(mount, &linkto.1)? != linkto.0 {
            true => old += 1,
            false => lost.push(linkto),
        }
    }
    ensure!(lost.is_empty(), "linktos that lead nowhere: {lost:?}");
    println!("linktos that are wrong: {} of the C client's names, {old} of earlier layouts", of_c.len());
    println!("{} files and {} linktos on the bricks", homes.len(), linktos.len());
    Ok(())
}

/// Grows the volume by one set of bricks, then takes the first set away.
fn grow_and_shrink(volume: &mut GlusterdVolume, set: usize) -> Result<()> {
    let start = Instant::now();
    volume.add_bricks(set)?;
    println!("{:?}: bricks are added", start.elapsed());
    let moves = volume.rebalance(MOVE_LIMIT)?;
    println!("{:?}: rebalance: {moves:?}", start.elapsed());
    ensure!(moves.files > 0, "nothing moved");
    for round in 1.. {
        let moves = volume.empty_bricks(0..set, MOVE_LIMIT)?;
        let left = read_brick(&volume.bricks()[0])?.data.len();
        println!("{:?}: remove-brick, round {round}: {moves:?}, {left} files left", start.elapsed());
        if left == 0 {
            break;
        }
        ensure!(round < ROUNDS, "{left} files do not leave the brick");
        volume.stop_removal(0..set)?;
    }
    volume.commit_removal(0..set)?;
    println!("{:?}: bricks are removed", start.elapsed());
    Ok(())
}

fn while_clients_work(sandbox: &Sandbox, clients: [Client; 2], sets: usize, set: usize) -> Result<()> {
    let files = size();
    let arguments: &[&str] = if set > 1 { &["replica", "2"] } else { &[] };
    let mut volume = GlusterdVolume::start(sandbox, "v", sets * set, arguments)?;
    let mount = |client, name| {
        let extra: &[&str] = if client == Client::C { &C_ARGUMENTS } else { &[] };
        volume.mount_with(client, name, extra)
    };
    let mounts = [mount(clients[0], "one")?, mount(clients[1], "two")?];
    fs::create_dir(mounts[0].join("logs"))?;
    for number in 0..LOGS {
        File::create_new(mounts[0].join(format!("logs/{number}")))?;
    }
    for place in 0..PLACES {
        fs::create_dir(mounts[0].join(format!("place-{place}")))?;
    }
    let board = Board {
        stop: AtomicBool::new(false),
        quota: AtomicUsize::new(files),
        total: files,
        start: Instant::now(),
        excused: AtomicUsize::new(0),
    };
    let made = std::thread::scope(|scope| -> Result<Vec<Made>> {
        let board = &board;
        let stop = || board.stop.store(true, Ordering::Relaxed);
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let mount = &mounts[number % 2];
                scope.spawn(move || {
                    let made = Worker::new(mount, number, board).and_then(Worker::work);
                    if made.is_err() {
                        board.stop.store(true, Ordering::Relaxed);
                        board.quota.store(0, Ordering::Relaxed);
                    }
                    made
                })
            })
            .collect();
        while board.created() < files / 2 && !board.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let outcome = grow_and_shrink(&mut volume, set);
        stop();
        let mut made = Vec::new();
        for worker in workers {
            // What a worker says is the cause of what went on beside it.
            made.push(worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")))?);
        }
        outcome.map(|()| made)
    })?;
    for made in &made {
        println!("{:?}, {} files left", made.operations, made.files.len());
    }
    println!("the C client failed {:?} operations that then worked", board.excused);
    for mount in &mounts {
        check(mount.path(), &made).with_context(|| format!("seen through {}", mount.client()))?;
    }
    let kind = if set > 1 { "replicate" } else { "client" };
    let bricks = volume.bricks().chunks(set).enumerate();
    // The first set is gone.
    let bricks: Vec<_> = bricks.map(|(number, set)| (format!("v-{kind}-{}", number + 1), set[0].clone())).collect();
    check_bricks(&bricks, mounts[1].path(), &made)?;
    mounts.into_iter().try_for_each(Mount::unmount)
}

fn size() -> usize {
    if is_soak() { 20_000 } else { 300 }
}

const BOTH: [Client; 2] = [Client::Rgfs, Client::C];

#[test]
fn two_bricks_become_three_and_two_again() {
    scenario(|sandbox| while_clients_work(sandbox, BOTH, 2, 1));
}

#[test]
fn two_replica_sets_become_three_and_two_again() {
    scenario(|sandbox| while_clients_work(sandbox, BOTH, 2, 2));
}

#[test]
#[ignore = "says nothing about rgfs; run it when the others fail"]
fn the_c_client_alone() {
    scenario(|sandbox| while_clients_work(sandbox, [Client::C; 2], 2, 1));
}
