//! Properties on random input, with `etherparse` as the independent opinion.

use etherparse::{
    IpAuthHeader, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions,
    Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, NetSlice,
    PacketBuilder, SlicedPacket, TcpHeader, TransportSlice, VlanId,
};
use pathflow_common::flow::{Addresses, Encapsulation, KEY_FLAG_IPV6, KEY_FLAG_LATER_FRAGMENT, KeyFields};
use pathflow_common::parse::PacketFacts;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::layers::{Tunnel, layers};
use crate::support::{Flow, Observer, POINT, Parsed, ethernet, parse_frame};

/// Identification in every IPv6 fragment header.
const FRAGMENT_IDENTIFICATION: u32 = 7;

/// Versions with header lengths, protocol numbers and parts of `EtherType`s.
const TELLING: [u8; 24] = [
    0, 1, 4, 6, 8, 17, 20, 40, 41, 43, 44, 47, 50, 51, 58, 60, 0x21, 0x45, 0x46, 0x57, 0x60, 0x81, 0x86, 0xdd,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The checks are in `parse_captured`: no panic, one call, octets of the frame.
    #[test]
    fn any_octets_have_one_result(octets in vec(any::<u8>(), 0..200), wire_length: u32) {
        for observer in [Observer::default(), Observer::inside()] {
            observer.parse(&octets);
            observer.parse_captured(&octets, wire_length);
        }
    }

    /// Octets that mean something as lengths, protocols and types, behind every layer that is walked.
    #[test]
    fn any_octets_in_any_layers_have_one_result(
        layers in layers(),
        octets in vec(prop_oneof![any::<u8>(), prop::sample::select(&TELLING[..])], 0..120),
        is_ipv6: bool,
        wire_length: u32,
    ) {
        let frame = layers.frame(&octets, is_ipv6);
        for observer in [Observer::default(), Observer::inside()] {
            observer.parse(&frame);
            observer.parse_captured(&frame, wire_length);
        }
    }

    /// What lies below the network layer changes nothing in what is read of it.
    #[test]
    fn layers_change_nothing_in_the_packet(layers in layers(), frame in valid_frame()) {
        let bare = opinion(&frame);
        let packet = &frame[frame.len() - bare.facts.octets as usize..];
        let is_ipv6 = bare.fields.flags & KEY_FLAG_IPV6 != 0;
        let wrapped = layers.frame(packet, is_ipv6);
        let expected = layers.expected(bare);
        let inside = Observer::inside().with_vlan_priority(true).parse(&wrapped);
        prop_assert_eq!(inside, Parsed::Flow(expected));
        let outside = Observer::default().parse(&wrapped);
        if layers.tunnel == Tunnel::None {
            let fields = KeyFields { vlan_priority: 0, ..expected.fields };
            prop_assert_eq!(outside, Parsed::Flow(Flow { fields, ..expected }));
        } else {
            prop_assert_eq!(outside, Parsed::Flow(layers.outside(packet, is_ipv6)));
        }
    }

    /// Random octets are hardly ever IP; with the right type they always get to its parser.
    #[test]
    fn any_octets_after_a_type_have_one_result(
        tags in vec((prop::sample::select(&[0x8100, 0x88a8, 0x9100][..]), any::<u16>()), 0..7),
        ether_type in prop::sample::select(&[0x0800, 0x86dd][..]),
        version in prop::sample::select(&[0x45, 0x4f, 0x60][..]),
        mut octets in vec(any::<u8>(), 1..200),
        next_header in option::of(prop::sample::select(&[0_u8, 43, 44, 51, 60, 135][..])),
    ) {
        octets[0] = version;
        if let (Some(next_header), Some(octet)) = (next_header, octets.get_mut(6)) {
            *octet = next_header;
        }
        let frame = ethernet(&tags, ether_type, &octets);
        let parsed = parse_frame(&frame);
        if tags.len() > 4 {
            prop_assert!(matches!(parsed, Parsed::Unaccounted(..)));
        }
    }

    #[test]
    fn valid_packets_are_what_another_parser_says(frame in valid_frame()) {
        let expected = opinion(&frame);
        prop_assert_eq!(parse_frame(&frame), Parsed::Flow(expected));
    }
}

