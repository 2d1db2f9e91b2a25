//! What keys have beyond their words: label stacks, the packet inside a tunnel, and chosen octets.

use pathflow_common::extension::{ChosenPlace, InnerPacket, KeyExtension, Layer};
use pathflow_common::flow::{Addresses, Encapsulation, KEY_FLAG_LATER_FRAGMENT};
use proptest::prelude::*;

use crate::extensions::{DESTINATION_OPTIONS, HOP_BY_HOP, extended, fragment, options};
use crate::mpls::{labelled, stack};
use crate::support::{
    DESTINATION4, Extended, Flow, Ipv4, Observer, PORTS, SOURCE4, ethernet, ipv6, ipv6_frame, tcp, udp,
};
use crate::tunnel::{
    INNER_DESTINATION4, INNER_DESTINATION6, INNER_SOURCE4, INNER_SOURCE6, gre, inner4, tunnels, vxlan,
};

const UDP: u8 = 17;
const TCP: u8 = 6;
const GRE: u8 = 47;
const BRIDGED: u16 = 0x6558;
/// Addresses of every frame that the tests make.
const DESTINATION_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn labels() -> Observer {
    Observer::default().extended(Extended { labels: true, ..Extended::default() })
}

fn inner() -> Observer {
    Observer::default().extended(Extended { inner: true, ..Extended::default() })
}

fn chosen(places: &[ChosenPlace]) -> Observer {
    Observer::default().extended(Extended { chosen: places.to_vec(), ..Extended::default() })
}

fn place(layer: Layer, offset: u16, length: u8) -> ChosenPlace {
    ChosenPlace { layer, protocol: None, offset, length, destination: 0 }
}

/// The first octets that were chosen; all others must be zero.
#[track_caller]
fn octets<const N: usize>(observer: &Observer, frame: &[u8]) -> [u8; N] {
    let chosen = observer.flow(frame).1.map_or([0; 32], |extension| extension.chosen);
    assert_eq!(chosen[N..], [0; 32][N..]);
    *chosen.first_chunk().unwrap()
}

/// The flow as it is without an extension.
fn plain(frame: &[u8]) -> Flow {
    Observer::default().parse(frame).flow()
}

#[test]
fn every_label_of_the_stack() {
    for depth in 1..=10 {
        let stack: Vec<u32> = (0..depth).map(|place| 0xf_ffff - place).collect();
        for packet in [Ipv4::of(UDP).packet(&udp()), ipv6(UDP, &udp())] {
            let frame = labelled(&stack, &packet);
            let (flow, extension) = labels().flow(&frame);
            assert_eq!(flow, plain(&frame));
            let extension = extension.unwrap();
            assert_eq!(extension.label_stack(), stack);
            let rest = KeyExtension { labels: [0; 10], label_count: 0, ..extension };
            assert_eq!(rest, KeyExtension::default());
        }
    }
    let tagged = ethernet(&[(0x88a8, 9)], 0x8847, &[&stack(&[0, 7])[..], &ipv6(UDP, &udp())].concat());
    assert_eq!(labels().flow(&tagged).1.unwrap().label_stack(), [0, 7]);
}

#[test]
fn without_anything_to_extend_the_flow_is_the_same() {
    let everything = || Extended { inner: true, labels: true, chosen: vec![place(Layer::Vlan, 0, 2)] };
    for frame in [
        Ipv4::of(UDP).frame(&udp()),
        Ipv4::of(TCP).frame(&tcp(0x012)),
        ipv6_frame(TCP, &tcp(0x012)),
        extended(&[options(HOP_BY_HOP, 0)], UDP, &udp()),
        Ipv4 { fragment: 0x2001, ..Ipv4::of(UDP) }.frame(&udp()),
    ] {
        let observer = Observer::default().extended(everything());
        assert_eq!(observer.flow(&frame), (plain(&frame), None));
    }
    // One label is all that the words of the key can say.
    let frame = labelled(&[5], &inner4());
    assert_eq!(inner().flow(&frame), (plain(&frame), None));
    assert_eq!(labels().flow(&frame).1.unwrap().label_stack(), [5]);
}

