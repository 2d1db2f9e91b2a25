//! Metrics of table dumps and of the log of BGP messages.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::family;
use crate::bgp_output::OutputCounts;
use crate::bgp_output::account::TopicAccount;

/// Nothing of what is not configured. `lost` events found the log's queue full.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, counts: &OutputCounts, lost: u64) -> fmt::Result {
    let mut counter =
        |name, help, value| family(encoder, name, help, MetricType::Counter, [], &[([], value)]);
    let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let mut topics = Vec::new();
    if let Some(dumps) = &counts.table_dump {
        counter("pathflow_bgp_dumped_tables", "Tables dumped to their end", load(&dumps.tables))?;
        counter("pathflow_bgp_dumped_routes", "Routes in them", load(&dumps.routes))?;
        counter("pathflow_bgp_dump_failures", "Files of table dumps not written", load(&dumps.failures))?;
        topics.extend(dumps.topic.as_ref().map(|topic| ("table_dump", topic.account())));
    }
    if let Some(log) = &counts.message_log {
        counter("pathflow_bgp_log_lost_events", "Events that found the message log's queue full", lost)?;
        if log.topic.is_none() {
            let help = "Lines of the message log not written";
            counter("pathflow_bgp_logged_lines", "Lines of the message log written", load(&log.lines))?;
            counter("pathflow_bgp_log_failures", help, load(&log.failures))?;
        }
        topics.extend(log.topic.as_ref().map(|topic| ("message_log", topic.account())));
    }
    if topics.is_empty() { Ok(()) } else { encode_topics(encoder, &topics) }
}

/// Messages to Kafka, of table dumps and of the log.
fn encode_topics(encoder: &mut DescriptorEncoder<'_>, topics: &[(&str, TopicAccount)]) -> fmt::Result {
    let rows = |value: fn(&TopicAccount) -> u64| -> Vec<([&str; 1], u64)> {
        topics.iter().map(|(function, account)| ([*function], value(account))).collect()
    };
    let delivered = rows(|account| account.delivered);
    let (name, help) = ("pathflow_bgp_kafka_delivered_messages", "Messages that Kafka has confirmed");
    family(encoder, name, help, MetricType::Counter, ["function"], &delivered)?;
    let (name, help) = ("pathflow_bgp_kafka_waiting_messages", "Messages in memory, not confirmed");
    family(encoder, name, help, MetricType::Gauge, ["function"], &rows(|account| account.waiting))?;
    let (name, help) = ("pathflow_bgp_kafka_spooled_messages", "Messages in the spool");
    family(encoder, name, help, MetricType::Gauge, ["function"], &rows(|account| account.spooled))?;
    let lost: Vec<([&str; 2], u64)> = topics
        .iter()
        .flat_map(|(function, account)| account.lost.iter().map(|(why, value)| ([*function, *why], *value)))
        .collect();
    let (name, help) = ("pathflow_bgp_kafka_lost_messages", "Messages lost, by reason");
    family(encoder, name, help, MetricType::Counter, ["function", "reason"], &lost)?;
    let errors: Vec<([&str; 2], u64)> = topics
        .iter()
        .flat_map(|(function, account)| account.errors.iter().map(|(why, value)| ([*function, *why], *value)))
        .collect();
    let (name, help) = ("pathflow_bgp_kafka_errors", "Failures to deliver messages, by reason");
    family(encoder, name, help, MetricType::Counter, ["function", "reason"], &errors)
}
