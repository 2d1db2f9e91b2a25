//! Settings of a client, as they are written and checked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pathflow_exporter::kafka::{Durability, KafkaError, KafkaSettings, SpoolSettings};
use serde::{Deserialize, Serialize};

use crate::config::duration;

/// Longest name of a topic: Kafka takes 249, and variables need room.
const LONGEST_TOPIC: usize = 200;

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

/// A key that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Name of the key in its table.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl SettingsError {
    pub(crate) fn new(key: &'static str, value: &impl ToString, reason: impl Into<String>) -> Self {
        Self { key, value: value.to_string(), reason: reason.into() }
    }
}

/// Keys of the client in a table, as they are written.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Brokers, each `HOST:PORT`.
    pub brokers: &'a [String],
    /// Partition; -1 = by the key, or as librdkafka chooses.
    pub partition: i32,
    /// What is durable when.
    pub durability: DurabilityName,
    /// Directory in which each output has one of its own for its spool.
    pub spool: &'a str,
    /// Octets of the spool at most.
    pub spool_octets: u64,
    /// Longest time until a power cut does not cost a message in the spool.
    pub sync_interval: Duration,
    /// Octets of messages that wait in memory at most.
    pub queue_octets: u32,
    /// Properties of librdkafka.
    pub properties: &'a BTreeMap<String, String>,
    /// Properties whose values are in files.
    pub property_files: &'a BTreeMap<String, String>,
}

/// A client, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// For librdkafka and the spool.
    pub client: KafkaSettings,
    /// `None` = by the key, or as librdkafka chooses.
    pub partition: Option<i32>,
}

impl Client<'_> {
    /// Checks the keys; the spool is in the folder `name`. Files of properties are read.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn settings(&self, name: &str) -> Result<ClientSettings, SettingsError> {
        if self.brokers.is_empty() || self.brokers.iter().any(String::is_empty) {
            return Err(SettingsError::new("brokers", &self.brokers.join(","), "it names no broker"));
        }
        if self.partition < -1 {
            let reason = "it is not -1 or the number of a partition";
            return Err(SettingsError::new("partition", &self.partition, reason));
        }
        let durability = match self.durability {
            DurabilityName::Memory => Durability::Memory,
            DurabilityName::Outage => Durability::Outage,
            DurabilityName::Always => Durability::Always,
        };
        if durability != Durability::Memory && self.spool.is_empty() {
            let reason = "it is empty, which is possible only with durability = \"memory\"";
            return Err(SettingsError::new("spool", &"", reason));
        }
        if self.spool_octets < SpoolSettings::MIN_SIZE {
            let reason = format!("it must be {} at least", SpoolSettings::MIN_SIZE);
            return Err(SettingsError::new("spool_octets", &self.spool_octets, reason));
        }
        if self.queue_octets < 1 << 20 {
            let reason = "it must be 1048576 at least";
            return Err(SettingsError::new("queue_octets", &self.queue_octets, reason));
        }
        if !(Duration::from_millis(1)..=Duration::from_mins(1)).contains(&self.sync_interval) {
            let value = duration::text(self.sync_interval);
            return Err(SettingsError::new("sync_interval", &value, "it must be from 1ms to 1m"));
        }
        let spool = (durability != Durability::Memory).then(|| SpoolSettings {
            max_octets: self.spool_octets,
            sync_interval: self.sync_interval,
            ..SpoolSettings::new(PathBuf::from(self.spool).join(name))
        });
        let client = KafkaSettings {
            properties: self.all_properties()?,
            durability,
            spool,
            queue_octets: self.queue_octets as usize,
            ..KafkaSettings::new(self.brokers.join(","))
        };
        client.verify().map_err(|error| {
            let (key, value) = match &error {
                KafkaError::Property { property, .. } | KafkaError::Reserved { property, .. } => {
                    ("properties", property.clone())
                }
                _ => ("brokers", self.brokers.join(",")),
            };
            SettingsError::new(key, &value, error.to_string())
        })?;
        Ok(ClientSettings { client, partition: (self.partition >= 0).then_some(self.partition) })
    }

    fn all_properties(&self) -> Result<Vec<(String, String)>, SettingsError> {
        let mut properties: Vec<(String, String)> =
            self.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        for (property, file) in self.property_files {
            let value = fs::read_to_string(Path::new(file)).map_err(|error| {
                SettingsError::new("property_files", property, format!("{file}: {error}"))
            })?;
            properties.push((property.clone(), value.trim_end_matches(['\r', '\n']).to_owned()));
        }
        Ok(properties)
    }
}

/// Checks the topic `text`, which is `fixed` without its variables.
///
/// # Errors
/// If no topic can have such a name.
pub fn checked_topic(text: &str, fixed: &str) -> Result<(), SettingsError> {
    let is_legal = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if text.is_empty() || text.len() > LONGEST_TOPIC || !fixed.chars().all(is_legal) {
        let reason = format!("names of topics have letters, digits, ., _ and -, and {LONGEST_TOPIC} at most");
        return Err(SettingsError::new("topic", &text, reason));
    }
    Ok(())
}
