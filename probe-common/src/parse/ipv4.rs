//! IPv4 (RFC 791).

use super::ethernet::Link;
use super::{FlowSink, PacketFacts, at_most_on_wire, transport};
use crate::bytes::field;
use crate::flow::{Ipv4Key, KEY_FLAG_LATER_FRAGMENT, KeyFields};
use crate::{DropReason, PacketBytes};

const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn parse<P: PacketBytes, S: FlowSink>(packet: &P, observation_point: u16, link: Link, sink: S) {
    let Some(header) = packet.read::<20>(link.offset) else {
        return sink.unaccounted(DropReason::Truncated, packet.wire_length());
    };
    let header_octets = ((header[0] & 0x0f) as usize) << 2;
    let mut octets = u16::from_be_bytes(field(&header, 2)) as u32;
    if octets == 0 {
        // Linux "BIG TCP": a packet longer than the field could say carries 0 in it.
        let available = packet.wire_length().saturating_sub(link.offset as u32);
        if available > u16::MAX as u32 {
            octets = available;
        }
    }
    if header[0] >> 4 != 4 || header_octets < 20 || (octets as usize) < header_octets {
        return sink.unaccounted(DropReason::Malformed, packet.wire_length());
    }
    let octets = at_most_on_wire(packet, link.offset, octets);
    let protocol = header[9];
    let later_fragment = u16::from_be_bytes(field(&header, 6)) & FRAGMENT_OFFSET != 0;
    let (flags, transport) = if later_fragment {
        (KEY_FLAG_LATER_FRAGMENT, transport::Transport::default())
    } else {
        let end = link.offset + octets as usize;
        (0, transport::parse(packet, protocol, link.offset + header_octets, end))
    };
    let fields = KeyFields {
        observation_point,
        flags,
        protocol,
        ports: transport.ports,
        vlan_id: link.vlan_id,
        customer_vlan_id: link.customer_vlan_id,
        class_of_service: header[1],
    };
    sink.ipv4(
        Ipv4Key::new(fields, field(&header, 12)),
        PacketFacts { octets, tcp_control_bits: transport.tcp_control_bits },
    );
}
