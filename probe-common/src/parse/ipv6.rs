//! IPv6 and its extension headers (RFC 8200).

use super::extension::{self, Layers};
use super::link::{IPV6, Link};
use super::transport::{TCP, TCP_OCTETS, TCP_WORD_OFFSET, Transport, UDP, UDP_OCTETS};
use super::{FlowSink, PacketFacts, at_most_on_wire, transport};
use crate::bytes::field;
use crate::extension::InnerPacket;
use crate::flow::{Datagram, DatagramPorts, KEY_FLAG_LATER_FRAGMENT, KeyFields, Origin, WideKey};
use crate::{DropReason, PacketBytes};

/// Extension headers that are walked before the transport header. A packet with more is accounted under
/// the protocol number of the next extension header, without ports.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// The same after the fragment header.
const MAX_HEADERS_AFTER_FRAGMENT: usize = 4;

const HEADER_OCTETS: usize = 40;
const FRAGMENT_OCTETS: usize = 8;
const FRAGMENT_OFFSET: u16 = 0xfff8;
const MORE_FRAGMENTS: u16 = 1;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// Where the walk over the extension headers ended.
struct Upper {
    protocol: u8,
    offset: usize,
    /// The fragment header, if there is one: its offset field with flags, and the identification.
    fragment: u16,
    identification: u32,
    /// False if the chain was cut, or longer than what is walked.
    reached: bool,
}

/// Octets of the header and of the shortest transport header.
const USUAL_OCTETS: usize = HEADER_OCTETS + UDP_OCTETS;

/// What [`parse`] finds for a packet of the usual shape: TCP or UDP right behind the header, all of it in the
/// frame. `None` for any other.
#[inline(always)]
pub(super) fn parse_usual<P: PacketBytes>(
    packet: &P,
    origin: Origin,
    link: Link,
) -> Option<(WideKey, PacketFacts)> {
    let headers = packet.read::<USUAL_OCTETS>(link.offset)?;
    let octets = u16::from_be_bytes(field(&headers, 4)) as usize + HEADER_OCTETS;
    if headers[0] >> 4 != 6 || octets < USUAL_OCTETS || link.offset + octets > packet.readable_length() {
        return None;
    }
    let protocol = headers[6];
    let ports = field(&headers, HEADER_OCTETS);
    let transport = match protocol {
        UDP => Transport::udp(ports),
        TCP if octets >= HEADER_OCTETS + TCP_OCTETS => {
            Transport::tcp(ports, packet.read(link.offset + HEADER_OCTETS + TCP_WORD_OFFSET)?)
        }
        _ => return None,
    };
    let addresses = [field(&headers, 8), field(&headers, 16), field(&headers, 24), field(&headers, 32)];
    let fields = KeyFields {
        observation_point: origin.observation_point,
        filter_results: origin.filter_results,
        flags: 0,
        protocol,
        ports: transport.ports,
        vlan_id: link.vlan_id(),
        customer_vlan_id: link.customer_vlan_id,
        vlan_priority: link.vlan_priority(),
        class_of_service: headers[0] << 4 | headers[1] >> 4,
    };
    let facts = PacketFacts {
        octets: octets as u32,
        tcp_control_bits: transport.tcp_control_bits,
        header_octets: HEADER_OCTETS as u16 + transport.header_octets,
    };
    Some((WideKey::new(fields, addresses, link.encapsulation), facts))
}

#[inline(always)]
pub(super) fn parse<P: PacketBytes, S: FlowSink>(packet: &P, origin: Origin, link: Link, sink: S) {
    let Some(header) = packet.read::<HEADER_OCTETS>(link.offset) else {
        return sink.unaccounted(DropReason::Truncated, packet.wire_length());
    };
    if header[0] >> 4 != 6 {
        return sink.unaccounted(DropReason::Malformed, packet.wire_length());
    }
    let mut octets = u16::from_be_bytes(field(&header, 4)) as u32 + HEADER_OCTETS as u32;
    if octets == HEADER_OCTETS as u32 {
        // No payload, or a jumbogram (RFC 2675): that is always longer than the field could say.
        let available = packet.wire_length().saturating_sub(link.offset as u32);
        if available > u16::MAX as u32 + HEADER_OCTETS as u32 {
            octets = available;
        }
    }
    let octets = at_most_on_wire(packet, link.offset, octets);
    let end = link.offset + octets as usize;
    let mut upper = walk(packet, header[6], link.offset + HEADER_OCTETS, end);
    let mut flags = 0;
    let mut transport = Transport::default();
    let is_later_fragment = upper.fragment & FRAGMENT_OFFSET != 0;
    if !is_later_fragment && upper.reached {
        transport = transport::parse(packet, upper.protocol, upper.offset, end);
    }
    let addresses: [[u8; 8]; 4] =
        [field(&header, 8), field(&header, 16), field(&header, 24), field(&header, 32)];
    if upper.fragment != 0 {
        let identification = upper.identification;
        let datagram = Datagram {
            addresses: [
                u64::from_ne_bytes(addresses[0]),
                u64::from_ne_bytes(addresses[1]),
                u64::from_ne_bytes(addresses[2]),
                u64::from_ne_bytes(addresses[3]),
            ],
            identification,
            protocol: 0,
        };
        if !is_later_fragment {
            let ports = DatagramPorts { ports: transport.ports, protocol: upper.protocol as u32, jiffies: 0 };
            sink.first_fragment(&datagram, ports);
        } else if let Some(first) = sink.datagram_ports(&datagram) {
            transport.ports = first.ports;
            upper.protocol = first.protocol as u8;
        } else {
            flags = KEY_FLAG_LATER_FRAGMENT;
            transport.ports = identification.to_ne_bytes();
        }
    }
    let fields = KeyFields {
        observation_point: origin.observation_point,
        filter_results: origin.filter_results,
        flags,
        protocol: upper.protocol,
        ports: transport.ports,
        vlan_id: link.vlan_id(),
        customer_vlan_id: link.customer_vlan_id,
        vlan_priority: link.vlan_priority(),
        class_of_service: header[0] << 4 | header[1] >> 4,
    };
    let mut key = WideKey::new(fields, addresses, link.encapsulation);
    let mut label = 0;
    if sink.has_flow_label() {
        label = flow_label(&header);
        key = key.with_flow_label(label);
    }
    let facts = PacketFacts {
        octets,
        tcp_control_bits: transport.tcp_control_bits,
        header_octets: (upper.offset - link.offset) as u16 + transport.header_octets,
    };
    if sink.extends() {
        let offset = (!is_later_fragment && upper.reached).then_some(upper.offset);
        let above =
            extension::Upper { protocol: upper.protocol, offset, header_octets: transport.header_octets };
        let layers = Layers { flow_label: label, ..Layers::new(&link, end, &above) };
        let (key, facts) = sink.extended(packet, layers, key, facts);
        return sink.wide(key, facts);
    }
    sink.wide(key, facts);
}

