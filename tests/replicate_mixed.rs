//! The C client and rgfs at work on the same files and directories of a replicated volume at once, while a brick comes and goes:
//! appends under a lock, renames, creates of the same names. Nothing is lost, nothing is there twice, and both see the same.
//!
//! The long run is `cargo xtask soak`; `RGFS_SOAK=1` asks for it here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use support::client::{Client, Mount};
use support::cluster::Mountable;
use support::content::Random;
use support::records::{self, record};
use support::replicated::{ReplicatedVolume, Shape};
use support::sandbox::{Sandbox, is_soak, scenario};
use support::wait;

/// How many files are appended to, and how many are renamed.
const FILES: usize = 64;
/// The directories between which files are renamed.
const PLACES: usize = 4;
/// The directories into which renames fail while others rename out of them.
const DIRECTORIES: usize = 16;
/// How long a client may show what it saw of a file before: FUSE keeps attributes for a second, and below it md-cache and quick-read
/// of the C client do. (Of a file that rgfs appends to, the C client shows the old end in 19 of 20 reads, when it reads at once.)
const CACHES: Duration = Duration::from_secs(2);
const HEAL_LIMIT: Duration = Duration::from_secs(90);
/// A worker that does nothing for this long hangs.
const HANG_LIMIT: Duration = Duration::from_secs(30);

/// The C client says ENOTCONN, on a healthy volume too, when it looks up a name at the moment that another client creates or renames it;
/// and EBADFD, when it lists a directory through a brick that was away when the directory was opened.
fn excused(client: Client, error: &Error) -> bool {
    client == Client::C && matches!(Errno::from_io_error(error), Some(Errno::NOTCONN | Errno::BADFD))
}

/// What all workers share.
#[derive(Debug, Default)]
struct Board {
    stop: AtomicBool,
    /// The next name that everybody tries to create.
    race: AtomicU64,
    /// Directories are created, too.
    ///
    /// Not beside the C client: when a LOOKUP comes between two steps of a brick's MKDIR, the brick takes the directory back and says
    /// EEXIST (`posix_gfid_set` in both; the second `posix_handle_soft` finds the first one's link). rgfs asks again. The C client
    /// accuses that brick of missing a name; soon each of the three is accused, and the directory of all these names, in a healthy
    /// volume, is ENOTCONN for every client.
    directories: bool,
    /// Who created a name.
    winners: Mutex<BTreeMap<u64, Vec<usize>>>,
    /// Names of which somebody does not know whether it created them.
    unclear: Mutex<BTreeSet<u64>>,
    /// Every rename that was tried, by the new name.
    renames: Mutex<BTreeMap<String, Renamed>>,
    /// Operations of all workers, by kind.
    done: [AtomicU64; 3],
}

/// A rename, as its worker saw it.
#[derive(Debug)]
struct Renamed {
    from: String,
    by: Client,
    /// Whether it was told that it worked.
    worked: bool,
}

