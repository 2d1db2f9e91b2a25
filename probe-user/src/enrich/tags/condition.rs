//! What a rule asks of a record, beside the filter.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use pathflow_exporter::{BgpRoute, FlowDirection, FlowRecord, OriginValidation};

use crate::interfaces::MacAddress;

/// Communities of one rule at most.
const COMMUNITIES: usize = 16;

/// What rules ask beside records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Addresses by which collectors know this router.
    pub(super) agents: Vec<IpAddr>,
}

/// A key with its value. Of most, a value with `-` before it means any other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    negated: bool,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Agent(IpNet),
    In(u32),
    Out(u32),
    /// Where the packets were seen.
    Interface(u32),
    Direction(FlowDirection),
    Vlan(u16),
    CustomerVlan(u16),
    SourceMac(MacAddress),
    DestinationMac(MacAddress),
    SourceNet(IpNet),
    DestinationNet(IpNet),
    SourceAs(u32),
    DestinationAs(u32),
    PeerSourceAs(u32),
    PeerDestinationAs(u32),
    NextHop(IpAddr),
    BgpNextHop(IpAddr),
    SourceLocalPref(u32),
    LocalPref(u32),
    SourceCommunities(Vec<u32>),
    Communities(Vec<u32>),
    SourceRoa(Roa),
    DestinationRoa(Roa),
}

/// What origin validation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roa {
    Valid,
    Invalid,
    Unknown,
}

impl Condition {
    /// What a key asks for.
    pub(super) fn new(key: &str, value: &str) -> Result<Self, String> {
        let (negated, text) = match value.strip_prefix('-') {
            Some(text) if key != "ip" => (true, text),
            _ => (false, value),
        };
        let wanted = match key {
            "ip" => Wanted::Agent(network(text)?),
            "in" => Wanted::In(parse(text)?),
            "out" => Wanted::Out(parse(text)?),
            "iface" => Wanted::Interface(parse(text)?),
            "direction" => Wanted::Direction(direction(text)?),
            "vlan" => Wanted::Vlan(vlan(text)?),
            "cvlan" => Wanted::CustomerVlan(vlan(text)?),
            "src_mac" => Wanted::SourceMac(parse(text)?),
            "dst_mac" => Wanted::DestinationMac(parse(text)?),
            "src_net" => Wanted::SourceNet(network(text)?),
            "dst_net" => Wanted::DestinationNet(network(text)?),
            "src_as" => Wanted::SourceAs(parse(text)?),
            "dst_as" => Wanted::DestinationAs(parse(text)?),
            "peer_src_as" => Wanted::PeerSourceAs(parse(text)?),
            "peer_dst_as" => Wanted::PeerDestinationAs(parse(text)?),
            "nexthop" => Wanted::NextHop(parse(text)?),
            "bgp_nexthop" => Wanted::BgpNextHop(parse(text)?),
            "src_local_pref" => Wanted::SourceLocalPref(parse(text)?),
            "local_pref" => Wanted::LocalPref(parse(text)?),
            "src_comms" => Wanted::SourceCommunities(communities(text)?),
            "comms" => Wanted::Communities(communities(text)?),
            "src_roa" => Wanted::SourceRoa(roa(text)?),
            "dst_roa" => Wanted::DestinationRoa(roa(text)?),
            _ => return Err("there is no such key of the tag map, or only collectors have it".to_owned()),
        };
        Ok(Self { negated, wanted })
    }

    /// Whether it asks for attributes of a route.
    pub(super) const fn asks_attributes(&self) -> bool {
        matches!(
            self.wanted,
            Wanted::SourceLocalPref(_)
                | Wanted::LocalPref(_)
                | Wanted::SourceCommunities(_)
                | Wanted::Communities(_)
        )
    }

    /// Whether it is true of a record.
    pub(super) fn matches(&self, record: &FlowRecord, surroundings: &Surroundings) -> bool {
        self.wanted.is_there(record, surroundings) != self.negated
    }
}

