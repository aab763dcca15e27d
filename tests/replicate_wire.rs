//! What `cluster/replicate` says to its bricks: the same as the C client, call by call.
//!
//! One script runs on a replica 3 volume, on one with a brick down, and on one with an arbiter. A recorder between client and bricks
//! (`support::wire`) takes down locks, changelogs and operations. What the C client says there stands in `fixtures/traces/`, one file
//! for each condition; what rgfs says is compared with what the C client says, but for the differences in [`LESS`], [`MORE`] and [`NAME_AGAIN`].

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, XattrFlags, fallocate, removexattr, setxattr};
use support::client::{Client, Mount, Source};
use support::cluster::{Mountable, STATIC_PORT, StaticCluster};
use support::sandbox::{Sandbox, scenario, server_address};
use support::volfiles::{self, Remote, ReplicaSet};
use support::wire::{Recorder, Step, aftermath};

/// How long the wire may take to become quiet after a step: more than the second for which a lock is kept after a write.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// How long a lock is kept after a write in the hope of a next one (`cluster.post-op-delay-secs`), with room for a busy machine.
const REST: std::ops::Range<Duration> = Duration::from_millis(900)..Duration::from_millis(2000);
const BRICKS: usize = 3;
/// Who is compared with the C client.
const CLIENT: Client = Client::Rgfs;

/// What rgfs may leave out: lines that hold all these words count on neither side. With the reason.
const LESS: [(&str, &[&str]); 1] = [(
    "a FLUSH is for posix locks: rgfs sends none when no lock can be held, and need not wait for the post-op",
    &["FLUSH "],
)];
/// What rgfs may say in a step where the C client does not. With the reason.
const MORE: [(&str, &[&str]); 1] = [(
    "rgfs makes data durable also before its timer or a close clears the dirty mark; the C client does not then",
    &["FSYNC ", " internal-fop="],
)];

/// What rgfs adds to lines that note, after a change of names, who missed it: the name. The one from before the change may be gone: until
/// somebody is accused, C clients that fail to rename into the directory make the bricks forget all names.
const NAME_AGAIN: &str = " xdata{entry-create=";

/// A line of rgfs without what [`NAME_AGAIN`] means; marks that are taken back, and accuse, come after a change.
fn without_name_again(line: &str) -> String {
    let is_after = line.contains("dirty[0,0,-1]") && line.contains("[0,0,1]");
    let (start, end) = (line.find(NAME_AGAIN), line.rfind('}'));
    match (start, end) {
        (Some(start), Some(end)) if is_after && start < end => format!("{}{}", &line[..start], &line[end + 1..]),
        _ => line.to_owned(),
    }
}

fn holds(line: &str, list: &[(&str, &[&str])]) -> bool {
    list.iter().any(|(_, words)| words.iter().all(|word| line.contains(word)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Healthy,
    BrickDown,
    Arbiter,
}

type Action = fn(&Path) -> Result<()>;

/// In a directory that holds the file `old` of twelve bytes.
const SCRIPT: [(&str, Action); 16] = [
    ("create, write 12, write 7, close", |at| {
        let mut file = File::create_new(at.join("f1"))?;
        file.write_all(&[b'a'; 12])?;
        Ok(file.write_all(&[b'b'; 7])?)
    }),
    ("create, write 12, fsync, close", |at| {
        let mut file = File::create_new(at.join("f2"))?;
        file.write_all(&[b'a'; 12])?;
        Ok(file.sync_all()?)
    }),
    ("create, write 12, write 2, fsync, ftruncate 5, close", |at| {
        let mut file = File::create_new(at.join("f3"))?;
        file.write_all(&[b'a'; 12])?;
        file.write_all(&[b'b'; 2])?;
        file.sync_all()?;
        Ok(file.set_len(5)?)
    }),
    ("fallocate 100, close", |at| {
        let file = OpenOptions::new().write(true).open(at.join("f3"))?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, 100)?)
    }),
    ("ftruncate 7, close", |at| Ok(OpenOptions::new().write(true).open(at.join("old"))?.set_len(7)?)),
    ("truncate 5", |at| truncate(&at.join("old"), 5)),
    ("chmod", |at| Ok(fs::set_permissions(at.join("old"), fs::Permissions::from_mode(0o640))?)),
    ("setxattr", |at| Ok(setxattr(at.join("old"), "user.colour", b"blue", XattrFlags::empty())?)),
    ("removexattr", |at| Ok(removexattr(at.join("old"), "user.colour")?)),
    ("mkdir", |at| Ok(fs::create_dir(at.join("d1"))?)),
    ("symlink", |at| Ok(symlink("target", at.join("s1"))?)),
    ("link", |at| Ok(fs::hard_link(at.join("old"), at.join("l1"))?)),
    ("rename", |at| Ok(fs::rename(at.join("s1"), at.join("s1r"))?)),
    ("rename to another directory", |at| Ok(fs::rename(at.join("f2"), at.join("d1/f2r"))?)),
    ("unlink", |at| Ok(fs::remove_file(at.join("d1/f2r"))?)),
    ("rmdir", |at| Ok(fs::remove_dir(at.join("d1"))?)),
];

