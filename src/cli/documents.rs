//! What packagers want: the man page and shell completions, made from the options themselves.

use std::io::{self, Write};

use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use super::arguments::Arguments;
use super::request::Refused;

/// `rgfs completions SHELL`.
#[derive(Clone, Debug, Parser)]
#[command(name = "rgfs completions")]
struct Completions {
    /// Shell to make them for
    shell: Shell,
}

/// Prints the man page.
///
/// # Errors
/// Standard output cannot be written.
pub fn man(out: &mut dyn Write) -> io::Result<()> {
    clap_mangen::Man::new(Arguments::command()).section("8").render(out)
}

/// Prints the completions that the arguments, the program's name first, ask for.
///
/// # Errors
/// They name no shell.
pub fn completions(arguments: &[String], out: &mut dyn Write) -> Result<(), Refused> {
    let Completions { shell } = Completions::try_parse_from(arguments)
        .map_err(|error| Refused { code: if error.use_stderr() { 64 } else { 0 }, message: error.to_string() })?;
    clap_complete::generate(shell, &mut Arguments::command(), "rgfs", out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_name_the_options() {
        let (mut page, mut script) = (Vec::new(), Vec::new());
        man(&mut page).unwrap();
        assert!(String::from_utf8(page).unwrap().contains("volfile\\-server"));
        assert_eq!(completions(&["rgfs".into(), "bash".into()], &mut script), Ok(()));
        assert!(String::from_utf8(script).unwrap().contains("--volfile-server"));
        assert_eq!(completions(&["rgfs".into(), "cmd".into()], &mut Vec::new()).unwrap_err().code, 64);
    }
}
