//! Programs append to logs while rebalance moves the logs from brick to brick and back: every record is there once.
//!
//! Each mount has descriptors that are open all the time, and opens the logs anew as well. What moves the logs is the C client's own
//! rebalance, asked for file by file (`trusted.distribute.migrate-data`): a rename gives a log another home first.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{XattrFlags, lsetxattr};
use support::client::{Client, Mount};
use support::close::close;
use support::cluster::{GlusterdVolume, Mountable};
use support::content::Random;
use support::records::{self, record};
use support::sandbox::{Sandbox, is_soak, scenario};

const BRICKS: usize = 3;
const LOGS: usize = 4;
const WORKERS: usize = 4;

/// Without `strict-locks` the C client writes through an anonymous fd when a log has moved since it was opened: to the offset that its kernel
/// takes for the end, onto what others have appended.
const C_ARGUMENTS: [&str; 1] = ["--xlator-option=*-client-*.strict-locks=on"];
/// One in so many moves may lose a record of the C client: what it repeats at the destination may be copied over. (It was one in 160.)
const MOVES_PER_LOSS: usize = 20;

/// What all threads share.
#[derive(Debug, Default)]
struct Board {
    stop: AtomicBool,
    /// The name that each log has, or had just now.
    names: Mutex<Vec<PathBuf>>,
    moves: AtomicUsize,
}

impl Board {
    fn name(&self, log: usize) -> PathBuf {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)[log].clone()
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().append(true).open(path)
}

/// Opens a log by the name that it has. While it is given another one, it may have neither for a moment.
fn open_log(root: &Path, log: usize, board: &Board) -> Result<File> {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        let path = root.join(board.name(log));
        match open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && Instant::now() < limit => {}
            opened => return opened.with_context(|| format!("opening {}", path.display())),
        }
    }
}

/// Appends records to all logs; answers how many each log has from this worker.
fn append(mount: &Mount, number: usize, board: &Board) -> Result<Vec<u64>> {
    match mount.client() {
        Client::Rgfs => append_through_rgfs(mount, number, board),
        Client::C => append_through_c(mount, number, board),
    }
}

/// Opens the logs anew each time, and is asked again when that fails: while a log moves, the C client may not find it. It closes descriptors where
/// they are not open (EBADFD).
fn append_through_c(mount: &Mount, number: usize, board: &Board) -> Result<Vec<u64>> {
    let mut random = Random::new(number as u64 + 1);
    let mut counts = vec![0; LOGS];
    while board.goes_on() {
        let log = random.below(LOGS);
        let Ok(mut file) = open_log(mount.path(), log, board) else { continue };
        file.write_all(record(number, counts[log]).as_bytes())
            .with_context(|| format!("record {} of worker {number} in log {log}", counts[log]))?;
        counts[log] += 1;
    }
    Ok(counts)
}

fn append_through_rgfs(mount: &Mount, number: usize, board: &Board) -> Result<Vec<u64>> {
    let mut random = Random::new(number as u64 + 1);
    let mut kept = (0..LOGS).map(|log| open_log(mount.path(), log, board)).collect::<Result<Vec<File>>>()?;
    let mut counts = vec![0; LOGS];
    while board.goes_on() {
        let log = random.below(LOGS);
        let record = record(number, counts[log]);
        let written = match random.below(4) {
            0 => {
                let mut file = open_log(mount.path(), log, board)?;
                file.write_all(record.as_bytes()).and_then(|()| close(file))
            }
            _ => kept[log].write_all(record.as_bytes()),
        };
        written.with_context(|| format!("record {} of worker {number} in log {log}", counts[log]))?;
        counts[log] += 1;
    }
    // That tells of buffered records that did not arrive.
    kept.into_iter().try_for_each(close).context("closing a log")?;
    Ok(counts)
}

