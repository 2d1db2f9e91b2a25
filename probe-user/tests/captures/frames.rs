//! Frames, put together header by header. Checksums are left zero: nobody here looks at them.

/// `EtherType` of IPv4.
pub(crate) const IPV4: u16 = 0x0800;
/// `EtherType` of IPv6.
pub(crate) const IPV6: u16 = 0x86dd;
/// `EtherType`s of MPLS, of `PPPoE` discovery and sessions.
pub(crate) const MPLS: u16 = 0x8847;
pub(crate) const MPLS_UPSTREAM: u16 = 0x8848;
pub(crate) const PPPOE_DISCOVERY: u16 = 0x8863;
pub(crate) const PPPOE: u16 = 0x8864;
/// PPP protocols.
pub(crate) const PPP_IPV4: u16 = 0x0021;
pub(crate) const PPP_IPV6: u16 = 0x0057;
/// GRE protocol of Ethernet frames, and flags.
pub(crate) const BRIDGED: u16 = 0x6558;
pub(crate) const GRE_CHECKSUM: u16 = 0x8000;
pub(crate) const GRE_KEY: u16 = 0x2000;
pub(crate) const GRE_SEQUENCE: u16 = 0x1000;
/// Tag protocol identifiers: customer, service, and service before 802.1ad.
pub(crate) const CUSTOMER_TAG: u16 = 0x8100;
pub(crate) const SERVICE_TAG: u16 = 0x88a8;
pub(crate) const OLD_SERVICE_TAG: u16 = 0x9100;

pub(crate) const ICMP: u8 = 1;
pub(crate) const IP_IN_IP: u8 = 4;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const DCCP: u8 = 33;
pub(crate) const IPV6_IN_IP: u8 = 41;
pub(crate) const GRE: u8 = 47;
pub(crate) const ESP: u8 = 50;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const OSPF: u8 = 89;
pub(crate) const SCTP: u8 = 132;
pub(crate) const UDP_LITE: u8 = 136;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const NO_NEXT_HEADER: u8 = 59;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;
pub(crate) const MOBILITY: u8 = 135;

/// Bits of the word that holds the IPv4 fragment offset.
pub(crate) const DO_NOT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;

const ADDRESSES: [u8; 12] = [0x02, 0, 0, 0, 0, 0x0b, 0x02, 0, 0, 0, 0, 0x0a];

/// An Ethernet frame.
pub(crate) fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    tagged(&[], ether_type, payload)
}

/// An Ethernet frame with tags, each a tag protocol identifier and control information.
pub(crate) fn tagged(tags: &[(u16, u16)], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ADDRESSES.to_vec();
    for (identifier, control) in tags {
        frame.extend(identifier.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet to be.
#[derive(Clone, Debug)]
pub(crate) struct Ipv4<'a> {
    pub(crate) class_of_service: u8,
    pub(crate) identification: u16,
    /// Flags and fragment offset.
    pub(crate) fragment: u16,
    pub(crate) protocol: u8,
    /// A multiple of four octets, 40 at most.
    pub(crate) options: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    pub(crate) fn new(protocol: u8, payload: &'a [u8]) -> Self {
        Self {
            class_of_service: 0,
            identification: 0x1234,
            fragment: DO_NOT_FRAGMENT,
            protocol,
            options: &[],
            payload,
        }
    }

    /// The packet.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = (header + self.payload.len()) as u16;
        let mut packet = vec![0x40 | (header / 4) as u8, self.class_of_service];
        packet.extend(total.to_be_bytes());
        packet.extend(self.identification.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend([192, 0, 2, 1, 198, 51, 100, 2]);
        packet.extend(self.options);
        packet.extend(self.payload);
        packet
    }

    /// The packet in a frame without tags.
    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(IPV4, &self.packet())
    }
}

/// An IPv6 packet; `payload` begins with the header that `next` names.
pub(crate) fn ipv6(traffic_class: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60 | traffic_class >> 4, traffic_class << 4 | 0x05, 0x43, 0x21];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    for host in [1, 2] {
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    packet.extend(payload);
    packet
}

/// Extension headers one after the other and what follows them. Each is its number and its octets less the
/// first, which names the next header. Returns the number of the first one with them.
pub(crate) fn chain(headers: &[(u8, Vec<u8>)], upper: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut octets = Vec::new();
    for (position, (_, rest)) in headers.iter().enumerate() {
        octets.push(headers.get(position + 1).map_or(upper, |(next, _)| *next));
        octets.extend(rest);
    }
    octets.extend(payload);
    (headers.first().map_or(upper, |(first, _)| *first), octets)
}

/// An extension header whose length is in units of eight octets, `8 + 8 * more` octets long, filled by one
/// padding option after the other.
pub(crate) fn options(number: u8, more: u8) -> (u8, Vec<u8>) {
    let length = 8 + 8 * usize::from(more);
    let mut rest = vec![more];
    while rest.len() + 1 < length {
        let padding = (length - rest.len() - 1 - 2).min(255);
        rest.extend([1, padding as u8]);
        rest.extend(vec![0; padding]);
        if length - rest.len() - 1 == 1 {
            rest.push(0);
        }
    }
    (number, rest)
}

/// A fragment header; `offset` is in units of eight octets.
pub(crate) fn fragment(offset: u16, more: bool, identification: u32) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    let [a, b, c, d] = identification.to_be_bytes();
    (FRAGMENT, vec![0, high, low, a, b, c, d])
}