impl Board {
    fn goes_on(&self, kind: usize) -> bool {
        self.done[kind].fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Appends records to all files in turn, each under the file's lock; returns how many each file got.
fn append(root: &Path, worker: usize, board: &Board) -> Result<Vec<u64>> {
    let (mut counts, mut random) = (vec![0; FILES], Random::new(worker as u64 + 1));
    while board.goes_on(0) {
        let number = random.below(FILES);
        let path = root.join(format!("append/{number}"));
        let step = |step: &str| format!("{step} {} by worker {worker}", path.display());
        let mut file = File::options().append(true).open(&path).with_context(|| step("opening"))?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| step("locking"))?;
        file.write_all(record(worker, counts[number]).as_bytes()).with_context(|| step("appending to"))?;
        file.sync_data().with_context(|| step("syncing"))?;
        counts[number] += 1;
        flock(&file, FlockOperation::Unlock).with_context(|| step("unlocking"))?;
    }
    Ok(counts)
}

/// Moves files between directories, where others do the same: a file that was listed may have moved.
///
/// Each time to a name that never was: a brick that missed the removal of a name still has it, and for two names of one file its
/// rename(2) does nothing and says success. No client can tell; the C client alone leaves such names too.
fn rename(mount: &Mount, worker: usize, board: &Board) -> Result<()> {
    let (root, client) = (mount.path(), mount.client());
    let (mut random, mut count) = (Random::new(1000 + worker as u64), 0);
    let mut listed: Vec<PathBuf> = Vec::new();
    while board.goes_on(1) {
        let Some(from) = listed.pop() else {
            let place = root.join(format!("place-{}", random.below(PLACES)));
            let names = fs::read_dir(&place).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
            listed = match names {
                Ok(names) => names,
                Err(error) if excused(client, &error) => continue,
                Err(error) => return Err(error).with_context(|| format!("listing {}", place.display())),
            };
            continue;
        };
        let token = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let token = token.split('.').next().unwrap_or_default();
        count += 1;
        let to = root.join(format!("place-{}/{token}.{worker}-{count}", random.below(PLACES)));
        let result = fs::rename(&from, &to);
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let renamed = Renamed { from: name(&from), by: client, worked: result.is_ok() };
        board.renames.lock().unwrap_or_else(PoisonError::into_inner).insert(name(&to), renamed);
        match result {
            Ok(()) => {}
            // ESTALE: moved between the kernel's lookup and the rename.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle) => {}
            Err(error) if excused(client, &error) => {}
            Err(error) => return Err(error).with_context(|| format!("renaming {} by worker {worker}", from.display())),
        }
    }
    Ok(())
}

/// Creates files and directories whose names everybody tries at about the same time.
fn race(mount: &Mount, worker: usize, board: &Board) -> Result<()> {
    let (root, client) = (mount.path(), mount.client());
    let mut mine = 0;
    while board.goes_on(2) {
        // Each worker visits every number, in step with the others; the first to be through opens the next.
        let number = board.race.load(Ordering::Relaxed).max(mine);
        mine = number + 1;
        let path = root.join(format!("race/{number}"));
        let is_dir = board.directories && number % 2 == 1;
        let made = if !is_dir { File::create_new(&path).map(drop) } else { fs::create_dir(&path) };
        match made {
            Ok(()) => {
                let mut winners = board.winners.lock().unwrap_or_else(PoisonError::into_inner);
                winners.entry(number).or_default().push(worker);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if excused(client, &error) => {
                board.unclear.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
            }
            Err(error) => return Err(error).with_context(|| format!("creating race/{number} by worker {worker}")),
        }
        board.race.fetch_max(mine, Ordering::Relaxed);
    }
    Ok(())
}

/// Kills a brick and brings it back until the time is over.
///
/// The self-heal daemon dies with it, each time. It loses a name otherwise: when the brick goes while the daemon asks it for a name that it
/// is to remove there (a LOOKUP that ends with ENOTCONN), it finds "nothing to do", and takes the name out of the others' index
/// (`afr_selfheal_entry_delete`, `afr_selfheal_entry_dirent`). The brick keeps that name for good then, and no mark tells of it.
fn flap(volume: &ReplicatedVolume, victim: usize, time: Duration, board: &Board) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        volume.kill_healer()?;
        volume.kill(victim)?;
        go_on(board, Duration::from_secs(2))?;
        volume.restart()?;
        // Long enough that the clients are connected again, and some healing is done.
        go_on(board, Duration::from_secs(5))?;
    }
    Ok(())
}

