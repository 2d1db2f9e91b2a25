//! The exporting side of pathflow: expired flows to a collector, or to a terminal.
//!
//! [`ExportingProcess`] sends IPFIX, NetFlow v9 or NetFlow v5 messages over UDP, and IPFIX over TCP or TLS;
//! [`FlowPrinter`] writes JSON or text lines to standard output. Both take [`FlowRecord`]s and account for every one of
//! them ([`ExportAccount`]). An [`sflow::Agent`] sends sampled headers and interface counters, and accounts for every
//! sample.
//!
//! Counters are exported as they were counted. Of a sampled flow a collector is told the sampling interval, in the
//! record and in options data ([`ObservationContext`]); whether to multiply by it is the collector's business.
//!
//! The crate starts no thread, reads no clock ([`ExportTime`] is an argument) and logs nothing
//! ([`ExportEvent`] is kept for the caller). Sending allocates nothing once buffers have their size, but
//! for long lists of communities and the JSON of a route, which are made when they are first sent. The module `kafka`
//! (feature `kafka`) is different: messages of any kind to Apache Kafka, by a thread of its own.
//!
//! Standards: RFC 7011 (IPFIX protocol), RFC 7012 and the IANA "IPFIX Entities" registry (Information
//! Elements), RFC 5477 (sampling), RFC 7133 (overlay networks), RFC 3954 (NetFlow v9), sFlow Version 5 (sflow.org),
//! RFC 4506 (XDR), RFC 5655 (IPFIX Files, by way of standard output), RFC 8259 (JSON), RFC 3339 (times), RFC 5952
//! (IPv6 addresses).

#![forbid(unsafe_code)]

pub mod account;
pub mod encode;
pub mod information_element;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod sequence;
pub mod sflow;
pub mod template;
pub mod transport;

mod bgp_route;
mod community_lists;
mod exporting_process;
mod flow_printer;
mod flow_template;
mod interface_names;
mod observation;
mod record;
mod statistics;
mod template_schedule;
mod time;

pub use account::{ExportAccount, ExportCounts, LimitReason, LossReason, SendErrorKind};
pub use bgp_route::{
    BgpAttributes, BgpOrigin, BgpPathSegment, BgpPathSegmentKind, BgpRoute, OriginValidation,
};
pub use encode::Format;
pub use exporting_process::{ExportEvent, ExportSettings, ExportSettingsError, ExportingProcess};
pub use flow_printer::{FlowPrinter, LineStyle};
pub use flow_template::FieldGroups;
pub use interface_names::InterfaceNames;
pub use observation::{InterfaceInfo, ObservationContext, Selector, SelectorAlgorithm};
pub use record::{FlowDirection, FlowEndReason, FlowRecord, Tally};
pub use statistics::{MeteringStatistics, Statistics};
pub use time::ExportTime;
pub use transport::{
    Session, Stdout, TcpSettings, TlsError, TlsFile, TlsFiles, TlsSettings, Transport, Udp, UdpError,
    UdpSettings, Unacknowledged,
};
