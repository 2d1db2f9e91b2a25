//! Why a tag map cannot be used.

use std::path::PathBuf;

/// The tag map cannot be used. Each message is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagMapError {
    /// The file cannot be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A rule cannot be used.
    #[error("{place}: {reason}")]
    Row {
        /// File and line, or the table of the configuration.
        place: String,
        /// What is wrong.
        reason: String,
    },
}
