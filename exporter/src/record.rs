//! One expired flow, and sums over flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Add, AddAssign, Sub, SubAssign};

/// One expired Flow, ready for export (a Flow Record, RFC 7011, section 2).
///
/// Fields are named as the Information Elements they become (IANA "IPFIX Entities"), in `snake_case`.
/// Every value is in host byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Source address; of the same family as `destination_address`.
    ///
    /// If the families differ, binary formats write both as IPv6, the IPv4 one IPv4-mapped
    /// (RFC 4291, section 2.5.5.2).
    pub source_address: IpAddr,
    /// Destination address.
    pub destination_address: IpAddr,
    /// sourceTransportPort; 0 if the protocol has no ports.
    pub source_port: u16,
    /// destinationTransportPort, written as given. For ICMP the caller gives type * 256 + code here, as
    /// NetFlow collectors expect.
    pub destination_port: u16,
    /// Protocol number of the layer above IP.
    pub protocol_identifier: u8,
    /// The IPv4 type of service or IPv6 traffic class octet.
    pub ip_class_of_service: u8,
    /// TCP control bits seen in any packet, FIN being bit 0; 0 if not TCP. Binary formats carry bits 0 to 7.
    pub tcp_control_bits: u16,
    /// Outer 802.1Q VLAN identifier; 0 = untagged.
    pub vlan_id: u16,
    /// Inner (customer) VLAN identifier of a double-tagged frame; 0 = none.
    pub dot1q_customer_vlan_id: u16,
    /// Index of the interface the packets arrived on; 0 = unknown.
    pub ingress_interface: u32,
    /// Index of the interface the packets left by; 0 = unknown.
    pub egress_interface: u32,
    /// Direction at the Observation Point.
    pub flow_direction: FlowDirection,
    /// ICMP type * 256 + code; 0 if not ICMP.
    pub icmp_type_code: u16,
    /// Packets of this flow since the previous report.
    pub packet_delta_count: u64,
    /// Layer 3 octets of this flow since the previous report, IP headers included.
    pub octet_delta_count: u64,
    /// Time of the first packet, in milliseconds since the Unix epoch.
    pub flow_start_milliseconds: u64,
    /// Time of the last packet, in milliseconds since the Unix epoch.
    pub flow_end_milliseconds: u64,
    /// Why the flow was reported now.
    pub flow_end_reason: FlowEndReason,
    /// Autonomous System of the source; 0 = unknown.
    pub bgp_source_as_number: u32,
    /// Autonomous System of the destination; 0 = unknown.
    pub bgp_destination_as_number: u32,
    /// Length of the route that covers the source, in bits; 0 = unknown.
    pub source_prefix_length: u8,
    /// Length of the route that covers the destination, in bits; 0 = unknown.
    pub destination_prefix_length: u8,
    /// BGP next hop towards the destination, if known.
    pub bgp_next_hop: Option<IpAddr>,
}

/// Values of flowDirection (Information Element 61, IANA "IPFIX Entities").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowDirection {
    /// The packets were seen entering the device.
    Ingress = 0,
    /// The packets were seen leaving the device.
    Egress = 1,
}

impl FlowDirection {
    /// Name for people and for JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Values of flowEndReason (Information Element 136, IANA "IPFIX Entities").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowEndReason {
    /// No packet for the idle timeout.
    IdleTimeout = 1,
    /// The flow went on for the active timeout and is reported in parts.
    ActiveTimeout = 2,
    /// The end was seen, such as TCP FIN or RST.
    EndOfFlow = 3,
    /// An external event, such as shutdown of the Metering Process.
    ForcedEnd = 4,
    /// The flow cache needed room.
    LackOfResources = 5,
}

impl FlowEndReason {
    /// The registry's words, for people and for JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle timeout",
            Self::ActiveTimeout => "active timeout",
            Self::EndOfFlow => "end of flow",
            Self::ForcedEnd => "forced end",
            Self::LackOfResources => "lack of resources",
        }
    }
}

/// The address pair of a record, brought to one family.
pub(crate) enum AddressPair {
    V4 { source: Ipv4Addr, destination: Ipv4Addr },
    V6 { source: Ipv6Addr, destination: Ipv6Addr },
}

impl FlowRecord {
    pub(crate) fn address_pair(&self) -> AddressPair {
        let as_v6 = |address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        match (self.source_address, self.destination_address) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => AddressPair::V4 { source, destination },
            (source, destination) => {
                AddressPair::V6 { source: as_v6(source), destination: as_v6(destination) }
            }
        }
    }
}

/// Number of records and what they count: the unit of every export account.
///
/// Arithmetic is modulo 2^64: whatever the counters of a record say, sums never panic and a ledger of tallies
/// still balances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Flow records.
    pub records: u64,
    /// Sum of `packet_delta_count`.
    pub packets: u64,
    /// Sum of `octet_delta_count`.
    pub octets: u64,
}

impl Tally {
    /// Nothing.
    pub const ZERO: Self = Self { records: 0, packets: 0, octets: 0 };

    /// Sum over `records`.
    #[must_use]
    pub fn of(records: &[FlowRecord]) -> Self {
        records.iter().fold(Self::ZERO, |sum, record| sum + Self::from(record))
    }
}

impl From<&FlowRecord> for Tally {
    fn from(record: &FlowRecord) -> Self {
        Self { records: 1, packets: record.packet_delta_count, octets: record.octet_delta_count }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            records: self.records.wrapping_add(other.records),
            packets: self.packets.wrapping_add(other.packets),
            octets: self.octets.wrapping_add(other.octets),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Tally {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            records: self.records.wrapping_sub(other.records),
            packets: self.packets.wrapping_sub(other.packets),
            octets: self.octets.wrapping_sub(other.octets),
        }
    }
}

impl SubAssign for Tally {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
