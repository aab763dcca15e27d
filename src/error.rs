//! Why a fop failed: the errno for the caller and the cause for people.

use std::fmt;
use std::sync::Arc;

use rgfs_protocol::{Dict, Errno};

/// A failed fop: an errno and a cause that names the translator (a leaf names its brick) and the step.
#[derive(Clone, Debug)]
pub struct FopError {
    /// What the caller gets.
    pub errno: Errno,
    /// Name of the translator that noticed, as in the volfile (`vol-client-0`).
    pub origin: Arc<str>,
    /// What it was doing: a fop's name or a step of one.
    pub step: &'static str,
    /// More, where there is more to say.
    pub detail: Option<Box<str>>,
    /// What the brick answered besides the errno, where it answered anything (`glusterfs.parent-entrylk`...).
    pub xdata: Option<Box<Dict>>,
    /// It is the failure of a write that was acknowledged; a later fop reports it.
    pub is_late: bool,
}

/// Result of a fop.
pub type FopResult<T> = Result<T, FopError>;

impl FopError {
    /// An error without detail.
    pub fn new(errno: Errno, origin: &Arc<str>, step: &'static str) -> Self {
        FopError { errno, origin: origin.clone(), step, detail: None, xdata: None, is_late: false }
    }

    /// Adds what a reader of the log wants to know.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }

    /// Adds what the brick answered besides.
    #[must_use]
    pub fn with_xdata(mut self, xdata: Dict) -> Self {
        self.xdata = (!xdata.is_empty()).then(|| Box::new(xdata));
        self
    }

    /// The same cause with another errno.
    #[must_use]
    pub fn with_errno(mut self, errno: Errno) -> Self {
        self.errno = errno;
        self
    }
}

impl fmt::Display for FopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin, self.step, self.errno)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FopError {}
