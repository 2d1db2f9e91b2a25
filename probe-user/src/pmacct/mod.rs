//! Configurations of pmacct's daemons, translated into pathflow's.
//!
//! [`import`] reads a configuration and the maps that have no counterpart, and makes a TOML document of it, with a
//! remark for each line that cannot be honoured as it stands. The document is read and checked like any other
//! configuration; a fault in it is told by the line of pmacct's file that it is from. Interfaces map, networks file and
//! tag map are read by pathflow itself: the document names the same files.
//!
//! Order: [`configuration`] (lines) to [`translate`] (by area) to [`document`] (TOML).

pub mod configuration;
pub mod document;
mod maps;
pub mod remark;
mod translate;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

pub use remark::{Remark, Verdict};

use crate::config::raw::Raw;
use crate::config::{self, ConfigError};
use configuration::Configuration;
use document::Document;

/// The configuration cannot be translated.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A line is not understood.
    #[error("{}:{line}: {reason}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong, after the key if the line has one.
        reason: String,
    },
    /// What was made of the file is not a right configuration, for a reason that no line of it has.
    #[error("{}: {source}", file.display())]
    Translation {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: Box<ConfigError>,
    },
}

/// A configuration in pathflow's terms.
#[derive(Clone, Debug)]
pub struct Imported {
    /// As it would be read from a file.
    pub raw: Raw,
    /// What the operator should know, by line.
    pub remarks: Vec<Remark>,
    /// Whether the TOML holds passwords or the like.
    pub has_secrets: bool,
    /// The configuration as TOML, with the remarks at its head.
    pub toml: String,
}

/// Reads `file` and the maps it names, and checks what it makes of them.
///
/// # Errors
/// [`ImportError`], naming file, line and key.
pub fn import(file: &Path) -> Result<Imported, ImportError> {
    let text = fs::read_to_string(file)
        .map_err(|error| ImportError::Read { file: file.to_owned(), reason: error.to_string() })?;
    let configuration = Configuration::parse(file, &text)?;
    let (document, remarks) = translate::translate(&configuration)?;
    let raw = config::parse(file, &document.text()).map_err(|error| fault(file, &document, error))?;
    let toml = toml(file, &document, &remarks);
    Ok(Imported { raw, remarks, has_secrets: document.has_secrets(), toml })
}

/// The document, with the remarks at its head.
fn toml(file: &Path, document: &Document, remarks: &[Remark]) -> String {
    let mut text = format!("# From {} by `pathflow import`.\n", file.display());
    for remark in remarks {
        let _ = writeln!(text, "# {remark}");
    }
    text + &document.text()
}

impl Imported {
    /// The remarks on what differs or cannot be done.
    pub fn warnings(&self) -> impl Iterator<Item = &Remark> {
        self.remarks.iter().filter(|remark| remark.verdict != Verdict::NotNeeded)
    }
}

/// A fault of the document as one of the line that the value is from.
fn fault(file: &Path, document: &Document, error: ConfigError) -> ImportError {
    let (key, reason) = match &error {
        ConfigError::Value { key, value, reason, .. } => {
            let name = key.rsplit('.').next().unwrap_or_default();
            let value = if document::is_secret(name) { "it" } else { &format!("{value:?}") };
            (key.clone(), format!("{value} cannot be used: {reason}"))
        }
        // Of a file that the document names: "KEY: FILE:LINE: REASON".
        other => {
            let text = other.to_string();
            let (key, reason) = text.split_once(": ").unwrap_or(("", &text));
            (key.to_owned(), reason.to_owned())
        }
    };
    match document.origin_of(&key) {
        Some(origin) => ImportError::Line {
            file: file.to_owned(),
            line: origin.line,
            reason: format!("{}: {reason}", origin.key),
        },
        None => ImportError::Translation { file: file.to_owned(), source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests;
