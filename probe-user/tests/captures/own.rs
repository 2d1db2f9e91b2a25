//! The repository's own captures: one frame of everything that the parser knows, made in memory.

use crate::corpus::Capture;
use crate::file::{ETHERNET, Packet};
use crate::frames::{
    AUTHENTICATION, BRIDGED, CUSTOMER_TAG, DCCP, DESTINATION_OPTIONS, DO_NOT_FRAGMENT, ESP, GRE,
    GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE, HOP_BY_HOP, ICMP, ICMPV6, IP_IN_IP, IPV4, IPV6, IPV6_IN_IP, Ipv4,
    MOBILITY, MORE_FRAGMENTS, MPLS, MPLS_UPSTREAM, NO_NEXT_HEADER, OLD_SERVICE_TAG, OSPF, PPP_IPV4, PPP_IPV6,
    PPPOE, PPPOE_DISCOVERY, ROUTING, SCTP, SERVICE_TAG, TCP, UDP, UDP_LITE, authentication, chain, ethernet,
    fragment, gre, icmp, ipv6, labelled, options, ports, readdressed, session, tagged, tcp, vxlan,
};

/// Name of the capture of frames for an MTU of 9,000 octets.
pub(crate) const JUMBO: &str = "own: jumbo frames";

/// Every own capture.
pub(crate) fn captures() -> Vec<Capture> {
    vec![
        whole("own: IPv4 transports", ipv4_transports()),
        whole("own: IPv4 options", ipv4_options()),
        whole("own: IPv4 fragments", ipv4_fragments()),
        whole("own: IPv6 transports", ipv6_transports()),
        whole("own: IPv6 extension headers", ipv6_extensions()),
        whole("own: IPv6 fragments", ipv6_fragments()),
        whole("own: fragments in any order", fragments_in_any_order()),
        whole("own: tags", tags()),
        whole("own: labels", labels()),
        whole("own: sessions", sessions()),
        whole("own: tunnels", tunnels()),
        whole("own: no tunnels", no_tunnels()),
        whole("own: padding", padding()),
        whole("own: malformed", malformed()),
        whole("own: not IP", not_ip()),
        whole("own: short frames", short_frames()),
        capture("own: cut captures", cut_captures()),
        whole(JUMBO, jumbo()),
        whole("own: large", large()),
        raw_ip(),
        whole("own: shorter than an Ethernet header", (0..14).map(|length| vec![0xff; length]).collect()),
    ]
}

pub(crate) fn whole(name: &str, frames: Vec<Vec<u8>>) -> Capture {
    capture(name, frames.into_iter().map(|frame| (frame.len() as u32, frame)).collect())
}

/// IP packets without a link layer, as captured on a tunnel interface: nothing that pathflow could be
/// attached to, but its parser may not stumble over them.
fn raw_ip() -> Capture {
    const RAW_IP: u32 = 101;
    let frames = ipv4_options().into_iter().chain(ipv6_extensions());
    let mut capture = whole("own: raw IP", frames.map(|frame| frame[14..].to_vec()).collect());
    capture.packets.iter_mut().for_each(|packet| packet.link_type = RAW_IP);
    capture
}

/// A capture of frames with their lengths on the wire, a millisecond apart.
fn capture(name: &str, frames: Vec<(u32, Vec<u8>)>) -> Capture {
    const START: u64 = 1_700_000_000_000_000_000;
    let times = (0..).map(|number: u64| START + number * 1_000_000);
    let packets = frames.into_iter().zip(times).map(|((wire_length, octets), time)| Packet {
        link_type: ETHERNET,
        octets,
        wire_length,
        time,
    });
    Capture { name: name.to_owned(), path: None, packets: packets.collect(), fault: None }
}

