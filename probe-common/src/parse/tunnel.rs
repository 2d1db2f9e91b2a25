//! One level of tunnel: GRE (RFC 2784, RFC 2890), IP in IP (RFC 2003, RFC 4213), VXLAN (RFC 7348).
//!
//! Only on request, and then instead of the outer header, so that no packet is in two flows. A tunnel packet
//! that is itself fragmented, or whose inside is neither IPv4 nor IPv6, stays in the flow of its outer header; in VXLAN
//! with the network identifier.

use super::ipv4;
use super::link::{IPV4, IPV6, Link};
use crate::PacketBytes;
use crate::bytes::field;

/// Reserved by IANA.
const NO_PROTOCOL: u8 = 255;
const IP_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;

const GRE_CHECKSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQUENCE: u16 = 0x1000;
/// Version, and routing, which RFC 2784 took out again.
const GRE_UNKNOWN: u16 = 0x4007;
/// Transparent Ethernet bridging.
const ETHERNET: u16 = 0x6558;

const UDP_OCTETS: usize = 8;
const VXLAN_OCTETS: usize = 8;
/// The network identifier is valid.
const VXLAN_FLAG_I: u8 = 0x08;

/// What is looked for inside.
pub trait Tunnels {
    /// Whether tunnels are entered.
    fn entered(&self) -> bool;
    /// Whether UDP to this port is VXLAN.
    fn is_vxlan(&self, destination_port: u16) -> bool;
}

/// The link of the packet inside the tunnel packet at `link`; `link` itself if it is none that can be entered.
#[inline(always)]
pub(super) fn enter<P: PacketBytes, T: Tunnels>(
    packet: &P,
    link: Link,
    tunnels: &T,
    has_priority: bool,
) -> Link {
    inside(packet, link, tunnels, has_priority).link
}

/// What is inside a tunnel packet. (No `Option`, of which the compiler would keep what is in none as well, and the verifier
/// refuses that.)
#[derive(Clone, Copy)]
pub(super) struct Inside {
    /// The link of the packet inside; of the tunnel packet if it is none that can be entered. With the tunnel's
    /// encapsulation.
    pub(super) link: Link,
    /// Where the Ethernet frame begins that the packet is in; 0 if it is in none.
    pub(super) frame: usize,
    /// Whether it is one that can be entered.
    pub(super) is_entered: bool,
}

impl Inside {
    #[inline(always)]
    const fn nothing(link: Link) -> Self {
        Self { link, frame: 0, is_entered: false }
    }

    #[inline(always)]
    const fn packet(link: Link, ether_type: u16, offset: usize) -> Self {
        Self { link: Link { ether_type, offset, ..link }, frame: 0, is_entered: true }
    }

    #[inline(always)]
    fn frame<P: PacketBytes>(packet: &P, link: Link, offset: usize, has_priority: bool) -> Self {
        match Link::inner_ethernet(packet, has_priority, offset, link) {
            Ok(link) => Self { link, frame: offset, is_entered: true },
            Err(_) => Self::nothing(link),
        }
    }
}

/// Looks into a tunnel packet.
#[inline(always)]
pub(super) fn inside<P: PacketBytes, T: Tunnels>(
    packet: &P,
    link: Link,
    tunnels: &T,
    has_priority: bool,
) -> Inside {
    let (protocol, offset) = payload(packet, link);
    let inside = match protocol {
        IP_IN_IP => Inside::packet(link, IPV4, offset),
        IPV6_IN_IP => Inside::packet(link, IPV6, offset),
        GRE => gre(packet, link, offset, has_priority),
        UDP => vxlan(packet, link, offset, tunnels, has_priority),
        _ => Inside::nothing(link),
    };
    if inside.is_entered && is_ip(packet, inside.link) {
        return inside;
    }
    let link = Link { encapsulation: inside.link.encapsulation, ..link };
    Inside { link, is_entered: false, ..inside }
}

