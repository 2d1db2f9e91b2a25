//! Rows to Apache Kafka: a message for each, or for as many as have room in one.

#[cfg(feature = "avro")]
mod avro;
mod content;
mod settings;
mod template;

use std::fmt::Write as _;
use std::time::Instant;

use pathflow_exporter::Tally;
use pathflow_exporter::kafka::{Kafka, KafkaAccount, KafkaCounts, KafkaLossReason, Message, Refused};
use tracing::{info, warn};

pub use settings::{KafkaFormat, KafkaOutputSettings, KafkaTable};

use super::RowOutput;
use crate::aggregate::{Primitive, Purge, Row};
use crate::error::RunError;
use crate::kafka::events;
use crate::kafka::queue::{Patience, refusal_name};
use crate::ledger::OutputAccount;
use content::Content;

/// Writes rows to Kafka.
#[derive(Debug)]
pub struct KafkaOutput {
    name: String,
    settings: KafkaOutputSettings,
    content: Content,
    /// `None` after the end.
    kafka: Option<Kafka>,
    /// Of [`Kafka`] at its end.
    last: KafkaAccount,
    last_counts: KafkaCounts,
    /// What the queue did not take.
    refused: OutputAccount,
    /// The message in hand, and what it stands for.
    payload: Vec<u8>,
    pending: Tally,
    topic: String,
    key: Vec<u8>,
    /// Number of the topic for the next rows.
    turn: u32,
    /// Whether it was said that values have the separator in them.
    has_warned: bool,
}

impl KafkaOutput {
    /// For rows of these primitives of the aggregate `name`. It does not wait for a broker.
    ///
    /// # Errors
    /// [`RunError`] if librdkafka does not take the settings, or the spool cannot be used.
    pub fn open(
        name: &str,
        settings: KafkaOutputSettings,
        primitives: &[Primitive],
    ) -> Result<Self, RunError> {
        let content = Content::open(name, &settings, primitives)?;
        for warning in settings.client.warnings() {
            warn!("aggregate {name}: {warning}");
        }
        let kafka = Kafka::start(settings.client.clone())
            .map_err(|error| RunError::Kafka { name: format!("aggregate {name}"), error })?;
        Ok(Self {
            name: format!("aggregate {name}"),
            settings,
            content,
            kafka: Some(kafka),
            last: KafkaAccount::default(),
            last_counts: KafkaCounts::default(),
            refused: OutputAccount::default(),
            payload: Vec::new(),
            pending: Tally::ZERO,
            topic: String::new(),
            key: Vec::new(),
            turn: 0,
            has_warned: false,
        })
    }

    /// Sends the message in hand.
    fn send(&mut self, patience: &mut Patience) {
        if self.payload.is_empty() {
            return;
        }
        let name = self.topic.len();
        self.take_turn();
        let message = Message {
            topic: &self.topic,
            partition: self.settings.partition,
            key: Some(self.key.as_slice()).filter(|key| !key.is_empty()),
            payload: &self.payload,
            tally: self.pending,
        };
        let result = match &mut self.kafka {
            Some(kafka) => self.content.send(kafka, &message, patience),
            None => Err(refusal_name(Refused::Closing)),
        };
        if let Err(reason) = result {
            self.refused.lose(reason, self.pending);
        }
        self.topic.truncate(name);
        self.pending = Tally::ZERO;
        self.payload.clear();
    }

    /// Puts the number of the topic behind its name, if rows take turns; markers do not.
    fn take_turn(&mut self) {
        let topics = self.settings.topics;
        if topics > 0 && self.pending.records > 0 {
            // Writing to a string cannot fail.
            let _ = write!(self.topic, "_{}", self.turn);
            self.turn = (self.turn + 1) % topics;
        }
    }

    fn marker(&mut self, patience: &mut Patience, append: impl FnOnce(&mut Content, &mut Vec<u8>)) {
        if !self.settings.markers {
            return;
        }
        append(&mut self.content, &mut self.payload);
        self.begin_common();
        self.send(patience);
    }

    /// Topic and key of what is not of one row: a key without variables keeps the order of all.
    fn begin_common(&mut self) {
        self.settings.topic.fixed().clone_into(&mut self.topic);
        self.key.clear();
        if !self.settings.key.is_variable() {
            self.key.extend_from_slice(self.settings.key.fixed().as_bytes());
        }
    }

    fn row(&mut self, row: &Row<'_>, updated: u64, patience: &mut Patience) {
        if self.settings.message_octets == 0 {
            self.settings.topic.render(row, &mut self.topic);
            self.settings.key.render(row, &mut self.key);
            self.content.row(&mut self.payload, row, updated);
            self.pending = row.tally();
            return self.send(patience);
        }
        let whole = self.payload.len();
        self.content.row(&mut self.payload, row, updated);
        self.payload.extend_from_slice(self.content.end_of_row());
        if self.payload.len() > self.settings.message_octets && whole > 0 {
            let next = self.payload.split_off(whole);
            self.send(patience);
            self.payload.extend_from_slice(&next);
        }
        self.pending += row.tally();
    }

    /// Sends what had to wait.
    fn release(&mut self) {
        if let Some(kafka) = &mut self.kafka {
            self.content.poll(kafka);
        }
    }

    fn log_events(&mut self) {
        while let Some(event) = self.kafka.as_mut().and_then(Kafka::next_event) {
            events::log(&self.name, &event);
        }
    }
}

impl RowOutput for KafkaOutput {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn destination(&self) -> String {
        self.settings.destination()
    }

    fn write(&mut self, purge: &Purge) {
        if purge.is_empty() {
            return;
        }
        let started = Instant::now();
        self.release();
        let mut patience = Patience::new();
        let lost_before = self.refused.total_lost().records;
        self.marker(&mut patience, Content::purge_init);
        self.begin_common();
        for row in purge.rows() {
            self.row(&row, purge.updated(), &mut patience);
        }
        self.send(&mut patience);
        if !self.has_warned {
            self.has_warned = self.content.warn_of_ambiguous_rows(&self.name);
        }
        let total = purge.len() as u64;
        let purged = total - (self.refused.total_lost().records - lost_before).min(total);
        let seconds = started.elapsed().as_secs();
        self.marker(&mut patience, |content, out| content.purge_close(out, purged, total, seconds));
        self.log_events();
    }

    fn poll(&mut self) {
        self.release();
        self.log_events();
    }

    fn account(&self) -> OutputAccount {
        let kafka = self.kafka.as_ref().map_or(self.last, Kafka::account);
        let mut account = self.refused.clone();
        let counts = self.kafka.as_ref().map_or(self.last_counts, Kafka::counts);
        account.errors = events::errors(&counts).collect();
        account.waiting = kafka.queued + kafka.in_flight;
        account.spooled = kafka.spooled;
        account.recovered = kafka.recovered;
        account.delivered = kafka.delivered;
        self.content.enter(&mut account);
        for reason in KafkaLossReason::ALL {
            let lost = kafka.lost(reason);
            if lost.records > 0 {
                account.lose(events::loss_name(reason), lost);
            }
        }
        account
    }

    fn close(&mut self, deadline: Instant) {
        let Some(mut kafka) = self.kafka.take() else { return };
        self.content.close(&mut kafka, deadline);
        self.last_counts = kafka.counts();
        let (account, left) = kafka.close(deadline);
        self.last = account;
        for event in left {
            events::log(&self.name, &event);
        }
        if account.spooled.records > 0 {
            info!("{}: {} rows stay in the spool for the next start", self.name, account.spooled.records);
        }
    }
}
