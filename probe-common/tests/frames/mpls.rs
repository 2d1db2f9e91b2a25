//! MPLS label stacks (RFC 3032).

use pathflow_common::DropReason;
use pathflow_common::flow::Addresses;
use pathflow_common::parse::MAX_LABELS;

use crate::support::{
    DESTINATION4, DESTINATION6, Flow, Ipv4, PORTS, SOURCE4, SOURCE6, ethernet, ipv6, parse_captured,
    parse_frame, udp,
};

const UNICAST: u16 = 0x8847;
/// Labels assigned by the upstream router (RFC 5332).
const UPSTREAM: u16 = 0x8848;

/// A stack whose last entry has the bottom-of-stack bit, every other bit but the label's being set.
pub(crate) fn stack(labels: &[u32]) -> Vec<u8> {
    let bottom = labels.len() - 1;
    labels
        .iter()
        .enumerate()
        .flat_map(|(place, label)| {
            (label << 12 | 0xe00 | u32::from(place == bottom) << 8 | 0xff).to_be_bytes()
        })
        .collect()
}

pub(crate) fn labelled(labels: &[u32], packet: &[u8]) -> Vec<u8> {
    ethernet(&[], UNICAST, &[&stack(labels)[..], packet].concat())
}

fn ipv4_packet() -> Vec<u8> {
    Ipv4::of(17).packet(&udp())
}

#[track_caller]
fn assert_ipv4(flow: Flow, top: u32) {
    assert_eq!(flow.addresses, Addresses::Ipv4(SOURCE4, DESTINATION4));
    assert_eq!((flow.fields.protocol, flow.fields.ports, flow.facts.octets), (17, PORTS, 36));
    assert_eq!(flow.encapsulation.mpls_top_label(), Some(top));
    assert_eq!(flow.encapsulation.vxlan_network_identifier(), 0);
}

#[test]
fn the_top_label_is_in_the_key_of_any_stack() {
    assert_eq!(MAX_LABELS, 10);
    for depth in 1..=10 {
        let labels: Vec<u32> = (0..depth).map(|place| 0xf_ffff - place).collect();
        assert_ipv4(parse_frame(&labelled(&labels, &ipv4_packet())).flow(), 0xf_ffff);
        let flow = parse_frame(&labelled(&labels, &ipv6(17, &udp()))).flow();
        assert_eq!(flow.addresses, Addresses::Ipv6(SOURCE6, DESTINATION6));
        assert_eq!((flow.fields.ports, flow.facts.octets), (PORTS, 56));
        assert_eq!(flow.encapsulation.mpls_top_label(), Some(0xf_ffff));
    }
}

#[test]
fn eleven_labels_are_not_ip() {
    for depth in [11, 12, 100] {
        let frame = labelled(&vec![16; depth], &ipv4_packet());
        assert_eq!(parse_frame(&frame).reason(), DropReason::NotIp, "{depth}");
    }
}

#[test]
fn explicit_null_is_a_label() {
    // RFC 3032 section 2.1: 0 before IPv4, 2 before IPv6.
    assert_ipv4(parse_frame(&labelled(&[0], &ipv4_packet())).flow(), 0);
    let flow = parse_frame(&labelled(&[2], &ipv6(17, &udp()))).flow();
    assert_eq!(flow.encapsulation.mpls_top_label(), Some(2));
    // Entropy label indicator and label below a transport label (RFC 6790).
    assert_ipv4(parse_frame(&labelled(&[300, 7, 0xabcde], &ipv4_packet())).flow(), 300);
}

#[test]
fn either_ether_type_under_tags() {
    let tags = [(0x88a8, 100), (0x8100, 200), (0x8100, 300), (0x8100, 400)];
    for ether_type in [UNICAST, UPSTREAM] {
        for depth in 0..=4 {
            let payload = [&stack(&[99, 16])[..], &ipv4_packet()].concat();
            let flow = parse_frame(&ethernet(&tags[..depth], ether_type, &payload)).flow();
            assert_ipv4(flow, 99);
            let vlan_id = |place: usize| if place < depth { tags[place].1 } else { 0 };
            assert_eq!((flow.fields.vlan_id, flow.fields.customer_vlan_id), (vlan_id(0), vlan_id(1)));
        }
    }
}

/// RFC 4928: what is not IP does not begin with the nibble of an IP version.
#[test]
fn a_pseudowire_is_not_ip() {
    // Control word (RFC 4385), then Ethernet; associated channel (RFC 5586); Ethernet without control word.
    for payload in [[0, 0, 0, 7], [0x10, 0, 0x88, 0x02], [0x02, 0, 0, 0], [0xff; 4], [0x50, 0, 0, 0]] {
        let inside = ethernet(&[], 0x0800, &ipv4_packet());
        let frame = labelled(&[100, 200], &[&payload[..], &inside].concat());
        assert_eq!(parse_frame(&frame).reason(), DropReason::NotIp, "{payload:x?}");
    }
}

#[test]
fn a_stack_or_a_header_that_is_cut_is_truncated() {
    let frame = labelled(&[1, 2, 3], &ipv4_packet());
    let header_end = 14 + 3 * 4 + 20;
    for length in 14..header_end {
        assert_eq!(parse_frame(&frame[..length]).reason(), DropReason::Truncated, "{length}");
        let cut = parse_captured(&frame[..length], frame.len() as u32);
        assert_eq!(cut.reason(), DropReason::Truncated, "{length}");
    }
    assert_eq!(parse_captured(&frame[..header_end], frame.len() as u32).flow().facts.octets, 36);
    // A stack without a bottom.
    let endless = ethernet(&[], UNICAST, &[0x00, 0x01, 0x00, 0x40].repeat(9));
    assert_eq!(parse_frame(&endless).reason(), DropReason::Truncated);
}

#[test]
fn a_wrong_ip_header_below_labels_is_malformed() {
    let mut packet = ipv4_packet();
    packet[0] = 0x44;
    assert_eq!(parse_frame(&labelled(&[16], &packet)).reason(), DropReason::Malformed);
}

#[test]
fn padding_below_labels_is_not_counted() {
    let mut frame = labelled(&[16], &Ipv4::of(17).packet(&PORTS));
    frame.resize(60, 0);
    assert_eq!(parse_frame(&frame).flow().facts.octets, 24);
}
