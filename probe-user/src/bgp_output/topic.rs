//! Dumps and log to Apache Kafka: one message for each line.

mod settings;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pathflow_exporter::Tally;
use pathflow_exporter::kafka::{Kafka, KafkaAccount, KafkaCounts, KafkaLossReason, Message, Refused};
use tracing::{info, warn};

pub use settings::{TopicSettings, TopicTable};

use super::account::{TopicAccount, TopicCounts};
use crate::error::RunError;
use crate::kafka::events;
use crate::kafka::queue::{Patience, refusal_name};

/// How long messages may take to leave at the end; the rest goes to the spool.
const CLOSE_TIME: Duration = Duration::from_secs(4);

/// Whether a full queue is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For a while: nobody waits for the caller.
    Patiently,
    /// Not at all.
    Never,
}

/// A topic that lines go to, or one for each peer. Used by one thread.
#[derive(Debug)]
pub(super) struct Topic {
    name: &'static str,
    settings: TopicSettings,
    kafka: Kafka,
    /// What the queue did not take.
    refused: BTreeMap<&'static str, u64>,
    refused_before: u64,
    is_losing: bool,
    patience: Patience,
    /// Topic and key of the peer that had the last line.
    current: Option<(IpAddr, String, String)>,
    counts: Arc<TopicCounts>,
}

impl Topic {
    /// For the function `name`, such as `bgp.table_dump`. It does not wait for a broker.
    ///
    /// # Errors
    /// [`RunError`] if librdkafka does not take the settings, or the spool cannot be used.
    pub(super) fn open(name: &'static str, settings: TopicSettings) -> Result<Self, RunError> {
        for warning in settings.client().warnings() {
            warn!("{name}: {warning}");
        }
        let kafka = Kafka::start(settings.client().clone())
            .map_err(|error| RunError::Kafka { name: name.to_owned(), error })?;
        info!("{name}: messages go to {}", settings.destination());
        Ok(Self {
            name,
            settings,
            kafka,
            // Metrics begin with 0.
            refused: BTreeMap::from([(refusal_name(Refused::QueueFull), 0)]),
            refused_before: 0,
            is_losing: false,
            patience: Patience::new(),
            current: None,
            counts: Arc::default(),
        })
    }

    /// The counters.
    pub(super) fn counts(&self) -> Arc<TopicCounts> {
        Arc::clone(&self.counts)
    }

    /// From now on a full queue has its whole time again.
    pub(super) fn begin(&mut self) {
        self.patience = Patience::new();
    }

    /// Sends each of these lines as a message, without its line feed.
    pub(super) fn send(&mut self, peer: IpAddr, lines: &[u8], wait: Wait) {
        if self.current.as_ref().is_none_or(|(of, ..)| *of != peer) {
            self.current = Some((peer, self.settings.topic(peer), self.settings.key(peer)));
        }
        let Some((_, topic, key)) = &self.current else { return };
        for payload in lines.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
            let message = Message {
                topic,
                partition: self.settings.partition(),
                key: Some(key.as_bytes()).filter(|key| !key.is_empty()),
                payload,
                tally: Tally { records: 1, ..Tally::ZERO },
            };
            let sent = match wait {
                Wait::Patiently => self.patience.send(&mut self.kafka, &message),
                Wait::Never => self.kafka.send(&message),
            };
            if let Err(refused) = sent {
                *self.refused.entry(refusal_name(refused)).or_default() += 1;
            }
        }
    }

    /// Says what happened, and brings the counters up to date.
    pub(super) fn publish(&mut self) {
        while let Some(event) = self.kafka.next_event() {
            events::log(self.name, &event);
        }
        let refused = self.refused.values().sum::<u64>();
        let is_losing = refused > self.refused_before;
        if is_losing && !self.is_losing {
            warn!("{}: messages are not accepted and lost: {:?} so far", self.name, self.refused);
        }
        (self.refused_before, self.is_losing) = (refused, is_losing);
        self.counts.publish(account(&self.kafka.account(), &self.kafka.counts(), &self.refused));
    }

    /// Sends what is there; what stays goes to the spool, if there is one.
    pub(super) fn close(mut self) {
        self.publish();
        let counts = self.kafka.counts();
        let (last, left) = self.kafka.close(Instant::now() + CLOSE_TIME);
        for event in left {
            events::log(self.name, &event);
        }
        let account = account(&last, &counts, &self.refused);
        let lost: Vec<_> = account.lost.iter().filter(|(_, messages)| **messages > 0).collect();
        if account.spooled > 0 {
            info!("{}: {} messages stay in the spool for the next start", self.name, account.spooled);
        }
        if !lost.is_empty() {
            warn!("{}: messages are lost: {lost:?}", self.name);
        }
        self.counts.publish(account);
    }
}

fn account(
    kafka: &KafkaAccount,
    counts: &KafkaCounts,
    refused: &BTreeMap<&'static str, u64>,
) -> TopicAccount {
    let mut lost = refused.clone();
    for reason in KafkaLossReason::ALL {
        *lost.entry(events::loss_name(reason)).or_default() += kafka.lost(reason).records;
    }
    TopicAccount {
        delivered: kafka.delivered.records,
        waiting: (kafka.queued + kafka.in_flight).records,
        spooled: kafka.spooled.records,
        lost,
        errors: events::errors(counts).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::DurabilityName;

    #[test]
    fn what_a_full_queue_does_not_take_is_counted_and_every_message_is_somewhere() {
        let table = TopicTable {
            // Nobody listens there.
            brokers: vec!["127.0.0.1:1".to_owned()],
            topic: "pmacct.bgp".to_owned(),
            durability: DurabilityName::Memory,
            queue_octets: 1 << 20,
            ..TopicTable::default()
        };
        let settings = TopicSettings::new("bgp.message_log", &table).unwrap();
        let mut topic = Topic::open("bgp.message_log", settings).unwrap();
        let counts = topic.counts();
        let line = format!("{{\"{}\"}}\n", "x".repeat(100_000));
        let two = line.repeat(2);
        // More than the queue and the producer together hold.
        for wait in [[Wait::Never; 500].as_slice(), &[Wait::Patiently; 2]].concat() {
            topic.send("192.0.2.1".parse().unwrap(), two.as_bytes(), wait);
        }
        topic.publish();
        let account = counts.account();
        let refused = account.lost["kafka_queue_full"];
        assert!(refused > 0, "{account:?}");
        assert_eq!((account.delivered, account.waiting + refused), (0, 1004), "{account:?}");
        topic.close();
        let account = counts.account();
        assert_eq!((account.delivered, account.waiting, account.spooled), (0, 0, 0));
        assert_eq!(account.lost.values().sum::<u64>(), 1004, "{account:?}");
    }
}
