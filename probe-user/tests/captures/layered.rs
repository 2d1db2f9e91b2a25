//! Frames of layers put upon each other at random, the same ones at each run.

use crate::frames::{
    BRIDGED, CUSTOMER_TAG, DESTINATION_OPTIONS, GRE, GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE, HOP_BY_HOP, ICMP,
    IP_IN_IP, IPV4, IPV6, IPV6_IN_IP, Ipv4, MORE_FRAGMENTS, MPLS, MPLS_UPSTREAM, OLD_SERVICE_TAG, PPP_IPV4,
    PPP_IPV6, PPPOE, ROUTING, SCTP, SERVICE_TAG, TCP, UDP, authentication, chain, fragment, gre, icmp, ipv6,
    labelled, options, ports, readdressed, session, tagged, tcp, vxlan,
};

/// A generator of numbers that are the same at each run (xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as usize) % limit
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

/// A frame with any tags, a session or labels, and a packet that may be in a tunnel or two.
pub(crate) fn layered(random: &mut Random) -> Vec<u8> {
    let packet = tunnelled(random);
    let is_ipv6 = packet[0] >> 4 == 6;
    let tags = tags(random, 5);
    match random.below(4) {
        0 => tagged(&tags, PPPOE, &session(if is_ipv6 { PPP_IPV6 } else { PPP_IPV4 }, &packet)),
        1 => {
            let labels: Vec<u32> = (0..=random.below(11)).map(|_| random.below(1 << 20) as u32).collect();
            tagged(&tags, random.of(&[MPLS, MPLS_UPSTREAM]), &labelled(&labels, &packet))
        }
        _ => tagged(&tags, if is_ipv6 { IPV6 } else { IPV4 }, &packet),
    }
}

fn tags(random: &mut Random, most: usize) -> Vec<(u16, u16)> {
    let count = if random.one_in(3) { random.below(most + 1) } else { 0 };
    (0..count)
        .map(|_| (random.of(&[CUSTOMER_TAG, SERVICE_TAG, OLD_SERVICE_TAG]), random.below(1 << 16) as u16))
        .collect()
}

/// A packet in up to two tunnels.
fn tunnelled(random: &mut Random) -> Vec<u8> {
    let (protocol, segment) = transport(random);
    let mut packet = network(random, protocol, &segment);
    for level in 1..=random.below(3) {
        let is_ipv6 = packet[0] >> 4 == 6;
        let ether_type = if is_ipv6 { IPV6 } else { IPV4 };
        let inner = readdressed(&packet, level as u8);
        let (protocol, payload) = match random.below(4) {
            0 => (if is_ipv6 { IPV6_IN_IP } else { IP_IN_IP }, inner),
            1 => {
                let flags = [GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE, 1, 0x4000];
                let flags = flags.map(|flag| if random.one_in(4) { flag } else { 0 });
                (GRE, gre(flags.iter().sum(), ether_type, &inner))
            }
            2 => {
                let frame = tagged(&tags(random, 5), ether_type, &inner);
                (GRE, gre(if random.one_in(2) { GRE_KEY } else { 0 }, BRIDGED, &frame))
            }
            _ => {
                let frame = tagged(&tags(random, 5), ether_type, &inner);
                (UDP, vxlan(random.of(&[4789, 8472, 53]), random.below(1 << 24) as u32, &frame))
            }
        };
        packet = network(random, protocol, &payload);
    }
    packet
}

fn transport(random: &mut Random) -> (u8, Vec<u8>) {
    let source = random.below(3) as u16;
    match random.below(5) {
        0 => (TCP, tcp(source, random.below(4096) as u16, random.below(40))),
        1 => (ICMP, icmp(random.below(256) as u8, random.below(4) as u8)),
        2 => (SCTP, ports(source, 9, 20)),
        3 => (random.below(256) as u8, vec![random.below(256) as u8; random.below(64)]),
        _ => (UDP, ports(source, 53, 8 + random.below(40))),
    }
}

/// An IP packet of either family, with options or extension headers, whole or a fragment.
fn network(random: &mut Random, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let identification = random.below(3) as u16;
    let offset = random.of(&[0, 0, 1, 185]);
    let is_fragment = random.one_in(4);
    if random.one_in(2) {
        let options = vec![1; 4 * random.of(&[0, 0, 0, 1, 10])];
        let more = if random.one_in(2) { MORE_FRAGMENTS } else { 0 };
        let fragment = if is_fragment { offset | more } else { 0 };
        let class_of_service = random.below(4) as u8;
        let header = Ipv4 { class_of_service, identification, fragment, ..Ipv4::new(protocol, payload) };
        return Ipv4 { options: &options, ..header }.packet();
    }
    let mut headers = Vec::new();
    for _ in 0..random.of(&[0, 0, 0, 1, 2, 9]) {
        headers.push(match random.below(3) {
            0 => authentication(),
            _ => options(random.of(&[HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS]), random.below(2) as u8),
        });
    }
    if is_fragment {
        headers.push(fragment(offset, random.one_in(2), u32::from(identification)));
        for _ in 0..random.of(&[0, 0, 1, 4, 5]) {
            headers.push(options(DESTINATION_OPTIONS, 0));
        }
    }
    let (first, octets) = chain(&headers, protocol, payload);
    ipv6(random.below(4) as u8, first, &octets)
}
