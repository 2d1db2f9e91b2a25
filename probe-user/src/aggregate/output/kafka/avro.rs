//! Messages in Avro: a datum alone, or behind the id of its schema at a registry.
//!
//! That id is in every message, and only the registry knows it. Until it has told it, messages wait in memory, and beyond
//! a bound new ones are lost, as when the broker's queue is full. An id never changes, so those of earlier runs are kept
//! beside the spool: then nothing waits while the registry is away.

mod known;
mod registry;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pathflow_exporter::Tally;
use pathflow_exporter::kafka::{Kafka, Message, Refused};
use tracing::{info, warn};

pub(in crate::aggregate::output::kafka) use settings::AvroSettings;

use super::KafkaOutputSettings;
use crate::aggregate::encode::{AvroEncoder, Record};
use crate::aggregate::{Primitive, Row};
use crate::error::RunError;
use crate::kafka::queue::{Patience, refusal_name};
use crate::ledger::OutputAccount;
use crate::written_file;
use known::KnownIds;
use registry::{Ids, Registrar, Wanted};
use settings::RegistrySettings;

/// Under which name it is counted that messages waited for the registry until the end, or had no more room to wait.
const NOT_REGISTERED: &str = "schema_not_registered";
/// Under which name failures to ask the registry are counted.
const REGISTRY: &str = "schema_registry";
/// First octet of a message with the id of a schema (wire format of Confluent's serializers).
const MAGIC: u8 = 0;
/// Octets before the datum: [`MAGIC`], and the id in network byte order.
const PREFIX: usize = 5;

/// Makes payloads.
#[derive(Debug)]
pub(super) struct AvroContent {
    encoder: AvroEncoder,
    /// What the message in hand is.
    record: Record,
    registered: Option<Registered>,
}

/// Ids of schemas, and what waits for them.
#[derive(Debug)]
struct Registered {
    name: String,
    registrar: Registrar,
    wanted: Vec<Wanted>,
    /// By [`Record`]; `None` until they are known.
    ids: Option<Ids>,
    known: Option<KnownIds>,
    held: VecDeque<Held>,
    held_octets: usize,
    max_octets: usize,
    /// Losses of what was held.
    lost: OutputAccount,
}

/// A message that waits.
#[derive(Debug)]
struct Held {
    record: Record,
    topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    tally: Tally,
}

impl AvroContent {
    pub(super) fn open(
        name: &str,
        avro: &AvroSettings,
        settings: &KafkaOutputSettings,
        primitives: &[Primitive],
    ) -> Result<Self, RunError> {
        let encoder = AvroEncoder::new(&settings.encode, primitives, name)?;
        if let Some(path) = &avro.schema_file {
            write_schema(path, &encoder.schema(Record::Row).pretty()).map_err(|error| {
                RunError::SchemaFile { name: format!("aggregate {name}"), path: path.clone(), error }
            })?;
        }
        let registered = match &avro.registry {
            Some(registry) => Some(Registered::open(name, registry, settings, &encoder)?),
            None => None,
        };
        Ok(Self { encoder, record: Record::Row, registered })
    }

    pub(super) fn row(&mut self, out: &mut Vec<u8>, row: &Row<'_>, updated: u64) {
        self.begin(out, Record::Row);
        self.encoder.row(out, row, updated);
    }

    pub(super) fn purge_init(&mut self, out: &mut Vec<u8>) {
        self.begin(out, Record::PurgeInit);
        self.encoder.purge_init(out);
    }

    pub(super) fn purge_close(&mut self, out: &mut Vec<u8>, purged: u64, total: u64, seconds: u64) {
        self.begin(out, Record::PurgeClose);
        self.encoder.purge_close(out, purged, total, seconds);
    }

    fn begin(&mut self, out: &mut Vec<u8>, record: Record) {
        self.record = record;
        if let Some(registered) = &self.registered {
            out.extend_from_slice(&registered.prefix(record));
        }
    }

    pub(super) fn send(
        &mut self,
        kafka: &mut Kafka,
        message: &Message<'_>,
        patience: &mut Patience,
    ) -> Result<(), &'static str> {
        match &mut self.registered {
            Some(registered) if registered.has_to_wait() => registered.hold(self.record, message),
            _ => patience.send(kafka, message).map_err(refusal_name),
        }
    }

    pub(super) fn poll(&mut self, kafka: &mut Kafka) {
        if let Some(registered) = &mut self.registered {
            registered.take_news();
            registered.release(kafka);
        }
    }

    pub(super) fn close(&mut self, kafka: &mut Kafka, deadline: Instant) {
        if let Some(registered) = &mut self.registered {
            registered.close(kafka, deadline);
        }
    }

    pub(super) fn enter(&self, account: &mut OutputAccount) {
        let Some(registered) = &self.registered else { return };
        account.waiting += registered.held.iter().fold(Tally::ZERO, |sum, held| sum + held.tally);
        for (reason, lost) in &registered.lost.lost {
            account.lose(reason, *lost);
        }
        account.errors.push((REGISTRY, registered.registrar.failures()));
    }
}

