//! Link messages of rtnetlink: asking for links, and reading what the kernel says of them.
//!
//! Only the attributes that are used are decoded. A link of a kind that nobody here knows, with attributes
//! that a library would have to guess at, is no reason to lose sight of all others.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlaBuffer, NlasIterator,
};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkHeader, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::inventory::{AttachedXdp, Interface, XdpMode};
use super::mac::MacAddress;

/// Octets of `struct ifinfomsg`, which attributes follow.
pub(super) const LINK_HEADER: usize = 16;
/// Octets of `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// How often a list is asked for again that changed while it was being made.
const ATTEMPTS: u32 = 5;

/// What a message says of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkEvent {
    /// It is there, with these properties.
    Present(Interface),
    /// It is gone from this network namespace.
    Gone(u32),
    /// Nothing that concerns links as such.
    Other,
}

impl NetlinkDeserializable for LinkEvent {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if !matches!(header.message_type, libc::RTM_NEWLINK | libc::RTM_DELLINK) {
            return Ok(Self::Other);
        }
        let link = LinkHeader::parse(payload)?;
        // Bridges tell of their ports with messages of their own: "gone" there means gone from the bridge.
        if link.interface_family != AddressFamily::Unspec {
            return Ok(Self::Other);
        }
        if header.message_type == libc::RTM_DELLINK {
            return Ok(Self::Gone(link.index));
        }
        interface(&link, payload.get(LINK_HEADER..).unwrap_or_default())
    }
}

fn interface(link: &LinkHeader, attributes: &[u8]) -> Result<LinkEvent, DecodeError> {
    let mut interface = Interface {
        index: link.index,
        link_layer_type: u16::from(link.link_layer_type),
        flags: link.flags.bits(),
        ..Interface::default()
    };
    let mut address = Vec::new();
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => interface.name = text(value),
            libc::IFLA_IFALIAS => interface.description = text(value),
            libc::IFLA_MTU => interface.mtu = number(value).unwrap_or(0),
            libc::IFLA_ADDRESS => address = value.to_vec(),
            libc::IFLA_MASTER => interface.master = number(value),
            libc::IFLA_LINK => interface.link = number(value).filter(|index| *index != 0),
            libc::IFLA_LINK_NETNSID => interface.link_is_elsewhere = true,
            libc::IFLA_NUM_RX_QUEUES => interface.receive_queues = number(value).unwrap_or(0),
            libc::IFLA_NUM_TX_QUEUES => interface.transmit_queues = number(value).unwrap_or(0),
            libc::IFLA_PARENT_DEV_NAME => interface.parent_device = Some(text(value)),
            libc::IFLA_LINKINFO => {
                interface.kind = nested(value)
                    .find(|inner| inner.kind() == libc::IFLA_INFO_KIND)
                    .map(|kind| text(kind.value()));
                interface.vlan_id = vlan_id(value).filter(|_| interface.kind.as_deref() == Some("vlan"));
            }
            libc::IFLA_PROP_LIST => {
                let names = nested(value).filter(|inner| inner.kind() == libc::IFLA_ALT_IFNAME);
                interface.alternative_names = names.map(|name| text(name.value())).collect();
            }
            libc::IFLA_XDP => interface.xdp = attached_xdp(value),
            // Such a message tells of wireless events and has hardly any other attribute.
            libc::IFLA_WIRELESS => return Ok(LinkEvent::Other),
            _ => {}
        }
    }
    if interface.link_layer_type == libc::ARPHRD_ETHER {
        interface.mac_address = address.try_into().ok().map(MacAddress);
    }
    Ok(if interface.name.is_empty() { LinkEvent::Other } else { LinkEvent::Present(interface) })
}

