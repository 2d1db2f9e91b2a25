//! Ports, control bits, type and code.

use crate::support::{Ipv4, PORTS, ipv6_frame, parse_frame, tcp};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Ports and control bits of `transport` under IPv4 and under IPv6, which must agree.
#[track_caller]
fn parse(protocol: u8, transport: &[u8]) -> ([u8; 4], u16) {
    let ipv4 = parse_frame(&Ipv4::of(protocol).frame(transport)).flow();
    let ipv6 = parse_frame(&ipv6_frame(protocol, transport)).flow();
    assert_eq!((ipv4.fields.protocol, ipv6.fields.protocol), (protocol, protocol));
    assert_eq!(ipv4.fields.ports, ipv6.fields.ports);
    assert_eq!(ipv4.facts.tcp_control_bits, ipv6.facts.tcp_control_bits);
    (ipv4.fields.ports, ipv4.facts.tcp_control_bits)
}

#[test]
fn protocols_with_ports() {
    let header = [&PORTS[..], &[0xff; 16]].concat();
    for protocol in [UDP, SCTP, DCCP, UDP_LITE] {
        assert_eq!(parse(protocol, &header), (PORTS, 0), "{protocol}");
    }
}

#[test]
fn all_twelve_tcp_control_bits() {
    assert_eq!(parse(TCP, &tcp(0)), (PORTS, 0));
    for bit in 0..12 {
        assert_eq!(parse(TCP, &tcp(1 << bit)), (PORTS, 1 << bit));
    }
    assert_eq!(parse(TCP, &tcp(0xfff)), (PORTS, 0xfff));
}

/// What every segment has for itself: network header and transport header.
#[test]
fn headers_of_tcp_and_udp_are_measured() {
    let header_octets = |protocol: u8, transport: &[u8], option_words: usize| {
        let options = vec![1; 4 * option_words];
        let ipv4 = Ipv4 { options: &options, ..Ipv4::of(protocol) };
        let ipv4 = parse_frame(&ipv4.frame(transport)).flow().facts.header_octets;
        let ipv6 = parse_frame(&ipv6_frame(protocol, transport)).flow().facts.header_octets;
        (usize::from(ipv4) - 20 - 4 * option_words, usize::from(ipv6) - 40)
    };
    for words in 5..=15 {
        let mut segment = tcp(0x010);
        segment[12] = words << 4;
        segment.resize(60, 1);
        let octets = 4 * usize::from(words);
        for option_words in [0, 1, 10] {
            assert_eq!(header_octets(TCP, &segment, option_words), (octets, octets));
        }
    }
    assert_eq!(header_octets(UDP, &[0; 30], 3), (8, 8));
    for protocol in [ICMP, ICMPV6, SCTP, DCCP, UDP_LITE, 50] {
        assert_eq!(header_octets(protocol, &[0x55; 30], 0), (0, 0), "{protocol}");
    }
    // Cut before it says how long it is.
    assert_eq!(header_octets(TCP, &tcp(0x010)[..13], 0), (0, 0));
}

#[test]
fn icmp_type_and_code_stand_in_the_destination_port() {
    assert_eq!(parse(ICMP, &[3, 4, 0xff, 0xff, 0, 0, 0, 0]), ([0, 0, 3, 4], 0));
    assert_eq!(parse(ICMPV6, &[128, 0, 0xff, 0xff, 0, 0, 0, 0]), ([0, 0, 128, 0], 0));
}

#[test]
fn other_protocols_have_neither() {
    for protocol in
        (0..=255).filter(|protocol| ![ICMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDP_LITE].contains(protocol))
    {
        let flow = parse_frame(&Ipv4::of(protocol).frame(&[0xff; 40])).flow();
        assert_eq!((flow.fields.protocol, flow.fields.ports), (protocol, [0; 4]));
        assert_eq!(flow.facts.tcp_control_bits, 0);
    }
}

#[test]
fn a_header_that_is_cut_gives_what_is_left_of_it() {
    assert_eq!(parse(TCP, &tcp(0xfff)[..3]), ([0; 4], 0));
    assert_eq!(parse(TCP, &tcp(0xfff)[..4]), (PORTS, 0));
    assert_eq!(parse(TCP, &tcp(0xfff)[..13]), (PORTS, 0));
    assert_eq!(parse(TCP, &tcp(0xfff)[..14]), (PORTS, 0xfff));
    assert_eq!(parse(ICMP, &[3]), ([0; 4], 0));
    assert_eq!(parse(ICMP, &[3, 4]), ([0, 0, 3, 4], 0));
}
