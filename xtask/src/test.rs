//! `cargo xtask test`: units, properties, captured bytes, and the integration tests against real bricks.

use anyhow::Result;
use clap::Args;

use crate::setup;

#[derive(Args)]
pub(crate) struct Options {
    /// Leave out the integration tests
    #[arg(long)]
    units_only: bool,
    /// Names of tests to run; all if none
    filters: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.units_only {
        setup::packages()?;
        setup::suites()?;
    }
    let mut command = setup::cargo()?;
    command.args(["test", "--workspace", "--no-fail-fast"]);
    if options.units_only {
        command.arg("--lib");
    }
    command.arg("--").args(&options.filters);
    setup::run(&mut command)
}
