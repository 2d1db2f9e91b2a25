//! IPv6 and its extension headers (RFC 8200).

use super::ethernet::Link;
use super::{FlowSink, PacketFacts, at_most_on_wire, transport};
use crate::bytes::field;
use crate::flow::{Ipv6Key, KEY_FLAG_LATER_FRAGMENT, KeyFields};
use crate::{DropReason, PacketBytes};

/// Extension headers that are walked before the transport header. A packet with more is accounted under
/// the protocol number of the next extension header, without ports.
pub const MAX_EXTENSION_HEADERS: usize = 8;

const HEADER_OCTETS: usize = 40;
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
    later_fragment: bool,
    /// False if the chain was cut, or longer than what is walked.
    reached: bool,
}

#[inline(always)]
pub(super) fn parse<P: PacketBytes, S: FlowSink>(packet: &P, observation_point: u16, link: Link, sink: S) {
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
    let upper = walk(packet, header[6], link.offset + HEADER_OCTETS, end);
    let flags = if upper.later_fragment { KEY_FLAG_LATER_FRAGMENT } else { 0 };
    let transport = if upper.later_fragment || !upper.reached {
        transport::Transport::default()
    } else {
        transport::parse(packet, upper.protocol, upper.offset, end)
    };
    let fields = KeyFields {
        observation_point,
        flags,
        protocol: upper.protocol,
        ports: transport.ports,
        vlan_id: link.vlan_id,
        customer_vlan_id: link.customer_vlan_id,
        class_of_service: header[0] << 4 | header[1] >> 4,
    };
    sink.ipv6(
        Ipv6Key::new(fields, [field(&header, 8), field(&header, 16), field(&header, 24), field(&header, 32)]),
        PacketFacts { octets, tcp_control_bits: transport.tcp_control_bits },
    );
}

#[inline(always)]
fn walk<P: PacketBytes>(packet: &P, first: u8, start: usize, end: usize) -> Upper {
    let mut upper = Upper { protocol: first, offset: start, later_fragment: false, reached: false };
    let mut headers = 0;
    while headers < MAX_EXTENSION_HEADERS {
        let Some((less, shift)) = length_unit(upper.protocol) else { break };
        // What lies beyond is padding, not a header.
        if upper.offset + 4 > end {
            return upper;
        }
        let Some([next, length, offset_high, offset_low]) = packet.read::<4>(upper.offset) else {
            return upper;
        };
        if upper.protocol == FRAGMENT && u16::from_be_bytes([offset_high, offset_low]) & 0xfff8 != 0 {
            upper.later_fragment = true;
            upper.protocol = next;
            return upper;
        }
        // The fragment header has no length field; that octet is reserved.
        let length = if upper.protocol == FRAGMENT { 0 } else { length as usize };
        upper.offset += (length + less) << shift;
        upper.protocol = next;
        headers += 1;
    }
    upper.reached = length_unit(upper.protocol).is_none();
    upper
}

/// How an extension header says its length: in units of `1 << .1` octets, less `.0`. `None` if `protocol`
/// is not an extension header that is walked.
#[inline(always)]
fn length_unit(protocol: u8) -> Option<(usize, u32)> {
    match protocol {
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | MOBILITY => Some((1, 3)),
        AUTHENTICATION => Some((2, 2)),
        _ => None,
    }
}
