//! IPv6 headers and extension headers.

use pathflow_common::DropReason;
use pathflow_common::flow::{Addresses, KEY_FLAG_IPV6, KEY_FLAG_LATER_FRAGMENT, KeyFields};
use pathflow_common::parse::MAX_EXTENSION_HEADERS;

use crate::support::{
    DESTINATION6, Flow, POINT, PORTS, Parsed, SOURCE6, ipv6_frame, parse_captured, parse_frame, tcp, udp,
};

const HEADER: usize = 14;
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// Protocol number of an extension header and its octets, of which the first is set later.
type Extension = (u8, Vec<u8>);

/// One whose length is in units of eight octets, not counting the first; filled with what is no port.
fn options(number: u8, units: u8) -> Extension {
    let mut octets = vec![0xee; 8 * (usize::from(units) + 1)];
    octets[1] = units;
    (number, octets)
}

/// Authentication header: length in units of four octets, less two.
fn authentication(value_octets: usize) -> Extension {
    let mut octets = vec![0xee; 12 + value_octets];
    octets[1] = (octets.len() / 4 - 2) as u8;
    (AUTHENTICATION, octets)
}

fn fragment(offset_and_flags: u16) -> Extension {
    let [high, low] = offset_and_flags.to_be_bytes();
    // The second octet is reserved, and must not be taken for a length.
    (FRAGMENT, vec![0, 0xff, high, low, 1, 2, 3, 4])
}

fn frame(extensions: &[Extension], protocol: u8, transport: &[u8]) -> Vec<u8> {
    let following = extensions.iter().skip(1).map(|(number, _)| *number).chain([protocol]);
    let mut payload = Vec::new();
    for ((_, octets), next) in extensions.iter().zip(following) {
        payload.push(next);
        payload.extend(&octets[1..]);
    }
    payload.extend(transport);
    ipv6_frame(extensions.first().map_or(protocol, |(number, _)| *number), &payload)
}

fn parse(extensions: &[Extension], protocol: u8, transport: &[u8]) -> Parsed {
    parse_frame(&frame(extensions, protocol, transport))
}

#[test]
fn a_plain_datagram() {
    let Flow { fields, addresses, facts } = parse(&[], UDP, &udp()).flow();
    let expected = KeyFields {
        observation_point: POINT,
        flags: KEY_FLAG_IPV6,
        protocol: UDP,
        ports: PORTS,
        vlan_id: 0,
        customer_vlan_id: 0,
        class_of_service: 0xb8,
    };
    assert_eq!(fields, expected);
    assert_eq!(addresses, Addresses::Ipv6(SOURCE6, DESTINATION6));
    assert_eq!(facts.octets, 56);
}

#[test]
fn every_extension_header_is_walked() {
    for extension in [
        options(HOP_BY_HOP, 0),
        options(ROUTING, 2),
        options(DESTINATION_OPTIONS, 7),
        options(MOBILITY, 1),
        options(HOP_BY_HOP, 255),
        authentication(0),
        authentication(12),
        authentication(16),
        fragment(0),
        fragment(1),
    ] {
        let length = extension.1.len();
        let flow = parse(core::slice::from_ref(&extension), TCP, &tcp(0x018)).flow();
        assert_eq!((flow.fields.protocol, flow.fields.ports), (TCP, PORTS), "{extension:?}");
        assert_eq!((flow.facts.tcp_control_bits, flow.fields.flags), (0x018, KEY_FLAG_IPV6));
        assert_eq!(flow.facts.octets as usize, 40 + length + 20);
    }
}

#[test]
fn extension_headers_in_the_recommended_order() {
    let extensions = [
        options(HOP_BY_HOP, 0),
        options(DESTINATION_OPTIONS, 0),
        options(ROUTING, 1),
        fragment(0x0001),
        authentication(12),
        options(DESTINATION_OPTIONS, 2),
    ];
    let flow = parse(&extensions, UDP, &udp()).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports), (UDP, PORTS));
}

#[test]
fn later_fragments_have_no_ports_and_say_so() {
    for offset_and_flags in [0x0008, 0x0009, 0xfff8, 0xfff9] {
        let flow = parse(&[options(HOP_BY_HOP, 0), fragment(offset_and_flags)], UDP, &udp()).flow();
        assert_eq!((flow.fields.protocol, flow.fields.ports), (UDP, [0; 4]), "{offset_and_flags:#x}");
        assert_eq!(flow.fields.flags, KEY_FLAG_IPV6 | KEY_FLAG_LATER_FRAGMENT);
    }
    // The reserved bits between offset and flag say nothing.
    assert_eq!(parse(&[fragment(0x0006)], UDP, &udp()).flow().fields.ports, PORTS);
}