fn attached_xdp(attribute: &[u8]) -> Vec<AttachedXdp> {
    let programs = nested(attribute).filter_map(|inner| {
        let mode = match inner.kind() {
            IFLA_XDP_DRV_PROG_ID => XdpMode::Native,
            IFLA_XDP_SKB_PROG_ID => XdpMode::Generic,
            IFLA_XDP_HW_PROG_ID => XdpMode::Offloaded,
            _ => return None,
        };
        Some(AttachedXdp { mode, program: number(inner.value())? })
    });
    programs.collect()
}

fn vlan_id(link_info: &[u8]) -> Option<u16> {
    let data = nested(link_info).find(|inner| inner.kind() == libc::IFLA_INFO_DATA)?;
    let id = nested(data.value()).find(|inner| inner.kind() == IFLA_VLAN_ID)?;
    id.value().try_into().ok().map(u16::from_ne_bytes)
}

// `linux/if_link.h`; libc does not have them.
const IFLA_VLAN_ID: u16 = 1;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;

/// The attributes inside another one, as far as they can be read.
fn nested(value: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(value).map_while(Result::ok)
}

/// A string of the kernel, which ends at its first NUL.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|octet| *octet == 0).next().unwrap_or_default()).into_owned()
}

/// A 32-bit number in the host's byte order.
fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// Messages of one datagram.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<LinkEvent>>> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<LinkEvent>::deserialize(rest).map_err(io::Error::other);
        let length = message.as_ref().map_or(rest.len(), |message| message.header.length as usize);
        rest = rest.get(length.max(MESSAGE_HEADER).next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// A socket to ask for links. Made once, it needs no privilege later.
#[derive(Debug)]
pub(super) struct LinkQuery {
    socket: Socket,
    sequence: u32,
}

impl LinkQuery {
    /// A socket in the network namespace of the calling thread.
    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All links, by index.
    pub(super) fn all(&mut self) -> io::Result<Vec<Interface>> {
        let mut links = Vec::new();
        for _ in 0..ATTEMPTS {
            let (found, is_whole) = self.ask(0, NLM_F_DUMP)?;
            links = found;
            if is_whole {
                break;
            }
        }
        links.sort_by_key(|link| link.index);
        links.dedup_by_key(|link| link.index);
        Ok(links)
    }

    /// One link.
    pub(super) fn one(&mut self, index: u32) -> io::Result<Interface> {
        let (links, _) = self.ask(index, 0)?;
        links.into_iter().next().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Links, and whether nothing changed while they were listed.
    fn ask(&mut self, index: u32, flags: u16) -> io::Result<(Vec<Interface>, bool)> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(index, flags)?;
        let (mut links, mut is_whole) = (Vec::new(), true);
        loop {
            let datagram = receive(&self.socket)?;
            for message in messages(&datagram) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    // The rest of an answer that was given up.
                    continue;
                }
                is_whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(_) => return Ok((links, is_whole)),
                    NetlinkPayload::InnerMessage(LinkEvent::Present(link)) => links.push(link),
                    _ => {}
                }
                if flags & NLM_F_DUMP == 0 {
                    return Ok((links, is_whole));
                }
            }
        }
    }

    fn send(&self, index: u32, flags: u16) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        // Counters are most of an answer, and not wanted.
        link.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, RouteNetlinkMessage::GetLink(link).into());
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        self.socket.send(&buffer, 0).map(|_| ())
    }
}