fn truncate(path: &Path, length: i64) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string that lives through the call.
    let result = unsafe { libc::truncate(path.as_ptr(), length) };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}

/// What a client said, and what it left on the bricks.
struct Trace {
    /// The domain that it named, which depends on the volume.
    domain: String,
    steps: Vec<Step>,
    left: String,
}

impl Trace {
    /// All of it; `left_out` is asked for each line of the step with this number.
    fn text(&self, left_out: impl Fn(usize, &str) -> bool) -> String {
        let steps = self
            .steps
            .iter()
            .enumerate()
            .map(|(number, step)| format!("--- {}\n{}", step.name(), step.text(|line| left_out(number, line))));
        let text = steps.chain([format!("--- on the bricks\n{}", self.left)]).collect::<Vec<_>>().join("\n");
        text.replace(&self.domain, "V-replicate-0")
    }

    /// Whether a step has a line that [`MORE`] means.
    fn has_more(&self, number: usize) -> bool {
        let mut found = false;
        if let Some(step) = self.steps.get(number) {
            found = (0..BRICKS).flat_map(|brick| step.lines(brick)).any(|line| holds(&line, &MORE));
        }
        found
    }
}

/// A fresh volume with a recorder in front of its bricks.
struct Stage {
    set: ReplicaSet,
    cluster: StaticCluster,
    recorder: Recorder,
    volfile: PathBuf,
}

impl Stage {
    fn set(sandbox: &Sandbox, client: Client, arbiter: bool) -> Result<Self> {
        // Another name for each client, for it is in the bricks' paths.
        let volume = match client {
            Client::C => "c",
            Client::Rgfs => "ours",
        };
        let set = ReplicaSet { volume: volume.to_owned(), arbiter };
        let cluster = StaticCluster::start_replicated(sandbox, &set)?;
        let mut lines = Vec::new();
        let mut remotes = Vec::new();
        for number in 1..=BRICKS {
            let listen = format!("127.0.62.{number}");
            let address = |host: &str| format!("{host}:{STATIC_PORT}").parse();
            lines.push((address(&listen)?, address(&server_address(number))?));
            remotes.push(Remote { name: set.client(number - 1), host: listen, port: STATIC_PORT });
        }
        let volfile = sandbox.directory().join(format!("{volume}.vol"));
        fs::write(&volfile, volfiles::replicated_client(&set, &remotes))?;

        let preparing = cluster.mount(Client::C, &format!("preparing-{volume}"))?;
        fs::create_dir(preparing.join("dir"))?;
        fs::write(preparing.join("dir/old"), "twelve bytes")?;
        preparing.unmount()?;
        Ok(Self { set, cluster, recorder: Recorder::start(&lines)?, volfile })
    }

    /// Mounts and takes down what that says.
    fn mount(&self, sandbox: &Sandbox, client: Client) -> Result<Mount> {
        let name = format!("mnt/{}", self.set.volume);
        let log = sandbox.log(&name.replace('/', "-"));
        let mount = Mount::new(client, &Source::File(self.volfile.clone()), &sandbox.create(&name)?, &log, &[])?;
        ensure!(fs::metadata(mount.join("dir"))?.is_dir());
        self.recorder.step("mount", STEP_LIMIT)?;
        Ok(mount)
    }

    fn end(self, client: Client, steps: Vec<Step>) -> Result<Trace> {
        for step in &steps {
            ensure!(step.disorder().is_empty(), "{client}: {}: {}", step.name(), step.disorder().join("\n"));
        }
        let bricks: Vec<_> = self.cluster.bricks.iter().map(|brick| brick.directory()).enumerate().collect();
        Ok(Trace { domain: self.set.translator(), steps, left: aftermath(&bricks)? })
    }
}

