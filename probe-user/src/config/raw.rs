//! The configuration file as it is written (TOML). Every key is optional.

mod aggregate;
mod bgp;
mod enrich;

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::duration;
pub use aggregate::{Aggregate, AggregateStdout, TopBy};
pub use bgp::{Bgp, Bmp, Control, FamilyName, MessageLog, Peer, RoleName, Rpki, TableDump};
pub use enrich::{Agent, Enrich, PeerSource, TagValue};

use crate::aggregate::Semantics;
use crate::interfaces::{Direction, EgressPackets, Hook, Mode, SamplingMethod};

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
    /// `[sflow]`
    pub sflow: Sflow,
    /// `[bgp]`
    pub bgp: Bgp,
    /// `[bmp]`
    pub bmp: Bmp,
    /// `[enrich]`
    pub enrich: Enrich,
    /// `[rpki]`
    pub rpki: Rpki,
    /// `[[aggregate]]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aggregate: Vec<Aggregate>,
    /// `[control]`
    pub control: Control,
    /// `[http]`
    pub http: Http,
    /// `[log]`
    pub log: Log,
}

/// `[capture]`: what is counted in the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// Interface names, globs, `physical`, and any of these after `!`.
    pub interfaces: Vec<String>,
    /// Whether interfaces may be missing at the start.
    pub wait_for_interfaces: bool,
    /// Which packets are counted.
    pub direction: Direction,
    /// Which of those that go out.
    pub egress_packets: EgressPackets,
    /// Where packets that come in are counted.
    pub hook: Hook,
    /// File with the operator's interface numbers; empty = none.
    pub interfaces_map: String,
    /// Where output interface and next hop are from.
    pub egress_interface: EgressInterface,
    /// One packet in this many is counted.
    pub sampling_interval: u32,
    /// How it is chosen.
    pub sampling: SamplingMethod,
    /// One packet in this many has its header copied; 0 = none.
    pub header_sampling_interval: u32,
    /// Which packet of a tunnel makes the flow.
    pub tunnels: Tunnels,
    /// UDP ports of VXLAN.
    pub vxlan_ports: Vec<u16>,
    /// Whether the kernel goes on counting without the daemon.
    pub pin: bool,
    /// `[[capture.interface]]`: what differs for some interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interface: Vec<CaptureInterface>,
    /// `[[capture.primitive]]`: octets of packets that aggregates can have in their keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub primitive: Vec<CapturePrimitive>,
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
    /// Packets to account, in tcpdump's syntax; empty = all.
    pub filter: String,
    /// `[capture.classify]`
    pub classify: Classify,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            wait_for_interfaces: false,
            direction: Direction::Ingress,
            egress_packets: EgressPackets::All,
            hook: Hook::Auto,
            interfaces_map: String::new(),
            egress_interface: EgressInterface::Fib,
            sampling_interval: 1,
            sampling: SamplingMethod::Random,
            header_sampling_interval: 0,
            tunnels: Tunnels::Outer,
            vxlan_ports: vec![4789],
            pin: false,
            interface: Vec::new(),
            primitive: Vec::new(),
            drain_interval: Duration::from_secs(1),
            drain_workers: 0,
            ipv4_slots: 131_072,
            ipv6_slots: 16_384,
            spill_slots: 8_192,
            filter: String::new(),
            classify: Classify::default(),
        }
    }
}

/// `[capture.classify]`: how the applications of flows are found, for aggregates with `class` in their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Classify {
    /// Packets with payload of one flow that are looked at, both directions together.
    pub packets: u32,
    /// Octets of each of them.
    pub octets: u32,
    /// Flows that are remembered.
    pub max_flows: u32,
    /// How long a flow is remembered that has no packets.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Whether ports and addresses may say what payload does not.
    pub guess: bool,
}

impl Default for Classify {
    fn default() -> Self {
        Self {
            packets: 10,
            octets: 1536,
            max_flows: 262_144,
            idle_timeout: Duration::from_mins(10),
            guess: false,
        }
    }
}

