//! Metrics of sFlow: what became of samples behind the queue. Those before it are `pathflow_header_sample...`.

use std::fmt;

use pathflow_exporter::sflow::{SampleAccount, SampleTally};
use pathflow_exporter::{LossReason, SendErrorKind};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Rows, family};
use crate::sflow::CollectorBooks;

type TallyUnit = fn(SampleTally) -> u64;
const KINDS: [(&str, TallyUnit); 2] =
    [("flow", |tally| tally.flow_samples), ("counter", |tally| tally.counter_samples)];

/// Nothing without a collector.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, collectors: &[CollectorBooks]) -> fmt::Result {
    if collectors.is_empty() {
        return Ok(());
    }
    samples(
        encoder,
        collectors,
        ("pathflow_sflow_exported_samples", "Samples sent without a report of failure", MetricType::Counter),
        |account| account.delivered,
    )?;
    samples(
        encoder,
        collectors,
        (
            "pathflow_sflow_pending_samples",
            "Samples in a datagram that is not full yet, or just sent",
            MetricType::Gauge,
        ),
        |account| account.pending + account.in_flight,
    )?;
    let mut rows: Rows<'_, 3> = Vec::new();
    for collector in collectors {
        for (kind, unit) in KINDS {
            for reason in LossReason::ALL {
                let labels = [collector.destination.as_str(), kind, reason.as_str()];
                rows.push((labels, unit(collector.account.lost(reason))));
            }
        }
    }
    family(
        encoder,
        "pathflow_sflow_dropped_samples",
        "Samples that the collector will not get",
        MetricType::Counter,
        ["destination", "kind", "reason"],
        &rows,
    )?;
    for (name, help, value) in [
        (
            "pathflow_sflow_datagrams",
            "Datagrams sent",
            (|collector| collector.counts.datagrams) as fn(&CollectorBooks) -> u64,
        ),
        (
            "pathflow_sflow_datagram_octets",
            "Octets of datagrams sent, without IP and UDP headers",
            |collector| collector.counts.octets,
        ),
        (
            "pathflow_sflow_omitted_gateway_records",
            "Gateway records left out of samples that would not have fitted a datagram",
            |collector| collector.counts.gateway_records_omitted,
        ),
    ] {
        let rows: Rows<'_, 1> =
            collectors.iter().map(|collector| ([collector.destination.as_str()], value(collector))).collect();
        family(encoder, name, help, MetricType::Counter, ["destination"], &rows)?;
    }
    let mut rows: Rows<'_, 2> = Vec::new();
    for collector in collectors {
        for kind in SendErrorKind::ALL {
            let errors = collector.counts.send_errors.get(kind as usize).copied().unwrap_or(0);
            rows.push(([collector.destination.as_str(), kind.as_str()], errors));
        }
    }
    family(
        encoder,
        "pathflow_sflow_send_errors",
        "Failed sends, whether or not a second one succeeded",
        MetricType::Counter,
        ["destination", "kind"],
        &rows,
    )
}

fn samples(
    encoder: &mut DescriptorEncoder<'_>,
    collectors: &[CollectorBooks],
    (name, help, metric_type): (&str, &str, MetricType),
    value: fn(&SampleAccount) -> SampleTally,
) -> fmt::Result {
    let mut rows: Rows<'_, 2> = Vec::new();
    for collector in collectors {
        for (kind, unit) in KINDS {
            rows.push(([collector.destination.as_str(), kind], unit(value(&collector.account))));
        }
    }
    family(encoder, name, help, metric_type, ["destination", "kind"], &rows)
}