#[derive(Clone, Debug)]
enum Transport {
    Udp(u16, u16),
    Tcp(u16, u16, u8),
    Icmpv4(u8, u8),
    Icmpv6(u8, u8),
    Other(u8),
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![
        (any::<u16>(), any::<u16>()).prop_map(|(source, destination)| Transport::Udp(source, destination)),
        (any::<u16>(), any::<u16>(), any::<u8>()).prop_map(|(a, b, flags)| Transport::Tcp(a, b, flags)),
        (icmp_type(), any::<u8>()).prop_map(|(kind, code)| Transport::Icmpv4(kind, code)),
        (icmp_type(), any::<u8>()).prop_map(|(kind, code)| Transport::Icmpv6(kind, code)),
        // GRE, ESP, EIGRP, OSPF: protocols without ports that are no extension headers to either parser.
        prop::sample::select(&[47_u8, 88, 89][..]).prop_map(Transport::Other),
    ]
}

/// Without the time stamp messages, of which the other parser insists on the length.
fn icmp_type() -> impl Strategy<Value = u8> {
    any::<u8>().prop_filter("time stamp", |kind| ![13, 14].contains(kind))
}

/// Offset of a fragment, in units of eight octets; mostly 0. First fragments are left out: the other
/// parser does not look into them.
fn fragment_offset() -> impl Strategy<Value = u16> {
    prop_oneof![3 => Just(0), 1 => 1..=0x1fff_u16]
}

fn ipv4_headers() -> impl Strategy<Value = IpHeaders> {
    (
        any::<u8>(),
        any::<u16>(),
        any::<[u8; 4]>(),
        any::<[u8; 4]>(),
        0..=10_usize,
        fragment_offset(),
        any::<bool>(),
    )
        .prop_map(
            |(type_of_service, identification, source, destination, option_words, offset, more)| {
                let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, source, destination).unwrap();
                header.identification = identification;
                header.dscp = (type_of_service >> 2).try_into().unwrap();
                header.ecn = (type_of_service & 3).try_into().unwrap();
                header.options = vec![1; option_words * 4].as_slice().try_into().unwrap();
                header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
                header.more_fragments = offset != 0 && more;
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            },
        )
}

fn options_header() -> impl Strategy<Value = Ipv6RawExtHeader> {
    (0..4_usize, any::<u8>()).prop_map(|(units, octet)| {
        Ipv6RawExtHeader::new_raw(IpNumber::UDP, &vec![octet; 6 + 8 * units]).unwrap()
    })
}

fn ipv6_headers() -> impl Strategy<Value = IpHeaders> {
    let addresses = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u8>(), 0..=0xf_ffff_u32);
    let extensions = (
        option::of(options_header()),
        option::of(options_header()),
        option::of((options_header(), option::of(options_header()))),
        option::of((fragment_offset(), any::<bool>())),
        option::of(0..4_usize),
    );
    (addresses, extensions).prop_map(
        |(
            (source, destination, traffic_class, label),
            (hop_by_hop, destination_options, routing, fragment, auth),
        )| {
            let header = Ipv6Header {
                traffic_class,
                flow_label: Ipv6FlowLabel::try_new(label).unwrap(),
                hop_limit: 64,
                source,
                destination,
                ..Ipv6Header::default()
            };
            // What follows the header of a later fragment is payload, not another header.
            let later = fragment.is_some_and(|(offset, _)| offset != 0);
            let extensions = Ipv6Extensions {
                hop_by_hop_options: hop_by_hop,
                destination_options,
                routing: routing.map(|(routing, last)| Ipv6RoutingExtensions {
                    routing,
                    final_destination_options: last.filter(|_| !later),
                }),
                fragment: fragment.map(|(offset, more)| {
                    let offset = IpFragOffset::try_new(offset).unwrap();
                    Ipv6FragmentHeader::new(IpNumber::UDP, offset, later && more, FRAGMENT_IDENTIFICATION)
                }),
                auth: auth
                    .filter(|_| !later)
                    .map(|words| IpAuthHeader::new(IpNumber::UDP, 1, 2, &vec![0xee; words * 4]).unwrap()),
            };
            IpHeaders::Ipv6(header, extensions)
        },
    )
}

