//! `PPPoE` sessions (RFC 2516).

use pathflow_common::DropReason;
use pathflow_common::flow::{Addresses, Encapsulation};

use crate::support::{
    DESTINATION4, DESTINATION6, Ipv4, PORTS, SOURCE4, SOURCE6, ethernet, ipv6, parse_captured, parse_frame,
    udp,
};

const DISCOVERY: u16 = 0x8863;
const SESSION: u16 = 0x8864;
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// Version and type, code, session, length, PPP protocol, packet.
fn session(protocol: u16, packet: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x11, 0, 0xab, 0xcd];
    payload.extend((packet.len() as u16 + 2).to_be_bytes());
    payload.extend(protocol.to_be_bytes());
    payload.extend(packet);
    payload
}

fn ipv4_packet() -> Vec<u8> {
    Ipv4::of(17).packet(&udp())
}

#[test]
fn both_families_in_a_session() {
    let flow = parse_frame(&ethernet(&[], SESSION, &session(PPP_IPV4, &ipv4_packet()))).flow();
    assert_eq!(flow.addresses, Addresses::Ipv4(SOURCE4, DESTINATION4));
    assert_eq!((flow.fields.ports, flow.facts.octets), (PORTS, 36));
    assert_eq!(flow.encapsulation, Encapsulation::NONE);
    let flow = parse_frame(&ethernet(&[], SESSION, &session(PPP_IPV6, &ipv6(17, &udp())))).flow();
    assert_eq!(flow.addresses, Addresses::Ipv6(SOURCE6, DESTINATION6));
    assert_eq!((flow.fields.ports, flow.facts.octets), (PORTS, 56));
}

#[test]
fn a_session_has_the_identifiers_of_its_tags() {
    let tags = [(0x88a8, 100), (0x8100, 200)];
    let flow = parse_frame(&ethernet(&tags, SESSION, &session(PPP_IPV4, &ipv4_packet()))).flow();
    assert_eq!((flow.fields.vlan_id, flow.fields.customer_vlan_id), (100, 200));
    assert_eq!(flow.fields.ports, PORTS);
}

#[test]
fn what_is_not_data_is_not_ip() {
    // LCP, PAP, CHAP, IPCP, IPv6CP, compressed IP, MPLS.
    for protocol in [0xc021, 0xc023, 0xc223, 0x8021, 0x8057, 0x002d, 0x0281] {
        let frame = ethernet(&[], SESSION, &session(protocol, &ipv4_packet()));
        assert_eq!(parse_frame(&frame).reason(), DropReason::NotIp, "{protocol:#x}");
    }
    // PADI with an empty service name.
    let discovery = ethernet(&[], DISCOVERY, &[0x11, 0x09, 0, 0, 0, 4, 1, 1, 0, 0]);
    assert_eq!(parse_frame(&discovery).reason(), DropReason::NotIp);
}

#[test]
fn another_version_type_or_code_is_malformed() {
    for (place, octet) in [(0, 0x12), (0, 0x21), (0, 0), (1, 0xa7), (1, 9)] {
        let mut payload = session(PPP_IPV4, &ipv4_packet());
        payload[place] = octet;
        let frame = ethernet(&[], SESSION, &payload);
        assert_eq!(parse_frame(&frame).reason(), DropReason::Malformed, "{octet:#x}");
    }
}

#[test]
fn the_version_of_the_packet_must_be_that_of_the_protocol() {
    for (protocol, packet) in [(PPP_IPV6, ipv4_packet()), (PPP_IPV4, ipv6(17, &udp()))] {
        let frame = ethernet(&[], SESSION, &session(protocol, &[packet, vec![0; 40]].concat()));
        assert_eq!(parse_frame(&frame).reason(), DropReason::Malformed, "{protocol:#x}");
    }
}

#[test]
fn a_session_that_is_cut_is_truncated() {
    let frame = ethernet(&[(0x8100, 7)], SESSION, &session(PPP_IPV4, &ipv4_packet()));
    let header_end = 18 + 8 + 20;
    for length in 14..header_end {
        assert_eq!(parse_frame(&frame[..length]).reason(), DropReason::Truncated, "{length}");
    }
    assert_eq!(parse_captured(&frame[..header_end], frame.len() as u32).flow().facts.octets, 36);
}

#[test]
fn padding_in_a_session_is_not_counted() {
    let mut frame = ethernet(&[], SESSION, &session(PPP_IPV4, &Ipv4::of(17).packet(&PORTS)));
    frame.resize(60, 0);
    assert_eq!(parse_frame(&frame).flow().facts.octets, 24);
}
