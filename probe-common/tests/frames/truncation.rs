//! Frames cut at every octet, as a capture with a short snapshot length or a broken sender leaves them.

use pathflow_common::DropReason;

use crate::support::{Ipv4, Parsed, ethernet, ipv6, parse_captured, tcp, udp};

/// Frames, and where the fixed IP header of each ends.
fn frames() -> Vec<(Vec<u8>, usize)> {
    let options = [1; 12];
    let with_options = Ipv4 { options: &options, ..Ipv4::of(6) };
    // Hop-by-hop options, first fragment, authentication, TCP.
    let chain = [
        &[44, 0, 1, 4, 0, 0, 0, 0][..],
        &[51, 0, 0, 1, 9, 9, 9, 9],
        &[6, 1, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9],
        &tcp(0x011),
    ]
    .concat();
    let two_tags = [(0x88a8, 100), (0x8100, 200)];
    vec![
        (ethernet(&[], 0x0800, &Ipv4::of(17).packet(&udp())), 14 + 20),
        (ethernet(&[(0x8100, 7)], 0x0800, &Ipv4::of(1).packet(&[8, 0, 0, 0, 0, 0, 0, 0])), 18 + 20),
        (ethernet(&two_tags, 0x0800, &with_options.packet(&tcp(0xfff))), 22 + 20),
        (ethernet(&[], 0x86dd, &ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 0])), 14 + 40),
        (ethernet(&two_tags, 0x86dd, &ipv6(0, &chain)), 22 + 40),
    ]
}

#[test]
fn before_the_end_of_the_ip_header_the_frame_is_truncated() {
    for (frame, header_end) in frames() {
        for length in 0..header_end {
            let parsed = parse_captured(&frame[..length], frame.len() as u32);
            assert_eq!(parsed.reason(), DropReason::Truncated, "{length} of {frame:02x?}");
        }
    }
}

#[test]
fn after_it_the_packet_is_accounted_with_nothing_wrong() {
    for (frame, header_end) in frames() {
        let wire_length = frame.len() as u32;
        let whole = parse_captured(&frame, wire_length).flow();
        for length in header_end..=frame.len() {
            let cut = parse_captured(&frame[..length], wire_length).flow();
            assert_eq!((cut.addresses, cut.facts.octets), (whole.addresses, whole.facts.octets));
            // Ports and bits are right or missing, and protocol and flags right but for a cut chain.
            let mut expected = whole;
            if cut.fields.ports == [0; 4] {
                expected.fields.ports = [0; 4];
                expected.fields.protocol = cut.fields.protocol;
                assert!([0, 44, 51, whole.fields.protocol].contains(&cut.fields.protocol));
            }
            assert!(cut.facts.header_octets <= whole.facts.header_octets);
            expected.facts.header_octets = cut.facts.header_octets;
            if cut.facts.tcp_control_bits == 0 {
                expected.facts.tcp_control_bits = 0;
            }
            assert_eq!(cut, expected, "{length} of {frame:02x?}");
            // The same octets as a frame that really ends here: the packet is what there is of it.
            let mut ended = cut;
            let network = wire_length - whole.facts.octets;
            ended.facts.octets = whole.facts.octets.min(length as u32 - network);
            assert_eq!(parse_captured(&frame[..length], length as u32), Parsed::Flow(ended));
        }
    }
}
