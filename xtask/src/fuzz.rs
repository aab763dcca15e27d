//! `cargo xtask fuzz`: every target in `fuzz/`, each for a bounded time and with bounded memory.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use support::process;

use crate::setup;

#[derive(Args)]
pub(crate) struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 180)]
    seconds: u32,
    /// Only these targets
    targets: Vec<String>,
}

impl Options {
    /// All targets, three minutes each.
    pub(crate) fn thorough() -> Self {
        Self { seconds: 180, targets: Vec::new() }
    }
}

/// More than this is a decoder that believes a length from outside.
const MEMORY_LIMIT_MIB: u32 = 1024;

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::install("cargo-fuzz", None)?;
    let directory = setup::root()?.join("fuzz");
    // Coverage instrumentation is a nightly feature; the stable compiler has it under this name. The decoders have no unsafe code:
    // without the address sanitizer they run several times as often.
    let fuzz = |arguments: &[&str]| -> Result<Command> {
        let mut command = setup::cargo()?;
        command.current_dir(&directory).env("RUSTC_BOOTSTRAP", "1").arg("fuzz").args(arguments);
        Ok(command)
    };
    let listed = process::run(&mut fuzz(&["list"])?).context("listing the targets of fuzz/")?;
    let targets: Vec<&str> = listed
        .lines()
        .filter(|name| options.targets.is_empty() || options.targets.iter().any(|wanted| wanted == name))
        .collect();
    ensure!(!targets.is_empty(), "no such fuzz target; there are:\n{listed}");
    for target in targets {
        let time = format!("-max_total_time={}", options.seconds);
        let memory = format!("-rss_limit_mb={MEMORY_LIMIT_MIB}");
        setup::run(&mut fuzz(&["run", "--sanitizer=none", target, "--", &time, &memory])?)?;
    }
    Ok(())
}
