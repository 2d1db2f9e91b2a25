//! Where rows go.

mod account;
mod failures;
mod file;
mod groups;
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
pub use settings::{FileSettings, FileTable, OutputSettingsError, StdoutSettings, StdoutTable};
pub use stdout::StdoutOutput;

use super::purge::Purge;
use crate::aggregate::output::account::OutputAccount;

/// An output of an aggregate. It is used by one thread, and may take its time.
pub trait RowOutput: Debug + Send {
    /// What it is, for metrics: `stdout`, `file`, `kafka`.
    fn kind(&self) -> &'static str;

    /// Where it goes, for people and for metrics.
    fn destination(&self) -> String;

    /// Takes the rows of a purge. Every one of them is in [`Self::account`] afterwards.
    fn write(&mut self, purge: &Purge);

    /// Does what has to be done from time to time: called once a second at least.
    fn poll(&mut self) {}

    /// What became of all rows so far.
    fn account(&self) -> OutputAccount;

    /// The end: delivers until `deadline` what waits.
    fn close(&mut self, _deadline: Instant) {}
}