fn valid_frame() -> impl Strategy<Value = Vec<u8>> {
    let tags = option::of((0..4096_u16, option::of(0..4096_u16)));
    let ip = prop_oneof![ipv4_headers(), ipv6_headers()];
    (tags, ip, transport(), vec(any::<u8>(), 0..64)).prop_map(|(tags, ip, transport, payload)| {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let id = |value| VlanId::try_new(value).unwrap();
        let is_ipv6 = ip.ipv6().is_some();
        let network = match tags {
            None => link.ip(ip),
            Some((outer, None)) => link.single_vlan(id(outer)).ip(ip),
            Some((outer, Some(inner))) => link.double_vlan(id(outer), id(inner)).ip(ip),
        };
        let mut frame = Vec::new();
        match transport {
            Transport::Udp(source, destination) => {
                network.udp(source, destination).write(&mut frame, &payload).unwrap();
            }
            Transport::Tcp(source, destination, flags) => {
                let mut header = TcpHeader::new(source, destination, 1, 1024);
                let bit = |bit: u8| flags & 1 << bit != 0;
                (header.fin, header.syn, header.rst, header.psh) = (bit(0), bit(1), bit(2), bit(3));
                (header.ack, header.urg, header.ece, header.cwr) = (bit(4), bit(5), bit(6), bit(7));
                network.tcp_header(header).write(&mut frame, &payload).unwrap();
            }
            // The builder has a checksum for it only over an IPv6 header.
            Transport::Icmpv6(kind, code) if is_ipv6 => {
                network.icmpv6_raw(kind, code, [9; 4]).write(&mut frame, &payload).unwrap();
            }
            Transport::Icmpv4(kind, code) | Transport::Icmpv6(kind, code) => {
                network.icmpv4_raw(kind, code, [9; 4]).write(&mut frame, &payload).unwrap();
            }
            Transport::Other(protocol) => network.write(&mut frame, IpNumber(protocol), &payload).unwrap(),
        }
        frame
    })
}

/// What `etherparse` says of a frame that it made itself.
fn opinion(frame: &[u8]) -> Flow {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let vlan_ids = packet.vlan_ids();
    let vlan_id = |index: usize| vlan_ids.get(index).map_or(0, |id| id.value());
    let net = packet.net.unwrap();
    let network_octets = octets_before_payload(&net);
    let (addresses, flags, protocol, class_of_service, octets, identification) = match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let later = header.fragments_offset().value() != 0;
            (
                Addresses::Ipv4(header.source(), header.destination()),
                if later { KEY_FLAG_LATER_FRAGMENT } else { 0 },
                header.protocol().0,
                header.dcp().value() << 2 | header.ecn().value(),
                u32::from(header.total_len()),
                u32::from(header.identification()),
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let later = if ip.is_payload_fragmented() { KEY_FLAG_LATER_FRAGMENT } else { 0 };
            (
                Addresses::Ipv6(header.source(), header.destination()),
                KEY_FLAG_IPV6 | later,
                ip.payload().ip_number.0,
                header.traffic_class(),
                u32::from(header.payload_length()) + 40,
                FRAGMENT_IDENTIFICATION,
            )
        }
        other @ NetSlice::Arp(_) => panic!("{other:?}"),
    };
    let (mut ports, tcp_control_bits, transport_octets) = match packet.transport {
        Some(TransportSlice::Udp(udp)) => (ports(udp.source_port(), udp.destination_port()), 0, 8),
        Some(TransportSlice::Tcp(tcp)) => {
            let bits =
                [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh(), tcp.ack(), tcp.urg(), tcp.ece(), tcp.cwr()];
            let bits = bits.iter().enumerate().map(|(place, bit)| u16::from(*bit) << place).sum();
            (ports(tcp.source_port(), tcp.destination_port()), bits, tcp.header_len() as u16)
        }
        Some(TransportSlice::Icmpv4(icmp)) => ([0, 0, icmp.type_u8(), icmp.code_u8()], 0, 0),
        Some(TransportSlice::Icmpv6(icmp)) => ([0, 0, icmp.type_u8(), icmp.code_u8()], 0, 0),
        _ => ([0; 4], 0, 0),
    };
    if flags & KEY_FLAG_LATER_FRAGMENT != 0 {
        ports = identification.to_ne_bytes();
    }
    let fields = KeyFields {
        observation_point: POINT,
        filter_results: 0,
        flags,
        protocol,
        ports,
        vlan_id: vlan_id(0),
        customer_vlan_id: vlan_id(1),
        vlan_priority: 0,
        class_of_service,
    };
    let header_octets = network_octets as u16 + transport_octets;
    let facts = PacketFacts { octets, tcp_control_bits, header_octets };
    Flow { fields, addresses, encapsulation: Encapsulation::NONE, flow_label: 0, facts }
}

/// Octets of the network header with its extension headers.
fn octets_before_payload(net: &NetSlice<'_>) -> u32 {
    match net {
        NetSlice::Ipv4(ip) => u32::from(ip.header().ihl()) * 4,
        NetSlice::Ipv6(ip) => {
            40 + u32::from(ip.header().payload_length()) - ip.payload().payload.len() as u32
        }
        other @ NetSlice::Arp(_) => panic!("{other:?}"),
    }
}

fn ports(source: u16, destination: u16) -> [u8; 4] {
    (u32::from(source) << 16 | u32::from(destination)).to_be_bytes()
}
