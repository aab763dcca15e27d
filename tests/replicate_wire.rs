//! What `cluster/replicate` says to its bricks: the same as the C client, call by call.
//!
//! One script runs on a replica 3 volume, on one with a brick down, and on one with an arbiter. A recorder between client and bricks
//! (`support::wire`) takes down locks, changelogs and operations. What the C client says there stands in `fixtures/traces/`, one file
//! for each condition; what rgfs says is compared with what the C client says, but for the differences in [`ALLOWED`].

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
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
const IDLE: &str = "overwrite, then idle";

/// Where rgfs may differ, with the reason: lines that hold all these words do not count, on either side.
const ALLOWED: [(&str, &[&str]); 2] = [
    (
        "rgfs makes data durable also before its timer or a close clears the dirty mark; C does not then",
        &["FSYNC ", " internal-fop="],
    ),
    (
        "a FLUSH is for posix locks: rgfs sends none when no lock can be held, and need not wait for the post-op",
        &["FLUSH "],
    ),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Healthy,
    BrickDown,
    Arbiter,
}

impl Condition {
    fn of_c(self) -> &'static str {
        match self {
            Self::Healthy => include_str!("../fixtures/traces/replicate-healthy.txt"),
            Self::BrickDown => include_str!("../fixtures/traces/replicate-brick-down.txt"),
            Self::Arbiter => include_str!("../fixtures/traces/replicate-arbiter.txt"),
        }
    }
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
    steps: Vec<Step>,
    left: String,
}

impl Trace {
    fn text(&self, left_out: impl Fn(&str) -> bool) -> String {
        let steps = self.steps.iter().map(|step| format!("--- {}\n{}", step.name(), step.text(&left_out)));
        steps.chain([format!("--- on the bricks\n{}", self.left)]).collect::<Vec<_>>().join("\n")
    }
}

fn trace(sandbox: &Sandbox, client: Client, condition: Condition) -> Result<Trace> {
    // Other names for each client, for these are in the bricks' paths; both start with a fresh volume.
    let volume = match client {
        Client::C => "c",
        Client::Rgfs => "ours",
    };
    let set = ReplicaSet { volume: volume.to_owned(), arbiter: condition == Condition::Arbiter };
    let mut cluster = StaticCluster::start_replicated(sandbox, &set)?;
    let mut lines = Vec::new();
    let mut remotes = Vec::new();
    for number in 1..=cluster.bricks.len() {
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

    let mut recorder = Recorder::start(&lines)?;
    if condition == Condition::BrickDown {
        recorder.proxy(2)?.cut();
        cluster.bricks[2].kill()?;
    }
    let place = sandbox.create(&format!("mnt/{volume}"))?;
    let mount = Mount::new(client, &Source::File(volfile), &place, &sandbox.log(&format!("mnt-{volume}")), &[])?;
    let directory = mount.join("dir");
    ensure!(fs::metadata(&directory)?.is_dir());
    recorder.step("mount", STEP_LIMIT)?;
    let mut steps = Vec::new();
    for (name, action) in SCRIPT {
        action(&directory).with_context(|| format!("{client}: {name}"))?;
        steps.push(recorder.step(name, STEP_LIMIT)?);
    }

    let file = OpenOptions::new().write(true).open(directory.join("old"))?;
    file.write_all_at(b"over", 0)?;
    let idle = recorder.step(IDLE, STEP_LIMIT)?;
    let rest = idle.rest_before_post_op("WRITE ").context("there was no post-op after the write")?;
    ensure!(REST.contains(&rest), "{client} did the post-op {rest:?} after the write, {REST:?} is wanted");
    steps.push(idle);
    drop(file);
    mount.unmount()?;

    for step in &steps {
        ensure!(step.disorder().is_empty(), "{client}: {}: {}", step.name(), step.disorder().join("\n"));
    }
    let bricks: Vec<_> = cluster.bricks.iter().map(|brick| brick.directory()).enumerate().collect();
    let left = aftermath(&bricks)?;
    Ok(Trace { steps, left })
}

/// Where two texts differ, for people.
fn difference(expected: &str, found: &str) -> String {
    let same = expected.lines().zip(found.lines()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.lines().skip(same.saturating_sub(8)).take(24).collect::<Vec<_>>().join("\n");
    format!("line {}\n=== wanted\n{}\n=== found\n{}", same + 1, around(expected), around(found))
}

fn compare(sandbox: &Sandbox, client: Client, condition: Condition) -> Result<()> {
    let of_c = trace(sandbox, Client::C, condition)?;
    let said = of_c.text(|_| false).replace("c-replicate-0", "V-replicate-0");
    ensure!(said == condition.of_c(), "the C client, {}", difference(condition.of_c(), &said));
    if client == Client::C {
        return Ok(());
    }
    let allowed = |line: &str| ALLOWED.iter().any(|(_, words)| words.iter().all(|word| line.contains(word)));
    let wanted = of_c.text(allowed).replace("c-replicate-0", "V-replicate-0");
    let ours = trace(sandbox, client, condition)?.text(allowed).replace("ours-replicate-0", "V-replicate-0");
    ensure!(ours == wanted, "{client}, {}", difference(&wanted, &ours));
    Ok(())
}

#[test]
fn all_bricks_up() {
    scenario(|sandbox| compare(sandbox, Client::C, Condition::Healthy));
}

#[test]
fn one_brick_down() {
    scenario(|sandbox| compare(sandbox, Client::C, Condition::BrickDown));
}

#[test]
fn with_an_arbiter() {
    scenario(|sandbox| compare(sandbox, Client::C, Condition::Arbiter));
}
