//! What the Kafka output tells, as lines of the log, and names of its losses.

use pathflow_exporter::kafka::{
    ClientErrorKind, DeliveryErrorKind, KafkaCounts, KafkaEvent, KafkaLossReason,
};
use tracing::{info, warn};

/// Under which name a loss is counted.
pub(crate) const fn loss_name(reason: KafkaLossReason) -> &'static str {
    match reason {
        KafkaLossReason::TooLarge => "kafka_too_large",
        KafkaLossReason::Rejected => "kafka_rejected",
        KafkaLossReason::Invalid => "kafka_invalid",
        KafkaLossReason::SpoolBound => "spool_bound",
        KafkaLossReason::DiskFull => "spool_disk_full",
        KafkaLossReason::SpoolDamaged => "spool_damaged",
        KafkaLossReason::SpoolFailed => "spool_failed",
        KafkaLossReason::Unsent => "kafka_unsent",
        KafkaLossReason::TopicUnavailable => "kafka_topic_unavailable",
    }
}

/// What kept messages from being delivered, by name, in times that it happened.
pub(crate) fn errors(counts: &KafkaCounts) -> impl Iterator<Item = (&'static str, u64)> {
    let client = ClientErrorKind::ALL.map(|kind| (kind.as_str(), counts.client_errors[kind as usize]));
    let delivery = DeliveryErrorKind::ALL.map(|kind| (kind.as_str(), counts.errors[kind as usize]));
    client.into_iter().chain(delivery)
}

/// Logs an event of the output `name`.
pub(crate) fn log(name: &str, event: &KafkaEvent) {
    match event {
        KafkaEvent::OutageBegan { to_spool: true } => {
            warn!("{name}: Kafka confirms nothing; messages go to the spool until it does");
        }
        KafkaEvent::OutageBegan { to_spool: false } => {
            warn!("{name}: Kafka confirms nothing; messages wait in memory until it does");
        }
        KafkaEvent::OutageEnded { lasted } => {
            info!("{name}: Kafka confirms messages again, after {:.1} s", lasted.as_secs_f64());
        }
        KafkaEvent::ClientError { text, .. } => warn!("{name}: Kafka: {text}"),
        KafkaEvent::DeliveryFailed { topic, text, .. } => {
            warn!(
                "{name}: topic {topic}: {text}; its messages wait, and one of them tries it every two seconds"
            );
        }
        KafkaEvent::TopicStuck { topic } => warn!(
            "{name}: topic {topic}: Kafka confirms nothing for it, as when a partition has no leader; its messages wait \
             until the first of them is confirmed"
        ),
        KafkaEvent::TopicWorks { topic, lasted } => {
            info!("{name}: topic {topic} takes messages again, after {:.1} s", lasted.as_secs_f64());
        }
        KafkaEvent::HeldLost { .. } => warn!(
            "{name}: there is no more room for what waits for topics that take nothing; the oldest of it is lost, \
             counted as {}",
            loss_name(KafkaLossReason::TopicUnavailable)
        ),
        KafkaEvent::MessageLost { reason, topic, key, octets } => warn!(
            "{name}: topic {topic}: a message of {octets} octets with the key {key:?} is lost, counted as {}",
            loss_name(*reason)
        ),
        KafkaEvent::ProducerRecreated { epoch, text } => {
            warn!(
                "{name}: the producer failed: {text}; a new one sends again what was not confirmed (epoch {epoch})"
            );
        }
        KafkaEvent::ProducerFailed { text } => warn!("{name}: no producer could be made: {text}"),
        KafkaEvent::SpoolRecovered { messages, tally } => info!(
            "{name}: {messages} messages ({} rows, {} packets) of an earlier run are in the spool and go first",
            tally.records, tally.packets
        ),
        KafkaEvent::CrashLoss { messages, tally, went_down: true, .. } => warn!(
            "{name}: the machine went down under an earlier run; {messages} messages ({} rows, {} packets) had reached \
             neither Kafka nor the spool when their number was last written to disk, and what came after that is not \
             known",
            tally.records, tally.packets
        ),
        KafkaEvent::CrashLoss { messages, uncertain, tally, went_down: false } => warn!(
            "{name}: an earlier run was killed with {messages} messages (at least {} rows, {} packets) that had reached neither \
             Kafka nor the spool, as far as is known, and up to {uncertain} more",
            tally.records, tally.packets
        ),
        KafkaEvent::SpoolSetAside { path, text, messages } => warn!(
            "{name}: the spool was damaged ({text}); it is now {}, and the {messages} messages that could be read go on",
            path.display()
        ),
        KafkaEvent::SpoolDamaged { messages } => {
            warn!("{name}: the spool was damaged, {messages} messages of it are lost");
        }
        KafkaEvent::SpoolFull => warn!("{name}: the spool has its full size; its oldest messages are lost"),
        KafkaEvent::DiskFull => warn!("{name}: the file system of the spool is full"),
        KafkaEvent::SpoolFailed { text } => {
            warn!("{name}: the spool does not work: {text}; messages wait in memory alone");
        }
        KafkaEvent::SpoolWorks => info!("{name}: the spool works again"),
    }
}
