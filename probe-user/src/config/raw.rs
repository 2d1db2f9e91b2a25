//! The configuration file as it is written (TOML). Every key is optional.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::duration;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// `[capture]`
    pub capture: Capture,
    /// `[flow]`
    pub flow: Flow,
    /// `[export]`
    pub export: Export,
    /// `[http]`
    pub http: Http,
    /// `[log]`
    pub log: Log,
}

/// `[capture]`: what is counted in the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// Interface names.
    pub interfaces: Vec<String>,
    /// How often the kernel's tables are drained.
    #[serde(with = "duration")]
    pub drain_interval: Duration,
    /// Threads that drain; 0 = one for every eight CPUs that receive.
    pub drain_workers: u32,
    /// IPv4 flows of one CPU between two drains; a power of two.
    pub ipv4_slots: u32,
    /// IPv6 flows of one CPU between two drains; a power of two.
    pub ipv6_slots: u32,
    /// Packets of one CPU between two drains that may find no slot and are still counted.
    pub spill_slots: u32,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            drain_interval: Duration::from_secs(1),
            drain_workers: 0,
            ipv4_slots: 131_072,
            ipv6_slots: 16_384,
            spill_slots: 8_192,
        }
    }
}

/// `[flow]`: what a flow is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flow {
    /// A flow that goes on is reported in parts this long.
    #[serde(with = "duration")]
    pub active_timeout: Duration,
    /// A flow without packets for this long is over.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// A TCP flow with FIN or RST that is silent for this long is over.
    #[serde(with = "duration")]
    pub tcp_end_timeout: Duration,
    /// Flows in progress at most.
    pub max_flows: u32,
    /// Shards of the flow cache, a thread each; 0 = one for every four CPUs.
    pub shards: u32,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            active_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_secs(15),
            tcp_end_timeout: Duration::from_secs(2),
            max_flows: 1_048_576,
            shards: 0,
        }
    }
}

/// `[export]`: where records go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// `HOST:PORT` of each collector.
    pub collectors: Vec<String>,
    /// Message format.
    pub format: FormatName,
    /// Observation Domain ID (IPFIX) or Source ID (NetFlow v9).
    pub observation_domain_id: u32,
    /// Source address of messages; empty = the system chooses.
    pub source_address: String,
    /// Largest IP packet to send, even if the path carries more.
    pub mtu: u16,
    /// Longest time between messages with templates.
    #[serde(with = "duration")]
    pub template_interval: Duration,
    /// Templates are in one of this many messages.
    pub template_messages: u32,
    /// Records that wait for each collector at most.
    pub queue_records: u32,
    /// Flows on standard output.
    pub stdout: StdoutStyle,
}

impl Default for Export {
    fn default() -> Self {
        Self {
            collectors: Vec::new(),
            format: FormatName::Ipfix,
            observation_domain_id: 0,
            source_address: String::new(),
            mtu: 1500,
            template_interval: Duration::from_mins(1),
            template_messages: 1000,
            queue_records: 262_144,
            stdout: StdoutStyle::Auto,
        }
    }
}

/// Export formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FormatName {
    /// IPFIX (RFC 7011)
    Ipfix,
    /// NetFlow version 9 (RFC 3954)
    NetflowV9,
}

/// What is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StdoutStyle {
    /// Nothing if there is a collector; else text on a terminal and JSON into a pipe or file.
    Auto,
    /// A line of text for each flow.
    Text,
    /// A JSON object on a line for each flow.
    Json,
    /// Nothing.
    None,
}

/// `[http]`: metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// `ADDRESS:PORT` of the page; empty = no page.
    pub listen: String,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9590".to_owned() }
    }
}

/// `[log]`: messages on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}
