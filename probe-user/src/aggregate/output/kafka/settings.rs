//! `[aggregate.kafka]`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pathflow_exporter::kafka::{Durability, KafkaSettings, SpoolSettings};
use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::aggregate::Primitive;
use crate::aggregate::encode::{EncodeError, EncodeSettings, Format, RowEncoder};
use crate::aggregate::output::OutputSettingsError;
use crate::config::duration;

/// `[aggregate.kafka]` as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaTable {
    /// Brokers, each `HOST:PORT`.
    pub brokers: Vec<String>,
    /// Topic, with variables.
    pub topic: String,
    /// Partition; -1 = by the key, or as librdkafka chooses.
    pub partition: i32,
    /// Key of messages, with variables; empty = none.
    pub key: String,
    /// Octets of a message up to which rows share it, a line each; 0 = a message for each row.
    pub message_octets: u32,
    /// Whether the beginning and the end of a purge are marked by messages.
    pub markers: bool,
    /// What is durable when.
    pub durability: DurabilityName,
    /// Directory in which each aggregate has one of its own for its spool.
    pub spool: String,
    /// Octets of the spool at most.
    pub spool_octets: u64,
    /// Longest time until a power cut does not cost a message in the spool.
    #[serde(with = "duration")]
    pub sync_interval: Duration,
    /// Octets of messages that wait in memory at most.
    pub queue_octets: u32,
    /// Properties of librdkafka.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Properties whose values are in files.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub property_files: BTreeMap<String, String>,
}

/// Values of `durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DurabilityName {
    /// Messages wait in memory alone.
    Memory,
    /// Messages go to the spool when the broker confirms nothing.
    Outage,
    /// Messages go to the spool first.
    Always,
}

impl Default for KafkaTable {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topic: "pmacct.acct".to_owned(),
            partition: -1,
            key: String::new(),
            message_octets: 0,
            markers: false,
            durability: DurabilityName::Outage,
            spool: "/var/lib/pathflow/spool".to_owned(),
            spool_octets: 1 << 30,
            sync_interval: Duration::from_millis(100),
            queue_octets: 64 << 20,
            properties: BTreeMap::new(),
            property_files: BTreeMap::new(),
        }
    }
}

/// Where messages go, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaOutputSettings {
    pub(super) client: KafkaSettings,
    pub(super) topic: Template,
    pub(super) partition: Option<i32>,
    pub(super) key: Template,
    pub(super) message_octets: usize,
    pub(super) markers: bool,
    pub(super) encode: EncodeSettings,
}

impl KafkaOutputSettings {
    /// Checks `table`, for rows of these `primitives` of the aggregate `name`. Files of properties are read.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn new(
        name: &str,
        table: &KafkaTable,
        encode: &EncodeSettings,
        primitives: &[Primitive],
    ) -> Result<Self, OutputSettingsError> {
        let wrong = |key, value: String, reason: String| OutputSettingsError { key, value, reason };
        RowEncoder::new(encode, Format::Json, primitives)
            .map_err(|error: EncodeError| wrong("format", String::new(), error.to_string()))?;
        if table.brokers.is_empty() || table.brokers.iter().any(String::is_empty) {
            return Err(wrong("brokers", table.brokers.join(","), "it names no broker".to_owned()));
        }
        let topic = Template::new(&table.topic, primitives, true)
            .map_err(|reason| wrong("topic", table.topic.clone(), reason))?;
        let is_legal = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        if table.topic.is_empty() || table.topic.len() > 200 || !topic.fixed().chars().all(is_legal) {
            let reason = "names of topics have letters, digits, ., _ and -, and 200 at most".to_owned();
            return Err(wrong("topic", table.topic.clone(), reason));
        }
        let key = Template::new(&table.key, primitives, false)
            .map_err(|reason| wrong("key", table.key.clone(), reason))?;
        if table.message_octets > 0 && (topic.is_variable() || key.is_variable()) {
            let reason = "rows share messages only where topic and key are the same for all".to_owned();
            return Err(wrong("message_octets", table.message_octets.to_string(), reason));
        }
        if table.partition < -1 {
            let reason = "it is not -1 or the number of a partition".to_owned();
            return Err(wrong("partition", table.partition.to_string(), reason));
        }
        let mut properties: Vec<(String, String)> =
            table.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        for (property, file) in &table.property_files {
            let value = fs::read_to_string(Path::new(file))
                .map_err(|error| wrong("property_files", property.clone(), format!("{file}: {error}")))?;
            properties.push((property.clone(), value.trim_end_matches(['\r', '\n']).to_owned()));
        }
        let durability = match table.durability {
            DurabilityName::Memory => Durability::Memory,
            DurabilityName::Outage => Durability::Outage,
            DurabilityName::Always => Durability::Always,
        };
        let directory = PathBuf::from(&table.spool).join(name);
        if durability != Durability::Memory && table.spool.is_empty() {
            let reason = "it is empty, which is possible only with durability = \"memory\"".to_owned();
            return Err(wrong("spool", String::new(), reason));
        }
        if table.spool_octets < SpoolSettings::MIN_SIZE {
            let reason = format!("it must be {} at least", SpoolSettings::MIN_SIZE);
            return Err(wrong("spool_octets", table.spool_octets.to_string(), reason));
        }
        if table.queue_octets < 1 << 20 {
            let reason = "it must be 1048576 at least".to_owned();
            return Err(wrong("queue_octets", table.queue_octets.to_string(), reason));
        }
        if !(Duration::from_millis(1)..=Duration::from_mins(1)).contains(&table.sync_interval) {
            let reason = "it must be from 1ms to 1m".to_owned();
            return Err(wrong("sync_interval", duration::text(table.sync_interval), reason));
        }
        let spool = (durability != Durability::Memory).then(|| SpoolSettings {
            max_octets: table.spool_octets,
            sync_interval: table.sync_interval,
            ..SpoolSettings::new(directory)
        });
        let client = KafkaSettings {
            properties,
            durability,
            spool,
            queue_octets: table.queue_octets as usize,
            ..KafkaSettings::new(table.brokers.join(","))
        };
        Ok(Self {
            client,
            topic,
            partition: (table.partition >= 0).then_some(table.partition),
            key,
            message_octets: table.message_octets as usize,
            markers: table.markers,
            encode: encode.clone(),
        })
    }
}
