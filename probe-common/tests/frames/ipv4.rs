//! IPv4 headers.

use pathflow_common::DropReason;
use pathflow_common::flow::{Addresses, Encapsulation, KeyFields};
use pathflow_common::parse::PacketFacts;

use crate::support::{
    DESTINATION4, Flow, Ipv4, POINT, PORTS, SOURCE4, parse_captured, parse_frame, tcp, udp,
};

/// Offset of the IPv4 header in a frame without tags.
const HEADER: usize = 14;

#[test]
fn a_plain_datagram() {
    let header = Ipv4 { type_of_service: 0xb8, ..Ipv4::of(17) };
    let Flow { fields, addresses, encapsulation, flow_label: _, facts } =
        parse_frame(&header.frame(&udp())).flow();
    let expected = KeyFields {
        observation_point: POINT,
        filter_results: 0,
        flags: 0,
        protocol: 17,
        ports: PORTS,
        vlan_id: 0,
        customer_vlan_id: 0,
        vlan_priority: 0,
        class_of_service: 0xb8,
    };
    assert_eq!(fields, expected);
    assert_eq!(addresses, Addresses::Ipv4(SOURCE4, DESTINATION4));
    assert_eq!(encapsulation, Encapsulation::NONE);
    assert_eq!(facts, PacketFacts { octets: 36, tcp_control_bits: 0, header_octets: 28 });
}

#[test]
fn ports_follow_the_options() {
    for words in 1..=10 {
        // No-operation options, so that an offset that is wrong gives ports that are.
        let options = vec![1; words * 4];
        let header = Ipv4 { options: &options, ..Ipv4::of(6) };
        let flow = parse_frame(&header.frame(&tcp(0x012))).flow();
        assert_eq!((flow.fields.ports, flow.facts.tcp_control_bits), (PORTS, 0x012), "{words} words");
        assert_eq!(flow.facts.octets as usize, 20 + words * 4 + 20);
    }
}

#[test]
fn padding_is_not_counted() {
    let mut frame = Ipv4::of(17).frame(&PORTS);
    assert_eq!(frame.len(), 38);
    frame.resize(60, 0);
    assert_eq!(parse_frame(&frame).flow().facts.octets, 24);
}

#[test]
fn the_octets_are_those_of_the_header_even_if_the_capture_is_shorter() {
    let frame = Ipv4::of(17).frame(&[0; 1400]);
    assert_eq!(parse_captured(&frame[..64], frame.len() as u32).flow().facts.octets, 1420);
}

#[test]
fn a_wrong_version_is_malformed() {
    for version in [0, 3, 5, 6, 15] {
        let mut frame = Ipv4::of(17).frame(&udp());
        frame[HEADER] = version << 4 | 5;
        assert_eq!(parse_frame(&frame).reason(), DropReason::Malformed, "{version}");
    }
}

#[test]
fn a_header_length_below_five_words_is_malformed() {
    for words in 0..5 {
        let mut frame = Ipv4::of(17).frame(&udp());
        frame[HEADER] = 0x40 | words;
        assert_eq!(parse_frame(&frame).reason(), DropReason::Malformed, "{words}");
    }
}

#[test]
fn a_total_length_below_the_header_length_is_malformed() {
    let options = [1; 8];
    for (header, minimum) in [(Ipv4::of(17), 20_u16), (Ipv4 { options: &options, ..Ipv4::of(17) }, 28)] {
        for length in 0..minimum {
            let mut frame = header.frame(&udp());
            frame[HEADER + 2..HEADER + 4].copy_from_slice(&length.to_be_bytes());
            assert_eq!(parse_frame(&frame).reason(), DropReason::Malformed, "{length}");
        }
        let mut frame = header.frame(&udp());
        frame[HEADER + 2..HEADER + 4].copy_from_slice(&minimum.to_be_bytes());
        assert_eq!(parse_frame(&frame).flow().facts.octets, u32::from(minimum));
    }
}

#[test]
fn a_length_beyond_the_frame_counts_what_the_frame_had() {
    let mut frame = Ipv4::of(17).frame(&udp());
    frame[HEADER] = 0x4f;
    frame[HEADER + 2..HEADER + 4].copy_from_slice(&100_u16.to_be_bytes());
    let flow = parse_frame(&frame).flow();
    // The options it claims reach beyond the frame as well.
    assert_eq!((flow.fields.ports, flow.facts.octets as usize), ([0; 4], frame.len() - HEADER));
}

#[test]
fn padding_does_not_become_ports_or_control_bits() {
    let padded = |protocol, length: u16, payload: &[u8]| {
        let mut frame = Ipv4::of(protocol).frame(payload);
        frame[HEADER + 2..HEADER + 4].copy_from_slice(&length.to_be_bytes());
        let flow = parse_frame(&frame).flow();
        (flow.fields.ports, flow.facts.tcp_control_bits, flow.facts.octets)
    };
    let ports = |payload: &[u8]| [payload[0], payload[1], payload[2], payload[3]];
    assert_eq!(padded(17, 20, &udp()), ([0; 4], 0, 20));
    assert_eq!(padded(17, 23, &udp()), ([0; 4], 0, 23));
    assert_eq!(padded(17, 24, &udp()), (ports(&udp()), 0, 24));
    assert_eq!(padded(6, 33, &tcp(0x012)), (ports(&tcp(0x012)), 0, 33));
    assert_eq!(padded(6, 34, &tcp(0x012)), (ports(&tcp(0x012)), 0x012, 34));
    assert_eq!(padded(1, 21, &[8, 7, 0, 0]), ([0; 4], 0, 21));
    assert_eq!(padded(1, 22, &[8, 7, 0, 0]), ([0, 0, 8, 7], 0, 22));
}

#[test]
fn length_zero_is_a_packet_too_long_for_the_field() {
    let mut frame = Ipv4::of(6).frame(&tcp(0x010));
    frame[HEADER + 2..HEADER + 4].fill(0);
    // BIG TCP: only the first octets are in the first buffer.
    let flow = parse_captured(&frame, 14 + 180_000).flow();
    assert_eq!((flow.facts.octets, flow.fields.ports), (180_000, PORTS));
    assert_eq!(parse_captured(&frame, 14 + 65_536).flow().facts.octets, 65_536);
    // A packet that the field could describe has no reason to have 0 in it.
    assert_eq!(parse_captured(&frame, 14 + 65_535).reason(), DropReason::Malformed);
}
