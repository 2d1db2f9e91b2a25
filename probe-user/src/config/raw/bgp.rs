//! `[bgp]`, `[bmp]`, `[rpki]` and `[control]` as they are written.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "kafka")]
pub use crate::bgp_output::topic::TopicTable as BgpKafka;
use crate::config::duration;

/// `[bgp]`: sessions with routers, whose routes records carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bgp {
    /// `ADDRESS` or `ADDRESS:PORT` to listen on.
    pub listen: Vec<String>,
    /// BGP Identifier; empty = the address of the connection.
    pub router_id: String,
    /// Sessions of peers that only a prefix allows.
    pub max_dynamic_peers: u32,
    /// `[bgp.table_dump]`
    pub table_dump: TableDump,
    /// `[bgp.message_log]`
    pub message_log: MessageLog,
    /// `[[bgp.peer]]`: who may connect, and whom to connect to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peer: Vec<Peer>,
}

impl Default for Bgp {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            router_id: String::new(),
            max_dynamic_peers: 256,
            table_dump: TableDump::default(),
            message_log: MessageLog::default(),
            peer: Vec::new(),
        }
    }
}

/// `[bgp.table_dump]`: all routes of each peer, at regular times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableDump {
    /// Name of each file, with `$peer_src_ip` and `strftime`'s `%H` and the like; empty = none.
    pub file: String,
    /// Name of a link to the latest file; empty = none.
    pub latest: String,
    /// Time between two dumps.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Whether times are in UTC.
    pub utc: bool,
    /// Whether AS paths and communities are arrays; else they are strings.
    pub as_arrays: bool,
    /// `[bgp.table_dump.kafka]`: to a broker in place of files.
    #[cfg(feature = "kafka")]
    pub kafka: Option<BgpKafka>,
}

impl Default for TableDump {
    fn default() -> Self {
        Self {
            file: String::new(),
            latest: String::new(),
            interval: Duration::from_mins(5),
            utc: false,
            as_arrays: false,
            #[cfg(feature = "kafka")]
            kafka: None,
        }
    }
}

/// `[bgp.message_log]`: what each peer announces and takes back, as it comes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageLog {
    /// Name of each file, as in `[bgp.table_dump]`; empty = none.
    pub file: String,
    /// Whether times are in UTC.
    pub utc: bool,
    /// As in `[bgp.table_dump]`.
    pub as_arrays: bool,
    /// `[bgp.message_log.kafka]`: to a broker in place of files.
    #[cfg(feature = "kafka")]
    pub kafka: Option<BgpKafka>,
}

/// `[[bgp.peer]]`: a peer, or all of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peer {
    /// Address of the peer, or network in which every address may connect.
    pub address: String,
    /// Name in commands and rules; empty = the address.
    pub name: String,
    /// The peer's AS; 0 = any.
    #[serde(rename = "as")]
    pub as_number: u32,
    /// Our AS; 0 = the peer's, which makes the session internal.
    pub local_as: u32,
    /// Whether to connect to the peer as well.
    pub active: bool,
    /// The peer's port, to connect to.
    pub port: u16,
    /// Our address when we connect; empty = the system chooses.
    pub local_address: String,
    /// Hold time offered; 0 = no timers.
    #[serde(with = "duration")]
    pub hold_time: Duration,
    /// Longest pause between two tries to connect.
    #[serde(with = "duration")]
    pub connect_retry: Duration,
    /// Families to take.
    pub families: Vec<FamilyName>,
    /// Whether to take several paths of a prefix.
    pub add_path: bool,
    /// Our role.
    pub role: Option<RoleName>,
    /// Whether the peer has to tell its role.
    pub role_strict: bool,
    /// File with the key of TCP MD5 signatures; empty = none.
    pub md5_key_file: String,
    /// Greatest number of hops to the peer; 0 = any.
    pub ttl_security: u8,
    /// How long routes are kept after the session is lost.
    #[serde(with = "duration")]
    pub stale_time: Duration,
    /// In which of the routes traffic is looked up: `unicast`, `labelled-unicast`, a Route Distinguisher, or `none`.
    pub lookups: String,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            address: String::new(),
            name: String::new(),
            as_number: 0,
            local_as: 0,
            active: false,
            port: 179,
            local_address: String::new(),
            hold_time: Duration::from_secs(90),
            connect_retry: Duration::from_secs(30),
            families: vec![
                FamilyName::Ipv4Unicast,
                FamilyName::Ipv6Unicast,
                FamilyName::Ipv4LabelledUnicast,
                FamilyName::Ipv6LabelledUnicast,
                FamilyName::Ipv4Vpn,
                FamilyName::Ipv6Vpn,
            ],
            add_path: true,
            role: None,
            role_strict: false,
            md5_key_file: String::new(),
            ttl_security: 0,
            stale_time: Duration::from_mins(2),
            lookups: "unicast".to_owned(),
        }
    }
}

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FamilyName {
    /// IPv4 unicast.
    Ipv4Unicast,
    /// IPv6 unicast.
    Ipv6Unicast,
    /// IPv4 unicast with labels (RFC 8277).
    Ipv4LabelledUnicast,
    /// IPv6 unicast with labels.
    Ipv6LabelledUnicast,
    /// `VPNv4` (RFC 4364).
    Ipv4Vpn,
    /// `VPNv6` (RFC 4659).
    Ipv6Vpn,
}

/// Roles (RFC 9234).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// We give transit to the peer.
    Provider,
    /// We are a route server.
    RouteServer,
    /// The peer is a route server.
    RouteServerClient,
    /// The peer gives transit to us.
    Customer,
    /// Neither does.
    Peer,
}

/// `[bmp]`: routers that tell what their peers told them (RFC 7854).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bmp {
    /// `ADDRESS` or `ADDRESS:PORT` to listen on; empty = no BMP.
    pub listen: String,
    /// Addresses and networks of routers that may connect.
    pub routers: Vec<String>,
    /// Routers at a time, those that are gone and stale included.
    pub max_routers: u32,
    /// Peers of each router at a time, those that are down and stale included.
    pub max_peers: u32,
    /// How long routes are kept after a peer or its router is lost.
    #[serde(with = "duration")]
    pub stale_time: Duration,
}

impl Default for Bmp {
    fn default() -> Self {
        Self {
            listen: String::new(),
            routers: Vec::new(),
            max_routers: 1024,
            max_peers: 1024,
            stale_time: Duration::from_mins(5),
        }
    }
}

/// `[rpki]`: who may announce what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rpki {
    /// JSON file with validated ROA payloads; empty = none.
    pub file: String,
    /// `HOST:PORT` of a cache (RFC 8210); empty = none.
    pub cache: String,
}

/// `[control]`: questions to the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Path of the socket; empty = none.
    pub socket: String,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/pathflow/control.sock".to_owned() }
    }
}
