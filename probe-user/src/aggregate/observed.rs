//! What an aggregate gets: packets of one flow in one drain interval, as a record of their own.

use std::sync::Arc;

use pathflow_common::extension::KeyExtension;
use pathflow_exporter::FlowRecord;

use crate::classify::Class;

/// A delta of a flow, enriched as a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The packets of the delta alone. Reasons and times of its flow's end mean nothing here.
    pub record: FlowRecord,
    /// What its flow is told apart by beyond the record, if there is anything.
    pub extension: Option<Arc<KeyExtension>>,
    /// TCP control bits of all packets inside tunnels, or-ed (RFC 7125).
    pub inner_tcp_control_bits: u16,
    /// Its application, as far as it was known then.
    pub class: Class,
    /// Whether these are the first packets of a flow.
    pub begins: bool,
    /// Time of the first packet, in microseconds since the Unix epoch.
    pub start: u64,
    /// Time by which it belongs to a bin: that of the first packet, as exactly as it is known.
    pub time: u64,
    /// Time of the last packet, in microseconds since the Unix epoch.
    pub end: u64,
}

impl AsRef<FlowRecord> for Observed {
    fn as_ref(&self) -> &FlowRecord {
        &self.record
    }
}

impl AsMut<FlowRecord> for Observed {
    fn as_mut(&mut self) -> &mut FlowRecord {
        &mut self.record
    }
}