#[test]
fn what_follows_a_later_fragment_header_is_payload() {
    // It would be walked as destination options, were it not the middle of a datagram.
    let flow = parse(&[fragment(0x0010), options(DESTINATION_OPTIONS, 0)], UDP, &udp()).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports), (DESTINATION_OPTIONS, [0; 4]));
}

#[test]
fn as_many_extension_headers_as_are_walked() {
    for count in 0..=MAX_EXTENSION_HEADERS {
        let extensions = vec![options(DESTINATION_OPTIONS, 0); count];
        let flow = parse(&extensions, TCP, &tcp(0x002)).flow();
        assert_eq!((flow.fields.protocol, flow.fields.ports), (TCP, PORTS), "{count} extension headers");
        assert_eq!(flow.facts.tcp_control_bits, 0x002);
    }
}

#[test]
fn one_more_is_accounted_by_its_own_number() {
    let mut extensions = vec![options(DESTINATION_OPTIONS, 0); MAX_EXTENSION_HEADERS];
    extensions.push(options(ROUTING, 0));
    let flow = parse(&extensions, TCP, &tcp(0x002)).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports), (ROUTING, [0; 4]));
    assert_eq!((flow.facts.octets, flow.facts.tcp_control_bits), (40 + 9 * 8 + 20, 0));
}

#[test]
fn a_later_fragment_behind_as_many_as_are_walked() {
    let mut extensions = vec![options(DESTINATION_OPTIONS, 0); MAX_EXTENSION_HEADERS - 1];
    extensions.push(fragment(0x0008));
    let flow = parse(&extensions, UDP, &udp()).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports), (UDP, [0; 4]));
    assert_eq!(flow.fields.flags, KEY_FLAG_IPV6 | KEY_FLAG_LATER_FRAGMENT);
}

#[test]
fn no_next_header() {
    let flow = parse(&[], NO_NEXT_HEADER, &[]).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports, flow.facts.octets), (NO_NEXT_HEADER, [0; 4], 40));
    let flow = parse(&[options(HOP_BY_HOP, 0)], NO_NEXT_HEADER, &udp()).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports), (NO_NEXT_HEADER, [0; 4]));
}

#[test]
fn a_chain_that_is_cut_keeps_the_last_number_that_was_read() {
    let whole = frame(&[options(HOP_BY_HOP, 0), options(ROUTING, 0)], UDP, &udp());
    let cut = |length: usize| {
        let flow = parse_captured(&whole[..length], whole.len() as u32).flow();
        (flow.fields.protocol, flow.fields.ports)
    };
    assert_eq!(cut(HEADER + 40), (HOP_BY_HOP, [0; 4]));
    assert_eq!(cut(HEADER + 48), (ROUTING, [0; 4]));
    assert_eq!(cut(HEADER + 56), (UDP, [0; 4]));
    assert_eq!(cut(HEADER + 60), (UDP, PORTS));
}

#[test]
fn a_wrong_version_is_malformed() {
    for version in [0, 4, 5, 7, 15] {
        let mut frame = frame(&[], UDP, &udp());
        frame[HEADER] = version << 4;
        assert_eq!(parse_frame(&frame).reason(), DropReason::Malformed, "{version}");
    }
}

#[test]
fn padding_is_not_counted() {
    let mut frame = frame(&[], UDP, &PORTS);
    frame.resize(80, 0);
    assert_eq!(parse_frame(&frame).flow().facts.octets, 44);
}

#[test]
fn length_zero_is_no_payload_or_a_packet_too_long_for_the_field() {
    let mut frame = frame(&[options(HOP_BY_HOP, 0)], TCP, &tcp(0x010));
    frame[HEADER + 4..HEADER + 6].fill(0);
    let octets = |wire_length| parse_captured(&frame, wire_length).flow().facts.octets;
    assert_eq!(octets(frame.len() as u32), 40);
    assert_eq!(octets(14 + 40 + 65_535), 40);
    assert_eq!(octets(14 + 40 + 65_536), 40 + 65_536);
    assert_eq!(octets(14 + 190_000), 190_000);
    assert_eq!(parse_captured(&frame, 14 + 190_000).flow().fields.ports, PORTS);
}

#[test]
fn addresses_are_whole() {
    // A different octet at every place.
    let mut frame = frame(&[], UDP, &udp());
    for (octet, value) in frame[HEADER + 8..HEADER + 40].iter_mut().zip(1..) {
        *octet = value;
    }
    let source = core::array::from_fn(|i| i as u8 + 1);
    let destination = core::array::from_fn(|i| i as u8 + 17);
    assert_eq!(parse_frame(&frame).flow().addresses, Addresses::Ipv6(source, destination));
}
