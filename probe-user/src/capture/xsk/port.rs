//! Whether an interface is a mirror port: mirror mode takes every packet away from this host, so an interface
//! on which the host itself depends is refused.
//!
//! Asked of the kernel by rtnetlink, in the network namespace of the caller. What comes later (an address
//! that is added while pathflow runs) is not seen, nor what other namespaces have built upon it.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `RTM_GETNEXTHOP` (`linux/rtnetlink.h`).
const GET_NEXT_HOP: u16 = 106;
/// `NHA_OIF` (`linux/nexthop.h`).
const NEXT_HOP_INTERFACE: u16 = 5;
/// `struct nhmsg`.
const NEXT_HOP_HEADER_OCTETS: usize = 8;
/// `struct nlmsghdr`.
const HEADER_OCTETS: usize = 16;

/// Interfaces that stand for others, so that their packets are not a copy.
const MASTERS: [InfoKind; 9] = [
    InfoKind::Bridge,
    InfoKind::Bond,
    InfoKind::Team,
    InfoKind::Vlan,
    InfoKind::MacVlan,
    InfoKind::MacVtap,
    InfoKind::IpVlan,
    InfoKind::IpVtap,
    InfoKind::Vrf,
];

/// Why an interface is no mirror port.
#[derive(Debug, thiserror::Error)]
pub enum MirrorRefused {
    /// It has an address. Link-local IPv6 addresses do not count: every interface that is up has one.
    #[error("it has the address {address}/{prefix_length}")]
    Address {
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix_length: u8,
    },
    /// It is part of a bridge, a bond, a VRF or the like.
    #[error("it is a port of {master}")]
    Port {
        /// Name of the interface it belongs to.
        master: String,
    },
    /// It is a bridge, a bond, a VLAN or the like itself.
    #[error("it is a {kind} interface")]
    Master {
        /// The kernel's word for it.
        kind: String,
    },
    /// Another interface uses it: a VLAN, a macvlan and so on.
    #[error("{upper} is built upon it")]
    Lower {
        /// Name of the other interface.
        upper: String,
    },
    /// The default route leads out of it.
    #[error("it carries a default route")]
    DefaultRoute,
    /// A route leads out of it. The kernel's own routes for link-local and multicast IPv6 do not count.
    #[error("the route to {destination} leads out of it")]
    Route {
        /// Destination prefix.
        destination: String,
    },
    /// A next hop object (`ip nexthop`) leads out of it.
    #[error("a next hop leads out of it")]
    NextHop,
    /// There is no such interface any more.
    #[error("it does not exist")]
    Missing,
    /// The kernel could not be asked.
    #[error("the kernel does not say what it is used for: {0}")]
    Unknown(#[from] io::Error),
}

/// What is to be known of an interface before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// Maximum transmission unit: octets of the largest packet.
    pub(super) mtu: u32,
    /// RX queues that the kernel has made room for; there may be fewer.
    pub(super) max_queues: u32,
}

/// Checks that nobody but pathflow wants the packets of an interface.
///
/// # Errors
/// [`MirrorRefused`] with the first reason found, also if the kernel cannot be asked.
pub fn check_is_mirror_port(interface_index: u32) -> Result<(), MirrorRefused> {
    check_links(&links()?, interface_index)?;
    dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| match message {
        RouteNetlinkMessage::NewAddress(address) => check_address(&address, interface_index),
        _ => Ok(()),
    })?;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        dump(RouteNetlinkMessage::GetRoute(request), |message| match message {
            RouteNetlinkMessage::NewRoute(route) => check_route(&route, interface_index),
            _ => Ok(()),
        })?;
    }
    check_next_hops(interface_index)
}

/// Asks for the facts of an interface; `None` if there is none.
pub(super) fn describe(interface_index: u32) -> io::Result<Option<Port>> {
    let mut links = links()?;
    let Some(position) = links.iter().position(|link| link.header.index == interface_index) else {
        return Ok(None);
    };
    let mut port = Port { mtu: 0, max_queues: 1 };
    for attribute in links.swap_remove(position).attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => port.mtu = mtu,
            LinkAttribute::NumRxQueues(queues) => port.max_queues = queues.max(1),
            _ => {}
        }
    }
    Ok(Some(port))
}

