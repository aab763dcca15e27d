//! The `rgfs` program: reads the command line, runs it, exits with its code.

fn main() {
    std::process::exit(rgfs::cli::run(std::env::args_os()));
}
