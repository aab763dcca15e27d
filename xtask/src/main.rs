//! The project's own tasks: `cargo xtask test`, `demo`, `bench`, `fuzz`, `soak`.

mod bench;
mod demo;
mod fuzz;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the rgfs project; run them as root on a Debian machine")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing and run all tests, also those against real bricks
    Test(test::Options),
    /// Real bricks on this machine and a mount to look at on /home/gfs
    Demo(demo::Options),
    /// rgfs against the C client on the same volume, in one run
    Bench(bench::Options),
    /// Run every fuzz target
    Fuzz(fuzz::Options),
    /// The long suites: fsx with 5 x 20,000 operations, pjdfstest, fuzz targets, dependency checks
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Soak(options) => soak::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
