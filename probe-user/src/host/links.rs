//! Interfaces as `ip -details link` shows them, asked of the kernel by rtnetlink.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Kernel's interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind of a virtual interface, such as `veth` or `vlan`.
    pub kind: Option<String>,
    /// Bus and device of an interface that has hardware, or something like it, behind it.
    pub device: Option<(String, String)>,
    /// Whether frames have an Ethernet header.
    pub is_ethernet: bool,
    /// Whether it is set up.
    pub is_up: bool,
    /// Largest IP packet.
    pub mtu: u32,
    /// Receive queues that the kernel has allocated.
    pub receive_queues: u32,
    /// Index of the interface that a VLAN interface and its like send through.
    pub lower: Option<u32>,
    /// Index of the bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// The XDP program that is attached.
    pub xdp: Option<AttachedXdp>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// The kernel's number for the program.
    pub id: u32,
    /// How it is attached.
    pub mode: XdpAttachMode,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAttachMode {
    /// In the driver.
    Native,
    /// In the network stack, behind the driver.
    Generic,
    /// In the hardware, in several places, or where this version does not know.
    Other,
}

/// Lists the interfaces of this network namespace.
///
/// # Errors
/// If the kernel cannot be asked or its answer is not understood.
pub fn links() -> io::Result<Vec<Link>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    let mut request =
        NetlinkMessage::new(header, RouteNetlinkMessage::GetLink(LinkMessage::default()).into());
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0)?;

    let mut links = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(links),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                    links.push(link(message));
                }
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn link(message: LinkMessage) -> Link {
    let header = message.header;
    let mut link = Link {
        index: header.index,
        is_ethernet: matches!(header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        is_up: header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    let (mut bus, mut device, mut is_lower_elsewhere) = (None, None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::NumRxQueues(count) => link.receive_queues = count,
            LinkAttribute::Link(index) => link.lower = Some(index),
            LinkAttribute::LinkNetNsId(_) => is_lower_elsewhere = true,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::ParentDevBusName(name) => bus = Some(name),
            LinkAttribute::ParentDevName(name) => device = Some(name),
            LinkAttribute::Xdp(attributes) => link.xdp = attached_xdp(&attributes),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if is_lower_elsewhere {
        link.lower = None;
    }
    link.device = bus.zip(device);
    link
}

fn attached_xdp(attributes: &[LinkXdp]) -> Option<AttachedXdp> {
    let id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
        _ => None,
    })?;
    let mode = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::Driver) => Some(XdpAttachMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpAttachMode::Generic),
        _ => None,
    });
    Some(AttachedXdp { id, mode: mode.unwrap_or(XdpAttachMode::Other) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed() {
        let links = links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!((loopback.index, loopback.kind.as_deref(), loopback.xdp), (1, None, None));
        assert!(loopback.is_ethernet && loopback.mtu > 0 && loopback.receive_queues > 0);
    }
}
