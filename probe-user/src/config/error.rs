//! Faults of the configuration, each one line with file, line and key.

use std::path::{Path, PathBuf};

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not understood.
    #[error("{}:{line}:{column}: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong, with the nearest key if one is unknown.
        reason: String,
    },
    /// A value cannot be used.
    #[error("{}{key}: {value:?} cannot be used: {reason}", file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default())]
    Value {
        /// The file, if there is one.
        file: Option<PathBuf>,
        /// Section and key.
        key: &'static str,
        /// The value.
        value: String,
        /// Why.
        reason: String,
    },
}

impl ConfigError {
    /// Adds the file to an error that does not name one.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        if let Self::Value { file, .. } = &mut self {
            *file = Some(path.to_owned());
        }
        self
    }
}

/// Makes one line of what the TOML parser says.
pub(super) fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    ConfigError::Syntax { file: file.to_owned(), line, column, reason: reason(error.message()) }
}

/// The parser's message; for an unknown key, with the nearest known one instead of all of them.
fn reason(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.lines().collect::<Vec<_>>().join(", ");
    };
    let Some((key, known)) = rest.split_once('`') else { return message.to_owned() };
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let nearest =
        known.iter().max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
    match nearest {
        Some(nearest) => format!("unknown key {key:?}; did you mean {nearest:?}?"),
        None => format!("unknown key {key:?}"),
    }
}
