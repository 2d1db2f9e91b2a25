//! Metrics of table dumps and of the log of BGP messages.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::family;
use crate::bgp_output::OutputCounts;

/// Nothing of what is not configured. `lost` events found the log's queue full.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, counts: &OutputCounts, lost: u64) -> fmt::Result {
    let mut counter =
        |name, help, value| family(encoder, name, help, MetricType::Counter, [], &[([], value)]);
    let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
    if let Some(dumps) = &counts.table_dump {
        counter("pathflow_bgp_dumped_tables", "Files of table dumps written", load(&dumps.files))?;
        counter("pathflow_bgp_dumped_routes", "Routes in files of table dumps", load(&dumps.routes))?;
        counter("pathflow_bgp_dump_failures", "Files of table dumps not written", load(&dumps.failures))?;
    }
    if let Some(log) = &counts.message_log {
        counter("pathflow_bgp_logged_lines", "Lines of the message log written", load(&log.lines))?;
        counter("pathflow_bgp_log_failures", "Lines of the message log not written", load(&log.failures))?;
        counter("pathflow_bgp_log_lost_events", "Events that found the message log's queue full", lost)?;
    }
    Ok(())
}