#[track_caller]
fn assert_inner(found: &InnerPacket, is_frame: bool) {
    let macs = if is_frame { (DESTINATION_MAC, SOURCE_MAC) } else { ([0; 6], [0; 6]) };
    assert_eq!((found.destination_mac, found.source_mac), macs);
    assert_eq!((found.ports, found.protocol), (PORTS, TCP));
    let octets: Vec<u8> = found.addresses.iter().flat_map(|word| word.to_ne_bytes()).collect();
    if found.ether_type == 0x0800 {
        assert_eq!(octets[..8], [INNER_SOURCE4, INNER_DESTINATION4].concat());
        assert_eq!(octets[8..], [0; 24]);
        assert_eq!((found.flow_label, found.class_of_service), (0, 0x10));
    } else {
        assert_eq!(found.ether_type, 0x86dd);
        assert_eq!(octets, [INNER_SOURCE6, INNER_DESTINATION6].concat());
        assert_eq!((found.flow_label, found.class_of_service), (0x12345, 0xb8));
    }
}

#[test]
fn the_packet_inside_beside_the_outer_one() {
    for (protocol, payload) in tunnels(0x12_3456) {
        for frame in [
            Ipv4::of(protocol).frame(&payload),
            Ipv4 { options: &[1; 16], ..Ipv4::of(protocol) }.frame(&payload),
            ipv6_frame(protocol, &payload),
        ] {
            let outer = plain(&frame);
            let (flow, extension) = inner().flow(&frame);
            let extension = extension.unwrap();
            let is_frame = protocol == UDP || protocol == GRE && payload[2..4] == BRIDGED.to_be_bytes();
            assert_inner(&extension.inner, is_frame);
            let identifier = if protocol == UDP { 0x12_3456 } else { 0 };
            assert_eq!(extension.vxlan_network_identifier, identifier);
            assert_eq!(flow.encapsulation.vxlan_network_identifier(), identifier);
            assert_eq!((flow.fields, flow.addresses), (outer.fields, outer.addresses));
            assert_eq!(flow.facts.octets, outer.facts.octets);
            // The outer packet is not TCP: these are the inner one's.
            assert_eq!((outer.facts.tcp_control_bits, flow.facts.tcp_control_bits), (0, 0x018));
        }
    }
}

#[test]
fn labels_and_the_packet_inside_together() {
    let wanted = Extended { inner: true, labels: true, chosen: Vec::new() };
    let packet = Ipv4::of(UDP).packet(&vxlan(77, &ethernet(&[(0x8100, 5)], 0x0800, &inner4())));
    let (flow, extension) = Observer::default().extended(wanted).flow(&labelled(&[16, 17, 18], &packet));
    let extension = extension.unwrap();
    assert_inner(&extension.inner, true);
    assert_eq!(extension.label_stack(), [16, 17, 18]);
    let encapsulation = Encapsulation::NONE.with_mpls_top_label(16).with_vxlan_network_identifier(77);
    assert_eq!(flow.encapsulation, encapsulation);
    assert_eq!(flow.fields.vlan_id, 0);
    // Without the stack, the extension has the label at the top.
    let (flow, extension) = inner().flow(&labelled(&[16, 17, 18], &packet));
    assert_eq!((flow.encapsulation, extension.unwrap().label_stack()), (encapsulation, &[16][..]));
}

