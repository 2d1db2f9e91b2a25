//! The route of a packet, asked of the kernel by rtnetlink: what `ip route get` says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NlasIterator};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::question::Questions;

/// Octets of `struct rtmsg`, which attributes follow.
const ROUTE_HEADER: usize = 12;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A packet that came in, as far as routing looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoutedPacket {
    /// Kernel's index of the interface it came in by.
    pub ingress_interface: u32,
    /// Source address; of the family of `destination`.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number of the layer above IP.
    pub protocol: u8,
    /// Ports of TCP and UDP: routes with several next hops may be chosen by them.
    pub source_port: u16,
    /// As `source_port`.
    pub destination_port: u16,
}

/// Where the kernel sends packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelRoute {
    /// Whether packets end in this host.
    pub is_local: bool,
    /// Kernel's index of the interface by which they leave; `None` if they do not.
    pub egress_interface: Option<u32>,
    /// The next router, which may be of the other family (RFC 8950); `None` if the destination is on the link.
    pub next_hop: Option<IpAddr>,
    /// Length of the route's prefix in bits: of the destination itself where the kernel says the way of one
    /// packet.
    pub prefix_length: u8,
}

impl NetlinkDeserializable for KernelRoute {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let header = RouteHeader::parse(payload)?;
        let kind = u8::from(header.kind);
        let mut route = Self {
            is_local: kind == libc::RTN_LOCAL,
            prefix_length: header.destination_prefix_length,
            ..Self::default()
        };
        for attribute in NlasIterator::new(payload.get(ROUTE_HEADER..).unwrap_or_default()) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                libc::RTA_OIF if kind == libc::RTN_UNICAST => {
                    route.egress_interface = value.try_into().ok().map(u32::from_ne_bytes);
                }
                libc::RTA_GATEWAY => route.next_hop = address(value),
                // A family comes before the address.
                libc::RTA_VIA => route.next_hop = value.get(2..).and_then(address),
                _ => {}
            }
        }
        Ok(route)
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let ipv4 = || <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into());
    let ipv6 = || <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into());
    ipv4().or_else(ipv6)
}

/// A socket to ask for routes.
#[derive(Debug)]
pub struct RouteQuery {
    questions: Questions,
}

impl RouteQuery {
    /// A socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If there is no socket to be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self { questions: Questions::new()? })
    }

    /// Which way the kernel sends this packet: interface and next router are those of this very packet.
    ///
    /// # Errors
    /// If the packet has no route, or would be refused; or the kernel cannot be asked.
    pub fn way(&mut self, packet: &RoutedPacket) -> io::Result<KernelRoute> {
        let mut message = request(packet.destination);
        message.header.source_prefix_length = message.header.destination_prefix_length;
        message.attributes.push(RouteAttribute::Source(packet.source.into()));
        message.attributes.push(RouteAttribute::Iif(packet.ingress_interface));
        if matches!(packet.protocol, TCP | UDP) {
            message.attributes.push(RouteAttribute::IpProto(packet.protocol));
            message.attributes.push(RouteAttribute::Sport(packet.source_port));
            message.attributes.push(RouteAttribute::Dport(packet.destination_port));
        }
        self.questions.ask(RouteNetlinkMessage::GetRoute(message))
    }

    /// The route to `address` as it stands in the routing table, of packets that this host makes.
    ///
    /// # Errors
    /// If there is no route, or the kernel cannot be asked.
    pub fn route(&mut self, address: IpAddr) -> io::Result<KernelRoute> {
        let mut message = request(address);
        message.header.flags = RouteFlags::FibMatch;
        self.questions.ask(RouteNetlinkMessage::GetRoute(message))
    }
}

fn request(destination: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_host_and_the_next_question_is_answered_after_an_error() {
        let mut query = RouteQuery::new().unwrap();
        let route = query.route("127.0.0.1".parse().unwrap()).unwrap();
        assert!(route.is_local);
        assert_eq!((route.egress_interface, route.next_hop), (None, None));
        // Packets that came from outside do not go there.
        let packet = RoutedPacket {
            ingress_interface: u32::MAX >> 1,
            source: "192.0.2.1".parse().unwrap(),
            destination: "127.0.0.1".parse().unwrap(),
            protocol: UDP,
            source_port: 1,
            destination_port: 2,
        };
        assert!(query.way(&packet).is_err());
        assert!(query.route("127.0.0.2".parse().unwrap()).unwrap().is_local);
    }
}