/// A packet of each protocol that has ports, or type and code, and some that have neither.
fn transports() -> Vec<(u8, Vec<u8>)> {
    let mut segments: Vec<(u8, Vec<u8>)> = (0..12).map(|bit| (TCP, tcp(1024, 1 << bit, 0))).collect();
    segments.push((TCP, tcp(1025, 0x012, 100)));
    segments.extend([UDP, DCCP, SCTP, UDP_LITE].map(|protocol| (protocol, ports(5353, 53, 40))));
    segments.extend([ICMP, ICMPV6].map(|protocol| (protocol, icmp(8, 0))));
    segments.extend([ICMP, ICMPV6].map(|protocol| (protocol, icmp(3, 13))));
    segments.extend([GRE, ESP, OSPF, 4, 41, 255].map(|protocol| (protocol, vec![0x45; 24])));
    segments
}

fn ipv4_transports() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = transports()
        .into_iter()
        .map(|(protocol, segment)| Ipv4 { class_of_service: 0xb8, ..Ipv4::new(protocol, &segment) }.frame())
        .collect();
    // The same flow again, so that something adds up.
    frames.extend((0..5).map(|data| Ipv4::new(TCP, &tcp(1026, 0x010, data)).frame()));
    frames
}

fn ipv4_options() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for words in 1..=10 {
        let options = vec![1; 4 * words];
        for (protocol, segment) in
            [(TCP, tcp(2000, 0x018, 7)), (UDP, ports(2001, 53, 20)), (ICMP, icmp(11, 1))]
        {
            frames.push(Ipv4 { options: &options, ..Ipv4::new(protocol, &segment) }.frame());
        }
    }
    frames
}

fn ipv4_fragments() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (protocol, segment) in [(TCP, tcp(3000, 0x010, 44)), (UDP, ports(3001, 53, 64)), (ICMP, icmp(8, 0))] {
        for fragment in
            [MORE_FRAGMENTS, MORE_FRAGMENTS | 8, MORE_FRAGMENTS | 0x1000, 16, 0x1fff, DO_NOT_FRAGMENT, 0x8000]
        {
            frames.push(Ipv4 { fragment, ..Ipv4::new(protocol, &segment) }.frame());
        }
    }
    // A first fragment that ends before the control bits.
    frames.push(Ipv4 { fragment: MORE_FRAGMENTS, ..Ipv4::new(TCP, &tcp(3002, 0x002, 0)[..8]) }.frame());
    frames
}

fn ipv6_transports() -> Vec<Vec<u8>> {
    transports()
        .into_iter()
        .map(|(protocol, segment)| ethernet(IPV6, &ipv6(0xb8, protocol, &segment)))
        .chain([ethernet(IPV6, &ipv6(0, NO_NEXT_HEADER, &[])), ethernet(IPV6, &ipv6(0, UDP, &[]))])
        .collect()
}

/// A frame with extension headers before a TCP, UDP or ICMP message.
fn extended(headers: &[(u8, Vec<u8>)]) -> Vec<Vec<u8>> {
    [
        (TCP, tcp(4000, 0x011, 3)),
        (UDP, ports(4001, 53, 20)),
        (ICMPV6, icmp(128, 0)),
        (NO_NEXT_HEADER, Vec::new()),
    ]
    .into_iter()
    .map(|(upper, payload)| {
        let (first, octets) = chain(headers, upper, &payload);
        ethernet(IPV6, &ipv6(0, first, &octets))
    })
    .collect()
}

fn ipv6_extensions() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for number in [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, MOBILITY] {
        for more in [0, 1, 5, 40] {
            frames.extend(extended(&[options(number, more)]));
        }
    }
    frames.extend(extended(&[authentication()]));
    frames.extend(extended(&[
        options(HOP_BY_HOP, 0),
        options(DESTINATION_OPTIONS, 1),
        options(ROUTING, 2),
        authentication(),
        options(DESTINATION_OPTIONS, 0),
    ]));
    // As many as are walked, and one and two more.
    for count in 7..=10 {
        frames.extend(extended(&vec![options(DESTINATION_OPTIONS, 0); count]));
    }
    // A header that is cut by the end of the packet.
    frames.push(ethernet(IPV6, &ipv6(0, ROUTING, &[TCP, 9])));
    frames.push(ethernet(IPV6, &ipv6(0, AUTHENTICATION, &[TCP, 200, 0, 0, 0, 0, 0, 0])));
    frames
}

