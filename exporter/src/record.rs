//! One expired flow, and sums over flows.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::sync::Arc;

use crate::bgp_route::{BgpRoute, OriginValidation};

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
    /// Priority code point of the outer 802.1Q tag; 0 = untagged, or nobody asks for it. Not exported: flows are not told
    /// apart by it.
    pub dot1q_priority: u8,
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
    /// AS of the neighbour from which the route of the source comes, the first of its path; 0 = unknown.
    pub bgp_prev_adjacent_as_number: u32,
    /// AS of the neighbour towards the destination, the first of the path of its route; 0 = unknown.
    pub bgp_next_adjacent_as_number: u32,
    /// BGP next hop towards the destination, if known. It may be of another family than the addresses (RFC 8950).
    pub bgp_next_hop: Option<IpAddr>,
    /// BGP route of the source; `None` = no route, or nobody wants its attributes. A route of the own AS is one with an
    /// empty path.
    pub source_route: Option<Arc<BgpRoute>>,
    /// BGP route of the destination; `None` = no route, or nobody wants its attributes.
    pub destination_route: Option<Arc<BgpRoute>>,
    /// Whether BGP has a route of source or destination, which may be there without its attributes. True as well if
    /// nothing else is known of it.
    pub has_route: bool,
    /// Whether the route of the source comes from the AS that may announce it; `None` = not asked.
    pub source_rpki: Option<OriginValidation>,
    /// Whether the route of the destination comes from the AS that may announce it; `None` = not asked.
    pub destination_rpki: Option<OriginValidation>,
    /// Number that the operator gave to such flows (pmacct's `tag`); 0 = none.
    pub tag: u64,
    /// Second such number (pmacct's `tag2`); 0 = none.
    pub tag2: u64,
    /// Text that the operator gave to such flows (pmacct's `label`).
    pub label: Option<Arc<str>>,
    /// Next hop of the route by which the packets left, if known. Binary formats carry it only if it is of the
    /// family of the addresses.
    pub ip_next_hop: Option<IpAddr>,
    /// MAC address that sent the packets on the link where they came in, in the order of transmission; zero = unknown.
    pub source_mac_address: [u8; 6],
    /// MAC address that the packets were sent to on the link where they went out; zero = unknown.
    pub destination_mac_address: [u8; 6],
    /// Label value (20 bits) of the top entry of the MPLS label stack; `None` if the packets had none.
    pub mpls_top_label: Option<u32>,
    /// VXLAN Network Identifier (24 bits) of a flow seen inside the tunnel; 0 = none.
    pub layer2_segment_id: u32,
    /// Packets at the Observation Point for each one that was counted; 1 = every packet was. Counters are not
    /// multiplied by it.
    pub sampling_interval: u32,
    /// The [`Selector`](crate::Selector) by which the packets were selected; 0 = none, every packet was counted.
    pub selector_id: u16,
    /// Which filters of the operator the packets match, a bit for each. Not exported: it says for whom a record is.
    pub filter_results: u8,
}

/// Values of flowDirection (Information Element 61, IANA "IPFIX Entities").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// layer2SegmentId has the kind of the overlay network in its most significant octet: 1 is VXLAN (RFC 7133; IANA
/// "IPFIX Entities").
const VXLAN: u64 = 0x01 << 56;

impl FlowRecord {
    /// A record of no packets between two addresses, with nothing else known: a start to fill in from.
    #[must_use]
    pub const fn between(source_address: IpAddr, destination_address: IpAddr) -> Self {
        Self {
            source_address,
            destination_address,
            source_port: 0,
            destination_port: 0,
            protocol_identifier: 0,
            ip_class_of_service: 0,
            tcp_control_bits: 0,
            vlan_id: 0,
            dot1q_customer_vlan_id: 0,
            dot1q_priority: 0,
            ingress_interface: 0,
            egress_interface: 0,
            flow_direction: FlowDirection::Ingress,
            icmp_type_code: 0,
            packet_delta_count: 0,
            octet_delta_count: 0,
            flow_start_milliseconds: 0,
            flow_end_milliseconds: 0,
            flow_end_reason: FlowEndReason::IdleTimeout,
            bgp_source_as_number: 0,
            bgp_destination_as_number: 0,
            source_prefix_length: 0,
            destination_prefix_length: 0,
            bgp_prev_adjacent_as_number: 0,
            bgp_next_adjacent_as_number: 0,
            bgp_next_hop: None,
            source_route: None,
            destination_route: None,
            has_route: false,
            source_rpki: None,
            destination_rpki: None,
            tag: 0,
            tag2: 0,
            label: None,
            ip_next_hop: None,
            source_mac_address: [0; 6],
            destination_mac_address: [0; 6],
            mpls_top_label: None,
            layer2_segment_id: 0,
            sampling_interval: 1,
            selector_id: 0,
            filter_results: 0,
        }
    }

    pub(crate) fn has_mac_address(&self) -> bool {
        self.source_mac_address != [0; 6] || self.destination_mac_address != [0; 6]
    }

    pub(crate) const fn is_sampled(&self) -> bool {
        self.selector_id != 0
    }

    pub(crate) const fn is_in_overlay(&self) -> bool {
        self.layer2_segment_id != 0
    }

    pub(crate) const fn is_labelled(&self) -> bool {
        self.mpls_top_label.is_some()
    }

    /// mplsTopLabelStackSection: Label, Exp and S as in the packet (RFC 3032, section 2.1), of which only the
    /// label is known.
    pub(crate) fn mpls_top_label_stack_section(&self) -> [u8; 3] {
        let [_, section @ ..] = ((self.mpls_top_label.unwrap_or(0) & 0xf_ffff) << 4).to_be_bytes();
        section
    }

    /// layer2SegmentId with its kind.
    pub(crate) fn layer2_segment_id_with_kind(&self) -> u64 {
        VXLAN | u64::from(self.layer2_segment_id & 0xff_ffff)
    }

    /// Whether both addresses are of IPv4. If not, binary formats write both as IPv6.
    pub(crate) const fn is_ipv4(&self) -> bool {
        self.source_address.is_ipv4() && self.destination_address.is_ipv4()
    }

    /// Source and destination address, IPv4 ones as IPv4-mapped (RFC 4291, section 2.5.5.2).
    pub(crate) const fn ipv6_addresses(&self) -> (Ipv6Addr, Ipv6Addr) {
        const fn as_ipv6(address: IpAddr) -> Ipv6Addr {
            match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            }
        }
        (as_ipv6(self.source_address), as_ipv6(self.destination_address))
    }
}

/// So that what holds a record can be filled in as records are.
impl AsRef<Self> for FlowRecord {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsMut<Self> for FlowRecord {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// Number of records and what they count: the unit of every export account.
///
/// Arithmetic is modulo 2^64: whatever the counters of a record say, sums never panic and a ledger of tallies
/// still balances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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

#[cfg(test)]
mod tests {
    use super::FlowRecord;

    /// Records are copied for each export and wait by the thousand.
    #[test]
    fn a_record_is_small() {
        assert!(size_of::<FlowRecord>() <= 232, "{} octets", size_of::<FlowRecord>());
    }
}