/// The script, under one condition.
fn trace(sandbox: &Sandbox, client: Client, condition: Condition) -> Result<Trace> {
    let mut stage = Stage::set(sandbox, client, condition == Condition::Arbiter)?;
    if condition == Condition::BrickDown {
        stage.recorder.proxy(2)?.cut();
        stage.cluster.bricks[2].kill()?;
    }
    let mount = stage.mount(sandbox, client)?;
    let directory = mount.join("dir");
    let mut steps = Vec::new();
    for (name, action) in SCRIPT {
        action(&directory).with_context(|| format!("{client}: {name}"))?;
        steps.push(stage.recorder.step(name, STEP_LIMIT)?);
    }

    let file = OpenOptions::new().write(true).open(directory.join("old"))?;
    file.write_all_at(b"over", 0)?;
    let idle = stage.recorder.step("overwrite, then idle", STEP_LIMIT)?;
    let rest = idle.rest_before_post_op("WRITE ").context("there was no post-op after the write")?;
    ensure!(REST.contains(&rest), "{client} did the post-op {rest:?} after the write, {REST:?} is wanted");
    steps.push(idle);
    drop(file);
    mount.unmount()?;
    stage.end(client, steps)
}

/// A brick is lost while it has a write that it has not answered. The application must not hear of success before the others have
/// it in their changelogs, or the mark is lost with the client.
fn trace_of_loss(sandbox: &Sandbox, client: Client) -> Result<Trace> {
    let mut stage = Stage::set(sandbox, client, false)?;
    let mount = stage.mount(sandbox, client)?;
    let mut file = File::create_new(mount.join("dir/f1"))?;
    file.write_all(&[b'a'; 12])?;

    stage.cluster.bricks[2].pause()?;
    let recorder = &mut stage.recorder;
    let when_answered = std::thread::scope(|scope| -> Result<Step> {
        let writer = scope.spawn(|| file.write_all_at(&[b'b'; 7], 4));
        let lost = recorder.wait_for(2, "WRITE f1 off=4 ", STEP_LIMIT);
        // In any case: the writer must end.
        recorder.proxy(2)?.cut();
        let written = writer.join();
        let said = recorder.so_far();
        lost?;
        ensure!(matches!(written, Ok(Ok(()))), "{client}: writing while a brick is lost: {written:?}");
        Ok(said)
    })?;
    for brick in 0..2 {
        let blamed = |line: &String| line.starts_with("FXATTROP f1 ") && line.ends_with("client-2[1,0,0]}  I -> 0");
        let lines = when_answered.lines(brick);
        ensure!(lines.iter().any(blamed), "{client} answered before brick {brick} knew what C2 missed: {lines:#?}");
    }
    let first = stage.recorder.step("create, write 12, overwrite 7 while C2 is lost", STEP_LIMIT)?;
    file.write_all_at(&[b'c'; 5], 12)?;
    drop(file);
    let second = stage.recorder.step("write 5, close", STEP_LIMIT)?;
    mount.unmount()?;
    stage.cluster.bricks[2].kill()?;
    stage.end(client, vec![first, second])
}

/// Where two texts differ, for people.
fn difference(expected: &str, found: &str) -> String {
    let same = expected.lines().zip(found.lines()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.lines().skip(same.saturating_sub(8)).take(24).collect::<Vec<_>>().join("\n");
    format!("line {}\n=== wanted\n{}\n=== found\n{}", same + 1, around(expected), around(found))
}

fn compare(client: Client, fixture: &str, trace: impl Fn(Client) -> Result<Trace>) -> Result<()> {
    let of_c = trace(Client::C)?;
    let said = of_c.text(|_, _| false);
    ensure!(said == fixture, "the C client, {}", difference(fixture, &said));
    if client == Client::C {
        return Ok(());
    }
    let ours = trace(client)?.text(|step, line| holds(line, &LESS) || holds(line, &MORE) && !of_c.has_more(step));
    let wanted = of_c.text(|_, line| holds(line, &LESS));
    let ours = ours.lines().map(without_name_again).collect::<Vec<_>>().join("\n");
    ensure!(ours == wanted.trim_end_matches('\n'), "{client}, {}", difference(&wanted, &ours));
    Ok(())
}

#[test]
fn all_bricks_up() {
    let fixture = include_str!("../fixtures/traces/replicate-healthy.txt");
    scenario(|sandbox| compare(CLIENT, fixture, |client| trace(sandbox, client, Condition::Healthy)));
}

#[test]
fn one_brick_down() {
    let fixture = include_str!("../fixtures/traces/replicate-brick-down.txt");
    scenario(|sandbox| compare(CLIENT, fixture, |client| trace(sandbox, client, Condition::BrickDown)));
}

#[test]
fn with_an_arbiter() {
    let fixture = include_str!("../fixtures/traces/replicate-arbiter.txt");
    scenario(|sandbox| compare(CLIENT, fixture, |client| trace(sandbox, client, Condition::Arbiter)));
}

#[test]
fn a_brick_is_lost_in_a_write() {
    let fixture = include_str!("../fixtures/traces/replicate-brick-lost.txt");
    scenario(|sandbox| compare(CLIENT, fixture, |client| trace_of_loss(sandbox, client)));
}
