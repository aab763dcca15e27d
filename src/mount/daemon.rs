//! Going to the background without lying: the process forks before it has threads, the child does all the work, and the
//! parent waits for its word and exits with the truth.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use super::failure::Failure;

/// Longest message of a child that the parent reads, in bytes.
const MESSAGE_MAX: u64 = 64 * 1024;

/// The two sides of a fork.
pub enum Role {
    /// The process that the user started.
    Parent(Watch),
    /// The process that will serve.
    Child(Reporter),
}

/// The parent's end: hears what became of the child.
pub struct Watch(File);

/// The child's end: says once what became of the mount.
pub struct Reporter(Option<File>);

/// Splits the process. The child leaves the session of the terminal.
///
/// # Errors
/// The system has no pipe or process to give.
pub fn fork() -> io::Result<Role> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    if split()? {
        drop(reader);
        rustix::process::setsid()?;
        Ok(Role::Child(Reporter(Some(writer.into()))))
    } else {
        Ok(Role::Parent(Watch(reader.into())))
    }
}

/// fork(2): true in the child.
#[allow(unsafe_code)]
fn split() -> io::Result<bool> {
    // SAFETY: called before the process starts any thread, so the child inherits no lock held by another thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(true),
        _ => Ok(false),
    }
}

impl Watch {
    /// Waits for the child: `Ok` when the mount is there.
    ///
    /// # Errors
    /// What the child says, or that it died without a word.
    pub fn outcome(self) -> Result<(), Failure> {
        let mut report = Vec::new();
        let read = self.0.take(MESSAGE_MAX).read_to_end(&mut report);
        match (read, report.split_first_chunk::<4>()) {
            (Ok(_), Some((code, message))) => match i32::from_le_bytes(*code) {
                0 => Ok(()),
                code => Err(Failure { code, message: String::from_utf8_lossy(message).into_owned() }),
            },
            _ => Err(Failure::new("the background process died before the mount was there; see its log file")),
        }
    }
}

impl Reporter {
    /// A process that stays in the foreground reports to nobody.
    pub fn foreground() -> Self {
        Reporter(None)
    }

    /// True when somebody waits for a word.
    pub fn in_background(&self) -> bool {
        self.0.is_some()
    }

    /// The mount is there: lets the parent go and the terminal, too.
    ///
    /// # Errors
    /// The parent is gone (nobody wants the mount any more), or /dev/null cannot be opened.
    pub fn ready(self) -> io::Result<()> {
        let Some(mut pipe) = self.0 else { return Ok(()) };
        rustix::process::chdir("/")?;
        let null: OwnedFd = OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        pipe.write_all(&0_i32.to_le_bytes())
    }

    /// There will be no mount: the parent prints why, or in the foreground this process does.
    pub fn failed(self, failure: &Failure) {
        let mut report = failure.code.to_le_bytes().to_vec();
        report.extend_from_slice(failure.message.as_bytes());
        match self.0 {
            // When the parent is gone there is nobody left to tell.
            Some(mut pipe) => drop(pipe.write_all(&report)),
            None => eprintln!("rgfs: {failure}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Watch, Reporter) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (Watch(reader.into()), Reporter(Some(writer.into())))
    }

    #[test]
    fn the_parent_hears_why() {
        let (watch, reporter) = pair();
        let failure = Failure { code: 107, message: "srv: connection refused".into() };
        reporter.failed(&failure);
        assert_eq!(watch.outcome(), Err(failure));
    }

    #[test]
    fn silence_is_failure() {
        let (watch, reporter) = pair();
        drop(reporter);
        assert_eq!(watch.outcome().unwrap_err().code, 1);
    }
}
