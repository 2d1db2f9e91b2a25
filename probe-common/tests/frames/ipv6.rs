//! IPv6 headers and extension headers.

use pathflow_common::DropReason;
use pathflow_common::flow::{Addresses, Encapsulation, KEY_FLAG_IPV6, KeyFields};
use pathflow_common::parse::{MAX_EXTENSION_HEADERS, PacketFacts};

use crate::extensions::{
    DESTINATION_OPTIONS, Extension, HOP_BY_HOP, ROUTING, authentication, extended, fragment, options,
};
use crate::support::{
    DESTINATION6, Flow, POINT, PORTS, Parsed, SOURCE6, parse_captured, parse_frame, tcp, udp,
};

const HEADER: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
const NO_NEXT_HEADER: u8 = 59;
const MOBILITY: u8 = 135;

fn parse(extensions: &[Extension], protocol: u8, transport: &[u8]) -> Parsed {
    parse_frame(&extended(extensions, protocol, transport))
}

#[test]
fn a_plain_datagram() {
    let Flow { fields, addresses, encapsulation, flow_label: _, facts } = parse(&[], UDP, &udp()).flow();
    let expected = KeyFields {
        observation_point: POINT,
        filter_results: 0,
        flags: KEY_FLAG_IPV6,
        protocol: UDP,
        ports: PORTS,
        vlan_id: 0,
        customer_vlan_id: 0,
        vlan_priority: 0,
        class_of_service: 0xb8,
    };
    assert_eq!(fields, expected);
    assert_eq!(addresses, Addresses::Ipv6(SOURCE6, DESTINATION6));
    assert_eq!(encapsulation, Encapsulation::NONE);
    assert_eq!(facts, PacketFacts { octets: 56, tcp_control_bits: 0, header_octets: 48 });
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
        fragment(0, 7),
        fragment(1, 7),
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
        fragment(0x0001, 7),
        authentication(12),
        options(DESTINATION_OPTIONS, 2),
    ];
    let flow = parse(&extensions, UDP, &udp()).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports), (UDP, PORTS));
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
fn no_next_header() {
    let flow = parse(&[], NO_NEXT_HEADER, &[]).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports, flow.facts.octets), (NO_NEXT_HEADER, [0; 4], 40));
    let flow = parse(&[options(HOP_BY_HOP, 0)], NO_NEXT_HEADER, &udp()).flow();
    assert_eq!((flow.fields.protocol, flow.fields.ports), (NO_NEXT_HEADER, [0; 4]));
}

#[test]
fn a_chain_that_is_cut_keeps_the_last_number_that_was_read() {
    let whole = extended(&[options(HOP_BY_HOP, 0), options(ROUTING, 0)], UDP, &udp());
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
        let mut frame = extended(&[], UDP, &udp());
        frame[HEADER] = version << 4;
        assert_eq!(parse_frame(&frame).reason(), DropReason::Malformed, "{version}");
    }
}

#[test]
fn padding_is_not_counted() {
    let mut frame = extended(&[], UDP, &PORTS);
    frame.resize(80, 0);
    assert_eq!(parse_frame(&frame).flow().facts.octets, 44);
}

#[test]
fn length_zero_is_no_payload_or_a_packet_too_long_for_the_field() {
    let mut frame = extended(&[options(HOP_BY_HOP, 0)], TCP, &tcp(0x010));
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
    let mut frame = extended(&[], UDP, &udp());
    for (octet, value) in frame[HEADER + 8..HEADER + 40].iter_mut().zip(1..) {
        *octet = value;
    }
    let source = core::array::from_fn(|i| i as u8 + 1);
    let destination = core::array::from_fn(|i| i as u8 + 17);
    assert_eq!(parse_frame(&frame).flow().addresses, Addresses::Ipv6(source, destination));
}
