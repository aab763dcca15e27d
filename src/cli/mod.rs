//! The command line: glusterfs spellings, the mount helper, subcommands.

use std::ffi::OsString;
use std::path::Path;

use request::{Refused, Request};

pub mod arguments;
pub mod documents;
pub mod mount_helper;
pub mod mount_options;
pub mod request;
pub mod spec;
pub mod values;
pub mod volfile_server;

/// Answer of `--version`. Scripts take the second word for the version of GlusterFS that is spoken.
pub const VERSION_LINE: &str = concat!("glusterfs 10.3 (rgfs ", env!("CARGO_PKG_VERSION"), ", a native client)");

/// Where logs are written.
pub const LOG_DIRECTORY: &str = "/var/log/glusterfs";

/// Where statedumps are written.
pub const STATEDUMP_DIRECTORY: &str = "/var/run/gluster";

/// Runs the command line, the program's name first, and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let texts: Result<Vec<String>, OsString> = arguments.into_iter().map(OsString::into_string).collect();
    let Ok(mut texts) = texts else {
        return refuse(&Refused::usage("the command line is not UTF-8"));
    };
    let program = texts.first().and_then(|program| Path::new(program).file_name()?.to_str()).unwrap_or("rgfs");
    if matches!(program, "mount.glusterfs" | "mount.rgfs" | "mount.fuse.glusterfs") {
        return mount_helper::run(&texts);
    }
    match texts.get(1).map(String::as_str) {
        Some("mount-helper") => {
            texts.remove(0);
            mount_helper::run(&texts)
        }
        Some("volfile-server") => volfile_server::run(&texts[1..]).map_or_else(|refused| refuse(&refused), |()| 0),
        Some("completions") => {
            documents::completions(&texts[1..], &mut std::io::stdout()).map_or_else(|r| refuse(&r), |()| 0)
        }
        Some("man") => i32::from(documents::man(&mut std::io::stdout()).is_err()),
        _ => match request::parse(texts) {
            Ok(Request::Mount(options, warnings)) => crate::mount::run(*options, &warnings),
            Ok(Request::Print(text)) => {
                print!("{text}");
                0
            }
            Err(refused) => refuse(&refused),
        },
    }
}

/// Says on standard error what is wrong with the command line.
fn refuse(refused: &Refused) -> i32 {
    eprintln!("{}", refused.message.trim_end());
    refused.code
}
