//! An output that can be opened only when another one is closed.

use std::time::Instant;

use pathflow_exporter::Tally;
use tracing::warn;

use super::{KafkaOutput, KafkaOutputSettings, RowOutput};
use crate::aggregate::{Primitive, Purge};
use crate::ledger::OutputAccount;

/// Rows to Kafka that go on with the spool of another output, which is closed when this one is first used.
#[derive(Debug)]
pub(super) struct LateKafkaOutput {
    name: String,
    settings: KafkaOutputSettings,
    primitives: Vec<Primitive>,
    opened: Option<KafkaOutput>,
    /// What came while it could not be opened.
    refused: OutputAccount,
    has_said: bool,
}

impl LateKafkaOutput {
    /// As [`KafkaOutput::open`] would have it.
    pub(super) fn new(name: &str, settings: KafkaOutputSettings, primitives: &[Primitive]) -> Self {
        Self {
            name: name.to_owned(),
            settings,
            primitives: primitives.to_vec(),
            opened: None,
            refused: OutputAccount::default(),
            has_said: false,
        }
    }

    fn open(&mut self) -> Option<&mut KafkaOutput> {
        if self.opened.is_none() {
            match KafkaOutput::open(&self.name, self.settings.clone(), &self.primitives) {
                Ok(output) => self.opened = Some(output),
                Err(error) if !self.has_said => {
                    warn!("{error}; it is tried again");
                    self.has_said = true;
                }
                Err(_) => {}
            }
        }
        self.opened.as_mut()
    }
}

impl RowOutput for LateKafkaOutput {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn destination(&self) -> String {
        self.settings.destination()
    }

    fn write(&mut self, purge: &Purge) {
        match self.open() {
            Some(output) => output.write(purge),
            None if purge.tally() == Tally::ZERO => {}
            None => self.refused.lose("kafka_not_open", purge.tally()),
        }
    }

    fn poll(&mut self) {
        if let Some(output) = self.open() {
            output.poll();
        }
    }

    fn account(&self) -> OutputAccount {
        let mut account = self.opened.as_ref().map(RowOutput::account).unwrap_or_default();
        for (reason, lost) in &self.refused.lost {
            account.lose(reason, *lost);
        }
        account
    }

    fn close(&mut self, deadline: Instant) {
        if let Some(output) = &mut self.opened {
            output.close(deadline);
        }
    }
}
