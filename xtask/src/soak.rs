//! `cargo xtask soak`: the suites that take too long for every change.

use anyhow::Result;
use clap::Args;
use support::client::PROGRAM_VARIABLE;
use support::sandbox::{SOAK_VARIABLE, say};

use crate::{fuzz, setup};

#[derive(Args)]
pub(crate) struct Options {
    /// Leave out the fuzz targets
    #[arg(long)]
    no_fuzz: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::packages()?;
    setup::suites()?;
    // The client is the one that users get; what drives it needs no optimiser.
    let program = setup::release_build()?;
    let long = |arguments: &[&str]| -> Result<()> {
        setup::run(
            setup::cargo()?
                .args(["test", "--no-fail-fast"])
                .args(arguments)
                .env(SOAK_VARIABLE, "1")
                .env(PROGRAM_VARIABLE, &program),
        )
    };
    long(&["--test", "fsx", "--test", "posix", "--", "--include-ignored"])?;
    // The yardsticks with the C client alone are ignored there, and stay so: it fails some.
    long(&["--test", "replicate_*", "--test", "distribute_*"])?;
    // Replicate on bricks in memory, with faults that the seeds choose.
    let schedules = "simulation::schedules::nothing_that_was_acknowledged_is_lost";
    setup::run(setup::cargo()?.args(["test", "--release", "--lib", schedules]).env("RGFS_SEEDS", "100000"))?;
    if !options.no_fuzz {
        fuzz::run(&fuzz::Options::thorough())?;
    }
    setup::install("cargo-deny", None)?;
    setup::run(setup::cargo()?.args(["deny", "check", "licenses", "bans", "sources"]))?;
    // The database of advisories comes from the network; without it the rest still counts.
    if setup::run(setup::cargo()?.args(["deny", "check", "advisories"])).is_err() {
        say("==> advisories were not checked, or one applies: see above");
    }
    Ok(())
}
