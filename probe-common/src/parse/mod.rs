//! From a frame to a flow key.
//!
//! The parser is written for two compilers: the one of this machine and the kernel's verifier. Hence its
//! shape: every loop has a constant bound, every read a constant size and a bounds check just before it,
//! and results leave through a [`FlowSink`] instead of being returned, so that each family's code path
//! continues with its own key and nothing is copied through memory.
//!
//! Understood: Ethernet II, up to two VLAN tags, IPv4 with options and fragments, IPv6 with extension
//! headers, ports of TCP, UDP, SCTP, UDP-Lite and DCCP, type and code of ICMP and `ICMPv6`.

pub mod ethernet;
mod ipv4;
mod ipv6;
mod transport;

use self::ethernet::Link;
use crate::flow::{Ipv4Key, Ipv6Key};
use crate::{DropReason, PacketBytes};

pub use ipv6::MAX_EXTENSION_HEADERS;

/// What a packet adds to its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketFacts {
    /// Layer 3 octets.
    pub octets: u32,
    /// TCP control bits (RFC 7125): the low 12 bits of the header's word, 0 if not TCP.
    pub tcp_control_bits: u16,
}

/// Parses a packet whose network header is at `offset` and whose `EtherType` is known: for captures of links
/// that are not Ethernet. Calls exactly one method of `sink`.
#[inline(always)]
pub fn parse_network<P: PacketBytes, S: FlowSink>(
    packet: &P,
    observation_point: u16,
    ether_type: u16,
    offset: usize,
    sink: S,
) {
    let link = Link { offset, ..Link::untagged(ether_type) };
    match ether_type {
        ethernet::IPV4 => ipv4::parse(packet, observation_point, link, sink),
        ethernet::IPV6 => ipv6::parse(packet, observation_point, link, sink),
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

/// Takes the one result of parsing a frame.
pub trait FlowSink {
    /// The packet belongs to an IPv4 flow.
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts);
    /// The packet belongs to an IPv6 flow.
    fn ipv6(self, key: Ipv6Key, facts: PacketFacts);
    /// The packet belongs to no flow; `octets` as in [`Count`](crate::layout::Count).
    fn unaccounted(self, reason: DropReason, octets: u32);
}

/// Parses one frame seen at `observation_point` and calls exactly one method of `sink`.
#[inline(always)]
pub fn parse<P: PacketBytes, S: FlowSink>(packet: &P, observation_point: u16, sink: S) {
    let Some(ether_type) = packet.read::<2>(ethernet::TYPE_OFFSET) else {
        return sink.unaccounted(DropReason::Truncated, packet.wire_length());
    };
    // Most packets have no tag. With the offset a constant, their path is a third shorter.
    let link = Link::untagged(u16::from_be_bytes(ether_type));
    if link.ether_type == ethernet::IPV4 {
        return ipv4::parse(packet, observation_point, link, sink);
    }
    match ethernet::skip_tags(packet, link) {
        Ok(link) if link.ether_type == ethernet::IPV4 => ipv4::parse(packet, observation_point, link, sink),
        Ok(link) if link.ether_type == ethernet::IPV6 => ipv6::parse(packet, observation_point, link, sink),
        Ok(_) => sink.unaccounted(DropReason::NotIp, packet.wire_length()),
        Err(reason) => sink.unaccounted(reason, packet.wire_length()),
    }
}