/// Lets the workers run for `time`, and until each kind of work has moved on.
fn go_on(board: &Board, time: Duration) -> Result<()> {
    let read = || board.done.each_ref().map(|count| count.load(Ordering::Relaxed));
    let (start, before) = (Instant::now(), read());
    loop {
        // A kind that has no worker stays at 0.
        let moved = read().iter().zip(&before).all(|(now, before)| now > before || *now == 0);
        if start.elapsed() >= time && moved {
            return Ok(());
        }
        if board.stop.load(Ordering::Relaxed) {
            bail!("a worker failed");
        }
        ensure!(start.elapsed() < time + HANG_LIMIT, "work hangs: {before:?}, then {:?}", read());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Every record acknowledged is there once, in the order of its writer, and nothing else.
fn check_appends(mount: &Mount, counts: &[Vec<u64>]) -> Result<()> {
    for number in 0..FILES {
        let text = fs::read_to_string(mount.join(format!("append/{number}")))?;
        let expected: Vec<u64> = counts.iter().map(|counts| counts[number]).collect();
        records::check(&format!("append/{number}"), &text, &expected)?;
    }
    Ok(())
}

/// Names that C clients gave to renamed files, while a brick comes and goes.
///
/// Such a file may have them beside the one that counts: a C client that still knows a name that was renamed away without that brick asks
/// all bricks to rename it, and the brick that is back and not healed does so. The application is told ENOENT, and the heal brings the new
/// name to the others (`a_rename_that_only_an_old_copy_can_do`; without a C client there is no such name). Who finds it there may give it
/// yet another name.
///
/// More follows from such a rename: the copy that did it accuses the others of having missed it, as they accuse it. Of directories that accuse
/// each other the heal keeps all names, and every name comes back that was removed while that brick was away.
#[derive(Debug)]
struct GivenByC {
    /// Whether a brick comes and goes.
    flaps: bool,
    /// Every rename that was tried, by the new name.
    renames: BTreeMap<String, Renamed>,
}

impl GivenByC {
    /// Whether a C client gave the name, or gave the one before it although it told its user that it had not.
    fn contains(&self, name: &str) -> bool {
        let renamed = self.renames.get(name).filter(|_| self.flaps);
        renamed.is_some_and(|renamed| renamed.by == Client::C || self.was_denied(&renamed.from))
    }

    /// Whether the name goes back to one that a C client gave and told its user that it had not.
    fn was_denied(&self, name: &str) -> bool {
        let renamed = self.renames.get(name);
        renamed.is_some_and(|renamed| match renamed.by == Client::C && !renamed.worked {
            true => true,
            false => self.was_denied(&renamed.from),
        })
    }

    /// A rename that a C client told its user had failed, and that took place: somebody found the new name and renamed it.
    fn denied(&self) -> Option<&str> {
        let was_found = |name: &&String| self.renames.values().any(|renamed| renamed.worked && renamed.from == **name);
        let denied = |(_, renamed): &(&String, &Renamed)| renamed.by == Client::C && !renamed.worked;
        self.renames.iter().filter(denied).map(|(name, _)| name).find(was_found).map(String::as_str)
    }

    /// Where a name comes from, for messages.
    fn history(&self, name: &str) -> String {
        let Some(renamed) = self.renames.get(name) else { return name.to_owned() };
        let told = if renamed.worked { "" } else { " (told that it failed)" };
        format!("{name} <- {:?}{told} <- {}", renamed.by, self.history(&renamed.from))
    }

    /// Whether the copies differ in such names of the brick `victim` of a set only, and the files that have them in their links.
    fn explains(&self, victim: usize, differences: &[String]) -> bool {
        let token = |line: &str| line.split(['/', '.', ':']).find(|part| part.starts_with("token-")).map(str::to_owned);
        let is_name = |line: &&String| {
            let name = line.split([':', '/']).find(|part| part.starts_with("token-"));
            name.is_some_and(|name| self.contains(name))
                && line.contains(&format!(": only on the bricks [{victim}] of"))
        };
        let tokens: BTreeSet<_> = differences.iter().filter(is_name).filter_map(|line| token(line)).collect();
        let is_link =
            |line: &String| line.contains("has links") && token(line).is_some_and(|token| tokens.contains(&token));
        differences.iter().all(|line| is_name(&line) || is_link(line))
    }
}

/// Every file that was renamed is in one place, with its own content.
fn check_renames(mount: &Mount, given_by_c: &GivenByC) -> Result<()> {
    let (mut seen, mut excused) = (BTreeMap::new(), Vec::new());
    for place in 0..PLACES {
        for entry in fs::read_dir(mount.join(format!("place-{place}")))? {
            let entry = entry?;
            let full = entry.file_name().to_string_lossy().into_owned();
            let name = full.split('.').next().unwrap_or_default().to_owned();
            ensure!(fs::read_to_string(entry.path())? == name, "{name} has another's content");
            if given_by_c.contains(&full) {
                excused.push((name, full));
            } else if let Some(other) = seen.insert(name, full.clone()) {
                let [one, two] = [&other, &full].map(|name| given_by_c.history(name));
                let denied = given_by_c.denied().filter(|_| given_by_c.flaps);
                let Some(denied) = denied else {
                    bail!("a file has two names, and no C client gave either: {one}; {two}")
                };
                println!("{}: a removed name is back: {one}; {two}; C did what it denied: {denied}", mount.client());
            }
        }
    }
    for (name, full) in excused {
        if let Some(other) = seen.insert(name, full.clone()) {
            let [one, two] = [&other, &full].map(|name| given_by_c.history(name));
            println!("{}: beside a name it has one that C gave it: {one}; {two}", mount.client());
        }
    }
    ensure!(seen.len() == FILES, "{} of {FILES} renamed files are left", seen.len());
    Ok(())
}

/// All names and kinds below the mount.
fn listing(mount: &Mount) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut waiting = vec![mount.path().to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let (path, kind) = {
                let entry = entry?;
                (entry.path(), entry.file_type()?)
            };
            names.insert(format!("{} {kind:?}", path.strip_prefix(mount.path())?.display()));
            if kind.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(names)
}

/// What one worker does on its mount.
type Work = fn(&Mount, usize, &Board) -> Result<()>;

fn at_once(sandbox: &Sandbox, shape: Shape, clients: [Client; 2], victim: Option<usize>) -> Result<()> {
    let time = Duration::from_secs(if is_soak() { 120 } else { 15 });
    let volume = ReplicatedVolume::start(sandbox, shape)?;
    volume.remove_instead_of_parking()?;
    let mounts = [volume.mount(clients[0], "one")?, volume.mount(clients[1], "two")?];
    for directory in ["append", "race", "place-0", "place-1", "place-2", "place-3"] {
        fs::create_dir(mounts[0].join(directory))?;
    }
    for number in 0..FILES {
        File::create_new(mounts[0].join(format!("append/{number}")))?;
        let token = format!("token-{number}");
        fs::write(mounts[0].join(format!("place-{}/{token}", number % PLACES)), &token)?;
    }
    let board = Board { directories: !clients.contains(&Client::C), ..Board::default() };
    // A create of a name that the others have already succeeds on a brick that is back and not healed, with another gfid. The create
    // fails, but what it made stays, and the healer does not choose between the two: C clients alone do that, too.
    let kinds: &[Work] = if victim.is_some() { &[rename] } else { &[rename, race] };
    // The C client's rename locks the file and then waits for the name, which the healer has locked to remove that file from the brick
    // that was away; and that brick lets it wait for the lock on the file. Both stand until a connection breaks. rgfs locks otherwise.
    let hangs = |client: Client| shape == Shape::Distributed && victim.is_some() && client == Client::C;
    let counts = std::thread::scope(|scope| -> Result<Vec<Vec<u64>>> {
        let (mut appenders, mut others) = (Vec::new(), Vec::new());
        let board = &board;
        let watched = |result: bool| {
            if !result {
                board.stop.store(true, Ordering::Relaxed)
            }
        };
        for worker in 0..4 {
            let root = mounts[worker % 2].path();
            appenders.push(scope.spawn(move || {
                let result = append(root, worker, board);
                watched(result.is_ok());
                result
            }));
        }
        for (worker, root) in mounts.iter().enumerate() {
            for work in kinds.iter().filter(|_| !hangs(root.client())) {
                others.push(scope.spawn(move || {
                    let result = work(root, worker, board);
                    watched(result.is_ok());
                    result
                }));
            }
        }
        let outcome = match victim {
            Some(victim) => flap(&volume, victim, time, board),
            None => go_on(board, time),
        };
        board.stop.store(true, Ordering::Relaxed);
        for worker in others {
            worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")))?;
        }
        let counts: Result<Vec<_>> = appenders
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked"))))
            .collect();
        // What a worker says is the cause of what went on beside it.
        let counts = counts?;
        outcome.map(|()| counts)
    })?;
    println!("{clients:?} on {shape:?}: {:?} appends, renames, creates", board.done);

    let renames = board.renames.into_inner().unwrap_or_else(PoisonError::into_inner);
    let given_by_c = GivenByC { flaps: victim.is_some(), renames };
    let settled = match victim {
        Some(victim) => volume.settle_after_renames(victim, HEAL_LIMIT, &|differences| {
            given_by_c.explains(victim % shape.set(), differences)
        }),
        None => volume.settle(HEAL_LIMIT),
    };
    println!("healed after {:?}", settled?);
    std::thread::sleep(CACHES);
    for mount in &mounts {
        check_appends(mount, &counts).with_context(|| format!("read through {}", mount.client()))?;
        check_renames(mount, &given_by_c).with_context(|| format!("read through {}", mount.client()))?;
    }
    let winners = board.winners.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (number, winners) in &winners {
        ensure!(winners.len() == 1, "race/{number} was created by {winners:?}");
    }
    let (ours, theirs) = (listing(&mounts[0])?, listing(&mounts[1])?);
    ensure!(ours == theirs, "the clients list differently: {:?}", ours.symmetric_difference(&theirs));
    let raced = |entry: &String| Some(entry.strip_prefix("race/")?.split_once(' ')?.0.to_owned());
    let there: BTreeSet<u64> = ours.iter().filter_map(raced).map(|number| number.parse()).collect::<Result<_, _>>()?;
    let unclear = board.unclear.into_inner().unwrap_or_else(PoisonError::into_inner);
    for number in there.symmetric_difference(&winners.keys().copied().collect()) {
        ensure!(
            unclear.contains(number),
            "race/{number}: there {}, created by {:?}",
            there.contains(number),
            winners.get(number)
        );
    }
    mounts.into_iter().try_for_each(Mount::unmount)
}

/// Files are renamed out of directories while renames into the same directories fail, with a brick away. What one notes of the brick that
/// missed it must not be forgotten when the other has nothing to note.
///
/// Each directory counts once: as soon as the brick is accused of missing names of a directory, the others keep its names. `clients` are
/// the one that fails, and the one that does not. Two C clients lose most of the names, in each run: the bricks forget the names of a
/// directory that accuses nobody (`features/index`: `xattrop_index_action`) for an XATTROP without xdata, and that is how the C client takes
/// back its mark when it failed to rename into the directory (`afr_changelog_populate_xdata`).
fn renames_beside_failures(sandbox: &Sandbox, clients: [Client; 2]) -> Result<()> {
    let volume = ReplicatedVolume::start(sandbox, Shape::Replica3)?;
    volume.remove_instead_of_parking()?;
    let mounts = [volume.mount(clients[0], "one")?, volume.mount(clients[1], "two")?];
    for directory in ["lost", "new"] {
        fs::create_dir(mounts[0].join(directory))?;
    }
    for number in 0..DIRECTORIES {
        fs::create_dir(mounts[0].join(format!("old-{number}")))?;
        File::create_new(mounts[0].join(format!("old-{number}/token")))?;
        File::create_new(mounts[0].join(format!("lost/{number}")))?;
    }
    volume.kill(1)?;
    for number in 0..DIRECTORIES {
        let (lost, old) = (format!("lost/{number}"), format!("old-{number}"));
        // The kernel of the first mount believes for a second from now on that the file is there, and asks the client to rename it.
        fs::metadata(mounts[0].join(&lost))?;
        fs::remove_file(mounts[1].join(&lost))?;
        let barrier = Barrier::new(2);
        let (failure, success) = std::thread::scope(|scope| {
            let failing = scope.spawn(|| {
                barrier.wait();
                fs::rename(mounts[0].join(&lost), mounts[0].join(&old).join("never"))
            });
            barrier.wait();
            let success = fs::rename(mounts[1].join(&old).join("token"), mounts[1].join(format!("new/{number}")));
            (failing.join(), success)
        });
        success.with_context(|| format!("renaming the file in {old}"))?;
        let failure = failure.map_err(|_| anyhow!("a renamer panicked"))?;
        ensure!(failure.is_err(), "{lost} was removed, and then renamed");
    }
    volume.restart()?;
    println!("{clients:?}: healed after {:?}", volume.settle(HEAL_LIMIT)?);
    mounts.into_iter().try_for_each(Mount::unmount)
}

#[test]
fn renames_beside_failures_by_rgfs() {
    scenario(|sandbox| renames_beside_failures(sandbox, [Client::Rgfs, Client::Rgfs]));
}

#[test]
fn renames_of_c_beside_failures_of_rgfs() {
    scenario(|sandbox| renames_beside_failures(sandbox, [Client::Rgfs, Client::C]));
}

#[test]
fn renames_of_rgfs_beside_failures_of_c() {
    scenario(|sandbox| renames_beside_failures(sandbox, [Client::C, Client::Rgfs]));
}

#[test]
#[ignore = "says nothing about rgfs; run it when the tests above fail"]
fn renames_beside_failures_by_c() {
    scenario(|sandbox| renames_beside_failures(sandbox, [Client::C, Client::C]));
}

/// The last brick misses that `x` became `z`, and is back and not healed, when `client`, whose kernel still knows `x`, renames that to `y`;
/// returns what the directory holds then on that brick, and after a heal on all.
fn rename_on_an_old_copy(sandbox: &Sandbox, client: Client) -> Result<[Vec<String>; 2]> {
    let volume = ReplicatedVolume::start(sandbox, Shape::Replica3)?;
    let remembering = volume.mount_with(client, "one", &["--entry-timeout=600", "--attribute-timeout=600"])?;
    let other = volume.mount(Client::C, "two")?;
    fs::create_dir(other.join("d"))?;
    fs::write(other.join("d/x"), "x")?;
    fs::metadata(remembering.join("d/x"))?;
    volume.set("cluster.self-heal-daemon", "off")?;
    let (last, connected) = (volume.bricks().len() - 1, volume.connections()?);
    volume.kill(last)?;
    fs::rename(other.join("d/x"), other.join("d/z"))?;
    volume.restart()?;
    // Each mount has its own connection to the brick; the one that renames must have it again.
    wait::for_value("all clients are connected again", HEAL_LIMIT, || {
        Ok(volume.connections()?.iter().zip(&connected).all(|(now, before)| now >= before).then_some(()))
    })?;
    let renamed = fs::rename(remembering.join("d/x"), remembering.join("d/y"));
    ensure!(renamed.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound), "{renamed:?}");
    let names = |brick: usize| -> Result<Vec<String>> {
        let entries = fs::read_dir(volume.brick(brick)?.join("d"))?;
        let mut names: Vec<String> =
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let before = names(last)?;
    volume.set("cluster.self-heal-daemon", "on")?;
    volume.settle(HEAL_LIMIT)?;
    let after = names(0)?;
    [remembering, other].into_iter().try_for_each(Mount::unmount)?;
    Ok([before, after])
}

#[test]
fn a_rename_that_only_an_old_copy_can_do() {
    scenario(|sandbox| {
        let [before, after] = rename_on_an_old_copy(sandbox, Client::Rgfs)?;
        ensure!(before == ["x"] && after == ["z"], "{before:?}, healed: {after:?}");
        Ok(())
    });
}

/// Why [`GivenByC`] is there; when this fails, it can go.
#[test]
fn a_rename_of_c_that_only_an_old_copy_can_do() {
    scenario(|sandbox| {
        let [before, after] = rename_on_an_old_copy(sandbox, Client::C)?;
        ensure!(before == ["y"] && after == ["y", "z"], "{before:?}, healed: {after:?}");
        Ok(())
    });
}

#[test]
fn on_a_healthy_replica_3() {
    scenario(|sandbox| at_once(sandbox, Shape::Replica3, [Client::Rgfs, Client::C], None));
}

/// With nobody else to blame.
#[test]
fn two_mounts_of_rgfs_on_a_healthy_replica_3() {
    scenario(|sandbox| at_once(sandbox, Shape::Replica3, [Client::Rgfs, Client::Rgfs], None));
}

#[test]
fn on_replica_3_with_a_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Replica3, [Client::Rgfs, Client::C], Some(2)));
}

