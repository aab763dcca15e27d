//! Why a graph cannot be brought to life.

use std::sync::Arc;

use crate::Translator;
use crate::volfile::{OptionError, Volume};

/// A volume that cannot be built.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BuildError {
    /// The type changes what data means, and this client does not know how yet.
    #[error("volume {volume}: type {kind} is not implemented yet: {remedy}")]
    NotImplemented {
        /// Name of the volume.
        volume: Arc<str>,
        /// Type, as written.
        kind: Arc<str>,
        /// What the user can do.
        remedy: Arc<str>,
    },
    /// An option has a value that the translator cannot use.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// An option that the translator needs is missing.
    #[error("volume {volume} ({kind}): option {option} is missing; add a line `option {option} …` to the volfile")]
    MissingOption {
        /// Name of the volume.
        volume: Arc<str>,
        /// Type, as written.
        kind: Arc<str>,
        /// The option.
        option: &'static str,
    },
    /// Something else; the text says what.
    #[error("volume {volume} ({kind}): {reason}")]
    Refused {
        /// Name of the volume.
        volume: Arc<str>,
        /// Type, as written.
        kind: Arc<str>,
        /// What is wrong, and what to do.
        reason: Arc<str>,
    },
    /// The graph has no volume at all.
    #[error("the graph has no volumes")]
    Empty,
}

impl BuildError {
    /// [`BuildError::MissingOption`] of `volume`.
    pub fn missing(volume: &Volume, option: &'static str) -> Self {
        BuildError::MissingOption { volume: volume.name.clone(), kind: volume.kind.written.clone(), option }
    }

    /// The only child of `volume`, for translators that have exactly one.
    ///
    /// # Errors
    /// When there are more or none.
    pub fn only_child(
        volume: &Volume,
        children: Vec<Arc<dyn Translator>>,
    ) -> Result<[Arc<dyn Translator>; 1], BuildError> {
        let count = children.len();
        let wrong = |_| BuildError::refused(volume, format!("it has {count} subvolumes, but it needs exactly one"));
        children.try_into().map_err(wrong)
    }

    /// [`BuildError::Refused`] of `volume`.
    pub fn refused(volume: &Volume, reason: impl Into<Arc<str>>) -> Self {
        BuildError::Refused { volume: volume.name.clone(), kind: volume.kind.written.clone(), reason: reason.into() }
    }
}
