//! What the operator should know about a line of pmacct's configuration.

use std::fmt;
use std::path::{Path, PathBuf};

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// pathflow does without it, and nothing is lost.
    NotNeeded,
    /// It is translated, but something differs.
    Differs,
    /// pathflow cannot do it.
    NotHonoured,
}

/// A remark about a line. Values are never repeated in it: they may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The configuration, or a map it names.
    pub file: PathBuf,
    /// Line, from 1; 0 = the file as a whole.
    pub line: usize,
    /// The key as written; empty = none.
    pub key: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, and what to do.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Remarks as they are made.
#[derive(Debug, Default)]
pub struct Remarks(Vec<Remark>);

impl Remarks {
    /// Adds one, unless it was made before.
    pub fn add(&mut self, file: &Path, line: usize, key: &str, verdict: Verdict, text: impl Into<String>) {
        let remark = Remark { file: file.to_owned(), line, key: key.to_owned(), verdict, text: text.into() };
        if !self.0.contains(&remark) {
            self.0.push(remark);
        }
    }

    /// All of them: those of `first` by line, then those of other files.
    #[must_use]
    pub fn sorted(mut self, first: &Path) -> Vec<Remark> {
        self.0.sort_by(|a, b| (a.file != first, &a.file, a.line).cmp(&(b.file != first, &b.file, b.line)));
        self.0
    }
}