/// The first brick: the one where everybody queues for locks.
#[test]
fn on_replica_3_with_the_first_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Replica3, [Client::Rgfs, Client::C], Some(0)));
}

/// With nobody else to blame.
#[test]
fn two_mounts_of_rgfs_on_replica_3_with_the_first_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Replica3, [Client::Rgfs, Client::Rgfs], Some(0)));
}

#[test]
fn on_an_arbiter_volume_with_its_arbiter_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Arbiter, [Client::Rgfs, Client::C], Some(2)));
}

#[test]
fn on_an_arbiter_volume_with_a_data_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Arbiter, [Client::Rgfs, Client::C], Some(1)));
}

/// With nobody else to blame.
#[test]
fn two_mounts_of_rgfs_on_an_arbiter_volume_with_a_data_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Arbiter, [Client::Rgfs, Client::Rgfs], Some(0)));
}

#[test]
fn on_distributed_sets_with_a_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Distributed, [Client::Rgfs, Client::C], Some(4)));
}

/// Everybody renames.
#[test]
fn two_mounts_of_rgfs_on_distributed_sets_with_a_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Distributed, [Client::Rgfs, Client::Rgfs], Some(4)));
}

/// The yardstick.
#[test]
#[ignore = "says nothing about rgfs; run it when the tests above fail"]
fn c_on_a_healthy_replica_3() {
    scenario(|sandbox| at_once(sandbox, Shape::Replica3, [Client::C, Client::C], None));
}

#[test]
#[ignore = "says nothing about rgfs; run it when the tests above fail"]
fn c_with_a_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Replica3, [Client::C, Client::C], Some(2)));
}

#[test]
#[ignore = "says nothing about rgfs; run it when the tests above fail"]
fn c_with_the_first_brick_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Replica3, [Client::C, Client::C], Some(0)));
}

#[test]
#[ignore = "says nothing about rgfs; run it when the tests above fail"]
fn c_on_an_arbiter_volume() {
    scenario(|sandbox| at_once(sandbox, Shape::Arbiter, [Client::C, Client::C], Some(1)));
}

#[test]
#[ignore = "says nothing about rgfs; run it when the tests above fail"]
fn c_on_an_arbiter_volume_with_its_arbiter_that_comes_and_goes() {
    scenario(|sandbox| at_once(sandbox, Shape::Arbiter, [Client::C, Client::C], Some(2)));
}

#[test]
#[ignore = "says nothing about rgfs; run it when the tests above fail"]
fn c_on_distributed_sets() {
    scenario(|sandbox| at_once(sandbox, Shape::Distributed, [Client::C, Client::C], Some(4)));
}
