//! IPv4 (RFC 791).

use super::extension::{Layers, Upper};
use super::link::{IPV4, Link};
use super::transport::{TCP, TCP_OCTETS, TCP_WORD_OFFSET, Transport, UDP};
use super::{FlowSink, PacketFacts, at_most_on_wire, transport};
use crate::bytes::field;
use crate::extension::InnerPacket;
use crate::flow::{Datagram, DatagramPorts, Ipv4Key, KEY_FLAG_LATER_FRAGMENT, KeyFields, Origin};
use crate::{DropReason, PacketBytes};

const FRAGMENT_OFFSET: u16 = 0x1fff;
const MORE_FRAGMENTS: u16 = 0x2000;

/// Version 4 and a header of 20 octets: no options.
const NO_OPTIONS: u8 = 0x45;
/// Octets of a header without options.
const HEADER_OCTETS: usize = 20;
/// The same with a transport header as far as it is read. UDP is as long only with some payload; without it, the
/// packet is not a usual one.
const USUAL_OCTETS: usize = HEADER_OCTETS + TCP_OCTETS;

/// What [`parse`] finds for a packet of the usual shape: TCP or UDP right behind a header without options, no
/// fragment, all of it in the frame. `None` for any other.
///
/// That so much is known of it saves a fifth of the kernel program's time (perf/README.md).
#[inline(always)]
pub(super) fn parse_usual<P: PacketBytes>(
    packet: &P,
    origin: Origin,
    link: Link,
) -> Option<(Ipv4Key, PacketFacts)> {
    let headers = packet.read::<USUAL_OCTETS>(link.offset)?;
    let octets = u16::from_be_bytes(field(&headers, 2));
    if headers[0] != NO_OPTIONS
        || u16::from_be_bytes(field(&headers, 6)) & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0
        || (octets as usize) < USUAL_OCTETS
        || link.offset + octets as usize > packet.readable_length()
    {
        return None;
    }
    let protocol = headers[9];
    let ports = field(&headers, HEADER_OCTETS);
    let transport = match protocol {
        UDP => Transport::udp(ports),
        TCP => Transport::tcp(ports, field(&headers, HEADER_OCTETS + TCP_WORD_OFFSET)),
        _ => return None,
    };
    let fields = KeyFields {
        observation_point: origin.observation_point,
        filter_results: origin.filter_results,
        flags: 0,
        protocol,
        ports: transport.ports,
        vlan_id: link.vlan_id(),
        customer_vlan_id: link.customer_vlan_id,
        vlan_priority: link.vlan_priority(),
        class_of_service: headers[1],
    };
    let facts = PacketFacts {
        octets: octets as u32,
        tcp_control_bits: transport.tcp_control_bits,
        header_octets: HEADER_OCTETS as u16 + transport.header_octets,
    };
    Some((Ipv4Key::new(fields, field(&headers, 12)), facts))
}

