//! Volumes that grow and shrink: add-brick, rebalance, remove-brick, by the command line of GlusterFS.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::GlusterdVolume;
use crate::process::is_running;
use crate::sandbox::GLUSTERD_HOST;
use crate::wait;

/// What rebalance says that it did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    /// Files moved.
    pub files: u64,
    /// Files that it could not move.
    pub failures: u64,
    /// Files that it left alone: locked, or hard links.
    pub skipped: u64,
}

impl GlusterdVolume {
    /// Adds `count` bricks. Nothing moves there before a rebalance.
    pub fn add_bricks(&mut self, count: usize) -> Result<()> {
        let place = self.bricks.first().and_then(|brick| brick.parent()).map(Path::to_path_buf);
        let place = place.ok_or_else(|| anyhow!("the volume has no brick"))?;
        let mut directories: Vec<PathBuf> = Vec::new();
        for number in 1.. {
            if directories.len() == count {
                break;
            }
            let directory = place.join(format!("{}-b{number}", self.name));
            if !directory.exists() {
                fs::create_dir_all(&directory)?;
                directories.push(directory);
            }
        }
        let names: Vec<String> = directories.iter().map(|directory| brick_name(directory)).collect();
        let mut arguments = vec!["add-brick", self.name.as_str()];
        arguments.extend(names.iter().map(String::as_str));
        arguments.push("force");
        self.gluster(&arguments)?;
        self.bricks.extend(directories);
        self.wait_for_bricks()
    }

    /// Moves what does not lie where its name belongs; returns when that is done.
    pub fn rebalance(&self, limit: Duration) -> Result<Moves> {
        self.gluster(&["rebalance", &self.name, "start"])?;
        self.wait_for_moves(&["rebalance", &self.name, "status", "--xml"], limit)
    }

    /// Moves all files off some bricks (from 0); returns when that is done. They are still in the volume then.
    pub fn empty_bricks(&self, which: Range<usize>, limit: Duration) -> Result<Moves> {
        self.remove_brick(&which, "start")?;
        let bricks = self.brick_names(&which)?;
        let mut arguments = vec!["remove-brick", self.name.as_str()];
        arguments.extend(bricks.iter().map(String::as_str));
        arguments.extend(["status", "--xml"]);
        self.wait_for_moves(&arguments, limit)
    }

    /// Gives up taking bricks (from 0) away, so that it can be begun anew for the files that could not be moved.
    pub fn stop_removal(&self, which: Range<usize>) -> Result<()> {
        self.remove_brick(&which, "stop").map(drop)
    }

    /// Takes emptied bricks (from 0) out of the volume. Whether they are empty is for the caller to know: glusterd would refuse when
    /// any file, also one between other bricks, could not be moved.
    pub fn commit_removal(&mut self, which: Range<usize>) -> Result<()> {
        self.remove_brick(&which, "force")?;
        self.bricks.drain(which);
        Ok(())
    }

    fn remove_brick(&self, which: &Range<usize>, step: &str) -> Result<String> {
        let bricks = self.brick_names(which)?;
        let mut arguments = vec!["remove-brick", self.name.as_str()];
        arguments.extend(bricks.iter().map(String::as_str));
        arguments.push(step);
        self.gluster(&arguments)
    }

    fn brick_names(&self, which: &Range<usize>) -> Result<Vec<String>> {
        let bricks = self.bricks.get(which.clone()).ok_or_else(|| anyhow!("no bricks {which:?}"))?;
        Ok(bricks.iter().map(|directory| brick_name(directory)).collect())
    }

    fn wait_for_moves(&self, status: &[&str], limit: Duration) -> Result<Moves> {
        wait::for_value("the files are moved", limit, || {
            // glusterd asks the daemon. While that is ending this fails, or the answer is taken for news when the end was known
            // already: glusterd says "in progress" for ever then.
            if is_running(&format!("rebalance/{}", self.name)) {
                return Ok(None);
            }
            let text = self.gluster(status).unwrap_or_default();
            let Some((_, total)) = text.split_once("<aggregate>") else { return Ok(None) };
            match field(total, "statusStr")? {
                "completed" => {}
                "failed" | "stopped" => bail!("moving files ended badly: {total}"),
                _ => return Ok(None),
            }
            let number = |name| Ok::<u64, anyhow::Error>(field(total, name)?.parse()?);
            Ok(Some(Moves { files: number("files")?, failures: number("failures")?, skipped: number("skipped")? }))
        })
    }
}

fn brick_name(directory: &Path) -> String {
    format!("{GLUSTERD_HOST}:{}", directory.display())
}

/// The text of the first element `name`.
fn field<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let found = text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
    found.map(|(value, _)| value.trim()).with_context(|| format!("no <{name}> in {text}"))
}
