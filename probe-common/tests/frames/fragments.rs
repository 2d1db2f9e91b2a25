//! Fragments: later ones have the ports of the first one, if it was seen.

use pathflow_common::flow::{KEY_FLAG_IPV6, KEY_FLAG_LATER_FRAGMENT};

use crate::extensions::{
    DESTINATION_OPTIONS, Extension, HOP_BY_HOP, ROUTING, authentication, extended, fragment, options,
};
use crate::support::{IDENTIFICATION, Ipv4, Observer, PORTS, Parsed, ethernet, parse_frame, tcp, udp};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const MORE: u16 = 0x2000;
/// Payload of a later fragment that looks like ports and control bits.
const PAYLOAD: [u8; 24] = [0x5f; 24];

fn ipv4(fragment: u16, protocol: u8, identification: u16) -> Ipv4<'static> {
    Ipv4 { identification, fragment, ..Ipv4::of(protocol) }
}

/// Protocol, ports and flags.
fn told(parsed: Parsed) -> (u8, [u8; 4], u8) {
    let fields = parsed.flow().fields;
    (fields.protocol, fields.ports, fields.flags)
}

#[test]
fn a_first_ipv4_fragment_has_its_own_ports() {
    for (protocol, payload) in [(UDP, udp()), (TCP, tcp(0x010))] {
        let frame = ipv4(MORE, protocol, 1).frame(&payload);
        assert_eq!(told(parse_frame(&frame)), (protocol, PORTS, 0));
    }
    assert_eq!(told(parse_frame(&ipv4(MORE, ICMP, 1).frame(&[8, 0, 1, 2]))), (ICMP, [0, 0, 8, 0], 0));
}

#[test]
fn a_later_ipv4_fragment_without_its_first_one_says_which_datagram_it_is_of() {
    // In the middle, the last, at the smallest and at the greatest offset, with the reserved bit.
    for offset in [0x2001, 0x0001, 0x3fff, 0x1fff, 0x0100, 0x8001] {
        let parsed = parse_frame(&ipv4(offset, TCP, 0xfedc).frame(&PAYLOAD));
        let identification = 0xfedc_u32.to_ne_bytes();
        assert_eq!(told(parsed), (TCP, identification, KEY_FLAG_LATER_FRAGMENT), "{offset:#x}");
        let facts = parsed.flow().facts;
        assert_eq!((facts.octets, facts.tcp_control_bits, facts.header_octets), (44, 0, 20));
    }
}

#[test]
fn later_ipv4_fragments_have_the_ports_of_the_first_one() {
    let observer = Observer::default();
    for (protocol, payload, ports) in
        [(UDP, udp(), PORTS), (TCP, tcp(0xfff), PORTS), (ICMP, vec![8, 7, 0, 0], [0, 0, 8, 7])]
    {
        observer.parse(&ipv4(MORE, protocol, 7).frame(&payload));
        for offset in [MORE | 3, 185, 0x1fff] {
            let parsed = observer.parse(&ipv4(offset, protocol, 7).frame(&PAYLOAD));
            assert_eq!(told(parsed), (protocol, ports, 0));
            assert_eq!(parsed.flow().facts.tcp_control_bits, 0);
        }
    }
}

/// RFC 791 section 3.2: identification, addresses and protocol together.
#[test]
fn other_ipv4_datagrams_have_nothing_to_do_with_it() {
    let observer = Observer::default();
    let first = ipv4(MORE, UDP, 7);
    observer.parse(&first.frame(&udp()));
    let unknown = |parsed: Parsed| parsed.flow().fields.flags == KEY_FLAG_LATER_FRAGMENT;
    assert!(unknown(observer.parse(&ipv4(5, UDP, 8).frame(&PAYLOAD))));
    assert!(unknown(observer.parse(&ipv4(5, TCP, 7).frame(&PAYLOAD))));
    for octet in 26..34 {
        let mut frame = ipv4(5, UDP, 7).frame(&PAYLOAD);
        frame[octet] ^= 0x80;
        assert!(unknown(observer.parse(&frame)), "{octet}");
    }
    // Type of service, time to live, tags and options are no part of it.
    let options = [1; 8];
    let other = Ipv4 { type_of_service: 4, options: &options, ..ipv4(5, UDP, 7) };
    let mut frame = ethernet(&[(0x8100, 9)], 0x0800, &other.packet(&PAYLOAD));
    frame[18 + 8] = 1;
    assert_eq!(told(observer.parse(&frame)), (UDP, PORTS, 0));
}

#[test]
fn a_packet_that_is_whole_is_no_first_fragment() {
    let observer = Observer::default();
    // With and without "do not fragment", and with the reserved bit.
    for flags in [0, 0x4000, 0x8000] {
        observer.parse(&ipv4(flags, UDP, 7).frame(&udp()));
        let later = observer.parse(&ipv4(5, UDP, 7).frame(&PAYLOAD));
        assert_eq!(told(later), (UDP, 7_u32.to_ne_bytes(), KEY_FLAG_LATER_FRAGMENT));
    }
}