#[inline(always)]
pub(super) fn parse<P: PacketBytes, S: FlowSink>(packet: &P, origin: Origin, link: Link, sink: S) {
    let Some(header) = packet.read::<HEADER_OCTETS>(link.offset) else {
        return sink.unaccounted(DropReason::Truncated, packet.wire_length());
    };
    let header_octets = ((header[0] & 0x0f) as usize) << 2;
    let Some(octets) = total_length(packet, link.offset, &header) else {
        return sink.unaccounted(DropReason::Malformed, packet.wire_length());
    };
    let octets = at_most_on_wire(packet, link.offset, octets);
    let protocol = header[9];
    let addresses = field(&header, 12);
    let fragment = u16::from_be_bytes(field(&header, 6)) & (FRAGMENT_OFFSET | MORE_FRAGMENTS);
    let mut flags = 0;
    let mut transport = Transport::default();
    let end = link.offset + octets as usize;
    if fragment & FRAGMENT_OFFSET == 0 {
        transport = transport::parse(packet, protocol, link.offset + header_octets, end);
    }
    if fragment != 0 {
        let identification = u16::from_be_bytes(field(&header, 4)) as u32;
        let datagram = Datagram {
            addresses: [u64::from_ne_bytes(addresses), 0, 0, 0],
            identification,
            protocol: protocol as u32,
        };
        if fragment & FRAGMENT_OFFSET == 0 {
            let ports = DatagramPorts { ports: transport.ports, protocol: protocol as u32, jiffies: 0 };
            sink.first_fragment(&datagram, ports);
        } else if let Some(first) = sink.datagram_ports(&datagram) {
            transport.ports = first.ports;
        } else {
            flags = KEY_FLAG_LATER_FRAGMENT;
            transport.ports = identification.to_ne_bytes();
        }
    }
    let fields = KeyFields {
        observation_point: origin.observation_point,
        filter_results: origin.filter_results,
        flags,
        protocol,
        ports: transport.ports,
        vlan_id: link.vlan_id(),
        customer_vlan_id: link.customer_vlan_id,
        vlan_priority: link.vlan_priority(),
        class_of_service: header[1],
    };
    let key = Ipv4Key::new(fields, addresses);
    let facts = PacketFacts {
        octets,
        tcp_control_bits: transport.tcp_control_bits,
        header_octets: header_octets as u16 + transport.header_octets,
    };
    if sink.extends() {
        let is_first = fragment & FRAGMENT_OFFSET == 0;
        let offset = is_first.then_some(link.offset + header_octets);
        let upper = Upper { protocol, offset, header_octets: transport.header_octets };
        let layers = Layers::new(&link, end, &upper);
        let (wide, facts) = sink.extended(packet, layers, key.widen(link.encapsulation), facts);
        return if wide.is_plain_ipv4() { sink.ipv4(key, facts) } else { sink.wide(wide, facts) };
    }
    if link.encapsulation.is_any() {
        sink.wide(key.widen(link.encapsulation), facts);
    } else {
        sink.ipv4(key, facts);
    }
}

/// Reads the packet inside a tunnel; returns its TCP control bits. Ports only from a packet that is no later
/// fragment.
#[inline(always)]
pub(super) fn read_inner<P: PacketBytes>(packet: &P, link: &Link, inner: &mut InnerPacket) -> u16 {
    let Some(header) = packet.read::<HEADER_OCTETS>(link.offset) else { return 0 };
    let Some(octets) = total_length(packet, link.offset, &header) else { return 0 };
    let octets = at_most_on_wire(packet, link.offset, octets);
    inner.ether_type = IPV4;
    inner.addresses = [u64::from_ne_bytes(field(&header, 12)), 0, 0, 0];
    inner.protocol = header[9];
    inner.class_of_service = header[1];
    if u16::from_be_bytes(field(&header, 6)) & FRAGMENT_OFFSET != 0 {
        return 0;
    }
    let header_octets = ((header[0] & 0x0f) as usize) << 2;
    let end = link.offset + octets as usize;
    let transport = transport::parse(packet, header[9], link.offset + header_octets, end);
    inner.ports = transport.ports;
    transport.tcp_control_bits
}

/// Octets of the packet at `offset`, as `header` says; `None` if it contradicts itself.
#[inline(always)]
pub(super) fn total_length<P: PacketBytes>(packet: &P, offset: usize, header: &[u8; 20]) -> Option<u32> {
    let header_octets = (header[0] as u32 & 0x0f) << 2;
    let mut octets = u16::from_be_bytes(field(header, 2)) as u32;
    if octets == 0 {
        // Linux "BIG TCP": a packet longer than the field could say carries 0 in it.
        let available = packet.wire_length().saturating_sub(offset as u32);
        if available > u16::MAX as u32 {
            octets = available;
        }
    }
    (header[0] >> 4 == 4 && header_octets >= 20 && octets >= header_octets).then_some(octets)
}