fn ipv6_fragments() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (offset, more) in [(0, true), (0, false), (1, true), (185, true), (0x1fff, false)] {
        frames.extend(extended(&[fragment(offset, more, 0x5678)]));
        frames.extend(extended(&[options(HOP_BY_HOP, 0), fragment(offset, more, 0x5678)]));
        frames.extend(extended(&[fragment(offset, more, 0x5678), options(DESTINATION_OPTIONS, 1)]));
    }
    frames
}

fn tags() -> Vec<Vec<u8>> {
    let ipv4 = Ipv4::new(UDP, &ports(5000, 53, 20)).packet();
    let ipv6 = ipv6(0x20, TCP, &tcp(5001, 0x002, 0));
    let mut frames = Vec::new();
    let identifiers = [CUSTOMER_TAG, SERVICE_TAG, OLD_SERVICE_TAG];
    let mut stacks: Vec<Vec<(u16, u16)>> = Vec::new();
    for outer in identifiers {
        stacks.push(vec![(outer, 100)]);
        // Priority tag: identifier 0. Highest priority, drop eligible, highest identifier.
        stacks.push(vec![(outer, 0xe000)]);
        stacks.push(vec![(outer, 0xffff)]);
        for inner in identifiers {
            stacks.push(vec![(outer, 200), (inner, 0x212c)]);
            stacks.push(vec![(outer, 200), (inner, 300), (CUSTOMER_TAG, 400)]);
            stacks.push(vec![(outer, 200), (inner, 300), (CUSTOMER_TAG, 400), (CUSTOMER_TAG, 500)]);
            stacks.push(vec![
                (outer, 200),
                (inner, 300),
                (CUSTOMER_TAG, 1),
                (CUSTOMER_TAG, 2),
                (CUSTOMER_TAG, 3),
            ]);
        }
    }
    for stack in stacks {
        frames.push(tagged(&stack, IPV4, &ipv4));
        frames.push(tagged(&stack, IPV6, &ipv6));
    }
    frames.push(tagged(&[(CUSTOMER_TAG, 100)], 0x0806, &[0; 46]));
    frames.push(tagged(&[(SERVICE_TAG, 100), (CUSTOMER_TAG, 101)], 0x88cc, &[0; 46]));
    frames
}

/// Packets of either family, as they lie below whatever this capture is about.
fn packets() -> [Vec<u8>; 4] {
    [
        Ipv4 { class_of_service: 0x10, ..Ipv4::new(UDP, &ports(5100, 53, 30)) }.packet(),
        Ipv4 { options: &[1; 8], ..Ipv4::new(TCP, &tcp(5101, 0x018, 9)) }.packet(),
        ipv6(0x28, TCP, &tcp(5102, 0x012, 0)),
        ipv6(0, ICMPV6, &icmp(128, 0)),
    ]
}

fn ether_type(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 4 { IPV4 } else { IPV6 }
}

fn labels() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for packet in packets() {
        // Explicit null of the packet's own family.
        let null = if ether_type(&packet) == IPV4 { 0 } else { 2 };
        for stack in [vec![16], vec![0xf_ffff], vec![null], vec![17, null], vec![300, 7, 99_999]] {
            frames.push(ethernet(MPLS, &labelled(&stack, &packet)));
        }
        for depth in [4, 9, 10] {
            let stack: Vec<u32> = (0..depth).map(|place| 1000 + place).collect();
            frames.push(ethernet(MPLS_UPSTREAM, &labelled(&stack, &packet)));
        }
        let tags = [(SERVICE_TAG, 30), (CUSTOMER_TAG, 40)];
        frames.push(tagged(&tags, MPLS, &labelled(&[55], &packet)));
    }
    frames
}

fn sessions() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for packet in packets() {
        let protocol = if ether_type(&packet) == IPV4 { PPP_IPV4 } else { PPP_IPV6 };
        let session = session(protocol, &packet);
        frames.push(ethernet(PPPOE, &session));
        frames.push(tagged(&[(SERVICE_TAG, 50), (CUSTOMER_TAG, 60)], PPPOE, &session));
    }
    frames
}