/// Renames logs, and has them moved to the home of the new name.
fn shuffle(mount: &Mount, board: &Board) -> Result<()> {
    for number in 0.. {
        for log in 0..LOGS {
            if !board.goes_on() {
                return Ok(());
            }
            let (old, new) = (board.name(log), PathBuf::from(format!("log-{log}-{number}")));
            fs::rename(mount.join(&old), mount.join(&new)).with_context(|| format!("renaming {}", old.display()))?;
            board.names.lock().unwrap_or_else(PoisonError::into_inner)[log] = new.clone();
            // It fails when the log is at home, and when somebody writes to the destination before all is copied.
            let flags = XattrFlags::empty();
            if lsetxattr(mount.join(&new), "trusted.distribute.migrate-data", b"force", flags).is_ok() {
                board.moves.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

fn while_logs_move(sandbox: &Sandbox, clients: [Client; 2], arguments: &[&str], bricks: usize) -> Result<()> {
    let volume = GlusterdVolume::start(sandbox, "v", bricks, arguments)?;
    // Bricks note a file's names in its xattrs; rebalance copies the notes, and they stay when the file gets another name. They would deny a name
    // that the file had before (EEXIST), and, when there is no room for more, the mark that guards what is written (EBUSY to who writes).
    volume.set("storage.gfid2path", "off")?;
    let mount = |client, name| {
        let extra: &[&str] = if client == Client::C { &C_ARGUMENTS } else { &[] };
        volume.mount_with(client, name, extra)
    };
    let mounts = [mount(clients[0], "one")?, mount(clients[1], "two")?];
    let mover = volume.mount(Client::C, "mover")?;
    let board = Board::default();
    for log in 0..LOGS {
        let name = PathBuf::from(format!("log-{log}"));
        File::create_new(mounts[0].join(&name))?;
        board.names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
    let length = Duration::from_secs(if is_soak() { 120 } else { 10 });
    let made = std::thread::scope(|scope| -> Result<Vec<Vec<u64>>> {
        let (board, mounts, mover) = (&board, &mounts, &mover);
        let ending = |result: bool| {
            if !result {
                board.stop.store(true, Ordering::Relaxed);
            }
        };
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                scope.spawn(move || {
                    let made = append(&mounts[number % 2], number, board);
                    ending(made.is_ok());
                    made
                })
            })
            .collect();
        let shuffler = scope.spawn(move || {
            let done = shuffle(mover, board);
            ending(done.is_ok());
            done
        });
        let begin = Instant::now();
        while board.goes_on() && begin.elapsed() < length {
            std::thread::sleep(Duration::from_millis(50));
        }
        board.stop.store(true, Ordering::Relaxed);
        let panicked = || anyhow!("a thread panicked");
        let made = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(panicked())));
        let made = made.collect::<Result<Vec<_>>>()?;
        shuffler.join().unwrap_or_else(|_| Err(panicked()))?;
        Ok(made)
    })?;
    let moves = board.moves.load(Ordering::Relaxed);
    println!("{moves} moves, records: {made:?}");
    mover.unmount()?;
    // A C client that remembers nothing: for a second, the others take the logs to be as long as they were.
    let witness = volume.mount(Client::C, "witness")?;
    for log in 0..LOGS {
        let expected: Vec<u64> = made.iter().map(|counts| counts[log]).collect();
        for mount in mounts.iter().filter(|mount| mount.client() == Client::Rgfs).chain([&witness]) {
            let text = fs::read_to_string(mount.join(board.name(log)))?;
            let is_of_c = |worker: usize| clients[worker % 2] == Client::C;
            let of_c = records::check_but(&format!("log {log}"), &text, &expected, is_of_c)
                .with_context(|| format!("seen through {} after {moves} moves", mount.path().display()))?;
            ensure!(
                of_c.lost <= 1 + moves / MOVES_PER_LOSS,
                "log {log}: {of_c:?} of the C client's after {moves} moves"
            );
        }
    }
    ensure!(moves > LOGS, "the logs were moved {moves} times only");
    mounts.into_iter().chain([witness]).try_for_each(Mount::unmount)
}

const RGFS: [Client; 2] = [Client::Rgfs; 2];
const BOTH: [Client; 2] = [Client::Rgfs, Client::C];

#[test]
fn records_without_locks_on_bricks() {
    scenario(|sandbox| while_logs_move(sandbox, RGFS, &[], BRICKS));
}

#[test]
fn records_without_locks_on_replica_sets() {
    scenario(|sandbox| while_logs_move(sandbox, RGFS, &["replica", "2"], 4));
}

#[test]
fn records_beside_those_of_the_c_client() {
    scenario(|sandbox| while_logs_move(sandbox, BOTH, &[], BRICKS));
}