/// ARP and the like: there is no packet inside, but the frame and its network are known.
#[test]
fn a_frame_inside_without_a_packet() {
    let frame_inside = ethernet(&[], 0x0806, &[0; 46]);
    for outer in [Ipv4::of(UDP).frame(&vxlan(77, &frame_inside)), ipv6_frame(UDP, &vxlan(77, &frame_inside))]
    {
        let (flow, extension) = inner().flow(&outer);
        let found = extension.unwrap();
        assert_eq!(found.vxlan_network_identifier, 77);
        let macs = InnerPacket {
            source_mac: SOURCE_MAC,
            destination_mac: DESTINATION_MAC,
            ..InnerPacket::default()
        };
        assert_eq!(found.inner, macs);
        let encapsulation = Encapsulation::NONE.with_vxlan_network_identifier(77);
        assert_eq!(flow, Flow { encapsulation, ..plain(&outer) });
    }
    // Bridged by GRE: no identifier. Routed by GRE: no frame.
    let bridged = Ipv4::of(GRE).frame(&gre(0, BRIDGED, &frame_inside));
    assert_eq!(inner().flow(&bridged).1.unwrap().inner.source_mac, SOURCE_MAC);
    let routed = Ipv4::of(GRE).frame(&gre(0, 0x0806, &[1; 28]));
    assert_eq!(inner().flow(&routed), (plain(&routed), None));
    // Cut in the header of the frame inside.
    let whole = Ipv4::of(UDP).frame(&vxlan(77, &frame_inside));
    let cut = inner();
    let flow = cut.parse_captured(&whole[..14 + 20 + 16 + 13], whole.len() as u32).flow();
    assert_eq!(flow.encapsulation, Encapsulation::NONE.with_vxlan_network_identifier(77));
}

#[test]
fn the_flow_label_of_ipv6_on_request() {
    let frames = [
        ipv6_frame(UDP, &udp()),
        ipv6_frame(TCP, &tcp(2)),
        ipv6_frame(58, &[128, 0, 0, 0]),
        extended(&[options(HOP_BY_HOP, 0)], UDP, &udp()),
        labelled(&[0xf_ffff], &ipv6(UDP, &udp())),
    ];
    for label in [0x12345, 0, 0xf_ffff, 0x8_0000, 0x7_ffff, 0x0_07ff, 0x0_0800] {
        for frame in &frames {
            let mut frame = frame.clone();
            let network = frame.windows(4).position(|octets| octets == [0x6b, 0x81, 0x23, 0x45]).unwrap();
            frame[network..network + 4].copy_from_slice(&(0x6b80_0000_u32 | label).to_be_bytes());
            let asked = Observer::default().with_flow_label().parse(&frame).flow();
            assert_eq!(asked, Flow { flow_label: label, ..plain(&frame) });
            assert_eq!(plain(&frame).flow_label, 0);
            // Also where the key has an extension, whose number is the same for all labels.
            let wanted = Extended { labels: true, chosen: vec![place(Layer::Network, 8, 1)], inner: true };
            let (flow, extension) = Observer::default().with_flow_label().extended(wanted).flow(&frame);
            assert_eq!(flow, asked);
            assert_eq!(extension.unwrap().flow_label, 0);
        }
    }
    // Of the packet that the key is of; none in IPv4.
    let tunnel = Ipv4::of(41).frame(&ipv6(UDP, &udp()));
    assert_eq!(Observer::inside().with_flow_label().parse(&tunnel).flow().flow_label, 0x12345);
    assert_eq!(Observer::default().with_flow_label().parse(&tunnel).flow(), plain(&tunnel));
}

#[test]
fn zeros_that_a_packet_has_are_there() {
    let observer =
        chosen(&[place(Layer::Payload, 0, 4), ChosenPlace { destination: 4, ..place(Layer::Payload, 8, 2) }]);
    let with = |octets: &[u8]| [&PORTS[..], &[0, 8 + octets.len() as u8, 0, 0], octets].concat();
    let present =
        |frame: &[u8]| observer.flow(frame).1.map(|extension| (extension.chosen_present, extension.chosen));
    assert_eq!(present(&Ipv4::of(UDP).frame(&with(&[0; 3]))), None);
    assert_eq!(present(&Ipv4::of(UDP).frame(&with(&[0; 4]))), Some((0b1111, [0; 32])));
    assert_eq!(present(&ipv6_frame(UDP, &with(&[0; 10]))), Some((0b11_1111, [0; 32])));
}