impl Wanted {
    fn is_there(&self, record: &FlowRecord, surroundings: &Surroundings) -> bool {
        let attributes = |route: &Option<std::sync::Arc<BgpRoute>>, test: &dyn Fn(&BgpRoute) -> bool| {
            route.as_deref().is_some_and(test)
        };
        let preferred = |wanted: u32| move |route: &BgpRoute| route.attributes().local_pref == Some(wanted);
        let has_any = |wanted: &[u32], route: &BgpRoute| {
            route.attributes().communities.iter().any(|community| wanted.contains(community))
        };
        match self {
            Self::Agent(network) => {
                network.prefix_len() == 0 || surroundings.agents.iter().any(|agent| network.contains(agent))
            }
            Self::In(number) => record.ingress_interface == *number,
            Self::Out(number) => record.egress_interface == *number,
            Self::Interface(number) => match record.flow_direction {
                FlowDirection::Ingress => record.ingress_interface == *number,
                FlowDirection::Egress => record.egress_interface == *number,
            },
            Self::Direction(direction) => record.flow_direction == *direction,
            Self::Vlan(identifier) => record.vlan_id == *identifier,
            Self::CustomerVlan(identifier) => record.dot1q_customer_vlan_id == *identifier,
            Self::SourceMac(address) => record.source_mac_address == address.0,
            Self::DestinationMac(address) => record.destination_mac_address == address.0,
            Self::SourceNet(network) => network.contains(&record.source_address),
            Self::DestinationNet(network) => network.contains(&record.destination_address),
            Self::SourceAs(number) => record.bgp_source_as_number == *number,
            Self::DestinationAs(number) => record.bgp_destination_as_number == *number,
            Self::PeerSourceAs(number) => record.bgp_prev_adjacent_as_number == *number,
            Self::PeerDestinationAs(number) => record.bgp_next_adjacent_as_number == *number,
            Self::NextHop(address) => record.ip_next_hop == Some(*address),
            Self::BgpNextHop(address) => record.bgp_next_hop == Some(*address),
            Self::SourceLocalPref(value) => attributes(&record.source_route, &preferred(*value)),
            Self::LocalPref(value) => attributes(&record.destination_route, &preferred(*value)),
            Self::SourceCommunities(wanted) => {
                attributes(&record.source_route, &|route| has_any(wanted, route))
            }
            Self::Communities(wanted) => {
                attributes(&record.destination_route, &|route| has_any(wanted, route))
            }
            Self::SourceRoa(wanted) => Roa::of(record.source_rpki) == *wanted,
            Self::DestinationRoa(wanted) => Roa::of(record.destination_rpki) == *wanted,
        }
    }
}

impl Roa {
    const fn of(state: Option<OriginValidation>) -> Self {
        match state {
            None | Some(OriginValidation::NotFound) => Self::Unknown,
            Some(OriginValidation::Valid) => Self::Valid,
            Some(
                OriginValidation::Invalid
                | OriginValidation::InvalidCoveredByValid
                | OriginValidation::InvalidCoveredByNotFound,
            ) => Self::Invalid,
        }
    }
}

fn parse<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "it is not a network, such as 192.0.2.0/24".to_owned())
}

fn direction(text: &str) -> Result<FlowDirection, String> {
    match text {
        "0" | "ingress" | "in" => Ok(FlowDirection::Ingress),
        "1" | "egress" | "out" => Ok(FlowDirection::Egress),
        _ => Err("it must be 0 (ingress) or 1 (egress)".to_owned()),
    }
}

fn vlan(text: &str) -> Result<u16, String> {
    let identifier = text.parse().ok().filter(|identifier| *identifier < 4096);
    identifier.ok_or_else(|| "it must be from 0 to 4095".to_owned())
}

fn roa(text: &str) -> Result<Roa, String> {
    match text {
        "v" | "valid" => Ok(Roa::Valid),
        "i" | "invalid" => Ok(Roa::Invalid),
        "u" | "unknown" => Ok(Roa::Unknown),
        _ => Err("it must be v (valid), i (invalid) or u (unknown)".to_owned()),
    }
}

/// Communities (RFC 1997) with commas between.
fn communities(text: &str) -> Result<Vec<u32>, String> {
    let community = |text: &str| {
        let (high, low) = text.split_once(':')?;
        let (high, low): (u16, u16) = (high.parse().ok()?, low.parse().ok()?);
        Some(u32::from(high) << 16 | u32::from(low))
    };
    let communities: Option<Vec<u32>> = text.split(',').map(community).collect();
    let communities =
        communities.ok_or_else(|| "communities are such as 65000:1234,65000:2345".to_owned())?;
    if communities.len() > COMMUNITIES {
        return Err(format!("a rule has {COMMUNITIES} communities at most"));
    }
    Ok(communities)
}
