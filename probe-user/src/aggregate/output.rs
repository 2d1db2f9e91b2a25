//! Where rows go.

mod failures;
mod file;
mod groups;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod late;
mod memory;
#[cfg(test)]
mod pmacctd;
mod program;
mod settings;
mod stdout;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::Debug;
use std::time::Instant;

pub use file::{FileHistory, FileOutput};
#[cfg(feature = "kafka")]
pub use kafka::{KafkaFormat, KafkaOutput, KafkaOutputSettings, KafkaTable};
pub use memory::{AskError, KeptRows, MemoryOutput, Question, Selected};
pub use settings::{
    FileSettings, FileTable, MemorySettings, MemoryTable, OutputSettingsError, StdoutSettings, StdoutTable,
};
pub use stdout::StdoutOutput;

use super::purge::Purge;
use super::settings::{AggregateSettings, OutputSettings};
use crate::error::RunError;
use crate::ledger::OutputAccount;
use crate::metering::shard::Pace;

/// What an aggregate has left, or leaves when it ends, to one that goes on with an output of it.
#[derive(Clone, Debug)]
pub struct Left {
    /// Its settings.
    pub settings: AggregateSettings,
    /// The rows that it keeps.
    pub kept: Option<KeptRows>,
    /// What it has written to files.
    pub files: Option<FileHistory>,
}

/// Opens the outputs of an aggregate, which may go on with those of aggregates `before` it. Files are opened when there is
/// something to write, and a spool that is in use when its output is closed.
///
/// # Errors
/// [`RunError`] if a format cannot carry what is in the key, which the settings' check says before, or if librdkafka does
/// not take the settings.
pub fn open(
    settings: &AggregateSettings,
    pace: Pace,
    before: &[Left],
) -> Result<Vec<Box<dyn RowOutput>>, RunError> {
    let AggregateSettings { name, key, outputs, .. } = settings;
    // The same capture, once more.
    let begins_anew = pace == Pace::WaitForSinks;
    let open = |output: &OutputSettings| -> Result<Box<dyn RowOutput>, RunError> {
        Ok(match output {
            OutputSettings::File(file) => {
                let output = FileOutput::new(name, file.clone(), &key.primitives, begins_anew)?;
                let history = before.iter().find_map(|left| left.file(file, settings));
                Box::new(match history {
                    Some((history, has_same_columns)) => output.going_on(history, has_same_columns),
                    None => output,
                })
            }
            OutputSettings::Stdout(stdout) => Box::new(StdoutOutput::new(name, stdout, &key.primitives)?),
            OutputSettings::Memory(memory) => {
                let output = MemoryOutput::new(settings, memory);
                let kept = before.iter().find_map(|left| left.kept(memory, settings));
                Box::new(match kept {
                    Some(kept) => output.going_on(kept),
                    None => output,
                })
            }
            #[cfg(feature = "kafka")]
            OutputSettings::Kafka(kafka) => {
                let (settings, primitives) = (KafkaOutputSettings::clone(kafka), &key.primitives);
                if before.iter().any(|left| left.has_spool(&settings)) {
                    Box::new(late::LateKafkaOutput::new(name, settings, primitives))
                } else {
                    Box::new(KafkaOutput::open(name, settings, primitives)?)
                }
            }
        })
    };
    outputs.iter().map(open).collect()
}

impl Left {
    /// The history of a file that it has in common with `settings`, and whether rows have the same columns in both.
    fn file(&self, file: &FileSettings, settings: &AggregateSettings) -> Option<(FileHistory, bool)> {
        self.settings.outputs.iter().find_map(|output| match output {
            OutputSettings::File(own) if own.path == file.path => {
                let has_same_columns = (own.format, &own.encode, &self.settings.key.primitives)
                    == (file.format, &file.encode, &settings.key.primitives);
                Some((self.files.clone()?, has_same_columns))
            }
            _ => None,
        })
    }

    /// The kept rows, if rows of `settings` can be added to them.
    fn kept(&self, memory: &MemorySettings, settings: &AggregateSettings) -> Option<KeptRows> {
        let AggregateSettings { name, key, agent, history, outputs, .. } = &self.settings;
        let is_same = (name, key, agent, history.is_some())
            == (&settings.name, &settings.key, &settings.agent, settings.history.is_some())
            && outputs.iter().any(|own| matches!(own, OutputSettings::Memory(own) if own == memory));
        self.kept.clone().filter(|_| is_same)
    }

    #[cfg(feature = "kafka")]
    fn has_spool(&self, kafka: &KafkaOutputSettings) -> bool {
        let is_its = |output: &OutputSettings| match output {
            OutputSettings::Kafka(own) => kafka.spool().is_some() && own.spool() == kafka.spool(),
            _ => false,
        };
        self.settings.outputs.iter().any(is_its)
    }

    /// Whether an aggregate has to wait for the end of this one before it writes.
    #[must_use]
    pub fn is_in_the_way_of(&self, settings: &AggregateSettings) -> bool {
        let is_same = |own: &OutputSettings, other: &OutputSettings| match (own, other) {
            (OutputSettings::File(own), OutputSettings::File(other)) => own.path == other.path,
            (OutputSettings::Stdout(_), OutputSettings::Stdout(_)) => true,
            #[cfg(feature = "kafka")]
            (OutputSettings::Kafka(own), OutputSettings::Kafka(other)) => own.spool() == other.spool(),
            _ => false,
        };
        let outputs = &self.settings.outputs;
        self.settings.name == settings.name
            || outputs.iter().any(|own| settings.outputs.iter().any(|other| is_same(own, other)))
    }
}

/// An output of an aggregate. It is used by one thread, and may take its time.
pub trait RowOutput: Debug + Send {
    /// What it is, for metrics: `stdout`, `file`, `memory`, `kafka`.
    fn kind(&self) -> &'static str;

    /// Where it goes, for people and for metrics.
    fn destination(&self) -> String;

    /// Takes the rows of a purge. Every one of them is in [`Self::account`] afterwards.
    fn write(&mut self, purge: &Purge);

    /// Does what has to be done from time to time: called once a second at least.
    fn poll(&mut self) {}

    /// What became of all rows so far.
    fn account(&self) -> OutputAccount;

    /// The rows that it keeps for who asks, if it does.
    fn kept(&self) -> Option<KeptRows> {
        None
    }

    /// What it has written to files, if it does.
    fn files(&self) -> Option<FileHistory> {
        None
    }

    /// The end: delivers until `deadline` what waits.
    fn close(&mut self, _deadline: Instant) {}
}