#[test]
fn the_inside_of_fragments() {
    let part = gre(0, 0x0800, &inner4());
    for fragment in [0x2000, 0x2001, 0x0001] {
        let frame = Ipv4 { fragment, ..Ipv4::of(GRE) }.frame(&part);
        assert_eq!(inner().flow(&frame), (plain(&frame), None));
    }
    // A fragment inside: a later one has no ports.
    for (bits, ports) in [(0x2000, PORTS), (0x2001, [0; 4])] {
        let packet = Ipv4 { fragment: bits, ..Ipv4::of(TCP) }.packet(&tcp(0x018));
        let (flow, extension) = inner().flow(&Ipv4::of(4).frame(&packet));
        let found = extension.unwrap().inner;
        assert_eq!((found.ports, found.protocol), (ports, TCP));
        assert_eq!(flow.facts.tcp_control_bits, if ports == PORTS { 0x018 } else { 0 });
        let ipv6_fragment = extended(&[fragment(bits & 1 | (bits & 1) << 3, 7)], UDP, &udp());
        let (_, extension) = inner().flow(&Ipv4::of(41).frame(&ipv6_fragment[14..]));
        assert_eq!(extension.unwrap().inner.ports, ports);
    }
}

#[test]
fn later_fragments_have_no_transport_layer() {
    let observer = chosen(&[place(Layer::Transport, 0, 2), place(Layer::Payload, 0, 1)]);
    let frame = Ipv4 { fragment: 1, ..Ipv4::of(UDP) }.frame(&udp());
    let (flow, extension) = observer.flow(&frame);
    assert_eq!((flow.fields.flags, extension), (KEY_FLAG_LATER_FRAGMENT, None));
    let frame = extended(&[fragment(8, 1)], UDP, &udp());
    assert_eq!(observer.flow(&frame).1, None);
}

/// A stack of layers, where each octet of each is known.
#[test]
fn octets_of_every_layer() {
    let packet = Ipv4 { options: &[1; 8], ..Ipv4::of(UDP) }.packet(&udp());
    let frame = ethernet(
        &[(0x88a8, 0x6064), (0x8100, 0x00c8)],
        0x8847,
        &[&stack(&[0xabcde, 0x12345])[..], &packet].concat(),
    );
    let at = |layer, offset| octets::<2>(&chosen(&[place(layer, offset, 2)]), &frame);
    assert_eq!(at(Layer::Packet, 0), [2, 0]);
    assert_eq!(at(Layer::Packet, 12), [0x88, 0xa8]);
    assert_eq!(at(Layer::Mac, 10), [0, 1]);
    assert_eq!(at(Layer::Vlan, 0), [0x60, 0x64]);
    assert_eq!(at(Layer::Vlan, 4), [0x00, 0xc8]);
    assert_eq!(at(Layer::Mpls, 0), [0xab, 0xcd]);
    assert_eq!(at(Layer::Mpls, 4), [0x12, 0x34]);
    assert_eq!(at(Layer::Network, 0), [0x47, 0]);
    assert_eq!(at(Layer::Network, 26), [1, 1]);
    assert_eq!(at(Layer::Transport, 2), [0x01, 0xbb]);
    assert_eq!(at(Layer::Payload, 6), [0xee, 0xee]);
    // What is not all in the packet is not there.
    assert_eq!(at(Layer::Payload, 7), [0, 0]);
    assert_eq!(at(Layer::Packet, 0x3fff), [0, 0]);
    assert_eq!(at(Layer::Packet, 0xffff), [0, 0]);
}