/// What is in tunnels, by protocol number.
fn tunnel_payloads(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let packet = readdressed(packet, 0x40);
    let ether_type = ether_type(&packet);
    let mut payloads = vec![(if ether_type == IPV4 { IP_IN_IP } else { IPV6_IN_IP }, packet.clone())];
    for flags in [
        0,
        GRE_CHECKSUM,
        GRE_KEY,
        GRE_SEQUENCE,
        GRE_CHECKSUM | GRE_KEY,
        GRE_KEY | GRE_SEQUENCE,
        GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE,
    ] {
        payloads.push((GRE, gre(flags, ether_type, &packet)));
    }
    let stacks: [&[(u16, u16)]; 3] = [&[], &[(CUSTOMER_TAG, 71)], &[(SERVICE_TAG, 72), (CUSTOMER_TAG, 73)]];
    for tags in stacks {
        let frame = tagged(tags, ether_type, &packet);
        payloads.push((GRE, gre(GRE_KEY, BRIDGED, &frame)));
        payloads.push((UDP, vxlan(4789, 0x12_3456, &frame)));
        payloads.push((UDP, vxlan(8472, 0xff_ffff, &frame)));
    }
    payloads
}

fn tunnels() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for packet in packets() {
        for (protocol, payload) in tunnel_payloads(&packet) {
            let outer = Ipv4 { class_of_service: 0x60, ..Ipv4::new(protocol, &payload) };
            frames.push(outer.frame());
            frames.push(tagged(&[(CUSTOMER_TAG, 74)], IPV4, &outer.packet()));
            frames.push(ethernet(MPLS, &labelled(&[75], &outer.packet())));
            frames.push(ethernet(IPV6, &ipv6(0x60, protocol, &payload)));
        }
    }
    frames
}

/// Tunnel packets that stay in the flow of their outer header.
fn no_tunnels() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for packet in packets() {
        for (protocol, payload) in tunnel_payloads(&packet) {
            let outer = Ipv4 { identification: 77, ..Ipv4::new(protocol, &payload) };
            for fragment in [MORE_FRAGMENTS, MORE_FRAGMENTS | 3, 5] {
                frames.push(Ipv4 { fragment, ..outer.clone() }.frame());
            }
            let (first, octets) = chain(&[options(DESTINATION_OPTIONS, 0)], protocol, &payload);
            frames.push(ethernet(IPV6, &ipv6(0, first, &octets)));
        }
        let frame = ethernet(ether_type(&packet), &packet);
        frames.push(Ipv4::new(UDP, &vxlan(5000, 1, &frame)).frame());
        let mut no_identifier = vxlan(4789, 1, &frame);
        no_identifier[8] = 0;
        frames.push(Ipv4::new(UDP, &no_identifier).frame());
        // Routing, and version 1.
        for flags in [0x4000, 0x2001] {
            frames.push(Ipv4::new(GRE, &gre(flags, ether_type(&packet), &packet)).frame());
        }
        let arp = ethernet(0x0806, &[0; 46]);
        frames.push(Ipv4::new(GRE, &gre(0, BRIDGED, &arp)).frame());
        frames.push(Ipv4::new(UDP, &vxlan(8472, 0xff_fffe, &arp)).frame());
        frames.push(ethernet(IPV6, &ipv6(0, UDP, &vxlan(4789, 3, &arp))));
        // Headers inside that contradict themselves, or are not of the version that was said.
        let place = if ether_type(&packet) == IPV4 { 2 } else { 0 };
        let wrong = changed(&packet, place, &[0, 0]);
        frames.push(Ipv4::new(GRE, &gre(0, ether_type(&packet), &wrong)).frame());
        frames.push(Ipv4::new(GRE, &gre(0, 0x88be, &packet)).frame());
    }
    frames
}

