//! `[enrich]` as it is written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::duration;
use crate::enrich::Method;

/// `[enrich]`: what records say beyond what packets carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Enrich {
    /// What AS and peer AS are from.
    pub as_method: Method,
    /// What prefix length and next hop are from.
    pub net_method: Method,
    /// File with networks of the operator's; empty = none.
    pub networks_file: String,
    /// Whether the file counts however short its prefix is.
    pub networks_file_no_lpm: bool,
    /// File that says where addresses are, in the `MaxMind` DB format; empty = none.
    pub geoip_file: String,
    /// AS of routes with an empty path; 0 = none.
    pub local_as: u32,
    /// Whether sub-ASes of the own confederation are passed over in search of the peer AS.
    pub skip_confederation: bool,
    /// AS numbers of a path that are kept; 0 = all.
    pub aspath_radius: u16,
    /// Communities that are kept; empty = all.
    pub stdcomm_pattern: Vec<String>,
    /// Extended communities that are kept; empty = all.
    pub extcomm_pattern: Vec<String>,
    /// Large communities that are kept; empty = all.
    pub lrgcomm_pattern: Vec<String>,
    /// Communities that say peer AS and AS of a route whose path does not.
    pub stdcomm_pattern_to_asn: Vec<String>,
    /// Large communities that do.
    pub lrgcomm_pattern_to_asn: Vec<String>,
    /// How long the first records wait for the routes; 0 = not at all.
    #[serde(with = "duration")]
    pub wait_for_rib: Duration,
    /// File with rules for tags and labels; empty = none.
    pub tag_map: String,
    /// `[[enrich.agent]]`: whose routes are for which records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agent: Vec<Agent>,
    /// `[[enrich.peer_source]]`: from which AS traffic comes in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peer_source: Vec<PeerSource>,
    /// `[[enrich.tag]]`: rules for tags and labels behind those of the file, with the same keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<BTreeMap<String, TagValue>>,
}

/// A value of a rule for tags and labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TagValue {
    /// Such as a tag.
    Number(i64),
    /// Such as a label.
    Text(String),
}

impl std::fmt::Display for TagValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Default for Enrich {
    fn default() -> Self {
        Self {
            as_method: Method::Longest,
            net_method: Method::Longest,
            networks_file: String::new(),
            networks_file_no_lpm: false,
            geoip_file: String::new(),
            local_as: 0,
            skip_confederation: true,
            aspath_radius: 0,
            stdcomm_pattern: Vec::new(),
            extcomm_pattern: Vec::new(),
            lrgcomm_pattern: Vec::new(),
            stdcomm_pattern_to_asn: Vec::new(),
            lrgcomm_pattern_to_asn: Vec::new(),
            wait_for_rib: Duration::ZERO,
            tag_map: String::new(),
            agent: Vec::new(),
            peer_source: Vec::new(),
            tag: Vec::new(),
        }
    }
}

/// `[[enrich.agent]]`: whose routes are for which records. The first that is true of a record counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// Address of the peer.
    pub peer: String,
    /// 4 or 6: only records of this version of IP.
    pub ip_version: Option<u8>,
    /// Only records with source or destination in one of these networks; empty = any.
    pub networks: Vec<String>,
    /// Only records seen at interfaces of these names or globs; empty = any.
    pub interfaces: Vec<String>,
}

/// `[[enrich.peer_source]]`: from which AS traffic comes in. The first that is true of a record counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerSource {
    /// Only records that come in at interfaces of these names or globs; empty = any.
    pub interfaces: Vec<String>,
    /// Only records that neighbours with these MAC addresses send; empty = any.
    pub macs: Vec<String>,
    /// Only records whose source has a route with this next hop; empty = any.
    pub next_hop: String,
    /// The AS; 0 = as the route to the source says.
    #[serde(rename = "as")]
    pub as_number: u32,
}
