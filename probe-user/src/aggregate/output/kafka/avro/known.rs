//! Ids that a registry has told earlier runs, in a file beside the spool.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::registry::{Ids, Wanted};
use crate::written_file;

const NAME: &str = "schema-ids.json";
/// Schemas that are remembered: those of keys that were changed, and perhaps are changed back.
const MOST: usize = 32;

/// What is known.
#[derive(Debug)]
pub(super) struct KnownIds {
    path: PathBuf,
    registry: String,
    /// The latest ones first.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    registry: String,
    subject: String,
    schema: String,
    id: u32,
}

impl KnownIds {
    /// What the file in `folder` says. What is wrong with it is said, and it is as if it were not there.
    pub(super) fn read(folder: &Path, registry: &str) -> Self {
        let path = folder.join(NAME);
        let entries = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let entries = entries.unwrap_or_else(|error| {
            warn!("{}: {error}; rows wait for the schema registry", path.display());
            Vec::new()
        });
        Self { path, registry: registry.to_owned(), entries }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The ids of these schemas, if all are known.
    pub(super) fn ids(&self, wanted: &[Wanted]) -> Option<Ids> {
        let mut ids = Ids::default();
        for wanted in wanted {
            ids.set(wanted.record, self.entries.iter().find(|entry| self.is(entry, wanted))?.id);
        }
        Some(ids)
    }

    /// Notes ids. The file is as it was or as it will be, whatever happens.
    pub(super) fn write(&mut self, wanted: &[Wanted], ids: Ids) -> io::Result<()> {
        if self.ids(wanted) == Some(ids) {
            return Ok(());
        }
        let mut entries: Vec<Entry> = wanted.iter().map(|wanted| self.entry(wanted, ids)).collect();
        let others = self.entries.iter().filter(|entry| !wanted.iter().any(|wanted| self.is(entry, wanted)));
        entries.extend(others.cloned());
        entries.truncate(MOST);
        self.entries = entries;
        let part = self.path.with_extension("part");
        written_file::replace(&part, &serde_json::to_vec_pretty(&self.entries)?)?.sync_all()?;
        fs::rename(part, &self.path)
    }

    fn is(&self, entry: &Entry, wanted: &Wanted) -> bool {
        (&entry.registry, &entry.subject, &entry.schema) == (&self.registry, &wanted.subject, &wanted.schema)
    }

    fn entry(&self, wanted: &Wanted, ids: Ids) -> Entry {
        Entry {
            registry: self.registry.clone(),
            subject: wanted.subject.clone(),
            schema: wanted.schema.clone(),
            id: ids.of(wanted.record),
        }
    }
}
