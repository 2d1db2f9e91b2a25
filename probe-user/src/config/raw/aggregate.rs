//! `[[aggregate]]`: packets added up by keys of the operator's choice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::duration;
#[cfg(feature = "kafka")]
pub use crate::aggregate::KafkaTable as AggregateKafka;
use crate::aggregate::encode::FormatTable;
pub use crate::aggregate::{
    FileTable as AggregateFile, MemoryTable as AggregateMemory, Minimums, StdoutTable as AggregateStdout,
    TopBy,
};

/// `[[aggregate]]`: an aggregate. Names of primitives are pmacct's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Aggregate {
    /// Name, for messages, metrics and threads.
    pub name: String,
    /// Primitives of the key; empty = one total.
    pub key: Vec<String>,
    /// Whether every row says when its first and its last packet came.
    pub stitching: bool,
    /// Packets that are for it, in tcpdump's syntax; empty = all.
    pub filter: String,
    /// File with rules for tags and labels in place of those for all; empty = those.
    pub tag_map: String,
    /// Tags that are for it, such as `1,10-20,-6`; empty = all.
    pub tags: String,
    /// Second tags that are for it; empty = all.
    pub tags2: String,
    /// Labels that are for it, such as `a,-b` or `null`; empty = all.
    pub labels: String,
    /// One in this many packets is counted; 1 = all.
    pub sampling_interval: u32,
    /// Whether counts are multiplied by the sampling intervals.
    pub renormalize: bool,
    /// What `peer_src_ip` says; empty = nothing.
    pub agent_address: String,
    /// Time between two purges.
    #[serde(with = "duration")]
    pub refresh: Duration,
    /// Length of time bins, such as `5m` or `1M`; empty = no bins.
    pub history: String,
    /// What bins begin with: letters of `mhdwM`.
    pub history_roundoff: String,
    /// How much later bins begin.
    #[serde(with = "duration")]
    pub history_offset: Duration,
    /// Rows at most. When there are as many, they are written early.
    pub max_entries: u32,
    /// Only so many rows of each purge, the largest; 0 = all.
    pub top: u32,
    /// By what they are the largest.
    pub top_by: TopBy,
    /// Only rows of so many packets at least.
    pub min_packets: u64,
    /// Only rows of so many octets at least.
    pub min_octets: u64,
    /// Only rows of so many flows that began at least.
    pub min_flows: u64,
    /// Only rows of so many octets per packet at least.
    pub min_octets_per_packet: u64,
    /// Only rows of so many packets per flow at least.
    pub min_packets_per_flow: u64,
    /// Whether rows have to meet all minimums or one.
    pub minimums: Minimums,
    /// Whether bins and times are in UTC, and not in the time zone of the system.
    pub utc: bool,
    /// `[aggregate.format]`: how values are written.
    pub format: FormatTable,
    /// `[aggregate.file]`: rows go to files.
    pub file: Option<AggregateFile>,
    /// `[aggregate.stdout]`: rows go to standard output.
    pub stdout: Option<AggregateStdout>,
    /// `[aggregate.memory]`: rows are kept and added up, for who asks.
    pub memory: Option<AggregateMemory>,
    /// `[aggregate.kafka]`: rows go to Apache Kafka.
    #[cfg(feature = "kafka")]
    pub kafka: Option<AggregateKafka>,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self {
            name: String::new(),
            key: Vec::new(),
            stitching: false,
            filter: String::new(),
            tag_map: String::new(),
            tags: String::new(),
            tags2: String::new(),
            labels: String::new(),
            sampling_interval: 1,
            renormalize: false,
            agent_address: String::new(),
            refresh: Duration::from_mins(1),
            history: String::new(),
            history_roundoff: String::new(),
            history_offset: Duration::ZERO,
            max_entries: 1_048_576,
            top: 0,
            top_by: TopBy::Octets,
            min_packets: 0,
            min_octets: 0,
            min_flows: 0,
            min_octets_per_packet: 0,
            min_packets_per_flow: 0,
            minimums: Minimums::All,
            utc: false,
            format: FormatTable::default(),
            file: None,
            stdout: None,
            memory: None,
            #[cfg(feature = "kafka")]
            kafka: None,
        }
    }
}
