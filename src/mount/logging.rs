//! The log file: GlusterFS's file names and level letters, reopened by path when logrotate asks.
//!
//! Requests are not logged unless they fail in a way that somebody should know about; the log's lock is off the hot path.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::options::LogOptions;

/// The log of this process.
#[derive(Clone)]
pub struct Log(Arc<Target>);

struct Target {
    path: Option<PathBuf>,
    file: Mutex<Option<File>>,
}

impl Log {
    /// Opens the log and sends all that the process logs there, records of the `log` crate included.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(options: &LogOptions) -> io::Result<Log> {
        let file = options.file.as_deref().map(open).transpose()?;
        let log = Log(Arc::new(Target { path: options.file.clone(), file: Mutex::new(file) }));
        let started = tracing_subscriber::fmt()
            .with_max_level(options.level)
            .with_writer(log.clone())
            .with_ansi(false)
            .event_format(GlusterFormat);
        // A second start in one process (tests) keeps the first log.
        let _ = started.finish().try_init();
        Ok(log)
    }

    /// Opens the file anew by its path. The old file stays in use when that fails.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn reopen(&self) -> io::Result<()> {
        if let Some(path) = &self.0.path {
            let file = open(path)?;
            *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.file.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(file) => file.write(line),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `[2026-01-31T10:00:00.000000Z] W [rgfs::net] message`, near enough to the C client's for the same eyes and greps.
struct GlusterFormat;

impl<S, N> FormatEvent<S, N> for GlusterFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Records of the `log` crate carry their level and origin in fields.
        let of_log = event.normalized_metadata();
        let metadata = of_log.as_ref().unwrap_or_else(|| event.metadata());
        writer.write_char('[')?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "] {} [{}] ", letter(*metadata.level()), metadata.target())?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// GlusterFS's letter of a level.
fn letter(level: Level) -> char {
    match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        Level::INFO => 'I',
        Level::DEBUG => 'D',
        Level::TRACE => 'T',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reopens_by_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/mnt.log");
        let file = Mutex::new(Some(open(&path).unwrap()));
        let log = Log(Arc::new(Target { path: Some(path.clone()), file }));
        (&log).write_all(b"one\n").unwrap();
        let rotated = directory.path().join("old");
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen().unwrap();
        (&log).write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read(rotated).unwrap(), b"one\n");
        assert_eq!(std::fs::read(path).unwrap(), b"two\n");
    }
}