#[test]
fn padding_is_not_the_packets() {
    let mut frame = Ipv4::of(UDP).frame(&udp());
    frame.resize(60, 0xaa);
    // The packet ends at 14 + 36.
    assert_eq!(octets(&chosen(&[place(Layer::Network, 35, 1)]), &frame), [0xee]);
    assert_eq!(octets(&chosen(&[place(Layer::Network, 36, 1)]), &frame), [0]);
    assert_eq!(octets(&chosen(&[place(Layer::Payload, 7, 2)]), &frame), [0, 0]);
    assert_eq!(octets(&chosen(&[place(Layer::Packet, 59, 1)]), &frame), [0xaa]);
    assert_eq!(octets(&chosen(&[place(Layer::Packet, 60, 1)]), &frame), [0]);
}

#[test]
fn payload_is_behind_the_header_of_tcp_or_udp() {
    let payload = [0x47, 0x45, 0x54];
    let mut segment = tcp(0x018);
    segment[12] = 0x80;
    segment.extend([1; 12]);
    segment.extend(payload);
    let observer = chosen(&[place(Layer::Payload, 0, 3)]);
    for (protocol, transport, expected) in [
        (TCP, segment.clone(), payload),
        (UDP, udp(), [0xee; 3]),
        (50, udp(), [0; 3]),
        (1, vec![8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [0; 3]),
    ] {
        for frame in [
            Ipv4::of(protocol).frame(&transport),
            ipv6_frame(protocol, &transport),
            extended(&[options(DESTINATION_OPTIONS, 1)], protocol, &transport),
        ] {
            assert_eq!(octets(&observer, &frame), expected, "{protocol}");
        }
    }
    // A header that says to be shorter than it can be.
    segment[12] = 0x40;
    assert_eq!(octets(&observer, &Ipv4::of(TCP).frame(&segment)), [0; 3]);
}

#[test]
fn the_first_place_of_a_primitive_that_the_packet_has_wins() {
    let of = |layer, protocol, offset| ChosenPlace { protocol: Some(protocol), ..place(layer, offset, 2) };
    // The identification of IPv4, or the flow label of IPv6; then the source port of TCP, else the destination port.
    let mut places = vec![of(Layer::Network, 0x0800, 4), of(Layer::Network, 0x86dd, 2)];
    for place in [of(Layer::Transport, 6, 0), of(Layer::Transport, 17, 2), of(Layer::Transport, 17, 4)] {
        places.push(ChosenPlace { destination: 2, ..place });
    }
    let observer = chosen(&places);
    let (source, destination) = ([PORTS[0], PORTS[1]], [PORTS[2], PORTS[3]]);
    for (frame, first, second) in [
        (Ipv4::of(TCP).frame(&tcp(2)), [0xab, 0xcd], source),
        (Ipv4::of(UDP).frame(&udp()), [0xab, 0xcd], destination),
        (ipv6_frame(TCP, &tcp(2)), [0x23, 0x45], source),
        (extended(&[options(HOP_BY_HOP, 0)], UDP, &udp()), [0x23, 0x45], destination),
        (Ipv4::of(50).frame(&udp()), [0xab, 0xcd], [0, 0]),
    ] {
        assert_eq!(octets::<4>(&observer, &frame), [first[0], first[1], second[0], second[1]]);
    }
    // Longer than the packet: the next one.
    let observer = chosen(&[place(Layer::Payload, 100, 2), place(Layer::Transport, 0, 2)]);
    assert_eq!(octets(&observer, &Ipv4::of(UDP).frame(&udp())), source);
    // A protocol of a layer that has none.
    assert_eq!(octets(&chosen(&[of(Layer::Mac, 0x0800, 0)]), &Ipv4::of(UDP).frame(&udp())), [0, 0]);
}

#[test]
fn a_tag_beside_the_frame_is_where_it_was() {
    let packet = [&stack(&[9])[..], &Ipv4::of(UDP).packet(&udp())].concat();
    let on_the_wire = ethernet(&[(0x88a8, 0x6064), (0x8100, 200)], 0x8847, &packet);
    let in_memory = ethernet(&[(0x8100, 200)], 0x8847, &packet);
    let layers = [
        Layer::Packet,
        Layer::Mac,
        Layer::Vlan,
        Layer::Mpls,
        Layer::Network,
        Layer::Transport,
        Layer::Payload,
    ];
    for layer in layers {
        for offset in 0..70 {
            let places = [place(layer, offset, 3)];
            let beside = chosen(&places).with_tag_beside(0x88a8_6064);
            let [expected, found]: [[u8; 3]; 2] =
                [octets(&chosen(&places), &on_the_wire), octets(&beside, &in_memory)];
            assert_eq!(expected, found, "{layer:?} {offset}");
        }
    }
}

#[test]
fn layers_are_those_of_the_packet_that_the_key_is_of() {
    let inside = ethernet(&[(0x8100, 0x0123)], 0x0800, &inner4());
    let frame = labelled(&[70, 71], &Ipv4::of(UDP).packet(&vxlan(5, &inside)));
    let places = [
        place(Layer::Vlan, 0, 2),
        ChosenPlace { destination: 2, ..place(Layer::Network, 12, 4) },
        ChosenPlace { destination: 6, ..place(Layer::Mac, 6, 6) },
        ChosenPlace { destination: 12, ..place(Layer::Mpls, 0, 2) },
    ];
    let wanted = Extended { labels: true, chosen: places.to_vec(), inner: false };
    let (flow, extension) = Observer::inside().extended(wanted).flow(&frame);
    assert_eq!(flow.addresses, Addresses::Ipv4(INNER_SOURCE4, INNER_DESTINATION4));
    let extension = extension.unwrap();
    assert_eq!((extension.label_stack(), extension.vxlan_network_identifier), (&[70, 71][..], 5));
    assert_eq!(extension.inner, InnerPacket::default());
    let expected = [&[0x01, 0x23][..], &INNER_SOURCE4, &SOURCE_MAC, &[0, 4]].concat();
    assert_eq!(extension.chosen[..14], expected);
    // No frame in this one: the layers below are the outer ones.
    let frame = ethernet(&[(0x8100, 0x0321)], 0x0800, &Ipv4::of(GRE).packet(&gre(0, 0x0800, &inner4())));
    let wanted = Extended { chosen: places.to_vec(), ..Extended::default() };
    let chosen = Observer::inside().extended(wanted).flow(&frame).1.unwrap().chosen;
    assert_eq!(chosen[..12], [&[0x03, 0x21][..], &INNER_SOURCE4, &SOURCE_MAC].concat());
}

fn any_place() -> impl Strategy<Value = ChosenPlace> {
    let layers = prop_oneof![
        Just(Layer::Packet),
        Just(Layer::Mac),
        Just(Layer::Vlan),
        Just(Layer::Mpls),
        Just(Layer::Network),
        Just(Layer::Transport),
        Just(Layer::Payload),
    ];
    let protocol = prop::option::of(prop_oneof![Just(0x0800), Just(0x86dd), Just(6), Just(17)]);
    (layers, protocol, 0..60_u16, 1..=32_u8, 0..32_u8).prop_map(
        |(layer, protocol, offset, length, destination)| ChosenPlace {
            layer,
            protocol,
            offset,
            length: length.min(32 - destination),
            destination,
        },
    )
}

proptest! {
    /// Whatever is chosen, of whatever octets, the flow is the same, and the same octets from other places are the
    /// same. The model reads the layers from the frame as it was made.
    #[test]
    fn chosen_octets_are_those_of_the_frame(
        places in prop::collection::vec(any_place(), 0..16),
        tags in 0..3_usize,
        depth in 0..4_usize,
        is_ipv6: bool,
        is_tcp: bool,
        padding in 0..20_usize,
    ) {
        let (protocol, transport, header) = if is_tcp { (TCP, tcp(0), 20) } else { (UDP, udp(), 8) };
        let packet = if is_ipv6 { ipv6(protocol, &transport) } else { Ipv4::of(protocol).packet(&transport) };
        let labels: Vec<u32> = (0..depth as u32).collect();
        let below = if depth == 0 { Vec::new() } else { stack(&labels) };
        let ether_type = if is_ipv6 { 0x86dd } else { 0x0800 };
        let mut frame = ethernet(
            &[(0x8100, 0x1111), (0x8100, 0x2222)][..tags],
            if depth == 0 { ether_type } else { 0x8847 },
            &[&below[..], &packet].concat(),
        );
        let end = frame.len();
        frame.extend(vec![0x55; padding]);
        let network = 14 + 4 * tags + 4 * depth;
        let upper = network + if is_ipv6 { 40 } else { 20 };
        let (mut expected, mut present) = ([0; 32], 0_u32);
        for place in places.iter().rev() {
            let (start, end, of) = match place.layer {
                Layer::Packet | Layer::Mac => (Some(0), frame.len(), None),
                Layer::Vlan => ((tags > 0).then_some(14), frame.len(), None),
                Layer::Mpls => ((depth > 0).then_some(14 + 4 * tags), frame.len(), None),
                Layer::Network => (Some(network), end, Some(ether_type)),
                Layer::Transport => (Some(upper), end, Some(u16::from(protocol))),
                Layer::Payload => (Some(upper + header), end, Some(u16::from(protocol))),
            };
            let Some(start) = start.filter(|_| place.protocol.is_none() || place.protocol == of) else { continue };
            let from = start + usize::from(place.offset);
            let length = usize::from(place.length);
            if from + length <= end {
                let to = usize::from(place.destination);
                expected[to..to + length].copy_from_slice(&frame[from..from + length]);
                for octet in to..to + length {
                    present |= 1 << octet;
                }
            }
        }
        let (flow, extension) = chosen(&places).flow(&frame);
        prop_assert_eq!(flow, plain(&frame));
        prop_assert_eq!(extension.map_or([0; 32], |extension| extension.chosen), expected);
        prop_assert_eq!(extension.is_some(), present != 0);
        prop_assert_eq!(extension.map_or(0, |extension| extension.chosen_present), present);
    }

    /// No octets make it fail, wherever they are cut, and what is outside is the same as without an extension.
    #[test]
    fn any_octets(octets in prop::collection::vec(any::<u8>(), 0..200), cut in 0..200_usize) {
        let wanted =
            Extended { inner: true, labels: true, chosen: vec![place(Layer::Payload, 3, 9), place(Layer::Vlan, 0, 2)] };
        let frames = [
            octets.clone(),
            ethernet(&[], 0x8847, &octets),
            Ipv4::of(GRE).frame(&gre(0, BRIDGED, &octets)),
            Ipv4::of(UDP).frame(&vxlan(1, &octets)),
            Ipv4::of(4).frame(&octets),
            ipv6_frame(41, &octets),
        ];
        for frame in &frames {
            let frame = &frame[..cut.min(frame.len())];
            let observer = Observer::default().extended(wanted.clone());
            let extended = observer.parse_captured(frame, 1500);
            let plain = Observer::default().parse_captured(frame, 1500);
            match (extended, plain) {
                (crate::support::Parsed::Flow(extended), crate::support::Parsed::Flow(plain)) => {
                    prop_assert_eq!((extended.fields, extended.addresses), (plain.fields, plain.addresses));
                    prop_assert_eq!(extended.facts.octets, plain.facts.octets);
                }
                (extended, plain) => prop_assert_eq!(extended, plain),
            }
        }
    }
}

#[test]
fn what_is_inside_needs_not_be_whole() {
    let frame = Ipv4::of(4).frame(&inner4());
    let observer = inner();
    let cut = observer.parse_captured(&frame[..14 + 20 + 20], frame.len() as u32).flow();
    assert_eq!(cut.addresses, Addresses::Ipv4(SOURCE4, DESTINATION4));
    assert_eq!(observer.parse_captured(&frame[..14 + 20 + 19], frame.len() as u32).flow(), plain(&frame));
}