#[test]
fn an_identification_that_comes_again_is_of_the_newer_datagram() {
    let observer = Observer::default();
    observer.parse(&ipv4(MORE, UDP, 7).frame(&udp()));
    observer.parse(&ipv4(MORE, UDP, 7).frame(&[0, 9, 0, 8, 0, 0, 0, 0]));
    assert_eq!(told(observer.parse(&ipv4(5, UDP, 7).frame(&PAYLOAD))), (UDP, [0, 9, 0, 8], 0));
}

#[test]
fn a_first_fragment_without_room_for_ports_says_that_there_are_none() {
    let observer = Observer::default();
    observer.parse(&ipv4(MORE, UDP, 7).frame(&[1, 2]));
    assert_eq!(told(observer.parse(&ipv4(5, UDP, 7).frame(&PAYLOAD))), (UDP, [0; 4], 0));
}

#[test]
fn a_first_ipv6_fragment_has_its_own_ports() {
    // The reserved bits between offset and flag say nothing.
    for offset_and_flags in [0x0001, 0x0007] {
        let frame = extended(&[options(HOP_BY_HOP, 0), fragment(offset_and_flags, 1)], UDP, &udp());
        assert_eq!(told(parse_frame(&frame)), (UDP, PORTS, KEY_FLAG_IPV6));
    }
}

#[test]
fn a_later_ipv6_fragment_without_its_first_one_says_which_datagram_it_is_of() {
    for offset_and_flags in [0x0008, 0x0009, 0xfff8, 0xfff9] {
        let frame =
            extended(&[options(HOP_BY_HOP, 0), fragment(offset_and_flags, 0x1234_5678)], UDP, &PAYLOAD);
        let parsed = parse_frame(&frame);
        let identification = 0x1234_5678_u32.to_ne_bytes();
        let flags = KEY_FLAG_IPV6 | KEY_FLAG_LATER_FRAGMENT;
        assert_eq!(told(parsed), (UDP, identification, flags), "{offset_and_flags:#x}");
        assert_eq!((parsed.flow().facts.octets, parsed.flow().facts.header_octets), (40 + 8 + 8 + 24, 56));
    }
}

/// RFC 8200 section 4.5: the next header field of later fragments may be another one.
#[test]
fn later_ipv6_fragments_have_ports_and_protocol_of_the_first_one() {
    let observer = Observer::default();
    for (protocol, payload, ports) in
        [(UDP, udp(), PORTS), (TCP, tcp(0xfff), PORTS), (ICMPV6, vec![128, 7, 0, 0], [0, 0, 128, 7])]
    {
        observer.parse(&extended(&[fragment(1, 7)], protocol, &payload));
        for (offset, next) in [(0x0019, protocol), (0x0598, protocol), (0xfff8, 59), (0x0020, 255)] {
            let parsed = observer.parse(&extended(&[fragment(offset, 7)], next, &PAYLOAD));
            assert_eq!(told(parsed), (protocol, ports, KEY_FLAG_IPV6));
            assert_eq!(parsed.flow().facts.tcp_control_bits, 0);
        }
    }
}

#[test]
fn other_ipv6_datagrams_have_nothing_to_do_with_it() {
    let observer = Observer::default();
    observer.parse(&extended(&[fragment(1, 0x0001_0007)], UDP, &udp()));
    let unknown = |parsed: Parsed| parsed.flow().fields.flags & KEY_FLAG_LATER_FRAGMENT != 0;
    for identification in [7, 0x0001_0008, 0x0701_0007] {
        assert!(unknown(observer.parse(&extended(&[fragment(8, identification)], UDP, &PAYLOAD))));
    }
    for octet in 22..54 {
        let mut frame = extended(&[fragment(8, 0x0001_0007)], UDP, &PAYLOAD);
        frame[octet] ^= 1;
        assert!(unknown(observer.parse(&frame)), "{octet}");
    }
    // Whatever comes before the fragment header is of each fragment by itself.
    let frame = extended(&[options(ROUTING, 2), fragment(8, 0x0001_0007)], UDP, &PAYLOAD);
    assert_eq!(told(observer.parse(&frame)), (UDP, PORTS, KEY_FLAG_IPV6));
}