/// Datagrams in three fragments, each with its own identification and ports, in each order there is.
fn fragments_in_any_order() -> Vec<Vec<u8>> {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut frames = Vec::new();
    for (number, order) in (0..).zip(ORDERS) {
        let segment = ports(12_000 + number, 53, 40);
        let pieces = [(0, true, &segment[..16]), (2, true, &segment[16..32]), (4, false, &segment[32..])];
        for (offset, more, payload) in order.map(|place| pieces[place]) {
            let flags = if more { MORE_FRAGMENTS } else { 0 };
            let packet =
                Ipv4 { identification: 0xff00 | number, fragment: offset | flags, ..Ipv4::new(UDP, payload) };
            frames.push(packet.frame());
            frames.push(ethernet(MPLS, &labelled(&[18], &readdressed(&packet.packet(), 0x20))));
            let inside = gre(0, IPV4, &readdressed(&packet.packet(), 0x30));
            frames.push(Ipv4::new(GRE, &inside).frame());
            let headers = [fragment(offset, more, 0xffff_ff00 | u32::from(number))];
            // RFC 8200 section 4.5: what the later fragments say of the next header does not count.
            let next = if offset == 0 { UDP } else { TCP };
            let (first, octets) = chain(&headers, next, payload);
            frames.push(ethernet(IPV6, &ipv6(0, first, &octets)));
        }
    }
    frames
}

fn padding() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for length in [60, 64, 300, 1514] {
        for data in 0..4 {
            let mut frame = Ipv4::new(UDP, &ports(6000 + data, 53, usize::from(8 + data))).frame();
            frame.resize(length, 0x55);
            frames.push(frame);
        }
        let mut frame = ethernet(IPV6, &ipv6(0, UDP, &ports(6010, 53, 8)));
        frame.resize(length.max(62), 0x55);
        frames.push(frame);
        let mut frame = Ipv4 { fragment: 100, ..Ipv4::new(UDP, &[1, 2, 3, 4]) }.frame();
        frame.resize(length, 0x55);
        frames.push(frame);
    }
    frames
}

/// Frames whose header lies: each change is an offset in the IP packet and the octets to put there.
fn malformed() -> Vec<Vec<u8>> {
    let ipv4 = Ipv4::new(UDP, &ports(7000, 53, 30)).packet();
    let ipv6 = ipv6(0, UDP, &ports(7001, 53, 30));
    let mut frames = Vec::new();
    for version_and_length in (0..16).map(|length| 0x40 | length).chain([0x05, 0x35, 0x55, 0x60, 0x65, 0xf5])
    {
        frames.push(ethernet(IPV4, &changed(&ipv4, 0, &[version_and_length])));
    }
    for total_length in [0_u16, 1, 19, 20, 21, 49, 50, 51, 1500, 0xffff] {
        frames.push(ethernet(IPV4, &changed(&ipv4, 2, &total_length.to_be_bytes())));
    }
    for version in [0x00, 0x40, 0x45, 0x50, 0x70, 0xf0] {
        frames.push(ethernet(IPV6, &changed(&ipv6, 0, &[version])));
    }
    for payload_length in [0_u16, 1, 7, 29, 30, 31, 1500, 0xffff] {
        frames.push(ethernet(IPV6, &changed(&ipv6, 4, &payload_length.to_be_bytes())));
    }
    frames.push(ethernet(IPV4, &ipv6));
    frames.push(ethernet(IPV6, &ipv4));
    frames
}

fn changed(packet: &[u8], offset: usize, octets: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[offset..offset + octets.len()].copy_from_slice(octets);
    packet
}

