//! `rgfs volfile-server`: serves static volfiles to clients.

#![allow(rustdoc::broken_intra_doc_links, reason = "the comments are the help texts; brackets hold defaults")]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use super::request::Refused;
use super::values;
use crate::mount::logging::Log;
use crate::mount::options::LogOptions;
use crate::net::volfile_server::serve;

/// Serves the volfiles of a directory: KEY.vol to clients that ask for KEY.
#[derive(Clone, Debug, Parser)]
#[command(name = "rgfs volfile-server")]
pub struct ServerArguments {
    /// Directory of the volfiles
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: PathBuf,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:24007")]
    pub listen: SocketAddr,
    /// A brick that shares the port: connections that do not ask for a volfile are relayed to it
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub brick: Option<SocketAddr>,
    /// Log level: TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL or NONE [INFO]
    #[arg(long, short = 'L', value_name = "LEVEL", value_parser = values::log_level)]
    pub log_level: Option<LevelFilter>,
    /// Log file, - for standard error [-]
    #[arg(long, short = 'l', value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// Serves until SIGTERM or SIGINT; `arguments` begin with the program's name.
///
/// # Errors
/// The arguments are wrong, or it cannot listen there or read the directory.
pub fn run(arguments: &[String]) -> Result<(), Refused> {
    let arguments = ServerArguments::try_parse_from(arguments)
        .map_err(|error| Refused { code: if error.use_stderr() { 64 } else { 0 }, message: error.to_string() })?;
    let file = arguments.log_file.filter(|path| path.as_os_str() != "-");
    let level = arguments.log_level.unwrap_or(LevelFilter::INFO);
    let failed = |what: String| move |error: io::Error| Refused { code: 1, message: format!("rgfs: {what}: {error}") };
    Log::start(&LogOptions { level, file }).map_err(failed("--log-file".into()))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed("runtime".into()))?;
    let listener = TcpListener::bind(arguments.listen).map_err(failed(format!("listening on {}", arguments.listen)))?;
    let place = arguments.directory.display().to_string();
    tracing::info!("serving the volfiles of {place} on {}", arguments.listen);
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let ended = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve(listener, arguments.directory, arguments.brick, ended).await
    });
    served.map_err(failed(format!("serving {place}")))
}
