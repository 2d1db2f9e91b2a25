//! `[bgp.table_dump.kafka]` and `[bgp.message_log.kafka]`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use pathflow_exporter::kafka::KafkaSettings;
use serde::{Deserialize, Serialize};

use crate::config::duration;
use crate::kafka::{Client, ClientSettings, DurabilityName, SettingsError, checked_topic};

/// Stands for the address of the peer.
const PEER: &str = "$peer_src_ip";

/// The table as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicTable {
    /// Brokers, each `HOST:PORT`.
    pub brokers: Vec<String>,
    /// Topic, in which `$peer_src_ip` stands for the address of a peer.
    pub topic: String,
    /// Partition; -1 = by the key, or as librdkafka chooses.
    pub partition: i32,
    /// Key of messages, with the variable; empty = none.
    pub key: String,
    /// What is durable when.
    pub durability: DurabilityName,
    /// Directory in which each output has one of its own for its spool.
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

impl Default for TopicTable {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topic: String::new(),
            partition: -1,
            key: String::new(),
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    client: ClientSettings,
    topic: String,
    key: String,
}

impl TopicSettings {
    /// Checks the `table` of the function `name`, which is the folder of its spool too. Files of properties are read.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn new(name: &str, table: &TopicTable) -> Result<Self, SettingsError> {
        checked_topic(&table.topic, &table.topic.replace(PEER, ""))?;
        if table.key.replace(PEER, "").contains('$') {
            let reason = format!("of names that begin with $ only {PEER} is known");
            return Err(SettingsError::new("key", &table.key, reason));
        }
        let client = Client {
            brokers: &table.brokers,
            partition: table.partition,
            durability: table.durability,
            spool: &table.spool,
            spool_octets: table.spool_octets,
            sync_interval: table.sync_interval,
            queue_octets: table.queue_octets,
            properties: &table.properties,
            property_files: &table.property_files,
        };
        Ok(Self { client: client.settings(name)?, topic: table.topic.clone(), key: table.key.clone() })
    }

    pub(super) const fn client(&self) -> &KafkaSettings {
        &self.client.client
    }

    pub(super) const fn partition(&self) -> Option<i32> {
        self.client.partition
    }

    /// Dots and colons of the address become `_`, as in names of files.
    pub(super) fn topic(&self, peer: IpAddr) -> String {
        self.topic.replace(PEER, &peer.to_string().replace(['.', ':'], "_"))
    }

    pub(super) fn key(&self, peer: IpAddr) -> String {
        self.key.replace(PEER, &peer.to_string())
    }

    pub(super) fn destination(&self) -> String {
        format!("{}/{}", self.client().brokers, self.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_and_key_have_the_address_of_the_peer() {
        let table = TopicTable {
            brokers: vec!["192.0.2.1:9092".to_owned()],
            topic: "pmacct.bgp.$peer_src_ip".to_owned(),
            key: "$peer_src_ip".to_owned(),
            ..TopicTable::default()
        };
        let settings = TopicSettings::new("bgp.table_dump", &table).unwrap();
        let peer = "2001:db8::7".parse().unwrap();
        assert_eq!(settings.topic(peer), "pmacct.bgp.2001_db8__7");
        assert_eq!(settings.key(peer), "2001:db8::7");
        let wrong = |table: TopicTable| TopicSettings::new("x", &table).unwrap_err().key;
        assert_eq!(wrong(TopicTable { topic: "$tag".to_owned(), ..table.clone() }), "topic");
        assert_eq!(wrong(TopicTable { topic: String::new(), ..table.clone() }), "topic");
        assert_eq!(wrong(TopicTable { key: "$tag".to_owned(), ..table.clone() }), "key");
        assert_eq!(wrong(TopicTable { brokers: Vec::new(), ..table }), "brokers");
    }
}
