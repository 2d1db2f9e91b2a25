//! Metrics of classification.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Rows, family};
use crate::capture::PayloadCounts;
use crate::classify::ClassCounts;

/// Nothing if nobody asks for classes.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    classes: Option<&ClassCounts>,
    payloads: Option<&PayloadCounts>,
    tapped_lost: u64,
) -> fmt::Result {
    let Some(classes) = classes else { return Ok(()) };
    let mut one = |name: &str, help: &str, kind, value| {
        family(encoder, &format!("pathflow_classify_{name}"), help, kind, [], &[([], value)])
    };
    one("packets", "Packets looked at to find applications", MetricType::Counter, classes.packets)?;
    one("pending_flows", "Flows whose application is being looked for", MetricType::Gauge, classes.pending)?;
    one("held_flows", "Flows that are remembered", MetricType::Gauge, classes.held)?;
    let rows: Rows<'_, 1> = vec![(["classified"], classes.classified), (["unknown"], classes.unknown)];
    let help = "Flows that were looked at, by what came of it";
    family(encoder, "pathflow_classify_flows", help, MetricType::Counter, ["result"], &rows)?;
    let rows: Rows<'_, 1> =
        vec![(["pending_full"], classes.pending_full), (["table_full"], classes.table_full)];
    let help = "Flows that were given up or forgotten before their time";
    family(encoder, "pathflow_classify_evicted_flows", help, MetricType::Counter, ["reason"], &rows)?;
    let Some(payloads) = payloads else { return Ok(()) };
    let help = "First packets of flows that the kernel program sent to user space";
    family(encoder, "pathflow_classify_sent_packets", help, MetricType::Counter, [], &[([], payloads.sent)])?;
    let rows: Rows<'_, 1> = vec![
        (["over_budget"], payloads.over_budget),
        (["buffer_full"], payloads.buffer_full),
        (["mirror_queue_full"], tapped_lost),
    ];
    let help = "First packets of flows that nobody looked at";
    family(encoder, "pathflow_classify_dropped_packets", help, MetricType::Counter, ["reason"], &rows)
}
