//! Faults of the configuration, each one line with file, line and key.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use crate::enrich::{GeographyError, NetworksError, TagMapError};
use crate::interfaces::InterfacesMapError;

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
    /// A variable of the environment is not understood.
    #[error("{name}: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong, with the nearest key if one is unknown.
        reason: String,
    },
    /// The file with the operator's interface numbers cannot be used.
    #[error("capture.interfaces_map: {0}")]
    InterfacesMap(#[from] InterfacesMapError),
    /// The file with the operator's networks cannot be used.
    #[error("enrich.networks_file: {0}")]
    Networks(#[from] NetworksError),
    /// The file that says where addresses are cannot be used.
    #[error("enrich.geoip_file: {0}")]
    Geography(#[from] GeographyError),
    /// The rules for tags and labels cannot be used.
    #[error("enrich.tag_map: {0}")]
    TagMap(#[from] TagMapError),
    /// The rules for tags and labels of an aggregate or an export cannot be used.
    #[error("{key}: {error}")]
    OwnTagMap {
        /// The key with the number of the table, from 0.
        key: String,
        /// Why.
        error: TagMapError,
    },
    /// A value cannot be used.
    #[error("{place}: {value:?} cannot be used: {reason}")]
    Value {
        /// Where it was given: file, line, column and key; or a flag; or, if that is not known yet, the key.
        place: String,
        /// Section and key; in an array of tables with the number of the table, from 0, in brackets.
        key: String,
        /// The value.
        value: String,
        /// Why.
        reason: String,
        /// Whether time may mend it.
        may_pass: bool,
    },
}

impl ConfigError {
    /// Whether the same configuration may be right some time later: a name has no address now.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Value { may_pass: true, .. })
    }

    /// The same fault of a value that was given in a file, which has this text.
    #[must_use]
    pub fn in_file(mut self, file: &Path, text: &str) -> Self {
        if let Self::Value { place, key, .. } = &mut self {
            let (line, column) = position(text, offset_of(text, key).unwrap_or(0));
            // The place says which table of an array it is.
            let name = match (key.split_once('['), key.split_once(']')) {
                (Some((array, _)), Some((_, name))) => format!("{array}{name}"),
                _ => key.clone(),
            };
            *place = format!("{}:{line}:{column}: {name}", file.display());
        }
        self
    }

    /// The same fault of a value that was given by the environment, or else by a flag.
    #[must_use]
    pub fn of_overrides(mut self, environment: &Environment) -> Self {
        let Self::Value { place, key, .. } = &mut self else { return self };
        if let Some(variable) = environment.name_of(key) {
            variable.clone_into(place);
        } else if let Some((_, name)) = key.rsplit_once('.') {
            // Flags are named as the keys are, but for lists, of which a flag gives one entry.
            let flag = name.trim_end_matches('s').replace('_', "-");
            *place = format!("--{flag}");
        }
        self
    }
}

/// Where in the text a key such as `flow.idle_timeout` or `capture.interface[1].hook` is given.
fn offset_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut offset = None;
    for part in key.split('.') {
        let (name, number) = match part.split_once('[') {
            Some((name, number)) => (name, number.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
        offset = Some(key.span().start);
        let value = match number {
            Some(number) => {
                let entry = value.get_ref().as_array()?.get(number)?;
                offset = Some(entry.span().start);
                entry.get_ref()
            }
            None => value.get_ref(),
        };
        let DeValue::Table(inner) = value else { break };
        table = inner;
    }
    offset
}

/// Line and column, from 1, of an offset in octets.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// Makes one line of what the TOML parser says.
pub(super) fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    ConfigError::Syntax { file: file.to_owned(), line, column, reason: reason(error.message()) }
}

/// The parser's message; for an unknown key, with the nearest known one instead of all of them.
pub(super) fn reason(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("invalid type: ")
        && let Some((found, expected)) = rest.rsplit_once(", expected ")
    {
        // Without the value, which may be a password.
        let kind = found.split(['`', '"']).next().unwrap_or_default().trim_end();
        return format!("invalid type: {kind}, expected {expected}");
    }
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.lines().collect::<Vec<_>>().join(", ");
    };
    let Some((key, known)) = rest.split_once('`') else { return message.to_owned() };
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(key, known));
    match nearest {
        Some(nearest) => format!("unknown key {key:?}; did you mean {nearest:?}?"),
        None => format!("unknown key {key:?}"),
    }
}
