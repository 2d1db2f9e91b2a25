//! Where rows go.

mod failures;
mod file;
mod groups;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
#[cfg(test)]
mod pmacctd;
mod settings;
mod stdout;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::Debug;
use std::time::Instant;

pub use file::FileOutput;
#[cfg(feature = "kafka")]
pub use kafka::{KafkaOutput, KafkaOutputSettings, KafkaTable};
pub use memory::{AskError, KeptRows, MemoryOutput, Question, Selected};
pub use settings::{
    FileSettings, FileTable, MemorySettings, MemoryTable, OutputSettingsError, StdoutSettings, StdoutTable,
};
pub use stdout::StdoutOutput;

use super::purge::Purge;
use super::settings::{AggregateSettings, OutputSettings};
use crate::error::RunError;
use crate::ledger::OutputAccount;

/// Opens the outputs of an aggregate. Files are opened when there is something to write.
///
/// # Errors
/// [`RunError`] if a format cannot carry what is in the key, which the settings' check says before, or if librdkafka does
/// not take the settings.
pub fn open(settings: &AggregateSettings) -> Result<Vec<Box<dyn RowOutput>>, RunError> {
    let AggregateSettings { name, key, outputs, .. } = settings;
    let open = |output: &OutputSettings| -> Result<Box<dyn RowOutput>, RunError> {
        Ok(match output {
            OutputSettings::File(file) => Box::new(FileOutput::new(name, file.clone(), &key.primitives)?),
            OutputSettings::Stdout(stdout) => Box::new(StdoutOutput::new(name, stdout, &key.primitives)?),
            OutputSettings::Memory(memory) => Box::new(MemoryOutput::new(settings, memory)),
            #[cfg(feature = "kafka")]
            OutputSettings::Kafka(kafka) => {
                Box::new(KafkaOutput::open(name, KafkaOutputSettings::clone(kafka), &key.primitives)?)
            }
        })
    };
    outputs.iter().map(open).collect()
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

    /// The end: delivers until `deadline` what waits.
    fn close(&mut self, _deadline: Instant) {}
}
