//! What the operator wants of an aggregate, checked.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::bins::Bins;
#[cfg(feature = "kafka")]
use super::output::KafkaOutputSettings;
use super::output::{FileSettings, MemorySettings, StdoutSettings};
use super::primitive::Key;
use super::purge::RowLimits;
use super::selection::Selection;

/// Settings of an aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateSettings {
    /// Name; unique.
    pub name: String,
    /// What rows are told apart by.
    pub key: Key,
    /// Which packets are for it.
    pub selection: Selection,
    /// The expression whose bit is in the selection; empty = none.
    pub filter: String,
    /// One in this many of them is counted.
    pub sampling_interval: NonZeroU32,
    /// Whether counts are multiplied by the sampling intervals of the capture and of the aggregate.
    pub renormalize: bool,
    /// What `peer_src_ip` says.
    pub agent: Option<IpAddr>,
    /// When there is a purge: at the start of each bin of these.
    pub refresh: Bins,
    /// Time bins; `None` = rows have no time.
    pub history: Option<Bins>,
    /// Rows at most.
    pub max_entries: usize,
    /// Which rows are written.
    pub limits: RowLimits,
    /// Where they are written to.
    pub outputs: Vec<OutputSettings>,
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputSettings {
    /// Files.
    File(FileSettings),
    /// Standard output.
    Stdout(StdoutSettings),
    /// A table in memory, for who asks.
    Memory(MemorySettings),
    /// A topic of Apache Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaOutputSettings>),
}

impl AggregateSettings {
    /// Settings with a key, a time between two purges, and else the defaults: for tests and measurements.
    #[must_use]
    pub fn new(name: &str, key: Key, refresh: Duration) -> Self {
        Self {
            name: name.to_owned(),
            key,
            selection: Selection::default(),
            filter: String::new(),
            sampling_interval: NonZeroU32::MIN,
            renormalize: false,
            agent: None,
            refresh: Bins::every(refresh),
            history: None,
            max_entries: 1 << 20,
            limits: RowLimits::default(),
            outputs: Vec::new(),
        }
    }
}