/// Protocol and offset of what follows the IP header; [`NO_PROTOCOL`] for fragments, and for what is not IP.
///
/// IPv6 extension headers before a tunnel header are not walked: routers put none there.
#[inline(always)]
fn payload<P: PacketBytes>(packet: &P, link: Link) -> (u8, usize) {
    match link.ether_type {
        IPV4 => {
            let Some(header) = packet.read::<20>(link.offset) else { return (NO_PROTOCOL, 0) };
            let octets = ((header[0] & 0x0f) as usize) << 2;
            let is_fragment = u16::from_be_bytes(field(&header, 6)) & 0x3fff != 0;
            if header[0] >> 4 != 4 || octets < 20 || is_fragment {
                return (NO_PROTOCOL, 0);
            }
            (header[9], link.offset + octets)
        }
        IPV6 => {
            let Some(header) = packet.read::<7>(link.offset) else { return (NO_PROTOCOL, 0) };
            if header[0] >> 4 == 6 { (header[6], link.offset + 40) } else { (NO_PROTOCOL, 0) }
        }
        _ => (NO_PROTOCOL, 0),
    }
}

#[inline(always)]
fn gre<P: PacketBytes>(packet: &P, link: Link, offset: usize, has_priority: bool) -> Inside {
    let Some(header) = packet.read::<4>(offset) else { return Inside::nothing(link) };
    let flags = u16::from_be_bytes(field(&header, 0));
    if flags & GRE_UNKNOWN != 0 {
        return Inside::nothing(link);
    }
    let mut offset = offset + 4;
    if flags & GRE_CHECKSUM != 0 {
        offset += 4;
    }
    if flags & GRE_KEY != 0 {
        offset += 4;
    }
    if flags & GRE_SEQUENCE != 0 {
        offset += 4;
    }
    let ether_type = u16::from_be_bytes(field(&header, 2));
    if ether_type == ETHERNET {
        return Inside::frame(packet, link, offset, has_priority);
    }
    Inside::packet(link, ether_type, offset)
}

#[inline(always)]
fn vxlan<P: PacketBytes, T: Tunnels>(
    packet: &P,
    link: Link,
    offset: usize,
    tunnels: &T,
    has_priority: bool,
) -> Inside {
    let Some(udp) = packet.read::<UDP_OCTETS>(offset) else { return Inside::nothing(link) };
    if !tunnels.is_vxlan(u16::from_be_bytes(field(&udp, 2))) {
        return Inside::nothing(link);
    }
    let Some(header) = packet.read::<VXLAN_OCTETS>(offset + UDP_OCTETS) else { return Inside::nothing(link) };
    if header[0] & VXLAN_FLAG_I == 0 {
        return Inside::nothing(link);
    }
    let identifier = u32::from_be_bytes(field(&header, 4)) >> 8;
    let encapsulation = link.encapsulation.with_vxlan_network_identifier(identifier);
    let link = Link { encapsulation, ..link };
    Inside::frame(packet, link, offset + UDP_OCTETS + VXLAN_OCTETS, has_priority)
}

/// Whether an IP header that can be accounted is where `link` says: otherwise the packet stays in its outer
/// flow instead of being lost as malformed.
#[inline(always)]
fn is_ip<P: PacketBytes>(packet: &P, link: Link) -> bool {
    match link.ether_type {
        IPV4 => packet
            .read::<20>(link.offset)
            .is_some_and(|header| ipv4::total_length(packet, link.offset, &header).is_some()),
        IPV6 => packet.read::<40>(link.offset).is_some_and(|header| header[0] >> 4 == 6),
        _ => false,
    }
}

/// No tunnel is entered.
#[derive(Clone, Copy, Debug)]
pub struct OuterOnly;

impl Tunnels for OuterOnly {
    #[inline(always)]
    fn entered(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_vxlan(&self, _: u16) -> bool {
        false
    }
}