/// The same IP packet between other addresses: the last octet of both is changed.
pub(crate) fn readdressed(packet: &[u8], by: u8) -> Vec<u8> {
    let places = if packet[0] >> 4 == 4 { [15, 19] } else { [23, 39] };
    let mut packet = packet.to_vec();
    for place in places {
        packet[place] ^= by;
    }
    packet
}

/// A packet below a stack of labels.
pub(crate) fn labelled(labels: &[u32], packet: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (place, label) in (1..).zip(labels) {
        octets.extend((label << 12 | u32::from(place == labels.len()) << 8 | 64).to_be_bytes());
    }
    octets.extend(packet);
    octets
}

/// A packet in a session, by the number of its PPP protocol.
pub(crate) fn session(protocol: u16, packet: &[u8]) -> Vec<u8> {
    let mut octets = vec![0x11, 0, 0x12, 0x34];
    octets.extend((packet.len() as u16 + 2).to_be_bytes());
    octets.extend(protocol.to_be_bytes());
    octets.extend(packet);
    octets
}

/// A GRE header with the words that `flags` ask for, and what follows it.
pub(crate) fn gre(flags: u16, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = [flags.to_be_bytes(), protocol.to_be_bytes()].concat();
    let words = (flags & (GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE)).count_ones() as usize;
    octets.extend([0, 0, 0, 1].repeat(words));
    octets.extend(payload);
    octets
}

/// A VXLAN segment, UDP header included, and the frame in it.
pub(crate) fn vxlan(port: u16, identifier: u32, frame: &[u8]) -> Vec<u8> {
    let mut octets = ports(50_000, port, 8);
    octets[4..6].copy_from_slice(&(16 + frame.len() as u16).to_be_bytes());
    octets.extend([0x08, 0, 0, 0]);
    octets.extend((identifier << 8).to_be_bytes());
    octets.extend(frame);
    octets
}

/// An authentication header of 24 octets.
pub(crate) fn authentication() -> (u8, Vec<u8>) {
    let mut rest = vec![4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    rest.resize(23, 0xaa);
    (AUTHENTICATION, rest)
}

/// A TCP segment with the control bits of RFC 9293 and the AE bit above them.
pub(crate) fn tcp(source: u16, control_bits: u16, data: usize) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), 443_u16.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2]);
    segment.extend((0x5000 | control_bits).to_be_bytes());
    segment.extend([0xff, 0xff, 0, 0, 0, 0]);
    segment.resize(20 + data, 0x64);
    segment
}

/// A header that begins with ports: UDP, and what is alike for the first octets.
pub(crate) fn ports(source: u16, destination: u16, length: usize) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend((length as u16).to_be_bytes());
    segment.resize(length, 0);
    segment
}

/// An ICMP message, of either version.
pub(crate) fn icmp(kind: u8, code: u8) -> Vec<u8> {
    vec![kind, code, 0, 0, 0, 1, 0, 2, 0x64, 0x64, 0x64, 0x64]
}
