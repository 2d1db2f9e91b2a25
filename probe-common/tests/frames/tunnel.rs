//! Tunnels: on request the packet inside, and never both.

use pathflow_common::flow::{Addresses, Encapsulation, KEY_FLAG_LATER_FRAGMENT};

use crate::extensions::{DESTINATION_OPTIONS, extended, fragment, options};
use crate::support::{
    DESTINATION4, DESTINATION6, Flow, Ipv4, Observer, PORTS, SOURCE4, SOURCE6, VXLAN_PORTS, ethernet, ipv6,
    ipv6_frame, tcp, udp,
};

const IP_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const IPV4_TYPE: u16 = 0x0800;
const IPV6_TYPE: u16 = 0x86dd;
const BRIDGED: u16 = 0x6558;
const CHECKSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;

/// The addresses of the packets inside, which the outer ones do not have.
pub(crate) const INNER_SOURCE4: [u8; 4] = [10, 1, 2, 3];
pub(crate) const INNER_DESTINATION4: [u8; 4] = [10, 4, 5, 6];
pub(crate) const INNER_SOURCE6: [u8; 16] = [0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
pub(crate) const INNER_DESTINATION6: [u8; 16] = [0xfd, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];

pub(crate) fn inner4() -> Vec<u8> {
    let mut packet = Ipv4 { type_of_service: 0x10, ..Ipv4::of(6) }.packet(&tcp(0x018));
    packet[12..16].copy_from_slice(&INNER_SOURCE4);
    packet[16..20].copy_from_slice(&INNER_DESTINATION4);
    packet
}

fn inner6() -> Vec<u8> {
    let mut packet = ipv6(6, &tcp(0x018));
    packet[8..24].copy_from_slice(&INNER_SOURCE6);
    packet[24..40].copy_from_slice(&INNER_DESTINATION6);
    packet
}

pub(crate) fn gre(flags: u16, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [flags.to_be_bytes(), ether_type.to_be_bytes()].concat();
    for (flag, word) in [(CHECKSUM, 0x4500_0000_u32), (KEY, 0x6011_1111), (SEQUENCE, 0x4622_2222)] {
        if flags & flag != 0 {
            header.extend(word.to_be_bytes());
        }
    }
    header.extend(payload);
    header
}

fn vxlan_to(port: u16, flags: u8, identifier: u32, payload: &[u8]) -> Vec<u8> {
    let mut segment = [0xc3, 0x50].to_vec();
    segment.extend(port.to_be_bytes());
    segment.extend((16 + payload.len() as u16).to_be_bytes());
    segment.extend([0, 0, flags, 0, 0, 0]);
    segment.extend((identifier << 8 | 0xff).to_be_bytes());
    segment.extend(payload);
    segment
}

pub(crate) fn vxlan(identifier: u32, payload: &[u8]) -> Vec<u8> {
    vxlan_to(VXLAN_PORTS[0], 0x08, identifier, payload)
}

/// What is in tunnels, by the protocol number of the outer packet.
pub(crate) fn tunnels(identifier: u32) -> Vec<(u8, Vec<u8>)> {
    let in_ethernet =
        |tags: &[(u16, u16)]| [ethernet(tags, IPV4_TYPE, &inner4()), ethernet(tags, IPV6_TYPE, &inner6())];
    let mut tunnels = vec![(IP_IN_IP, inner4()), (IPV6_IN_IP, inner6())];
    for flags in [0, CHECKSUM, KEY, SEQUENCE, CHECKSUM | KEY, CHECKSUM | SEQUENCE, KEY | SEQUENCE] {
        tunnels.push((GRE, gre(flags, IPV4_TYPE, &inner4())));
    }
    tunnels.push((GRE, gre(CHECKSUM | KEY | SEQUENCE, IPV6_TYPE, &inner6())));
    tunnels.extend(in_ethernet(&[]).map(|frame| (GRE, gre(KEY, BRIDGED, &frame))));
    tunnels.extend(in_ethernet(&[]).map(|frame| (UDP, vxlan(identifier, &frame))));
    tunnels
}

#[track_caller]
fn assert_inside(flow: Flow) {
    let expected = match flow.addresses {
        Addresses::Ipv4(..) => Addresses::Ipv4(INNER_SOURCE4, INNER_DESTINATION4),
        Addresses::Ipv6(..) => Addresses::Ipv6(INNER_SOURCE6, INNER_DESTINATION6),
    };
    assert_eq!(flow.addresses, expected);
    assert_eq!((flow.fields.protocol, flow.fields.ports), (6, PORTS));
    let (octets, headers, class) = match flow.addresses {
        Addresses::Ipv4(..) => (40, 40, 0x10),
        Addresses::Ipv6(..) => (60, 60, 0xb8),
    };
    assert_eq!((flow.facts.octets, flow.facts.header_octets), (octets, headers));
    assert_eq!((flow.facts.tcp_control_bits, flow.fields.class_of_service), (0x018, class));
}

#[track_caller]
fn assert_outside(flow: Flow, protocol: u8, identifier: u32) {
    let expected = match flow.addresses {
        Addresses::Ipv4(..) => Addresses::Ipv4(SOURCE4, DESTINATION4),
        Addresses::Ipv6(..) => Addresses::Ipv6(SOURCE6, DESTINATION6),
    };
    assert_eq!((flow.addresses, flow.fields.protocol), (expected, protocol));
    assert_eq!(flow.encapsulation, Encapsulation::NONE.with_vxlan_network_identifier(identifier));
}

#[track_caller]
fn stays_outside(protocol: u8, payload: &[u8]) {
    stays_outside_in(0, protocol, payload);
}

/// The flow is that of the outer header, with this VXLAN network identifier if tunnels are looked into.
#[track_caller]
fn stays_outside_in(identifier: u32, protocol: u8, payload: &[u8]) {
    for frame in [Ipv4::of(protocol).frame(payload), ipv6_frame(protocol, payload)] {
        let flow = Observer::inside().parse(&frame).flow();
        assert_outside(flow, protocol, identifier);
        let flow = Flow { encapsulation: Encapsulation::NONE, ..flow };
        assert_eq!(Observer::default().parse(&frame).flow(), flow);
    }
}

#[test]
fn the_packet_inside_on_request_and_the_outer_one_otherwise() {
    let words = [1; 16];
    for (protocol, payload) in tunnels(0x12_3456) {
        let plain = Ipv4::of(protocol);
        let with_options = Ipv4 { options: &words, ..plain };
        for (frame, outer) in [
            (plain.frame(&payload), 20),
            (with_options.frame(&payload), 36),
            (ipv6_frame(protocol, &payload), 40),
        ] {
            let outside = Observer::default().parse(&frame).flow();
            assert_outside(outside, protocol, 0);
            assert_eq!(outside.facts.octets as usize, outer + payload.len());
            let inside = Observer::inside().parse(&frame).flow();
            assert_inside(inside);
            let identifier = if protocol == UDP { 0x12_3456 } else { 0 };
            assert_eq!(inside.encapsulation.vxlan_network_identifier(), identifier);
            assert_eq!(inside.encapsulation.mpls_top_label(), None);
        }
    }
}

#[test]
fn packets_in_no_tunnel_are_what_they_are() {
    for frame in [
        Ipv4::of(UDP).frame(&udp()),
        ipv6_frame(UDP, &udp()),
        Ipv4::of(6).frame(&tcp(0x002)),
        Ipv4::of(50).frame(&[0x45; 40]),
        ethernet(&[], 0x0806, &[0; 46]),
    ] {
        assert_eq!(Observer::inside().parse(&frame), Observer::default().parse(&frame));
    }
}

#[test]
fn only_one_level_is_entered() {
    // IPv6 in GRE in IPv4 in IPv4: what counts is the second header.
    let mut second = Ipv4::of(GRE).packet(&gre(0, IPV6_TYPE, &inner6()));
    second[12..16].copy_from_slice(&[172, 16, 0, 1]);
    let flow = Observer::inside().parse(&Ipv4::of(IP_IN_IP).frame(&second)).flow();
    assert_eq!(flow.addresses, Addresses::Ipv4([172, 16, 0, 1], DESTINATION4));
    assert_eq!((flow.fields.protocol, flow.facts.octets as usize), (GRE, second.len()));
}

#[test]
fn tags_and_labels_of_the_outer_frame() {
    let tags = [(0x88a8, 100), (0x8100, 200)];
    for (protocol, payload) in tunnels(7) {
        let frame = ethernet(&tags, IPV4_TYPE, &Ipv4::of(protocol).packet(&payload));
        let flow = Observer::inside().parse(&frame).flow();
        assert_inside(flow);
        // A frame inside has tags of its own, or none.
        let is_frame = protocol == UDP || protocol == GRE && payload[2..4] == BRIDGED.to_be_bytes();
        let expected = if is_frame { (0, 0) } else { (100, 200) };
        assert_eq!((flow.fields.vlan_id, flow.fields.customer_vlan_id), expected, "{protocol}");

        let label = 0x0001_0140_u32.to_be_bytes();
        let labelled = [&label[..], &Ipv4::of(protocol).packet(&payload)].concat();
        let flow = Observer::inside().parse(&ethernet(&[], 0x8847, &labelled)).flow();
        assert_inside(flow);
        assert_eq!(flow.encapsulation.mpls_top_label(), Some(16));
        let identifier = if protocol == UDP { 7 } else { 0 };
        assert_eq!(flow.encapsulation.vxlan_network_identifier(), identifier);
    }
}

#[test]
fn a_frame_inside_has_up_to_four_tags() {
    let tags = [(0x8100, 11), (0x8100, 12), (0x88a8, 13), (0x9100, 14), (0x8100, 15)];
    for depth in 0..=4 {
        let inside = ethernet(&tags[..depth], IPV4_TYPE, &inner4());
        let vlan_id = |place: usize| if place < depth { tags[place].1 } else { 0 };
        for (protocol, payload) in [(UDP, vxlan(9, &inside)), (GRE, gre(0, BRIDGED, &inside))] {
            let outer = ethernet(&[(0x8100, 99)], IPV4_TYPE, &Ipv4::of(protocol).packet(&payload));
            let flow = Observer::inside().parse(&outer).flow();
            assert_inside(flow);
            assert_eq!((flow.fields.vlan_id, flow.fields.customer_vlan_id), (vlan_id(0), vlan_id(1)));
        }
    }
    stays_outside_in(9, UDP, &vxlan(9, &ethernet(&tags, IPV4_TYPE, &inner4())));
    stays_outside(GRE, &gre(0, BRIDGED, &ethernet(&tags, IPV4_TYPE, &inner4())));
}

#[test]
fn every_network_identifier() {
    for identifier in [0, 1, 0x80_0000, 0xff_ffff] {
        for port in VXLAN_PORTS {
            let payload = vxlan_to(port, 0x08, identifier, &ethernet(&[], IPV4_TYPE, &inner4()));
            let flow = Observer::inside().parse(&Ipv4::of(UDP).frame(&payload)).flow();
            assert_inside(flow);
            assert_eq!(flow.encapsulation.vxlan_network_identifier(), identifier);
        }
    }
}

#[test]
fn udp_to_another_port_or_without_an_identifier_is_not_vxlan() {
    let inside = ethernet(&[], IPV4_TYPE, &inner4());
    for port in [0, 4788, 4790, 8471, 0xb512] {
        stays_outside(UDP, &vxlan_to(port, 0x08, 1, &inside));
    }
    // The other direction of such a port.
    let mut swapped = vxlan(1, &inside);
    swapped.swap(0, 2);
    swapped.swap(1, 3);
    stays_outside(UDP, &swapped);
    for flags in [0, 0xf7, 0x04] {
        stays_outside(UDP, &vxlan_to(VXLAN_PORTS[0], flags, 1, &inside));
    }
}

#[test]
fn gre_that_is_not_understood_stays_outside() {
    // Routing (RFC 1701), version 1 (PPTP), other versions.
    for flags in [0x4000, 0x0001, 0x2001, 0x0002, 0x0007] {
        stays_outside(GRE, &gre(flags, IPV4_TYPE, &inner4()));
    }
    // ERSPAN, NHRP, WCCP, MPLS, ARP, keepalive.
    for ether_type in [0x88be, 0x22eb, 0x2001, 0x883e, 0x8847, 0x0806, 0x0000] {
        stays_outside(GRE, &gre(0, ether_type, &inner4()));
    }
}

#[test]
fn what_is_not_ip_inside_stays_outside() {
    for payload in [ethernet(&[], 0x0806, &[0; 46]), ethernet(&[(0x8100, 5)], 0x88cc, &[0; 46])] {
        stays_outside_in(1, UDP, &vxlan(1, &payload));
        stays_outside(GRE, &gre(0, BRIDGED, &payload));
    }
    stays_outside(IP_IN_IP, &inner6());
    stays_outside(IPV6_IN_IP, &inner4());
    stays_outside(GRE, &gre(0, IPV4_TYPE, &inner6()));
    stays_outside(GRE, &gre(0, IPV6_TYPE, &inner4()));
}

/// Otherwise a packet that has a perfectly good outer header would be lost as malformed.
#[test]
fn what_is_malformed_inside_stays_outside() {
    let changed = |place: usize, octets: &[u8]| {
        let mut packet = inner4();
        packet[place..place + octets.len()].copy_from_slice(octets);
        packet
    };
    let mut wrong = vec![changed(0, &[0x44]), changed(0, &[0x55]), changed(0, &[0x40])];
    // Total length below that of the header.
    wrong.extend([[0, 0], [0, 19]].map(|length| changed(2, &length)));
    wrong.push([&changed(0, &[0x46, 0, 0, 20])[..], &[0; 20]].concat());
    for packet in wrong {
        stays_outside(IP_IN_IP, &packet);
        stays_outside(GRE, &gre(KEY, IPV4_TYPE, &packet));
        stays_outside_in(1, UDP, &vxlan(1, &ethernet(&[], IPV4_TYPE, &packet)));
    }
}

#[test]
fn a_packet_whose_inside_is_cut_stays_outside() {
    for (protocol, payload) in tunnels(1) {
        for (frame, outer) in
            [(Ipv4::of(protocol).frame(&payload), 14 + 20), (ipv6_frame(protocol, &payload), 14 + 40)]
        {
            // As long as the inner header is not whole; behind it are the transport's 20 octets.
            let inner_end = frame.len() - 20;
            for length in outer..frame.len() {
                let wire_length = frame.len() as u32;
                let flow = Observer::inside().parse_captured(&frame[..length], wire_length).flow();
                if length < inner_end {
                    // The headers of UDP and VXLAN are 16 octets.
                    let identifier = u32::from(protocol == UDP && length >= outer + 16);
                    assert_outside(flow, protocol, identifier);
                    let flow = Flow { encapsulation: Encapsulation::NONE, ..flow };
                    let outside = Observer::default().parse_captured(&frame[..length], wire_length);
                    assert_eq!(outside.flow(), flow);
                } else {
                    let octets = match flow.addresses {
                        Addresses::Ipv4(source, _) => (source == INNER_SOURCE4).then_some(40),
                        Addresses::Ipv6(source, _) => (source == INNER_SOURCE6).then_some(60),
                    };
                    assert_eq!(octets, Some(flow.facts.octets));
                }
            }
        }
    }
}

#[test]
fn a_tunnel_packet_in_fragments_stays_outside() {
    for (protocol, payload) in tunnels(1) {
        for fragment in [0x2000, 0x2005, 0x0005] {
            let frame = Ipv4 { fragment, ..Ipv4::of(protocol) }.frame(&payload);
            let flow = Observer::inside().parse(&frame).flow();
            assert_outside(flow, protocol, 0);
            assert_eq!(Observer::default().parse(&frame).flow(), flow);
        }
        for offset_and_flags in [0x0001, 0x0009, 0x0028] {
            let frame = extended(&[fragment(offset_and_flags, 1)], protocol, &payload);
            let flow = Observer::inside().parse(&frame).flow();
            assert_outside(flow, protocol, 0);
        }
        // "Do not fragment" and the reserved bit make no fragment.
        for fragment in [0x4000, 0x8000] {
            let frame = Ipv4 { fragment, ..Ipv4::of(protocol) }.frame(&payload);
            assert_inside(Observer::inside().parse(&frame).flow());
        }
    }
}

#[test]
fn extension_headers_before_a_tunnel_are_not_walked() {
    for (protocol, payload) in tunnels(1) {
        let frame = extended(&[options(DESTINATION_OPTIONS, 0)], protocol, &payload);
        assert_outside(Observer::inside().parse(&frame).flow(), protocol, 0);
    }
}

#[test]
fn fragments_inside_belong_to_their_datagram_inside() {
    let observer = Observer::inside();
    let inside = |fragment, payload: &[u8]| {
        let packet = Ipv4 { fragment, ..Ipv4::of(UDP) }.packet(payload);
        Ipv4::of(GRE).frame(&gre(0, IPV4_TYPE, &packet))
    };
    let unknown = observer.parse(&inside(5, &[1; 8])).flow();
    assert_eq!(unknown.fields.flags, KEY_FLAG_LATER_FRAGMENT);
    assert_eq!(observer.parse(&inside(0x2000, &udp())).flow().fields.ports, PORTS);
    let later = observer.parse(&inside(5, &[1; 8])).flow();
    assert_eq!((later.fields.flags, later.fields.protocol, later.fields.ports), (0, UDP, PORTS));
}