/// `[[capture.interface]]`: what differs for the interfaces that `name` means. The first that does counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureInterface {
    /// Name or glob.
    pub name: String,
    /// How packets are counted.
    #[serde(default)]
    pub mode: Mode,
    /// Which packets are counted.
    pub direction: Option<Direction>,
    /// Which of those that go out.
    pub egress_packets: Option<EgressPackets>,
    /// Where packets that come in are counted.
    pub hook: Option<Hook>,
    /// One packet in this many is counted.
    pub sampling_interval: Option<u32>,
    /// How it is chosen.
    pub sampling: Option<SamplingMethod>,
    /// One packet in this many has its header copied; 0 = none.
    pub header_sampling_interval: Option<u32>,
    /// Number to report in place of the kernel's index.
    pub index: Option<u32>,
    /// Mirror mode although the interface looks as if it were in use.
    #[serde(default)]
    pub i_know_this_steals: bool,
    /// MAC addresses of the router whose packets are mirrored.
    #[serde(default)]
    pub router_macs: Vec<String>,
}

/// `[[capture.primitive]]`: octets of packets under a name, for keys of aggregates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapturePrimitive {
    /// Name, in keys of aggregates and in their rows.
    pub name: String,
    /// Where the octets are, `LAYER[:[PROTOCOL]][+OFFSET]`; of several, the first that a packet has.
    pub at: Vec<String>,
    /// How many octets.
    pub length: u8,
    /// What they are.
    pub semantics: Semantics,
}

/// Where output interface and next hop of a record are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressInterface {
    /// The kernel's routing table.
    Fib,
    /// They are not determined.
    None,
}

/// Which packet of a tunnel makes the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tunnels {
    /// The one that carries
    Outer,
    /// The one that is carried
    Inner,
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
    /// Which collector gets a record.
    pub distribution: Distribution,
    /// How messages travel.
    pub transport: TransportName,
    /// File with the authorities that certificates of collectors are from; PEM. For TLS.
    pub ca_file: String,
    /// File with our own certificate; PEM; empty = none. For TLS.
    pub certificate_file: String,
    /// File with its key; PEM. For TLS.
    pub key_file: String,
    /// Name in the certificate of the collector; empty = the host by which it is given. For TLS.
    pub server_name: String,
    /// Observation Domain ID (IPFIX) or Source ID (NetFlow v9); its low 16 bits are engine type and id (NetFlow v5).
    pub observation_domain_id: u32,
    /// Fields of records beside the standard ones; absent = those of BGP, if there are routes and the format has them.
    pub fields: Option<Vec<FieldsName>>,
    /// One in this many packets of each record is exported; 1 = all.
    pub sampling_interval: u32,
    /// Source address of messages; empty = the system chooses.
    pub source_address: String,
    /// Differentiated Services Codepoint of messages.
    pub dscp: u8,
    /// Time to Live (IPv4) or Hop Limit (IPv6) of messages; 0 = the system's.
    pub ttl: u8,
    /// Largest IP packet to send, even if the path carries more.
    pub mtu: u16,
    /// Longest time between messages with templates.
    #[serde(with = "duration")]
    pub template_interval: Duration,
    /// Templates are in one of this many messages.
    pub template_messages: u32,
    /// Records that wait for each collector at most.
    pub queue_records: u32,
    /// Records that a collector is sent in a second, ten times as many while its queue is half full; 0 = no limit.
    pub pace: u32,
    /// Only packets that this expression in tcpdump's syntax matches; empty = all.
    pub filter: String,
    /// File with rules for tags and labels, in place of those of `[enrich]`; empty = those.
    pub tag_map: String,
    /// Flows on standard output.
    pub stdout: StdoutStyle,
    /// `[[export.process]]`: further Exporting Processes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<ExportProcess>,
}

