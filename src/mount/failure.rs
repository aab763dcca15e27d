//! Why a mount did not come about: one line for the user, one exit code for scripts (`glusterfsd.c`).

use rgfs_protocol::Errno;

/// Exit code of everything that has no code of its own.
pub const EXIT_FAILED: i32 = 1;
/// Exit code when no volfile server can be reached: ENOTCONN.
pub const EXIT_NO_SERVER: i32 = 107;
/// Exit code of a client that served and was told to end, by a signal or by umount.
pub const EXIT_ENDED: i32 = 15;

/// A mount that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Exit code.
    pub code: i32,
    /// Names the server and the step, in one line.
    pub message: String,
}

impl Failure {
    /// A failure with the code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Failure { code: EXIT_FAILED, message: message.into() }
    }

    /// No volfile server was reached.
    pub fn no_server(message: impl Into<String>) -> Self {
        Failure { code: EXIT_NO_SERVER, message: message.into() }
    }

    /// The volfile server refused; its errno is the exit code.
    pub fn refused(errno: Errno, message: impl Into<String>) -> Self {
        let code = errno.raw();
        Failure { code: if (1..256).contains(&code) { code } else { EXIT_FAILED }, message: message.into() }
    }

    /// What failed, and the system's reason.
    pub fn io(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Failure::new(format!("{what}: {error}"))
    }
}
