//! From a frame to a flow key.
//!
//! The parser is written for two compilers: the one of this machine and the kernel's verifier. Hence its
//! shape: every loop has a constant bound, every read a constant size and a bounds check just before it,
//! and results leave through a [`FlowSink`] instead of being returned, so that each family's code path
//! continues with its own key and nothing is copied through memory.
//!
//! Understood: Ethernet II, VLAN tags, `PPPoE` sessions, MPLS labels, IPv4 with options and fragments, IPv6
//! with extension headers, ports of TCP, UDP, SCTP, UDP-Lite and DCCP, type and code of ICMP and `ICMPv6`,
//! and on request the inside of GRE, IP in IP and VXLAN.

pub mod extension;
mod ipv4;
mod ipv6;
pub mod link;
mod transport;
pub mod tunnel;

use self::extension::Layers;
use self::link::Link;
use self::tunnel::Tunnels;
use crate::flow::{Datagram, DatagramPorts, Ipv4Key, Origin, WideKey};
use crate::{DropReason, PacketBytes};

pub use ipv6::MAX_EXTENSION_HEADERS;

/// MPLS labels that are walked. A packet with more is [`DropReason::NotIp`].
pub const MAX_LABELS: usize = 10;

/// What a packet adds to its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketFacts {
    /// Layer 3 octets.
    pub octets: u32,
    /// TCP control bits (RFC 7125): the low 12 bits of the header's word, 0 if not TCP.
    pub tcp_control_bits: u16,
    /// Octets of network and transport header together, which every segment of a packet that is to be
    /// segmented has for itself.
    pub header_octets: u16,
}

/// Takes the one result of parsing a frame.
pub trait FlowSink: Tunnels {
    /// The packet belongs to a plain IPv4 flow.
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts);
    /// The packet belongs to a flow with a wide key.
    fn wide(self, key: WideKey, facts: PacketFacts);
    /// The packet belongs to no flow; `octets` as in [`Count`](crate::layout::Count).
    fn unaccounted(self, reason: DropReason, octets: u32);
    /// Whether the key has the priority of the outer VLAN tag.
    fn has_vlan_priority(&self) -> bool;
    /// Whether the key has the IPv6 flow label.
    #[inline(always)]
    fn has_flow_label(&self) -> bool {
        false
    }
    /// The packet is the first fragment of a datagram of several. Others of its fragments may be asked for.
    fn first_fragment(&self, datagram: &Datagram, ports: DatagramPorts);
    /// What the first fragment of a datagram said, if it was seen.
    fn datagram_ports(&self, datagram: &Datagram) -> Option<DatagramPorts>;

    /// Whether keys are extended.
    #[inline(always)]
    fn extends(&self) -> bool {
        false
    }

    /// The key and the facts of a packet with its extension. Called if [`extends`](Self::extends) says so.
    #[inline(always)]
    fn extended<P: PacketBytes>(
        &self,
        _packet: &P,
        _layers: Layers,
        key: WideKey,
        facts: PacketFacts,
    ) -> (WideKey, PacketFacts) {
        (key, facts)
    }
}

/// Parses one Ethernet frame seen at `observation_point` and calls exactly one of the methods of `sink` that
/// take it.
#[inline(always)]
pub fn parse<P: PacketBytes, S: FlowSink>(packet: &P, observation_point: u16, sink: S) {
    match Link::ethernet(packet) {
        Some(link) => parse_link(packet, observation_point, link, sink),
        None => sink.unaccounted(DropReason::Truncated, packet.wire_length()),
    }
}

/// Parses a packet of which the lowest part is known: for links that are not Ethernet, and for packets whose
/// tag is held beside the frame. Calls exactly one of the methods of `sink` that take it.
#[inline(always)]
pub fn parse_link<P: PacketBytes, S: FlowSink>(packet: &P, origin: impl Into<Origin>, link: Link, sink: S) {
    let origin = origin.into();
    let is_usual = !sink.entered() && !sink.extends();
    if link.ether_type == link::IPV4
        && is_usual
        && let Some((key, facts)) = ipv4::parse_usual(packet, origin, link)
    {
        return sink.ipv4(key, facts);
    }
    if link.ether_type == link::IPV6
        && is_usual
        // Else a word that is zero would be one more to hash and to compare, for everybody.
        && !sink.has_flow_label()
        && let Some((key, facts)) = ipv6::parse_usual(packet, origin, link)
    {
        return sink.wide(key, facts);
    }
    let link = if sink.extends() { link.at_outer_tag() } else { link };
    let mut link = match link.skip_all(packet, &sink) {
        Ok(link) => link,
        Err(reason) => return sink.unaccounted(reason, packet.wire_length()),
    };
    if sink.entered() {
        link = tunnel::enter(packet, link.forget(packet), &sink, sink.has_vlan_priority());
    }
    let mut link = link.forget(packet);
    if sink.extends() {
        link.lower = link.lower.forget(packet);
    }
    match link.ether_type {
        link::IPV4 => ipv4::parse(packet, origin, link, sink),
        link::IPV6 => ipv6::parse(packet, origin, link, sink),
        _ => sink.unaccounted(DropReason::NotIp, packet.wire_length()),
    }
}

/// Octets of the network packet at `offset`: what its header says, but never more than the frame had for it.
///
/// A header that says more is false, or the frame was cut on its way; either way these octets were not
/// there, and a sender must not be able to inflate a flow.
#[inline(always)]
fn at_most_on_wire<P: PacketBytes>(packet: &P, offset: usize, octets: u32) -> u32 {
    if offset + octets as usize <= packet.readable_length() {
        return octets;
    }
    octets.min(packet.wire_length().saturating_sub(offset as u32))
}
