//! Frames with more headers than those of [`frames`](crate::frames): one valid frame of each kind, made from
//! a plain one. None of them varies its flow.

use crate::frames::{Family, Frame, FrameLengthError, FrameSettings, Transport, internet_checksum};

/// Destination and source address, as in every frame of [`frames`](crate::frames).
const ADDRESSES_OCTETS: usize = 12;
const ETHERNET_OCTETS: usize = ADDRESSES_OCTETS + 2;
const IPV4_OCTETS: usize = 20;
const IPV6_OCTETS: usize = 40;

const IPV4: u16 = 0x0800;
const CUSTOMER_TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
const PPPOE_SESSION: u16 = 0x8864;
const MPLS_UNICAST: u16 = 0x8847;

const UDP: u8 = 17;
const GRE: u8 = 47;
const DESTINATION_OPTIONS: u8 = 60;

/// Destination port of VXLAN (RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;
/// Source port of the VXLAN frame, from the range that its section 5 recommends.
pub const VXLAN_SOURCE_PORT: u16 = 49_152;

/// Octets of the plain frame that others are made from: a multiple of eight of payload in its first fragment.
const PLAIN_OCTETS: usize = ETHERNET_OCTETS + IPV4_OCTETS + 40;

/// IPv4 or IPv6 with UDP or TCP, in 74 octets.
///
/// # Errors
/// Not for any of these.
pub fn plain(family: Family, transport: Transport) -> Result<Vec<u8>, FrameLengthError> {
    let settings = FrameSettings { family, transport, octets: PLAIN_OCTETS, ..FrameSettings::default() };
    Ok(Frame::new(&settings)?.octets().to_vec())
}

/// The frame with VLAN tags of these identifiers: one customer tag, or below a service tag (IEEE 802.1ad).
#[must_use]
pub fn tagged(frame: &[u8], vlan_ids: &[u16]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(ADDRESSES_OCTETS);
    let mut made = addresses.to_vec();
    for (depth, vlan_id) in vlan_ids.iter().enumerate() {
        let tag = if depth + 1 == vlan_ids.len() { CUSTOMER_TAG } else { SERVICE_TAG };
        made.extend(tag.to_be_bytes());
        made.extend(vlan_id.to_be_bytes());
    }
    made.extend(rest);
    made
}

/// The IPv4 packet of the frame in a `PPPoE` session (RFC 2516).
#[must_use]
pub fn in_pppoe(frame: &[u8]) -> Vec<u8> {
    let (addresses, packet) = (&frame[..ADDRESSES_OCTETS], &frame[ETHERNET_OCTETS..]);
    let mut made = addresses.to_vec();
    made.extend(PPPOE_SESSION.to_be_bytes());
    // Version 1, type 1, session data, session 1, then the length with the two octets of the PPP protocol.
    made.extend([0x11, 0, 0, 1]);
    made.extend((packet.len() as u16 + 2).to_be_bytes());
    made.extend(0x0021_u16.to_be_bytes());
    made.extend(packet);
    made
}

/// The packet of the frame below MPLS labels, 100 and on (RFC 3032).
#[must_use]
pub fn labelled(frame: &[u8], labels: u32) -> Vec<u8> {
    let (addresses, packet) = (&frame[..ADDRESSES_OCTETS], &frame[ETHERNET_OCTETS..]);
    let mut made = addresses.to_vec();
    made.extend(MPLS_UNICAST.to_be_bytes());
    for depth in 0..labels {
        let bottom = u32::from(depth + 1 == labels) << 8;
        made.extend(((100 + depth) << 12 | bottom | 64).to_be_bytes());
    }
    made.extend(packet);
    made
}

/// The IPv4 frame with eight octets of options (RFC 791): no operation.
#[must_use]
pub fn with_options(frame: &[u8]) -> Vec<u8> {
    let (headers, payload) = frame.split_at(ETHERNET_OCTETS + IPV4_OCTETS);
    let mut made = headers.to_vec();
    made.extend([1; 8]);
    made.extend(payload);
    made[ETHERNET_OCTETS] = 0x47;
    finish_ipv4(&mut made, IPV4_OCTETS + 8);
    made
}

/// The IPv6 frame with this many headers of destination options before the transport header (RFC 8200).
#[must_use]
pub fn with_extension_headers(frame: &[u8], count: usize) -> Vec<u8> {
    let (headers, payload) = frame.split_at(ETHERNET_OCTETS + IPV6_OCTETS);
    let mut made = headers.to_vec();
    let mut next = std::mem::replace(&mut made[ETHERNET_OCTETS + 6], DESTINATION_OPTIONS);
    let transport = next;
    for depth in 0..count {
        next = if depth + 1 == count { transport } else { DESTINATION_OPTIONS };
        // Eight octets, of which four are padding (PadN).
        made.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    made.extend(payload);
    let octets = (made.len() - ETHERNET_OCTETS - IPV6_OCTETS) as u16;
    made[ETHERNET_OCTETS + 4..][..2].copy_from_slice(&octets.to_be_bytes());
    made
}

/// First and last fragment of the IPv4 frame, cut after 24 octets of payload.
#[must_use]
pub fn fragments(frame: &[u8]) -> [Vec<u8>; 2] {
    const CUT: usize = 24;
    let (headers, payload) = frame.split_at(ETHERNET_OCTETS + IPV4_OCTETS);
    // More fragments follow; offset in units of eight octets.
    [(&payload[..CUT], 0x2000), (&payload[CUT..], CUT as u16 / 8)].map(|(part, fragment)| {
        let mut made = headers.to_vec();
        made.extend(part);
        made[ETHERNET_OCTETS + 4..][..2].copy_from_slice(&1_u16.to_be_bytes());
        made[ETHERNET_OCTETS + 6..][..2].copy_from_slice(&fragment.to_be_bytes());
        finish_ipv4(&mut made, IPV4_OCTETS);
        made
    })
}

/// The IPv4 packet of the frame in GRE (RFC 2784).
#[must_use]
pub fn in_gre(frame: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 0];
    payload.extend(IPV4.to_be_bytes());
    payload.extend(&frame[ETHERNET_OCTETS..]);
    in_ipv4(frame, GRE, &payload)
}

