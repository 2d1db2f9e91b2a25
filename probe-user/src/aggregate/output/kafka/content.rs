//! What messages are made of: JSON, CSV, or Avro.

use std::time::Instant;

use pathflow_exporter::kafka::{Kafka, Message};

#[cfg(feature = "avro")]
use super::avro::AvroContent;
use super::settings::KafkaOutputSettings;
use crate::aggregate::encode::RowEncoder;
use crate::aggregate::output::writer::warn_of_ambiguous_rows;
use crate::aggregate::{Primitive, Row};
use crate::error::RunError;
use crate::kafka::queue::{Patience, refusal_name};
use crate::ledger::OutputAccount;

/// Makes payloads of rows, and sends messages as soon as all is known that belongs into them.
#[derive(Debug)]
pub(super) enum Content {
    Text(Box<RowEncoder>),
    #[cfg(feature = "avro")]
    Avro(Box<AvroContent>),
}

impl Content {
    /// For rows of these primitives of the aggregate `name`. It does not wait for a schema registry.
    pub(super) fn open(
        name: &str,
        settings: &KafkaOutputSettings,
        primitives: &[Primitive],
    ) -> Result<Self, RunError> {
        #[cfg(feature = "avro")]
        if let Some(avro) = &settings.avro {
            return Ok(Self::Avro(Box::new(AvroContent::open(name, avro, settings, primitives)?)));
        }
        let mut encoder = RowEncoder::new(&settings.encode, settings.format, primitives)?;
        encoder.set_writer(name, true);
        Ok(Self::Text(Box::new(encoder)))
    }

    /// Appends a row.
    pub(super) fn row(&mut self, out: &mut Vec<u8>, row: &Row<'_>, updated: u64) {
        match self {
            Self::Text(encoder) => encoder.row(out, row, updated),
            #[cfg(feature = "avro")]
            Self::Avro(content) => content.row(out, row, updated),
        }
    }

    /// Says that rows have a column too many, if some of those since the last call have.
    pub(super) fn warn_of_ambiguous_rows(&mut self, name: &str) -> bool {
        match self {
            Self::Text(encoder) => warn_of_ambiguous_rows(name, encoder),
            #[cfg(feature = "avro")]
            Self::Avro(_) => false,
        }
    }

    /// What is behind each row of a message that rows share.
    pub(super) const fn end_of_row(&self) -> &'static [u8] {
        match self {
            Self::Text(_) => b"\n",
            #[cfg(feature = "avro")]
            Self::Avro(_) => b"",
        }
    }

    /// Makes the payload that marks the beginning of a purge.
    pub(super) fn purge_init(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Text(encoder) => {
                encoder.purge_init(out);
                out.truncate(out.trim_ascii_end().len());
            }
            #[cfg(feature = "avro")]
            Self::Avro(content) => content.purge_init(out),
        }
    }

    /// Makes the payload that marks the end of a purge: `purged` of `total` rows were taken in so many `seconds`.
    pub(super) fn purge_close(&mut self, out: &mut Vec<u8>, purged: u64, total: u64, seconds: u64) {
        match self {
            Self::Text(encoder) => {
                encoder.purge_close(out, purged, total, seconds);
                out.truncate(out.trim_ascii_end().len());
            }
            #[cfg(feature = "avro")]
            Self::Avro(content) => content.purge_close(out, purged, total, seconds),
        }
    }

    /// Sends the message that was made last, or keeps it until it can be sent.
    ///
    /// # Errors
    /// Under which name it is lost.
    pub(super) fn send(
        &mut self,
        kafka: &mut Kafka,
        message: &Message<'_>,
        patience: &mut Patience,
    ) -> Result<(), &'static str> {
        match self {
            Self::Text(_) => patience.send(kafka, message).map_err(refusal_name),
            #[cfg(feature = "avro")]
            Self::Avro(content) => content.send(kafka, message, patience),
        }
    }

    /// Sends what was kept, if it can be sent now: called once a second at least, and before each purge.
    #[cfg_attr(not(feature = "avro"), expect(unused_variables, reason = "only Avro keeps anything"))]
    pub(super) fn poll(&mut self, kafka: &mut Kafka) {
        match self {
            Self::Text(_) => {}
            #[cfg(feature = "avro")]
            Self::Avro(content) => content.poll(kafka),
        }
    }

    /// Sends what was kept if that is possible until some time before `deadline`; else it is lost.
    #[cfg_attr(not(feature = "avro"), expect(unused_variables, reason = "only Avro keeps anything"))]
    pub(super) fn close(&mut self, kafka: &mut Kafka, deadline: Instant) {
        match self {
            Self::Text(_) => {}
            #[cfg(feature = "avro")]
            Self::Avro(content) => content.close(kafka, deadline),
        }
    }

    /// Adds what it keeps, and what was lost of that.
    #[cfg_attr(not(feature = "avro"), expect(unused_variables, reason = "only Avro keeps anything"))]
    pub(super) fn enter(&self, account: &mut OutputAccount) {
        match self {
            Self::Text(_) => {}
            #[cfg(feature = "avro")]
            Self::Avro(content) => content.enter(account),
        }
    }
}
