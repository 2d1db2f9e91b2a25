//! Tags, and frames that are not IP.

use pathflow_common::DropReason;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{Addresses, KeyFields};
use pathflow_common::parse::link::Link;

use crate::support::{DESTINATION4, Ipv4, Observer, PORTS, SOURCE4, ethernet, ipv6, parse_frame, udp};

/// Identifiers and layer 3 octets of an IPv4 packet under `tags`.
#[track_caller]
fn tagged(tags: &[(u16, u16)]) -> (u16, u16, u32) {
    let flow = parse_frame(&ethernet(tags, 0x0800, &Ipv4::of(17).packet(&udp()))).flow();
    assert_eq!(flow.addresses, Addresses::Ipv4(SOURCE4, DESTINATION4));
    assert_eq!(flow.fields.ports, PORTS);
    (flow.fields.vlan_id, flow.fields.customer_vlan_id, flow.facts.octets)
}

#[test]
fn each_tag_protocol_is_understood() {
    assert_eq!(tagged(&[]), (0, 0, 36));
    for protocol in [0x8100, 0x88a8, 0x9100] {
        assert_eq!(tagged(&[(protocol, 0x0123)]), (0x123, 0, 36), "{protocol:#x}");
    }
}

#[test]
fn the_outer_identifier_comes_first() {
    assert_eq!(tagged(&[(0x88a8, 100), (0x8100, 200)]), (100, 200, 36));
    assert_eq!(tagged(&[(0x9100, 1), (0x9100, 4094)]), (1, 4094, 36));
    assert_eq!(tagged(&[(0x8100, 4095), (0x8100, 4095)]), (4095, 4095, 36));
}

#[test]
fn priority_and_drop_eligibility_are_not_part_of_the_identifier() {
    assert_eq!(tagged(&[(0x88a8, 0xf064), (0x8100, 0xe0c8)]), (100, 200, 36));
    // A priority tag: identifier 0.
    assert_eq!(tagged(&[(0x8100, 0xa000)]), (0, 0, 36));
}

#[test]
fn the_priority_of_the_outer_tag_is_in_the_key_if_it_is_asked_for() {
    let packet = Ipv4::of(17).packet(&udp());
    for (tags, expected) in [
        (&[][..], 0),
        (&[(0x8100, 0xa000)], 5),
        (&[(0x8100, 0x6064)], 3),
        (&[(0x88a8, 0xf064), (0x8100, 0x20c8)], 7),
        (&[(0x8100, 0x1064), (0x8100, 0xe0c8)], 0),
    ] {
        for (ether_type, packet) in [(0x0800, packet.clone()), (0x86dd, ipv6(17, &udp()))] {
            let frame = ethernet(tags, ether_type, &packet);
            let asked = Observer::default().with_vlan_priority(true).parse(&frame).flow();
            assert_eq!(asked.fields.vlan_priority, expected, "{tags:x?}");
            let not_asked = parse_frame(&frame).flow();
            assert_eq!(not_asked.fields.vlan_priority, 0, "{tags:x?}");
            assert_eq!(KeyFields { vlan_priority: 0, ..asked.fields }, not_asked.fields, "{tags:x?}");
        }
    }
}

#[test]
fn the_priority_of_a_tag_beside_the_frame_is_too() {
    let frame = ethernet(&[(0x8100, 0x20c8)], 0x0800, &Ipv4::of(17).packet(&udp()));
    for (is_asked_for, expected) in [(true, (100, 200, 6)), (false, (100, 200, 0))] {
        let link = |frame: &SliceFrame<'_>| Link::ethernet(frame).unwrap().with_tag(0xd064, is_asked_for);
        let fields =
            Observer::default().with_vlan_priority(is_asked_for).parse_from(&frame, link).flow().fields;
        assert_eq!((fields.vlan_id, fields.customer_vlan_id, fields.vlan_priority), expected);
    }
}

#[test]
fn ipv6_under_tags() {
    let frame = ethernet(&[(0x88a8, 100), (0x8100, 200)], 0x86dd, &ipv6(17, &udp()));
    let flow = parse_frame(&frame).flow();
    assert_eq!((flow.fields.vlan_id, flow.fields.customer_vlan_id), (100, 200));
    assert_eq!((flow.fields.ports, flow.facts.octets), (PORTS, 56));
}

#[test]
fn of_deeper_stacks_the_outer_two_identifiers_count() {
    let stack = [(0x88a8, 1), (0x8100, 2), (0x9100, 3), (0x8100, 4)];
    assert_eq!(tagged(&stack[..3]), (1, 2, 36));
    assert_eq!(tagged(&stack), (1, 2, 36));
    // Priority tags are tags.
    assert_eq!(tagged(&[(0x8100, 0), (0x8100, 0), (0x8100, 7)]), (0, 0, 36));
}

#[test]
fn a_fifth_tag_is_not_ip() {
    for protocol in [0x8100, 0x88a8, 0x9100] {
        for tags in [5, 6, 20] {
            let frame = ethernet(&vec![(protocol, 1); tags], 0x0800, &Ipv4::of(17).packet(&udp()));
            assert_eq!(parse_frame(&frame).reason(), DropReason::NotIp);
        }
    }
}

#[test]
fn other_protocols_are_not_ip() {
    // ARP, LLDP, PPPoE discovery, MAC-in-MAC, loopback test, reserved.
    for ether_type in [0x0806, 0x88cc, 0x8863, 0x88e7, 0x9000, 0xffff] {
        for tags in [&[][..], &[(0x8100, 5)], &[(0x88a8, 5), (0x8100, 6)], &[(0x8100, 5); 4]] {
            let frame = ethernet(tags, ether_type, &[0x45; 46]);
            assert_eq!(parse_frame(&frame).reason(), DropReason::NotIp, "{ether_type:#x} {tags:x?}");
        }
    }
}

#[test]
fn a_length_in_place_of_the_type_is_not_ip() {
    // IEEE 802.3 with LLC: spanning tree, and the greatest length there is.
    for length in [0, 38, 1500] {
        let frame = ethernet(&[], length, &[0x42, 0x42, 0x03, 0, 0, 0, 0, 0]);
        assert_eq!(parse_frame(&frame).reason(), DropReason::NotIp);
    }
}

#[test]
fn a_frame_that_ends_in_its_ethernet_header_is_truncated() {
    let frame = ethernet(&[(0x88a8, 1), (0x8100, 2)], 0x0800, &[]);
    for length in 0..22 {
        assert_eq!(parse_frame(&frame[..length]).reason(), DropReason::Truncated, "{length}");
    }
    let arp = ethernet(&[], 0x0806, &[]);
    assert_eq!(parse_frame(&arp).reason(), DropReason::NotIp);
}