/// The whole frame in VXLAN (RFC 7348), network 42, without a UDP checksum, as its section 5 advises.
#[must_use]
pub fn in_vxlan(frame: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(VXLAN_SOURCE_PORT.to_be_bytes());
    payload.extend(VXLAN_PORT.to_be_bytes());
    payload.extend((frame.len() as u16 + 16).to_be_bytes());
    payload.extend([0, 0, 0x08, 0, 0, 0, 0, 0, 42, 0]);
    payload.extend(frame);
    in_ipv4(frame, UDP, &payload)
}

/// A packet between the ends of a tunnel, with the frame's Ethernet addresses.
fn in_ipv4(frame: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut made = frame[..ADDRESSES_OCTETS].to_vec();
    made.extend(IPV4.to_be_bytes());
    made.extend([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    made.extend([192, 0, 2, 1, 192, 0, 2, 2]);
    made.extend(payload);
    finish_ipv4(&mut made, IPV4_OCTETS);
    made
}

/// Sets total length and checksum of the IPv4 header right after the Ethernet header.
fn finish_ipv4(frame: &mut [u8], header_octets: usize) {
    let packet = &mut frame[ETHERNET_OCTETS..];
    let octets = packet.len() as u16;
    packet[2..4].copy_from_slice(&octets.to_be_bytes());
    packet[10..12].fill(0);
    let checksum = internet_checksum(&packet[..header_octets]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice, VlanSlice};

    use super::*;

    fn udp(family: Family) -> Vec<u8> {
        plain(family, Transport::Udp).unwrap()
    }

    /// Octets and destination port of the UDP datagram, after IP and all of its headers were checked.
    fn checked(packet: &SlicedPacket<'_>) -> (usize, u16) {
        if let Some(NetSlice::Ipv4(ip)) = &packet.net {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum);
        }
        let Some(TransportSlice::Udp(datagram)) = &packet.transport else { panic!("{packet:?}") };
        (datagram.slice().len(), datagram.destination_port())
    }

    #[test]
    fn headers_around_a_packet_leave_it_as_it_was() {
        let frame = udp(Family::Ipv4);
        let whole = (40, 9);
        for ids in [&[7][..], &[7, 8]] {
            let tagged = tagged(&frame, ids);
            let packet = SlicedPacket::from_ethernet(&tagged).unwrap();
            let found: Vec<u16> = packet.vlan_ids().iter().map(|id| id.value()).collect();
            assert_eq!((found.as_slice(), checked(&packet)), (ids, whole));
            assert_eq!(packet.link_exts.len(), ids.len());
            assert!(matches!(packet.vlan(), Some(VlanSlice::SingleVlan(_) | VlanSlice::DoubleVlan(_))));
        }
        let pppoe = in_pppoe(&frame);
        assert_eq!(pppoe[18..20], 62_u16.to_be_bytes());
        assert_eq!(checked(&SlicedPacket::from_ip(&pppoe[22..]).unwrap()), whole);
        for labels in [1, 3] {
            let labelled = labelled(&frame, labels);
            let entries = &labelled[14..14 + 4 * labels as usize];
            let bottoms: Vec<bool> = entries.chunks(4).map(|entry| entry[2] & 1 == 1).collect();
            assert_eq!(bottoms.iter().position(|bottom| *bottom), Some(labels as usize - 1));
            let packet = &labelled[14 + 4 * labels as usize..];
            assert_eq!(checked(&SlicedPacket::from_ip(packet).unwrap()), whole);
        }
    }

    #[test]
    fn headers_in_a_packet_leave_its_payload_as_it_was() {
        let options = with_options(&udp(Family::Ipv4));
        assert_eq!(checked(&SlicedPacket::from_ethernet(&options).unwrap()), (40, 9));
        let extended = with_extension_headers(&udp(Family::Ipv6), 2);
        let packet = SlicedPacket::from_ethernet(&extended).unwrap();
        let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("{packet:?}") };
        assert_eq!(ip.extensions().slice().len(), 16);
        assert_eq!(checked(&packet), (20, 9));
    }

    #[test]
    fn fragments_are_the_whole_datagram() {
        let frame = udp(Family::Ipv4);
        let mut payload: Vec<u8> = Vec::new();
        for (fragment, offset) in fragments(&frame).iter().zip([0, 24]) {
            let packet = SlicedPacket::from_ethernet(fragment).unwrap();
            let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("{packet:?}") };
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum);
            assert_eq!((header.fragment_offset.byte_offset(), header.more_fragments), (offset, offset == 0));
            payload.extend(ip.payload().payload);
        }
        assert_eq!(payload, frame[34..]);
    }

    #[test]
    fn tunnels_hold_what_was_put_in() {
        let frame = udp(Family::Ipv4);
        let gre = in_gre(&frame);
        let packet = SlicedPacket::from_ethernet(&gre).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("{packet:?}") };
        assert_eq!((ip.header().protocol().0, &ip.payload().payload[4..]), (47, &frame[14..]));
        let vxlan = in_vxlan(&frame);
        let packet = SlicedPacket::from_ethernet(&vxlan).unwrap();
        assert_eq!(checked(&packet), (90, VXLAN_PORT));
        assert_eq!(vxlan[50..], frame);
    }
}