/// RFC 6946: a datagram of one fragment has nothing to do with others of its identification.
#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let observer = Observer::default();
    observer.parse(&extended(&[fragment(1, 7)], UDP, &[9; 16]));
    for offset_and_flags in [0, 6] {
        let frame = extended(&[fragment(offset_and_flags, 7)], UDP, &udp());
        assert_eq!(told(observer.parse(&frame)), (UDP, PORTS, KEY_FLAG_IPV6));
    }
    assert_eq!(
        told(observer.parse(&extended(&[fragment(8, 7)], UDP, &PAYLOAD))),
        (UDP, [9; 4], KEY_FLAG_IPV6)
    );
    let observer = Observer::default();
    observer.parse(&extended(&[fragment(0, 7)], UDP, &udp()));
    let later = observer.parse(&extended(&[fragment(8, 7)], UDP, &PAYLOAD));
    assert_ne!(later.flow().fields.flags & KEY_FLAG_LATER_FRAGMENT, 0);
}

#[test]
fn what_follows_the_header_of_a_first_fragment_is_walked() {
    let four = [
        options(DESTINATION_OPTIONS, 0),
        authentication(12),
        options(ROUTING, 1),
        options(DESTINATION_OPTIONS, 3),
    ];
    for after in 0..=4 {
        let observer = Observer::default();
        let headers: Vec<Extension> =
            [&[options(HOP_BY_HOP, 0), fragment(1, 7)][..], &four[..after]].concat();
        assert_eq!(told(observer.parse(&extended(&headers, UDP, &udp()))), (UDP, PORTS, KEY_FLAG_IPV6));
        // The last headers' numbers are in the first fragment; later ones name what followed the header.
        let next = four[..after].first().map_or(UDP, |(number, _)| *number);
        let later = extended(&[options(HOP_BY_HOP, 0), fragment(0x100, 7)], next, &PAYLOAD);
        assert_eq!(told(observer.parse(&later)), (UDP, PORTS, KEY_FLAG_IPV6), "{after}");
    }
    // One more than is walked: no ports, in any of the fragments.
    let observer = Observer::default();
    let headers = [&[fragment(1, 7)][..], &four, &[options(DESTINATION_OPTIONS, 0)]].concat();
    let expected = (DESTINATION_OPTIONS, [0; 4], KEY_FLAG_IPV6);
    assert_eq!(told(observer.parse(&extended(&headers, UDP, &udp()))), expected);
    let later = extended(&[fragment(0x100, 7)], DESTINATION_OPTIONS, &PAYLOAD);
    assert_eq!(told(observer.parse(&later)), expected);
}

#[test]
fn what_follows_the_header_of_a_later_fragment_is_payload() {
    // It would be walked as destination options, were it not the middle of a datagram.
    let frame = extended(&[fragment(0x0010, 7), options(DESTINATION_OPTIONS, 0)], UDP, &udp());
    let flags = KEY_FLAG_IPV6 | KEY_FLAG_LATER_FRAGMENT;
    assert_eq!(told(parse_frame(&frame)), (DESTINATION_OPTIONS, 7_u32.to_ne_bytes(), flags));
}

#[test]
fn a_fragment_header_behind_as_many_headers_as_are_walked() {
    let flags = KEY_FLAG_IPV6 | KEY_FLAG_LATER_FRAGMENT;
    for before in 0..=8 {
        let mut headers = vec![options(DESTINATION_OPTIONS, 0); before];
        headers.push(fragment(0x0008, 7));
        let parsed = parse_frame(&extended(&headers, UDP, &PAYLOAD));
        assert_eq!(told(parsed), (UDP, 7_u32.to_ne_bytes(), flags), "{before}");
    }
    let mut headers = vec![options(DESTINATION_OPTIONS, 0); 9];
    headers.push(fragment(0x0008, 7));
    let parsed = parse_frame(&extended(&headers, UDP, &PAYLOAD));
    assert_eq!(told(parsed), (DESTINATION_OPTIONS, [0; 4], KEY_FLAG_IPV6));
}

#[test]
fn a_second_fragment_header_is_not_walked() {
    for second in [fragment(0, 8), fragment(8, 8)] {
        let parsed = parse_frame(&extended(&[fragment(1, 7), second], UDP, &udp()));
        assert_eq!(told(parsed), (44, [0; 4], KEY_FLAG_IPV6));
    }
}

#[test]
fn a_fragment_header_that_is_cut_makes_no_fragment() {
    let whole = extended(&[fragment(0x0008, 7)], UDP, &PAYLOAD);
    for length in 54..62 {
        let parsed = Observer::default().parse_captured(&whole[..length], whole.len() as u32);
        assert_eq!(told(parsed), (44, [0; 4], KEY_FLAG_IPV6), "{length}");
    }
}

#[test]
fn the_families_do_not_share_datagrams() {
    let observer = Observer::default();
    observer.parse(&ipv4(MORE, UDP, IDENTIFICATION).frame(&udp()));
    let later = observer.parse(&extended(&[fragment(8, u32::from(IDENTIFICATION))], UDP, &PAYLOAD));
    assert_ne!(later.flow().fields.flags & KEY_FLAG_LATER_FRAGMENT, 0);
}
