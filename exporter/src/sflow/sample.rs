//! Flow samples, in plain types: what the caller knows of a sampled packet.

use std::net::IpAddr;

/// Input or output of a sampled packet (`interface` of the standard).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampledInterface {
    /// Nothing is known (0).
    #[default]
    Unknown,
    /// The packet comes from or ends in the device itself (`0x3FFFFFFF`).
    Internal,
    /// ifIndex.
    Index(u32),
}

/// What a sampled header begins with (`header_protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum HeaderProtocol {
    /// Ethernet (`ETHERNET-ISO88023`).
    #[default]
    Ethernet = 1,
    /// IPv4, without a link header.
    Ipv4 = 11,
    /// IPv6, without a link header.
    Ipv6 = 12,
}

/// A sampled packet (`flow_sample`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSample<'a> {
    /// ifIndex of the interface that was sampled: the data source.
    pub source: u32,
    /// One packet in this many is sampled, on average.
    pub sampling_rate: u32,
    /// Packets of the data source from which samples were drawn, since it began; sent modulo 2^32.
    pub sample_pool: u64,
    /// Samples of the data source that were lost before they came here, since it began; sent modulo 2^32.
    pub drops: u64,
    /// Interface on which the packet came in.
    pub input: SampledInterface,
    /// Interface on which the packet went out.
    pub output: SampledInterface,
    /// What the header begins with.
    pub protocol: HeaderProtocol,
    /// Octets of the packet on the wire from where the header begins, without frame check sequence.
    pub frame_length: u32,
    /// The frame from its first octet. More than 512 octets are cut off.
    pub header: &'a [u8],
    /// What switching knows of the packet.
    pub switch: Option<ExtendedSwitch>,
    /// What routing knows of the packet.
    pub router: Option<ExtendedRouter>,
    /// What BGP knows of the packet.
    pub gateway: Option<ExtendedGateway<'a>>,
}

/// VLAN and priority (`extended_switch`, format 1001).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtendedSwitch {
    /// VLAN identifier (IEEE 802.1Q) of the frame as it came in; 0 = untagged.
    pub source_vlan: u32,
    /// Priority (IEEE 802.1p) of the frame as it came in.
    pub source_priority: u32,
    /// VLAN identifier of the frame as it went out; 0 = untagged.
    pub destination_vlan: u32,
    /// Priority of the frame as it went out.
    pub destination_priority: u32,
}

/// Next hop and prefixes (`extended_router`, format 1002).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtendedRouter {
    /// Next router; `None` = not known.
    pub next_hop: Option<IpAddr>,
    /// Length in bits of the prefix of the source address.
    pub source_prefix_length: u32,
    /// Length in bits of the prefix of the destination address.
    pub destination_prefix_length: u32,
}

/// Route of the destination (`extended_gateway`, format 1003). AS numbers have four octets (RFC 6793).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtendedGateway<'a> {
    /// Border router that is the next hop (`NEXT_HOP` of BGP); `None` = not known.
    pub next_hop: Option<IpAddr>,
    /// The router's own AS.
    pub router_as: u32,
    /// AS of the source address.
    pub source_as: u32,
    /// Neighbouring AS towards the source.
    pub source_peer_as: u32,
    /// `AS_PATH` to the destination, nearest AS first.
    pub destination_as_path: &'a [AsPathSegment<'a>],
    /// Communities of the route (RFC 1997).
    pub communities: &'a [u32],
    /// `LOCAL_PREF` of the route.
    pub local_preference: u32,
}

/// A segment of an `AS_PATH` (`as_path_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsPathSegment<'a> {
    /// `AS_SET`.
    Set(&'a [u32]),
    /// `AS_SEQUENCE`.
    Sequence(&'a [u32]),
}