/// Reads one datagram, whatever signals arrive meanwhile.
pub(super) fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    loop {
        match socket.recv_from_full() {
            Ok((datagram, _)) => return Ok(datagram),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute, padded (`struct rtattr`).
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut octets = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn link_message(message_type: u16, family: u8, index: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = vec![family, 0];
        payload.extend(libc::ARPHRD_ETHER.to_ne_bytes());
        payload.extend(index.to_ne_bytes());
        payload.extend([0; 8]);
        payload.extend(attributes.concat());
        let mut octets = ((payload.len() + MESSAGE_HEADER) as u32).to_ne_bytes().to_vec();
        octets.extend(message_type.to_ne_bytes());
        octets.extend([0; 10]);
        octets.extend(payload);
        octets
    }

    fn events(datagram: &[u8]) -> Vec<LinkEvent> {
        messages(datagram)
            .map(|message| match message.unwrap().payload {
                NetlinkPayload::InnerMessage(event) => event,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn several_messages_of_one_datagram() {
        let name = attribute(libc::IFLA_IFNAME, b"eth0\0");
        let alias = attribute(libc::IFLA_IFALIAS, "uplink \u{fc}\0".as_bytes());
        let mac = attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]);
        let mut datagram = link_message(libc::RTM_NEWLINK, 0, 7, &[name, alias, mac]);
        datagram.extend(link_message(libc::RTM_DELLINK, 0, 8, &[]));
        let expected = Interface {
            index: 7,
            name: "eth0".to_owned(),
            description: "uplink \u{fc}".to_owned(),
            link_layer_type: libc::ARPHRD_ETHER,
            mac_address: Some(MacAddress([2, 0, 0, 0, 0, 1])),
            ..Interface::default()
        };
        assert_eq!(events(&datagram), [LinkEvent::Present(expected), LinkEvent::Gone(8)]);
    }

    #[test]
    fn the_interface_of_a_vlan_has_its_identifier() {
        // As `ip link add link eth0 name eth0.42 type vlan id 42` makes it (`linux/if_link.h`).
        let link = |kind: &[u8]| {
            let data = [attribute(5, &[0x81, 0]), attribute(1, &42_u16.to_ne_bytes())].concat();
            let information = [attribute(libc::IFLA_INFO_KIND, kind), attribute(libc::IFLA_INFO_DATA, &data)];
            let name = attribute(libc::IFLA_IFNAME, b"eth0.42\0");
            let information = attribute(libc::IFLA_LINKINFO, &information.concat());
            let events = events(&link_message(libc::RTM_NEWLINK, 0, 9, &[name, information]));
            let [LinkEvent::Present(interface)] = &events[..] else { panic!("{events:?}") };
            (interface.kind.clone(), interface.vlan_id)
        };
        assert_eq!(link(b"vlan\0"), (Some("vlan".to_owned()), Some(42)));
        // What others have under this number is something else.
        assert_eq!(link(b"macvlan\0"), (Some("macvlan".to_owned()), None));
    }

    #[test]
    fn what_a_bridge_says_of_its_ports_and_wireless_events_are_not_links_that_come_or_go() {
        let name = attribute(libc::IFLA_IFNAME, b"eth0\0");
        let bridge = libc::AF_BRIDGE as u8;
        for message in [
            link_message(libc::RTM_DELLINK, bridge, 7, &[]),
            link_message(libc::RTM_NEWLINK, bridge, 7, std::slice::from_ref(&name)),
            link_message(libc::RTM_NEWLINK, 0, 7, &[name, attribute(libc::IFLA_WIRELESS, &[0; 8])]),
            link_message(libc::RTM_NEWLINK, 0, 7, &[]),
            link_message(24, 0, 7, &[]),
        ] {
            assert_eq!(events(&message), [LinkEvent::Other]);
        }
    }

    #[test]
    fn damaged_messages_are_errors_or_nothing() {
        let name = attribute(libc::IFLA_IFNAME, b"eth0\0");
        let message = link_message(libc::RTM_NEWLINK, 0, 7, &[name, attribute(libc::IFLA_XDP, &[9; 9])]);
        for length in 0..message.len() {
            for found in messages(&message[..length]) {
                assert!(found.is_err(), "{length}: {found:?}");
            }
        }
        let mut damaged = message.clone();
        for position in 0..message.len() {
            for value in [0, 1, 0x7f, 0xff] {
                damaged[position] = value;
                assert!(messages(&damaged).count() <= damaged.len() / 4);
            }
            damaged[position] = message[position];
        }
    }
}