/// Reads the packet inside a tunnel; returns its TCP control bits. Ports only from a packet that is no later
/// fragment.
#[inline(always)]
pub(super) fn read_inner<P: PacketBytes>(packet: &P, link: &Link, inner: &mut InnerPacket) -> u16 {
    let Some(header) = packet.read::<HEADER_OCTETS>(link.offset) else { return 0 };
    inner.ether_type = IPV6;
    inner.addresses = [
        u64::from_ne_bytes(field(&header, 8)),
        u64::from_ne_bytes(field(&header, 16)),
        u64::from_ne_bytes(field(&header, 24)),
        u64::from_ne_bytes(field(&header, 32)),
    ];
    inner.class_of_service = header[0] << 4 | header[1] >> 4;
    inner.flow_label = flow_label(&header);
    let octets = u16::from_be_bytes(field(&header, 4)) as u32 + HEADER_OCTETS as u32;
    let end = link.offset + at_most_on_wire(packet, link.offset, octets) as usize;
    let upper = walk(packet, header[6], link.offset + HEADER_OCTETS, end);
    inner.protocol = upper.protocol;
    if upper.fragment & FRAGMENT_OFFSET != 0 || !upper.reached {
        return 0;
    }
    let transport = transport::parse(packet, upper.protocol, upper.offset, end);
    inner.ports = transport.ports;
    transport.tcp_control_bits
}

/// Flow label of a header (RFC 6437), 20 bits. Of octets that are read together anyway: where reads overlap, the compiler
/// puts the header on the stack, in places that the verifier refuses.
#[inline(always)]
fn flow_label(header: &[u8]) -> u32 {
    let [high] = field(header, 1);
    ((high & 0x0f) as u32) << 16 | u16::from_be_bytes(field(header, 2)) as u32
}

#[inline(always)]
fn walk<P: PacketBytes>(packet: &P, first: u8, start: usize, end: usize) -> Upper {
    let mut upper = Upper { protocol: first, offset: start, fragment: 0, identification: 0, reached: false };
    if !skip(packet, &mut upper, end, MAX_EXTENSION_HEADERS) {
        return upper;
    }
    if upper.protocol == FRAGMENT {
        if upper.offset + FRAGMENT_OCTETS > end {
            return upper;
        }
        let Some(header) = packet.read::<FRAGMENT_OCTETS>(upper.offset) else { return upper };
        upper.fragment = u16::from_be_bytes(field(&header, 2)) & (FRAGMENT_OFFSET | MORE_FRAGMENTS);
        upper.identification = u32::from_be_bytes(field(&header, 4));
        upper.protocol = header[0];
        upper.offset += FRAGMENT_OCTETS;
        if upper.fragment & FRAGMENT_OFFSET != 0 || !skip(packet, &mut upper, end, MAX_HEADERS_AFTER_FRAGMENT)
        {
            return upper;
        }
    }
    upper.reached = length_unit(upper.protocol).is_none() && upper.protocol != FRAGMENT;
    upper
}

/// Goes over at most `limit` extension headers, up to a fragment header. Returns false if the chain is cut.
#[inline(always)]
fn skip<P: PacketBytes>(packet: &P, upper: &mut Upper, end: usize, limit: usize) -> bool {
    let mut headers = 0;
    while headers < limit {
        let Some((less, shift)) = length_unit(upper.protocol) else { break };
        // What lies beyond is padding, not a header.
        if upper.offset + 2 > end {
            return false;
        }
        let Some([next, length]) = packet.read::<2>(upper.offset) else { return false };
        upper.offset = packet.forget(upper.offset + ((length as usize + less) << shift));
        upper.protocol = next;
        headers += 1;
    }
    true
}

/// How an extension header says its length: in units of `1 << .1` octets, less `.0`. `None` if `protocol`
/// is not an extension header that is walked.
#[inline(always)]
fn length_unit(protocol: u8) -> Option<(usize, u32)> {
    match protocol {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY => Some((1, 3)),
        AUTHENTICATION => Some((2, 2)),
        _ => None,
    }
}