impl Registered {
    fn open(
        name: &str,
        registry: &RegistrySettings,
        settings: &KafkaOutputSettings,
        encoder: &AvroEncoder,
    ) -> Result<Self, RunError> {
        let subjects = registry.subjects.iter();
        let wanted: Vec<Wanted> = subjects
            .map(|(record, subject)| Wanted {
                record: *record,
                subject: subject.clone(),
                schema: encoder.schema(*record).to_string(),
            })
            .collect();
        let name = format!("aggregate {name}");
        let known = settings.spool().map(|folder| KnownIds::read(folder, &registry.url.to_string()));
        let ids = known.as_ref().and_then(|known| known.ids(&wanted));
        let registrar = Registrar::start(&name, registry, wanted.clone())?;
        Ok(Self {
            name,
            registrar,
            wanted,
            ids,
            known,
            held: VecDeque::new(),
            held_octets: 0,
            max_octets: settings.client.queue_octets,
            lost: OutputAccount::default(),
        })
    }

    fn prefix(&self, record: Record) -> [u8; PREFIX] {
        let id = self.ids.as_ref().map_or(0, |ids| ids.of(record));
        let [a, b, c, d] = id.to_be_bytes();
        [MAGIC, a, b, c, d]
    }

    /// What is sent now would be without its id, or overtake what waits.
    fn has_to_wait(&self) -> bool {
        self.ids.is_none() || !self.held.is_empty()
    }

    fn hold(&mut self, record: Record, message: &Message<'_>) -> Result<(), &'static str> {
        let held = Held {
            record,
            topic: message.topic.to_owned(),
            partition: message.partition,
            key: message.key.map(<[u8]>::to_vec),
            payload: message.payload.to_vec(),
            tally: message.tally,
        };
        if self.held_octets + held.octets() > self.max_octets {
            return Err(NOT_REGISTERED);
        }
        self.held_octets += held.octets();
        self.held.push_back(held);
        Ok(())
    }

    /// Takes what the registry has said.
    fn take_news(&mut self) {
        if let Some(ids) = self.registrar.take() {
            self.set(ids);
        }
    }

    fn set(&mut self, ids: Ids) {
        if let Some(former) = self.ids.filter(|former| *former != ids) {
            warn!(
                "{}: the schema registry has {ids} for what it had {former} for: it is not the one that it was, and \
                 knows nothing of rows that are in Kafka already",
                self.name
            );
        }
        self.ids = Some(ids);
        if let Some(known) = &mut self.known
            && let Err(error) = known.write(&self.wanted, ids)
        {
            warn!(
                "{}: {}: {error}; at the next start rows wait for the schema registry",
                self.name,
                known.path().display()
            );
        }
    }

    /// Sends what waits, as far as the queue takes it.
    fn release(&mut self, kafka: &mut Kafka) {
        if self.ids.is_none() || self.held.is_empty() {
            return;
        }
        let mut patience = Patience::new();
        while let Some(mut held) = self.held.pop_front() {
            let prefix = self.prefix(held.record);
            if let Some(place) = held.payload.first_chunk_mut() {
                *place = prefix;
            }
            self.held_octets -= held.octets();
            match patience.send(kafka, &held.message()) {
                Ok(()) => {}
                Err(Refused::QueueFull) => {
                    self.held_octets += held.octets();
                    self.held.push_front(held);
                    return;
                }
                Err(refused) => self.lost.lose(refusal_name(refused), held.tally),
            }
        }
        info!("{}: rows that waited for the schema registry go to Kafka", self.name);
    }

    /// Half of the time is for the registry, and the rest for delivery.
    fn close(&mut self, kafka: &mut Kafka, deadline: Instant) {
        if !self.held.is_empty() && self.ids.is_none() {
            let now = Instant::now();
            let until = now + deadline.saturating_duration_since(now) / 2;
            if let Some(ids) = self.registrar.wait(until) {
                self.set(ids);
            }
        }
        self.take_news();
        self.release(kafka);
        let reason = if self.ids.is_some() { refusal_name(Refused::QueueFull) } else { NOT_REGISTERED };
        let lost = self.held.drain(..).fold(Tally::ZERO, |sum, held| sum + held.tally);
        if lost != Tally::ZERO {
            warn!("{}: {} rows are lost, counted as {reason}", self.name, lost.records);
            self.lost.lose(reason, lost);
        }
    }
}

impl Held {
    fn octets(&self) -> usize {
        size_of::<Self>() + self.topic.len() + self.key.as_ref().map_or(0, Vec::len) + self.payload.len()
    }

    fn message(&self) -> Message<'_> {
        Message {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            payload: &self.payload,
            tally: self.tally,
        }
    }
}

/// Puts the whole file in place of what was there, for those who watch it.
fn write_schema(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    written_file::replace(&part, text.as_bytes())?;
    fs::rename(&part, path)
}
