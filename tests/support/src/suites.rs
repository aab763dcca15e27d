//! The outside suites from crates.io: `pjdfstest` (POSIX conformance, case by case) and `fsx` (random operations on one file).
//!
//! `cargo xtask test` installs both below `target/tools`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::wait_for_end;

/// How one case of `pjdfstest` ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not, with what the suite said.
    Fail(String),
    /// The suite left it out, with its reason.
    Skip(String),
}

/// The program `name` below `target/tools/bin`, or in PATH.
pub fn tool(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    for directory in program.ancestors() {
        let candidate = directory.join("tools/bin").join(name);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|part| part.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    bail!("{name} is not installed: run `cargo xtask test`, which installs it into target/tools")
}

/// A directory on a file system of its own in every sandbox, for the cross-device cases.
const OTHER_FILE_SYSTEM: &str = "/run/other";

/// Runs `pjdfstest` in `directory`; its configuration and output go to `scratch`.
pub fn pjdfstest(directory: &Path, scratch: &Path) -> Result<BTreeMap<String, Verdict>> {
    let configuration = scratch.join("pjdfstest.toml");
    fs::write(
        &configuration,
        "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutime_now = {}\nutimensat = {}\n\
         [settings]\nnaptime = 0.01\nallow_remount = false\n\
         [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n",
    )?;
    fs::create_dir_all(OTHER_FILE_SYSTEM)?;
    let output = scratch.join("pjdfstest.out");
    let file = fs::File::create(&output)?;
    let mut child = Command::new(tool("pjdfstest")?)
        .arg("-c")
        .arg(&configuration)
        .arg("-p")
        .arg(directory)
        .args(["-s", OTHER_FILE_SYSTEM])
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("starting pjdfstest")?;
    // Its exit code says whether a case failed; the verdicts say which.
    let ended = wait_for_end(&mut child, Duration::from_secs(240));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let text = fs::read_to_string(&output)?;
    ended.with_context(|| format!("pjdfstest hangs after: {}", text.lines().last().unwrap_or_default()))?;
    let verdicts = verdicts(&text);
    ensure!(text.contains("Summary") && !verdicts.is_empty(), "pjdfstest did not run:\n{text}");
    Ok(verdicts)
}

/// The verdicts in the output of `pjdfstest`.
fn verdicts(text: &str) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut last: Option<String> = None;
    for line in text.lines() {
        if let (Some(reason), Some(name)) = (line.strip_prefix('\t'), &last) {
            match verdicts.get_mut(name) {
                Some(Verdict::Fail(said) | Verdict::Skip(said)) if said.is_empty() => *said = reason.trim().to_owned(),
                _ => {}
            }
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(name), Some(verdict), None) = (words.next(), words.next(), words.next()) else { continue };
        let verdict = match verdict {
            "ok" => Verdict::Pass,
            "FAILED" => Verdict::Fail(String::new()),
            "skipped" => Verdict::Skip(String::new()),
            _ => continue,
        };
        verdicts.insert(name.to_owned(), verdict);
        last = Some(name.to_owned());
    }
    verdicts
}

/// Runs `operations` random operations of `fsx` on a new file in `directory`; every read is compared with what was written.
pub fn fsx(directory: &Path, scratch: &Path, seed: u32, operations: u32) -> Result<()> {
    let configuration = scratch.join("fsx.toml");
    fs::write(
        &configuration,
        "flen = 1048576\n[opsize]\nmax = 262144\n[weights]\nclose_open = 1\nread = 10\nwrite = 10\nmapread = 10\n\
         mapwrite = 10\ninvalidate = 1\ntruncate = 5\nfsync = 1\nfdatasync = 1\nposix_fallocate = 1\npunch_hole = 2\n\
         sendfile = 2\nposix_fadvise = 1\ncopy_file_range = 2\n",
    )?;
    let artifacts = scratch.join(format!("fsx-{seed}"));
    fs::create_dir_all(&artifacts)?;
    let output = artifacts.join("output");
    let file = fs::File::create(&output)?;
    let mut child = Command::new(tool("fsx")?)
        .arg("-f")
        .arg(&configuration)
        .args(["-S", &seed.to_string(), "-N", &operations.to_string(), "-P"])
        .arg(&artifacts)
        .arg(directory.join(format!("fsx-{seed}")))
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("starting fsx")?;
    let ended = wait_for_end(&mut child, Duration::from_secs(240));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let text = fs::read_to_string(&output)?;
    let tail: Vec<&str> = text.lines().rev().take(40).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    let status = ended.with_context(|| format!("fsx seed {seed} hangs:\n{}", tail.join("\n")))?;
    ensure!(status.success(), "fsx seed {seed}: {status}\n{}", tail.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Verdict, verdicts};

    #[test]
    fn reads_the_suite_output() {
        let text =
            "a::b    ok\nc::d   FAILED\n\tassertion\nBacktrace:\ne::f  skipped\n\tno feature\n\nSummary: 1 failed\n";
        let read = verdicts(text);
        assert_eq!(read["a::b"], Verdict::Pass);
        assert_eq!(read["c::d"], Verdict::Fail("assertion".to_owned()));
        assert_eq!(read["e::f"], Verdict::Skip("no feature".to_owned()));
    }
}