/// `[[export.process]]`: an Exporting Process. What is absent is as in `[export]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportProcess {
    /// `HOST:PORT` of each collector.
    pub collectors: Vec<String>,
    /// Message format.
    pub format: Option<FormatName>,
    /// Which collector gets a record.
    pub distribution: Option<Distribution>,
    /// How messages travel.
    pub transport: Option<TransportName>,
    /// File with the authorities that certificates of collectors are from.
    pub ca_file: Option<String>,
    /// File with our own certificate.
    pub certificate_file: Option<String>,
    /// File with its key.
    pub key_file: Option<String>,
    /// Name in the certificate of the collector.
    pub server_name: Option<String>,
    /// Observation Domain ID (IPFIX) or Source ID (NetFlow v9).
    pub observation_domain_id: Option<u32>,
    /// Fields of records beside the standard ones.
    pub fields: Option<Vec<FieldsName>>,
    /// One in this many packets of each record is exported.
    pub sampling_interval: Option<u32>,
    /// Source address of messages.
    pub source_address: Option<String>,
    /// Differentiated Services Codepoint of messages.
    pub dscp: Option<u8>,
    /// Time to Live or Hop Limit of messages.
    pub ttl: Option<u8>,
    /// Largest IP packet to send.
    pub mtu: Option<u16>,
    /// Longest time between messages with templates.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub template_interval: Option<Duration>,
    /// Templates are in one of this many messages.
    pub template_messages: Option<u32>,
    /// Records that wait for each collector at most.
    pub queue_records: Option<u32>,
    /// Records that a collector is sent in a second at most.
    pub pace: Option<u32>,
    /// Only packets that this expression in tcpdump's syntax matches.
    pub filter: Option<String>,
    /// File with rules for tags and labels, in place of those of `[enrich]`.
    pub tag_map: Option<String>,
    /// 4 or 6: only records of this version of IP.
    pub ip_version: Option<u8>,
    /// Only records with source or destination in one of these networks; empty = any.
    pub networks: Vec<String>,
    /// Only records of these IP protocol numbers; empty = any.
    pub protocols: Vec<u8>,
    /// Only records seen at interfaces of these names or globs; empty = any.
    pub interfaces: Vec<String>,
    /// Only records of this direction.
    pub direction: Option<Direction>,
}

/// Which of several collectors gets a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// All of them.
    All,
    /// One, by the flow: both directions of a conversation go to the same one.
    FlowHash,
    /// The first that works.
    Failover,
}

impl Default for Export {
    fn default() -> Self {
        Self {
            collectors: Vec::new(),
            format: FormatName::Ipfix,
            distribution: Distribution::All,
            transport: TransportName::Udp,
            ca_file: String::new(),
            certificate_file: String::new(),
            key_file: String::new(),
            server_name: String::new(),
            observation_domain_id: 0,
            fields: None,
            sampling_interval: 1,
            source_address: String::new(),
            dscp: 0,
            ttl: 0,
            mtu: 1500,
            template_interval: Duration::from_mins(1),
            template_messages: 1000,
            queue_records: 262_144,
            pace: 200_000,
            filter: String::new(),
            tag_map: String::new(),
            stdout: StdoutStyle::Auto,
            process: Vec::new(),
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
    /// NetFlow version 5 (IPv4 only)
    NetflowV5,
}

/// Groups of fields that records have if there is something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FieldsName {
    /// Prefix lengths, adjacent AS numbers and BGP next hop.
    Bgp,
    /// BGP communities of both routes.
    Communities,
    /// pmacct's `tag`, `tag2` and `label`.
    Tags,
    /// MAC address of the neighbour.
    Mac,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransportName {
    /// UDP
    Udp,
    /// TCP
    Tcp,
    /// TLS over TCP
    Tls,
}

/// What is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StdoutStyle {
    /// Nothing if there is a collector or an aggregate; else text on a terminal and JSON into a pipe or file.
    Auto,
    /// A line of text for each flow.
    Text,
    /// A JSON object on a line for each flow.
    Json,
    /// Nothing.
    None,
}

/// `[sflow]`: where header samples and interface counters go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sflow {
    /// `HOST` or `HOST:PORT` of each collector.
    pub collectors: Vec<String>,
    /// Address by which collectors know this router; empty = the source address towards the collector.
    pub agent_address: String,
    /// Tells several agents of one address apart.
    pub sub_agent_id: u32,
    /// How often the counters of each interface are sent.
    #[serde(with = "duration")]
    pub counter_interval: Duration,
    /// Source address of datagrams; empty = the system chooses.
    pub source_address: String,
}

impl Default for Sflow {
    fn default() -> Self {
        Self {
            collectors: Vec::new(),
            agent_address: String::new(),
            sub_agent_id: 0,
            counter_interval: Duration::from_secs(20),
            source_address: String::new(),
        }
    }
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
