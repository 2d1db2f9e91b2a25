//! The repository's own captures: one frame of everything that the parser knows, made in memory.

use crate::corpus::Capture;
use crate::file::{ETHERNET, Packet};
use crate::frames::{
    AUTHENTICATION, CUSTOMER_TAG, DCCP, DESTINATION_OPTIONS, DO_NOT_FRAGMENT, ESP, GRE, HOP_BY_HOP, ICMP,
    ICMPV6, IPV4, IPV6, Ipv4, MOBILITY, MORE_FRAGMENTS, NO_NEXT_HEADER, OLD_SERVICE_TAG, OSPF, ROUTING, SCTP,
    SERVICE_TAG, TCP, UDP, UDP_LITE, authentication, chain, ethernet, fragment, icmp, ipv6, options, ports,
    tagged, tcp,
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
        whole("own: tags", tags()),
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

fn whole(name: &str, frames: Vec<Vec<u8>>) -> Capture {
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
        frames.extend(extended(&[fragment(offset, more)]));
        frames.extend(extended(&[options(HOP_BY_HOP, 0), fragment(offset, more)]));
        frames.extend(extended(&[fragment(offset, more), options(DESTINATION_OPTIONS, 1)]));
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
        // IPv4 in MPLS, in PPPoE, behind LLC and SNAP with a length instead of an EtherType.
        ethernet(0x8847, &with(&[0, 1, 1, 64])),
        ethernet(0x8864, &with(&[0x11, 0, 0, 1, 0, 52, 0, 0x21])),
        ethernet(58, &with(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0])),
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
        &[options(HOP_BY_HOP, 0), fragment(0, true), authentication(), options(DESTINATION_OPTIONS, 1)],
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
