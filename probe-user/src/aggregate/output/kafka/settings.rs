//! `[aggregate.kafka]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pathflow_exporter::kafka::KafkaSettings;
use serde::{Deserialize, Serialize};

#[cfg(feature = "avro")]
use super::avro::AvroSettings;
use super::template::Template;
use crate::aggregate::Primitive;
use crate::aggregate::encode::{EncodeSettings, Format};
use crate::aggregate::output::OutputSettingsError;
use crate::aggregate::output::settings::check_format;
use crate::config::duration;
use crate::kafka::{Client, ClientSettings, DurabilityName, SettingsError, checked_topic};

/// Topics that messages go to in turn at most.
const MOST_TOPICS: u32 = 1000;

/// Values of `format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KafkaFormat {
    /// One JSON object (RFC 8259) for each row.
    #[default]
    Json,
    /// Values with a separator between them, without a line of titles.
    Csv,
    /// As CSV, without packets, flows and octets.
    EventCsv,
    /// One datum of Apache Avro for each row.
    Avro,
}

impl KafkaFormat {
    /// How rows are written if it is in text.
    const fn text(self) -> Option<Format> {
        match self {
            Self::Json => Some(Format::Json),
            Self::Csv => Some(Format::Csv),
            Self::EventCsv => Some(Format::EventCsv),
            Self::Avro => None,
        }
    }
}

/// `[aggregate.kafka]` as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaTable {
    /// Brokers, each `HOST:PORT`.
    pub brokers: Vec<String>,
    /// Topic, with variables.
    pub topic: String,
    /// Topics that messages go to in turn, with `_0`, `_1` and so on behind the name; 0 = one, without a number.
    pub topics: u32,
    /// How rows are written.
    pub format: KafkaFormat,
    /// URL of the registry for schemas of Avro, perhaps with `USER:PASSWORD@`; empty = none.
    pub schema_registry: String,
    /// Certificates of the authorities that a registry with `https` is trusted by, as PEM.
    pub schema_registry_ca_file: String,
    /// Subject of the schema at the registry; empty = the topic with `-value` behind.
    pub schema_subject: String,
    /// File that the schema is written to; empty = none.
    pub schema_file: String,
    /// Partition; -1 = by the key, or as librdkafka chooses.
    pub partition: i32,
    /// Key of messages, with variables; empty = none.
    pub key: String,
    /// Between two values of CSV.
    pub separator: String,
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

impl Default for KafkaTable {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topic: "pmacct.acct".to_owned(),
            topics: 0,
            format: KafkaFormat::Json,
            schema_registry: String::new(),
            schema_registry_ca_file: "/etc/ssl/certs/ca-certificates.crt".to_owned(),
            schema_subject: String::new(),
            schema_file: String::new(),
            partition: -1,
            key: String::new(),
            separator: ",".to_owned(),
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

impl KafkaTable {
    const fn client(&self) -> Client<'_> {
        Client {
            brokers: self.brokers.as_slice(),
            partition: self.partition,
            durability: self.durability,
            spool: self.spool.as_str(),
            spool_octets: self.spool_octets,
            sync_interval: self.sync_interval,
            queue_octets: self.queue_octets,
            properties: &self.properties,
            property_files: &self.property_files,
        }
    }
}

impl From<SettingsError> for OutputSettingsError {
    fn from(SettingsError { key, value, reason }: SettingsError) -> Self {
        Self { key, value, reason }
    }
}

/// Where messages go, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaOutputSettings {
    pub(super) client: KafkaSettings,
    pub(super) topic: Template,
    pub(super) topics: u32,
    pub(super) partition: Option<i32>,
    pub(super) key: Template,
    pub(super) message_octets: usize,
    pub(super) markers: bool,
    /// Of text.
    pub(super) format: Format,
    pub(super) encode: EncodeSettings,
    /// `None`: text.
    #[cfg(feature = "avro")]
    pub(super) avro: Option<AvroSettings>,
}

impl KafkaOutputSettings {
    /// Brokers and topic, for people and for metrics.
    pub(in crate::aggregate::output) fn destination(&self) -> String {
        let Self { client, topic, topics, .. } = self;
        let turns = if *topics > 0 { format!("_0..{}", topics - 1) } else { String::new() };
        format!("{}/{}{turns}", client.brokers, topic.text())
    }

    /// Folder of the spool, if there is one.
    pub(in crate::aggregate::output) fn spool(&self) -> Option<&Path> {
        self.client.spool.as_ref().map(|spool| spool.directory.as_path())
    }

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
        let encode = EncodeSettings { separator: table.separator.clone(), ..encode.clone() };
        check_format(&encode, table.format.text().unwrap_or_default(), primitives)?;
        if table.format != KafkaFormat::Avro {
            for (key, value) in [
                ("schema_registry", &table.schema_registry),
                ("schema_subject", &table.schema_subject),
                ("schema_file", &table.schema_file),
            ] {
                if !value.is_empty() {
                    // A URL may have a password in it.
                    let value = if key == "schema_registry" { "..." } else { value };
                    return Err(wrong(key, value.to_owned(), "it is for format = \"avro\" only".to_owned()));
                }
            }
        }
        #[cfg(not(feature = "avro"))]
        if table.format == KafkaFormat::Avro {
            let reason = "this pathflow was built without its feature avro".to_owned();
            return Err(wrong("format", "avro".to_owned(), reason));
        }
        let topic = Template::new(&table.topic, primitives, true)
            .map_err(|reason| wrong("topic", table.topic.clone(), reason))?;
        checked_topic(&table.topic, &topic.fixed())?;
        if table.topics > MOST_TOPICS {
            let reason = format!("it must be at most {MOST_TOPICS}");
            return Err(wrong("topics", table.topics.to_string(), reason));
        }
        let key = Template::new(&table.key, primitives, false)
            .map_err(|reason| wrong("key", table.key.clone(), reason))?;
        if table.message_octets > 0 && (topic.is_variable() || key.is_variable()) {
            let reason = "rows share messages only where topic and key are the same for all".to_owned();
            return Err(wrong("message_octets", table.message_octets.to_string(), reason));
        }
        #[cfg(feature = "avro")]
        let avro = match table.format {
            KafkaFormat::Avro => Some(AvroSettings::new(table, &encode, primitives, &topic)?),
            KafkaFormat::Json | KafkaFormat::Csv | KafkaFormat::EventCsv => None,
        };
        let ClientSettings { client, partition } = table.client().settings(name)?;
        Ok(Self {
            client,
            topic,
            topics: table.topics,
            partition,
            key,
            message_octets: table.message_octets as usize,
            markers: table.markers,
            format: table.format.text().unwrap_or_default(),
            encode,
            #[cfg(feature = "avro")]
            avro,
        })
    }
}