fn check_links(links: &[LinkMessage], interface_index: u32) -> Result<(), MirrorRefused> {
    let own = links.iter().find(|link| link.header.index == interface_index);
    let own = own.ok_or(MirrorRefused::Missing)?;
    for attribute in &own.attributes {
        if let LinkAttribute::Controller(master @ 1..) = attribute {
            let master = links.iter().find(|link| link.header.index == *master);
            return Err(MirrorRefused::Port {
                master: master.map_or_else(|| "another interface".to_owned(), name),
            });
        }
    }
    if let Some(kind) = kind(own).filter(|kind| MASTERS.contains(kind)) {
        return Err(MirrorRefused::Master { kind: kind.to_string() });
    }
    for link in links {
        // The two ends of a veth pair name each other, but do not use each other's packets. An index of
        // another namespace is another interface's.
        let is_upper = link.attributes.contains(&LinkAttribute::Link(interface_index))
            && !link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)))
            && kind(link) != Some(&InfoKind::Veth);
        if is_upper && link.header.index != interface_index {
            return Err(MirrorRefused::Lower { upper: name(link) });
        }
    }
    Ok(())
}

fn check_address(message: &AddressMessage, interface_index: u32) -> Result<(), MirrorRefused> {
    if message.header.index != interface_index {
        return Ok(());
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    match address {
        None => Ok(()),
        Some(IpAddr::V6(address)) if address.is_unicast_link_local() => Ok(()),
        Some(address) => Err(MirrorRefused::Address { address, prefix_length: message.header.prefix_len }),
    }
}

fn check_route(route: &RouteMessage, interface_index: u32) -> Result<(), MirrorRefused> {
    let leads_out = route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(index) => *index == interface_index,
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == interface_index),
        _ => false,
    });
    if !leads_out {
        return Ok(());
    }
    if route.header.destination_prefix_length == 0 {
        return Err(MirrorRefused::DefaultRoute);
    }
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    match destination {
        Some(IpAddr::V6(address)) if address.is_unicast_link_local() || address.is_multicast() => Ok(()),
        destination => Err(MirrorRefused::Route {
            destination: destination.map_or_else(
                || "an unknown prefix".to_owned(),
                |address| format!("{address}/{}", route.header.destination_prefix_length),
            ),
        }),
    }
}

/// Routes by way of next hop objects need not name an interface themselves (`net.ipv4.nexthop_compat_mode`).
fn check_next_hops(interface_index: u32) -> Result<(), MirrorRefused> {
    let length = HEADER_OCTETS + NEXT_HOP_HEADER_OCTETS;
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(GET_NEXT_HOP.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.resize(length, 0);
    exchange(&request, |message| {
        let attributes = message.get(length..).unwrap_or_default();
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.map_err(io::Error::other)?;
            if attribute.kind() == NEXT_HOP_INTERFACE && attribute.value() == interface_index.to_ne_bytes() {
                return Err(MirrorRefused::NextHop);
            }
        }
        Ok(())
    })
}

fn links() -> io::Result<Vec<LinkMessage>> {
    let mut links = Vec::new();
    let listed = dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            links.push(link);
        }
        Ok(())
    });
    match listed {
        Ok(()) => Ok(links),
        Err(MirrorRefused::Unknown(error)) => Err(error),
        Err(other) => Err(io::Error::other(other)),
    }
}

fn name(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_else(|| format!("interface {}", link.header.index))
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    })
}

fn dump(
    request: RouteNetlinkMessage,
    mut each: impl FnMut(RouteNetlinkMessage) -> Result<(), MirrorRefused>,
) -> Result<(), MirrorRefused> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    exchange(&buffer, |octets| {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(octets).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::InnerMessage(message) => each(message),
            _ => Ok(()),
        }
    })
}

/// Sends a request for a dump and calls `each` with every message of the answer, header included. The whole
/// answer is read, and the first error returned.
fn exchange(
    request: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), MirrorRefused>,
) -> Result<(), MirrorRefused> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(request, 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((&[l0, l1, l2, l3, t0, t1], _)) = rest.split_first_chunk::<6>() {
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let message = rest.get(..length).filter(|_| length >= HEADER_OCTETS);
            let message = message.ok_or_else(|| io::Error::other("a netlink message is cut off"))?;
            match u16::from_ne_bytes([t0, t1]) {
                DONE => return Ok(()),
                ERROR => return error(message),
                _ => each(message)?,
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// `struct nlmsgerr` begins with the error number, negative.
fn error(message: &[u8]) -> Result<(), MirrorRefused> {
    let code = message.get(HEADER_OCTETS..).and_then(<[u8]>::first_chunk).copied();
    match code.map_or(0, i32::from_ne_bytes) {
        // A kernel without this kind of object has none.
        0 => Ok(()),
        code if code == -libc::EOPNOTSUPP => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code).into()),
    }
}