fn not_ip() -> Vec<Vec<u8>> {
    let ipv4 = Ipv4::new(UDP, &ports(8000, 53, 30)).packet();
    let with = |header: &[u8]| [header, &ipv4].concat();
    let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 10, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2];
    vec![
        ethernet(0x0806, &arp),
        ethernet(0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 10, 0, 0]),
        // IPv4 behind LLC and SNAP with a length instead of an EtherType.
        ethernet(58, &with(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0])),
        // A pseudowire: Ethernet behind a control word.
        ethernet(MPLS, &labelled(&[100, 200], &[&[0; 4][..], &ethernet(IPV4, &ipv4)].concat())),
        ethernet(MPLS, &labelled(&[16; 11], &ipv4)),
        // Discovery and LCP.
        ethernet(PPPOE_DISCOVERY, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]),
        ethernet(PPPOE, &session(0xc021, &[1, 1, 0, 10, 5, 6, 1, 2, 3, 4])),
        ethernet(38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0]),
        ethernet(0x88f7, &[0; 44]),
        ethernet(0, &[0; 46]),
        ethernet(0xffff, &[0; 46]),
    ]
}

/// A tagged IPv6 packet with extension headers and a tagged IPv4 packet with options: every bounds check
/// of the parser lies somewhere in them.
fn long_headers() -> [Vec<u8>; 3] {
    let (first, octets) = chain(
        &[
            options(HOP_BY_HOP, 0),
            fragment(0, true, 0x5678),
            authentication(),
            options(DESTINATION_OPTIONS, 1),
        ],
        TCP,
        &tcp(9000, 0x013, 6),
    );
    let tags = [(SERVICE_TAG, 10), (CUSTOMER_TAG, 20)];
    [
        tagged(&tags, IPV6, &ipv6(0, first, &octets)),
        tagged(&tags, IPV4, &Ipv4 { options: &[1; 12], ..Ipv4::new(TCP, &tcp(9001, 0x013, 6)) }.packet()),
        Ipv4::new(ICMP, &icmp(3, 1)).frame(),
    ]
}

/// Frames that end too early, everywhere from the end of the Ethernet header on.
fn short_frames() -> Vec<Vec<u8>> {
    let [ipv6, ipv4, icmp] = long_headers();
    [ipv6, ipv4, icmp]
        .iter()
        .flat_map(|frame| (14..frame.len()).map(|length| frame[..length].to_vec()))
        .collect()
}

/// The same frames, this time cut by the capture only.
fn cut_captures() -> Vec<(u32, Vec<u8>)> {
    long_headers()
        .iter()
        .flat_map(|frame| (14..frame.len()).map(|length| (frame.len() as u32, frame[..length].to_vec())))
        .collect()
}

/// Frames of several buffers that fit an MTU of 9,000 octets.
fn jumbo() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for length in [1500, 3000, 3480, 3490, 4096, 8192, 8960] {
        frames.push(Ipv4::new(UDP, &ports(11_000, 53, length)).frame());
        frames.push(ethernet(IPV6, &ipv6(0, UDP, &ports(11_001, 53, length))));
        let packet = ipv6(0, TCP, &tcp(11_002, 0x018, length - 40));
        frames.push(tagged(&[(SERVICE_TAG, 30), (CUSTOMER_TAG, 40)], IPV6, &packet));
    }
    // Extension headers of 2,048 octets each: the third lies outside the first buffer of the kernel, if
    // that is a page.
    for count in 1..=4 {
        frames.extend(extended(&vec![options(DESTINATION_OPTIONS, 255); count]));
    }
    frames
}

fn large() -> Vec<Vec<u8>> {
    let mut frames = vec![
        Ipv4::new(UDP, &ports(10_002, 53, 65_515)).frame(),
        ethernet(IPV6, &ipv6(0, UDP, &ports(10_003, 53, 65_535))),
    ];
    // Longer than the length fields can say: IPv4 and IPv6 with 0 in them, just below the limit and above.
    for payload in [65_515, 65_516, 65_535, 65_536, 70_000] {
        let packet = Ipv4::new(TCP, &tcp(10_004, 0x010, payload - 20)).packet();
        frames.push(ethernet(IPV4, &changed(&packet, 2, &[0, 0])));
        let jumbo_payload = vec![TCP, 0, 0xc2, 4, 0, 1, 0x11, 0x70];
        let packet = ipv6(0, HOP_BY_HOP, &[jumbo_payload, tcp(10_005, 0x010, payload - 28)].concat());
        frames.push(ethernet(IPV6, &changed(&packet, 4, &[0, 0])));
    }
    frames
}
